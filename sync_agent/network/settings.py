"""How this machine reaches its server: what a person chose, kept in DIR, and what the system says (R15).

`DIR/network.json` (0600, since it may hold a proxy's password) is written when `enroll` is given `--proxy` or `--ca`;
certificates are kept as they were, so that DIR may be copied. What `run` or `sync` is given counts for that run.
"""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from protocol.errors import BadInput, Code, LocalFailure
from protocol.limits import MAX_AUTHORITIES_BYTES
from protocol.replica.private_file import write_private
from sync_agent.network.platform_settings import read_settings
from sync_agent.network.proxies import Settings, Wish, wish_of
from sync_agent.network.trust import checked_authorities, trusting

NETWORK_FILE: Final = "network.json"
_ANYWHERE: Final = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
"""Addresses that are nobody's (RFC 5737, RFC 3849)."""


def leads_out() -> bool:
    """Whether this machine is on a network that is said to lead further; nothing is sent."""
    return any(_leads_to(family, address) for family, address in _ANYWHERE)


def _leads_to(family: socket.AddressFamily, address: str) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.connect((address, 9))
    except OSError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Network:
    """`wish`: which proxy; `authorities`: PEM text that is trusted besides the system's; the rest is the system's.

    `leads_out` tells whether this machine is on a network at all, when something on the way says that it knows none.
    """

    wish: Wish = field(default_factory=Wish)
    authorities: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    home: Path = field(default_factory=Path)
    leads_out: Callable[[], bool] = leads_out

    def read_system(self) -> Settings:
        """What the system says about proxies. Blocks."""
        return read_settings(self.environment, self.home)

    def trusting(self) -> ssl.SSLContext:
        """Whom to believe that a server is what it says. Blocks. Raises `BadInput(USAGE)`."""
        return trusting(self.authorities, self.environment.get("SSL_CERT_FILE"))

    def write(self, folder: Path) -> None:
        """Keep the person's choice in DIR, durably. Raises `LocalFailure`."""
        chosen = {"proxy": self.wish.text, "ca": self.authorities}
        write_private(folder / NETWORK_FILE, json.dumps(chosen, ensure_ascii=False, indent=1).encode())

    @classmethod
    def chosen(
        cls, folder: Path, proxy: str | None, ca: str | None, environment: Mapping[str, str], home: Path
    ) -> Self:
        """What was given, else what DIR keeps. Raises `BadInput(USAGE)`, `LocalFailure(DAMAGED)`."""
        kept_proxy, kept_ca = _kept(folder)
        authorities = kept_ca if ca is None else checked_authorities(_text(ca), ca)
        return cls(wish_of(kept_proxy if proxy is None else proxy), authorities or None, environment, home)


def _kept(folder: Path) -> tuple[str | None, str | None]:
    path = folder / NETWORK_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        proxy, ca = found["proxy"], found["ca"]
        wish_of(proxy)
        ca = None if ca is None else checked_authorities(ca, NETWORK_FILE)
    except (FileNotFoundError, NotADirectoryError):
        return None, None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, BadInput) as reason:
        raise LocalFailure(
            Code.DAMAGED, f"{path} cannot be read; correct it, or delete it and give --proxy and --ca again"
        ) from reason
    return proxy, ca


def _text(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_AUTHORITIES_BYTES + 1)
    except OSError as reason:
        raise BadInput(Code.USAGE, f"--ca: {path} cannot be read: {reason.strerror}") from reason
    if len(data) > MAX_AUTHORITIES_BYTES:
        raise BadInput(Code.USAGE, f"--ca: {path} is larger than allowed")
    return data.decode("ascii", errors="replace")
