from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from protocol.message_parts import Link, Wanted
from sync_agent.lan.neighbour_choice import ranking_of
from sync_agent.sync.electing import Found, Stage, Told
from sync_agent.sync.pulse import BEGUN_BYTES, LOOKS_S, LOOKS_SELDOM_S, NEXT_S, SILENT_S, STALLS_S, Course, Flow, Line
from sync_agent.sync.sharing import AWAY_S, ENTRIES_PATIENCE_S, IDLE_S, MOST_VAIN, MUCH_BYTES, WATCH_S, Sharing
from sync_agent.transport.interface import Traffic
from tests.simulation.virtual_time import run

SPACE = b"s" * 32
PIECE = Wanted(SPACE, b"p" * 32)
LESSON_BYTES, FILM_BYTES = 20_000_000, 1 << 30


@dataclass
class Room:
    """Devices of a class by name, with one clock. `asked` holds who was asked, and what to tell of that."""

    present: set[str]
    now_s: float = 0.0
    looks: bool = False
    at_it: set[str] = field(default_factory=set)
    about_to: set[str] = field(default_factory=set)
    sends: set[str] = field(default_factory=set)
    speaks: set[str] = field(default_factory=set)
    """Who says again and again that it is at it."""
    words: int = 0
    comes: set[str] = field(default_factory=set)
    """To whom content comes."""
    courses: list[Course] = field(default_factory=list)
    hears: Callable[[], None] = lambda: None
    waking: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    asked: list[tuple[str, Told]] = field(default_factory=list)
    said: list[Stage] = field(default_factory=list)
    woken: int = 0

    def device(self, name: str, missing_bytes: int = FILM_BYTES, line: Line | None = None) -> Sharing:
        sharing = Sharing(
            _Seen(name, self),
            monotonic=lambda: self.now_s,
            draw=lambda low, high: (low + high) / 2,
            call_later=lambda delay_s, call: self.waking.append((self.now_s + delay_s, call)),
            wake=self._wake,
            ask=lambda whom, told: self.asked.append((whom, told)),
            line=line,
        )
        sharing.still_misses({PIECE: missing_bytes})
        return sharing

    def in_order(self) -> list[str]:
        return ranking_of(SPACE, self.present)

    def passes_slowly(self, duration_s: float) -> None:
        """The same, for what looks again and again."""
        for _ in range(round(duration_s / LOOKS_S)):
            self.passes(LOOKS_S)

    def passes(self, duration_s: float) -> None:
        self.now_s += duration_s
        due = [call for at_s, call in self.waking if at_s <= self.now_s]
        self.waking = [(at_s, call) for at_s, call in self.waking if at_s > self.now_s]
        for call in due:
            call()

    def answer(self, found: Found) -> str:
        """Tell of the one that was asked; who that was."""
        ((whom, told),) = self.asked
        self.asked.clear()
        told(found)
        return whom

    def _wake(self) -> None:
        self.woken += 1


@dataclass
class _Seen:
    name: str
    room: Room

    def ranking(self, space: bytes) -> Sequence[str]:
        others = self.room.present - {self.name}
        return ranking_of(space, [self.name, *others]) if others else []

    @property
    def looks(self) -> bool:
        return self.room.looks

    def is_at_it(self, name: str) -> bool:
        return name in self.room.at_it

    def says_it_fetches(self, name: str) -> bool:
        return name in self.room.at_it | self.room.about_to

    def fetches(self, stage: Stage) -> None:
        self.room.said.append(stage)

    def goes_on(self, course: Course) -> None:
        self.room.courses.append(course)

    def word_of(self, name: str) -> int | None:
        self.room.words += name in self.room.speaks
        return self.room.words if name in self.room.at_it | self.room.sends else None

    def sends(self, name: str) -> bool:
        return name in self.room.sends

    def comes_to(self, space: bytes) -> set[str]:
        del space
        return self.room.comes

    def halted(self, space: bytes) -> int:
        del space
        return len(self.room.at_it - self.room.speaks)

    async def hear_neighbours(self) -> None:
        pass

    async def hear_others(self) -> None:
        self.room.hears()


def asks_in_vain(room: Room, sharing: Sharing, *, content: bool = False, took_s: float = 0.0) -> None:
    """It waits, asks who is named, and that one answers and has nothing."""
    assert not sharing.is_mine(PIECE, content=content)
    room.passes(1_000 if content else 60)
    assert not sharing.is_mine(PIECE, content=content)
    room.passes(took_s)
    room.answer(Found.NOTHING)


def test_exactly_one_of_a_class_asks_the_server_for_a_piece() -> None:
    room = Room({f"pc{number}" for number in range(30)})
    asking = [name for name in room.present if room.device(name).is_mine(PIECE)]
    assert len(asking) == 1


def test_a_device_alone_asks_for_itself() -> None:
    assert Room({"pc1"}).device("pc1").is_mine(PIECE)


def test_when_the_one_that_was_named_goes_the_next_is_named_at_once() -> None:
    room = Room({f"pc{number}" for number in range(9)})
    devices = {name: room.device(name) for name in room.present}
    (first,) = [name for name, device in devices.items() if device.is_mine(PIECE)]
    room.present.discard(first)
    assert len([name for name in room.present if devices[name].is_mine(PIECE)]) == 1


def test_who_waits_in_vain_for_a_device_that_does_not_answer_asks_after_a_few_seconds() -> None:
    room = Room({"pc1", "pc2", "pc3"})
    first, second, _ = room.in_order()
    waiting = room.device(second)
    assert not waiting.is_mine(PIECE)
    room.passes(ENTRIES_PATIENCE_S[0] - 0.1)
    assert not room.asked
    room.passes(ENTRIES_PATIENCE_S[1] - room.now_s)
    assert not room.woken, "the server is not asked because a neighbour is"
    assert room.answer(Found.GONE) == first
    assert room.woken > 0
    assert waiting.is_mine(PIECE)
    room.passes(AWAY_S)
    assert not waiting.is_mine(PIECE), "it may have come back"


def test_in_a_slow_hour_all_wait_for_who_is_named_as_long_as_it_brings_something() -> None:
    first, *others = Room({f"pc{number}" for number in range(30)}).in_order()
    for other in others:
        room = Room({first, *others})
        waiting = room.device(other)
        for _ in range(3 * MOST_VAIN):
            assert not waiting.is_mine(PIECE)
            room.passes(60)
            assert not waiting.is_mine(PIECE)
            assert room.answer(Found.SOMETHING) == first
            assert not room.woken


def test_who_answers_slowly_is_given_time_in_proportion() -> None:
    room = Room({"pc1", "pc2"})
    waiting = room.device(room.in_order()[1])
    asks_in_vain(room, waiting, took_s=60)
    room.passes(100)
    assert not waiting.is_mine(PIECE)
    assert not room.asked


def test_who_answers_and_never_has_anything_is_passed_over_and_the_next_one_asks() -> None:
    room = Room({"pc1", "pc2", "pc3"})
    _, second, third = room.in_order()
    waiting, last = room.device(second), room.device(third)
    for _ in range(MOST_VAIN):
        asks_in_vain(room, waiting)
    assert waiting.is_mine(PIECE)
    assert waiting.is_mine(Wanted(SPACE, b"q" * 32)), "the next news does not wait for it"
    for _ in range(MOST_VAIN):
        asks_in_vain(room, last)
    assert not last.is_mine(PIECE)
    room.passes(100)
    assert not last.is_mine(PIECE)
    assert room.answer(Found.SOMETHING) == second
    room.passes(IDLE_S)
    assert not waiting.is_mine(Wanted(SPACE, b"r" * 32))


def test_content_that_nobody_has_costs_a_device_its_turn_for_that_content_only() -> None:
    room = Room({"pc1", "pc2"})
    waiting = room.device(room.in_order()[1])
    for _ in range(MOST_VAIN):
        asks_in_vain(room, waiting, content=True)
    assert waiting.is_mine(PIECE, content=True)
    assert not waiting.is_mine(Wanted(SPACE, b"q" * 32), content=True)
    assert not waiting.is_mine(Wanted(SPACE, b"q" * 32))


def test_content_is_waited_for_longer_than_entries() -> None:
    room = Room({"pc1", "pc2", "pc3"})
    waiting = room.device(room.in_order()[2])
    assert not waiting.is_mine(PIECE, content=True)
    room.passes(2 * 60)
    assert not waiting.is_mine(PIECE, content=True)
    assert not room.asked
    room.passes(2 * 100)
    assert not waiting.is_mine(PIECE, content=True)
    room.answer(Found.GONE)
    assert not waiting.is_mine(PIECE, content=True), "now it is the second one's"


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


def hours_until_it_asks_itself(room: Room, watching: Sharing) -> float:
    """How long somebody that answers, and has nothing of some content, is looked after."""
    began_s = room.now_s
    while not watching.is_mine(PIECE, content=True):
        room.passes(WATCH_S[1])
        if room.asked:
            room.answer(Found.NOTHING)
    return (room.now_s - began_s) / 3600


def test_who_says_that_it_fetches_is_given_an_hour_for_it_and_no_longer() -> None:
    room = Room({"pc1", "pc2"})
    first, second = room.in_order()
    idle = hours_until_it_asks_itself(room, room.device(second))
    room.at_it = {first}
    assert 4 * idle < hours_until_it_asks_itself(room, room.device(second)) < 1.5


def hours_with_something(
    room: Room, waiting: Sharing, *, content: bool, most: float = 10.0, size: int = FILM_BYTES
) -> float:
    """How long somebody that brings something each time, and never what is waited for, is waited for."""
    began_s = room.now_s
    while not waiting.is_mine(PIECE, content=content) and room.now_s - began_s < most * 3600:
        room.passes(30)
        if room.asked:
            room.answer(Found.SOMETHING)
        if content:
            waiting.still_misses({PIECE: size})
    return (room.now_s - began_s) / 3600


def test_who_brings_something_each_time_and_never_what_is_waited_for_is_not_waited_for_without_end() -> None:
    room = Room({"pc1", "pc2"})
    first, second = room.in_order()
    assert hours_with_something(room, room.device(second), content=False) < 0.2
    assert hours_with_something(room, room.device(second), content=True) < 1.1
    room.at_it = {first}
    assert hours_with_something(room, room.device(second), content=True) < 1.1


def test_one_that_comes_under_many_names_holds_content_back_for_two_hours_in_all() -> None:
    room = Room({f"pc{number}" for number in range(9)})
    last = room.in_order()[-1]
    assert hours_with_something(room, room.device(last), content=True) < 2.1


def test_who_says_that_it_fetches_and_never_does_holds_a_lesson_back_for_minutes_and_the_next_one_for_less() -> None:
    room = Room({"pc1", "pc2"})
    liar, second = room.in_order()
    room.at_it = {liar}
    waiting, held_s = room.device(second, LESSON_BYTES), []
    for _ in range(4):
        held_s.append(hours_with_something(room, waiting, content=True, size=LESSON_BYTES) * 3600)
        assert waiting.is_mine(Wanted(SPACE, b"n" * 32), content=True), "nor is the next lesson left to it at once"
        waiting.still_misses({})
        room.passes(86_400)
    assert held_s == sorted(held_s, reverse=True)
    assert held_s[0] < 700
    assert held_s[-1] < 120


def test_who_brings_what_it_said_that_it_fetches_is_believed_as_before() -> None:
    room = Room({"pc1", "pc2"})
    slow, second = room.in_order()
    room.at_it = {slow}
    waiting, held_s = room.device(second, LESSON_BYTES), []
    for _ in range(2):
        held_s.append(hours_with_something(room, waiting, content=True, size=LESSON_BYTES))
        room.passes(86_400)
        waiting.still_misses({})
        waiting.still_misses({PIECE: LESSON_BYTES})
        assert not waiting.is_mine(PIECE, content=True)
        room.passes(60)
        waiting.still_misses({})
        waiting.still_misses({PIECE: LESSON_BYTES})
    assert held_s[0] == held_s[1]


def test_on_a_thin_line_of_those_that_wait_few_fetch_the_same() -> None:
    room = Room({f"pc{number}" for number in range(30)})
    order = room.in_order()
    room.at_it = set(order[:1])
    devices = {name: room.device(name, LESSON_BYTES) for name in order[1:]}
    begun_s: dict[str, float] = {}
    while room.now_s < 3_000:
        room.passes(30)
        for name, device in devices.items():
            if name not in begun_s and device.is_mine(PIECE, content=True):
                begun_s[name] = room.now_s
                room.at_it.add(name)
        while room.asked:
            _, told = room.asked.pop()
            told(Found.NOTHING)
        for name, device in devices.items():
            if name not in begun_s:
                device.still_misses({PIECE: LESSON_BYTES})
    assert len(begun_s) <= 3


def test_who_is_asked_and_does_not_end_its_answer_is_not_waited_for_without_end() -> None:
    for content, most_s in ((False, 660.0), (True, 3600.0)):
        room = Room({"pc1", "pc2"})
        waiting = room.device(room.in_order()[1])
        assert not waiting.is_mine(PIECE, content=content)
        room.passes(200)
        assert room.asked
        room.passes(most_s)
        assert room.woken, "it is looked at then, though nobody has answered"
        assert waiting.is_mine(PIECE, content=content)


def test_as_long_as_content_comes_on_a_thin_line_whoever_brings_it_is_waited_for() -> None:
    room = Room({"pc1", "pc2"})
    waiting = room.device(room.in_order()[1])
    lesson = [Wanted(SPACE, bytes([number]) * 32) for number in range(12)]
    while lesson:
        waiting.still_misses(dict.fromkeys(lesson, FILM_BYTES))
        assert not any(waiting.is_mine(piece, content=True) for piece in lesson)
        room.passes(3_000)
        if room.asked:
            room.answer(Found.SOMETHING)
        lesson.pop()


def test_something_new_each_minute_holds_the_news_of_a_space_back_for_ten_minutes_only() -> None:
    room = Room({"pc1", "pc2"})
    waiting = room.device(room.in_order()[1])
    held_up, minutes = False, 0
    while not held_up:
        head = Wanted(SPACE, bytes([minutes]) * 32)
        assert not waiting.is_mine(head)
        held_up = waiting.held_up([head])
        room.passes(60)
        if room.asked:
            room.answer(Found.SOMETHING)
        minutes += 1
    assert minutes <= 12
    assert room.woken, "it looks then, and not only when it happens to"
    assert not waiting.held_up(()), "all that was left has been asked for"
    new = Wanted(SPACE, b"n" * 32)
    assert not waiting.is_mine(new)
    assert not waiting.held_up([new]), "what is new after that is counted anew"


async def test_who_claims_to_fetch_for_ever_lets_others_begin_after_an_hour() -> None:
    room = Room({"pc1", "pc2"})
    first, second = room.in_order()
    room.at_it = {first}
    waiting, links = room.device(second), [Link(SPACE, b"q" * 32, MUCH_BYTES, "way")]

    async def fetched() -> list[Link]:
        waiting.still_misses({PIECE: FILM_BYTES})
        async with waiting.fetching(links, of_all=()) as mine:
            return mine

    assert not await fetched()
    room.passes(1_800)
    assert not await fetched()
    room.passes(1_800)
    assert await fetched() == links
    waiting.still_misses({})
    assert not await fetched(), "for the next lesson it is believed again"


def test_news_that_somebody_does_not_ask_for_while_it_fetches_is_no_reason_to_fetch_the_same() -> None:
    room = Room({"pc1", "pc2"})
    first, second = room.in_order()
    waiting = room.device(second)
    room.at_it = {first}
    for _ in range(MOST_VAIN):
        asks_in_vain(room, waiting)
    assert waiting.is_mine(PIECE), "entries are asked for"
    assert not waiting.is_mine(Wanted(SPACE, b"c" * 32), content=True)
    room.at_it = set()
    assert waiting.is_mine(Wanted(SPACE, b"d" * 32), content=True)


async def test_of_two_that_claim_at_once_one_fetches_though_it_had_no_news_when_it_was_asked_in_the_morning() -> None:
    room = Room({"pc1", "pc2"})
    first, second = room.in_order()
    watching, links = room.device(second), [Link(SPACE, b"q" * 32, MUCH_BYTES, "way")]
    for _ in range(MOST_VAIN):
        asks_in_vain(room, watching)
    assert watching.is_mine(Wanted(SPACE, b"q" * 32), content=True), "nobody else says that it is about to"
    room.about_to = {first, second}
    async with room.device(first).fetching(links, of_all=()) as of_first:
        assert of_first == links
    async with watching.fetching(links, of_all=()) as of_second:
        assert of_second == []
    room.about_to = {second}
    async with watching.fetching(links, of_all=()) as of_second:
        assert of_second == links


def test_nobody_is_woken_or_asked_for_what_has_come() -> None:
    room = Room({"pc1", "pc2"})
    waiting = room.device(room.in_order()[1])
    assert not waiting.is_mine(PIECE)
    assert not waiting.is_mine(Wanted(SPACE, b"c" * 32), content=True)
    waiting.has_come(SPACE)
    waiting.still_misses({})
    room.passes(1_000)
    assert not room.woken


def test_one_question_serves_everything_that_is_waited_for() -> None:
    room = Room({"pc1", "pc2"})
    waiting = room.device(room.in_order()[1])
    pieces = [Wanted(SPACE, bytes([number]) * 32) for number in range(5)]
    for _ in range(2):
        assert not any(waiting.is_mine(piece, content=True) for piece in pieces)
        room.passes(1_000)
    assert len(room.asked) == 1


def test_a_device_that_has_just_begun_to_look_leaves_all_to_whoever_it_will_find() -> None:
    room = Room({"pc1", "pc2"}, looks=True)
    first, _ = room.in_order()
    beginning = room.device(first)
    assert beginning.leaves_any([SPACE])
    assert not beginning.is_mine(PIECE)
    room.looks = False
    assert beginning.is_mine(PIECE)


async def test_of_two_that_begin_in_the_same_moment_one_leaves_it_to_the_other() -> None:
    room = Room({"pc1", "pc2"})
    first, second = room.in_order()
    links = [Link(SPACE, b"p" * 32, MUCH_BYTES, "way"), Link(b"t" * 32, b"q" * 32, 1, "way")]
    hearing = Room({second})
    hearing.hears = lambda: hearing.present.add(first)
    late = hearing.device(second)
    assert late.is_mine(PIECE, content=True), "it has not heard of the other yet"
    async with late.fetching(links, of_all={b"t" * 32}) as left:
        assert left == links[1:]
    async with room.device(first).fetching(links[:1], of_all=()) as taken:
        assert taken == links[:1]


async def test_who_fetches_much_says_so_though_nobody_is_there_yet() -> None:
    room = Room({"pc1"})
    alone = room.device("pc1")
    async with alone.fetching([Link(SPACE, b"q" * 32, MUCH_BYTES - 1, "way")], of_all=()):
        assert not room.said
    async with alone.fetching([Link(SPACE, b"p" * 32, MUCH_BYTES, "way")], of_all=()) as taken:
        assert taken
        assert room.said == [Stage.CLAIMS, Stage.FETCHES]
    assert room.said[2:] == [Stage.RESTS]


async def test_who_leaves_it_to_another_fetches_nothing_and_says_so() -> None:
    room = Room({"pc1", "pc2"})
    first, second = room.in_order()
    room.present.discard(first)
    room.hears = lambda: room.present.add(first)
    async with room.device(second).fetching([Link(SPACE, b"p" * 32, MUCH_BYTES, "way")], of_all=()) as left:
        assert not left
        assert room.said == [Stage.CLAIMS, Stage.RESTS]


@dataclass
class Cable:
    """A line over which content is waited for; the test says how much has come."""

    traffic: Traffic = field(default_factory=lambda: Traffic(waits=1))
    renewed: int = 0

    async def renew(self) -> None:
        self.renewed += 1


MUCH = BEGUN_BYTES


def fetched(room: Room, comes: Iterator[int]) -> tuple[list[Course], bool]:
    """What a device says while it fetches, as so many bytes come each second, and whether it gives up."""

    async def told() -> bool:
        cable = Cable()
        name = room.in_order()[0]
        sharing = room.device(name, line=cable)
        sharing._monotonic = asyncio.get_running_loop().time
        async with sharing.fetching([Link(SPACE, b"p" * 32, MUCH_BYTES, "way")], of_all=()):
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
