"""Of which devices nobody waits to hear any more: those that were cut off by a word that is known to be honest.

Rules:
- whoever has a copy of the server's keys calls any device a teacher's, or cuts it off: such a word never takes a
  device off the list of those that have to tell what they know before it is destroyed, or counts no more;
- what cuts off is believed of the kit, of this server's commands and pages, which note what they say, and of a school's
  computer of which this server knows how it came in; on one that was made anew, or has lost entries, if that is noted;
- what had come before that was noted is believed, where nothing was lost since: so is what a backup holds;
- all other revocations are passed over with all that follows from them: a device is gone if it would be without;
- what a device tells is of the spaces that it may read: of one that such a word has closed to it, it has told nothing,
  in whatever others it is (docs/adr/0359); but of one that the kit has closed for all nothing is awaited.

docs/adr/0332, docs/adr/0349, docs/adr/0359.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias
from weakref import WeakKeyDictionary

from protocol.model.entry import Entry
from protocol.replica.office.erasures import in_force
from protocol.replica.office.known_here import KnownHere, cuts_of_others
from protocol.rights.revocations import cuts_of, without_right
from protocol.rights.roster import authorities_over
from protocol.roles import DEVICES, RANK, Role
from sync_server.handlers.overview.devices import Device, DeviceState
from sync_server.handlers.overview.members import list_devices
from sync_server.opened.app import Server
from sync_server.opened.made_anew import MADE_ANEW_MARK

_Basis: TypeAlias = tuple[tuple[int, ...], frozenset[bytes]]
"""From what it was found which grants of a space give nothing: how many entries, of which store, without which."""
_FOUND: Final[WeakKeyDictionary[Server, dict[bytes, tuple[_Basis, frozenset[bytes]]]]] = WeakKeyDictionary()


async def still_waited_for(server: Server) -> list[Device]:
    """Every device, without those that honest hands have cut off."""
    devices = await list_devices(server)
    if all(device.state is not DeviceState.RETIRED for device in devices):
        return devices
    doubted = await _doubted(server)
    return [
        device
        for device in devices
        if device.state is not DeviceState.RETIRED or not await _is_let_go(server, device.id, device.spaces, doubted)
    ]


async def kept_from_telling(server: Server, devices: Iterable[Device], space: bytes | None = None) -> frozenset[bytes]:
    """Those of the devices to which a space, or this very one, was closed by no honest hand when they told."""
    untold = {each.id: [one for one in each.heard.untold if space in (None, one)] for each in devices}
    if not any(untold.values()):
        return frozenset()
    doubted, said = await _doubted(server), await in_force(server.replica)
    over = {covers for erasure, covers in said if erasure.header.grant is None}
    open_still = {key: [one for one in spaces if one not in over] for key, spaces in untold.items()}
    return frozenset([key for key, left in open_still.items() if not await _is_let_go(server, key, left, doubted)])


async def _doubted(server: Server) -> list[Entry]:
    """The revocations of which nothing here says that they are no thief's."""
    since_noted = server.loss is not None or await server.store.mark(MADE_ANEW_MARK) is not None
    others = await cuts_of_others(server)
    known = await KnownHere.of(server) if others else None
    found = []
    for order in others:
        right = server.replica.door.authority(order.header.grant)
        is_by_a_school = right is not None and right.rank < RANK[Role.SERVER]
        if not (is_by_a_school and known is not None and known.has_met(right, since_noted=since_noted)):
            found.append(order)
    return found


async def _is_let_go(server: Server, device: bytes, spaces: Iterable[bytes], doubted: Sequence[Entry]) -> bool:
    """Whether rights of a device are known in each of these spaces, and give nothing, but for what `doubted` ones say.

    Of whom it is not known how they came in somewhere nobody knows either who has closed it to them.
    """
    door = server.replica.door
    given = [each for each in door.authorities_of(device) if each.role in DEVICES]
    for space in spaces:
        here = {each.grant for each in given if door.covers(each, space)}
        if not here or not here <= await _giving_nothing(server, space, doubted):
            return False
    return True


async def _giving_nothing(server: Server, space: bytes, doubted: Sequence[Entry]) -> frozenset[bytes]:
    """The grants in a space, and above it, that would give nothing without the `doubted` revocations."""
    door = server.replica.door
    line = door.lineage(space)
    without = frozenset(order.id for order in doubted if order.header.space in line)
    counts = [(await server.store.position(member)).count for member in line]
    basis = (server.loss.at_ms if server.loss else 0, *counts), without
    kept = _FOUND.setdefault(server, {})
    if space not in kept or kept[space][0] != basis:
        entries = [stored.entry for member in line for stored in await server.store.scan(member)]
        authorities = authorities_over(space, door)
        cuts = cuts_of([entry for entry in entries if entry.id not in without], authorities, door)
        gone = without_right(authorities, cuts)
        cut = frozenset(each.grant for each in authorities if each.key in cuts.keys)
        kept[space] = basis, cut | gone
    return kept[space][1]
