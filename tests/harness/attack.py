"""A test of the attack suite runs twice: with its defence, where it must pass; without, where the attack must succeed.

So each test is shown able to fail each time it runs, and says in one place which rule it is that protects. `row` is the
row of docs/threat-model.md that the test stands for (`tests/unit/test_documentation.py` compares both).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

Test = Callable[..., Awaitable[None]]


def attack(row: str, *, off: Mapping[str, object]) -> Callable[[Test], Test]:
    """Mark a test as an attack. `off` replaces the defence, by dotted name, with what an attacker would wish for."""

    def with_and_without(test: Test) -> Test:
        @functools.wraps(test)
        async def run(*, defence: bool, **fixtures: Any) -> None:
            with pytest.MonkeyPatch.context() as patch:
                if defence:
                    await test(**fixtures)
                    return
                for name, replacement in off.items():
                    patch.setattr(name, replacement)
                try:
                    await test(**fixtures)
                except (AssertionError, pytest.fail.Exception):
                    return
            raise AssertionError(f"without its defence, “{row}” fails all the same: this test proves nothing")

        asked = list(inspect.signature(test).parameters.values())
        own = inspect.Parameter("defence", inspect.Parameter.KEYWORD_ONLY, annotation=bool)
        run.__signature__ = inspect.Signature([*asked, own])  # type: ignore[attr-defined]
        both = pytest.mark.parametrize("defence", [True, False], ids=["defended", "defence-off"])
        marked: Test = both(run)
        return marked

    return with_and_without
