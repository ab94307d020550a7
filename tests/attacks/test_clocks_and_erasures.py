"""Whoever sets a clock ends no week in which an erasure may still be taken back (docs/attacks.md)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.folds.erasing import Place, day_of, leap_ms
from protocol.limits import MAX_ERASED_PER_DAY
from protocol.model.entry import Kind
from protocol.model.structure import Erasure, Ruling
from protocol.replica.at_work.destroyed import Taken, place_mark
from protocol.replica.upkeep.eraser import Eraser
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


def _of_the_calendar(now_ms: int, _leapt_ms: int) -> int:
    return day_of(now_ms, 0)


DAYS_OF_THE_CALENDAR = {"protocol.replica.upkeep.eraser.day_of": _of_the_calendar}


def _before_midnight(wall_ms: int, by_ms: int) -> int:
    """The next time of a clock that is so long before midnight, and for which it has to be set."""
    return (wall_ms + DAY_MS + 2 * HOUR_MS) // DAY_MS * DAY_MS + DAY_MS - by_ms


@attack("a wrong clock ends the wait of an erasure", off=DAYS_OF_THE_CALENDAR)
async def test_a_clock_that_is_set_to_just_before_midnight_before_each_look_makes_no_days(room: Classroom) -> None:
    territory, persons = room.territory, await _erased(room, 3 * MAX_ERASED_PER_DAY)
    wall_ms, steady_ms = territory.clock(), 0
    pace = Pace(Eraser(territory.replica, territory.holdings), lambda: (wall_ms, steady_ms))
    for _ in range(4):
        await pace.look()
        wall_ms, steady_ms = wall_ms + 2 * DAY_MS, steady_ms + 2 * DAY_MS
    for _ in range(6):
        wall_ms = _before_midnight(wall_ms, 60_000)
        await pace.look()
        wall_ms, steady_ms = wall_ms + HOUR_MS, steady_ms + HOUR_MS
    assert await _gone(room, persons) <= 2 * MAX_ERASED_PER_DAY, "of two days at most"


@attack("a wrong clock ends the wait of an erasure", off=DAYS_OF_THE_CALENDAR)
@pytest.mark.parametrize(
    ("between_ms", "is_opened_again"), [(HOUR_MS, False), (60_000, True)], ids=["hourly", "a quarantine each minute"]
)
@pytest.mark.parametrize("set_days", [0, -9], ids=["ahead", "back"])
async def test_a_clock_that_is_set_to_just_before_midnight_before_every_second_look_makes_no_days(
    room: Classroom, between_ms: int, is_opened_again: bool, set_days: int
) -> None:
    territory, persons = room.territory, await _erased(room, 3 * MAX_ERASED_PER_DAY)
    wall_ms, steady_ms = territory.clock(), 0

    def opened() -> Pace:
        return Pace(Eraser(territory.replica, territory.holdings), lambda: (wall_ms, steady_ms), bytes([1]) * 16)

    pace = opened()
    for _ in range(4):
        await pace.look()
        wall_ms, steady_ms = wall_ms + 2 * DAY_MS, steady_ms + 2 * DAY_MS
    for look in range(8):
        if look % 2 == 0:
            wall_ms = _before_midnight(wall_ms, 30_000) + set_days * DAY_MS
        pace = opened() if is_opened_again else pace
        await pace.look()
        wall_ms, steady_ms = wall_ms + between_ms, steady_ms + between_ms
    assert await _gone(room, persons) <= 2 * MAX_ERASED_PER_DAY, "of two days at most"


@pytest.mark.parametrize(
    ("begins_hour", "hours"), [(8, 4), (0, 4), (23, 1)], ids=["a morning", "at midnight", "an hour at night"]
)
async def test_a_pc_that_is_on_for_a_few_hours_a_day_destroys_five_a_day(
    room: Classroom, begins_hour: int, hours: int
) -> None:
    territory, persons = room.territory, await _erased(room, 3 * MAX_ERASED_PER_DAY)
    began_ms = territory.clock() // DAY_MS * DAY_MS + DAY_MS + begins_hour * HOUR_MS
    gone = []
    for day in range(12):
        on_ms = began_ms + day * DAY_MS - day % 3 * 60_000
        read_ms = [on_ms + hour * HOUR_MS for hour in range(hours)]
        clocks = iter([(wall_ms, wall_ms - on_ms) for wall_ms in read_ms])
        pace = Pace(Eraser(territory.replica, territory.holdings), lambda: next(clocks), bytes([day]) * 16)  # noqa: B023
        for _ in read_ms:
            await pace.look()
        gone.append(await _gone(room, persons))
    assert [each for each in gone if each][:3] == [5, 10, 15], "from the eighth day on"


async def test_on_the_day_of_an_update_nobody_takes_a_place_that_an_earlier_version_gave(room: Classroom) -> None:
    territory, persons = room.territory, await _erased(room, MAX_ERASED_PER_DAY)
    wall_ms, marks = territory.clock(), dict[str, bytes | None]()
    pace = Pace(Eraser(territory.replica, territory.holdings), lambda: (wall_ms, wall_ms))
    for _ in range(7):
        await pace.look()
        wall_ms += DAY_MS
    today = day_of(wall_ms, 0)
    for number, day in enumerate([today + 1, today + 1, today, today, today + 3650]):
        marks |= place_mark(Place(bytes([number]) * 16, room.space), Taken(day, frozenset([bytes(32)])))
    await territory.replica.store.set_marks(marks)
    gone = []
    for _ in range(3):
        await pace.look()
        gone.append(await _gone(room, persons))
        wall_ms += DAY_MS
    assert gone == [1, 4, 5], "by a calendar a day may have begun earlier, and no clock keeps a place for years"


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
