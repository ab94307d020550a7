"""Whether the connection in use is metered, as far as the platform tells without a library of its own.

Rules:
- Linux: NetworkManager is asked through `nmcli` about the device of the default route; where it is not there or does
  not know, a mobile modem (`DEVTYPE=wwan`, `ppp…`) counts as metered, anything else as not known;
- Windows and macOS tell only through libraries that this program does not carry: not known there;
- what is not known counts as not metered (`budget.is_metered`); `--metered yes` is for those machines.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import Final

_ROUTES: Final = Path("/proc/net/route")
_DEVICES: Final = Path("/sys/class/net")
_NMCLI: Final = "nmcli"
_PATIENCE_S: Final = 5.0
_NOWHERE: Final = "00000000"
_MODEM: Final = "DEVTYPE=wwan"


async def is_metered() -> bool | None:
    """Whether the default route is metered; None where nothing tells."""
    if not sys.platform.startswith("linux"):
        return None
    device = default_device(await asyncio.to_thread(_text, _ROUTES))
    if device is None:
        return None
    told = answer_of(await _ask_network_manager(device))
    if told is not None:
        return told
    facts = await asyncio.to_thread(_text, _DEVICES / device / "uevent")
    return True if is_modem(device, facts) else None


def default_device(routes: str) -> str | None:
    """The device of the default route with the lowest metric, from the kernel's table of IPv4 routes."""
    rows = [line.split() for line in routes.splitlines()[1:]]
    found = [(int(row[6]), row[0]) for row in rows if len(row) > 7 and row[1] == row[7] == _NOWHERE]  # noqa: PLR2004
    return min(found)[1] if found else None


def answer_of(said: str) -> bool | None:
    """What NetworkManager's word means: `yes`, `yes (guessed)`, `no`, `no (guessed)`, `unknown`."""
    word = said.strip().partition(" ")[0]
    return {"yes": True, "no": False}.get(word)


def is_modem(device: str, facts: str) -> bool:
    """Whether a device is a mobile modem, by its name and the kernel's `uevent` of it."""
    return device.startswith(("ppp", "wwan")) or _MODEM in facts.splitlines()


async def _ask_network_manager(device: str) -> str:
    try:
        asking = await asyncio.create_subprocess_exec(
            _NMCLI,
            *("-g", "GENERAL.METERED", "device", "show", device),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={"LC_ALL": "C", "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},
        )
    except OSError:
        return ""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            said, _ = await asking.communicate()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            asking.kill()
        await asking.wait()
        return ""
    return said.decode(errors="replace")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
