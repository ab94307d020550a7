"""Spaces: what an operator means by one, listing them, what they were ever called.

A school is named by its UAI, a class by its id; wherever a space is asked for, both are understood, and the territory's
id too. What is listed are the classes, groups and staff rooms: schools and the territory come with them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from protocol.errors import BadInput, Code
from protocol.identity import school_id
from protocol.model.entry import ID_BYTES, Kind, parsed
from protocol.model.structure import SpaceChange, SpaceRecord
from protocol.replica.at_work.replica import Replica
from protocol.replica.at_work.space_names import changed_names, made_spaces
from protocol.replica.office.bureau import Office
from protocol.replica.office.mentioned import Mentioned, day_of
from protocol.replica.office.names import distinct, hex_or_none
from protocol.rights.door import Door


@dataclass(frozen=True, slots=True)
class ListedSpace:
    """A class as it is listed: `school` is the UAI, `entries` and `fingerprint` say what its set holds."""

    id: bytes
    name: str
    school: str
    entries: int
    fingerprint: bytes
    year: str | None = None


@dataclass(frozen=True, slots=True)
class SpacePast:
    """A class as it was made, and every name that it ever had, each since when by its own date, the first that came.

    Whoever has the server's key gives one class the name of another; not its year, nor when it was made.
    """

    year: str | None
    made_ms: int
    names: Mentioned

    def told(self, now: str) -> str:
        """The class, called `now`, for whoever ends it."""
        of_year = "without a school year" if self.year is None else f"of the school year {self.year}"
        return f"{self.names.called(now)}, {of_year}, made {day_of(self.made_ms)}"


async def list_spaces(office: Office) -> list[ListedSpace]:
    """Every class, by school and name."""
    records = await space_records(office)
    counts = await office.replica.store.spaces()
    schools = {space: record.uai for space, record in records.items() if record.uai is not None}
    listed = []
    for space, record in records.items():
        if record.uai is None:
            above = office.replica.door.parent(space)
            listed.append(
                ListedSpace(
                    space,
                    record.name,
                    schools.get(above or b"") or "",
                    counts.get(space, 0),
                    await office.replica.fingerprint(space),
                    record.year,
                )
            )
    return sorted(listed, key=lambda space: (space.school, space.name.casefold(), space.id))


async def uai_of(office: Office, space: bytes) -> str | None:
    """The code of a school, None for what is none."""
    record = (await space_records(office)).get(space)
    return None if record is None else record.uai


def space_named(office: Office, text: str) -> bytes:
    """The id of the space that `text` names: a class by id, a school by id or UAI. Raises `BadInput(UNKNOWN_SPACE)`."""
    door = office.replica.door
    named = hex_or_none(text.strip(), ID_BYTES) or school_id(door.territory, text)
    if not door.knows_space(named):
        raise BadInput(
            Code.UNKNOWN_SPACE,
            f"“{text}” is not the id of a space here, nor a school's code, one of which is asked for: see `space list`",
        )
    return named


def spaces_named(office: Office, texts: Iterable[str]) -> list[bytes]:
    """The ids of the spaces that are named, each once. Raises `BadInput(UNKNOWN_SPACE)`."""
    named = distinct(space_named(office, text) for text in texts)
    if not named:
        raise BadInput(Code.UNKNOWN_SPACE, "no space is named")
    return named


async def open_spaces_named(office: Office, texts: Iterable[str]) -> list[bytes]:
    """As `spaces_named`, for what is to be said there. Raises `BadInput(UNKNOWN_SPACE)` for a hidden class too."""
    named = spaces_named(office, texts)
    for space in named:
        if await is_hidden(office.replica, space):
            raise BadInput(
                Code.UNKNOWN_SPACE,
                f"the class {space.hex()} has been closed, or is hidden: nothing that is said there is shown",
            )
    return named


async def is_hidden(replica: Replica, space: bytes) -> bool:
    """Whether a space is a class of which nothing is shown, as an erasure of anybody's covers it.

    Closed is what the kit has closed (`erasures.closed_by_kit`): whoever has a server's key hides one for an hour.
    """
    door = replica.door
    is_class = door.parent(space) not in (None, door.territory)
    return is_class and space in (await replica.view(space)).roster.erased


def smallest_cover(door: Door, spaces: Iterable[bytes]) -> bytes:
    """The smallest space that is above, or is, all of `spaces`."""
    lines = [door.lineage(space) for space in spaces]
    return next(space for space in lines[0] if all(space in line for line in lines))


async def space_records(office: Office) -> dict[bytes, SpaceRecord]:
    """What the `space` entries say, by the space that they make, with the names that they have now."""
    return await records_in(office.replica)


async def records_in(replica: Replica) -> dict[bytes, SpaceRecord]:
    """The same of a replica that is no office's."""
    records = await made_spaces(replica)
    for space, name in (await changed_names(replica)).items():
        if space in records:
            records[space] = replace(records[space], name=name)
    return records


async def shown_by_id(
    office: Office, spaces: Iterable[bytes], everywhere: str = "every school", quoted: str = "“{name}”"
) -> list[str]:
    """Classes, schools and the territory by their ids, with the names that they have now behind them."""
    records, territory = await space_records(office), office.replica.territory
    names = {space: quoted.format(name=record.name) for space, record in records.items()} | {territory: everywhere}
    return [f"{space.hex()} ({names[space]})" if space in names else space.hex() for space in spaces]


async def pasts_beside(office: Office, space: bytes) -> dict[bytes, SpacePast]:
    """The past of a class, and of each other that lies where it does."""
    door = office.replica.door
    return {one: past for one, past in (await pasts(office.replica)).items() if door.parent(one) == door.parent(space)}


async def pasts(replica: Replica) -> dict[bytes, SpacePast]:
    """The past of every school and class that was ever made here, what is held back by now included."""
    names: dict[bytes, dict[str, int]] = {}
    made: dict[bytes, tuple[str | None, int]] = {}
    for entry in await replica.store.scan_kinds([Kind.SPACE]):
        record = parsed(entry, SpaceRecord.parse)
        if record is not None:
            one = record.space_of(entry, replica.territory)
            names.setdefault(one, {}).setdefault(record.name, entry.timestamp_ms)
            made.setdefault(one, (record.year, entry.timestamp_ms))
    for entry in await replica.store.scan_kinds([Kind.SPACE_CHANGE]):
        change = parsed(entry, SpaceChange.parse)
        if change is not None and entry.header.space in names:
            names[entry.header.space].setdefault(change.name, entry.timestamp_ms)
    return {
        one: SpacePast(*made[one], Mentioned(tuple(said), since_ms=tuple(said.values()))) for one, said in names.items()
    }
