"""The steps of a drill: what is ticked, what is next, in words that every catalogue has."""

from __future__ import annotations

from itertools import product

import pytest

from sync_agent.portal.head.drill_steps import Observed, steps_of
from sync_agent.portal.wording import CATALOGUES, Register, Words

NOTHING = Observed(heard=0, title=None, holding=0, handed_in=0, safe=0, by_stick=0, sent=0)
ALL = Observed(heard=4, title="La goutte", holding=3, handed_in=2, safe=2, by_stick=1, sent=2)


def keys(seen: Observed, *, is_over: bool = False) -> tuple[list[str], str | None]:
    """What is ticked, and what is next."""
    steps = steps_of(seen, Words("fr", Register.ADULT), is_over=is_over)
    return [step.key for step in steps if step.done], next((step.key for step in steps if step.is_next), None)


@pytest.mark.parametrize(
    ("seen", "done", "following"),
    [
        (NOTHING, [], "cut"),
        (Observed(1, None, 0, 0, 0, 0, 0), ["cut"], "publish"),
        (Observed(1, "La goutte", 0, 0, 0, 0, 0), ["cut"], "publish"),
        (Observed(1, "La goutte", 1, 0, 0, 0, 0), ["cut", "publish"], "hand_in"),
        (Observed(1, "La goutte", 1, 2, 1, 0, 0), ["cut", "publish", "hand_in"], "safe"),
        (Observed(1, "La goutte", 1, 2, 2, 0, 0), ["cut", "publish", "hand_in", "safe"], "stick"),
        (Observed(0, None, 0, 0, 0, 1, 0), ["stick"], "cut"),
        (ALL, ["cut", "publish", "hand_in", "safe", "stick"], None),
    ],
)
def test_one_step_after_the_other_is_next_and_a_stick_is_only_offered(
    seen: Observed, done: list[str], following: str | None
) -> None:
    assert keys(seen) == (done, following)


@pytest.mark.parametrize(("sent", "following"), [(0, "sent"), (1, "sent"), (2, None)])
def test_once_it_is_over_only_what_is_on_its_way_is_awaited(sent: int, following: str | None) -> None:
    done, after = keys(Observed(0, None, 0, 2, 0, 0, sent), is_over=True)
    assert after == following
    assert ("sent" in done) is (following is None)


@pytest.mark.parametrize(("language", "register"), list(product(CATALOGUES.languages, Register)))
def test_every_step_says_what_it_is_how_it_is_done_and_what_was_seen(language: str, register: Register) -> None:
    say = Words(language, register)
    for step in steps_of(ALL, say, is_over=True):
        assert say(f"drill.step_{step.key}")
        assert say(f"drill.how_{step.key}")
        assert step.seen
    assert "La goutte" in steps_of(ALL, say, is_over=False)[1].seen
