"""How the C library keeps memory that the program has given back: as little as it can be told to, and not for long.

glibc takes the first large block that is freed as a sign to keep such blocks (mallopt(3), "dynamic mmap threshold"). A
daemon that compresses, hashes and reads all day then holds on to whatever it once needed: publishing 10,000 small files
peaked at 129 MB with that, and at 90 MB without; the time is the same.

What lies free between blocks that are still in use comes back only when it is asked for: after a class has read thirty
pages of the portal, 2.7 MB.

asyncio takes 256 KiB for each TLS connection for as long as it stands, and as much anew for each record of 16 KiB that
it reads, which the C library maps and gives back each time: with a quarter of that 21.6 MB cost whoever receives them
31 ms of the processor instead of 85.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import sys
from asyncio.sslproto import SSLProtocol
from typing import Final

# malloc.h; setting one of the two ends their adaptation, and the other may have grown by then
_THRESHOLDS: Final = (-1, -3)  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
_THRESHOLD_BYTES: Final = 128 * 1024
REUSED_PIECE_BYTES: Final = _THRESHOLD_BYTES * 3 // 4
"""So much the C library takes from memory that it has: to have more mapped anew each time costs more than its use."""
_TLS_READ_BYTES: Final = 64 * 1024
_EVERY_S: Final = 300.0


def keep_little() -> None:
    """Let the C library return freed memory to the system, on Linux with glibc; and TLS take little, everywhere."""
    SSLProtocol.max_size = _TLS_READ_BYTES
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            for threshold in _THRESHOLDS:
                ctypes.CDLL(None).mallopt(threshold, _THRESHOLD_BYTES)


async def giving_back() -> None:
    """Return what lies free to the system every few minutes, until cancelled; it takes a millisecond or two."""
    while sys.platform == "linux":
        await asyncio.sleep(_EVERY_S)
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
