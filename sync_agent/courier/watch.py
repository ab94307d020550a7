"""Sticks that are plugged in while `run` is up: one with a folder `Relais` is read, then brought up to date.

Rules:
- only a disk that already has the folder is touched: whoever makes it there says what the stick is for; what leads to
  a folder elsewhere, a link or a junction of Windows, is none;
- while it stays, it is brought up to date again when something new is here, or something else stands on it, so that it
  can be taken at any time; one that was in a bad state is tried again now and then;
- a stick that was pulled out is soon in again, and another one takes its place between two looks: one that could not be
  read or written to the end is tried again at once, then more and more seldom;
- after an import that failed nothing is removed from it: what could not be taken in may lie there alone;
- people are told when not to pull it out, and when they may; a disk in a bad state is said, and harms nothing else;
- nobody is told that all is on it while something of this device's could not be written: that is named.

docs/protocol.md, "Courier disks".
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import string
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Final

from protocol.errors import Code, RelaisError
from protocol.replica.console.operation import JSON, Incoming, Outgoing, Params, Table
from sync_agent.app import Agent
from sync_agent.courier.commands import export_to, import_from
from sync_agent.courier.disk import CourierDisk
from sync_agent.machine.plain_files import is_real_folder

FOLDER: Final = "Relais"
AUTO: Final = "auto"
LOOK_S: Final = 2.0
AGAIN_S: Final = 30.0
FAILED_FIRST_S: Final = 4.0
FAILED_AGAIN_S: Final = 120.0
MAX_NAMES_PER_LOOK: Final = 4_096
"""Of a folder that is named as the place where sticks appear, no more is looked at."""

_FILE_SYSTEMS: Final = frozenset(
    {"vfat", "msdos", "exfat", "fuseblk", "ntfs", "ntfs3", "hfsplus", "udf", "ext2", "ext3", "ext4", "btrfs", "f2fs"}
)
_PLACES: Final = ("/media/", "/run/media/", "/mnt/", "/Volumes/")
_DRIVE_REMOVABLE: Final = 2
_MOST_DOUBLINGS: Final = 10

_log = logging.getLogger(__name__)


class StickStanding(StrEnum):
    """What people are told of a stick; each is a key `stick.…` of the portal's catalogues."""

    BUSY = "busy"
    DONE = "done"
    CROWDED = "crowded"
    KEYLESS = "keyless"
    FULL = "full"
    DAMAGED = "damaged"
    FOREIGN = "foreign"
    READ_ONLY = "read-only"
    FAILED = "failed"


_SERVED: Final = frozenset({StickStanding.DONE, StickStanding.CROWDED, StickStanding.KEYLESS})
_STANDINGS: Final = {
    Code.DISK_FULL: StickStanding.FULL,
    Code.DAMAGED: StickStanding.DAMAGED,
    Code.CUT_OFF: StickStanding.DAMAGED,
    Code.READ_ONLY: StickStanding.READ_ONLY,
    Code.WRONG_TERRITORY: StickStanding.FOREIGN,
    Code.CANNOT_READ: StickStanding.KEYLESS,
}


@dataclass(slots=True)
class _Plugged:
    """A stick that is in: how many entries were here when it was last brought up to date, and how that went.

    `names` are the bundles that stood on it afterwards, `failures` the times in a row that it broke off, `told` is what
    was last said of it.
    """

    entries: int = -1
    names: frozenset[str] = frozenset()
    next_s: float = 0.0
    """When it is looked at again."""
    standing: StickStanding | None = None
    failures: int = 0
    told: str = ""

    def pause_s(self) -> float:
        """How long it is left alone now."""
        if self.standing in _SERVED:
            return AGAIN_S
        if self.standing is not StickStanding.FAILED:
            return FAILED_AGAIN_S
        return min(FAILED_AGAIN_S, FAILED_FIRST_S * 2.0 ** min(self.failures, _MOST_DOUBLINGS))


class CourierWatch:
    """Looks for sticks and serves them, one at a time. `monotonic` is a clock in seconds."""

    def __init__(
        self,
        agent: Agent,
        table: Table,
        disks: Callable[[], list[Path]],
        *,
        monotonic: Callable[[], float],
        say: Callable[[str], None],
    ) -> None:
        self._agent = agent
        self._table = table
        self._disks = disks
        self._monotonic = monotonic
        self._say = say
        self._plugged: dict[Path, _Plugged] = {}

    async def run(self) -> None:
        """Look every `LOOK_S`; ends only by being cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Serve the sticks that are new, and those for which something new is here."""
        there = await asyncio.to_thread(self._with_folder)
        for gone in self._plugged.keys() - set(there):
            del self._plugged[gone]
        if not there:
            self._agent.stick = None
        for folder in there:
            stick = self._plugged.get(folder)
            if stick is not None and self._monotonic() < stick.next_s:
                continue
            if stick is None or await self._is_to_be_served(folder, stick):
                self._plugged[folder] = stick = stick or _Plugged()
                await self._serve(folder, stick)
                stick.failures = stick.failures + 1 if stick.standing is StickStanding.FAILED else 0
                stick.entries, stick.names = await self._entries(), await asyncio.to_thread(self._names_on, folder)
            stick.next_s = self._monotonic() + stick.pause_s()

    async def _is_to_be_served(self, folder: Path, stick: _Plugged) -> bool:
        """Whether it was in a bad state, or something new is here, or other bundles stand on it."""
        if stick.standing not in _SERVED or stick.entries != await self._entries():
            return True
        return stick.names != await asyncio.to_thread(self._names_on, folder)

    async def _entries(self) -> int:
        return sum((await self._agent.replica.store.spaces()).values())

    def _names_on(self, folder: Path) -> frozenset[str]:
        """The bundles of this territory on a stick; none where it cannot be read."""
        return CourierDisk(folder, self._agent.replica.territory).names()

    async def _serve(self, folder: Path, stick: _Plugged) -> None:
        self._agent.stick = StickStanding.BUSY
        standing, told, keep = StickStanding.DONE, list[str](), False
        without: object = None
        territory = self._agent.replica.territory
        try:
            try:
                await import_from(folder, territory, self._run, _quiet)
            except RelaisError as error:
                if error.code is Code.QUARANTINED:
                    raise
                # An empty folder, or another territory's, is a stick that is to be filled.
                if error.code not in (Code.MISSING_FILE, Code.WRONG_TERRITORY, Code.CANNOT_READ):
                    standing, keep = self._told(folder, stick, error.code, str(error)), True
            written = await export_to(folder, territory, self._run, told.append, keep=keep)
            if standing is StickStanding.DONE and written.get("damaged"):
                standing = self._told(folder, stick, Code.DAMAGED, told[-1])
            elif standing is StickStanding.DONE and written.get("waits"):
                standing = StickStanding.CROWDED
        except RelaisError as error:
            if error.code is Code.QUARANTINED:
                # it was looked at for the end of the quarantine; all pages say that sticks are off
                self._agent.stick, stick.standing = None, None
                return
            standing = self._told(folder, stick, error.code, str(error))
            without = error.facts.get("spaces")
        self._agent.stick = stick.standing = standing
        self._agent.stick_without = tuple(map(str, without)) if isinstance(without, list) else ()
        if standing is StickStanding.DONE:
            stick.told = ""
            self._say(f"{folder}: everything is on the stick, and what is new was read back; it may be removed")
        elif standing is StickStanding.CROWDED and stick.told != told[-1]:
            stick.told = told[-1]
            self._say(f"{folder}: {told[-1]}")

    def _told(self, folder: Path, stick: _Plugged, code: Code, sentence: str) -> StickStanding:
        if stick.told != sentence:
            stick.told = sentence
            self._say(f"{folder}: {sentence}")
        return _STANDINGS.get(code, StickStanding.FAILED)

    async def _run(self, name: str, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        return await self._table[name](params, incoming, outgoing)

    def _with_folder(self) -> list[Path]:
        found = []
        for disk in self._disks():
            folder = disk / FOLDER
            try:
                if is_real_folder(folder):
                    found.append(folder)
            except OSError as reason:
                _log.debug("%s cannot be looked at: %s", folder, reason)
        return found


def disks_of(option: str) -> Callable[[], list[Path]]:
    """Where sticks appear: `auto` for where this system mounts them, else the folders in the folder that is named."""
    if option != AUTO:
        return lambda: _folders_in(Path(option))
    if sys.platform == "win32":
        return _drives
    if sys.platform == "darwin":
        return lambda: _folders_in(Path("/Volumes"))
    return lambda: mounted_disks(_read_mounts())


def mounted_disks(mounts: str) -> list[Path]:
    """The disks in a table of mounts as Linux has it, `device place type …` in each line, that may be sticks."""
    found = []
    for line in mounts.splitlines():
        device, place, kind, *_ = [*line.split(" "), "", "", ""]
        path = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), place)
        if device.startswith("/dev/") and kind in _FILE_SYSTEMS and path.startswith(_PLACES):
            found.append(Path(path))
    return found


def _read_mounts() -> str:
    try:
        return Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def _folders_in(place: Path) -> list[Path]:
    try:
        with os.scandir(place) as entries:
            some = islice(entries, MAX_NAMES_PER_LOOK)
            return sorted(Path(entry.path) for entry in some if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []


def _drives() -> list[Path]:
    """The removable drives of Windows."""
    import ctypes  # noqa: PLC0415 — on one platform only

    kind_of = ctypes.windll.kernel32.GetDriveTypeW  # type: ignore[attr-defined,unused-ignore]
    drives = (f"{letter}:\\" for letter in string.ascii_uppercase)
    return [Path(drive) for drive in drives if kind_of(drive) == _DRIVE_REMOVABLE]


def _quiet(_sentence: str) -> None:
    """What a command tells on its console, the portal tells here."""
