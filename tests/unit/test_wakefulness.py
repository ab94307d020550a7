"""A machine that has slept is noticed by either clock; ordinary lateness is not."""

from __future__ import annotations

import asyncio

import pytest

from protocol.replica.process.unforeseen import Unforeseen
from sync_agent.machine.wakefulness import TICK_S, has_slept, wakeful


@pytest.mark.parametrize(
    ("wall_s", "monotonic_s", "slept"),
    [
        (TICK_S, TICK_S, False),
        (TICK_S + 3, TICK_S + 3, False),
        (3_600, TICK_S, True),
        (3_600, 3_600, True),
        (-86_400 * 365, TICK_S, False),
        (86_400 * 365 * 14, TICK_S, True),
    ],
)
def test_sleep_shows_on_either_clock(wall_s: float, monotonic_s: float, slept: bool) -> None:
    assert has_slept(wall_s, monotonic_s) is slept


async def test_whoever_waits_is_told_once_for_each_sleep() -> None:
    walls = iter([0, 5_000, 5_000, 4_000_000, 4_000_000, 4_005_000])
    ticks = iter([0.0, 5.0, 5.0, 10.0, 10.0, 15.0])
    told = 0
    over = asyncio.Event()

    async def woken() -> None:
        nonlocal told
        told += 1

    slept = 0

    async def sleep(_: float) -> None:
        nonlocal slept
        slept += 1
        if slept > 3:
            over.set()
            await asyncio.Event().wait()

    noted = Unforeseen(int)
    async with wakeful(woken, noted, now_ms=lambda: next(walls, 0), monotonic=lambda: next(ticks, 0.0), sleep=sleep):
        await over.wait()
    assert not noted.rows()
    assert told == 1
