"""How `run` was asked to run: one frozen value, and the rules for where a server may listen."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from protocol.errors import BadInput, Code
from protocol.kit import is_protected
from protocol.limits import MAX_KIT_BYTES
from protocol.replica.packs import DAMAGED, PACKS, PARTS

MAX_PORT: Final = 65_535

_NO_KITS_IN: Final = frozenset({PACKS, PARTS, DAMAGED})


@dataclass(frozen=True, slots=True)
class RunConfig:
    """`host` is an address or name, without brackets; port 0 lets the system choose."""

    data_dir: Path
    host: str
    port: int
    behind_proxy: bool


def run_config(
    data_dir: Path, *, listen: str, behind_proxy: bool, database: str | None = None, blobs: str | None = None
) -> RunConfig:
    """What the options of `run` mean. Raises `BadInput` (USAGE, NOT_LOOPBACK, NOT_YET)."""
    if database is not None or blobs is not None:
        option = "--blobs" if database is None else "--database"
        raise BadInput(
            Code.NOT_YET, f"{option} is for a later version: this one keeps everything in its data folder; leave it out"
        )
    host, port = address_of(listen)
    if not is_loopback(host) and not behind_proxy:
        raise BadInput(
            Code.NOT_LOOPBACK,
            f"{listen} can be reached from other machines, and this version has no TLS of its own: listen on "
            "127.0.0.1, or put a proxy with TLS in front and say --behind-proxy",
        )
    return RunConfig(data_dir, host, port, behind_proxy)


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


def check_kit(config: RunConfig) -> None:
    """Raise `BadInput(KIT_EXPOSED)` where an unprotected kit lies beside a listener that others can reach (§ Trust)."""
    if is_loopback(config.host):
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
