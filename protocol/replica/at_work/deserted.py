"""Spaces in which nobody is by right, and of which what makes them is held back (ADR 0284, ADR 0480).

Rules:
- whoever has the server's key makes classes and schools by the thousand, each in a few bytes; once new keys hold these
  back, no machine writes a key into one, nor seals another space's key to it: in its own name no later report would
  take that back;
- a space that somebody is in whose grant there counts is one like any other, whoever made it: classes that were made
  between the theft of a laptop and its report have children in them;
- where the root's own word holds back what makes such a space, nobody reads it by a right that lies above it: no
  server's word closes a class to anybody so;
- that is looked at without a fold of the space where what lies above says enough: each fold reads all that lies above,
  and there may be thousands.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable
from itertools import pairwise
from typing import Protocol, TypeAlias

from protocol.model.entry import Entry, Kind, parsed
from protocol.model.structure import SpaceRecord
from protocol.replica.at_work.views import SpaceView
from protocol.replica.interfaces import EntryStore
from protocol.rights.door import Authority, Door
from protocol.rights.roster import Roster

DesertedByRoot: TypeAlias = Callable[[bytes], Awaitable[frozenset[bytes]]]
"""As `deserted_by_root`, of one replica."""


class Folded(Protocol):
    """What is asked of a replica here."""

    store: EntryStore
    door: Door

    async def view(self, space: bytes) -> SpaceView:
        """The folds of a space."""


async def deserted_among(replica: Folded, spaces: Collection[bytes]) -> set[bytes]:
    """Those of these `spaces`, and of those beside and below them, that are deserted."""
    door, found = replica.door, set[bytes]()
    parents = {above for space in spaces for above in door.lineage(space)[1:]}
    # a school before its classes: those of one that is deserted are so too
    for space in sorted(parents, key=lambda space: (len(door.lineage(space)), space)):
        found |= set(door.children(space)) if space in found else await deserted_in(replica, space)
    return found


async def deserted_in(replica: Folded, space: bytes) -> frozenset[bytes]:
    """The spaces in this one of which every `space` entry is held back, and in which, and below, nobody is by right."""
    roster = (await replica.view(space)).roster
    return await _deserted(replica, roster, roster.held_back)


async def deserted_by_root(replica: Folded, space: bytes) -> frozenset[bytes]:
    """Those of them of which it is the root's own word that holds every `space` entry back."""
    roster = (await replica.view(space)).roster
    return await _deserted(replica, roster, roster.held_by_root)


async def but_for_deserted(door: Door, by_root: DesertedByRoot, spaces: Iterable[bytes]) -> set[bytes]:
    """Those of these spaces that are not deserted by the root's word, nor lie in one that is."""
    return {space for space in spaces if not await _is_deserted(door, by_root, space)}


async def _is_deserted(door: Door, by_root: DesertedByRoot, space: bytes) -> bool:
    for below, above in pairwise(door.lineage(space)):
        if below in await by_root(above):
            return True
    return False


async def _deserted(replica: Folded, roster: Roster, held_back: Collection[bytes]) -> frozenset[bytes]:
    """The spaces in one of which all `space` entries are among these, and in which, and below, nobody is."""
    if not held_back:
        return frozenset()
    made: defaultdict[bytes, list[Entry]] = defaultdict(list)
    for stored in await replica.store.of_kinds(roster.space, [Kind.SPACE]):
        if (record := parsed(stored.entry, SpaceRecord.parse)) is not None:
            made[record.space_of(stored.entry, replica.door.territory)].append(stored.entry)
    held = {child: said for child, said in made.items() if all(entry.id in held_back for entry in said)}
    return frozenset(
        {child for child, said in held.items() if not await _is_anybody_in(replica, child, roster, _authors(said))}
    )


def _authors(said: Iterable[Entry]) -> frozenset[bytes]:
    return frozenset(entry.header.author for entry in said)


async def _is_anybody_in(replica: Folded, space: bytes, above: Roster, makers: Collection[bytes]) -> bool:
    """Whether a grant counts that lies in a space, or below it, which these keys have made, and which is held back."""
    void = set[bytes]()
    for place in replica.door.below(space):
        given = replica.door.authorities_in(place)
        for each in given:  # in the order in which they came: what was given under a grant came after it
            if each.under in void or not _may_count(each, above, makers):
                void.add(each.grant)
        if any(each.grant not in void for each in given):
            roster = (await replica.view(place)).roster
            if any(each.space == place and each.key not in roster.cut for each in roster.authorities):
                return True
    return False


def _may_count(given: Authority, above: Roster, makers: Collection[bytes]) -> bool:
    """Whether a grant may hold, by what is known above.

    None does under a right that is held back there; nor one by a key that is cut off, and made the space itself: what
    holds back the space holds back what that key has said in it since.
    """
    if given.author in above.cut and given.author in makers:
        return False
    return given.under not in above.held_back and given.under not in above.void
