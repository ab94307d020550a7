"""A class with very many lessons, and a machine that comes new to it."""

from __future__ import annotations

from pathlib import Path
from random import Random

from protocol.limits import SALT_BYTES
from protocol.model.entry import Entry, Kind, compose
from protocol.replica.answering.outgoing import Outgoing
from tests.harness.classroom import SMALL, Classroom, Device, classroom
from tests.harness.work import assert_grows_as_its_entries, counted_work

LESSONS = 150


async def lessons_like(room: Classroom, teacher: Device, first: Entry, random: Random) -> None:
    """Lessons more, each of the same files."""
    header = first.header
    said = [
        compose(
            author=teacher.agent.keys.signing,
            space=room.space,
            kind=Kind.REVISION,
            grant=header.grant,
            at=header.at + 1 + place,
            payload=first.payload or b"",
            salt=random.randbytes(SALT_BYTES),
        )
        for place in range(LESSONS)
    ]
    await room.territory.replica.admit(said, source=teacher.agent.device, now_ms=room.territory.clock())


async def work_of_bringing_all(room: Classroom, device: Device) -> int:
    """What it costs the server to gather the content of all that there is for a machine that has nothing."""
    replica = room.territory.replica
    entries = [stored.entry for stored in await replica.store.scan(room.space)]
    readable = await replica.readable(device.agent.device)
    await replica.view(room.space)
    with counted_work() as work:
        outgoing = Outgoing(replica, room.territory.holdings, readable, device.agent.device)
        await outgoing.add_news(room.space, entries, complete=True)
    return work.lines


async def test_to_gather_what_a_newcomer_lacks_costs_as_much_more_as_there_are_lessons(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        teacher, machine = await room.teacher(), await room.machine()
        await room.publish(teacher, SMALL)
        await teacher.session.sync()
        await machine.session.sync()
        replica = room.territory.replica
        assert await replica.content.deltas(room.space), "of which each lesson may be made"
        (first,) = [s.entry for s in await replica.store.scan(room.space) if s.entry.header.kind == Kind.REVISION]
        work = [await work_of_bringing_all(room, machine)]
        random = Random(1)
        for _ in range(2):
            await lessons_like(room, teacher, first, random)
            work.append(await work_of_bringing_all(room, machine))
    assert_grows_as_its_entries(*work)
