"""Who came in by codes that a revocation holds back: a thief's, made between the theft and its report (§5).

Rules:
- which code a grant names is for its author to say: only one that counts, and that somebody else wrote than who made
  the code, shows that a device came by it;
- a report cuts off whom it finds so. A grant that comes back later, to a server that was restored from a backup, was
  found by no report: where a server has written it itself, and has cut off itself who made the code, it goes on with
  that report; of grants that others have written it tells (docs/adr/0276);
- once: whoever was cut off by name before, and let in again, stays;
- a report that is held back is none, nor at a server one that it has not noted as said here (`known_here`): whoever
  had its key writes as many as they like, of keys that they made, or of a head's whom they let back in a minute later;
- all codes and grants are gone through once, however many keys were cut off: whoever asks, asks with each change.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping

from protocol.errors import Refused
from protocol.model.entry import Entry, Kind
from protocol.replica.at_work.replica import Replica
from protocol.replica.office.bureau import Office, is_ours
from protocol.replica.office.device_cuts import orders_by_key
from protocol.replica.office.held_in_space import counting_where_they_lie, not_held_back
from protocol.replica.office.said_here import cuts_of_others
from protocol.replica.office.withdrawals import revoke_device
from protocol.replica.office.words_of_office import in_force, lets_in
from protocol.rights.door import Authority


async def let_in_by_held_codes(office: Office, device: bytes) -> dict[bytes, frozenset[bytes] | None]:
    """Who came in by a code of this device, or of its successors, which a revocation holds back: and to which spaces.

    None is everywhere: that was the first way in. Whoever was here before is out where the code led, and stays where it
    had been.
    """
    return (await let_in_by_codes_of(office, [device])).get(device, {})


async def let_in_by_codes_of(
    office: Office, makers: Collection[bytes], *, counted: Callable[[Authority], bool] = lambda _: True
) -> dict[bytes, dict[bytes, frozenset[bytes] | None]]:
    """The same of several devices, by whose code it was; those of whom nobody came in so are left out.

    Of the grants that name such a code those alone are `counted` of which that says so.
    """
    replica = office.replica
    naming = [each for each in replica.door.authorities() if each.invite is not None and counted(each)]
    standing = await counting_where_they_lie(replica, naming if makers else [], lambda grant: grant.space, lets_in)
    held = await _held_codes(replica, {each.invite for each in standing if each.invite is not None})
    lines = _Lines(replica.door.authorities() if held else [])
    by_maker: defaultdict[bytes, defaultdict[bytes, list[Authority]]] = defaultdict(lambda: defaultdict(list))
    for grant in standing:
        if grant.invite in held:
            # a device that names its own code, or that of the one it came of, says nothing of who came by it
            for maker in lines.of(held[grant.invite], among=makers) - lines.of(grant.author, among=makers):
                by_maker[maker][grant.key].append(grant)
    return {
        maker: {key: await _led(replica, key, given) for key, given in of.items()} for maker, of in by_maker.items()
    }


async def _led(replica: Replica, key: bytes, by_codes: Collection[Authority]) -> frozenset[bytes] | None:
    """To which spaces a key came by these grants; None, everywhere, where the first by which it is in is among them."""
    counting = [grant for grant in replica.door.authorities_of(key) if await in_force(replica, grant)]
    is_first = counting[0].grant in {grant.grant for grant in by_codes}
    return None if is_first else frozenset(grant.space for grant in by_codes)


async def _held_codes(replica: Replica, names: Collection[bytes]) -> dict[bytes, bytes]:
    """Those of these that are codes which a revocation holds back → who made each."""
    found = (await replica.store.get(sorted(names))).values() if names else ()
    codes = [entry for entry in found if entry.header.kind == Kind.INVITE]
    counting = {entry.id for entry in await not_held_back(replica, codes)}
    return {entry.id: entry.header.author for entry in codes if entry.id not in counting}


class _Lines:
    """Of which keys each came by successors."""

    def __init__(self, authorities: Iterable[Authority]) -> None:
        self._before: defaultdict[bytes, set[bytes]] = defaultdict(set)
        for given in authorities:
            if given.predecessor is not None:
                self._before[given.key].add(given.predecessor)
        self._found: dict[bytes, frozenset[bytes]] = {}

    def of(self, key: bytes, *, among: Collection[bytes]) -> frozenset[bytes]:
        """The key itself, and those that it came of, as far as they are `among` these: the same each time."""
        if key not in self._found:
            self._found[key] = frozenset(among).intersection(_all_before(key, self._before))
        return self._found[key]


def _all_before(key: bytes, before: Mapping[bytes, Collection[bytes]]) -> set[bytes]:
    """A key, and those that it came of."""
    found, pending = {key}, [key]
    for here in pending:
        fresh = set(before.get(here, ())) - found
        found |= fresh
        pending += fresh
    return found


async def go_on_with_reports(office: Office) -> int:
    """Cut off whom this machine has let in by a code that its own report holds back; how many devices.

    As that report would have done, had the grants been here then (docs/adr/0276).
    """
    said: list[Entry] = await office.replica.store.scan_kinds([Kind.REVOKE])
    others = {order.id for order in await cuts_of_others(office)}
    orders = orders_by_key(order for order in said if is_ours(office, order) and order.id not in others)
    own = await let_in_by_codes_of(office, orders, counted=lambda grant: grant.author == office.own_device[0])
    done = 0
    for maker, came in own.items():
        for device, led in came.items() if await not_held_back(office.replica, orders[maker]) else ():
            if await not_held_back(office.replica, orders.get(device, ())):
                continue
            try:
                await revoke_device(office, device, within=led, anyway=True)
            except Refused:  # by a right that is not below this office's it stays, and `lost` says so
                continue
            done += 1
    return done
