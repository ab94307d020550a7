"""A PC that took new keys, and wraps what it made before for a substitute (docs/protocol.md, "Coursework")."""

from __future__ import annotations

from pathlib import Path
from random import Random

from protocol.folds import seals
from protocol.folds.hand_in_keys import content_key_of
from protocol.messages.lives import Twin
from protocol.model.entry import Entry
from protocol.roles import PersonRole, Role
from sync_agent.keys.binding import Part
from sync_agent.keys.key_wraps import reading_keys
from sync_agent.keys.succession import TELLINGS, Place, bind
from sync_agent.sync.session import Session
from tests.harness.attack import attack
from tests.harness.classroom import WORK, Classroom, Device, assignment, classroom, work_of
from tests.harness.crowding_wraps import EARLY, crowd_with_wraps
from tests.harness.wire import MemoryTransport

ROW = "a machine gives a teacher a false key to another's work"
A_PC = {part: frozenset({f"{part} of this PC"}) for part in Part}


async def _with_new_keys(room: Classroom, machine: Device) -> Device:
    """The PC, once the server has told it of a twin so often that it has made keys of its own."""
    room.devices.remove(machine)
    await machine.agent.close()
    folder, entropy, clock = machine.agent.folder, Random(9).randbytes, room.territory.clock
    bind(folder, A_PC, entropy)
    place = Place(A_PC)
    agent = await place.open(folder, clock, entropy)
    for _ in range(TELLINGS):
        agent.on_twin(Twin.LATER)
    await agent.close()
    agent = await place.open(folder, clock, entropy)
    assert agent.device != machine.agent.device
    pc = Device(agent, Session(agent, MemoryTransport(room.frontage)), MemoryTransport(room.frontage))
    room.devices.append(pc)
    return pc


def _by_their_author_alone(sealers: seals.Sealers, entry: Entry, author: bytes) -> seals.Place:
    by = entry.header.author
    if by == author:
        return seals.Place.AUTHOR
    return seals.Place.BELIEVED if entry.header.grant is None or by in sealers.now.believed else seals.Place.OTHERS


@attack(ROW, off={"protocol.folds.seals.Sealers.place": _by_their_author_alone})
async def test_what_a_pc_with_new_keys_wraps_of_earlier_work_is_crowded_out_by_nobody(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        teacher, machine = await room.teacher(), await room.machine()
        work = await room.hand_in(machine, await assignment(room, teacher, machine), WORK)
        await machine.session.sync()
        pc = await _with_new_keys(room, machine)
        await pc.session.sync()
        person = await room.territory.person("M. Durand", PersonRole.TEACHER, room.space)
        substitute = await room.device(Role.TEACHER, person=person)
        await substitute.session.sync()
        key = substitute.agent.reading_keys.newest_of(room.space)
        assert key is not None
        pcs = await crowd_with_wraps(room, work, [key.public], before=EARLY)
        for _ in range(3):
            await pc.session.sync()
            await substitute.session.sync()
        found = await work_of(substitute, room, work)
        assert pcs.intersection(found.wrapped_by[key.public])
        assert content_key_of(found, reading_keys(substitute.agent)) is not None
