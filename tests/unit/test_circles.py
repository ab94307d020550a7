"""Whose devices lead to whose: found for all persons at once, the same as for each by itself."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.rights.circles import Circles
from protocol.rights.letting_back import Round
from protocol.rights.vouching import Device, Voices, Word


def some_word(random: Random, persons: list[bytes], devices: list[Device]) -> Word:
    person, shown, by = (random.choice(persons) for _ in range(3))
    return Word(random.choice(devices), person, shown, by, head=random.random() < 0.4)


def some_words(random: Random) -> tuple[Voices, list[bytes], list[Device]]:
    persons = [bytes([number]) for number in range(random.randrange(1, 6))]
    devices = [(bytes([number]), b"") for number in range(random.randrange(1, 10))]
    words: dict[Device, frozenset[Word]] = {}
    for voice in random.sample(devices, random.randrange(len(devices) + 1)):
        count = random.randrange(1, 5)
        words[voice] = frozenset(some_word(random, persons, devices) for _ in range(count))
    return Voices(words=words), persons, devices


@given(seed=st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
def test_all_circles_at_once_are_what_each_is_by_itself(seed: int) -> None:
    random = Random(seed)
    voices, persons, devices = some_words(random)
    circles = Circles(voices)
    for person in persons:
        circle, expected = circles.of(person), set[Device]()
        for start in random.sample(devices, random.randrange(1, len(devices) + 1)):
            fresh = circle.start(start)
            own = voices.circle(person, start).own
            assert set(fresh) == own - expected
            expected |= own
            assert circle.own == expected


@given(seed=st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
def test_who_leads_to_a_device_is_the_same_from_its_end(seed: int) -> None:
    voices, persons, devices = some_words(Random(seed))
    round_ = Round(voices)
    for person in persons:
        for named in devices:
            led = {one for one in devices if named in voices.circle(person, one, says={named: frozenset()}).own} - {
                named
            }
            assert round_.leading_to(named, person, round_.about(named)) - {named} == led
