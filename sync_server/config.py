"""How `run` was asked to run: one frozen value, and the rules for where and how a server listens.

Rules: plain HTTP only on loopback, or for a proxy that was declared (`--behind-proxy`); everywhere else TLS, with the
server's own certificate unless an official one was given.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from protocol.errors import BadInput, Code
from protocol.limits import MAX_KIT_BYTES
from protocol.replica.content.kept.pack_files import DAMAGED, PACKS, PARTS
from protocol.trust.kit import is_protected

MAX_PORT: Final = 65_535

_NO_KITS_IN: Final = frozenset({PACKS, PARTS, DAMAGED})


class Tls(Enum):
    """What the listener speaks: no TLS, TLS with the server's own certificate, or with an official one."""

    NONE = "none"
    OWN = "own"
    OFFICIAL = "official"


@dataclass(frozen=True, slots=True)
class RunConfig:
    """`host` is an address or name, without brackets; port 0 lets the system choose.

    `official` are the files of an official certificate and of its key.
    """

    data_dir: Path
    host: str
    port: int
    behind_proxy: bool
    tls: Tls = Tls.NONE
    official: tuple[Path, Path] | None = None

    @property
    def binds_browsers(self) -> bool:
        """Whether browsers are to speak to this name over TLS alone: only one that they know may hold them to it."""
        return self.tls is Tls.OFFICIAL

    @property
    def is_reached_by_others(self) -> bool:
        """Whether other machines reach the listener itself."""
        return not is_loopback(self.host)


def run_config(
    data_dir: Path,
    *,
    listen: str,
    behind_proxy: bool = False,
    tls: bool = False,
    tls_cert: str | None = None,
    tls_key: str | None = None,
    database: str | None = None,
    blobs: str | None = None,
) -> RunConfig:
    """What the options of `run` mean. Raises `BadInput` (USAGE, NOT_YET)."""
    if database is not None or blobs is not None:
        option = "--blobs" if database is None else "--database"
        raise BadInput(
            Code.NOT_YET, f"{option} is for a later version: this one keeps everything in its data folder; leave it out"
        )
    host, port = address_of(listen)
    if (tls_cert is None) != (tls_key is None):
        raise BadInput(Code.USAGE, "--tls-cert and --tls-key go together: the certificate with its chain, and its key")
    if behind_proxy and (tls or tls_cert is not None):
        raise BadInput(
            Code.USAGE, "with --behind-proxy the proxy in front speaks TLS; leave out --tls, --tls-cert and --tls-key"
        )
    if tls_cert is not None and tls_key is not None:
        return RunConfig(data_dir, host, port, False, Tls.OFFICIAL, (Path(tls_cert), Path(tls_key)))
    own = tls or not (behind_proxy or is_loopback(host))
    return RunConfig(data_dir, host, port, behind_proxy, Tls.OWN if own else Tls.NONE)


def address_of(listen: str) -> tuple[str, int]:
    """Host and port of HOST:PORT or [HOST]:PORT. Raises `BadInput(USAGE)`."""
    host, colon, port = listen.strip().rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        bare = True
    else:
        bare = ":" not in host
    if not (colon and host and bare and port.isascii() and port.isdecimal() and int(port) <= MAX_PORT):
        raise BadInput(
            Code.USAGE, f"“{listen}” is no address: HOST:PORT is expected, as in 127.0.0.1:8080 or [::1]:8080"
        )
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`; a name other than localhost may lead anywhere."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def name_in(authority: str) -> str | None:
    """The name or address by which somebody asks, of a `Host`; None where there is none, or it is no such thing."""
    try:
        return urlsplit(f"//{authority}").hostname
    except ValueError:
        return None


def check_kit(config: RunConfig) -> None:
    """Raise `BadInput(KIT_EXPOSED)` where an unprotected kit lies beside a listener that others can reach (§ Trust)."""
    if not config.is_reached_by_others:
        return
    for path in _small_files(config.data_dir):
        if _is_bare_kit(path):
            raise BadInput(
                Code.KIT_EXPOSED,
                f"{path} can rebuild and erase everything, and has no passphrase: keep it elsewhere, then start again",
                path=str(path),
            )


def _small_files(folder: Path) -> Iterator[Path]:
    for here, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _NO_KITS_IN]
        for name in names:
            path = Path(here, name)
            try:
                if path.stat().st_size <= MAX_KIT_BYTES:
                    yield path
            except OSError:
                continue


def _is_bare_kit(path: Path) -> bool:
    try:
        return not is_protected(path.read_text(encoding="utf-8", errors="replace"))
    except (BadInput, OSError):
        return False
