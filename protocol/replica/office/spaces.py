"""Spaces: what an operator means by one, making classes and the schools around them, listing them.

A school is named by its UAI, a class by its id; wherever a space is asked for, both are understood, and the territory's
id too. What is listed are the classes, groups and staff rooms: schools and the territory come with them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from protocol.errors import BadInput, Code
from protocol.identity import normal_uai, school_id, uai_warning
from protocol.model.entry import ID_BYTES, Kind, parsed
from protocol.model.structure import SpaceChange, SpaceRecord
from protocol.replica.at_work.replica import Draft, Replica
from protocol.replica.at_work.space_names import changed_names, changes_shown, made_spaces
from protocol.replica.office.bureau import Office
from protocol.replica.office.mentioned import Mentioned, day_of
from protocol.replica.office.names import distinct, hex_or_none, name_of, school_year
from protocol.rights.door import Door

_MAX_UAI_CHARS: Final = 16


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


@dataclass(frozen=True, slots=True)
class AddedSpace:
    """A class that was made; `warnings` are sentences about what looks like a mistake."""

    id: bytes
    warnings: tuple[str, ...]


async def add_space(office: Office, name: str, school: str, year: str | None = None) -> AddedSpace:
    """Make a class in the school of this UAI, and the school too if it is not there.

    A second class of a name is warned about, never refused. Raises `BadInput` (BAD_NAME, BAD_DATE, USAGE for what
    cannot be a UAI at all).
    """
    record = SpaceRecord(name_of(name, "a space"), year=school_year(year))
    uai = normal_uai(name_of(school, "a school"))
    if len(uai) > _MAX_UAI_CHARS:
        raise BadInput(Code.USAGE, f"“{uai}” is too long for the UAI of a school")
    territory = office.replica.territory
    above = school_id(territory, uai)
    twin = await twin_of(office, record.name, record.year, above)
    drafts = [Draft(above, Kind.SPACE, None, record.encode())]
    if not office.replica.door.knows_space(above):
        drafts.insert(0, Draft(territory, Kind.SPACE, None, SpaceRecord(uai, uai=uai).encode()))
    *_, made = await office.say(drafts)
    await office.tend_keys([made.id])
    warnings = [] if (mistyped := uai_warning(uai)) is None else [mistyped]
    if twin is not None:
        warnings.append(_told_of_twin(record.name, twin))
    return AddedSpace(made.id, tuple(warnings))


def _told_of_twin(name: str, twin: bytes) -> str:
    return (
        f"this school has a class “{name}” already ({twin.hex()}): two of a name are easily taken for one another; "
        "`space rename` gives one of them another name"
    )


async def twin_of(office: Office, name: str, year: str | None, school: bytes, but: bytes | None = None) -> bytes | None:
    """A class in the school that is called the same already, unless it is closed, or known to be of another year.

    None that is `but`.
    """
    for space, other in (await space_records(office)).items():
        if space == but or other.name.strip().casefold() != name.strip().casefold():
            continue
        same_year = year is None or other.year is None or year == other.year
        is_there = office.replica.door.parent(space) == school
        if is_there and same_year and not await is_closed(office.replica, space):
            return space
    return None


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
    """As `spaces_named`, for what is to be said there. Raises `BadInput(UNKNOWN_SPACE)` for a closed class too."""
    named = spaces_named(office, texts)
    for space in named:
        if await is_closed(office.replica, space):
            raise BadInput(
                Code.UNKNOWN_SPACE, f"the class {space.hex()} has been closed: nothing that is said there is shown"
            )
    return named


async def is_closed(replica: Replica, space: bytes) -> bool:
    """Whether a space is a class that was closed: what it held is destroyed, and nothing in it is shown."""
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


async def rename_space(office: Office, space: bytes, name: str) -> str | None:
    """Call a space something else, everywhere, whatever date its name bears; what to say of one that has it already.

    Raises `BadInput(BAD_NAME)`.
    """
    change = SpaceChange(name_of(name, "a space"))
    _, shown = (await changes_shown(office.replica)).get(space, (None, None))
    parents = () if shown is None else (shown,)
    made, above = (await space_records(office)).get(space), office.replica.door.parent(space)
    year = None if made is None else made.year
    twin = None if above is None else await twin_of(office, change.name, year, above, space)
    await office.say([Draft(space, Kind.SPACE_CHANGE, None, change.encode(), parents=parents)])
    return None if twin is None else _told_of_twin(change.name, twin)
