"""A class at the end of its year: what it held is forgotten everywhere, by the kit (§5; docs/protocol.md, "Erasure").

Rules:
- lessons are carried over, and families get their portfolio, before (`sync-agent carry-over`, `portfolio`): a class
  with work that no teacher has opened is not closed unless that is wished. Who opened counts where the list of the
  class has them as a teacher, and the work was meant for them: whoever had the server's keys says so of all of it under
  a name of their own (docs/adr/0253);
- nor is one with work that is hidden, by an erasure or a revocation of anybody's: what the kit closes is destroyed, and
  what an erasure alone hides, or a revocation, is not;
- one erasure of the space, signed by the root, in the space above: a tombstone that everybody keeps. Hidden wherever
  it arrives, destroyed there a week later; a machine that was off for months hears of it before anything else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from protocol.errors import BadInput, Code
from protocol.folds.coursework import Work
from protocol.folds.erasing import is_covered
from protocol.model.entry import Kind
from protocol.model.structure import Erasure
from protocol.replica.at_work.replica import Draft
from protocol.replica.at_work.signer import RootKit
from protocol.replica.office.as_root import check_kit, write_as_root
from protocol.replica.office.erasures import said_already
from protocol.replica.office.opened import is_opened_by_the_listed
from protocol.replica.office.people import names_of_words
from protocol.replica.upkeep.orders import DestroyedHere
from protocol.rights.roster import Roster
from protocol.roles import PersonRole
from sync_server.opened.app import Server


@dataclass(frozen=True, slots=True)
class Closing:
    """What goes with a class: pupils on its list, items, hand-ins, and how many of those nobody has opened.

    `hidden` are further ones, which nobody is shown, and of which it cannot be told.
    `opened_by` is how many each person says to have opened, by the name that a list has for them, whether that counts
    or not.
    """

    pupils: int
    items: int
    hand_ins: int
    unopened: int
    opened_by: Mapping[str | None, int]
    hidden: int


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
    is_opened = await is_opened_by_the_listed(server.replica, view.roster)
    found = Closing(
        sum(person.role is PersonRole.PUPIL for person in view.roster.persons.values()),
        len(view.coursework.items),
        len(works),
        sum(not is_opened(work) for work in works),
        await _opened_by(server, view.roster, works),
        await _hidden(server, view.roster),
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
            f"nobody who teaches this class has opened {found.unopened} of the hand-ins; say --unopened-too if they "
            "may go",
        )
    if found.hidden and not unopened_too:
        raise BadInput(
            Code.NOT_YET,
            f"{found.hidden} of the hand-ins are hidden, by an erasure or since a device was cut off, and cannot be "
            "counted as opened. `erasures` and `waiting` say by whose word, and how they are shown again; or say "
            "--unopened-too if they may go",
        )
    await write_as_root(server, kit, [Draft(above, Kind.ERASE, None, Erasure(space).encode())])
    return found


async def _hidden(server: Server, roster: Roster) -> int:
    """How many hand-ins are hidden and not destroyed here yet, those included of which the rest has not come."""
    gone = (await DestroyedHere.of(server.replica)).at(roster.space)
    said = [one.entry for one in await server.store.of_kinds(roster.space, [Kind.HAND_IN])]
    return sum((entry.payload is None or roster.hides(entry)) and not is_covered(entry, gone) for entry in said)


async def _opened_by(server: Server, roster: Roster, works: Collection[Work]) -> Mapping[str | None, int]:
    names = await names_of_words(server.replica, roster, {grant for work in works for grant in work.opened_under})
    return Counter(name for work in works for name in {names.get(grant) for grant in work.opened_under})
