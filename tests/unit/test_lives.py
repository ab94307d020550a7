"""Two processes with one key: when that is seen, and when it is not (docs/protocol.md, "Clones")."""

from __future__ import annotations

from protocol.limits import MAX_LIVES_HEARD, MAX_LIVES_PER_DEVICE
from protocol.messages.lives import Life, Lives, Twin

KEY = b"k" * 32


def life(number: int) -> Life:
    return Life(number.to_bytes(8, "big"))


def test_a_machine_that_is_started_again_and_again_is_no_clone() -> None:
    lives = Lives()
    told = {lives.hear(KEY, boot.next()) for boot in map(life, range(30)) for _ in range(5)}
    assert told == {Twin.NONE}


def test_two_that_speak_in_turn_are_told_which_of_them_came_first() -> None:
    lives, first, later = Lives(), life(1), life(2)
    told = [(lives.hear(KEY, first.next()), lives.hear(KEY, later.next())) for _ in range(5)]
    assert told[0] == (Twin.NONE, Twin.NONE)
    assert told[-1] == (Twin.FIRST, Twin.LATER)


def test_one_request_that_was_long_under_way_says_nothing() -> None:
    lives, old, new = Lives(), life(1), life(2)
    lives.hear(KEY, old.next())
    lives.hear(KEY, new.next())
    assert lives.hear(KEY, old.next()) is Twin.NONE
    assert {lives.hear(KEY, new.next()) for _ in range(20)} == {Twin.NONE}


def test_a_request_that_somebody_replays_says_nothing() -> None:
    lives, old, new = Lives(), life(1), life(2)
    recorded = old.next()
    lives.hear(KEY, recorded)
    told = {lives.hear(KEY, said) for _ in range(10) for said in (new.next(), recorded)}
    assert told == {Twin.NONE}


def test_once_one_of_them_is_gone_the_other_is_left_alone() -> None:
    lives, first, later = Lives(), life(1), life(2)
    for _ in range(5):
        lives.hear(KEY, first.next())
        lives.hear(KEY, later.next())
    told = [lives.hear(KEY, later.next()) for _ in range(10)]
    assert set(told) == {Twin.NONE}


def test_of_many_clones_each_is_told() -> None:
    lives, clones = Lives(), [life(number) for number in range(MAX_LIVES_PER_DEVICE)]
    for _ in range(5):
        told = [lives.hear(KEY, clone.next()) for clone in clones]
    assert told == [Twin.FIRST, *[Twin.LATER] * (MAX_LIVES_PER_DEVICE - 1)]


def test_who_came_first_is_told_among_the_living() -> None:
    lives, enrolling, first, later = Lives(), life(1), life(2), life(3)
    lives.hear(KEY, enrolling.next())
    told = [(lives.hear(KEY, first.next()), lives.hear(KEY, later.next())) for _ in range(5)]
    assert told[-1] == (Twin.FIRST, Twin.LATER)


def test_who_draws_many_nonces_fills_no_memory() -> None:
    lives = Lives()
    for number in range(1_000):
        lives.hear(KEY, life(number).next())
    for number in range(MAX_LIVES_HEARD + 100):
        lives.hear(number.to_bytes(32, "big"), life(1).next())
    assert len(lives._devices) == MAX_LIVES_HEARD
    assert all(len(known) <= MAX_LIVES_PER_DEVICE for known in lives._devices.values())


def test_who_says_nothing_of_its_process_is_told_nothing() -> None:
    assert Lives().hear(KEY, None) is Twin.NONE
