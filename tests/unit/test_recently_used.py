"""Bounded caches (`protocol.replica.recently_used`)."""

from __future__ import annotations

from protocol.replica.recently_used import UntilChanged


class Finding:
    """Counts how often something was found out, and what it was by then."""

    def __init__(self) -> None:
        self.times = 0

    async def __call__(self) -> int:
        self.times += 1
        return self.times


async def test_what_was_found_out_stands_until_something_changes() -> None:
    kept, find = UntilChanged[str, int](2), Finding()
    assert [await kept.of("one", changes, find) for changes in (0, 0, 1, 1)] == [1, 1, 2, 2]


async def test_what_comes_while_it_is_found_out_counts_for_the_next_who_asks() -> None:
    kept, changes = UntilChanged[str, int](2), 0

    async def find() -> int:
        nonlocal changes
        changes += 1
        return changes - 1

    assert await kept.of("one", changes, find) == 0
    assert await kept.of("one", changes, find) == 1


async def test_what_was_asked_about_longest_ago_is_found_out_again() -> None:
    kept, find = UntilChanged[str, int](2), Finding()
    for key in ("one", "two", "three"):
        await kept.of(key, 0, find)
    assert await kept.of("three", 0, find) == 3
    assert await kept.of("one", 0, find) == 4
