"""A replica that writes: its own entries in one line, branches that come back, its clock (R6, R7)."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from protocol.clock import at_from, milliseconds_of
from protocol.errors import Code, LocalFailure
from protocol.limits import MAX_PREV
from protocol.model.entry import Kind, compose
from protocol.model.structure import SpaceRecord
from protocol.replica.at_work.replica import Draft, Replica
from protocol.roles import Role
from tests.harness.history import NOW_MS, YEAR_MS, World, Writer
from tests.harness.small_replica import admit, at_work, draft, ids, lesson, members, opened, quarantine, say

HOUR_MS = 3600 * 1000


@pytest.fixture
def world() -> World:
    return World(Random(21))


# --- what this device writes ------------------------------------------------------------------------------------------


async def test_what_is_written_together_is_kept_together_or_not_at_all(world: World) -> None:
    replica, teacher = await at_work(world)
    drafts = [draft(teacher), Draft(teacher.space, Kind.SPACE, teacher.grant, SpaceRecord("CE1").encode())]
    before = await members(replica)
    with pytest.raises(LocalFailure) as caught:
        await replica.write(drafts, author=teacher.key, now_ms=NOW_MS, entropy=Random(1).randbytes)
    assert caught.value.code is Code.INTERNAL
    assert await members(replica) == before
    assert await replica.store.unsent_totals() == (0, 0)
    waiting = Draft(bytes(32), Kind.REVISION, teacher.grant, lesson())
    with pytest.raises(LocalFailure):
        await replica.write([draft(teacher), waiting], author=teacher.key, now_ms=NOW_MS, entropy=Random(1).randbytes)
    assert await members(replica) == before
    assert await quarantine(replica) == []


async def test_own_entries_follow_one_another(world: World) -> None:
    replica, teacher = await at_work(world)
    one, two = await say(replica, teacher, "un", "deux")
    (three,) = await say(replica, teacher, "trois", seed=2)
    assert (one.header.prev, two.header.prev, three.header.prev) == ((), (one.id,), (two.id,))
    assert one.header.at < two.header.at < three.header.at
    assert await replica.tips(teacher.space, teacher.key.public) == [three.id]
    assert ids(await replica.store.unsent(10**6)) == [one.id, two.id, three.id]


async def test_a_draft_about_the_one_before_it_names_it(world: World) -> None:
    replica, teacher = await at_work(world)
    item, switch = await replica.write(
        [draft(teacher), Draft(teacher.space, Kind.WITHDRAW, teacher.grant, b"\x80", of_previous=True)],
        author=teacher.key,
        now_ms=NOW_MS,
        entropy=Random(1).randbytes,
        unsent=False,
        marks=lambda entries: {"first": entries[0].id},
    )
    assert switch.header.target == item.id
    assert await replica.store.mark("first") == item.id
    assert await replica.store.unsent_totals() == (0, 0)


async def test_many_who_write_at_once_make_one_line(world: World) -> None:
    replica, teacher = await at_work(world)
    written = await asyncio.gather(*(say(replica, teacher, str(n), seed=n) for n in range(20)))
    entries = sorted((entries[0] for entries in written), key=lambda entry: entry.header.at)
    assert [entry.header.prev for entry in entries] == [(), *((entry.id,) for entry in entries[:-1])]


async def test_a_machine_that_forgot_names_both_branches_once_its_lost_entries_are_back(world: World) -> None:
    replica, teacher = await at_work(world)
    before = list(world.entries)
    lost = await say(replica, teacher, "perdu 1", "perdu 2")
    frozen = await opened(world)
    await admit(frozen, *before)
    (fork,) = await say(frozen, teacher, "après", seed=3, now_ms=NOW_MS + 9)
    assert fork.header.prev == ()
    await admit(frozen, *lost)
    (joined,) = await say(frozen, teacher, "les deux", seed=4, now_ms=NOW_MS + 99)
    assert set(joined.header.prev) == {fork.id, lost[-1].id}
    assert await frozen.tips(teacher.space, teacher.key.public) == [joined.id]


async def test_lost_entries_that_come_back_in_disorder_are_no_sign_of_a_clone(world: World) -> None:
    replica, teacher = await at_work(world)
    before = list(world.entries)
    first, middle, last = await say(replica, teacher, "1", "2", "3")
    for order in ([first, last, middle], [last, first, middle], [last, middle, first], [middle, last, first]):
        frozen = await opened(world)
        await admit(frozen, *before)
        for entry in order:
            await frozen.tips(teacher.space, teacher.key.public)
            await admit(frozen, entry)
        assert await frozen.tips(teacher.space, teacher.key.public) == [last.id], order


async def test_more_branches_than_an_entry_can_name_are_named_by_and_by(world: World) -> None:
    replica, teacher = await at_work(world)
    branches = [
        compose(
            author=teacher.key, space=teacher.space, kind=Kind.REVISION, grant=teacher.grant,
            at=at_from(NOW_MS + n), payload=lesson(), salt=bytes(16), prev=(),
        )
        for n in range(MAX_PREV + 3)
    ]  # fmt: skip
    await admit(replica, *branches)
    one, two = await say(replica, teacher, "un", "deux")
    newest = ids(branches)[::-1]
    assert one.header.prev == tuple(newest[:MAX_PREV])
    assert two.header.prev == (one.id, *newest[MAX_PREV:])
    again = await opened(world, replica.store)  # type: ignore[arg-type]
    assert await again.tips(teacher.space, teacher.key.public) == [two.id]
    assert await replica.tips(teacher.space, teacher.key.public) == [two.id]


# --- the clock (R6) ---------------------------------------------------------------------------------------------------


async def at_of_next(replica: Replica, teacher: Writer, now_ms: int) -> int:
    (entry,) = await say(replica, teacher, "heure", now_ms=now_ms, seed=now_ms)
    return milliseconds_of(entry.header.at)


async def test_a_clock_that_stood_still_follows_what_others_wrote(world: World) -> None:
    replica, teacher = await at_work(world)
    other = world.enrol(Role.TEACHER, world.classes[0])
    other.skew_ms = HOUR_MS
    await admit(replica, *world.entries, world.say(other, other.space, Kind.REVISION, lesson()))
    assert await at_of_next(replica, teacher, NOW_MS) >= NOW_MS + HOUR_MS


async def test_a_time_from_2040_moves_nobodys_clock(world: World) -> None:
    replica, teacher = await at_work(world)
    other = world.enrol(Role.TEACHER, world.classes[0])
    other.skew_ms = 14 * YEAR_MS
    await replica.prove_time(NOW_MS)
    await admit(replica, *world.entries, world.say(other, other.space, Kind.REVISION, lesson()))
    assert await at_of_next(replica, teacher, NOW_MS + HOUR_MS) == NOW_MS + HOUR_MS


@pytest.mark.parametrize("proven", [True, False])
async def test_a_machine_whose_own_clock_said_2040_is_back_in_the_present_once_it_is_set_right(
    world: World, proven: bool
) -> None:
    replica, teacher = await at_work(world)
    assert await at_of_next(replica, teacher, NOW_MS + 14 * YEAR_MS) == NOW_MS + 14 * YEAR_MS
    if proven:
        await replica.prove_time(NOW_MS)
    assert await at_of_next(replica, teacher, NOW_MS + HOUR_MS) == NOW_MS + HOUR_MS
    again = await opened(world, replica.store)  # type: ignore[arg-type]
    assert await at_of_next(again, teacher, NOW_MS + 2 * HOUR_MS) == NOW_MS + 2 * HOUR_MS


async def test_a_machine_that_boots_in_2009_after_2040_goes_on_after_what_a_server_proved(world: World) -> None:
    replica, teacher = await at_work(world)
    await replica.prove_time(NOW_MS)
    await at_of_next(replica, teacher, NOW_MS + 14 * YEAR_MS)
    assert await at_of_next(replica, teacher, NOW_MS - 17 * YEAR_MS) == NOW_MS
    again = await opened(world, replica.store)  # type: ignore[arg-type]
    await again.recall_time()
    assert await at_of_next(again, teacher, NOW_MS - 17 * YEAR_MS) == NOW_MS
    assert await at_of_next(again, teacher, NOW_MS + HOUR_MS) == NOW_MS + HOUR_MS


async def test_a_machine_that_boots_in_2009_goes_on_after_its_last_entry(world: World) -> None:
    replica, teacher = await at_work(world)
    await replica.prove_time(NOW_MS)
    last = await at_of_next(replica, teacher, NOW_MS + HOUR_MS)
    again = await opened(world, replica.store)  # type: ignore[arg-type]
    await again.recall_time()
    assert await at_of_next(again, teacher, NOW_MS - 17 * YEAR_MS) == last
