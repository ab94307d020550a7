"""Who came in by codes that a revocation holds back: a thief's, made between the theft and its report (§5).

Rules:
- which code a grant names is for its author to say: only one that counts, and that somebody else wrote than who made
  the code, shows that a device came by it;
- a report cuts off whom it finds so. A grant that comes back later, to a server that was restored from a backup, was
  found by no report: where a server has written it itself, and has cut off itself who made the code, it goes on with
  that report; of grants that others have written it tells (docs/adr/0276);
- once: whoever was cut off by name before, and let in again, stays.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping

from protocol.errors import Refused
from protocol.model.entry import Entry, Kind
from protocol.replica.at_work.replica import Replica
from protocol.replica.office.bureau import Office, is_ours
from protocol.replica.office.device_cuts import key_cut_off
from protocol.replica.office.withdrawals import revoke_device
from protocol.replica.office.words_of_office import in_force
from protocol.rights.door import Authority
from protocol.rights.successions import successors_of


async def let_in_by_held_codes(
    office: Office, device: bytes, *, counted: Callable[[Authority], bool] = lambda _: True
) -> dict[bytes, frozenset[bytes] | None]:
    """Who came in by a code of this device, or of its successors, which a revocation holds back: and to which spaces.

    None is everywhere: that was the first way in. Of the grants that name such a code those alone are `counted` of
    which that says so. Whoever was here before is out where the code led, and stays where it had been.
    """
    replica = office.replica
    line = {device, *successors_of(device, replica.door.authorities())}
    made = [code for code in await replica.store.scan_kinds([Kind.INVITE]) if code.header.author in line]
    held = {code.id for code in made if await _is_held(replica, code)}
    by_others = [
        grant
        for grant in replica.door.authorities()
        if grant.invite in held and grant.author not in line and counted(grant)
    ]
    found: dict[bytes, frozenset[bytes] | None] = {}
    for key in dict.fromkeys(grant.key for grant in by_others):
        counting = [grant for grant in replica.door.authorities_of(key) if await in_force(replica, grant)]
        led = frozenset(grant.space for grant in counting if grant in by_others)
        if led:
            found[key] = None if counting[0] in by_others else led
    return found


async def makers_of_held_codes(office: Office, cut: Collection[bytes]) -> list[bytes]:
    """Those of the `cut` keys that made a code which a revocation holds back, or of which a key came that did."""
    replica = office.replica
    before: defaultdict[bytes, set[bytes]] = defaultdict(set)
    for given in replica.door.authorities() if cut else ():
        if given.predecessor is not None:
            before[given.key].add(given.predecessor)
    wanted, found = frozenset(cut), set[bytes]()
    lines: dict[bytes, frozenset[bytes]] = {}
    for code in await replica.store.scan_kinds([Kind.INVITE]) if cut else ():
        author = code.header.author
        if author not in lines:
            lines[author] = wanted.intersection(_all_before(author, before))
        if not lines[author] <= found and await _is_held(replica, code):
            found |= lines[author]
    return [key for key in cut if key in found]


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
    orders = [order for order in await office.replica.store.scan_kinds([Kind.REVOKE]) if is_ours(office, order)]
    cut = dict.fromkeys(key for order in orders if (key := key_cut_off(order)) is not None)
    done = 0
    for maker in await makers_of_held_codes(office, cut):
        own = await let_in_by_held_codes(office, maker, counted=lambda grant: grant.author == office.own_device[0])
        for device, led in own.items():
            if device in cut:
                continue
            try:
                await revoke_device(office, device, within=led, anyway=True)
            except Refused:  # by a right that is not below this office's it stays, and `lost` says so
                continue
            done += 1
    return done


async def _is_held(replica: Replica, code: Entry) -> bool:
    return code.id in (await replica.view(code.header.space)).roster.held_back
