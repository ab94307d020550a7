"""Of which devices nobody waits to hear any more: those that were cut off by a word that is known to be honest.

Rules:
- whoever has a copy of the server's keys calls any device a teacher's, or cuts it off: such a word never takes a
  device off the list of those that have to tell what they know before it is destroyed, or counts no more;
- what cuts off is believed of the kit, of this server's commands and pages, which note what they say, and of a school's
  computer of which this server knows how it came in; on one that was made anew, or has lost entries, if that is noted;
- what had come before that was noted is believed, where nothing was lost since: so is what a backup holds;
- all other revocations are passed over with all that follows from them: a device is gone if it would be without;
- what a device tells is of the spaces that it may read: of one that such a word has closed to it, it has told nothing,
  in whatever others it is (docs/adr/0359); but of one that the kit has closed for all nothing is awaited;
- nor has it of one of which it says itself that it holds something, whatever right of it is known here: what let it in
  may have come to that device alone. There it is let go of by a word that cuts it off there; one about other classes
  says nothing of that (docs/adr/0369), nor does the end of what a stolen key gave it, if that is all that is known of
  it (docs/adr/0407);
- that it was ever in there, its own word does not show: that takes a right that names it, or keys of its before, in
  that space or above it, and that no honest word holds back (docs/adr/0379).

docs/adr/0332, docs/adr/0349, docs/adr/0359, docs/adr/0369, docs/adr/0379, docs/adr/0407.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Sequence

from protocol.model.entry import Entry
from protocol.replica.office.erasures import closed_by_kit
from protocol.replica.office.held_without import found_without
from protocol.replica.office.known_here import KnownHere
from protocol.replica.office.made_anew import MADE_ANEW_MARK
from protocol.replica.office.said_here import cuts_of_others
from protocol.replica.office.withdrawals import ungrant_device
from protocol.rights.door import Authority, Door
from protocol.roles import DEVICES, RANK, Role
from sync_server.handlers.overview.devices import Device, DeviceState
from sync_server.handlers.overview.members import list_devices
from sync_server.opened.app import Server


async def still_waited_for(server: Server) -> list[Device]:
    """Every device, without those that honest hands have cut off."""
    devices = await list_devices(server)
    if all(device.state is not DeviceState.RETIRED for device in devices):
        return devices
    doubted, over = await _doubted(server), await closed_by_kit(server.replica)
    return [
        device
        for device in devices
        if device.state is not DeviceState.RETIRED
        or not await _is_let_go(server, device.id, {*device.spaces, *_untold_here(server, device.id, over)}, doubted)
    ]


async def let_go_in(server: Server, devices: Iterable[Device], space: bytes) -> frozenset[bytes]:
    """Those of the devices that honest hands have cut off in a space, wherever else they are."""
    doubted = await _doubted(server)
    return frozenset([each.id for each in devices if await _is_let_go(server, each.id, [space], doubted)])


async def let_go_of_all(server: Server, device: bytes) -> None:
    """A device that is cut off wherever it was let in is cut off as well where it says itself that it was."""
    if spaces := _untold_here(server, device, await closed_by_kit(server.replica)):
        await ungrant_device(server, device, spaces)


def _untold_here(server: Server, device: bytes, over: Container[bytes]) -> list[bytes]:
    """The known spaces of which a device may hold what it has not told, but for those that are `over`."""
    knows_space = server.replica.door.knows_space
    return [space for space in server.contacts.of(device).untold if space not in over and knows_space(space)]


async def kept_from_telling(server: Server, devices: Iterable[Device], space: bytes | None = None) -> frozenset[bytes]:
    """Those of the devices to which a space, or this very one, is closed by no honest hand, and of which they told not.

    It may be each, of one that names more than are remembered.
    """
    untold: dict[bytes, Iterable[bytes]] = {
        each.id: each.heard.untold if space is None else [space] if each.heard.untold_of(space) else ()
        for each in devices
    }
    if not any(untold.values()):
        return frozenset()
    doubted, over = await _doubted(server), await closed_by_kit(server.replica)
    open_still = {key: [one for one in spaces if one not in over] for key, spaces in untold.items()}
    return frozenset([key for key, left in open_still.items() if not await _is_let_go(server, key, left, doubted)])


async def never_let_in(server: Server, devices: Iterable[bytes], space: bytes) -> frozenset[bytes]:
    """Those of the devices that nobody is known to have let into a space, or above it, under any of their keys."""
    held = (await found_without(server.replica, space, await _doubted(server))).held
    return frozenset([device for device in devices if not _is_let_in(server.replica.door, device, space, held)])


async def says_that_it_was_in(server: Server, device: bytes, space: bytes) -> bool:
    """Whether a device says that it holds something of a space, and nobody is known to have let it in there."""
    return server.contacts.of(device).untold_of(space) and bool(await never_let_in(server, [device], space))


def _is_let_in(door: Door, device: bytes, space: bytes, held: Container[bytes]) -> bool:
    keys = [device]
    for key in keys:
        given = [each for each in door.authorities_of(key) if each.role in DEVICES]
        if any(door.covers(each, space) and each.grant not in held for each in given):
            return True
        before = dict.fromkeys(each.predecessor for each in given if each.predecessor is not None)
        keys += [each for each in before if each not in keys]
    return False


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


async def _is_let_go(server: Server, device: bytes, spaces: Collection[bytes], doubted: Sequence[Entry]) -> bool:
    """Whether each of these spaces would be closed to a device, by whatever is known of it, but for `doubted` words.

    Of whom it is not known how they came in somewhere nobody knows either who has closed it to them, unless they are
    cut off there all the same.
    """
    door, untold_of = server.replica.door, server.contacts.of(device).untold_of
    given = [each for each in door.authorities_of(device) if each.role in DEVICES]
    is_let_in = not any(map(untold_of, spaces)) or await _is_let_in_anywhere(server, given, doubted)
    for space in spaces:
        known = given if is_let_in or not untold_of(space) else []
        here = {each.grant for each in known if door.covers(each, space)} or {device}
        if not here <= (await found_without(server.replica, space, doubted)).out:
            return False
    return True


async def _is_let_in_anywhere(server: Server, given: Iterable[Authority], doubted: Sequence[Entry]) -> bool:
    """Whether one of these rights is not held back where it lies, but for `doubted` words: somebody honest gave it.

    What is held back says nothing of how its device came in, and so nothing of where that has ended.
    """
    for each in given:
        if each.grant not in (await found_without(server.replica, each.space, doubted)).held:
            return True
    return False
