"""What a command says of its options and arguments, in `Annotated`: plain data, which a daemon may keep for weeks.

`parser` makes the parser's own kind of it, in the process that parses.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, init=False)
class Argument:
    """A word of the command line by its place."""

    metavar: str | None
    help: str | None

    def __init__(self, *, metavar: str | None = None, help: str | None = None) -> None:  # noqa: A002 — as it is written
        object.__setattr__(self, "metavar", metavar)
        object.__setattr__(self, "help", help)


@dataclass(frozen=True, slots=True, init=False)
class Option:
    """An option; `names` where it is not simply called like the parameter."""

    names: tuple[str, ...]
    metavar: str | None
    help: str | None
    min: int | None

    def __init__(
        self,
        *names: str,
        metavar: str | None = None,
        help: str | None = None,  # noqa: A002 — as it is written
        min: int | None = None,  # noqa: A002
    ) -> None:
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "metavar", metavar)
        object.__setattr__(self, "help", help)
        object.__setattr__(self, "min", min)
