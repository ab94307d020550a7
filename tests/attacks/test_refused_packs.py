"""Small packs with long lists, which are refused: looking at them costs their sender as much as to have them kept."""

from __future__ import annotations

import struct
from functools import cache

import pytest
import zstandard
from blake3 import blake3

from protocol.errors import Code, PeerFault
from protocol.limits import SPARE_CONTENT_BYTES, MiB
from protocol.messages.calls import SyncRequest
from protocol.messages.parts import InlinePack
from protocol.roles import Role
from protocol.transfer.chunking import ChunkRef
from protocol.transfer.pack import PACK_END, IndexPlace, PackIndex, decode_index, read_trailer
from protocol.transfer.pack_writer import PackWriter
from tests.harness.attack import attack
from tests.harness.caller import caller
from tests.harness.classroom import Classroom

ROW = "packs that are refused, without end"
NAMED = 60_000


@cache
def refused_pack(number: int) -> bytes:
    """A pack of some hundred bytes whose lists name a chunk more often than a machine may bring."""
    writer = PackWriter(level=19)
    writer.add_chunk(number.to_bytes(2, "big"))
    for list_number in range(5):
        writer.add_stream((ChunkRef(b"\x07" * 32, 16_384),) * (NAMED - list_number))
    writer.finish()
    return writer.take()


@cache
def spoilt_at_its_end(number: int) -> bytes:
    """A pack of some hundred bytes whose index unfolds to a megabyte, with one byte too many behind it."""
    writer = PackWriter(level=19)
    chunk = writer.add_chunk(number.to_bytes(2, "big"))
    for list_number in range(2):
        writer.add_stream((chunk,) * (NAMED - list_number))
    writer.finish()
    data = writer.take()
    place = read_trailer(data, pack_bytes=len(data))
    plain = zstandard.decompress(data[place.offset : place.offset + place.stored_bytes]) + b"\x00"
    stored = zstandard.compress(plain, 19)
    sizes = struct.pack(">II", len(stored), len(plain))
    digest = blake3(sizes + stored).digest(length=16)
    return data[: place.offset] + stored + sizes + digest + PACK_END


async def bring_refused_packs(room: Classroom) -> None:
    thief = await caller(room.territory, room.territory.responder(), Role.MACHINE, room.space, seed=5)
    for first in (0, 4):
        packs = [refused_pack(number) for number in range(first, first + 4)]
        assert sum(map(len, packs)) < 8_000
        await thief.sync(SyncRequest(packs=tuple(InlinePack(room.space, data) for data in packs)))


@attack(ROW, off={"protocol.replica.making.Making.noted": property(lambda _: 0)})
async def test_of_packs_that_are_refused_few_are_looked_at(room: Classroom, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = 0

    def counted(data: bytes, place: IndexPlace) -> PackIndex:
        nonlocal looked_at
        looked_at += 1
        return decode_index(data, place)

    monkeypatch.setattr("protocol.replica.content.packing.pack_check.decode_index", counted)
    await bring_refused_packs(room)
    assert 0 < looked_at <= 2


@attack(ROW, off={"protocol.replica.making.Making.note": lambda *_: None})
async def test_lists_that_are_too_long_are_not_looked_through(room: Classroom, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_through = 0

    def counted(index: PackIndex, chunks: list[ChunkRef]) -> object:
        nonlocal looked_through
        looked_through += 1
        raise PeerFault(Code.MALFORMED, "looked through, which is all that is asked here: it takes seconds")

    monkeypatch.setattr("protocol.replica.content.packing.pack_check.resolve_streams", counted)
    await bring_refused_packs(room)
    assert looked_through == 0


@attack(ROW, off={"protocol.replica.content.packing.pack_check._unfolded_bytes": lambda _place: 0})
async def test_an_index_that_is_bad_at_its_very_end_costs_what_reading_it_costs(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_bytes = 0

    def counted(data: bytes, place: IndexPlace) -> PackIndex:
        nonlocal read_bytes
        read_bytes += place.plain_bytes
        return decode_index(data, place)

    monkeypatch.setattr("protocol.replica.content.packing.pack_check.decode_index", counted)
    thief = await caller(room.territory, room.territory.responder(), Role.MACHINE, room.space, seed=5)
    packs = [spoilt_at_its_end(number) for number in range(16)]
    assert sum(map(len, packs)) < MiB // 64
    await thief.sync(SyncRequest(packs=tuple(InlinePack(room.space, data) for data in packs)))
    assert SPARE_CONTENT_BYTES // 2 < read_bytes <= SPARE_CONTENT_BYTES
