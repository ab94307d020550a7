"""Who is about to fetch hears what each of the others says after its own word, however late words come."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from protocol.replica.process.unforeseen import Unforeseen
from sync_agent.lan.finding.neighbourhood import SPEAKS_S
from sync_agent.sync.electing import Stage
from tests.harness.group_of_two import HERE, GroupOfTwo
from tests.simulation.virtual_time import run


def heard_after(story: Callable[[GroupOfTwo], Awaitable[None]]) -> float:
    """For how many seconds a device that is about to fetch hears the other one, while the story is told."""

    async def told() -> float:
        room = GroupOfTwo()
        place = room.place()
        clock = asyncio.get_running_loop().time
        async with place.open(f"https://{HERE}:8000", HERE, Unforeseen(lambda: 0)):
            await asyncio.sleep(0.1)
            room.other_speaks()
            room.echoes()
            await asyncio.sleep(30.0)
            room.said.clear()
            place.fetches(Stage.CLAIMS)
            telling = asyncio.ensure_future(story(room))
            begun_s = clock()
            await place.hear_others()
            taken_s = clock() - begun_s
            await telling
            return taken_s

    return run(told())


def test_a_word_that_was_said_before_it_had_claimed_is_no_answer_to_its_claim() -> None:
    async def late(room: GroupOfTwo) -> None:
        await asyncio.sleep(1.0)
        # both lay there: to a program that was asleep they have come in the same moment
        room.other_speaks()
        room.echoes()
        await asyncio.sleep(2.0)
        room.other_speaks()

    assert 3.0 <= heard_after(late) < 3.2


def test_whose_own_word_comes_back_late_waits_longer_for_the_others() -> None:
    async def late(room: GroupOfTwo) -> None:
        await asyncio.sleep(2.0)
        room.echoes()
        await asyncio.sleep(6.0)
        room.other_speaks()

    assert 8.0 <= heard_after(late) < 8.2


def test_on_a_quick_network_one_that_says_nothing_costs_five_seconds() -> None:
    async def prompt(room: GroupOfTwo) -> None:
        await asyncio.sleep(0.01)
        room.echoes()

    _, most_s = SPEAKS_S
    assert heard_after(prompt) < most_s + 0.2


def test_a_word_of_its_own_that_has_not_come_back_at_all_is_waited_for_before_it_fetches() -> None:
    async def later_than_all_patience(room: GroupOfTwo) -> None:
        await asyncio.sleep(SPEAKS_S[1] + 3.0)
        room.other_speaks()
        room.echoes()
        await asyncio.sleep(2.0)
        room.other_speaks()

    assert SPEAKS_S[1] + 5.0 <= heard_after(later_than_all_patience) < SPEAKS_S[1] + 6.0


def test_a_word_of_its_own_that_never_comes_back_delays_a_fetch_by_seconds_only() -> None:
    async def silence(_room: GroupOfTwo) -> None:
        await asyncio.sleep(0)

    assert heard_after(silence) < 4 * SPEAKS_S[1] + 1.0
