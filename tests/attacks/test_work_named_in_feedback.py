"""Whoever may say feedback names others' work in some about nobody, and has nobody forgotten (docs/attacks.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest_asyncio

from protocol.limits import MIN_CHUNK_BYTES
from protocol.messages.calls import SyncRequest
from protocol.messages.parts import InlinePack
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure
from protocol.model.work import ContentRef, Feedback
from protocol.roles import Role
from protocol.transfer.chunking import ChunkRef
from protocol.transfer.pack_writer import PackWriter
from tests.harness.attack import attack
from tests.harness.caller import Caller, caller
from tests.harness.classroom import Classroom, Device, assignment, classroom
from tests.harness.commands import Desk
from tests.harness.passing_days import pass_days

ROW = "an erasure takes the work of others with it"
OFF = {"protocol.replica.upkeep.content_to_go.has_sealed_form": lambda _chunks: False}
NOBODY = b"n" * 16


@dataclass
class Here:
    """A class whose work has arrived; whoever has the server's key has made himself a teacher of it."""

    room: Classroom
    teacher: Device
    machine: Device
    thief: Caller
    works: dict[bytes, bytes]
    """Each hand-in, and its stream."""

    def feedback(self, stream: bytes) -> Entry:
        """A word about nobody that names a stream."""
        payload = Feedback("", None, False, ContentRef(stream, 10, 1)).encode()
        return self.thief.say(
            self.room.space, Kind.FEEDBACK, payload, subject=NOBODY, target=next(iter(self.works)), parents=()
        )

    async def sync(self) -> None:
        for _ in range(2):
            for device in (self.teacher, self.machine):
                await device.session.sync()

    async def forget_nobody(self) -> None:
        """By the server's key, until the week is over."""
        territory = self.room.territory
        await self.sync()
        await territory.say(territory.id, Kind.ERASE, Erasure(NOBODY).encode())
        await self.sync()
        await pass_days(territory, 9, self.teacher, self.machine)
        await self.sync()

    async def assert_all_is_there(self) -> None:
        replicas = (self.room.territory.replica, self.teacher.agent.replica, self.machine.agent.replica)
        for replica in replicas:
            assert await replica.content.known_streams(list(self.works.values())) == set(self.works.values())
        for work in self.works:
            assert await Desk(self.teacher.agent).files("open-hand-in", id=work.hex())


@pytest_asyncio.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with classroom(tmp_path) as room:
        teacher, machine = await room.teacher(), await room.machine()
        task = await assignment(room, teacher, machine)
        sizes = (2_000, 70_000, 150_000)
        made = [await room.hand_in(machine, task, {"a.txt": bytes(size)}) for size in sizes]
        for device in (machine, teacher, machine):
            await device.session.sync()
        works = (await room.territory.replica.view(room.space)).coursework.hand_ins
        responder = room.frontage.responder
        thief = await caller(room.territory, responder, Role.TEACHER, room.space, seed=9, person=b"y" * 16)
        yield Here(room, teacher, machine, thief, {work: works[work].record.content.stream for work in made})


@attack(ROW, off=OFF)
async def test_an_erasure_of_nobody_takes_no_work_that_feedback_about_nobody_names(here: Here) -> None:
    await here.thief.sync(SyncRequest(push=tuple(here.feedback(stream) for stream in here.works.values())))
    await here.forget_nobody()
    await here.assert_all_is_there()


@attack(ROW, off=OFF)
async def test_an_erasure_of_nobody_takes_no_work_of_which_feedback_about_nobody_names_the_chunks(here: Here) -> None:
    writer = PackWriter()
    lists = (await here.room.territory.replica.content.chunk_lists(list(here.works.values()))).values()
    large = [chunk for chunks in lists for chunk in chunks if chunk.length >= MIN_CHUNK_BYTES]
    for chunks in lists:
        # in an order in which nobody handed them in; only the last of a file may be short
        mixed = (*reversed(large), chunks[-1])
        false = tuple(ChunkRef(chunk.hash, MIN_CHUNK_BYTES) for chunk in chunks)
        named = [here.feedback(writer.add_stream(listed)) for listed in (mixed, false)]
        await here.thief.sync(SyncRequest(push=tuple(named)))
    writer.finish()
    pack = writer.take()
    await here.thief.sync(SyncRequest(packs=(InlinePack(here.room.space, pack),)))
    for device in (here.teacher, here.machine):
        await device.agent.replica.content.ingest(here.room.space, pack)
    await here.forget_nobody()
    await here.assert_all_is_there()
