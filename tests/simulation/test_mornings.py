"""One school, one download, from the first second on: machines that are switched on together fetch what is new once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from tests.simulation.founding import founding
from tests.simulation.lines import CALM, Weather
from tests.simulation.mornings import CONTENT_BYTES, Morning
from tests.simulation.quick import quickly
from tests.simulation.virtual_time import run

QUICK = 0.1
BUSY = 4.0
"""What is said to a machine that has just been switched on may lie there for so many seconds."""


def lived(story: Callable[[Morning], Awaitable[None]], *, machines: int, slow_s: float, seed: int = 0) -> None:
    """Tell a story of a morning, in simulated time."""

    async def told() -> None:
        morning = Morning(begun, seed, slow_s, Weather(slowest_s=slow_s / 2) if slow_s > QUICK else CALM)
        try:
            await morning.evening(machines)
            await story(morning)
        finally:
            await morning.close()

    random.seed(seed)
    with quickly():
        begun = founding()
        run(told())


@pytest.mark.parametrize(("slow_s", "seed"), [(QUICK, 0), (BUSY, 0), (BUSY, 1)])
def test_machines_that_are_switched_on_together_bring_what_one_machine_brings(slow_s: float, seed: int) -> None:
    async def together(morning: Morning) -> None:
        before = morning.brought()
        await morning.switch_all_on()
        await morning.all_have_it()
        assert morning.brought() - before <= 1.05 * CONTENT_BYTES

    lived(together, machines=8, slow_s=slow_s, seed=seed)


@pytest.mark.parametrize(("seed", "has_met_others"), [(0, True), (29, True), (3, False), (8, False), (12, False)])
def test_who_is_switched_on_while_another_fetches_takes_it_from_there(seed: int, has_met_others: bool) -> None:
    async def one_after_the_other(morning: Morning) -> None:
        before = morning.brought()
        for desk in morning.desks:
            await morning.switch_on(desk, expects=has_met_others)
            await asyncio.sleep(5.0)
        await morning.all_have_it()
        assert morning.brought() - before <= 1.05 * CONTENT_BYTES

    lived(one_after_the_other, machines=5, slow_s=BUSY, seed=seed)


@pytest.mark.parametrize("seed", [0, 2])
def test_who_was_asked_in_vain_in_a_slow_minute_fetches_the_next_lesson_alone_all_the_same(seed: int) -> None:
    async def by_day(morning: Morning) -> None:
        await morning.switch_all_on()
        await morning.all_have_it()
        await asyncio.sleep(30.0)
        await morning.pass_over(morning.first())
        before = morning.brought()
        await morning.publish("Jour")
        morning.tell()
        await morning.all_have_it()
        assert morning.brought() - before <= 1.05 * CONTENT_BYTES

    lived(by_day, machines=4, slow_s=BUSY, seed=seed)


@pytest.mark.parametrize("hangs", [False, True])
@pytest.mark.parametrize(("slow_s", "seed", "within_s"), [(QUICK, 0, 10.0), (QUICK, 1, 10.0), (BUSY, 0, 40.0)])
def test_when_who_fetches_is_switched_off_or_hangs_in_the_middle_another_goes_on_within_seconds(
    slow_s: float, seed: int, within_s: float, *, hangs: bool
) -> None:
    async def unplugged(morning: Morning) -> None:
        before = morning.brought()
        await morning.switch_all_on()
        fetching = await morning.one_has_fetched(CONTENT_BYTES // 3)
        if hangs:
            morning.hang(fetching)
        else:
            await morning.switch_off(fetching)
        clock = asyncio.get_running_loop().time
        began_s = clock()
        await morning.one_has_fetched(CONTENT_BYTES // 8)
        assert clock() - began_s < within_s
        await morning.all_have_it(but=fetching)
        assert morning.brought() - before < 2 * CONTENT_BYTES

    lived(unplugged, machines=4, slow_s=slow_s, seed=seed)


@pytest.mark.parametrize(("seed", "halted_s"), [(0, 600.0), (1, 600.0), (0, 9.0), (1, 9.0)])
def test_when_the_line_of_who_fetches_stands_still_another_goes_on_within_seconds_and_one_of_them_ends_it(
    seed: int, halted_s: float
) -> None:
    async def halted(morning: Morning) -> None:
        before = morning.brought()
        await morning.switch_all_on()
        fetching = await morning.one_has_fetched(CONTENT_BYTES // 3)
        line = fetching.machine.line
        line.halts = True
        asyncio.get_running_loop().call_later(halted_s, setattr, line, "halts", False)
        clock = asyncio.get_running_loop().time
        began_s = clock()
        await morning.one_has_fetched(CONTENT_BYTES // 8)
        assert clock() - began_s < 9.0
        await morning.all_have_it(but=fetching)
        assert clock() - began_s < 20.0
        assert morning.brought() - before < 1.5 * CONTENT_BYTES

    lived(halted, machines=4, slow_s=QUICK, seed=seed)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("halted_s", [3.0, 8.0, 25.0])
def test_when_the_school_s_line_stands_still_for_a_while_who_fetches_goes_on_afterwards(
    seed: int, halted_s: float
) -> None:
    async def halted(morning: Morning) -> None:
        before = morning.brought()
        await morning.switch_all_on()
        await morning.one_has_fetched(CONTENT_BYTES // 3)
        for desk in morning.desks:
            desk.machine.line.halts = True
        await asyncio.sleep(halted_s)
        for desk in morning.desks:
            desk.machine.line.halts = False
        await morning.all_have_it()
        assert morning.brought() - before <= 1.05 * CONTENT_BYTES

    lived(halted, machines=4, slow_s=QUICK, seed=seed)


@pytest.mark.parametrize(("expects", "most_s"), [(False, 8.0), (True, 20.0)])
def test_a_machine_alone_is_late_by_seconds_and_less_if_it_never_met_another(expects: bool, most_s: float) -> None:
    async def alone(morning: Morning) -> None:
        (desk,) = morning.desks
        began_s = asyncio.get_running_loop().time()
        await morning.switch_on(desk, expects=expects)
        await morning.all_have_it()
        assert asyncio.get_running_loop().time() - began_s < most_s

    lived(alone, machines=1, slow_s=QUICK)
