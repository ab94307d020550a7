"""How a thread that works behind people's backs steps aside for them, as far as the system lets it (no rights needed).

A pupil's PC has two cores and one spinning disk: whoever writes a text on it must not notice that a lesson arrives.

Rules:
- only threads that hash, pack and read packs step aside; the loop, which answers pages, does not;
- aside, not away: these threads also fetch what a page waits for, so they keep a small share under load. SCHED_IDLE and
  the idle class of disks give none, and cannot be left again for one page (docs/adr/0017).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import sys
import threading
from typing import Final

_NICE: Final = 10
# linux/ioprio.h: class "best effort" in the upper bits, the lowest of its eight levels below
_IOPRIO_WHO_PROCESS: Final = 1
_IOPRIO_LOWEST: Final = (2 << 13) | 7
_IOPRIO_SET: Final = {
    "x86_64": 251,
    "aarch64": 30,
    "i686": 289,
    "i386": 289,
    "armv7l": 314,
    "armv6l": 314,
    "riscv64": 30,
}
# sys/resource.h of macOS: disk, this thread, "utility"
_IOPOL_TYPE_DISK, _IOPOL_SCOPE_THREAD, _IOPOL_UTILITY = 0, 1, 4
_BELOW_NORMAL: Final = -1  # THREAD_PRIORITY_BELOW_NORMAL


def step_aside() -> None:
    """Lower the calling thread for CPU and disk. What the system refuses stays as it is."""
    with contextlib.suppress(OSError, AttributeError, KeyError):
        if sys.platform == "win32":
            kernel = ctypes.windll.kernel32
            kernel.SetThreadPriority(kernel.GetCurrentThread(), _BELOW_NORMAL)
        elif sys.platform == "darwin":
            ctypes.CDLL(None).setiopolicy_np(_IOPOL_TYPE_DISK, _IOPOL_SCOPE_THREAD, _IOPOL_UTILITY)
        elif sys.platform == "linux":
            # on Linux both are a thread's, whatever POSIX says (setpriority(2), "C library/kernel differences")
            thread = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, thread, max(_NICE, os.getpriority(os.PRIO_PROCESS, thread)))
            ctypes.CDLL(None).syscall(_IOPRIO_SET[platform.machine()], _IOPRIO_WHO_PROCESS, 0, _IOPRIO_LOWEST)
