"""On which other lists two are who are to be one: two children of one name are so too, each in a class of their own.

Rules (docs/adr/0516):
- whoever writes a list, or has the server's key, puts a child of another class on it, beside one of that name: then
  they look like somebody who was added twice. What is said of them reaches the lists that were shown, and no other;
- every list that ever had either is told, held back and hidden ones included, and asked about before the two are one:
  who is on the other list too is no sign, since the same key puts them there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from protocol.errors import BadInput, Code
from protocol.model.structure import SpaceRecord
from protocol.replica.at_work.replica import Replica
from protocol.replica.console.operation import Outgoing
from protocol.replica.office.bureau import Office
from protocol.replica.office.mentioned import mentioned
from protocol.replica.office.spaces import space_records
from protocol.replica.office.taken_names import NOBODY_MERGED


async def lists_meant(office: Office, person: bytes, named: Sequence[bytes]) -> Sequence[bytes]:
    """On which lists somebody is made one with another: those that were named, or the only one that ever had them.

    Raises `BadInput(NOT_YET)` where there are several, and none was named.
    """
    ever = (await mentioned(office.replica, [person]))[person].spaces
    if named or len(ever) <= 1:
        return named or ever
    listed = _listed(await names_of_lists(office, ever), ever)
    raise BadInput(
        Code.NOT_YET,
        f"{NOBODY_MERGED}: {person.hex()} is, or was, on several lists, {listed}. --space says on which, one for each",
    )


async def other_lists(
    replica: Replica, persons: Collection[bytes], shown: Collection[bytes]
) -> dict[bytes, list[bytes]]:
    """Which lists but those that were `shown` have, or had, each of these people; of whom none has, nothing."""
    everybody = await mentioned(replica, persons)
    found = {person: [space for space in everybody[person].spaces if space not in shown] for person in persons}
    return {person: spaces for person, spaces in found.items() if spaces}


async def names_of_lists(office: Office, spaces: Collection[bytes]) -> Mapping[bytes, str]:
    """What people call the classes, and the schools, of these lists, with the year; of what has no name, the id."""
    records = await space_records(office)
    return {space: _named(records[space]) if space in records else space.hex() for space in spaces}


def _named(record: SpaceRecord) -> str:
    return f"{record.name} ({record.year})" if record.year else record.name


async def ask_about_other_lists(
    office: Office, persons: Collection[bytes], shown: Collection[bytes], outgoing: Outgoing, *, is_meant: bool
) -> None:
    """Say on which other lists these are, who are to be one. Raises `BadInput(NOT_YET)` before it is meant."""
    others = await other_lists(office.replica, persons, shown)
    names = await names_of_lists(office, {space for spaces in others.values() for space in spaces})
    lines = [f"{one.hex()} is, or was, on the list of {_listed(names, spaces)}" for one, spaces in others.items()]
    for line in lines:
        await outgoing.progress(
            f"warning: {line}. Whoever writes a list, or has the server's key, can put a child of one class on the "
            "list of another, beside one of the same name: find out whether they are two"
        )
    if lines and not is_meant:
        raise BadInput(
            Code.NOT_YET,
            f"{NOBODY_MERGED}: {'; '.join(lines)}. --listed-too says that they are the same all the same",
        )


def _listed(names: Mapping[bytes, str], spaces: Collection[bytes]) -> str:
    return ", ".join(f"“{names[space]}” ({space.hex()})" for space in spaces)
