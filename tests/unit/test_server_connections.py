from __future__ import annotations

from contextlib import ExitStack
from functools import partial

import pytest

from protocol.replica.http.connections import HEADERS_TIMEOUT_S, UNREAD_TIMEOUT_S, Bounds, Guarded, Guards, whose
from tests.harness.connections import Heard, Many, Wire


@pytest.fixture
async def guards() -> Guards:
    found = Guards()
    found.now_s = lambda: 0.0
    return found


def connected(guards: Guards) -> tuple[Guarded, Wire]:
    guarded, wire = Guarded(Heard(), guards, "192.0.2.1", 0.0), Wire()
    assert guards.admit(guarded)
    guarded.connection_made(wire)
    return guarded, wire


async def test_everything_is_passed_on(guards: Guards) -> None:
    inner = Heard()
    guarded = Guarded(inner, guards, "192.0.2.1", 0.0)
    guarded.connection_made(Wire())
    guarded.data_received(b"x")
    guarded.pause_writing()
    guarded.resume_writing()
    assert guarded.eof_received()
    guarded.connection_lost(None)
    assert inner.told == ["made", b"x", "pause", "resume", "eof", "lost"]
    guarded.look(1e9)


async def test_who_says_nothing_after_connecting_is_cut_off(guards: Guards) -> None:
    guarded, wire = connected(guards)
    guarded.look(HEADERS_TIMEOUT_S)
    assert not wire.cut
    guarded.look(HEADERS_TIMEOUT_S + 1)
    assert wire.cut


async def test_headers_that_trickle_in_are_cut_off_however_often_a_byte_comes(guards: Guards) -> None:
    guarded, wire = connected(guards)
    for second in range(int(HEADERS_TIMEOUT_S) + 2):
        guards.now_s = partial(float, second)
        guarded.data_received(b"a")
        guarded.look(float(second))
    assert wire.cut


async def test_a_request_under_way_and_the_silence_after_it_are_left_alone(guards: Guards) -> None:
    guarded, wire = connected(guards)
    guarded.data_received(b"GET /")
    guarded.begin()
    guarded.data_received(b"a slow body")
    guarded.look(10 * HEADERS_TIMEOUT_S)
    guarded.end()
    guarded.look(20 * HEADERS_TIMEOUT_S)
    assert not wire.cut
    guards.now_s = lambda: 20 * HEADERS_TIMEOUT_S
    guarded.data_received(b"G")
    guarded.look(20 * HEADERS_TIMEOUT_S + 1)
    assert not wire.cut
    guarded.look(21 * HEADERS_TIMEOUT_S + 1)
    assert wire.cut, "the next request's headers have their own time"


async def test_an_answer_that_nobody_reads_or_only_sips_is_cut_off_and_a_slow_reader_is_not(guards: Guards) -> None:
    guarded, wire = connected(guards)
    guarded.begin()
    now_s = 0.0
    for unread in (90_000, 85_000, 80_000, 95_000, 90_000):
        now_s += UNREAD_TIMEOUT_S
        wire.unread = unread
        guarded.look(now_s)
    assert not wire.cut, "much was taken each time, or more was put in its place"
    for _ in range(3):
        now_s += UNREAD_TIMEOUT_S / 2
        wire.unread -= 10
        guarded.look(now_s)
    assert wire.cut, "a few bytes now and then are no reading"


async def test_the_longest_silent_of_an_address_makes_room_and_who_speaks_at_once_is_let_in() -> None:
    many = Many(per_address=3, asking=100, connections=100)
    silent = [many.from_("192.0.2.66") for _ in range(5)]
    assert [wire.cut for _, wire in silent] == [True, True, False, False, False]
    speaker, wire = many.from_("192.0.2.66")
    speaker.begin()
    speaker.end()
    for _ in range(9):
        many.from_("192.0.2.66")
    assert not wire.cut, "who has spoken is none of the silent"
    assert not many.from_("192.0.2.1")[1].cut


async def test_silent_ones_of_many_addresses_are_few_in_all() -> None:
    many = Many(per_address=3, asking=10, connections=100)
    silent = [many.from_(f"192.0.2.{number}") for number in range(30)]
    assert [wire.cut for _, wire in silent] == [True] * 20 + [False] * 10


async def test_when_all_places_are_taken_the_longest_idle_goes_and_who_is_served_stays() -> None:
    many = Many(per_address=None, asking=100, connections=3)
    served = [many.from_("192.0.2.1") for _ in range(3)]
    for guarded, _ in served:
        guarded.begin()
    assert many.from_("192.0.2.2")[1].cut, "nobody who is being served makes room"
    for guarded, _ in served[1:]:
        guarded.end()
    assert not many.from_("192.0.2.2")[1].cut
    assert [wire.cut for _, wire in served] == [False, True, False]
    assert len(many.guards) == 3


async def test_of_bodies_that_are_awaited_the_longest_awaited_of_an_address_makes_room() -> None:
    many = Many(per_address=3, asking=100, connections=100)
    owing = [many.from_("192.0.2.66") for _ in range(3)]
    with ExitStack() as stack:
        for guarded, _ in owing:
            guarded.begin()
            stack.enter_context(guarded.owing())
        assert not many.from_("192.0.2.1")[1].cut
        newest, wire = many.from_("192.0.2.66")
        newest.begin()
        assert [wire.cut for _, wire in owing] == [True, False, False]
        stack.enter_context(newest.owing())
        assert not wire.cut
    assert len(many.guards._asking) == 1, "of the other address"


async def test_a_long_body_whose_pieces_come_stays_beside_those_of_which_nothing_comes() -> None:
    many = Many(per_address=3, asking=100, connections=100)
    sender, wire = many.from_("192.0.2.66")
    sender.begin()
    silent = []
    for _ in range(9):
        with sender.owing():
            silent.append(many.from_("192.0.2.66"))
            silent.append(many.from_("192.0.2.66"))
    assert not wire.cut
    assert [wire.cut for _, wire in silent[:-3]] == [True] * 15


async def test_two_hundred_lines_for_news_behind_one_address_stand_whatever_is_begun_there() -> None:
    many = Many(per_address=4, asking=8, connections=250)
    lines = [_begun(many) for _ in range(200)]
    with ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(_begun(many)[0].owing())
        assert not any(wire.cut for _, wire in lines)
        assert len(many.guards) == 204


def _begun(many: Many) -> tuple[Guarded, Wire]:
    """A connection of the school's, the head of whose request is whole."""
    made = many.from_("192.0.2.66")
    made[0].begin()
    return made


async def test_when_all_are_being_served_who_takes_no_answer_makes_room() -> None:
    many = Many(per_address=None, asking=100, connections=3)
    served = [many.from_("192.0.2.1") for _ in range(3)]
    for guarded, _ in served:
        guarded.begin()
        guarded.pause_writing()
    served[0][0].resume_writing()
    assert not many.from_("192.0.2.2")[1].cut
    assert [wire.cut for _, wire in served] == [False, True, False]


async def test_what_is_owed_over_a_connection_that_has_gone_counts_for_nobody() -> None:
    many = Many(per_address=1, asking=1, connections=10)
    guarded, _ = many.from_("192.0.2.1")
    guarded.begin()
    guarded.connection_lost(None)
    with guarded.owing():
        guarded.pause_writing()
        assert not many.from_("192.0.2.1")[1].cut
        assert len(many.guards) == 1


@pytest.mark.parametrize(
    ("connections", "are_of_one_proxy", "bounds"),
    [
        (50_000, False, (4_096, 512)),
        (50_000, True, (4_096, None)),
        (768, False, (384, 256)),
        (256, True, (128, None)),
    ],
)
def test_where_connections_are_few_half_are_for_who_has_asked(
    connections: int, are_of_one_proxy: bool, bounds: tuple[int, int | None]
) -> None:
    found = Bounds.within(connections, are_of_one_proxy=are_of_one_proxy)
    assert (found.asking, found.per_address) == bounds
    assert found.for_news < connections


async def test_a_connection_that_goes_leaves_no_trace() -> None:
    many = Many(per_address=2, asking=10, connections=10)
    guarded, _ = many.from_("192.0.2.1")
    guarded.data_received(b"GET")
    guarded.begin()
    guarded.pause_writing()
    guarded.end()
    guarded.connection_lost(None)
    guarded.connection_lost(None)
    guards = many.guards
    assert (len(guards), guards._asking, guards._asking_of, guards._idle, guards._unread) == (0, {}, {}, {}, {})


@pytest.mark.parametrize(
    ("address", "counts_as"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("unknown" * 100, "unknown" * 9 + "u"),
    ],
)
def test_a_site_of_ipv6_counts_as_one_address(address: str, counts_as: str) -> None:
    assert whose(address) == counts_as
