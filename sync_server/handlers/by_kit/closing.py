"""A class at the end of its year: what it held is forgotten everywhere, by the kit (§5; docs/protocol.md, "Erasure").

Rules:
- lessons are carried over, and families get their portfolio, before (`sync-agent carry-over`, `portfolio`): a class
  with work that no teacher has opened is not closed unless that is wished;
- one erasure of the space, signed by the root, in the space above: a tombstone that everybody keeps. Hidden wherever
  it arrives, destroyed there a week later; a machine that was off for months hears of it before anything else.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocol.errors import BadInput, Code
from protocol.model.entry import Kind
from protocol.model.structure import Erasure
from protocol.replica.at_work.replica import Draft
from protocol.replica.at_work.signer import RootKit
from protocol.replica.office.as_root import check_kit, write_as_root
from protocol.replica.office.erasures import said_already
from protocol.roles import PersonRole
from sync_server.opened.app import Server


@dataclass(frozen=True, slots=True)
class Closing:
    """What goes with a class: pupils on its list, items, hand-ins, and how many of those nobody has opened."""

    pupils: int
    items: int
    hand_ins: int
    unopened: int


async def close_space(server: Server, kit: RootKit | None, space: bytes, *, unopened_too: bool) -> Closing:
    """Close a class; without a kit only say what would go.

    Raises `BadInput` (BAD_KIT, NOT_YET while there is work that nobody has opened, USAGE for what is no class).
    """
    door = server.replica.door
    above = door.parent(space)
    if above is None or above == door.territory:
        raise BadInput(Code.USAGE, "a class is closed, not a school or the territory")
    view = await server.replica.view(space)
    works = view.coursework.hand_ins.values()
    found = Closing(
        sum(person.role is PersonRole.PUPIL for person in view.roster.persons.values()),
        len(view.coursework.items),
        len(works),
        sum(not work.opened for work in works),
    )
    if kit is None or space in await said_already(server, above, by_kit=True):
        return found
    check_kit(server, kit)
    if space in view.roster.erased and not unopened_too:
        raise BadInput(
            Code.NOT_YET,
            "somebody has erased this class already, not by the kit: what was handed in there is hidden, and cannot be "
            "counted. `erasures` says who; `unerase` shows it again, or say --unopened-too if it may go",
        )
    if found.unopened and not unopened_too:
        raise BadInput(
            Code.NOT_YET,
            f"nobody has opened {found.unopened} of the hand-ins; say --unopened-too if they may go",
        )
    await write_as_root(server, kit, [Draft(above, Kind.ERASE, None, Erasure(space).encode())])
    return found
