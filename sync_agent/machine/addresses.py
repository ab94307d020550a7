"""HOST:PORT as people give it, and whether only this machine can reach it."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from protocol.errors import BadInput, Code

MAX_PORT: Final = 65_535
_PORT: Final = re.compile("[0-9]{1,5}")
_LABEL: Final = re.compile("[A-Za-z0-9_-]{1,63}")
_LOCALHOST: Final = "localhost"
_LOCALHOST_MEANS: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Address:
    """`host` is an address or a name, without brackets; port 0 lets the system choose."""

    host: str
    port: int

    @property
    def authority(self) -> str:
        """As it stands in a URL and in a `Host` field."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    if host == _LOCALHOST or host.endswith(f".{_LOCALHOST}"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def address_of(given: str, option: str) -> Address:
    """Host and port of HOST:PORT or [HOST]:PORT. Raises `BadInput(USAGE)`, naming the option."""
    host, colon, port = given.strip().rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    plain = bracketed or ":" not in host
    if not (colon and plain and _is_host(host) and _PORT.fullmatch(port) and int(port) <= MAX_PORT):
        raise BadInput(
            Code.USAGE, f"{option}: “{given}” is no address; HOST:PORT is expected, as in 127.0.0.1:8090 or [::1]:8090"
        )
    return Address(host, int(port))


def _is_host(given: str) -> bool:
    """Whether somebody may be asked for at this address, or by this name (RFC 1123, section 2.1; RFC 3490)."""
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(given)
        return True
    try:
        name = given.encode("idna").decode("ascii").removesuffix(".")
    except UnicodeError:
        return False
    return all(_LABEL.fullmatch(label) for label in name.split("."))


def loopback_address_of(given: str, option: str) -> Address:
    """The same for what only this machine may reach; `localhost` becomes 127.0.0.1.

    Raises `BadInput` (USAGE; NOT_LOOPBACK for an address that others reach, and for names, which may lead anywhere).
    """
    address = address_of(given, option)
    if address.host.lower() == _LOCALHOST:
        return Address(_LOCALHOST_MEANS, address.port)
    try:
        inside = ipaddress.ip_address(address.host).is_loopback
    except ValueError:
        inside = False
    if not inside:
        raise BadInput(
            Code.NOT_LOOPBACK,
            f"{option}: {given} can be reached from other machines; this version serves its pages to this machine "
            "only: use 127.0.0.1",
        )
    return address
