"""Where devices stand: the schools and classes by name, kept until a space is added."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from protocol.replica.office.spaces import space_records
from sync_server.opened.app import Server


@dataclass(frozen=True, slots=True)
class School:
    """A school: its UAI, its name (the UAI where nobody gave one) and its classes, by name."""

    uai: str
    name: str
    space: bytes
    classes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Places:
    """All schools by UAI; of each space that is a class its name, and the UAI of the school that it lies in."""

    schools: Mapping[str, School]
    class_names: Mapping[bytes, str]
    school_of: Mapping[bytes, str]

    def schools_of(self, spaces: tuple[bytes, ...]) -> tuple[str, ...]:
        """The UAIs of the schools of these spaces, each once, in order."""
        return tuple(sorted({self.school_of[space] for space in spaces if space in self.school_of}))

    def classes_of(self, spaces: tuple[bytes, ...]) -> tuple[str, ...]:
        """The names of those spaces that are classes, in order."""
        return tuple(sorted(self.class_names[space] for space in spaces if space in self.class_names))


NOWHERE = Places({}, {}, {})


async def places_of(server: Server) -> Places:
    """The schools and classes of the territory."""
    records = await space_records(server)
    door = server.replica.door
    schools: dict[str, School] = {}
    class_names: dict[bytes, str] = {}
    school_of: dict[bytes, str] = {}
    classes: dict[str, list[bytes]] = {}
    for space, record in records.items():
        codes = (records[above].uai for above in door.lineage(space) if above in records)
        uai = next((code for code in codes if code is not None), None)
        if uai is not None:
            school_of[space] = uai
        if record.uai is None:
            class_names[space] = record.name
            classes.setdefault(uai or "", []).append(space)
    for space, record in records.items():
        if record.uai is not None:
            inside = sorted(classes.get(record.uai, ()), key=lambda each: (class_names[each].casefold(), each))
            schools[record.uai] = School(record.uai, record.name, space, tuple(inside))
    return Places(dict(sorted(schools.items())), class_names, school_of)
