"""A test of the attack suite runs twice: with its defence, where it must pass; without, where the attack must succeed.

So each test is shown able to fail each time it runs, and says in one place which rule it is that protects. `row` is the
row of docs/attacks.md that the test stands for (`tests/unit/test_documentation.py` compares both).

`--defences-off K/N` runs of the latter the K-th share of N alone, by their names, and all in files that `--touched`
names: N such runs in a row are whole (docs/adr/0368).
"""

from __future__ import annotations

import functools
import inspect
import zlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import pytest

Test = Callable[..., Awaitable[None]]
_OFF: Final = "defence-off"
_switched_off: Final[set[str]] = set()


@dataclass(frozen=True, slots=True)
class Share:
    """The `turn`-th of `turns` shares of what runs without its defence."""

    turn: int
    turns: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """`K/N`: any K, so that whoever counts runs need not begin anew. Raises `ValueError`."""
        turn, _, turns = text.partition("/")
        if int(turns) < 1:
            raise ValueError(text)
        return cls(int(turn) % int(turns), int(turns))

    def holds(self, nodeid: str, touched: Collection[str]) -> bool:
        """Whether a test runs: with its defence always, without it in its turn, or where its file is `touched`."""
        if _OFF not in nodeid or nodeid.partition("::")[0] in touched:
            return True
        return zlib.crc32(nodeid.encode()) % self.turns == self.turn

    def part(self, numbers: range) -> range:
        """The part of these in a row whose turn it is."""
        first, end = (len(numbers) * at // self.turns for at in (self.turn, self.turn + 1))
        return numbers[first:end]


def is_undefended() -> bool:
    """Whether the test that runs has its defence switched off by now."""
    return bool(_switched_off)


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
                _switched_off.update(off)
                try:
                    await test(**fixtures)
                except (AssertionError, pytest.fail.Exception):
                    return
                finally:
                    _switched_off.clear()
            raise AssertionError(f"without its defence, “{row}” fails all the same: this test proves nothing")

        asked = list(inspect.signature(test).parameters.values())
        own = inspect.Parameter("defence", inspect.Parameter.KEYWORD_ONLY, annotation=bool)
        run.__signature__ = inspect.Signature([*asked, own])  # type: ignore[attr-defined]
        both = pytest.mark.parametrize("defence", [True, False], ids=["defended", _OFF])
        marked: Test = both(run)
        return marked

    return with_and_without
