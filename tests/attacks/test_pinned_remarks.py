"""A PC of the class would have a remark about a pupil outlive her: it hands the remark in (docs/threat-model.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest_asyncio

from protocol.entry import Entry, Kind
from protocol.pack import PackWriter
from protocol.replica.eraser import Eraser, _Named
from protocol.replica.packs import PackFolder
from protocol.replica.replica import Draft, Replica
from protocol.structure import Erasure
from protocol.work import ContentRef, HandIn
from sync_agent.handing_in import give_feedback
from tests.harness.attack import attack
from tests.harness.classroom import WORK, Classroom, Device, Given, assignment, classroom, read
from tests.harness.passing_days import pass_days

ROW = "a PC hands in what is to be forgotten"
REMARK = Random(3).randbytes(200_000)


@dataclass
class Here:
    """A class in which a teacher has written a remark about Léa; a PC of it is in a thief's hands, another is off."""

    room: Classroom
    teacher: Device
    evil: Device
    late: Device
    task: bytes
    remark: bytes
    """The stream of her words."""

    @property
    def reached(self) -> dict[str, Replica]:
        """Who hears of the erasure."""
        replicas = {"teacher": self.teacher.agent.replica, "the thief's PC": self.evil.agent.replica}
        return {"server": self.room.territory.replica, **replicas}

    async def sync(self, *devices: Device) -> None:
        for _ in range(2):
            for device in devices:
                await device.session.sync()

    async def hand_in(self, stream: bytes) -> None:
        """The thief says that this is what Tom has handed in."""
        right = await self.evil.agent.right(self.room.space, Kind.HAND_IN)
        said = HandIn(ContentRef(stream, len(REMARK), 0), None).encode()
        tom = b"t" * 16
        await self.evil.agent.write(
            Draft(self.room.space, Kind.HAND_IN, right.grant, said, subject=tom, target=self.task)
        )
        await self.sync(self.evil, self.teacher)

    async def forget_lea(self) -> None:
        """As the kit orders it, until the week is over."""
        territory = self.room.territory
        await territory.replica.write(
            [Draft(territory.id, Kind.ERASE, None, Erasure(self.room.pupil_person).encode())],
            author=territory.keys.root,
            now_ms=territory.clock(),
            entropy=territory.entropy,
            unsent=False,
        )
        await self.sync(self.evil, self.teacher)
        await pass_days(territory, 9, self.teacher, self.evil)

    async def kept(self) -> list[str]:
        """Who has the remark still, of those who have heard."""
        return [name for name, one in self.reached.items() if await one.content.known_streams([self.remark])]


@pytest_asyncio.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with classroom(tmp_path) as room:
        teacher, evil, late = await room.teacher(), await room.machine(), await room.machine()
        task = await assignment(room, teacher, evil)
        work = await room.hand_in(evil, task, WORK)
        for device in (evil, teacher):
            await device.session.sync()
        await give_feedback(teacher.agent, work, "vu", None, redo=False, incoming=Given({"remarques.txt": REMARK}))
        made = Here(room, teacher, evil, late, task, b"")
        await made.sync(teacher, evil, late)
        feedback = (await teacher.agent.replica.view(room.space)).coursework.hand_ins[work].feedback
        assert feedback is not None
        assert feedback.record.content is not None
        (file, *_) = await teacher.agent.holdings.manifest(feedback.record.content.stream)
        made.remark = file.stream
        assert await read(late.agent.replica, made.remark) == REMARK
        yield made


named = Eraser._named


async def named_alike(eraser: Eraser, entries: Iterable[Entry]) -> _Named:
    """Without a difference between what is sealed and what is not."""
    found = await named(eraser, entries)
    return _Named(found.streams, found.streams)


@attack(ROW, off={"protocol.replica.eraser.Eraser._named": named_alike})
async def test_a_hand_in_that_names_a_remark_keeps_it_nowhere(here: Here) -> None:
    await here.hand_in(here.remark)
    await here.forget_lea()
    assert await here.kept() == []


async def nothing_shared(_packs: PackFolder, _streams: Collection[bytes]) -> set[bytes]:
    return set()


async def some_bytes(replica: Replica, stream: bytes) -> bytes:
    """What can be read of a stream."""
    if not await replica.content.known_streams([stream]):
        return b""
    return await read(replica, stream)


@attack(ROW, off={"protocol.replica.packs.PackFolder.sharing": nothing_shared})
async def test_a_hand_in_that_names_the_chunks_of_a_remark_in_another_order_keeps_none_of_them(here: Here) -> None:
    chunks = await here.evil.agent.replica.content.chunk_list(here.remark)
    assert chunks is not None
    writer = PackWriter()
    name = writer.add_stream(tuple(reversed(chunks)))
    finished = writer.finish()
    pack = writer.take()
    assert finished.size == len(pack)
    for replica in here.reached.values():
        await replica.content.ingest(here.room.space, pack)
    await here.hand_in(name)
    await here.forget_lea()
    assert {who: await some_bytes(one, name) for who, one in here.reached.items()} == dict.fromkeys(here.reached, b"")


@attack(ROW, off={"protocol.replica.holdings.Holdings._is_given_up": lambda *_: False})
async def test_a_remark_that_is_handed_in_later_is_not_fetched_again_from_a_pc_that_was_off(here: Here) -> None:
    await here.forget_lea()
    assert await here.kept() == []
    await here.hand_in(here.remark)
    await here.sync(here.late, here.teacher)
    assert await here.kept() == []
