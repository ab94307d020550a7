"""What revocations do in a space without some of them, which a thief may have said.

Whoever has a copy of a server's key holds back for a minute, or for good, what anybody has said, an honest report or
the right by which a machine came in: what is held back for that alone an office goes by all the same. What others say
is passed over with all that follows from it, so that nothing which it had held back is so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

from protocol.model.entry import Entry, Kind
from protocol.replica.at_work.replica import Replica
from protocol.replica.office.bureau import Office, is_ours
from protocol.replica.office.said_here import cuts_of_others
from protocol.rights.revocations import cuts_of, without_right
from protocol.rights.roster import authorities_over
from protocol.roles import RANK, Role

_Basis: TypeAlias = tuple[tuple[int, ...], frozenset[bytes]]
"""From what it was found: how many entries there are, how often they were written anew, and without which."""


class Found(NamedTuple):
    """Without doubtful words: the keys cut off and the grants that give nothing, and what is held back."""

    basis: _Basis
    out: frozenset[bytes]
    held: frozenset[bytes]


_FOUND: Final[WeakKeyDictionary[Replica, dict[bytes, Found]]] = WeakKeyDictionary()


async def held_surely(office: Office, spaces: Iterable[bytes]) -> dict[bytes, frozenset[bytes]]:
    """What is held back in each of these spaces though all is passed over that others say.

    Others than this office and a root; at a server since it notes what it says itself.
    """
    passed_over = await _said_by_others(office)
    return {space: (await found_without(office.replica, space, passed_over)).held for space in set(spaces)}


async def _said_by_others(office: Office) -> list[Entry]:
    if office.rank >= RANK[Role.SERVER]:
        return await cuts_of_others(office)
    return [one for one in await office.replica.store.scan_kinds([Kind.REVOKE]) if not is_ours(office, one)]


async def found_without(replica: Replica, space: bytes, doubted: Collection[Entry]) -> Found:
    """What the words of a space, and of those above it, do without the `doubted` ones."""
    door = replica.door
    line = door.lineage(space)
    without = frozenset(order.id for order in doubted if order.header.space in line)
    counts = [(await replica.store.position(member)).count for member in line]
    basis = (replica.rewritten, *counts), without
    kept = _FOUND.setdefault(replica, {})
    if space not in kept or kept[space].basis != basis:
        entries = [stored.entry for member in line for stored in await replica.store.scan(member)]
        authorities = authorities_over(space, door)
        cuts = cuts_of(entries, authorities, door, but=without)
        gone = without_right(authorities, cuts)
        cut = {each.grant for each in authorities if each.key in cuts.keys}
        kept[space] = Found(basis, frozenset(cuts.keys | cut | gone), frozenset(cuts.held))
    return kept[space]
