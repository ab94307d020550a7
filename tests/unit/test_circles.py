"""Whose devices lead to whose: found for all persons at once, the same as for each by itself."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.rights.asked import Asking, Heard, asked_about, leading_to
from protocol.rights.circles import Circles
from protocol.rights.vouching import Device, Voices, Word


def some_word(random: Random, persons: list[bytes], devices: list[Device]) -> Word:
    person, by = (random.choice(persons) for _ in range(2))
    return Word(random.choice(devices), person, by, head=random.random() < 0.4)


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
def test_who_leads_to_devices_and_whom_they_lead_to_is_the_same_in_one_walk_for_all(seed: int) -> None:
    """A bit for each device: to it, whatever it says itself, and from it, whatever else leads on from there."""
    random = Random(seed)
    voices, persons, devices = some_words(random)
    stands = {device for device in devices if random.random() < 0.3}
    heard = Heard()
    for voice, words in voices.words.items():
        heard.now.hear(voice, words)
        heard.ever.hear(voice, words)
        heard.ever.add((voice, None), words)
    bits = {device: 1 << place for place, device in enumerate(devices)}
    said = [(voice, word) for voice, words in voices.words.items() for word in words]
    vouched = {one: [(*each, bits[one]) for each in said if each[1].device == one] for one in devices}
    for person in persons:
        asking = Asking(person, bits, {device: [(None, bit)] for device, bit in bits.items()}, {}, 0)
        asked, leading = asked_about(asking, heard.ever, stands.__contains__), leading_to(asking, heard, vouched)
        for one, bit in bits.items():
            others = set(devices) - {one}
            led = {each for each in others if one in voices.circle(person, each, says={one: frozenset()}).own}
            assert {each for each in others if leading.get(each, 0) & bit} == led
            if not stands:
                assert {each for each in others if asked.get(each, 0) & bit} == voices.circle(person, one).own - {one}


@given(seed=st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
def test_which_of_some_devices_lead_to_which_is_what_each_circle_says(seed: int) -> None:
    random = Random(seed)
    voices, persons, devices = some_words(random)
    bits = {one: 1 << place for place, one in enumerate(random.sample(devices, random.randrange(1, len(devices) + 1)))}
    for person in persons:
        led = voices.led_to_among(person, bits)
        assert led == {one: sum(bits.get(other, 0) for other in voices.circle(person, one).own) for one in bits}
