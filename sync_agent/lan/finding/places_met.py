"""Where devices of the school were met: addresses that outlive a restart, for networks without multicast (R15).

Rules:
- noted is where a device proved the certificate of its grant and has a space in common with this one, the last place of
  each; and what a person named here, for a week, until somebody is met there;
- an address is no trust: whoever answers there is met like anybody (`meeting`);
- what a person named and where nobody has answered is kept only if it can be of the school's own network: nobody at a
  school's computer has it dial others for a week;
- those met last stay, `MAX_PLACES` at most; after a summer nobody is looked for in a place any more;
- an address of the link alone is not noted: it means nothing without an interface, which another start may number anew.

docs/protocol.md, "Neighbours"; docs/adr/0182.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from protocol import canonical
from protocol.clock import DAY_MS
from protocol.errors import PeerFault
from protocol.identity import KEY_BYTES
from protocol.limits import MAX_NEIGHBOURS, KiB
from protocol.replica.interfaces import EntryStore
from sync_agent.lan.finding.mdns_messages import Ip
from sync_agent.machine.addresses import MAX_PORT, Address
from sync_agent.machine.marks import PLACES_MARK

MAX_PLACES: Final = 4 * MAX_NEIGHBOURS
MAX_NAMED: Final = MAX_NEIGHBOURS
EXPECTED_MS: Final = 100 * DAY_MS
"""For so long a device expects to find the others again: over the summer."""
NAMED_MS: Final = 7 * DAY_MS
NOBODY: Final = b""
_KEYS: Final = (len(NOBODY), KEY_BYTES)
_SCHOOL_BITS: Final = {4: 16, 6: 48}
_MAX_HOST_CHARS: Final = 255
_MAX_MARK_BYTES: Final = 16 * KiB


@dataclass(frozen=True, slots=True)
class PlaceMet:
    """An address, whose it is (`NOBODY` while it was only named), and when that was last seen, or said (ms)."""

    address: Address
    device: bytes
    at_ms: int


Places = tuple[PlaceMet, ...]
"""The newest first."""


def with_met(places: Places, address: Address, device: bytes, now_ms: int) -> Places:
    """The places once a device was met at an address; the same ones if that is known, to the day."""
    if _is_of_the_link(address):
        return places
    known = next((place for place in places if place.address == address and place.device == device), None)
    if known is not None and 0 <= now_ms - known.at_ms < DAY_MS:
        return places
    others = [place for place in places if place.address != address and place.device != device]
    return (PlaceMet(address, device, now_ms), *others)[:MAX_PLACES]


def with_named(places: Places, address: Address, now_ms: int) -> Places:
    """The places once a person has named one."""
    if _is_of_the_link(address) or any(place.address == address and place.device for place in places):
        return places
    others = [place for place in places if place.address != address]
    named = [place for place in others if not place.device][: MAX_NAMED - 1]
    kept = [place for place in others if place.device or place in named]
    return (PlaceMet(address, NOBODY, now_ms), *kept)[:MAX_PLACES]


def may_be_of_the_school(address: Ip, own: Collection[Ip]) -> bool:
    """Whether an address can be of the network of a device with these: not of the link alone; no other public one."""
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        return False
    return not address.is_global or any(_network_of(each) == _network_of(address) for each in own)


def worth_a_try(places: Places, now_ms: int, taken: Collection[Address], in_touch: Collection[bytes]) -> list[Address]:
    """Where somebody may be who is not in touch already. A clock that was set back makes nothing old."""
    return [
        place.address
        for place in places
        if now_ms - place.at_ms < (EXPECTED_MS if place.device else NAMED_MS)
        and place.address not in taken
        and place.device not in in_touch
    ]


async def read_places(store: EntryStore) -> Places:
    """Those that are noted; what cannot be read counts as none."""
    with suppress(PeerFault):
        rows = canonical.decode(await store.mark(PLACES_MARK) or b"", max_bytes=_MAX_MARK_BYTES)
        if isinstance(rows, Sequence):
            return tuple(place for place in map(_place, rows) if place is not None)[:MAX_PLACES]
    return ()


def places_mark(places: Places) -> Mapping[str, bytes | None]:
    """The mark that says so."""
    rows: list[canonical.Value] = [
        [place.address.host, place.address.port, place.device, place.at_ms] for place in places
    ]
    return {PLACES_MARK: canonical.encode(rows)}


def _place(row: object) -> PlaceMet | None:
    match row:
        case [str(host), int(port), bytes(device), int(at_ms)] if 0 < port <= MAX_PORT and len(device) in _KEYS:
            return PlaceMet(Address(host[:_MAX_HOST_CHARS], port), device, at_ms)
    return None


def _network_of(address: Ip) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """No school has more than that."""
    return ipaddress.ip_network((address, _SCHOOL_BITS[address.version]), strict=False)


def _is_of_the_link(address: Address) -> bool:
    if "%" in address.host or len(address.host) > _MAX_HOST_CHARS:
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(address.host).is_link_local
    return False
