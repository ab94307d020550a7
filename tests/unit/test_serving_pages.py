"""The answering side of sync: pages of entries in order of arrival, and the cursors that say how far (R10, R12)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import pytest_asyncio

from protocol.errors import PeerFault
from protocol.messages.calls import SyncAnswer, SyncRequest
from protocol.model.entry import Kind
from protocol.model.structure import PersonRecord, Revocation
from protocol.reconcile.checkpoint import Cursor, standing_of
from protocol.replica.answering.named_cursors import NamedCursors
from protocol.replica.interfaces import Stored
from protocol.roles import PersonRole, Role
from tests.harness.entries import SOME_WORK
from tests.harness.serving_desk import Desk, entries_of, page_of, serving_desk


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with serving_desk(tmp_path) as found:
        yield found


# --- pages ------------------------------------------------------------------------------------------------------------


async def test_pages_bring_every_entry_once_in_order_of_arrival_parents_first(desk: Desk) -> None:
    for number in range(40):
        record = PersonRecord("é" * 190, PersonRole.PUPIL).encode()
        await desk.territory.say(desk.room, Kind.PERSON, record, subject=bytes([number]) * 16)
    answers = await desk.machine.catch_up()
    school = desk.territory.schools[0]
    expected = [*await desk.names(desk.territory.id), *await desk.names(school), *await desk.names()]
    assert [name for answer in answers for name in entries_of(answer)] == expected


@pytest.mark.parametrize("room", [1, 700, 2_000])
async def test_whatever_a_page_holds_nothing_is_skipped_and_nothing_comes_twice(
    desk: Desk, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.replica.answering.news.PAGE_BYTES", room)
    answers: list[SyncAnswer] = []
    arrived = 0
    while not answers or answers[-1].more:
        answer = await desk.machine.sync(
            SyncRequest(generation=desk.machine.generation, cursors=tuple(desk.machine.cursors.values()))
        )
        desk.machine.take(answer)
        answers.append(answer)
        if answer.more and arrived < 5:
            arrived += 1
            await desk.territory.say(desk.territory.id if arrived % 2 else desk.room, Kind.PERSON, b"\x80")
    names = [name for answer in answers for name in entries_of(answer)]
    spaces = (desk.territory.id, desk.territory.schools[0], desk.room)
    assert sorted(names) == sorted([name for space in spaces for name in await desk.names(space)])
    assert len(answers) > 1
    for answer in answers:
        assert answer.more or not any(page.more for page in answer.pages)


async def test_what_was_just_pushed_does_not_come_back_and_the_cursor_counts_it(desk: Desk) -> None:
    quiet = await desk.standing(desk.machine)
    work = desk.machine.say(desk.room, Kind.HAND_IN, SOME_WORK)
    answer = await desk.machine.sync(replace(quiet, push=(work,)))
    page = page_of(answer, desk.room)
    assert page is not None
    assert page.entries == ()
    assert page.checkpoint.count == len(await desk.names())
    desk.machine.take(answer)
    assert await desk.machine.sync(replace(quiet, cursors=tuple(desk.machine.cursors.values()))) == SyncAnswer(
        time_ms=desk.territory.clock()
    )


@pytest.mark.parametrize("prefix", [True, False])
async def test_a_quiet_sync_says_nothing_but_the_time(desk: Desk, prefix: bool) -> None:
    quiet = await desk.standing(desk.machine, prefix=prefix)
    assert await desk.machine.sync(quiet) == SyncAnswer(time_ms=desk.territory.clock())


async def test_who_stands_where_this_replica_stands_hears_nothing_but_the_time(desk: Desk) -> None:
    quiet = await desk.standing(desk.machine)
    stands = replace(
        quiet, cursors=(), standing=await standing_in(desk, *desk.territory.replica.door.lineage(desk.room))
    )
    assert await desk.machine.sync(stands) == SyncAnswer(time_ms=desk.territory.clock())


async def test_who_stands_elsewhere_is_asked_for_cursors_and_hears_nothing_else(desk: Desk) -> None:
    quiet = await desk.standing(desk.machine)
    right = await standing_in(desk, *desk.territory.replica.door.lineage(desk.room))
    fewer = await standing_in(desk, desk.room)
    unlike = SyncAnswer(time_ms=desk.territory.clock(), unlike=True)
    for standing, generation in ((fewer, quiet.generation), (bytes(16), quiet.generation), (right, bytes(8))):
        asked = SyncRequest(generation=generation, standing=standing)
        assert await desk.machine.sync(asked) == unlike
    await desk.territory.say(desk.room, Kind.PERSON, b"\x80")
    assert await desk.machine.sync(SyncRequest(generation=quiet.generation, standing=right)) == unlike


async def standing_in(desk: Desk, *spaces: bytes) -> bytes:
    places = [(space, await desk.territory.replica.position(space)) for space in spaces]
    return standing_of((space, position.count, position.chain) for space, position in places)


async def test_a_page_leads_to_the_set_whose_fingerprint_it_shows(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    store = desk.territory.replica.store
    page = store.page

    async def page_then_news(space: bytes, after: int, max_bytes: int) -> list[Stored]:
        found = await page(space, after, max_bytes)
        if space == desk.room:
            await desk.territory.say(desk.room, Kind.PERSON, b"\x80")
        return found

    monkeypatch.setattr(store, "page", page_then_news)
    answer = await desk.machine.sync()
    found = page_of(answer, desk.room)
    assert found is not None
    assert found.more, "what came meanwhile is announced"
    assert answer.more
    monkeypatch.undo()
    desk.machine.take(answer)
    (rest,) = await desk.machine.catch_up()
    last = page_of(rest, desk.room)
    assert last is not None
    assert not last.more
    assert last.checkpoint.fingerprint == await desk.territory.replica.fingerprint(desk.room)


# --- cursors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("generation", "count", "chain"),
    [(bytes(8), 0, None), (None, 0, bytes(8)), (None, 1_000, None), (None, 2**63, None)],
)
async def test_a_cursor_that_this_store_did_not_give_is_stale(
    desk: Desk, generation: bytes | None, count: int, chain: bytes | None
) -> None:
    quiet = await desk.standing(desk.machine)
    cursors = tuple(
        replace(cursor, count=cursor.count + count, chain=chain or cursor.chain)
        if cursor.space == desk.room or generation
        else cursor
        for cursor in quiet.cursors
    )
    request = replace(quiet, generation=generation or quiet.generation, cursors=cursors)
    if count >= 2**63 - 1:
        with pytest.raises(PeerFault):
            await desk.machine.sync(request)
        return
    answer = await desk.machine.sync(request)
    expected = [desk.territory.id, desk.territory.schools[0], desk.room] if generation else [desk.room]
    assert list(answer.stale) == expected
    assert not any(page.checkpoint.space in expected for page in answer.pages)


async def test_a_space_that_the_caller_lost_is_closed_and_the_others_go_on(desk: Desk) -> None:
    other = await desk.territory.classroom("CM2")
    await desk.machine.enter(Role.MACHINE, other)
    for prefix in (True, False):
        quiet = await desk.standing(desk.machine, prefix=prefix)
        if not prefix:
            break
        await desk.territory.say(other, Kind.REVOKE, Revocation(desk.machine.id, ()).encode())
        answer = await desk.machine.sync(quiet)
        assert answer.closed == (other,)
        assert page_of(answer, other) is None
    whole = replace(quiet, cursors=(*quiet.cursors, Cursor(other, 1, bytes(8), complete=False)))
    await desk.territory.say(desk.room, Kind.PERSON, b"\x80")
    answer = await desk.machine.sync(whole)
    assert answer.closed == (other,)
    assert page_of(answer, desk.room) is not None


async def test_nobody_learns_of_spaces_that_it_does_not_name(desk: Desk) -> None:
    await desk.territory.classroom("CM2")
    unknown = (Cursor(bytes(32), 1, bytes(8), complete=True), Cursor(bytes(4), 1, bytes(8), complete=True))
    answer = await desk.machine.sync(SyncRequest(cursors=unknown))
    assert answer.closed == ()
    assert {page.checkpoint.space for page in answer.pages} == {
        desk.territory.id,
        desk.territory.schools[0],
        desk.room,
    }


async def test_many_cursors_and_many_spaces_are_matched_without_comparing_each_with_each(desk: Desk) -> None:
    made = Random(4)
    cursors = tuple(_CountedCursor(made.randbytes(32), 1, bytes(8), complete=True) for _ in range(500))
    for number in range(60):
        await desk.territory.classroom(f"CE{number}")
    readable = await desk.territory.replica.readable(desk.machine.id)
    _CountedCursor.looks = 0
    desk.responder._closed(NamedCursors(cursors), readable)
    assert _CountedCursor.looks < 4 * len(cursors)


class _CountedCursor(Cursor):
    looks = 0

    def __getattribute__(self, name: str) -> object:
        if name == "space":
            _CountedCursor.looks += 1
        return super().__getattribute__(name)
