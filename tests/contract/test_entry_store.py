"""What every `EntryStore` must do; the numbers in brackets are those of `protocol.replica.interfaces`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol.limits import CURSOR_HASH_BYTES
from protocol.model.entry import Entry, Kind
from protocol.replica.interfaces import EntryStore, Held, Position
from protocol.replica.storage.memory import MemoryStore
from protocol.replica.storage.sqlite import SqliteStore
from tests.harness.entries import NOTHING, OTHER_SPACE, SPACE, START_MS, EntryMaker, bare, ids_of, register


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EntryStore]:
    opened: EntryStore = MemoryStore() if request.param == "memory" else await SqliteStore.open(tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
def make() -> EntryMaker:
    return EntryMaker()


# --- the set [1, 2] ---------------------------------------------------------------------------------------------------


async def test_what_was_appended_is_there_byte_for_byte(store: EntryStore, make: EntryMaker) -> None:
    entries = [*make.entries(3), make.entry(payload=b""), bare(make.entry())]
    await store.append(entries)
    assert await store.get(ids_of(entries)) == {entry.id: entry for entry in entries}


async def test_arrival_numbers_count_from_one_in_each_space(store: EntryStore, make: EntryMaker) -> None:
    first, second, other = make.entry(), make.entry(), make.entry(OTHER_SPACE)
    stored = await store.append([first, other, second])
    assert [(one.arrival, one.entry) for one in stored] == [(1, first), (1, other), (2, second)]
    later = make.entry()
    assert [one.arrival for one in await store.append([later])] == [3]
    assert await store.spaces() == {SPACE: 3, OTHER_SPACE: 1}


async def test_what_an_author_had_brought_by_then_is_known_unless_the_order_is_another(
    store: EntryStore, make: EntryMaker
) -> None:
    assert await store.latest() is None
    early, elsewhere = make.entry(), make.entry(OTHER_SPACE)
    await store.append([early, elsewhere])
    then = await store.latest()
    assert then is not None
    assert then[1] == elsewhere.id
    author = early.header.author
    await store.append([make.entry()])
    assert await store.authored_by_then(author, then) == {early.id, elsewhere.id}
    assert await store.authored_by_then(bytes(32), then) == set()
    assert await store.authored_by_then(author, (then[0], early.id)) is None


async def test_an_entry_that_was_bare_gets_its_payload_and_keeps_its_place(store: EntryStore, make: EntryMaker) -> None:
    first, second = make.entry(), make.entry()
    await store.append([bare(first), second])
    assert await store.bare() == [bare(first)]
    await store.set_marks({"gone": b"1"})
    await store.fill([first, second], {"gone": None, "came": b"2"})
    assert (await store.mark("gone"), await store.mark("came")) == (None, b"2")
    assert [(one.arrival, one.entry) for one in await store.scan(SPACE)] == [(1, first), (2, second)]
    assert await store.bare() == []


async def test_an_entry_that_is_present_is_passed_over_and_keeps_its_number(
    store: EntryStore, make: EntryMaker
) -> None:
    first, second = make.entries(2)
    await store.append([first])
    stored = await store.append([second, first, second])
    assert [(one.arrival, one.entry.id) for one in stored] == [(2, second.id)]
    assert ids_of(one.entry for one in await store.scan(SPACE)) == [first.id, second.id]
    assert await store.append([first, second]) == []


async def test_present_and_get_know_only_what_is_in_the_set(store: EntryStore, make: EntryMaker) -> None:
    known, unknown = make.entries(700), make.entries(700)
    await store.append(known)
    asked = ids_of(known[::2] + unknown)
    assert await store.present(asked) == set(ids_of(known[::2]))
    assert (await store.get(asked)).keys() == set(ids_of(known[::2]))
    assert await store.present([]) == set()
    assert await store.get([]) == {}


async def test_a_large_batch_keeps_its_order(store: EntryStore, make: EntryMaker) -> None:
    entries = make.entries(1_234)
    await store.append(entries)
    assert [one.entry for one in await store.scan(SPACE)] == entries
    assert [one.arrival for one in await store.scan(SPACE)] == list(range(1, 1_235))


# --- position and chain [3] -------------------------------------------------------------------------------------------


async def test_a_space_without_entries_stands_at_zero(store: EntryStore) -> None:
    assert await store.position(SPACE) == Position(0, NOTHING)
    assert await store.chain_at(SPACE, 0) == NOTHING
    assert await store.chain_at(SPACE, 1) is None


async def test_the_chain_is_a_hash_of_the_arrivals_so_far(store: EntryStore, make: EntryMaker) -> None:
    entries = make.entries(3)
    await store.append(entries[:2])
    await store.append([make.entry(OTHER_SPACE), entries[2]])
    chain = bytes(32)
    for count, entry in enumerate(entries, 1):
        chain = blake3(chain + entry.id).digest()
        assert await store.chain_at(SPACE, count) == chain[:CURSOR_HASH_BYTES]
    assert await store.position(SPACE) == Position(3, chain[:CURSOR_HASH_BYTES])
    assert await store.chain_at(SPACE, 4) is None


async def test_the_same_set_in_another_order_has_another_chain(tmp_path: Path, make: EntryMaker) -> None:
    entries = make.entries(2)
    one, other = MemoryStore(), await SqliteStore.open(tmp_path)
    await one.append(entries)
    await other.append(entries[::-1])
    assert await one.position(SPACE) != await other.position(SPACE)
    await other.close()


# --- pages and scans --------------------------------------------------------------------------------------------------


async def test_pages_bring_everything_once_and_stay_within_their_size(store: EntryStore, make: EntryMaker) -> None:
    entries = [make.entry(payload=bytes(make.random.randrange(900))) for _ in range(60)]
    await store.append(entries)
    after, seen = 0, []
    while page := await store.page(SPACE, after, 4_000):
        assert sum(one.entry.wire_bytes for one in page) <= 4_000
        seen += page
        after = page[-1].arrival
    assert [one.entry for one in seen] == entries
    assert len(seen) > len(page)


async def test_a_page_brings_one_entry_even_if_it_is_larger_than_the_page(store: EntryStore, make: EntryMaker) -> None:
    large, small = make.entry(payload=bytes(60_000)), make.entry()
    await store.append([large, small])
    assert [one.entry.id for one in await store.page(SPACE, 0, 100)] == [large.id]
    assert await store.page(SPACE, 2, 100) == []


async def test_a_page_that_fits_to_the_byte_is_whole(store: EntryStore, make: EntryMaker) -> None:
    entries = make.entries(3)
    await store.append(entries)
    size = sum(entry.wire_bytes for entry in entries[:2])
    assert len(await store.page(SPACE, 0, size)) == 2
    assert len(await store.page(SPACE, 0, size - 1)) == 1


async def test_a_scan_begins_after_the_number_it_is_given(store: EntryStore, make: EntryMaker) -> None:
    entries = make.entries(4)
    await store.append(entries)
    assert [one.arrival for one in await store.scan(SPACE, after=2)] == [3, 4]
    assert await store.scan(OTHER_SPACE) == []


async def test_of_some_kinds_a_scan_gives_what_one_space_holds_in_order_of_arrival(
    store: EntryStore, make: EntryMaker
) -> None:
    first, grant, second = (
        make.entry(kind=Kind.SPACE_WRAP),
        make.entry(kind=Kind.GRANT),
        make.entry(kind=Kind.SPACE_KEY),
    )
    elsewhere = make.entry(OTHER_SPACE, kind=Kind.SPACE_WRAP)
    await store.append([first, grant, elsewhere, second])
    kinds = frozenset({Kind.SPACE_KEY, Kind.SPACE_WRAP})
    found = await store.of_kinds(SPACE, kinds)
    assert [(one.arrival, one.entry) for one in found] == [(1, first), (3, second)]
    assert [one.entry for one in await store.of_kinds(SPACE, kinds, after=1)] == [second]
    assert await store.of_kinds(SPACE, frozenset()) == []


async def test_kinds_are_found_in_all_spaces_in_order_of_arrival(store: EntryStore, make: EntryMaker) -> None:
    grant, person, revision, later = (
        make.entry(kind=Kind.GRANT),
        make.entry(OTHER_SPACE, kind=Kind.PERSON),
        make.entry(kind=Kind.REVISION),
        make.entry(kind=Kind.GRANT),
    )
    await store.append([person, grant, revision, later])
    assert ids_of(await store.scan_kinds([Kind.GRANT, Kind.PERSON])) == [person.id, grant.id, later.id]
    assert await store.scan_kinds([]) == []
    then = await store.latest()
    assert then is not None
    assert await store.scan_kinds([Kind.GRANT], after=then[0]) == []
    newest = make.entry(OTHER_SPACE, kind=Kind.GRANT)
    await store.append([newest, make.entry(kind=Kind.PERSON)])
    assert await store.scan_kinds([Kind.GRANT], after=then[0]) == [newest]
    assert await store.scan_kinds([Kind.ERASE]) == []


async def test_an_authors_entries_are_those_of_one_space(store: EntryStore, make: EntryMaker) -> None:
    mine, other, elsewhere, again = make.entry(), make.entry(author=1), make.entry(OTHER_SPACE), make.entry()
    await store.append([mine, other, elsewhere, again])
    assert ids_of(await store.authored(SPACE, make.authors[0].public)) == [mine.id, again.id]
    assert await store.authored(SPACE, make.authors[2].public) == []


async def test_times_are_those_that_reconciliation_sorts_by(store: EntryStore, make: EntryMaker) -> None:
    entries = [make.entry(at_ms=START_MS + offset) for offset in (5, 0, 3, 3)]
    await store.append([*entries, make.entry(OTHER_SPACE)])
    assert sorted(await store.times(SPACE)) == sorted((entry.timestamp_ms, entry.id) for entry in entries)


# --- the outbox -------------------------------------------------------------------------------------------------------


async def test_the_outbox_holds_what_was_written_here_until_it_is_sent(store: EntryStore, make: EntryMaker) -> None:
    received, written = make.entries(2), make.entries(3)
    await store.append(received)
    await store.append(written[:2], unsent=True)
    await store.append([written[0], received[0], written[2]], unsent=True)
    assert ids_of(await store.unsent(1 << 20)) == ids_of(written)
    assert await store.unsent_totals() == (3, sum(entry.wire_bytes for entry in written))
    await store.mark_sent([written[1].id, received[0].id, bytes(32)])
    assert ids_of(await store.unsent(1 << 20)) == [written[0].id, written[2].id]


async def test_what_the_outbox_holds_is_told_by_space(store: EntryStore, make: EntryMaker) -> None:
    assert not await store.unsent_ids()
    here, there = make.entries(2), make.entry(OTHER_SPACE)
    await store.append([*here, there], unsent=True)
    await store.mark_sent([here[0].id])
    assert await store.unsent_ids() == {SPACE: {here[1].id}, OTHER_SPACE: {there.id}}


async def test_the_outbox_is_taken_in_bounded_portions_of_at_least_one(store: EntryStore, make: EntryMaker) -> None:
    written = [make.entry(payload=bytes(3_000)) for _ in range(3)]
    await store.append(written, unsent=True)
    assert ids_of(await store.unsent(100)) == [written[0].id]
    assert ids_of(await store.unsent(2 * written[0].wire_bytes)) == ids_of(written[:2])


async def test_what_the_server_lost_goes_back_into_the_outbox(store: EntryStore, make: EntryMaker) -> None:
    entries = make.entries(3)
    await store.append(entries)
    await store.mark_unsent([entries[2].id, entries[0].id, bytes(32)])
    await store.mark_unsent([entries[0].id])
    assert ids_of(await store.unsent(1 << 20)) == [entries[0].id, entries[2].id]
    assert await store.unsent_totals() == (2, entries[0].wire_bytes + entries[2].wire_bytes)
    await store.mark_sent(ids_of(entries))
    assert await store.unsent_totals() == (0, 0)
    assert await store.unsent(100) == []


# --- quarantine -------------------------------------------------------------------------------------------------------


async def test_quarantine_keeps_entries_outside_the_set(store: EntryStore, make: EntryMaker) -> None:
    entry, waiting = make.entry(), bare(make.entry())
    held = [Held(b"peer", entry, b"g" * 32), Held(b"peer", waiting, None)]
    assert await store.hold(held, max_entries=10, max_bytes=10_000) == []
    assert await store.held() == held
    assert await store.held({waiting.id, bytes(32)}) == held[1:]
    assert await store.held(ids_of([waiting, entry])) == held
    assert await store.held(()) == []
    assert await store.present([entry.id]) == set()
    assert await store.spaces() == {}


async def test_quarantine_is_bounded_for_each_source(store: EntryStore, make: EntryMaker) -> None:
    many = make.entries(4)
    refused = await store.hold([Held(b"a", entry, None) for entry in many], max_entries=3, max_bytes=1 << 20)
    assert refused == [many[3].id]
    assert await store.hold([Held(b"b", many[3], None)], max_entries=3, max_bytes=1 << 20) == []
    large, small = make.entry(payload=bytes(5_000)), make.entry(payload=b"")
    assert await store.hold([Held(b"c", large, None)], max_entries=3, max_bytes=large.wire_bytes - 1) == [large.id]
    assert await store.hold([Held(b"c", large, None)], max_entries=3, max_bytes=large.wire_bytes) == []
    assert await store.hold([Held(b"c", small, None)], max_entries=3, max_bytes=large.wire_bytes) == [small.id]


async def test_an_entry_waits_once_for_what_it_waits_for_last(store: EntryStore, make: EntryMaker) -> None:
    entry = make.entry()
    for source, missing in ((b"a", b"1" * 32), (b"b", b"2" * 32)):
        assert await store.hold([Held(source, entry, missing)], max_entries=1, max_bytes=10_000) == []
    assert await store.held() == [Held(b"a", entry, b"2" * 32)]


async def test_a_bare_header_in_quarantine_gives_way_to_the_whole_entry(store: EntryStore, make: EntryMaker) -> None:
    entry = make.entry()
    await store.hold([Held(b"a", bare(entry), None)], max_entries=1, max_bytes=10_000)
    too_little = bare(entry).wire_bytes
    assert await store.hold([Held(b"b", entry, None)], max_entries=1, max_bytes=too_little) == [entry.id]
    assert await store.hold([Held(b"b", entry, None)], max_entries=1, max_bytes=10_000) == []
    assert await store.hold([Held(b"a", bare(entry), b"3" * 32)], max_entries=1, max_bytes=10_000) == []
    assert await store.held() == [Held(b"b", entry, b"3" * 32)]


async def test_what_leaves_quarantine_makes_room(store: EntryStore, make: EntryMaker) -> None:
    first, second, third = make.entries(3)
    await store.hold([Held(b"a", first, None), Held(b"a", second, None)], max_entries=2, max_bytes=10_000)
    await store.drop_held([first.id])
    assert await store.hold([Held(b"a", third, None)], max_entries=2, max_bytes=10_000) == []


async def test_released_entries_leave_quarantine_with_the_append(store: EntryStore, make: EntryMaker) -> None:
    one, two, three = make.entries(3)
    await store.hold([Held(b"a", entry, None) for entry in (one, two, three)], max_entries=9, max_bytes=10_000)
    await store.append([one], release=[one.id])
    await store.drop_held([three.id, bytes(32)])
    assert [held.entry.id for held in await store.held()] == [two.id]


# --- marks and registers ----------------------------------------------------------------------------------------------


async def test_marks_are_set_replaced_and_deleted(store: EntryStore) -> None:
    await store.set_marks({"a": b"1", "b": b""})
    await store.set_marks({"a": b"2", "b": None, "never": None})
    assert await store.mark("a") == b"2"
    assert await store.mark("b") is None


async def test_marks_that_say_something_else_by_now_are_not_dropped(store: EntryStore) -> None:
    await store.set_marks({"same": b"1", "other": b"1", "empty": b""})
    await store.set_marks({"other": b"2"})
    await store.drop_marks({"same": b"1", "other": b"1", "empty": b"", "never": b"1"})
    assert await store.marks("") == {"other": b"2"}


async def test_marks_are_found_by_the_beginning_of_their_key(store: EntryStore) -> None:
    await store.set_marks(
        {"cursor/a": b"1", "cursor/é": b"2", "cursor": b"3", "cursos": b"4", "d": b"5", "Cursor/": b"6"}
    )
    assert await store.marks("cursor/") == {"cursor/a": b"1", "cursor/é": b"2"}
    assert len(await store.marks("")) == 6
    assert await store.marks("x") == {}


async def test_marks_are_set_with_the_append(store: EntryStore, make: EntryMaker) -> None:
    await store.append(make.entries(1), marks={"cursor": b"7"})
    await store.append([], marks={"other": b"8"})
    assert await store.marks("") == {"cursor": b"7", "other": b"8"}


async def test_only_the_newest_register_is_kept(store: EntryStore) -> None:
    old, new = register(10, b"z"), register(20, b"a")
    assert await store.put_registers([old]) == [old]
    assert await store.put_registers([new, old]) == [new]
    assert await store.put_registers([new]) == []
    assert await store.registers() == [new]


async def test_two_registers_of_one_moment_end_the_same_in_every_order(store: EntryStore) -> None:
    low, high = register(10, b"a"), register(10, b"b")
    await store.put_registers([high, low])
    assert await store.registers() == [high]


async def test_registers_are_found_by_kind_and_time(store: EntryStore) -> None:
    rows = [register(10), register(20, device=b"e" * 32), register(30, kind=2)]
    await store.put_registers(rows)
    assert await store.registers() == rows
    assert await store.registers(kind=1) == rows[:2]
    assert await store.registers(since_ms=20) == rows[1:]
    assert await store.registers(kind=1, since_ms=21) == []


async def test_registers_of_some_devices_go_and_those_of_others_stay(store: EntryStore) -> None:
    rows = [register(10), register(20, device=b"e" * 32), register(30, kind=2)]
    await store.put_registers(rows)
    await store.drop_registers({rows[0].device})
    assert await store.registers() == [rows[1]]
    assert await store.put_registers([rows[0]]) == [rows[0]], "it may come again"


async def test_a_sound_store_has_nothing_to_report(store: EntryStore, make: EntryMaker) -> None:
    await store.append([*make.entries(250), bare(make.entry(OTHER_SPACE))])
    assert await store.verify() == []


# --- both implementations agree ---------------------------------------------------------------------------------------

POOL_MAKER = EntryMaker(7)
POOL = [POOL_MAKER.entry(space) for space in (SPACE, OTHER_SPACE) * 5]


@given(batches=st.lists(st.tuples(st.lists(st.sampled_from(POOL), max_size=6), st.booleans()), max_size=6))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
async def test_disk_and_memory_agree_after_any_appends(
    batches: list[tuple[list[Entry], bool]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    durable, memory = await SqliteStore.open(tmp_path_factory.mktemp("store")), MemoryStore()
    for entries, unsent in batches:
        assert await durable.append(entries, unsent=unsent) == await memory.append(entries, unsent=unsent)
    for space in (SPACE, OTHER_SPACE):
        assert await durable.position(space) == await memory.position(space)
        assert await durable.scan(space) == await memory.scan(space)
    assert await durable.unsent(2_000) == await memory.unsent(2_000)
    assert await durable.spaces() == await memory.spaces()
    await durable.close()


# --- erasing ----------------------------------------------------------------------------------------------------------


async def test_what_is_erased_leaves_its_header_its_place_and_the_set(store: EntryStore, make: EntryMaker) -> None:
    first, second = make.entries(2)
    await store.append([first, second])
    before = await store.position(SPACE)
    await store.erase([first.id, b"?" * 32], {"read": b"2"})
    assert await store.get([first.id, second.id]) == {first.id: bare(first), second.id: second}
    assert [stored.entry for stored in await store.scan(SPACE)] == [bare(first), second]
    assert await store.position(SPACE) == before
    assert await store.mark("read") == b"2"
    await store.append([first])
    assert (await store.get([first.id]))[first.id].payload is None
    assert await store.verify() == []


async def test_a_store_counts_what_each_author_wrote_of_some_classes(store: EntryStore) -> None:
    maker = EntryMaker()
    counted = [maker.entry(kind=kind, author=0) for kind in (Kind.HAND_IN, Kind.RECEIPT_SAFE)]
    other = maker.entry(kind=Kind.WRAP, author=1)
    await store.append([*counted, other, maker.entry(kind=Kind.REVISION), maker.entry(OTHER_SPACE, kind=Kind.WRAP)])
    assert await store.written(SPACE, (4, 5)) == {
        maker.authors[0].public: (2, sum(entry.header.size for entry in counted)),
        maker.authors[1].public: (1, other.header.size),
    }
    assert await store.written(bytes(32), (4, 5)) == {}
