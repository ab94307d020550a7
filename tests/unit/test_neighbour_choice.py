from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from protocol.limits import MAX_NEIGHBOURS
from sync_agent.lan.finding.neighbour_choice import kept_besides, neighbours_of, ranking_of


def names(count: int, seed: int = 1) -> list[str]:
    chance = Random(seed)
    return [chance.randbytes(8).hex() for _ in range(count)]


def graph(everyone: list[str]) -> dict[str, set[str]]:
    return {name: neighbours_of(name, everyone) for name in everyone}


def reached(links: dict[str, set[str]], start: str) -> dict[str, int]:
    """Each device that news from `start` reaches, and over how many links."""
    seen = {start: 0}
    wave = [start]
    while wave:
        name = wave.pop(0)
        for other in links[name] - seen.keys():
            seen[other] = seen[name] + 1
            wave.append(other)
    return seen


@pytest.mark.parametrize("count", [1, 2, 9, 10, 30, 120])
def test_everybody_is_reached_and_nobody_has_many_neighbours(count: int) -> None:
    everyone = names(count)
    links = graph(everyone)
    assert all(len(chosen) <= MAX_NEIGHBOURS for chosen in links.values())
    assert reached(links, everyone[0]).keys() == set(everyone)
    assert all(name in links[other] for name, chosen in links.items() for other in chosen), "both sides choose the same"


def test_thirty_machines_are_not_nine_hundred_conversations_and_news_is_there_in_few_hops() -> None:
    for seed in range(10):
        everyone = names(30, seed)
        links = graph(everyone)
        assert sum(map(len, links.values())) / 2 <= 30 * MAX_NEIGHBOURS / 2
        assert max(max(reached(links, name).values()) for name in everyone) <= 5


def test_when_one_goes_the_others_keep_nearly_all_their_links() -> None:
    everyone = names(30)
    before, after = graph(everyone), graph(everyone[1:])
    kept = sum(len(before[name] & after[name]) for name in everyone[1:])
    assert kept >= 0.8 * sum(len(before[name] - {everyone[0]}) for name in everyone[1:])


def test_each_piece_has_one_fetcher_and_the_work_is_shared() -> None:
    everyone = names(10)
    pieces = [bytes([number]) * 32 for number in range(200)]
    counts = Counter(ranking_of(piece, everyone)[0] for piece in pieces)
    assert all(ranking_of(piece, everyone[::-1]) == ranking_of(piece, everyone) for piece in pieces)
    assert len(counts) == 10
    assert max(counts.values()) < 50
    assert not ranking_of(b"", [])


def test_a_link_that_stands_is_given_up_for_one_that_stands_and_not_for_who_was_only_announced() -> None:
    standing = ["a", "b", "c"]
    assert kept_besides(["x", "y"], standing) == ["a", "b"], "as many as of the chosen ones are not there yet"
    assert kept_besides(["x", "a"], standing) == ["b"]
    assert kept_besides(["a", "b"], standing) == []
    crowd = [f"invented {number}" for number in range(100)]
    assert len(kept_besides(crowd, [f"true {number}" for number in range(30)])) == MAX_NEIGHBOURS
