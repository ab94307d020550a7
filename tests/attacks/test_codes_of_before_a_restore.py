"""Whoever finds a used code, in a bin, shows it to a server that does not know that it was used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.errors import Code, Refused
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Grant
from sync_agent.sync.session import Session
from sync_server.handlers.by_kit.territory import begin_territory, kit_in
from sync_server.opened.app import Server, opened
from tests.harness.attack import attack
from tests.harness.backups import make_backup, restore_backup
from tests.harness.kept_town import town_at_work
from tests.harness.server_in_process import Office
from tests.harness.wire import Frontage, MemoryTransport

ROW = "a used code is shown to a server that was made anew"


async def _any_code(_server: Server, _invite: Entry) -> None:
    return None


ANY_CODE = {"sync_server.handlers.store.codes_of_before.check_not_of_before": _any_code}


async def _is_refused(office: Office, code: str, with_code: Code = Code.CODE_WRONG) -> None:
    with pytest.raises(Refused) as refused:
        await office.enrol(code)
    assert refused.value.code is with_code


@attack(ROW, off=ANY_CODE)
async def test_a_code_that_was_used_after_the_backup_lets_nobody_in_before_all_have_told(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, _):
        clock = here.office.clock
        substitute = await here.office.add_person("M. Roy", "teacher")
        paper = await here.office.invite("teacher", person=substitute, ttl="30d")
        unused = await here.office.invite("machine", ttl="30d")
        for _ in range(2):
            await here.sync()
        await make_backup(here.office.server, tmp_path / "backup")
        clock.advance(DAY_MS)
        await here.office.enrol(paper)
        for _ in range(2):
            await here.sync()
        clock.advance(DAY_MS)
        await restore_backup(tmp_path / "new", tmp_path / "backup", tmp_path / "server" / "kit", clock)
        async with opened(tmp_path / "new", now_ms=clock, entropy=os.urandom) as new:
            office, frontage = Office(new, clock, here.office.space), Frontage(new.responder)
            await _is_refused(office, paper)
            await office.enrol(await office.invite("machine"))  # a new one lets in
            for device in here.devices * 2:
                await Session(device.agent, MemoryTransport(frontage)).sync()
            await _is_refused(office, paper, Code.CODE_USED)
            await _is_refused(office, unused)
            for key in await _untold(office):
                await office.do("revoke", device=key)
            assert await office.enrol(unused), "once all have told, an older code is as good as ever"


async def _untold(office: Office) -> list[str]:
    restored = (await office.do("status"))["restored"]
    return [] if restored is None else [row["device"] for row in restored["machines"]]


@attack(ROW, off=ANY_CODE)
async def test_nor_on_a_server_made_of_its_kit_whose_first_caller_leaves_out_that_it_was_used(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, _):
        clock, server = here.office.clock, here.office.server
        substitute = await here.office.add_person("M. Roy", "teacher")
        paper = await here.office.invite("teacher", person=substitute, ttl="30d")
        await here.office.enrol(paper)
        theirs = [
            each.entry
            for space in server.replica.door.spaces()
            for each in await server.store.scan(space)
            if each.entry.header.kind != Kind.GRANT
            or Grant.parse(each.entry.payload or b"").person != bytes.fromhex(substitute)
        ]
        clock.advance(DAY_MS)
        (tmp_path / "anew").mkdir()
        kit = kit_in(tmp_path / "server" / "kit", None)
        await begin_territory(
            tmp_path / "anew", kit, kit_file=None, passphrase=None, now_ms=clock, entropy=os.urandom, again=True
        )
        async with opened(tmp_path / "anew", now_ms=clock, entropy=os.urandom) as new:
            await new.replica.admit(theirs, source=b"a thief's PC", now_ms=clock(), bounded=False)
            await _is_refused(Office(new, clock, here.office.space), paper)
