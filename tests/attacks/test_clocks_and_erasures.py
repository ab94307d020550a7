"""Whoever sets a clock ends no week in which an erasure may still be taken back (docs/attacks.md)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.folds.erasing import leap_ms
from protocol.limits import MAX_ERASED_PER_DAY
from protocol.model.entry import Kind
from protocol.model.structure import Erasure, Ruling
from protocol.replica.upkeep.eraser import Eraser
from protocol.replica.upkeep.orders import day_of
from protocol.replica.upkeep.pace import Pace
from protocol.roles import PersonRole
from sync_agent.upkeep.erasing import destroy_erased
from tests.attacks.test_erasure import held_about
from tests.harness.attack import attack
from tests.harness.classroom import Classroom
from tests.harness.couriers import export, tend_keys
from tests.harness.what_is_left import left

DEAD_BATTERY_MS = 1_230_768_000_000
HOUR_MS = 3_600_000


def _by_the_own_clock(_before_ms: int, wall_ms: int, _steady_ms: int | None) -> tuple[int, int]:
    return wall_ms, 0


def _small_steps_are_none(before_ms: int, wall_ms: int, steady_ms: int | None) -> tuple[int, int]:
    return wall_ms, leap_ms(wall_ms - before_ms, steady_ms)


@attack("a wrong clock ends the wait of an erasure", off={"protocol.replica.upkeep.pace.reckoned": _by_the_own_clock})
async def test_a_clock_that_is_set_right_ends_no_week(room: Classroom) -> None:
    territory, person = room.territory, room.pupil_person
    await territory.say(territory.id, Kind.ERASE, Erasure(person).encode())
    now_ms = territory.clock()
    clocks = iter([(DEAD_BATTERY_MS, 0), (now_ms, 60_000), (now_ms + DAY_MS, DAY_MS)])
    pace = Pace(Eraser(territory.replica, territory.holdings), lambda: next(clocks))
    for _ in range(3):
        await pace.look()
        assert await left(territory, room.space, person) == 1


@attack("a wrong clock ends the wait of an erasure", off={"protocol.replica.upkeep.pace.reckoned": _by_the_own_clock})
async def test_a_stick_that_comes_after_a_clock_was_set_ends_no_week(room: Classroom, tmp_path: Path) -> None:
    machine, person, clock = await room.machine(), room.pupil_person, room.territory.clock
    await tend_keys(room)
    agent, since = machine.agent, clock()
    agent.now_ms, agent.steady_ms = (lambda: clock() - since + DEAD_BATTERY_MS), (lambda: clock() - since)
    await machine.session.sync()
    await room.territory.say(room.territory.id, Kind.ERASE, Erasure(person).encode())
    await machine.session.sync()
    await destroy_erased(agent)
    agent.now_ms = clock
    clock.advance(60_000)
    (tmp_path / "stick").mkdir()
    await export(machine, tmp_path / "stick")
    about = [one.entry for one in await agent.replica.store.scan(room.space) if one.entry.header.subject == person]
    assert about
    assert all(entry.payload for entry in about)


@attack("a wrong clock ends the wait of an erasure", off={"protocol.replica.upkeep.pace.reckoned": _by_the_own_clock})
async def test_a_clock_that_is_set_while_no_program_runs_ends_no_week(room: Classroom) -> None:
    territory, person = room.territory, room.pupil_person
    await territory.say(territory.id, Kind.ERASE, Erasure(person).encode())
    for wall_ms in (DEAD_BATTERY_MS, territory.clock(), territory.clock() + DAY_MS):
        await Pace(Eraser(territory.replica, territory.holdings), lambda at=wall_ms: (at, at)).look()  # type: ignore[misc]
        assert await left(territory, room.space, person) == 1


@attack(
    "a wrong clock ends the wait of an erasure", off={"protocol.replica.upkeep.pace.reckoned": _small_steps_are_none}
)
@pytest.mark.parametrize("between_ms", [HOUR_MS, 30_000], ids=["looks of a program", "looks of a stick"])
async def test_a_clock_that_is_set_by_less_than_an_hour_before_each_look_ends_no_week(
    room: Classroom, between_ms: int
) -> None:
    territory, person = room.territory, room.pupil_person
    await territory.say(territory.id, Kind.ERASE, Erasure(person).encode())
    wall_ms, steady_ms, step_ms = territory.clock(), 0, 59 * 60_000
    pace = Pace(Eraser(territory.replica, territory.holdings), lambda: (wall_ms, steady_ms))
    while steady_ms < 7 * DAY_MS - 2 * HOUR_MS and wall_ms < territory.clock() + 30 * DAY_MS:
        await pace.look()
        assert await left(territory, room.space, person) == 1, f"after {steady_ms / HOUR_MS:.1f} hours"
        steady_ms += between_ms
        wall_ms += between_ms + step_ms


async def _erased(room: Classroom, many: int) -> list[bytes]:
    """So many pupils, who are to be forgotten by the word of the territory."""
    territory = room.territory
    persons = [await territory.person(f"Élève {number}", PersonRole.PUPIL, room.space) for number in range(many)]
    for person in persons:
        await territory.say(territory.id, Kind.ERASE, Erasure(person).encode())
    return persons


async def _gone(room: Classroom, persons: Iterable[bytes]) -> int:
    """Of how many nothing is left."""
    return sum([not await left(room.territory, room.space, person) for person in persons])


@attack(
    "a wrong clock ends the wait of an erasure", off={"protocol.replica.upkeep.pace.reckoned": _small_steps_are_none}
)
async def test_a_clock_that_is_set_by_less_than_an_hour_before_each_look_makes_no_days(room: Classroom) -> None:
    territory, persons = room.territory, await _erased(room, 2 * MAX_ERASED_PER_DAY)
    wall_ms, steady_ms = territory.clock(), 0
    pace = Pace(Eraser(territory.replica, territory.holdings), lambda: (wall_ms, steady_ms))
    for _ in range(4):
        await pace.look()
        wall_ms, steady_ms = wall_ms + 2 * DAY_MS, steady_ms + 2 * DAY_MS
    for _ in range(60):
        await pace.look()
        wall_ms, steady_ms = wall_ms + 59 * 60_000, steady_ms + 30_000
    assert await _gone(room, persons) == MAX_ERASED_PER_DAY


def _that_of_what_was_watched(watched_ms: int, _looked_ms: int | None) -> frozenset[int]:
    return frozenset({day_of(watched_ms)})


@attack(
    "a wrong clock ends the wait of an erasure",
    off={"protocol.replica.upkeep.eraser._days_not_over": _that_of_what_was_watched},
)
async def test_a_clock_that_is_set_to_just_before_midnight_before_each_look_makes_no_days(room: Classroom) -> None:
    territory, persons = room.territory, await _erased(room, 3 * MAX_ERASED_PER_DAY)
    wall_ms, steady_ms = territory.clock(), 0
    pace = Pace(Eraser(territory.replica, territory.holdings), lambda: (wall_ms, steady_ms))
    for _ in range(4):
        await pace.look()
        wall_ms, steady_ms = wall_ms + 2 * DAY_MS, steady_ms + 2 * DAY_MS
    for _ in range(6):
        wall_ms = next(at for at in range(wall_ms, wall_ms + 2 * DAY_MS, 60_000) if day_of(at) < day_of(at + HOUR_MS))
        await pace.look()
        wall_ms, steady_ms = wall_ms + HOUR_MS, steady_ms + HOUR_MS
    assert await _gone(room, persons) <= 2 * MAX_ERASED_PER_DAY, "of two days at most"


@attack("a wrong clock ends the wait of an erasure", off={"protocol.replica.upkeep.pace.reckoned": _by_the_own_clock})
async def test_a_machine_that_was_off_for_the_holidays_hears_first_what_was_taken_back(room: Classroom) -> None:
    machine, territory = await room.machine(), room.territory
    await machine.session.sync()
    erasure = await territory.say(territory.id, Kind.ERASE, Erasure(room.pupil_person).encode())
    await machine.session.sync()
    await destroy_erased(machine.agent)
    await territory.say(territory.id, Kind.RULING, Ruling((), (erasure.id,)).encode())
    territory.clock.advance(16 * DAY_MS)
    await destroy_erased(machine.agent)
    await machine.session.sync()
    store = machine.agent.replica.store
    about = [one.entry for one in await store.scan(room.space) if one.entry.header.subject == room.pupil_person]
    assert about
    assert all(entry.payload for entry in about)


async def test_a_clock_that_is_half_a_year_ahead_for_one_look_lets_go_of_nothing_that_waits_for_its_right(
    room: Classroom,
) -> None:
    territory = room.territory
    await territory.say(territory.id, Kind.ERASE, Erasure(bytes(16)).encode())
    await held_about(room, room.pupil_person)
    wall_ms, steady_ms = territory.clock(), 0
    pace = Pace(Eraser(territory.replica, territory.holdings), lambda: (wall_ms, steady_ms))
    for set_ms in (0, 181 * DAY_MS, -181 * DAY_MS):
        wall_ms, steady_ms = wall_ms + set_ms, steady_ms + 60_000
        await pace.look()
        assert await territory.replica.store.held()
