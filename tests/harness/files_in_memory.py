"""Where tests put their files: into memory, where the system keeps a folder there and both have the room.

Most of the time that a test of two agents waits, and a sixth of what it costs the processor, is the disk's (ADR 0252).
What tests say of durability they say of calls that are traced, and of what a simulated disk has lost; that a real disk
keeps what it was told to keep, no test can see. Whoever names a folder (`TMPDIR`, `--basetemp`) has it there.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

_IN_MEMORY: Final = Path("/dev/shm")  # noqa: S108 — pytest makes a folder of this user's own in it
_ROOM_BYTES: Final = 2 << 30
"""Several times what lies there at any moment: what belongs to a test that has passed is gone."""


def put_files_into_memory() -> None:
    """For this process and those that it starts, if there is room."""
    if "TMPDIR" not in os.environ and _has_room():
        os.environ["TMPDIR"] = str(_IN_MEMORY)
        tempfile.tempdir = None  # asked for again


def _has_room() -> bool:
    """Whether much fits into it, and programs that tests write may run there."""
    if sys.platform != "linux" or not os.access(_IN_MEMORY, os.W_OK | os.X_OK):
        return False
    runs = not os.statvfs(_IN_MEMORY).f_flag & os.ST_NOEXEC
    return runs and min(shutil.disk_usage(_IN_MEMORY).free, _available_bytes()) >= _ROOM_BYTES


def _available_bytes() -> int:
    """How much memory programs can still be given."""
    lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    (kib,) = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(kib) << 10
