"""What people type where an id is asked for: the name of a class, a person or a device, if only one ever had it here.

Rules:
- a name is compared as people say it: case, accents, ligatures (œ is oe), white space and what no screen shows make no
  difference; a part of one is no name;
- who is meant is never guessed: of several none is taken, and the answer shows what tells them apart;
- what is over, a class that the kit has closed, is meant by its name only where nothing else has it.
"""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from protocol.beside_words import unlike_words
from protocol.errors import BadInput, Code
from protocol.replica.console.parameters import shown
from protocol.shown_text import name_shown

_LISTED_AT_MOST: Final = 8
_LIGATURES: Final = str.maketrans({"œ": "oe", "æ": "ae"})
"""Unicode takes these for letters of their own, and French spells them in two where a keyboard has none."""
_DIGITS: Final = frozenset(string.hexdigits)


@dataclass(frozen=True, slots=True)
class Named:
    """What has an id: its name, if it has one, and what else tells it from others of that name."""

    id: bytes
    name: str | None
    about: str = ""
    is_over: bool = False
    is_shown: bool = True
    """Whether it is there as things stand: not gone, nor hidden by whoever says so."""

    def __str__(self) -> str:
        told = ", ".join(part for part in (self.about, self.id.hex()) if part)
        return f"{shown(unlike_words(self.name))} ({told})" if self.name else told


def is_whole(text: str, size: int) -> bool:
    """Whether `text` is an id of `size` bytes in hexadecimal."""
    return len(text) == 2 * size and all(char in _DIGITS for char in text)


def compared(name: str) -> str:
    """Equal for two names that people would take for one, as they are shown: what is typed may be copied from there."""
    return " ".join(plain(name_shown(name)).split())


def plain(text: str) -> str:
    """Text without case, accents and ligatures: not every keyboard has them, and a list may be typed on another."""
    bare = (char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return "".join(bare).casefold().translate(_LIGATURES)


def by_name(text: str, known: Iterable[Named], code: Code, what: str) -> Named:
    """The only one of `known` with that name, of those that are not over before all.

    Raises `BadInput(code)`, which lists who may be meant.
    """
    asked = compared(text)
    each = {one.id: one for one in known if one.name}
    found = [one for one in each.values() if asked and compared(one.name or "") == asked]
    found = [one for one in found if not one.is_over] or found
    if len(found) == 1:
        return found[0]
    if found:
        several = f"{len(found)} {what}s here are called “{shown(text)}”: {_by_whether_shown(found)}"
        raise BadInput(code, f"{several}; the id says which")
    sentence = f"there is no {what} “{shown(text)}” here; a name, an id or its first eight digits is asked for"
    raise BadInput(code, f"{sentence}: {_listed(_nearest(asked, each.values()))}" if each else sentence)


def _nearest(asked: str, known: Collection[Named]) -> list[Named]:
    """Those first whose names hold what was typed, then like ones, then the others by their names."""
    from difflib import SequenceMatcher  # noqa: PLC0415 — for who mistypes only

    def distance(one: Named) -> tuple[bool, bool, float, str]:
        name = compared(one.name or "")
        return one.is_over, asked not in name, -round(SequenceMatcher(None, asked, name).ratio(), 1), name

    return sorted(known, key=distance)


def _by_whether_shown(found: Collection[Named]) -> str:
    """Those first that are there now: however many are gone, or hidden, these are told."""
    here, gone = [one for one in found if one.is_shown], [one for one in found if not one.is_shown]
    return f"there now: {_listed(here)}; gone, or hidden: {_listed(gone)}" if here and gone else _listed(found)


def _listed(found: Collection[Named]) -> str:
    first = ", ".join(str(one) for one in list(found)[:_LISTED_AT_MOST])
    return first if len(found) <= _LISTED_AT_MOST else f"{first}, and {len(found) - _LISTED_AT_MOST} more"
