"""Classes are made, and called otherwise; who gives one a name that another has, or had, is told.

Rules:
- a second class of a name is told of, and never refused: of the same school, and of no other year;
- what counts as another's name stands in `space_namesakes`: a class that is hidden for a moment has its names still.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from protocol.errors import BadInput, Code
from protocol.identity import normal_uai, school_id, uai_warning
from protocol.model.entry import Kind
from protocol.model.structure import SpaceChange, SpaceRecord
from protocol.replica.at_work.replica import Draft
from protocol.replica.at_work.space_names import changes_shown
from protocol.replica.office.bureau import Office
from protocol.replica.office.erasures import closed_by_kit
from protocol.replica.office.names import name_of, school_year
from protocol.replica.office.space_namesakes import NamedClass, readings, spaces_ever_named
from protocol.replica.office.spaces import space_records

_MAX_UAI_CHARS: Final = 16


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


def _told_of_twin(name: str, twin: NamedClass) -> str:
    as_now = "" if readings(name) & readings(twin.now) else f", called “{twin.now}” by now"
    return (
        f"this school has a class “{name}” already ({twin.id.hex()}{as_now}): two of a name are easily taken for one "
        "another; `space rename` gives one of them another name"
    )


async def twin_of(
    office: Office, name: str, year: str | None, school: bytes, but: bytes | None = None
) -> NamedClass | None:
    """The first class of the school that has this name, or had it, unless it is closed, or known to be of another year.

    None that is `but`.
    """
    read, closed = readings(name), await closed_by_kit(office.replica)
    for each in await spaces_ever_named(office.replica):
        is_other = each.id != but and each.id not in closed and office.replica.door.parent(each.id) == school
        same_year = year is None or each.year is None or year == each.year
        if is_other and same_year and not read.isdisjoint(each.readings()):
            return each
    return None
