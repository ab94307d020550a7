"""Bundles: what goes in comes out, nothing shows, and whatever is changed, cut off or announced falsely is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from random import Random

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.bundles.form import (
    ENTRIES,
    HEAD_BYTES,
    RECORD,
    TRAILER_BYTES,
    BundleKeys,
    Head,
    Index,
    PackNote,
    RegisterNote,
    Trailer,
    head_size,
    parse_head,
)
from protocol.bundles.listed import Listed
from protocol.bundles.reader import BundleReader, Entries, Event, PackData, PackEnd, PackStart, Registers
from protocol.bundles.writer import BundleWriter
from protocol.canonical import Value, encode
from protocol.errors import PeerFault
from protocol.folds.space_keys import SpaceSecret
from protocol.identity import SigningKey
from protocol.limits import BUNDLE_CHUNK_BYTES, MAX_BUNDLE_BYTES, MAX_BUNDLE_INDEX_BYTES, MAX_PACK_BYTES
from protocol.model.entry import Entry, Kind, compose
from protocol.model.register import RegisterKind, compose_register

VECTOR = json.loads((Path(__file__).parents[1] / "vectors" / "bundle.json").read_text(encoding="utf-8"))
SECRET = SpaceSecret(bytes(range(32)))
TERRITORY, SPACE, NONCE = bytes([1]) * 32, bytes([2]) * 32, bytes([3]) * 32
AUTHOR = SigningKey(bytes([9]) * 32)


def entry(number: int, text: bytes = b"Mme Petit") -> Entry:
    payload = b"\x81\xa4name\xc4" + bytes([len(text)]) + text
    return compose(author=AUTHOR, space=SPACE, kind=Kind.PERSON, grant=None, at=number, payload=payload, salt=bytes(16))


def writer(index: Index, *, preface: tuple[Entry, ...] = (), secret: SpaceSecret = SECRET) -> BundleWriter:
    return BundleWriter(
        secret.bundle,
        territory=TERRITORY,
        space=SPACE,
        commitment=secret.commitment,
        nonce=NONCE,
        preface=preface,
        index=index,
    )


def bundle(entries: list[Entry], packs: list[bytes], *, preface: tuple[Entry, ...] = (), piece: int = 100_000) -> bytes:
    notes = tuple(PackNote(bytes([number]) * 32, len(pack)) for number, pack in enumerate(packs))
    making = writer(Index(entries=tuple(each.id for each in entries), packs=notes), preface=preface)
    made = bytearray(making.begin())
    made += making.entries(entries)
    for note, pack in zip(notes, packs, strict=True):
        made += making.pack(note)
        for at in range(0, len(pack), piece):
            made += making.data(pack[at : at + piece])
    return bytes(made + making.finish())


def events(data: bytes, *, piece: int = 70_000, secret: SpaceSecret = SECRET) -> Iterator[Event]:
    head = parse_head(data[: head_size(data[:HEAD_BYTES])])
    reader = BundleReader(secret.bundle, head, len(data))
    rest = data[len(head.data) :]
    for at in range(0, len(rest), piece):
        yield from reader.feed(rest[at : at + piece])
    reader.finish()


def contents(data: bytes, *, piece: int = 70_000) -> tuple[list[Entry], list[bytes]]:
    entries: list[Entry] = []
    packs: list[bytes] = []
    for event in events(data, piece=piece):
        match event:
            case Entries():
                entries += event.entries
            case PackStart():
                packs.append(b"")
            case PackData():
                packs[-1] += event.data
            case Index() | PackEnd() | Registers():
                pass
    return entries, packs


def test_the_bytes_are_those_of_the_vector() -> None:
    note = RegisterNote(bytes.fromhex(VECTOR["register_device"]), VECTOR["register_at_ms"])
    making = writer(Index(registers=(note,)))
    data = making.begin()
    data += bytes(making.registers([bytes.fromhex(VECTOR["register"])])) + making.finish()
    assert data.hex() == VECTOR["bundle"]
    assert Trailer.parse(data[-TRAILER_BYTES:]).name == VECTOR["name"]
    assert list(events(data)) == [Index(registers=(note,)), Registers((bytes.fromhex(VECTOR["register"]),))]


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 2 * BUNDLE_CHUNK_BYTES + 7), max_size=3),
    count=st.integers(1, 5),
    piece=st.integers(1000, 600_000),
)
def test_what_goes_in_comes_out_however_it_is_cut(sizes: list[int], count: int, piece: int) -> None:
    entries = [entry(number) for number in range(count)]
    packs = [Random(size).randbytes(size) for size in sizes]
    data = bundle(entries, packs, piece=piece)
    assert contents(data, piece=piece) == (entries, packs)
    assert Trailer.parse(data[-TRAILER_BYTES:]).size == len(data)


@pytest.mark.parametrize("size", [1, BUNDLE_CHUNK_BYTES - 40, BUNDLE_CHUNK_BYTES, 5 * BUNDLE_CHUNK_BYTES + 3])
def test_a_pack_that_is_read_straight_to_where_it_is_sealed_makes_the_same_bundle(size: int) -> None:
    pack = Random(size).randbytes(size)
    note = PackNote(bytes(32), size)
    making = writer(Index(packs=(note,)))
    source = BytesIO(pack)

    def draw(memory: memoryview) -> None:
        assert source.readinto(memory) == len(memory)

    made = bytearray(making.begin())
    made += making.pack(note)
    for part in (size // 3, size - size // 3):
        made += making.drawn(part, draw)
    made += making.finish()
    other = writer(Index(packs=(note,)))
    pieces = [other.begin(), bytes(other.pack(note)), bytes(other.data(pack)), other.finish()]
    assert bytes(made) == b"".join(pieces)
    assert contents(bytes(made)) == ([], [pack])


def test_whoever_finds_it_reads_neither_name_nor_work() -> None:
    data = bundle([entry(1, b"Leonie Dupont")], [b"ma redaction sur les volcans" * 100])
    assert b"Leonie" not in data
    assert b"volcans" not in data
    with pytest.raises(PeerFault):
        list(events(data, secret=SpaceSecret(bytes(32))))


def see_only(said: Entry, pack: bytes, data: bytes) -> None:
    """Read a bundle from which nothing else may come out."""
    for event in events(data):
        if isinstance(event, Entries):
            assert event.entries == (said,)
        if isinstance(event, PackData):
            assert bytes(event.data) in pack


def test_every_changed_byte_is_noticed_and_nothing_false_comes_out() -> None:
    good = bundle([entry(1)], [bytes(3000)], preface=(entry(2),))
    packs = contents(good)[1]
    for at in range(0, len(good), 7):
        bad = bytearray(good)
        bad[at] ^= 1
        with pytest.raises(PeerFault):
            see_only(entry(1), packs[0], bytes(bad))


def test_every_cut_is_noticed_and_what_came_before_it_is_good() -> None:
    good = bundle([entry(1)], [Random(1).randbytes(2 * BUNDLE_CHUNK_BYTES)])
    for length in (len(good) - 1, len(good) - TRAILER_BYTES, len(good) // 2, HEAD_BYTES + 5, HEAD_BYTES, 10):
        cut = good[:length]
        with pytest.raises(PeerFault):
            list(events(cut))
        with pytest.raises(PeerFault):
            Trailer.parse(cut[-TRAILER_BYTES:])


def test_a_bundle_that_goes_on_after_its_end_is_refused() -> None:
    with pytest.raises(PeerFault):
        list(events(bundle([entry(1)], []) + b"more"))


def test_lying_sizes_are_refused_before_any_memory_is_taken() -> None:
    good = bundle([entry(1)], [])
    for field, size in (
        (HEAD_BYTES - 8, 2**32 - 1),
        (HEAD_BYTES - 4, MAX_BUNDLE_INDEX_BYTES + 17),
        (HEAD_BYTES - 4, 3),
    ):
        with pytest.raises(PeerFault):
            head_size(good[:field] + size.to_bytes(4, "big") + good[field + 4 : HEAD_BYTES])
    head = parse_head(good[: head_size(good)])
    for size in (MAX_BUNDLE_BYTES + 1, len(head.data) + head.index_bytes + TRAILER_BYTES, 0):
        with pytest.raises(PeerFault):
            BundleReader(SECRET.bundle, head, size)


def sealed_by_a_member(body: bytes) -> bytes:
    """A bundle whose body is anything: members of a class have its key."""
    making = writer(Index())
    return b"".join([making.begin(), bytes(making.data(body)), making.finish()])


@pytest.mark.parametrize(
    "body",
    [
        b"\x01\xff\xff\xff\xff",  # a batch of 4 GiB
        b"\x03" + (33 + MAX_PACK_BYTES).to_bytes(4, "big") + bytes(40),  # a pack larger than any
        b"\x03" + (32).to_bytes(4, "big") + bytes(32),  # a pack of nothing
        b"\x01\x00\x00\x00\x01\x80",  # a map where a list belongs
        b"\x01\x00\x00\x00\x05\x90",  # shorter than announced
        b"\x01\x00",  # half a record
        b"\x01\x00\x00\x00\x05\xdd\xff\xff\xff\xff",  # a list of four thousand million
    ],
)
def test_what_a_hostile_member_seals_is_refused(body: bytes) -> None:
    with pytest.raises(PeerFault):
        list(events(sealed_by_a_member(body)))


def test_records_of_a_later_version_are_passed_over() -> None:
    data = sealed_by_a_member(b"\x7f\x00\x00\x00\x03abc" + b"\x02\x00\x00\x00\x01\x90")
    assert [event for event in events(data) if not isinstance(event, Index)] == [Registers(())]


def test_an_entry_that_cannot_be_read_spoils_no_other() -> None:
    making = writer(Index())
    data = b"".join([making.begin(), bytes(making.entries([entry(1), entry(2)])), making.finish()])
    assert contents(data)[0] == [entry(1), entry(2)]
    from protocol.canonical import encode  # noqa: PLC0415
    from protocol.model.entry import to_wire  # noqa: PLC0415

    rows = encode([to_wire(entry(1)), ["rubbish"], to_wire(entry(2))])
    found = contents(sealed_by_a_member(b"\x01" + len(rows).to_bytes(4, "big") + rows))[0]
    assert found == [entry(1), entry(2)]


def test_the_head_belongs_to_what_follows() -> None:
    head = Head.compose(TERRITORY, SPACE, SECRET.commitment, NONCE, (), 100)
    moved = Head.compose(TERRITORY, bytes([7]) * 32, SECRET.commitment, NONCE, (), 100)
    sealed = BundleKeys(SECRET.bundle, head).seal_index(Index().encode())
    assert BundleKeys(SECRET.bundle, head).open_index(sealed).is_empty
    with pytest.raises(PeerFault):
        BundleKeys(SECRET.bundle, moved).open_index(sealed)


# --- what an index lists, held against what comes out -----------------------------------------------------------------


def held_against(index: Index, *said: Event) -> bool:
    """Whether all that an index lists has come out."""
    listed = Listed()
    for event in (index, *said):
        listed.came(event)
    try:
        listed.check()
    except PeerFault:
        return False
    return True


def test_an_entry_has_come_out_with_its_words_where_it_is_listed_as_whole() -> None:
    one = entry(1)
    header = replace(one, salt=None, payload=None)
    assert held_against(Index(entries=(one.id,)), Entries((one,), 0))
    assert not held_against(Index(entries=(one.id,)), Entries((header,), 0))
    assert not held_against(Index(entries=(one.id,)), Entries((), 1))
    assert held_against(Index(bare=(one.id,)), Entries((header,), 0))
    assert held_against(Index(bare=(one.id,)), Entries((one,), 0))
    assert not held_against(Index(bare=(one.id,)))
    assert held_against(Index(), Entries((one,), 0)), "what is not listed is nobody's loss"


def test_an_entry_of_a_later_form_has_come_out_under_its_own_name_alone() -> None:
    header = encode([99, b"of a later version"])
    name = blake3(header).digest()
    making = writer(Index(entries=(name,)))
    record = encode([[header, bytes(64), None, None], [encode([99, b"another"]), bytes(64), None, None], [], 1])
    body = bytes(making.data(RECORD.pack(ENTRIES, len(record)) + record))
    (index, batch) = events(making.begin() + body + making.finish())
    assert isinstance(index, Index)
    assert isinstance(batch, Entries)
    assert (batch.entries, batch.bad) == ((), 4)
    assert held_against(index, batch)
    assert not held_against(Index(entries=(bytes(32),)), batch)


def test_what_a_door_refuses_has_not_come_out() -> None:
    one, listed = entry(1), Listed()
    listed.came(Index(entries=(one.id,)))
    listed.came(Entries((one,), 0))
    listed.refuse([one.id])
    with pytest.raises(PeerFault, match="does not hold what its index lists"):
        listed.check()


def test_a_pack_has_come_out_with_all_its_bytes() -> None:
    pack = Random(7).randbytes(100)
    note = PackNote(blake3(pack).digest(), len(pack))
    start = PackStart(note.hash, note.size)
    assert held_against(Index(packs=(note,)), start, PackData(memoryview(pack)), PackEnd())
    assert not held_against(Index(packs=(note,)), start, PackData(memoryview(bytes(100))), PackEnd())
    assert not held_against(Index(packs=(note,)), start, PackData(memoryview(pack)))


def test_a_report_has_come_out_if_its_device_has_signed_it() -> None:
    register = compose_register(AUTHOR, RegisterKind.HEALTH, AUTHOR.public, 5, b"")
    changed = register.data[:-1] + bytes([register.data[-1] ^ 1])
    note = RegisterNote(AUTHOR.public, 5)
    assert held_against(Index(registers=(note,)), Registers((b"junk", register.data)))
    assert not held_against(Index(registers=(note,)), Registers((changed,)))
    assert not held_against(Index(registers=(RegisterNote(AUTHOR.public, 6),)), Registers((register.data,)))


@pytest.mark.parametrize("part", ["entries", "bare", "packs"])
def test_an_index_whose_list_of_ids_is_cut_off_is_refused(part: str) -> None:
    index: dict[str, Value] = {"entries": b"", "bare": b"", "packs": [], "registers": []}
    index[part] = [[bytes(32), 1, bytes(33)]] if part == "packs" else bytes(33)
    with pytest.raises(PeerFault, match="cut off"):
        Index.parse(encode(index))
