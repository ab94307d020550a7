"""What pupils are called where they find themselves in a list: as little of a name as tells them apart.

Rules:
- a first name alone, while nobody else in the list has it; of two who have it, as much of the family name as differs;
- a part in capitals is the family name (MARTIN Léa), else the first part is the first name;
- a page costs as much as its names are long, whoever wrote them: each is looked at once, not once a letter;
- whom no name tells apart is told by the class, then by a number, which is the same on every machine and stays
  (`protocol.replica.office.namesakes`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TypeAlias
from unicodedata import normalize

from protocol.replica.console.by_name import compared
from protocol.replica.office.namesakes import first_and_family, spelt

_Fold: TypeAlias = Callable[[str], str]
"""`compared`, which looks at each name once."""


@dataclass(frozen=True, slots=True)
class Pupil:
    """Somebody in a list: an id, the name on the class list, the class, and the number there of those of one name."""

    id: bytes
    name: str
    room: str
    number: int = 0


def told_apart(pupils: Iterable[Pupil]) -> dict[bytes, str]:
    """What each of them is called, for pupils to read."""
    listed = list(pupils)
    fold = cache(compared)
    parts = {pupil.id: first_and_family(normalize("NFC", pupil.name)) for pupil in listed}
    called = {pupil.id: parts[pupil.id][0] for pupil in listed}
    for group in _alike(listed, called, fold):
        called |= _with_families({pupil.id: parts[pupil.id] for pupil in group}, fold)
    # A family name that begins like somebody's second first name: all of it, then, and a number if that does not do.
    for group in _alike(listed, called, fold):
        called |= {pupil.id: " ".join(filter(None, parts[pupil.id])) for pupil in group}
    return _numbered(called, _alike(listed, called, fold))


def whole_names(pupils: Iterable[Pupil]) -> dict[bytes, str]:
    """The same for their teachers, who see whole names."""
    listed = list(pupils)
    said = {pupil.id: spelt(pupil.name) for pupil in listed}
    return _numbered({pupil.id: pupil.name for pupil in listed}, _alike(listed, said, cache(compared)))


def _with_families(group: Mapping[bytes, tuple[str, str]], fold: _Fold) -> dict[bytes, str]:
    """Those of one first name, with as many letters of the family name as no other of them begins with.

    All of it where those are all that it has, or where it begins with another's whole name (Martin, Martinez).
    Family names in their order show that by the one before and the one after: no letter is looked at again and again.
    """
    families = sorted({fold(family) for _, family in group.values() if family})
    shared = [0, *(_shared(*pair) for pair in pairwise(families)), 0]
    letters: dict[str, int | None] = {}
    shortest = None
    for place, family in enumerate(families):
        if shortest is None or not family.startswith(shortest):
            shortest = family
        enough = 1 + max(shared[place], shared[place + 1])
        letters[family] = enough if enough < len(family) and family == shortest else None
    times = Counter(fold(family) for _, family in group.values())
    return {
        who: _with_letters(first, family, letters[fold(family)] if times[fold(family)] == 1 else None)
        for who, (first, family) in group.items()
        if family
    }


def _shared(one: str, other: str) -> int:
    """How many letters both begin with."""
    differs = (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differs, min(len(one), len(other)))


def _with_letters(first: str, family: str, letters: int | None) -> str:
    """A first name with so many letters of the family name, or all of it."""
    return f"{first} {family}" if letters is None else f"{first} {family[:letters].strip().capitalize()}."


def _alike(listed: Iterable[Pupil], called: Mapping[bytes, str], fold: _Fold) -> list[list[Pupil]]:
    """Those that a reader would take for one another."""
    groups = _by(listed, lambda pupil: fold(called[pupil.id]))
    return [group for group in groups.values() if len(group) > 1]


def _numbered(called: Mapping[bytes, str], groups: Iterable[Sequence[Pupil]]) -> dict[bytes, str]:
    """With the class, and a number, for those of each group, whom their names do not tell apart."""
    said = dict(called)
    for group in groups:
        rooms = _by(group, lambda pupil: pupil.room)
        for room, classmates in rooms.items():
            number = 0
            for pupil in sorted(classmates, key=lambda pupil: (pupil.number, pupil.id)):
                # those of another name that looks the same here may have the same number
                number = max(number + 1, pupil.number)
                marks = [room] if len(rooms) > 1 else []
                marks += [str(number)] if len(classmates) > 1 else []
                said[pupil.id] = f"{called[pupil.id]} ({', '.join(marks)})"
    return said


def _by(pupils: Iterable[Pupil], key: Callable[[Pupil], str]) -> dict[str, list[Pupil]]:
    found: defaultdict[str, list[Pupil]] = defaultdict(list)
    for pupil in pupils:
        found[key(pupil)].append(pupil)
    return dict(found)
