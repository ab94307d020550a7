"""A clock that nobody sets, and what is noted of it for whoever goes on by it (docs/protocol.md, "Erasure").

Rules:
- it counts from a beginning that has a name: that of the machine, where its system names each (Linux), else that of
  this process, however often a store is opened in it;
- who finds a note from the same beginning knows what has passed since, whatever the own clock says, and whatever has
  run meanwhile;
- of a note from another beginning, or of none, nobody knows that;
- it goes on while the machine sleeps, where the system has such a one.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

_BEGINNING_BYTES: Final = 16
_TIME_BYTES: Final = 8
_MACHINES: Final = Path("/proc/sys/kernel/random/boot_id")
_PROCESS: Final = secrets.token_bytes(_BEGINNING_BYTES)


class SteadyClock(NamedTuple):
    """`read_ms` says what has passed since `beginning`; without that name none but who holds it goes on by it."""

    read_ms: Callable[[], int]
    beginning: bytes = b""


def steady_clock() -> SteadyClock:
    """That of this machine."""
    return SteadyClock(steady_ms, _beginning())


def steady_ms() -> int:
    """What it says."""
    read = getattr(time, "clock_gettime", None)
    which = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", 0))
    return int((time.monotonic() if read is None else read(which)) * 1000)


def note_of(at_ms: int, beginning: bytes) -> bytes:
    """What to note where it stands: its beginning, and 8 bytes of ms; nothing, if that has no name."""
    return beginning and beginning + max(0, at_ms).to_bytes(_TIME_BYTES, "big")


def passed_ms(note: bytes, at_ms: int, beginning: bytes) -> int | None:
    """How much has passed since that was noted; None where nobody knows. Less than 0 on a machine that was put back."""
    if not beginning or len(note) != _BEGINNING_BYTES + _TIME_BYTES or not note.startswith(beginning):
        return None
    return at_ms - int.from_bytes(note[_BEGINNING_BYTES:], "big")


def _beginning() -> bytes:
    try:
        name = bytes.fromhex(_MACHINES.read_text("ascii").strip().replace("-", ""))
    except (OSError, ValueError):
        return _PROCESS
    return name if len(name) == _BEGINNING_BYTES else _PROCESS
