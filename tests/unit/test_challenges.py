"""Since when a question can be (docs/adr/0340)."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.limits import CHALLENGE_BYTES
from protocol.replica.answering.challenges import RENEWED_MS, Challenges

ONE, OTHER = bytes(32), bytes([1]) * 32


@dataclass
class Steady:
    ms: int = 1_795_000_000_000

    def __call__(self) -> int:
        return self.ms


def test_a_challenge_says_how_long_ago_it_was_given_to_that_device_by_that_process() -> None:
    steady = Steady()
    challenges = Challenges(b"s" * 32, steady)
    given = challenges.issue(ONE)
    steady.ms += 5_000
    assert len(given) == CHALLENGE_BYTES
    assert challenges.age_ms(ONE, given) == 5_000
    assert challenges.age_ms(OTHER, given) is None
    assert Challenges(b"t" * 32, steady).age_ms(ONE, given) is None
    later = bytes([given[0], *given[1:4], given[4] ^ 1]) + given[5:]
    assert challenges.age_ms(ONE, later) is None, "nobody dates it anew"
    assert challenges.age_ms(ONE, None) is None
    for another in (b"", given[:4], given + b"x", bytes(64)):
        assert challenges.age_ms(ONE, another) is None, "what a server of another version gave counts as none"


def test_another_is_given_once_the_last_one_is_an_hour_old_or_none_of_this_process() -> None:
    steady = Steady()
    challenges = Challenges(b"s" * 32, steady)
    given = challenges.next_for(ONE, None)
    steady.ms += RENEWED_MS - 1
    assert challenges.next_for(ONE, given) is None
    assert challenges.next_for(OTHER, given) is not None
    steady.ms += 1
    assert challenges.next_for(ONE, given) not in (None, given)
