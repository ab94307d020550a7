from __future__ import annotations

from sync_agent.lan.finding.looking import MOMENT_S, in_moments


class Clock:
    """Moments that take as long as the test says."""

    def __init__(self, takes_s: float = MOMENT_S) -> None:
        self.takes_s = takes_s
        self.now_s = 0.0

    async def pause(self, delay_s: float) -> None:
        self.now_s += max(delay_s, self.takes_s)

    async def waits(self, least_s: float, most_s: float, over_s: float) -> float:
        await in_moments(least_s, most_s, lambda: self.now_s >= over_s, self.pause)
        return round(self.now_s, 6)


async def test_one_waits_until_it_is_over_and_not_less_than_the_least_nor_more_than_the_most() -> None:
    assert await Clock().waits(0.5, 2.0, over_s=0.0) == 0.5
    assert await Clock().waits(0.5, 2.0, over_s=1.0) == 1.0
    assert await Clock().waits(0.5, 2.0, over_s=9.0) == 2.0


async def test_a_program_that_seldom_gets_the_processor_waits_longer_by_the_clock() -> None:
    assert await Clock(takes_s=1.0).waits(0.5, 2.0, over_s=30.0) == 30.0
    assert await Clock(takes_s=1.0).waits(0.5, 2.0, over_s=99.0) == 40.0
