"""Who is in the middle of fetching says so again and again; what others make of it when it does not any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from protocol.replica.process.unforeseen import Unforeseen
from sync_agent.lan.finding.announcement import State
from sync_agent.lan.finding.neighbourhood import QUIET_S, Neighbourhood
from sync_agent.sync.electing import Stage
from sync_agent.sync.pulse import Course
from tests.harness.group_of_two import HERE, SPACE, GroupOfTwo
from tests.simulation.virtual_time import run

AT_IT = State(reaches_server=True, fetches=True, goes_on=True, comes=True)


def lived(story: Callable[[GroupOfTwo, Neighbourhood], Awaitable[None]]) -> None:
    """Tell a story of a device that reaches the server, beside another one."""

    async def told() -> None:
        room = GroupOfTwo()
        place = room.place()
        async with place.open(f"https://{HERE}:8000", HERE, Unforeseen(lambda: 0)):
            await asyncio.sleep(0.1)
            room.echoes()
            place.reached_server()
            await story(room, place)

    run(told())


def test_who_says_again_that_it_fetches_has_another_word_each_time_and_nobody_else_is_named() -> None:
    async def story(room: GroupOfTwo, place: Neighbourhood) -> None:
        room.other_speaks(AT_IT)
        words = set()
        for _ in range(5):
            words.add(place.word_of("other"))
            assert place.ranking(SPACE)[0] == "other"
            assert place.comes_to(SPACE) == {"other"}
            await asyncio.sleep(1.0)
            room.other_says_again()
        assert len(words) == 5
        assert not place.halted(SPACE)

    lived(story)


def test_who_falls_silent_in_the_middle_goes_behind_who_has_taken_over_and_not_behind_who_rests() -> None:
    async def story(room: GroupOfTwo, place: Neighbourhood) -> None:
        room.other_speaks(AT_IT)
        await asyncio.sleep(QUIET_S)
        assert place.ranking(SPACE)[0] == "other", "its words may have got lost"
        assert place.halted(SPACE) == 1
        assert not place.comes_to(SPACE)
        place.fetches(Stage.FETCHES)
        assert place.ranking(SPACE) == [place.name, "other"]

    lived(story)


def test_one_that_did_not_answer_is_not_there_until_it_says_something() -> None:
    async def story(room: GroupOfTwo, place: Neighbourhood) -> None:
        room.other_speaks(AT_IT)
        await asyncio.sleep(1.0)
        place.does_not_answer("other")
        assert not place.ranking(SPACE)
        place.fetches(Stage.CLAIMS)
        room.echoes()
        begun_s = asyncio.get_running_loop().time()
        await place.hear_others()
        assert asyncio.get_running_loop().time() - begun_s > 1.0, "somebody may be there who has not been heard yet"
        room.other_says_again()
        assert place.ranking(SPACE)[0] == "other"

    lived(story)


def test_who_sends_says_so_and_is_neither_named_for_that_nor_taken_for_one_that_stands_still() -> None:
    async def story(room: GroupOfTwo, place: Neighbourhood) -> None:
        sends = State(reaches_server=True, goes_on=True, comes=True)
        place.goes_on(Course.COMES)
        assert place._state() == sends
        room.other_speaks(sends)
        assert place.sends("other")
        assert place.word_of("other") is not None
        assert not place.halted(SPACE)
        assert not place.is_at_it("other")
        room.other_speaks(State(goes_on=True))
        assert not place.sends("other")
        assert place.halted(SPACE) == 1

    lived(story)


def test_whose_line_stands_still_says_so_and_that_it_does_not_reach_the_server() -> None:
    async def story(room: GroupOfTwo, place: Neighbourhood) -> None:
        room.other_speaks(State(reaches_server=True))
        place.fetches(Stage.FETCHES)
        place.goes_on(Course.COMES)
        assert place._state() == AT_IT
        place.goes_on(Course.STALLS)
        assert place._state() == State(goes_on=True)
        assert place.ranking(SPACE) == ["other"]
        before = len(room.said)
        place.goes_on(Course.STALLS)
        assert len(room.said) == before + 1, "it says it again"
        place.fetches(Stage.RESTS)
        assert not place.reaches_server, "it did a moment ago; now that has to be seen"
        place.reached_server()
        assert place._state() == State(reaches_server=True)

    lived(story)
