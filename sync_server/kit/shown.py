"""Who or what an id is, by what was signed of it: looked at by the command, whatever a page called it (docs/adr/0325).

A class's id is the hash of the entry that made it: its first name, its year, when and in which school it was made are
bound to it, and nobody shows those of another. A person's id is bound to nothing: of them it is known who has signed
which name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from protocol.clock import rfc3339
from protocol.identity import school_id
from protocol.model.entry import Entry, Kind, parsed, signature_holds
from protocol.model.structure import PersonRecord, SpaceRecord
from protocol.portable_names import displayable
from protocol.replica.console import parameters as given
from protocol.replica.console.by_name import compared
from protocol.replica.console.text import local_time

MAX_NAMES_SHOWN: Final = 8
"""So many entries with a name of somebody are looked at, the first that came: who lists people writes without end."""

_DAY_CHARS: Final = len("2026-11-29")


@dataclass(frozen=True, slots=True)
class Shown:
    """What an id is called by what was signed, and a sentence that tells it."""

    names: tuple[str, ...]
    told: str

    def is_meant(self, named: Iterable[str]) -> bool:
        """Whether one of these is a name of it, as people compare names."""
        return not set(map(_compared, self.names)).isdisjoint(map(_compared, named))


def words_of_class(name: str, year: str | None, made_ms: int, school: str) -> str:
    """What to say of a class with the kit: another one may have the same name in another year, or school."""
    return f"{name}, {year or (rfc3339(made_ms) or '')[:_DAY_CHARS]}, {school}"


def class_shown(made: Entry, territory: bytes, evidence: Iterable[Entry]) -> Shown | None:
    """The class that an entry made; None where that makes none, or its school is not shown, which its id proves."""
    record = _space_in(made)
    uais = (found.uai for each in evidence if (found := _space_in(each)) is not None and found.uai is not None)
    school = next((uai for uai in uais if school_id(territory, uai) == made.header.space), None)
    if record is None or record.uai is not None or school is None:
        return None
    of_year = "without a school year" if record.year is None else f"of the school year {record.year}"
    told = f"“{given.shown(record.name)}”, {of_year}, made {_local(made)}, in the school {school}"
    return Shown((words_of_class(record.name, record.year, made.timestamp_ms, school),), told)


def persons_shown(evidence: Iterable[Entry]) -> Mapping[bytes, Shown]:
    """The people whom some entries list, each by all names that are signed there."""
    found: dict[bytes, list[tuple[Entry, str]]] = {}
    for each in evidence:
        record = parsed(each, PersonRecord.parse) if each.header.kind == Kind.PERSON else None
        if record is not None and each.header.subject is not None and signature_holds(each):
            found.setdefault(each.header.subject, []).append((each, record.name))
    return {person: Shown(tuple(name for _, name in lines), _told(lines)) for person, lines in found.items()}


def _told(lines: Iterable[tuple[Entry, str]]) -> str:
    by_name: dict[str, Entry] = {}
    for entry, name in lines:
        by_name.setdefault(name, entry)
    return "; ".join(
        f"“{given.shown(name)}”, dated {_local(entry)}, by the key {entry.header.author.hex()}"
        for name, entry in by_name.items()
    )


def _compared(name: str) -> str:
    return compared(displayable(name).replace(",", " "))


def _space_in(entry: Entry) -> SpaceRecord | None:
    return parsed(entry, SpaceRecord.parse) if entry.header.kind == Kind.SPACE else None


def _local(entry: Entry) -> str:
    return local_time(rfc3339(entry.timestamp_ms) or "")
