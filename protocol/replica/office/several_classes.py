"""Which pupils the lists of several classes of one school year have: ids are of the territory, lists of one class.

Rules (docs/adr/0524):
- whoever writes a list, or has the server's key, puts a child of another class on it, beside one of that name, by one
  word: who takes the id out of that list has the other child's. So it is said wherever an id is shown for an order, and
  asked about before what there is about it is handed out;
- who has left the one list is in one class: so it is with a child who changes class. Of a class of another year nothing
  is said, nor of who is no pupil, who may be in several; a class without a year is of each;
- it is about what this replica reads: a teacher's laptop knows its own classes;
- an office asks of no list on which it has put somebody itself, or somebody whom it knows, nor of that on which their
  id began, of whichever year: a pupil is in a group as well, and nobody says so with a copied key alone. Which list of
  this year came first says nothing (docs/adr/0540).
"""

from __future__ import annotations

from collections.abc import Collection

from protocol.errors import BadInput, Code
from protocol.model.entry import Kind
from protocol.model.structure import SpaceRecord
from protocol.replica.at_work.replica import Replica
from protocol.replica.console.operation import Outgoing
from protocol.replica.office.list_words import SURE, ListWords
from protocol.replica.office.people import listings_of
from protocol.replica.office.spaces import records_in
from protocol.roles import PersonRole


async def classes_now(replica: Replica, persons: Collection[bytes]) -> dict[bytes, dict[bytes, SpaceRecord]]:
    """Which classes have each of these on their lists by now, as pupils."""
    records, listings = await records_in(replica), await listings_of(replica, persons)
    return {
        person: {
            space: records[space]
            for space, listed in lists.items()
            if space in records and records[space].uai is None
            if not listed.left and listed.role is PersonRole.PUPIL
        }
        for person, lists in listings.items()
    }


async def also_in(replica: Replica, space: bytes, persons: Collection[bytes]) -> dict[bytes, list[str]]:
    """Which other classes of the year have these pupils of a class on their lists; of whom none has, nothing."""
    found = {}
    for person, classes in (await classes_now(replica, persons)).items():
        own = classes.pop(space, None)
        if own is not None and (names := [each.name for each in classes.values() if _are_of_one_year(own, each)]):
            found[person] = sorted(names)
    return found


async def ask_about_classes(
    replica: Replica,
    person: bytes,
    outgoing: Outgoing,
    nothing_yet: str,
    *,
    words: ListWords | None = None,
    is_meant: bool,
) -> None:
    """Say which classes of one year have somebody. Raises `BadInput(NOT_YET)` before it is meant.

    But for those on whose lists an office has put them itself, or somebody whom it knows, where it has `words` of that;
    and for the list on which their id began.
    """
    classes = (await classes_now(replica, [person]))[person]
    several = {
        space: each
        for space, each in classes.items()
        if any(_are_of_one_year(each, other) for other in classes.values() if other is not each)
    }
    if not several or (words is not None and not await _are_unsure(replica, person, several, words)):
        return
    names = ", ".join(sorted(f"“{each.name}”" for each in several.values()))
    listed = f"{person.hex()} is on the lists of several classes of one year: {names}"
    await outgoing.progress(
        f"warning: {listed}. Whoever writes a list, or has the server's key, can put a child of one class on the list "
        "of another: find out in these classes whether that is one child (who has left one of them is taken off its "
        "list, `ungrant --person`)"
    )
    if not is_meant:
        raise BadInput(
            Code.NOT_YET, f"{nothing_yet}: {listed}. --renamed-too says that who has this id is meant all the same"
        )


async def _are_unsure(replica: Replica, person: bytes, several: Collection[bytes], words: ListWords) -> bool:
    """Whether one of these lists, but for that on which somebody's id began, has them by no sure word."""
    listed = (await listings_of(replica, [person]))[person]
    began = await _began_on(replica, person)
    said = await replica.store.get([listed[space].entry for space in several if space != began])
    return not all([await words.whose(one) in SURE for one in said.values()])


async def _began_on(replica: Replica, person: bytes) -> bytes | None:
    """The list on which somebody's id began, also where nothing but that is left of it: another did not begin it."""
    said = await replica.store.scan_kinds([Kind.PERSON])
    return next((entry.header.space for entry in said if entry.header.subject == person), None)


def _are_of_one_year(one: SpaceRecord, other: SpaceRecord) -> bool:
    return one.year == other.year or not one.year or not other.year
