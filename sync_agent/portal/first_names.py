"""What pupils are called where they find themselves in a list: as little of a name as tells them apart.

Rules:
- a first name alone, while nobody else in the list has it; of two who have it, as much of the family name as differs;
- a part in capitals is the family name (MARTIN Léa), else the first part is the first name;
- whom no name tells apart is told by the class, then by a number, which is the same on every machine.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from protocol.replica.by_name import compared


@dataclass(frozen=True, slots=True)
class Pupil:
    """Somebody in a list: an id, the name on the class list, and the class."""

    id: bytes
    name: str
    room: str


def told_apart(pupils: Iterable[Pupil]) -> dict[bytes, str]:
    """What each of them is called, for pupils to read."""
    listed = list(pupils)
    called = {pupil.id: first_and_family(pupil.name)[0] for pupil in listed}
    for letters in range(1, max((len(pupil.name) for pupil in listed), default=0) + 1):
        for group in _alike(listed, called):
            families = [first_and_family(pupil.name)[1] for pupil in group]
            whole = letters >= min((len(family) for family in families if family), default=0)
            called |= {pupil.id: _with_letters(pupil.name, None if whole else letters) for pupil in group}
    return _numbered(listed, called)


def whole_names(pupils: Iterable[Pupil]) -> dict[bytes, str]:
    """The same for their teachers, who see whole names."""
    listed = list(pupils)
    return _numbered(listed, {pupil.id: pupil.name for pupil in listed})


def first_and_family(name: str) -> tuple[str, str]:
    """The two parts of a name; the second is empty where there is only one."""
    parts = name.split()
    capitals = [part for part in parts if len(part) > 1 and part.isupper()]
    if capitals and len(capitals) < len(parts):
        return " ".join(part for part in parts if part not in capitals), " ".join(capitals)
    return (parts[0], " ".join(parts[1:])) if parts else (name, "")


def _with_letters(name: str, letters: int | None) -> str:
    """A first name with so many letters of the family name, or all of it."""
    first, family = first_and_family(name)
    if not family:
        return first
    return f"{first} {family}" if letters is None else f"{first} {family[:letters].strip().capitalize()}."


def _alike(listed: Iterable[Pupil], called: Mapping[bytes, str]) -> list[list[Pupil]]:
    """Those that a reader would take for one another."""
    groups: defaultdict[str, list[Pupil]] = defaultdict(list)
    for pupil in listed:
        groups[compared(called[pupil.id])].append(pupil)
    return [group for group in groups.values() if len(group) > 1]


def _numbered(listed: Sequence[Pupil], called: dict[bytes, str]) -> dict[bytes, str]:
    """With the class, and a number, for those whom their names do not tell apart."""
    said = dict(called)
    for group in _alike(listed, called):
        rooms = _by(group, lambda pupil: pupil.room)
        for room, classmates in rooms.items():
            for number, pupil in enumerate(sorted(classmates, key=lambda pupil: pupil.id), 1):
                marks = [room] if len(rooms) > 1 else []
                marks += [str(number)] if len(classmates) > 1 else []
                said[pupil.id] = f"{called[pupil.id]} ({', '.join(marks)})"
    return said


def _by(pupils: Iterable[Pupil], key: Callable[[Pupil], str]) -> dict[str, list[Pupil]]:
    found: defaultdict[str, list[Pupil]] = defaultdict(list)
    for pupil in pupils:
        found[key(pupil)].append(pupil)
    return dict(found)
