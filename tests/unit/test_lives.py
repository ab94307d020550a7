"""Two processes with one key: when that is seen, and when it is not (docs/protocol.md, "Clones")."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.limits import MAX_LIVES_HEARD, MAX_LIVES_PER_DEVICE
from protocol.messages.lives import Life, Lives, Twin

KEY = b"k" * 32


def life(number: int) -> Life:
    return Life(number.to_bytes(8, "big"))


class Server:
    """What a server hears, at its time, and the challenges that it gives."""

    def __init__(self) -> None:
        self.lives = Lives()
        self.ms = 0

    def tells(self, said: bytes, given_ms: int | None, device: bytes = KEY) -> Twin:
        self.ms += 1
        return self.lives.hear(device, said, given_ms, self.ms)

    def hears(self, process: Process) -> Twin:
        told = self.tells(process.life.next(), process.given_ms)
        if not self.lives.knows_to_live(KEY, process.given_ms):
            process.given_ms = self.ms
        return told


@dataclass
class Process:
    life: Life
    given_ms: int | None = None


def process(number: int) -> Process:
    return Process(life(number))


def test_a_machine_that_is_started_again_and_again_is_no_clone() -> None:
    server, boots = Server(), [process(number) for number in range(30)]
    assert {server.hears(boot) for boot in boots for _ in range(5)} == {Twin.NONE}


def test_two_that_speak_in_turn_are_told_which_of_them_came_first() -> None:
    server, first, later = Server(), process(1), process(2)
    told = [(server.hears(first), server.hears(later)) for _ in range(5)]
    assert told[0] == (Twin.NONE, Twin.NONE)
    assert told[-1] == (Twin.FIRST, Twin.LATER)


def test_requests_that_were_long_under_way_say_nothing() -> None:
    server, old, new = Server(), process(1), process(2)
    server.hears(old)
    server.hears(old)
    kept = [old.life.next() for _ in range(6)]
    for _ in range(3):
        server.hears(new)
    told = {told for each in kept for told in (server.tells(each, old.given_ms), server.hears(new))}
    assert told == {Twin.NONE}


def test_nor_where_the_younger_one_was_heard_first() -> None:
    server, old, new = Server(), process(1), process(2)
    kept = [old.life.next() for _ in range(6)]
    server.hears(new)
    told = {told for each in kept for told in (server.tells(each, None), server.hears(new))}
    assert told == {Twin.NONE}


def test_a_request_that_somebody_replays_says_nothing() -> None:
    server, old, new = Server(), process(1), process(2)
    for _ in range(5):
        server.hears(old)
        server.hears(new)
    said, given_ms = old.life.next(), old.given_ms
    server.tells(said, given_ms)
    server.hears(new)
    told = {told for _ in range(10) for told in (server.tells(said, given_ms), server.hears(new))}
    assert told == {Twin.NONE}


def test_once_one_of_them_is_gone_the_other_is_left_alone() -> None:
    server, first, later = Server(), process(1), process(2)
    for _ in range(5):
        server.hears(first)
        server.hears(later)
    assert {server.hears(later) for _ in range(10)} == {Twin.NONE}


def test_of_many_clones_each_is_told() -> None:
    server, clones = Server(), [process(number) for number in range(MAX_LIVES_PER_DEVICE)]
    for _ in range(20):
        told = [server.hears(clone) for clone in clones]
    assert told == [Twin.FIRST, *[Twin.LATER] * (MAX_LIVES_PER_DEVICE - 1)]


def test_who_came_first_is_told_among_the_living() -> None:
    server, enrolling, first, later = Server(), process(1), process(2), process(3)
    server.hears(enrolling)
    told = [(server.hears(first), server.hears(later)) for _ in range(6)]
    assert told[-1] == (Twin.FIRST, Twin.LATER)


def test_a_program_that_says_no_challenge_is_told_nothing() -> None:
    server, first, later = Server(), life(1), life(2)
    assert {server.tells(each.next(), None) for _ in range(9) for each in (first, later)} == {Twin.NONE}


def test_who_draws_many_nonces_fills_no_memory() -> None:
    server = Server()
    for number in range(1_000):
        server.tells(life(number).next(), server.ms)
    assert all(len(known.heard) == MAX_LIVES_PER_DEVICE for known in server.lives._devices.values())
    for number in range(MAX_LIVES_HEARD + 100):
        server.tells(life(1).next(), None, number.to_bytes(32, "big"))
    assert len(server.lives._devices) == MAX_LIVES_HEARD


def test_who_says_nothing_of_its_process_is_told_nothing() -> None:
    assert Lives().hear(KEY, None) is Twin.NONE
