"""Who fetches for its class, or sends, goes on or does not: what it says of that, and what others make of it."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterator

from protocol.messages.parts import Link
from sync_agent.sync.electing import Found, Stage
from sync_agent.sync.pulse import BEGUN_BYTES, LOOKS_S, LOOKS_SELDOM_S, NEXT_S, SILENT_S, STALLS_S, Course, Flow
from sync_agent.sync.sharing import ENTRIES_PATIENCE_S, MUCH_BYTES, WATCH_S
from tests.harness.sharing_devices import PIECE, SPACE, Cable, Room
from tests.simulation.virtual_time import run

MUCH = BEGUN_BYTES


def test_the_next_one_looks_after_who_fetches_and_takes_over_within_seconds() -> None:
    room = Room({"pc1", "pc2", "pc3"})
    first, second, _ = room.in_order()
    watching = room.device(second)
    for _ in range(5):
        assert not watching.is_mine(PIECE, content=True)
        room.passes(WATCH_S[1])
        assert not watching.is_mine(PIECE, content=True)
        assert room.answer(Found.NOTHING) == first
    room.passes(WATCH_S[1])
    assert not watching.is_mine(PIECE, content=True)
    room.answer(Found.GONE)
    assert watching.is_mine(PIECE, content=True)


def test_who_falls_silent_while_it_fetches_is_asked_within_seconds_and_the_next_one_goes_on() -> None:
    room = Room({"pc1", "pc2", "pc3"})
    first, second, _ = room.in_order()
    room.at_it = room.speaks = {first}
    watching = room.device(second)
    assert not watching.is_mine(PIECE, content=True)
    room.passes_slowly(WATCH_S[0] - 1.0)
    assert not room.asked, "it says each second that it goes on"
    room.speaks = set()
    room.passes_slowly(SILENT_S[1] + LOOKS_S)
    assert room.answer(Found.GONE) == first
    assert room.woken
    assert watching.is_mine(PIECE, content=True)


def test_whose_words_get_lost_and_who_answers_is_asked_more_and_more_seldom_and_waited_for() -> None:
    room = Room({"pc1", "pc2"})
    first, second = room.in_order()
    room.at_it = {first}
    watching = room.device(second)
    assert not watching.is_mine(PIECE, content=True)
    questions = 0
    for _ in range(round(80 / LOOKS_S)):
        room.passes(LOOKS_S)
        if room.asked:
            assert room.answer(Found.NOTHING) == first
            questions += 1
    assert not watching.is_mine(PIECE, content=True)
    assert questions < 80 / WATCH_S[0] + 6


def test_of_many_that_wait_for_somebody_who_hangs_the_next_one_asks_first() -> None:
    room = Room({f"pc{number}" for number in range(30)})
    first, second, third, *_ = room.in_order()
    room.at_it = room.speaks = {first}
    last = room.device(third)
    assert not last.is_mine(PIECE, content=True)
    room.passes_slowly(3.0)
    room.speaks = set()
    room.passes_slowly(SILENT_S[1] + NEXT_S - 1.0)
    assert not room.asked
    # the second one has taken over
    room.at_it, room.speaks, room.present = {second}, {second}, room.present - {first}
    room.passes_slowly(LOOKS_SELDOM_S + 1.0)
    assert not room.asked
    assert not room.woken, "it waits for that one now"
    assert not last.is_mine(PIECE, content=True)
    room.speaks = set()
    room.passes_slowly(SILENT_S[1] + LOOKS_S)
    assert room.answer(Found.GONE) == second
    assert last.is_mine(PIECE, content=True)


def test_whose_line_stands_still_is_named_no_more_and_the_next_one_asks_at_once_and_once() -> None:
    room = Room({"pc1", "pc2", "pc3"})
    first, second, _ = room.in_order()
    room.at_it = room.speaks = {first}
    watching = room.device(second)
    assert not watching.is_mine(PIECE, content=True)
    room.passes_slowly(5.0)
    # it says so: it does not reach the server
    room.at_it, room.present = set(), room.present - {first}
    room.passes_slowly(2.0)
    assert room.woken == 1
    assert watching.is_mine(PIECE, content=True)


def test_what_the_server_lacks_is_left_to_who_is_sending_it_for_minutes_and_taken_over_when_that_one_hangs() -> None:
    room = Room({"pc1", "pc2"})
    first, second = room.in_order()
    room.sends = room.speaks = {first}
    waiting = room.device(second)
    assert not waiting.is_mine(PIECE, lacked=True)
    room.passes_slowly(120.0)
    assert not room.asked
    assert not room.woken
    room.speaks = set()
    room.passes_slowly(2 * ENTRIES_PATIENCE_S[1])
    assert room.answer(Found.GONE) == first
    assert waiting.is_mine(PIECE, lacked=True)


def test_news_is_not_left_for_minutes_to_who_is_sending() -> None:
    room = Room({"pc1", "pc2"})
    first, second = room.in_order()
    room.sends = room.speaks = {first}
    waiting = room.device(second)
    assert not waiting.is_mine(PIECE)
    room.passes_slowly(ENTRIES_PATIENCE_S[1])
    assert room.answer(Found.NOTHING) == first


async def test_who_sends_much_says_so_until_it_has() -> None:
    room = Room({"pc1", "pc2"})
    sharing = room.device("pc1")
    async with sharing.sending(MUCH_BYTES - 1, lambda: 0):
        await asyncio.sleep(0)
    assert not room.courses
    async with sharing.sending(MUCH_BYTES, lambda: 0):
        await asyncio.sleep(0)
        assert room.courses == [Course.COMES]
        assert not room.said
    assert room.said == [Stage.RESTS]


def fetched(room: Room, comes: Iterator[int], *, of_all: Container[bytes] = ()) -> tuple[list[Course], bool]:
    """What a device says while it fetches, as so many bytes come each second, and whether it gives up."""

    async def told() -> bool:
        cable = Cable()
        name = room.in_order()[0]
        sharing = room.device(name, line=cable)
        sharing._monotonic = asyncio.get_running_loop().time
        async with sharing.fetching([Link(SPACE, b"p" * 32, MUCH_BYTES, "way")], of_all=of_all):
            for size in comes:
                cable.traffic.bytes_in += size
                await asyncio.sleep(1.0)
                if sharing.gives_up:
                    assert cable.renewed, "what is being read ends"
                    return True
        return False

    gives_up = run(told())
    return room.courses, gives_up


def test_a_line_over_which_little_comes_each_second_does_not_stand_still() -> None:
    courses, _ = fetched(Room({"pc1"}), iter([0, MUCH, *[100] * 60]))
    assert set(courses[2:]) == {Course.COMES}


def test_a_first_byte_that_is_long_in_coming_is_no_line_that_stands_still() -> None:
    courses, _ = fetched(Room({"pc1"}), iter([0, 500, *[1] * 25]))
    assert set(courses) == {Course.BEGINS}


def test_a_line_over_which_nothing_more_comes_stands_still_and_goes_on_when_it_comes_again() -> None:
    courses, gives_up = fetched(Room({"pc1"}), iter([0, MUCH, 9, *[0] * 8, 9, 9, 9]))
    assert courses.count(Course.STALLS) in {8 - int(STALLS_S), 9 - int(STALLS_S)}
    assert courses[-1] is Course.COMES
    assert not gives_up


def test_who_stood_still_leaves_it_to_whom_it_comes_meanwhile() -> None:
    room = Room({"pc1", "pc2"}, comes={"pc2"})
    _, gives_up = fetched(room, iter([0, MUCH, *[9] * 30]))
    assert not gives_up, "another class has a fetcher of its own"
    _, gives_up = fetched(room, iter([0, MUCH, *[0] * 8, 9]))
    assert gives_up


def test_what_only_some_may_read_is_given_up_to_nobody_to_whom_other_content_comes() -> None:
    room = Room({"pc1", "pc2"}, at_it={"pc2"}, comes={"pc2"})
    for comes in ([9] * 20, [0, MUCH, *[0] * 20, 9]):
        assert fetched(room, iter(comes))[1]
        assert not fetched(room, iter(comes), of_all={SPACE})[1], "nobody else fetches that"


def test_who_says_again_and_again_that_content_comes_holds_up_who_fetches_on_a_thin_line_for_an_hour_at_most() -> None:
    room = Room({"pc1", "pc2"}, at_it={"pc2"}, comes={"pc2"})

    async def told() -> float:
        loop = asyncio.get_running_loop()
        sharing = room.device(room.in_order()[0], line=Cable())
        sharing._monotonic = loop.time
        while loop.time() < 3 * 3600:
            async with sharing.fetching([Link(SPACE, b"p" * 32, MUCH_BYTES, "way")], of_all=()):
                await asyncio.sleep(60.0)
                if not sharing.gives_up:
                    break
        return loop.time()

    assert 600 < run(told()) < 4000


def test_who_slept_for_long_in_the_middle_begins_anew_and_who_was_slow_for_a_moment_does_not() -> None:
    for asleep_s, course in ((5.0, Course.SLEPT), (15.0, Course.SLEPT_LONG)):
        flow = Flow(0, 0.0, 0.0)
        assert flow.look(1.0, MUCH, waits=True, halted=0) is Course.COMES
        assert flow.look(2.0 + asleep_s, 2 * MUCH, waits=True, halted=0) is course
        assert flow.look(3.0 + asleep_s, 3 * MUCH, waits=True, halted=0) is Course.COMES
        assert flow.doubts, "it looks whether another one has begun meanwhile"


def test_while_others_stand_still_too_it_is_the_school_s_line_and_is_given_longer() -> None:
    room = Room({"pc1"}, at_it={"pc2"})
    courses, _ = fetched(room, iter([0, MUCH, 9, *[0] * 6]))
    assert Course.STALLS not in courses
    courses, _ = fetched(room, iter([0, MUCH, 9, *[0] * 12]))
    assert Course.STALLS in courses
