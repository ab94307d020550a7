"""What a command says of its options and arguments, in `Annotated`: plain data, which a daemon may keep for weeks.

`parser` makes the parser's own kind of it, in the process that parses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_ID_SCHOOL_OR_ADDRESS: Final = re.compile(r"[0-9a-f]{8,64}|[0-9]{7}[A-Za-z]|\S+:[0-9]{1,5}")


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
    """An option; `names` where it is not simply called like the parameter; `has_lines` lets a text have several."""

    names: tuple[str, ...]
    metavar: str | None
    help: str | None
    min: int | None
    has_lines: bool

    def __init__(
        self,
        *names: str,
        metavar: str | None = None,
        help: str | None = None,  # noqa: A002 — as it is written
        min: int | None = None,  # noqa: A002
        has_lines: bool = False,
    ) -> None:
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "metavar", metavar)
        object.__setattr__(self, "help", help)
        object.__setattr__(self, "min", min)
        object.__setattr__(self, "has_lines", has_lines)


def several_in(variable: str) -> list[str]:
    """The values that a variable of the environment holds for an option that may be repeated: one a line.

    Names of classes and hours of the week have spaces in them. Ids, codes of schools and addresses have none: a line of
    these alone is parted at its spaces.
    """
    values: list[str] = []
    for line in variable.splitlines():
        words = line.split()
        if all(_ID_SCHOOL_OR_ADDRESS.fullmatch(word) for word in words):
            values += words
        else:
            values.append(line.strip())
    return values
