"""DIR/ballast-…: room of a disk that is kept for what must always be heard, and given up when the disk is full.

Rules (docs/adr/0260):
- a program that runs keeps three files of no meaning beside its database, while there is plenty of room, and makes them
  again once there is. They are given up one after the other, the least first, when what needs them finds the disk full;
- what was given up for one is not for less: rights and revocations are written by the first, starting and the small
  notes of a program by the second, what the kit signed by the third; all else waits until there is room besides:
  lessons and work, and the files that hold them, what is uploaded and what is kept for later;
- what destroys, lets go or marks is a note of a program: it is small, and gives room. A look at which the kit's word is
  due may use what is kept for the kit (docs/adr/0586);
- what fills them cannot be compressed away.

Everything here blocks for some milliseconds.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from enum import IntEnum
from pathlib import Path
from typing import Final

from protocol.errors import Code, LocalFailure
from protocol.limits import MiB

PLENTY_BYTES: Final = 128 * MiB
"""Where less is free, no ballast is made: it would be in the way itself."""
_AGAIN_S: Final = 60.0


class Rank(IntEnum):
    """What something written is: the higher, the more of the ballast it may use."""

    OTHER = 0
    RIGHTS = 1
    START = 2
    KIT = 3


PARTS: Final = {Rank.RIGHTS: 4 * MiB, Rank.START: 2 * MiB, Rank.KIT: 4 * MiB}


class Ballast:
    """The ballast of DIR. A part that was given up is an empty file; where nobody has ever kept one there is none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = {part: os.path.join(folder, f"ballast-{part.name.lower()}") for part in PARTS}  # noqa: PTH118
        """Texts: they are looked at before each thing that is written."""
        self._looked_s = -_AGAIN_S

    def keep(self) -> None:
        """Make what is missing, where there is plenty of room."""
        for part, size in PARTS.items():
            if self._size(part) != size and free_bytes(self._folder) >= PLENTY_BYTES:
                self._make(self._files[part], size)

    def mend(self) -> None:
        """Make again what was given up, looked at once in a while: for whoever writes."""
        if self.given_up(Rank.OTHER) and time.monotonic() - self._looked_s > _AGAIN_S:
            self._looked_s = time.monotonic()
            self.keep()

    def give_up(self, rank: Rank) -> bool:
        """Give up the least part that is there, for something of this rank; whether there was one."""
        for part in PARTS:
            if part <= rank and self._size(part):
                try:
                    os.truncate(self._files[part], 0)
                except OSError:
                    continue
                return True
        return False

    def is_kept_from(self, rank: Rank, size: int = 0) -> bool:
        """Whether what is free was given up for more than something of this rank; a start is never kept from it.

        With `size`, whether so many bytes would take of it.
        """
        given_up = 0 if rank >= Rank.START else self.given_up(rank)
        return given_up > 0 and free_bytes(self._folder) < given_up + size

    def leave(self, size: int, rank: Rank = Rank.OTHER) -> None:
        """Leave what was given up to what it was given up for: asked before each piece of a file.

        Raises `LocalFailure(DISK_FULL)` for what has less than that rank.
        """
        if self.is_kept_from(rank, size):
            raise LocalFailure(Code.DISK_FULL, "the disk is full: what is free is kept for rights, and for starting")

    def given_up(self, rank: Rank) -> int:
        """The bytes that were given up for more than something of this rank."""
        return sum(size for part, size in PARTS.items() if part > rank and self._size(part) == 0)

    def _size(self, part: Rank) -> int | None:
        try:
            return os.stat(self._files[part]).st_size  # noqa: PTH116  (as above)
        except OSError:
            return None

    def _make(self, file: str, size: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
        with contextlib.suppress(OSError), os.fdopen(os.open(file, flags, 0o600), "wb") as written:
            piece = os.urandom(MiB)
            for _ in range(size // MiB):
                written.write(piece)


def free_bytes(folder: Path) -> int:
    """What is free of a folder's disk; 0 where nobody can tell."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0
