"""A server in wrong hands gives a machine the headers of works, and no more: they wait there, for what never comes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from protocol.clock import DAY_MS
from protocol.model.entry import Entry, Kind
from protocol.model.structure import PersonRecord
from protocol.roles import PersonRole
from sync_agent.sync.reconciling import _Dialogue
from tests.harness.attack import attack
from tests.harness.classroom import WORK, Classroom, Device, assignment, brought, classroom
from tests.harness.territory import Territory

ROW = "freeze, withholding"
_begin = _Dialogue.__init__


def _all_that_waits(dialogue: _Dialogue, *given: object) -> None:
    """As if what waits in quarantine were never asked for."""
    _begin(dialogue, *given)  # type: ignore[arg-type]
    dialogue._whole = set(dialogue._seen)


async def _only_headers(room: Classroom, copy: Territory, teacher: Device, said: list[Entry]) -> None:
    """A copy of the server answers her once, and has gone on by itself: her cursors fit nowhere else."""
    room.frontage.responder = copy.responder()
    bare = [replace(one, salt=None, payload=None) for one in said]
    await teacher.agent.replica.admit(bare, source=room.territory.keys.signing.public, now_ms=copy.clock())
    for number in range(len(bare) + 1):
        record = PersonRecord(f"Zoé {number}", PersonRole.PUPIL).encode()
        await copy.say(room.space, Kind.PERSON, record, subject=bytes([number]) * 16)
    await teacher.session.sync()
    await copy.close()


@attack(ROW, off={"sync_agent.sync.reconciling._Dialogue.__init__": _all_that_waits})
async def test_work_of_which_a_false_server_gave_the_header_alone_comes_from_the_next_one(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        teacher, machine = await room.teacher(), await room.machine()
        task = await assignment(room, teacher, machine)
        await brought(teacher, machine)
        keys, clock = room.territory.keys, room.territory.clock
        await room.territory.close()
        shutil.copytree(tmp_path / "server", tmp_path / "copy")
        room.territory = await Territory.open(tmp_path / "server", keys, clock=clock)
        room.frontage.responder = room.territory.responder()
        known = {one.id for one in await room.territory.replica.store.scan_kinds(list(Kind))}
        work = await room.hand_in(machine, task, WORK)
        await machine.session.sync()
        said = [one for one in await room.territory.replica.store.scan_kinds(list(Kind)) if one.id not in known]
        await _only_headers(room, await Territory.open(tmp_path / "copy", keys, clock=clock), teacher, said)
        room.frontage.responder = room.territory.responder()
        for _ in range(3):
            clock.advance(DAY_MS)
            await teacher.session.sync()
        assert work in (await teacher.agent.replica.view(room.space)).coursework.hand_ins
        assert not await teacher.agent.replica.store.held()
