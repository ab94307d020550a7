"""What this machine's system tells of its hardware, read without help and without rights (`binding` compares it).

Each source is weak alone: an image carries its machine-id along, boards come without a number, containers have nothing.
What cannot be read is left out; what makers leave in their boards by default counts for nothing.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from sync_agent.keys.binding import Hardware, Part

_ASK_S: Final = 5.0
_LEFT_BY_MAKERS: Final = re.compile(
    r"[0-]*|[fF-]*|none|default string|to be filled.*|not (specified|applicable|available)|system serial number|unknown"
    r"|03000200-0400-0500-0006-000700080009|12345678.*|0123456789.*",
    re.IGNORECASE,
)
_MAX_CHARS: Final = 256
_PERMANENT: Final = "0"
_DISKS: Final = re.compile(r"(sd|nvme|hd|vd|xvd|mmcblk)[a-z0-9]*")


def hardware() -> Hardware:
    """The identifiers of this machine."""
    if sys.platform == "linux":
        return linux_hardware(Path("/"))
    if sys.platform == "win32":
        return _windows_hardware()
    if sys.platform == "darwin":
        return apple_hardware(_said_by("/usr/sbin/ioreg", "-rd1", "-c", "IOPlatformExpertDevice"))
    return {}


def linux_hardware(root: Path) -> Hardware:
    """As Linux tells it under `root`; a board's number is for administrators only, the rest for everybody."""
    board = root / "sys/class/dmi/id"
    return _known(
        (Part.SYSTEM, [_read(root / "etc/machine-id")]),
        (Part.BOARD, [_read(board / name) for name in ("product_uuid", "board_serial", "product_serial")]),
        (Part.NETWORK, _linux_cards(root / "sys/class/net")),
        (Part.DISK, _linux_disks(root / "sys/block")),
    )


def _linux_cards(folder: Path) -> Iterator[str | None]:
    """The addresses of cards that exist, as they were made: not of tunnels, and not those drawn for privacy."""
    for card in _entries(folder):
        if (card / "device").exists() and _read(card / "addr_assign_type") == _PERMANENT:
            yield _read(card / "address")


def _linux_disks(folder: Path) -> Iterator[str | None]:
    """The names of built-in disks: a stick that is plugged in says nothing of the machine."""
    for disk in _entries(folder):
        if _DISKS.fullmatch(disk.name) and _read(disk / "removable") != "1":
            for name in ("wwid", "device/wwid", "device/serial", "device/cid", "serial"):
                if (found := _read(disk / name)) is not None:
                    yield found
                    break


def apple_hardware(told: str) -> Hardware:
    """As `ioreg` tells it."""
    named = dict(re.findall(r'"(IOPlatformUUID|IOPlatformSerialNumber)" = "([^"]+)"', told))
    return _known((Part.BOARD, named.values()))


def _windows_hardware() -> Hardware:
    """The system's own number from the registry, the board's from its firmware table."""
    return _known(
        (Part.SYSTEM, [_machine_guid()]),
        (Part.BOARD, [board_uuid(_firmware_table())]),
    )


def _machine_guid() -> str | None:
    if sys.platform != "win32":
        return None
    import winreg  # noqa: PLC0415 — exists on Windows only

    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"SOFTWARE\Microsoft\Cryptography") as key:
            return str(winreg.QueryValueEx(key, "MachineGuid")[0])
    except OSError:
        return None


def _firmware_table() -> bytes:
    """The SMBIOS tables, as any program may read them."""
    if sys.platform != "win32":
        return b""
    ask = ctypes.windll.kernel32.GetSystemFirmwareTable
    provider = int.from_bytes(b"RSMB", "big")
    size = ask(provider, 0, None, 0)
    buffer = ctypes.create_string_buffer(size)
    return buffer.raw[:size] if ask(provider, 0, buffer, size) == size else b""


def board_uuid(table: bytes) -> str | None:
    """The UUID in a raw SMBIOS table (DMTF DSP0134, 7.2: structure type 1, at 8), behind Windows's head of 8 bytes."""
    at, head, uuid = 8, 4, slice(8, 24)
    while at + head <= len(table):
        kind, length = table[at], table[at + 1]
        if length < head:
            break
        if kind == 1 and length >= uuid.stop:
            return table[at + uuid.start : at + uuid.stop].hex()
        end = table.find(b"\x00\x00", at + length)
        if end < 0:
            break
        at = end + 2
    return None


def _known(*found: tuple[Part, Iterable[str | None]]) -> Hardware:
    parts = {part: frozenset(each.lower() for each in ids if each and _tells(each)) for part, ids in found}
    return {part: ids for part, ids in parts.items() if ids}


def _tells(text: str) -> bool:
    return len(text) <= _MAX_CHARS and not _LEFT_BY_MAKERS.fullmatch(text)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _said_by(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=_ASK_S)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode(errors="replace")
