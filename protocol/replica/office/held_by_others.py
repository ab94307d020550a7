"""What is held back by an office's own words, and not by others': as what a device came in others say as well.

Rules:
- whoever has a copy of a server's key, or a head teacher's laptop, cuts a device off, and lets it back in the same
  breath: nothing of it is lost, and all that it was granted before is held back but their own grant. As what it came in
  is asked without such words (docs/adr/0499);
- an office's own are those of its key, of a server's those alone that it has noted, and the root's;
- of a lower office than a server, which reports others to it, those count as well that are about a device which has let
  others in. Without the rest no grant counts again but the device's own, and nobody honest lets one back as something
  else.

docs/protocol.md, "Roster".
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, TypeAlias
from weakref import WeakKeyDictionary

from protocol.model.entry import Entry, Kind, parsed
from protocol.model.structure import Revocation
from protocol.replica.at_work.replica import Replica
from protocol.replica.office.bureau import Office
from protocol.replica.office.held_in_space import grants_not_held_back
from protocol.replica.office.held_without import found_without
from protocol.replica.office.said_here import is_surely_ours, noted_cuts
from protocol.rights.door import Authority
from protocol.roles import RANK, Role

_Moment: TypeAlias = tuple[tuple[int, bytes] | None, int]
"""What had come by then, and how often entries had been written anew."""

_OTHERS: Final[WeakKeyDictionary[Replica, tuple[_Moment, Sequence[Entry]]]] = WeakKeyDictionary()


async def grants_not_held_back_by_this_office(office: Office, grants: Collection[Authority]) -> list[Authority]:
    """Those of these grants, in their order, that nothing holds back where they lie but others' words.

    Which these are is found out once, as long as nothing comes: grants name as many devices as a thief likes.
    """
    replica = office.replica
    counting = {each.grant for each in await grants_not_held_back(replica, grants)}
    if len(counting) == len(grants):
        return list(grants)
    others = await _others_here(office)
    spaces = {order.header.space for order in others}
    waiting = [each for each in grants if each.grant not in counting]
    for space in {each.space for each in waiting}:
        if not spaces.isdisjoint(replica.door.lineage(space)):
            held = (await found_without(replica, space, others)).held
            counting |= {each.grant for each in waiting if each.space == space and each.grant not in held}
    return [each for each in grants if each.grant in counting]


async def _others_here(office: Office) -> Sequence[Entry]:
    moment = await office.replica.heard()
    kept = _OTHERS.get(office.replica)
    if kept is None or kept[0] != moment:
        kept = _OTHERS[office.replica] = moment, await _words_of_others(office)
    return kept[1]


async def _words_of_others(office: Office) -> list[Entry]:
    """The revocations that are not this office's own; below a server those of devices that never let anybody in."""
    store, door = office.replica.store, office.replica.door
    noted = await noted_cuts(store)
    others = [one for one in await store.scan_kinds([Kind.REVOKE]) if not is_surely_ours(office, one, noted)]
    if office.rank >= RANK[Role.SERVER]:
        return others
    letting_in = {each.author for each in door.authorities() if each.predecessor is None}
    said = [(one, parsed(one, Revocation.parse)) for one in others]
    return [one for one, order in said if order is not None and order.key not in letting_in]
