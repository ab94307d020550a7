"""What revocations do in a space without some of them, which a thief may have said.

Whoever has a copy of a server's key holds back for a minute, or for good, what anybody has said, an honest report or
the right by which a machine came in: what is held back for that alone an office goes by all the same. What others say
is passed over with all that follows from it, so that nothing which it had held back is so.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Collection, Container, Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

from protocol.model.entry import Entry, Kind
from protocol.replica.at_work.replica import Replica
from protocol.replica.office.bureau import Office, is_ours
from protocol.replica.office.said_here import cuts_of_others
from protocol.replica.recently_used import shorten
from protocol.rights.revocations import cuts_of, without_right
from protocol.rights.roster import authorities_over
from protocol.roles import RANK, Role

_Basis: TypeAlias = tuple[int, ...]
"""From what it was found: how often entries were written anew, and how many there are in each space of the line."""


class Found(NamedTuple):
    """Without doubtful words: the keys cut off and the grants that give nothing, and what is held back."""

    basis: _Basis
    out: frozenset[bytes]
    held: frozenset[bytes]


_Kept: TypeAlias = defaultdict[bytes, OrderedDict[frozenset[bytes], Found]]
"""By space, and by the words that are passed over: who is waited for doubts others than who asks what came first."""

_FOUND: Final[WeakKeyDictionary[Replica, _Kept]] = WeakKeyDictionary()
_MOST_KEPT: Final = 4
"""For so many sets of such words a space is read once, as long as nothing comes."""


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
    line = replica.door.lineage(space)
    without = frozenset(order.id for order in doubted if order.header.space in line)
    counts = [(await replica.store.position(member)).count for member in line]
    basis = (replica.rewritten, *counts)
    kept = _FOUND.setdefault(replica, defaultdict(OrderedDict))[space]
    found = kept.get(without)
    if found is None or found.basis != basis:
        found = kept[without] = await _read(replica, line, without, basis)
    shorten(kept, without, _MOST_KEPT)
    return found


async def _read(replica: Replica, line: Sequence[bytes], without: Container[bytes], basis: _Basis) -> Found:
    entries = [stored.entry for member in line for stored in await replica.store.scan(member)]
    authorities = authorities_over(line[0], replica.door)
    cuts = cuts_of(entries, authorities, replica.door, but=without)
    cut = {each.grant for each in authorities if each.key in cuts.keys}
    return Found(basis, frozenset(cuts.keys | cut | without_right(authorities, cuts)), frozenset(cuts.held))
