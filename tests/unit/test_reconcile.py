"""Negentropy v1: byte for byte with others, exact for all sets, bounded against hostile peers."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
from pathlib import Path
from typing import Any, cast

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import Code, PeerFault, TooLarge
from protocol.limits import (
    MAX_RECONCILE_IDS,
    MAX_RECONCILE_ROUNDS,
    MIN_RECONCILE_FRAME_BYTES,
    RECONCILE_FRAME_BYTES,
)
from protocol.reconcile.negentropy import (
    ANSWERING,
    AS_PUBLISHED,
    ASKING,
    BEGINNING,
    INFINITY,
    LISTING,
    Bound,
    Initiator,
    RangeView,
    Record,
    Splitting,
    respond,
)
from protocol.reconcile.set_digest import fingerprint_of
from protocol.reconcile.sorted_records import SortedRecords
from tests.harness import naive_negentropy as naive

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "negentropy.json").read_text())

# --- helpers


def records_of(seed: object, count: int, spread_ms: int = 10**10) -> list[Record]:
    chance = random.Random(repr(seed))
    return [Record(1_757_000_000_000 + chance.randrange(spread_ms), chance.randbytes(32)) for _ in range(count)]


def ids(records: Any) -> set[bytes]:
    return {record.id for record in records}


class Dialogue:
    """A whole dialogue of ours with ours: every message, what was learned, how it ended."""

    def __init__(
        self,
        mine: RangeView,
        theirs: RangeView,
        asking: Splitting = ASKING,
        answering: Splitting = ANSWERING,
        start: Bound = BEGINNING,
    ) -> None:
        self.messages: list[bytes] = []
        self.have: list[bytes] = []
        self.need: list[bytes] = []
        initiator = Initiator(mine, asking, start)
        message: bytes | None = initiator.open()
        while message is not None:
            answer = respond(theirs, message, answering)
            self.messages += [message, answer]
            step = initiator.answer(answer)
            self.have += step.have
            self.need += step.need
            self.complete, self.reached = step.complete, step.reached
            message = step.next_message

    @property
    def round_trips(self) -> int:
        return len(self.messages) // 2

    @property
    def size(self) -> int:
        return sum(map(len, self.messages))


splittings = st.builds(
    Splitting,
    branching=st.integers(2, 32),
    id_list_below=st.integers(2, 100),
    frame_limit_bytes=st.sampled_from([4096, 4099, 5000, 9000, RECONCILE_FRAME_BYTES]),
    recent_first=st.booleans(),
)
# Ids that share long beginnings, moments that coincide, and the ends of both scales.
close_ids = st.one_of(
    st.binary(min_size=32, max_size=32),
    st.builds(
        lambda head, tail: head * (32 - len(tail)) + tail, st.sampled_from([b"\0", b"\xff"]), st.binary(max_size=3)
    ),
)
moments = st.one_of(st.integers(0, 3), st.integers(2**64 - 4, 2**64 - 2), st.integers(0, 2**64 - 2))
small_sets = st.lists(st.builds(Record, moments, close_ids), max_size=120, unique_by=lambda record: record.id)


@st.composite
def two_sides(draw: st.DrawFn) -> tuple[list[Record], list[Record]]:
    """Two sets of up to 1,500 records: sharing most, some or nothing, in many moments or few."""
    seed = draw(st.integers(0, 2**32))
    chance = random.Random(seed)
    universe = records_of(seed, draw(st.integers(0, 1500)), draw(st.sampled_from([1, 20, 10**10])))
    shares = draw(st.tuples(*[st.sampled_from([0.0, 0.05, 0.5, 0.95, 0.99, 1.0])] * 2))
    recent = sorted(universe)[-draw(st.integers(0, 200)) :] if universe else []
    kept = [[record for record in universe if chance.random() < share] for share in shares]
    return kept[0], sorted({*kept[1], *recent}) if draw(st.booleans()) else kept[1]


# --- byte for byte with others


def vector_id(dialogue: dict[str, Any], n: int) -> tuple[int, bytes]:
    timestamp = 1_700_000_000 + n * 7919 % dialogue["spread"]
    text = f'[0,"{VECTORS["author"]}",{timestamp},1,[],"{n}"]'
    return timestamp, hashlib.sha256(text.encode()).digest()


def vector_side(dialogue: dict[str, Any], side: str) -> SortedRecords:
    first, end = dialogue[side]
    lacks = dialogue[f"{side}_lacks_every"]
    return SortedRecords(Record(*vector_id(dialogue, n)) for n in range(first, end) if not lacks or n % lacks)


def in_short(message: bytes, recorded: object) -> object:
    return message.hex() if isinstance(recorded, str) else [len(message), hashlib.sha256(message).hexdigest()]


@pytest.mark.parametrize("dialogue", VECTORS["dialogues"], ids=lambda dialogue: dialogue["name"])
def test_every_message_of_two_foreign_implementations_is_reproduced(dialogue: dict[str, Any]) -> None:
    spoken = Dialogue(
        vector_side(dialogue, "initiator"),
        vector_side(dialogue, "responder"),
        Splitting(frame_limit_bytes=dialogue["initiator_frame_limit_bytes"]),
        Splitting(frame_limit_bytes=VECTORS["responder_frame_limit_bytes"]),
    )
    recorded = dialogue["messages"]
    assert len(spoken.messages) == len(recorded)
    assert [in_short(*pair) for pair in zip(spoken.messages, recorded, strict=True)] == recorded
    assert sorted(spoken.have) == sorted(vector_id(dialogue, n)[1] for n in dialogue["have"])
    assert sorted(spoken.need) == sorted(vector_id(dialogue, n)[1] for n in dialogue["need"])


@settings(max_examples=60, deadline=None)
@given(two_sides(), splittings, splittings)
def test_a_plain_second_implementation_writes_the_same_messages(
    sides: tuple[list[Record], list[Record]], asking: Splitting, answering: Splitting
) -> None:
    asking = Splitting(asking.branching, asking.id_list_below, asking.frame_limit_bytes)
    mine, theirs = (side[:400] for side in sides)
    spoken = Dialogue(SortedRecords(mine), SortedRecords(theirs), asking, answering)
    learned: tuple[set[bytes], set[bytes]] = (set(), set())
    message = naive.start(mine, asking.branching, asking.id_list_below)
    messages = []
    while len(message) > 1:
        answer = naive.reply(theirs, message, answering.frame_limit_bytes, answering.branching, answering.id_list_below)
        messages += [message, answer]
        message = naive.reply(mine, answer, asking.frame_limit_bytes, asking.branching, asking.id_list_below, learned)
    assert spoken.messages == messages
    assert (set(spoken.have), set(spoken.need)) == learned


def test_the_worked_exchange_of_the_specification() -> None:
    first, second, third = (Record(1000 + n, bytes([n]) * 32) for n in (1, 2, 3))
    mine, theirs = SortedRecords([first, second]), SortedRecords([second, third])
    initiator = Initiator(mine, AS_PUBLISHED)
    question = initiator.open()
    assert question == bytes.fromhex("61 00 00 02 02" + "01" * 32 + "02" * 32)
    answer = respond(theirs, question)
    assert answer == bytes.fromhex("61 00 00 02 02" + "02" * 32 + "03" * 32)
    step = initiator.answer(answer)
    assert (step.have, step.need, step.next_message, step.complete) == ([first.id], [third.id], None, True)
    assert SortedRecords().fingerprint(0, 0).hex() == "7f9c9e31ac8256ca2f258583df262dbc"
    assert mine.fingerprint(0, 2).hex() == "12a7b248579deb04f68dac6d3db20efd"


def test_a_split_as_literal_bytes() -> None:
    records = [Record(1000, bytes([1]) * 32), Record(1000, bytes([1, 2]) + bytes(30)), Record(2000, bytes([3]) * 32)]
    opening = Initiator(SortedRecords(records), Splitting(branching=3, id_list_below=2)).open()
    each = [SortedRecords([record]).fingerprint(0, 1).hex() for record in records]
    assert opening.hex() == "61" + "876902010201" + each[0] + "87690001" + each[1] + "000001" + each[2]


# --- laws


@settings(max_examples=150, deadline=None)
@given(two_sides(), splittings, splittings)
def test_the_symmetric_difference_is_found_whatever_the_splitting_and_the_frame_limits(
    sides: tuple[list[Record], list[Record]], asking: Splitting, answering: Splitting
) -> None:
    spoken = Dialogue(SortedRecords(sides[0]), SortedRecords(sides[1]), asking, answering)
    assert spoken.complete
    assert sorted(spoken.have) == sorted(ids(sides[0]) - ids(sides[1]))
    assert sorted(spoken.need) == sorted(ids(sides[1]) - ids(sides[0]))
    assert max(map(len, spoken.messages[0::2])) <= asking.frame_limit_bytes
    assert max(map(len, spoken.messages[1::2])) <= answering.frame_limit_bytes


@settings(max_examples=200, deadline=None)
@given(small_sets, st.data(), splittings, splittings)
def test_shared_prefixes_and_extreme_moments_make_no_difference(
    universe: list[Record], data: st.DataObject, asking: Splitting, answering: Splitting
) -> None:
    places = st.sets(st.integers(0, max(0, len(universe) - 1)))
    mine, theirs = ([record for n, record in enumerate(universe) if n not in data.draw(places)] for _ in range(2))
    spoken = Dialogue(SortedRecords(mine), SortedRecords(theirs), asking, answering)
    assert spoken.complete
    assert (set(spoken.have), set(spoken.need)) == (ids(mine) - ids(theirs), ids(theirs) - ids(mine))


@settings(max_examples=150, deadline=None)
@given(two_sides(), splittings, splittings, st.booleans(), st.integers(1, 9))
def test_wherever_a_dialogue_is_broken_off_another_goes_on_from_there(
    sides: tuple[list[Record], list[Record]], asking: Splitting, answering: Splitting, lists_all: bool, answers: int
) -> None:
    mine, theirs = SortedRecords(sides[0]), SortedRecords(sides[1])
    asking = LISTING if lists_all else asking
    initiator = Initiator(mine, asking)
    message: bytes | None = initiator.open()
    told: set[bytes] = set()
    reached = BEGINNING
    while message is not None and answers:
        step = initiator.answer(respond(theirs, message, answering))
        told.update(step.have, step.need)
        assert reached <= step.reached
        message, reached, answers = step.next_message, step.reached, answers - 1
    later = Dialogue(mine, theirs, asking, answering, reached)
    found = {*later.have, *later.need}
    assert told | found == ids(sides[0]) ^ ids(sides[1])
    before = ids(record for record in {*mine, *theirs} if (record.timestamp_ms, record.id) < reached)
    assert not found & before


@settings(max_examples=50, deadline=None)
@given(two_sides(), splittings)
def test_once_the_differences_are_carried_over_nothing_differs(
    sides: tuple[list[Record], list[Record]], splitting: Splitting
) -> None:
    mine, theirs = SortedRecords(sides[0]), SortedRecords(sides[1])
    spoken = Dialogue(mine, theirs, splitting)
    known = {record.id: record for record in [*mine, *theirs]}
    mine = mine.with_added(known[entry] for entry in spoken.need)
    theirs = theirs.with_added(known[entry] for entry in spoken.have)
    assert fingerprint_of(mine) == fingerprint_of(theirs)
    again = Dialogue(mine, theirs, splitting)
    assert (again.have, again.need, again.round_trips) == ([], [], 1)


@pytest.mark.parametrize("full_ranges", range(6, 16))
def test_records_behind_the_frame_limit_are_not_lost_where_the_other_side_has_nothing(full_ranges: int) -> None:
    """The published implementations lose them: left out for the limit, then skipped by a fingerprint of nothing."""
    mine = sorted(records_of("behind", 40 * full_ranges + 100))
    theirs = [record for n, record in enumerate(mine[: 40 * full_ranges]) if n % 40]
    starts = [mine[40 * (n + 1)] for n in range(full_ranges)]
    ranges: list[naive.Range] = []
    for n, start in enumerate(starts):
        part = naive.fingerprint(mine[40 * n + 1 : 40 * (n + 1)])
        ranges.append(((start.timestamp_ms, b""), "fingerprint", part))
    ranges.append((naive.END, "fingerprint", naive.fingerprint([])))
    asking = Splitting(frame_limit_bytes=MIN_RECONCILE_FRAME_BYTES)
    initiator = Initiator(SortedRecords(mine), asking)
    step = initiator.answer(naive.encode(ranges))
    have = step.have
    while step.next_message is not None:
        step = initiator.answer(respond(SortedRecords(theirs), step.next_message))
        have = have + step.have
    assert set(have) == ids(mine) - ids(theirs)


# --- how much it costs


@pytest.fixture(scope="module")
def catalogue() -> list[Record]:
    return sorted(records_of("catalogue", 100_000))


def test_a_hundred_recent_entries_cost_one_or_two_round_trips_and_their_ids(catalogue: list[Record]) -> None:
    older, full = SortedRecords(catalogue[:-100]), SortedRecords(catalogue)
    arriving, leaving = Dialogue(older, full), Dialogue(full, older)
    assert len(arriving.need) == len(leaving.have) == 100
    assert arriving.round_trips == 1
    assert leaving.round_trips <= 2
    assert max(arriving.size, leaving.size) <= 5_000


def test_a_hundred_scattered_entries_cost_at_most_six_round_trips_and_60_kb(catalogue: list[Record]) -> None:
    missing = set(random.Random(1).sample(range(len(catalogue)), 100))
    some = SortedRecords(record for n, record in enumerate(catalogue) if n not in missing)
    for spoken in (Dialogue(some, SortedRecords(catalogue)), Dialogue(SortedRecords(catalogue), some)):
        assert len(spoken.have) + len(spoken.need) == 100
        assert spoken.round_trips <= 6
        assert spoken.size <= 60_000


# --- hostile peers


def test_an_unknown_version_is_answered_by_the_one_byte_that_we_speak() -> None:
    assert respond(SortedRecords(), b"\x62whatever") == b"\x61"


@pytest.mark.parametrize("first", [b"\x60", b"\x62", b"\x00", b"\xff"])
def test_an_answer_in_another_version_ends_the_dialogue(first: bytes) -> None:
    with pytest.raises(PeerFault) as fault:
        Initiator(SortedRecords()).answer(first)
    assert fault.value.code is Code.UNKNOWN_FORMAT


MALFORMED = {
    "empty": "",
    "a bound without a mode": "61 00 00",
    "an unknown mode": "61 00 00 03",
    "a prefix that is cut": "61 01 05 0000",
    "a prefix longer than an id": "61 01 21" + "00" * 33 + "00",
    "a prefix at infinity": "61 00 01 07 00",
    "a fingerprint that is cut": "61 00 00 01" + "00" * 15,
    "a list that is cut": "61 00 00 02 02" + "00" * 63,
    "a list that claims to be endless": "61 00 00 02 ff ff ff ff ff ff ff ff 7f",
    "a number that never ends": "61" + "ff" * 20,
    "a timestamp beyond infinity": "61 81 ff ff ff ff ff ff ff ff 7f 00 00 02 00 00",
    "the moment of infinity in figures": "61 82 80 80 80 80 80 80 80 80 00 00 00",
    "a moment after infinity": "61 00 00 00 01 00 00",
    "ranges that go back": "61 02 01 05 00 01 01 04 00",
}


@pytest.mark.parametrize("message", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_message_is_refused_on_both_sides(message: str) -> None:
    records = SortedRecords(records_of("refuse", 50))
    for receive in (lambda data: respond(records, data), Initiator(records).answer):
        with pytest.raises(PeerFault) as fault:
            receive(bytes.fromhex(message))
        assert fault.value.code is Code.MALFORMED


def test_a_number_with_a_leading_zero_digit_is_not_canonical() -> None:
    with pytest.raises(PeerFault) as fault:
        respond(SortedRecords(), bytes.fromhex("61 80 00 00 00"))
    assert fault.value.code is Code.NOT_CANONICAL


def test_a_message_is_refused_at_the_first_byte_too_many() -> None:
    listed = bytes.fromhex("61 00 00 02")
    count = (RECONCILE_FRAME_BYTES - len(listed) - 3) // 32
    fits = listed + naive.digits(count) + bytes(32 * count)
    fits += bytes(3 * ((RECONCILE_FRAME_BYTES - len(fits)) // 3))
    respond(SortedRecords(), fits)
    with pytest.raises(TooLarge) as fault:
        respond(SortedRecords(), fits.ljust(RECONCILE_FRAME_BYTES + 1, b"\0"))
    assert fault.value.code is Code.TOO_LARGE


def test_a_refused_answer_teaches_nothing() -> None:
    initiator = Initiator(SortedRecords())
    listed = bytes.fromhex("61 01 00 02 00 00 00 02 01" + "05" * 32)
    with pytest.raises(PeerFault):
        initiator.answer(listed + b"\0")
    assert initiator.answer(listed).need == [b"\5" * 32]


def test_a_peer_that_never_agrees_is_left_after_a_bounded_number_of_rounds() -> None:
    initiator = Initiator(SortedRecords(records_of("never", 100)))
    disagree = bytes.fromhex("61 00 00 01" + "00" * 16)
    rounds = 1
    while (step := initiator.answer(disagree)).next_message is not None:
        rounds += 1
    assert not step.complete
    assert rounds == MAX_RECONCILE_ROUNDS


def test_a_peer_that_always_names_new_ids_is_left_after_a_bounded_number_of_ids() -> None:
    initiator = Initiator(SortedRecords(records_of("always", 100)))
    chance = random.Random(0)
    learned = 0
    while True:
        listed = b"".join(chance.randbytes(32) for _ in range(8000))
        step = initiator.answer(
            bytes.fromhex("61 01 00 02") + naive.digits(8000) + listed + bytes.fromhex("00 00 01") + bytes(16)
        )
        learned += len(step.need)
        if step.next_message is None:
            break
    assert not step.complete
    assert MAX_RECONCILE_IDS <= learned < MAX_RECONCILE_IDS + 8000


def test_an_id_is_told_once_even_when_a_peer_repeats_its_list() -> None:
    initiator = Initiator(SortedRecords([Record(5, b"\1" * 32)]))
    listed = bytes.fromhex("61 00 00 02 02" + "07" * 32 + "07" * 32)
    first, second = initiator.answer(listed), initiator.answer(listed)
    assert (first.have, first.need) == ([b"\1" * 32], [b"\7" * 32])
    assert (second.have, second.need) == ([], [])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.booleans())
def test_random_bytes_are_answered_or_refused_never_more(noise: bytes, versioned: bool) -> None:
    records = SortedRecords(records_of("noise", 200, 20))
    for receive in (lambda data: respond(records, data), Initiator(records).answer):
        with contextlib.suppress(PeerFault):
            receive(b"a" + noise if versioned else noise)


ranges = st.lists(
    st.tuples(
        st.tuples(st.integers(0, 2**40) | st.just(2**64 - 1), st.binary(max_size=4)),
        st.sampled_from(naive.MODES),
        st.integers(0, 40),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(ranges, st.integers(0, 2**32))
def test_any_well_formed_lie_is_answered_within_the_frame_limit(parts: list[Any], seed: int) -> None:
    chance = random.Random(seed)
    records = SortedRecords(Record(chance.randrange(2**40), chance.randbytes(32)) for _ in range(300))
    told: list[naive.Range] = []
    for (moment, prefix), mode, amount in sorted(parts):
        held = {"skip": None, "fingerprint": chance.randbytes(16), "ids": [chance.randbytes(32) for _ in range(amount)]}
        upper = (moment, b"" if moment == 2**64 - 1 else prefix.rstrip(b"\0"))
        told.append((upper, mode, held[mode]))
    told.sort(key=lambda part: part[0])
    message = naive.encode(told)
    tight = Splitting(frame_limit_bytes=MIN_RECONCILE_FRAME_BYTES)
    answer = respond(records, message, tight)
    assert len(answer) <= MIN_RECONCILE_FRAME_BYTES
    naive.decode(answer)
    step = Initiator(records, tight).answer(message)
    assert set(step.have) <= ids(records)
    assert step.next_message is None or len(step.next_message) <= MIN_RECONCILE_FRAME_BYTES


@pytest.mark.parametrize(
    "choice",
    [
        {"branching": 1},
        {"branching": 33},
        {"id_list_below": 1},
        {"id_list_below": 101},
        {"frame_limit_bytes": 4095},
        {"frame_limit_bytes": RECONCILE_FRAME_BYTES + 1},
    ],
)
def test_a_splitting_that_could_not_make_progress_is_our_own_mistake(choice: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="out of range"):
        Splitting(**cast("dict[str, Any]", choice))


# --- records in memory


@settings(max_examples=100, deadline=None)
@given(small_sets, st.lists(small_sets, max_size=3), st.integers(0, 400))
def test_records_added_in_any_order_and_portions_make_the_same_view(
    first: list[Record], more: list[list[Record]], bulk: int
) -> None:
    everything = {*first, *records_of("bulk", bulk, 2**63)}
    grown = SortedRecords(everything)
    for portion in more:
        everything |= set(portion)
        grown = grown.with_added(portion)
    ordered = sorted(everything)
    at_once = SortedRecords(reversed(ordered))
    view: RangeView
    for view in (grown, at_once):
        assert len(view) == len(ordered)
        assert [view.record(index) for index in range(len(view))] == ordered
        assert list(view.ids(0, len(view))) == [record.id for record in ordered]
        assert view.index_of(INFINITY) == len(ordered)
        assert view.index_of(Bound(0, b"")) == 0
    assert list(grown) == list(at_once) == ordered
    chance = random.Random(bulk)
    for _ in range(20):
        low, high = sorted(chance.choices(range(len(ordered) + 1), k=2))
        expected = naive.fingerprint(ordered[low:high])
        assert grown.fingerprint(low, high) == at_once.fingerprint(low, high) == expected
        assert list(grown.ids(low, high)) == [record.id for record in ordered[low:high]]
        if ordered:
            moment, name = chance.choice(ordered)
            bound = Bound(moment, name[: chance.randrange(33)])
            place = sum(record < (moment, bound.prefix.ljust(32, b"\0")) for record in ordered)
            assert grown.index_of(bound) == at_once.index_of(bound) == place


def test_adding_leaves_the_old_view_as_it_was() -> None:
    old = SortedRecords(records_of("old", 500))
    before = fingerprint_of(old)
    new = old.with_added(records_of("new", 500))
    assert (len(old), fingerprint_of(old)) == (500, before)
    assert len(new) == 1000


@pytest.mark.parametrize("record", [Record(2**64 - 1, bytes(32)), Record(-1, bytes(32)), Record(0, bytes(31))])
def test_what_the_order_cannot_hold_is_our_own_mistake(record: Record) -> None:
    with pytest.raises(ValueError, match="not a record"):
        SortedRecords([record])


@pytest.mark.parametrize("frame_limit_bytes", [4096, 262_144])
def test_whoever_takes_no_fingerprint_for_equality_has_every_id_listed(frame_limit_bytes: int) -> None:
    mine, theirs = SortedRecords(records_of("both", 900)), SortedRecords(records_of("both", 900) + records_of("new", 3))
    answering = Splitting(frame_limit_bytes=frame_limit_bytes)
    initiator = Initiator(mine, LISTING)
    message: bytes | None = initiator.open()
    need: list[bytes] = []
    listed_bytes = 0
    while message is not None:
        answer = respond(theirs, message, answering)
        listed_bytes += len(answer)
        step = initiator.answer(answer)
        need += step.need
        assert not step.have
        message = step.next_message
    assert step.complete
    assert set(need) == ids(records_of("new", 3))
    assert listed_bytes > 32 * len(theirs)


def test_a_set_is_compared_by_a_hash_of_its_records_in_order() -> None:
    records = records_of("set", 300)
    whole = fingerprint_of(SortedRecords(records))
    assert fingerprint_of(SortedRecords(reversed(records[:150])).with_added(records[150:])) == whole
    assert (
        fingerprint_of(SortedRecords(records[1:])) == fingerprint_of(SortedRecords(records), [records[0].id]) != whole
    )
    assert fingerprint_of(SortedRecords()) == blake3(b"relais/0 set").digest()[:16]


def test_what_one_side_alone_has_breaks_no_dialogue_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol.reconcile.negentropy.MAX_RECONCILE_IDS", 50)
    theirs = records_of("both", 300) + records_of("word", 1)
    mine = records_of("both", 300) + records_of("flood", 900)
    spoken = Dialogue(SortedRecords(mine), SortedRecords(theirs), ASKING)
    assert set(spoken.need) == ids(records_of("word", 1))
    assert set(spoken.have) == ids(records_of("flood", 900))


def test_what_is_never_taken_keeps_nothing_behind_it_from_being_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol.reconcile.negentropy.MAX_RECONCILE_IDS", 50)
    mine, theirs = SortedRecords(), SortedRecords(records_of("refused", 900))
    answering = Splitting(frame_limit_bytes=MIN_RECONCILE_FRAME_BYTES)
    need: list[bytes] = []
    reached = BEGINNING
    while reached != INFINITY:
        part = Dialogue(mine, theirs, LISTING, answering, reached)
        assert part.reached > reached
        need += part.need
        reached = part.reached
    assert sorted(need) == sorted(ids(theirs))
