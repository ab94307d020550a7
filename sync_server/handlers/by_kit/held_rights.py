"""Of a right that waits for somebody to judge: as whose it lets in, and by which words its device is known.

Rules:
- a grant names somebody by an id, and any device; what that calls itself its owner has chosen. So as whose it lets in
  is said by the id and by every name that lists ever had for it, held back or not, and of a device that is somebody's
  own the six words that its own page shows: whoever accepts it compares them;
- words take a hundredth of a second each, and a thief names thousands of devices: `waiting` has those of the rights
  that came here first, `accept` those of each that it lets count, which somebody has typed. On a page no right is
  accepted whose words it does not show.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from protocol.beside_words import unlike_words
from protocol.model.entry import Entry, Kind, parsed
from protocol.model.structure import Grant
from protocol.replica.at_work.replica import Replica
from protocol.replica.office.mentioned import MAX_NAMES_SHOWN, mentioned
from protocol.replica.office.people import described
from protocol.replica.office.spaces import shown_by_id
from protocol.rights.vouching import Device, device_words
from protocol.roles import SHARED, Role
from sync_server.opened.app import Server

MAX_WORDS: Final = 200
"""Of so many devices `waiting` has the words."""


@dataclass(frozen=True, slots=True)
class LetsIn:
    """Whom a right lets in: the role, as whose, and which device."""

    role: Role
    person: bytes | None
    device: Device


def lets_in(entry: Entry) -> LetsIn | None:
    """Whom an entry lets in, if it is such a one."""
    if entry.header.kind == Kind.GRANT and (grant := parsed(entry, Grant.parse)) is not None:
        return LetsIn(grant.role, grant.person, (grant.signing, grant.agreement))
    return None


async def names_of(replica: Replica, persons: Collection[bytes]) -> Mapping[bytes, str]:
    """What lists ever called these people, by id; of whom none ever had a name, nothing."""
    found = await mentioned(replica, persons) if persons else {}
    return {person: ", ".join(each.names[:MAX_NAMES_SHOWN]) for person, each in found.items() if each.names}


async def words_of(server: Server, given: Mapping[bytes, LetsIn | None]) -> Mapping[bytes, str]:
    """The words of the devices that these grants, by their entries, let in: those that came here first."""
    arrived = [each.grant for each in server.replica.door.authorities() if each.grant in given]
    devices = {entry: device for entry in arrived if (device := own_device(given[entry])) is not None}
    told = set(list(dict.fromkeys(devices.values()))[:MAX_WORDS])
    words = await asyncio.to_thread(lambda: {device: device_words(device) for device in told})
    return {entry: words[device] for entry, device in devices.items() if device in words}


async def told_of_accepted(server: Server, entries: Iterable[Entry]) -> list[str]:
    """What to say to whoever lets such entries count."""
    told = []
    for each, space in ((lets_in(entry), entry.header.space) for entry in entries):
        if each is None or (device := own_device(each)) is None:
            continue
        whose = "nobody" if each.person is None else await described(server, each.person)
        words, (place,) = await asyncio.to_thread(device_words, device), await shown_by_id(server, [space])
        told.append(
            f"the device {device[0].hex()} is let in: the page on its own screen has to show “{words}”; if it does "
            f"not, `sync-server revoke {device[0].hex()}`. It comes in as a {each.role}, of {unlike_words(whose)}, "
            f"in {unlike_words(place)}"
        )
    return told


async def refused_of(server: Server, entries: Iterable[Entry]) -> set[bytes]:
    """Those of these entries that somebody has refused."""
    return {one.id for one in entries if one.id in (await server.replica.view(one.header.space)).roster.refused}


def own_device(given: LetsIn | None) -> Device | None:
    """The device, if it is somebody's own."""
    return None if given is None or given.role in SHARED else given.device
