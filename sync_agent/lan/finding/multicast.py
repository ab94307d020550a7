"""Where this machine speaks to the group of the school's network, and becoming part of it there (R15).

Rules:
- a listener for every interface is announced where the system leads to the group; where it leads nowhere (the router is
  off, and with it the way to everything else), by the first interface that has an address and can speak to it;
- a listener for every interface, of both families, is part of both groups: who listens for IPv4 only finds it as well;
- an IPv6 address of the link alone means nothing without the interface that it was heard on;
- another card at the same address is another place: what was joined by the one that was pulled out is gone with it.

docs/protocol.md, "Neighbours".
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from sync_agent.lan.finding.mdns_messages import PORT, Ip

GROUP_4: Final = "224.0.0.251"
GROUP_6: Final = "ff02::fb"
_EVERY_4: Final = "0.0.0.0"  # noqa: S104  (only who listens everywhere already)
_HOPS: Final = 255
_LINUX_MULTICAST_ALL: Final = 49
_AS_THE_SYSTEM_LEADS: Final = 0
_FLAGS_OF: Final = 0x8913
_ADDRESS_OF: Final = 0x8915
_LOOPBACK: Final = 0x8
_NEEDED: Final = 0x1 | 0x1000
"""Up, and able to speak to groups."""


@dataclass(frozen=True, slots=True)
class Place:
    """The address from which a machine speaks to the group, and by which interface: 0 if the system chooses.

    `card` is the interface that has the address, 0 where the system does not say.
    """

    address: Ip
    interface: int
    card: int = 0


def place_of(host: str) -> Place | None:
    """Where a listener at `host` is announced; None where nobody here can tell. Nothing is sent; names are resolved."""
    found = _place_of(host)
    return None if found is None else replace(found, card=_card_of(found.address))


def ipv4_beside(host: str) -> str | None:
    """Where a listener for every interface is part of IPv4's group too; None where it listens at one, or for IPv4."""
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        if address.version == 6 and address.is_unspecified:  # noqa: PLR2004
            return _EVERY_4
    return None


def _place_of(host: str) -> Place | None:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, PORT, type=socket.SOCK_DGRAM)[0]
        found = _ip(address)
        if not found.is_unspecified:
            return Place(found, int(address[3]) if len(address) > 3 else _AS_THE_SYSTEM_LEADS)  # noqa: PLR2004  (IPv6)
    except (OSError, ValueError):
        return None
    led = _where_the_system_leads(family)
    return _first_that_can() if led is None and family == socket.AF_INET and sys.platform == "linux" else led


def own_address(host: str) -> Ip | None:
    """The address at which a listener at `host` is announced; None where nobody here can tell."""
    place = place_of(host)
    return None if place is None else place.address


def reached_at(listens_at: str) -> str | None:
    """HOST:PORT to be typed on another machine for a listener at HOST:PORT; None where nobody here can tell."""
    return next(iter(all_reached_at(listens_at)), None)


def all_reached_at(listens_at: str) -> list[str]:
    """The same, for each family of addresses; one of IPv4 is the easier to type."""
    port = listens_at.rpartition(":")[2]
    found = own_addresses_at(listens_at)
    return [f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}" for address in found]  # noqa: PLR2004


def own_addresses_at(listens_at: str) -> list[Ip]:
    """The addresses at which a listener at HOST:PORT is announced, that of IPv4 first."""
    host = listens_at.rpartition(":")[0].strip("[]")
    hosts = [each for each in (ipv4_beside(host), host) if each is not None]
    return [address for address in map(own_address, hosts) if address is not None]


def addresses_of(host: str) -> list[Ip]:
    """What an address, or a name, stands for here; nothing where nobody can tell. Names are resolved."""
    with suppress(OSError, ValueError):
        return [_ip(found[4]) for found in socket.getaddrinfo(host, PORT, type=socket.SOCK_DGRAM)]
    return []


def leads_by(host: str, towards: str) -> bool:
    """Whether this system reaches an address by the one interface of a listener at `host`. Nothing is sent."""
    with suppress(OSError, ValueError):
        family, _, _, _, listens = socket.getaddrinfo(host, PORT, type=socket.SOCK_DGRAM)[0]
        if _ip(listens).is_unspecified:
            return True
        place = socket.getaddrinfo(towards, PORT, family=family, type=socket.SOCK_DGRAM)[0][4]
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.connect(place)
            return _ip(asking.getsockname()) == _ip(listens)
    return False


def shown_address(address: Ip | None) -> Ip | None:
    """The address that stands in an announcement; None where its source says it better, with the interface."""
    return None if address is None or (address.version == 6 and address.is_link_local) else address  # noqa: PLR2004


def source_of(address: tuple[str | int, ...]) -> str:
    """Whoever spoke, as they can be called from here: the system gives the interface of a link beside the address."""
    host = str(address[0])
    scope = int(address[3]) if len(address) > 3 else 0  # noqa: PLR2004  (IPv6: address, port, flow, scope)
    return f"{host}%{scope}" if scope and "%" not in host else host


async def join(protocol: asyncio.DatagramProtocol, host: str) -> tuple[str, int]:
    """Make `protocol` a member of the group on the interface of `host`; where the group is. Raises `OSError`."""
    loop = asyncio.get_running_loop()
    member, group = await loop.run_in_executor(None, _member, host)
    await loop.create_datagram_endpoint(lambda: protocol, sock=member)
    return group


def _where_the_system_leads(family: socket.AddressFamily) -> Place | None:
    with suppress(OSError, ValueError), socket.socket(family, socket.SOCK_DGRAM) as speaker:
        speaker.connect((GROUP_4 if family == socket.AF_INET else GROUP_6, PORT))
        found = _ip(speaker.getsockname())
        return None if found.is_unspecified else Place(found, _AS_THE_SYSTEM_LEADS)
    return None


def _first_that_can() -> Place | None:
    """The first interface that is up, speaks to groups and has an address of its own."""
    for index, name in socket.if_nameindex():
        with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            flags = int.from_bytes(_asked(asking, _FLAGS_OF, name)[:2], sys.byteorder)
            if flags & _NEEDED == _NEEDED and not flags & _LOOPBACK:
                return Place(ipaddress.IPv4Address(_asked(asking, _ADDRESS_OF, name)[4:8]), index)
    return None


def _card_of(address: Ip) -> int:
    """The number of the interface that has an address; 0 where there is none, or the system does not say."""
    if sys.platform != "linux":
        return 0
    with suppress(OSError, ValueError):
        if address.version == 6:  # noqa: PLR2004
            rows = [line.split() for line in Path("/proc/net/if_inet6").read_text(encoding="ascii").splitlines()]
            return next((int(row[1], 16) for row in rows if row[0] == address.packed.hex()), 0)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            return next((index for index, name in socket.if_nameindex() if _has(asking, name, address)), 0)
    return 0


def _has(asking: socket.socket, name: str, address: ipaddress.IPv4Address) -> bool:
    with suppress(OSError):
        return _asked(asking, _ADDRESS_OF, name)[4:8] == address.packed
    return False


def _asked(asking: socket.socket, what: int, name: str) -> bytes:
    """What the system says of an interface (`ifreq`, netdevice(7)). Raises `OSError`."""
    if sys.platform != "linux":
        return b""
    import fcntl  # noqa: PLC0415 — exists on Unix only

    return fcntl.ioctl(asking, what, struct.pack("16s24x", name.encode()[:15]))[16:]


def _request(index: int) -> bytes:
    """The group on an interface (`ip_mreqn`)."""
    return socket.inet_aton(GROUP_4) + socket.inet_aton("0.0.0.0") + struct.pack("@i", index)  # noqa: S104


def _ip(address: Sequence[str | int | bytes]) -> Ip:
    return ipaddress.ip_address(str(address[0]).partition("%")[0])


def _member(host: str) -> tuple[socket.socket, tuple[str, int]]:
    """A socket that hears and speaks to the group on the interface of `host`, and the group. Raises `OSError`."""
    family, _, _, _, address = socket.getaddrinfo(host, PORT, type=socket.SOCK_DGRAM)[0]
    place = place_of(host)
    index = _AS_THE_SYSTEM_LEADS if place is None else place.interface
    member = socket.socket(family, socket.SOCK_DGRAM)
    try:
        member.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sys.platform != "win32":
            member.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        member.setblocking(False)
        if family == socket.AF_INET6:
            member.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            member.bind(("::", PORT))
            member.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
            member.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, _HOPS)
            member.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 1)
            group = socket.inet_pton(socket.AF_INET6, GROUP_6) + struct.pack("@I", index)
            member.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
            return member, (GROUP_6, PORT)
        packed = socket.inet_aton(str(address[0]))
        member.bind(("", PORT))
        chosen = packed if index == _AS_THE_SYSTEM_LEADS else _request(index)
        member.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, chosen)
        member.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, _HOPS)
        member.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
        if sys.platform == "linux":
            # only what comes by this interface, whatever other programs have joined
            member.setsockopt(socket.IPPROTO_IP, _LINUX_MULTICAST_ALL, 0)
        joined = socket.inet_aton(GROUP_4) + packed if index == _AS_THE_SYSTEM_LEADS else _request(index)
        member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
    except BaseException:
        member.close()
        raise
    return member, (GROUP_4, PORT)
