"""A server in wrong hands keeps back a word, and shows the set that has it, so that nobody compares it later."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from protocol.messages.calls import SyncAnswer
from protocol.model.entry import Kind
from protocol.model.structure import PersonRecord
from protocol.replica.at_work.replica import Draft
from protocol.roles import PersonRole
from sync_agent.coursework.known_as_of import agreed_ms
from sync_agent.sync.cursors import read_cursors
from sync_agent.sync.run import Run
from sync_agent.sync.session import Session
from tests.harness.attack import attack
from tests.harness.copied_keys import answered_by_a_copy
from tests.harness.office_devices import town


async def _whatever_was_compared(session: Session, run: Run, answer: SyncAnswer, left: Iterable[bytes]) -> None:
    doubtful = {*answer.stale, *answer.closed, *run.doubts, *left}
    run.proven = {space for space in await read_cursors(session._store) if space not in doubtful}


@attack("freeze, withholding", off={"sync_agent.sync.session.Session._note_proven": _whatever_was_compared})
async def test_where_a_set_was_compared_and_stays_another_no_agreement_is_dated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with town(tmp_path) as here:
        clock, honest = here.office.clock, here.office.server
        _, machine, *_ = await here.class_in_step()
        agreed = await agreed_ms(machine.agent, here.space)
        clock.advance(60_000)
        async with answered_by_a_copy(here, tmp_path) as false:
            for replica, name in ((honest.replica, "Zoé"), (false.replica, "Léo")):
                record = PersonRecord(name, PersonRole.PUPIL).encode()
                draft = Draft(here.space, Kind.PERSON, honest.grant, record, subject=bytes(12) + name.encode())
                await replica.write([draft], author=honest.keys.signing, now_ms=clock(), entropy=bytes)
            shown = await honest.replica.fingerprint(here.space)
            with monkeypatch.context() as lying:
                for module in ("news", "serving"):
                    lying.setattr(f"protocol.replica.answering.{module}.fingerprint_of", lambda _records: shown)
                await machine.session.sync()
        assert await agreed_ms(machine.agent, here.space) == agreed, "« vérifié à » stays where it stood"
        clock.advance(60_000)
        for _ in range(2):
            await machine.session.sync()
        assert await agreed_ms(machine.agent, here.space) == clock()
