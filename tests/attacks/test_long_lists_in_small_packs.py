"""A pack or a delta of a few kilobytes names the same chunks over and over (docs/attacks.md)."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from functools import cache
from random import Random

import pytest

from protocol.errors import LocalFailure, TooLarge
from protocol.limits import MIN_CHUNK_BYTES, SPARE_CONTENT_BYTES, MiB
from protocol.messages.calls import SyncRequest
from protocol.messages.parts import InlinePack
from protocol.replica.content.kept.memory_packs import MemoryPacks
from protocol.replica.content.packing.pack_remains import Remains, remains_of
from protocol.replica.making import Making
from protocol.roles import Role
from protocol.transfer.chunking import (
    CHUNK_REF_BYTES,
    ChunkRef,
    chunk_list,
    chunk_ref,
    cut,
    decode_chunk_refs,
    stream_id,
)
from protocol.transfer.delta import Chunked, Copy
from protocol.transfer.delta_writer import DeltaWriter
from protocol.transfer.manifest import ManifestEntry, encode_manifest
from protocol.transfer.pack_writer import PackWriter
from tests.harness.attack import attack
from tests.harness.caller import caller, pack_sealed
from tests.harness.classroom import Classroom, assignment, read

ROW = "a small pack whose lists are long"
SPACE = bytes(32)
NAMED = 60_000


@cache
def small_pack(number: int) -> tuple[bytes, bytes]:
    """A pack with one chunk and one list, which names it very often; the list's name."""
    writer = PackWriter(level=19)
    chunk = writer.add_chunk(number.to_bytes(2, "big") + bytes(MIN_CHUNK_BYTES - 2))
    name = writer.add_stream((chunk,) * NAMED)
    writer.finish()
    return writer.take(), name


@attack(ROW, off={"protocol.transfer.pack.PackIndex.noted_bytes": property(lambda _: 0)})
async def test_small_packs_with_long_lists_cost_no_more_than_a_machine_may_bring(room: Classroom) -> None:
    thief = await caller(room.territory, room.territory.responder(), Role.MACHINE, room.space, seed=5)
    made = [small_pack(number) for number in range(8)]
    assert sum(len(data) for data, _ in made) < MiB // 32
    await thief.sync(SyncRequest(packs=tuple(InlinePack(room.space, data) for data, _ in made)))
    kept = await room.territory.replica.content.known_streams([name for _, name in made])
    assert 0 < len(kept) * NAMED * CHUNK_REF_BYTES <= SPARE_CONTENT_BYTES


@attack("a PC's long lists are brought by somebody else", off={"protocol.replica.interfaces.Making.note": Making.add})
async def test_long_lists_that_a_relay_brings_for_a_pc_take_none_of_its_room_for_work(room: Classroom) -> None:
    teacher, responder = await room.teacher(), room.territory.responder()
    lesson = await assignment(room, teacher)
    relay = await caller(room.territory, responder, Role.RELAY, room.space, seed=5)
    pupil = await caller(room.territory, responder, Role.MACHINE, room.space, seed=6)
    works = [await pack_sealed(Random(number).randbytes(200_000)) for number in range(2)]
    handed_in = [pupil.hand_in(room.space, lesson, room.pupil_person, work.ref) for work in works]
    await pupil.sync(SyncRequest(push=tuple(handed_in)))
    made = [small_pack(number)[0] for number in range(16)]
    for packs in (made[:8], made[8:12], made[12:], *(work.packs for work in works)):
        await relay.sync(SyncRequest(packs=tuple(InlinePack(room.space, data) for data in packs)))
    streams = [work.ref.stream for work in works]
    assert await room.territory.replica.content.known_streams(streams) == set(streams)


@attack(
    "a list is false about the length of others' chunks",
    off={"protocol.replica.content.kept.frames._of_length": lambda _length, places: list(places)},
)
async def test_a_list_that_is_false_about_a_chunk_spoils_no_pack_of_others(room: Classroom) -> None:
    content, lesson = room.territory.replica.content, Random(1).randbytes(MIN_CHUNK_BYTES)
    build = await content.build(room.space, unsent=False)
    (chunk,) = chunk_list([lesson])
    await build.chunk(lesson)
    stream = await build.stream((chunk,))
    await build.finish()
    thief = await caller(room.territory, room.territory.responder(), Role.MACHINE, room.space, seed=5)
    writer = PackWriter()
    false = writer.add_stream((ChunkRef(chunk.hash, chunk.length + 1),))
    writer.finish()
    await thief.sync(SyncRequest(packs=(InlinePack(room.space, writer.take()),)))
    assert await content.known_streams([false])
    with pytest.raises(LocalFailure):
        await read(room.territory.replica, false)
    with suppress(LocalFailure):
        assert await read(room.territory.replica, stream) == lesson
    assert await content.missing_chunks(room.space, [chunk]) == set()


def as_lists_say(
    connection: sqlite3.Connection, spaces: Collection[bytes], given_up: Collection[bytes]
) -> list[Remains]:
    """What others need of packs that go, with the lengths that the last list says."""
    lists = (decode_chunk_refs(refs) for (refs,) in connection.execute("SELECT chunks FROM stream"))
    said = {chunk.hash: chunk for chunks in lists for chunk in chunks}
    found = remains_of(connection, spaces, given_up)
    return [replace(old, chunks=tuple(said[chunk.hash] for chunk in old.chunks)) for old in found]


@attack(
    "a list is false about the length of others' chunks",
    off={"protocol.replica.content.kept.sqlite_content.remains_of": as_lists_say},
)
async def test_a_list_that_is_false_about_a_chunk_has_nobody_lose_it_with_what_was_forgotten_beside_it(
    room: Classroom,
) -> None:
    content = room.territory.replica.content
    remark, lesson, more = (Random(number).randbytes(MIN_CHUNK_BYTES) for number in range(3))
    for files in ([[remark], [lesson]], [[lesson, more]]):
        build = await content.build(room.space, unsent=False)
        for chunks in files:
            for chunk in chunks:
                await build.chunk(chunk)
            await build.stream(chunk_list(chunks))
        await build.finish()
    thief = await caller(room.territory, room.territory.responder(), Role.MACHINE, room.space, seed=5)
    writer = PackWriter()
    for number in range(30):
        writer.add_stream((ChunkRef(chunk_ref(lesson).hash, MIN_CHUNK_BYTES + 1 + number),))
    writer.finish()
    await thief.sync(SyncRequest(packs=(InlinePack(room.space, writer.take()),)))
    await content.forget({room.space}, {stream_id(chunk_list([part])) for part in (remark, lesson)})
    assert await content.missing_chunks(room.space, chunk_list([lesson, more])) == set()


@attack(ROW, off={"protocol.replica.content.deltas.expansion.CHUNK_REF_BYTES": 0})
async def test_a_delta_that_copies_the_same_chunks_over_and_over_makes_no_more_than_a_machine_may_bring() -> None:
    content = MemoryPacks()
    build = await content.build(SPACE, unsent=False)
    listed: list[ManifestEntry] = []
    for data in (Random(1).randbytes(MIN_CHUNK_BYTES), b""):
        body = data or encode_manifest(listed)
        chunks = cut(body)
        for chunk in chunks:
            await build.chunk(chunk)
        stream = await build.stream(chunk_list(chunks))
        listed.append(ManifestEntry("a", len(data), stream))
    await build.finish()
    writer = DeltaWriter([stream])
    for target in range(4):
        writer.add_target(Chunked((Copy(0, 0, 0, 1),) * (2_000 + target)))
    writer.finish()
    before, making = await content.totals(), Making(MiB // 8, 0)
    with suppress(TooLarge):
        await content.ingest(SPACE, writer.take(), making=making)
    assert await content.totals() == before
