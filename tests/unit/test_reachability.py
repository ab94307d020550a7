"""What leads to what is the same as by walking from each place, and each place is looked at twice at most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from protocol.rights.reachability import bits_led_to

PLACES = range(9)


def _walked(start: int, edges: Mapping[int, Sequence[int]]) -> int:
    found, pending = {start}, [start]
    while pending:
        fresh = set(edges.get(pending.pop(), ())) - found
        found |= fresh
        pending += fresh
    return sum(1 << place for place in found)


@given(st.dictionaries(st.sampled_from(PLACES), st.lists(st.sampled_from(PLACES), max_size=4)))
def test_each_place_leads_to_what_a_walk_from_it_reaches(edges: dict[int, list[int]]) -> None:
    led = bits_led_to(PLACES, lambda place: edges.get(place, ()), lambda place: 1 << place)
    assert led == {place: _walked(place, edges) for place in PLACES}


def test_a_ring_of_thousands_in_which_all_lead_to_all_is_followed_once() -> None:
    size, asked = 5_000, Counter[int]()

    def leads_to(place: int) -> Iterable[int]:
        asked[place] += 1
        return [(place + 1) % size]

    led = bits_led_to(range(size), leads_to, lambda place: 1 if place == 7 else 0)
    assert set(led.values()) == {1}
    assert max(asked.values()) <= 2
