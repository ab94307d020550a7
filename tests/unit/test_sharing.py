from __future__ import annotations

from protocol.messages.parts import Link, Wanted
from sync_agent.sync.electing import Found, Stage
from sync_agent.sync.sharing import AWAY_S, ENTRIES_PATIENCE_S, IDLE_S, MOST_VAIN, MUCH_BYTES, WATCH_S, Sharing
from tests.harness.sharing_devices import FILM_BYTES, LESSON_BYTES, PIECE, SPACE, Room


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
    assert Room({"pc1"}).device("pc1").is_named([SPACE])


def test_of_many_who_hear_that_something_is_new_one_knows_that_it_is_to_ask_at_once() -> None:
    room = Room({f"pc{number}" for number in range(9)})
    assert [name for name in room.present if room.device(name).is_named([SPACE])] == [room.in_order()[0]]


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
