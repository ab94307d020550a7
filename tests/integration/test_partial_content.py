"""A machine of which a part of some content is here, under other packs: the rest comes in one batch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from random import Random

import pytest

from protocol.messages import held_names
from protocol.replica.content import batches
from protocol.transfer.chunking import chunk_list, cut
from sync_agent.machine.sync_result import SyncResult
from tests.harness.classroom import Classroom, Device, Files, classroom, faulty, read, syncs

LESSON: Files = {f"{number}.bin": Random(number).randbytes(90_000) for number in range(10)}
LESSON_BYTES = sum(map(len, LESSON.values()))
FILE_BYTES = 90_000


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Classroom]:
    async with classroom(tmp_path, faulty) as made:
        yield made


async def hold(room: Classroom, device: Device, streams: Iterable[bytes]) -> None:
    """Let a device have these streams by another way than packs of the server."""
    build = await device.agent.replica.content.build(room.space, unsent=False)
    for stream in streams:
        chunks = cut(await read(room.territory.replica, stream))
        for chunk in chunks:
            await build.chunk(chunk)
        await build.stream(chunk_list(chunks))
    await build.finish()


async def begun(room: Classroom, *, lacks: int) -> tuple[bytes, Device]:
    """A lesson of the server, and a machine that has all of it but some files."""
    teacher = await room.teacher()
    item = (await room.publish(teacher, LESSON)).item
    await teacher.session.sync()
    return item, await partly(room, item, lacks=lacks)


async def partly(room: Classroom, item: bytes, *, lacks: int) -> Device:
    machine = await room.machine()
    await machine.session.sync()
    content = machine.agent.replica.content
    await content.drop(list(await content.pack_sizes()))
    await machine.agent.holdings.forget()
    coursework = (await room.territory.replica.view(room.space)).coursework
    stream = coursework.items[item].shown.record.content.stream
    files = await room.frontage.responder.holdings.manifest(stream)
    await hold(room, machine, [stream, *[file.stream for file in files[lacks:]]])
    return machine


def cost(result: SyncResult) -> int:
    return result.bytes_in + result.bytes_out


async def test_who_has_most_of_a_lesson_fetches_the_rest_of_it(room: Classroom) -> None:
    item, machine = await begun(room, lacks=2)
    done = await machine.session.sync()
    assert await machine.files(item) == LESSON
    assert await room.agree([machine])
    assert cost(done) < 2 * FILE_BYTES + 5_000


async def test_who_lacks_the_same_gets_the_same_batch(room: Classroom, monkeypatch: pytest.MonkeyPatch) -> None:
    item, machine = await begun(room, lacks=2)
    other = await partly(room, item, lacks=2)
    await machine.session.sync()
    (batch,) = await room.territory.replica.content.deltas(room.space)
    monkeypatch.setattr(batches, "PackWriter", None)
    done = await other.session.sync()
    assert await other.files(item) == LESSON
    assert cost(done) < 2 * FILE_BYTES + 5_000
    assert await other.agent.replica.content.pack(batch.hash) is not None


async def test_who_has_little_of_a_lesson_gets_packs(room: Classroom) -> None:
    item, machine = await begun(room, lacks=9)
    await machine.session.sync()
    assert await machine.files(item) == LESSON
    assert await room.territory.replica.content.deltas(room.space) == []


async def test_what_a_batch_leaves_out_by_mistake_comes_as_packs_in_the_same_sync(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    item, machine = await begun(room, lacks=4)
    # all chunks that begin with an even byte have the name of one that is held
    monkeypatch.setattr(held_names, "_name", lambda hashed: hashed[0] % 2 * int.from_bytes(hashed[:4], "big"))
    await machine.session.sync()
    assert await machine.files(item) == LESSON
    assert await room.agree([machine])


async def test_a_batch_that_is_cut_off_goes_on_where_it_was(room: Classroom) -> None:
    item, machine = await begun(room, lacks=2)
    machine.faulty.faults.in_bytes = 100_000
    assert not await syncs(machine)
    machine.faulty.faults.in_bytes = None
    done = await machine.session.sync()
    assert await machine.files(item) == LESSON
    assert cost(done) < 2 * FILE_BYTES
