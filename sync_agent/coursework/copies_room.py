"""What the readable copies take of a disk, and which of them make way: pure rules (docs/adr/0259).

Rules:
- a file takes whole blocks, and at least one, an empty one too; so does each folder: a list of fifty thousand empty
  files in deep folders takes hundreds of megabytes, of a few kilobytes that were sent;
- a disk also has a number of files that it can hold, where the system tells it;
- copies make way once less is free than the tree has to leave, those that were published or opened longest ago first.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from protocol.limits import KiB

MIN_BLOCK_BYTES: Final = 4 * KiB
"""The least that a file or a folder takes, as far as is reckoned: what NTFS takes, and most others."""
MAX_BLOCK_BYTES: Final = 64 * KiB
"""Network disks call what they send at once a block."""
RESERVE_FILES: Final = 4_096
"""How many more files this tree leaves possible: the store and people's work come first."""
_SHARE: Final = 20


@dataclass(frozen=True, slots=True)
class Taken:
    """Room on a disk: bytes, and how many files and folders."""

    size: int
    files: int

    @property
    def is_nothing(self) -> bool:
        """Whether this is no room at all."""
        return self.size <= 0 and self.files <= 0


@dataclass(frozen=True, slots=True)
class DiskRoom:
    """What is free of a disk beyond what the tree leaves; `files` is None where the system does not tell."""

    size: int
    files: int | None
    block_bytes: int = MIN_BLOCK_BYTES

    def holds(self, needed: Taken) -> bool:
        """Whether there is room for this."""
        return needed.size <= self.size and (self.files is None or needed.files <= self.files)

    @property
    def lacking(self) -> Taken:
        """What has to make way."""
        return Taken(max(0, -self.size), 0 if self.files is None else max(0, -self.files))


def room_beyond(place: Path, free_bytes: int, reserve_bytes: int) -> DiskRoom:
    """The room on the disk of `place`, of which `free_bytes` are free, beyond what is left. Raises `OSError`."""
    if sys.platform == "win32":
        return DiskRoom(free_bytes - reserve_bytes, None)
    disk = os.statvfs(place)
    # some file systems make place for files as they come, and tell none, or no end of them
    told = disk.f_files > 0 and 0 <= disk.f_favail <= disk.f_files
    files = disk.f_favail - min(RESERVE_FILES, disk.f_files // _SHARE) if told else None
    return DiskRoom(free_bytes - reserve_bytes, files, min(max(disk.f_frsize, MIN_BLOCK_BYTES), MAX_BLOCK_BYTES))


def taken(sizes: Iterable[int], folders: Collection[str], block_bytes: int) -> Taken:
    """What files of these sizes take, and the folders that are made for them."""
    blocks = [max(1, -(-size // block_bytes)) for size in sizes]
    return Taken((sum(blocks) + len(folders)) * block_bytes, len(blocks) + len(folders))


def making_way(takes: Mapping[bytes, Taken], used_ms: Mapping[bytes, int], lacking: Taken) -> list[bytes]:
    """The titles whose copies go, so that this room is free again; all of them where that is not enough."""
    going: list[bytes] = []
    size, files = lacking.size, lacking.files
    for item in sorted(takes, key=lambda item: (used_ms[item], item)):
        if size <= 0 and files <= 0:
            break
        going.append(item)
        size, files = size - takes[item].size, files - takes[item].files
    return going
