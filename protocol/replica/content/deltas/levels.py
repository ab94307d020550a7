"""What this machine's zlib reproduces, known from one start to the next (docs/protocol.md, "Reflate").

Rules:
- the self-test costs a fifth of a second of a core, an old PC's a whole one: its result is kept for as long as the
  library says the same about itself;
- a result that is wrong costs bytes only: hashes decide what a file is, and packs bring what deltas do not.
"""

from __future__ import annotations

import asyncio
import platform
import sys
import zlib
from typing import Final

from protocol.errors import Code, LocalFailure
from protocol.replica.interfaces import EntryStore
from protocol.transfer.deflate_parameters import ALL_LEVELS, Profile, profile, recall

LEVELS_MARK: Final = "deflates"
"""→ 2 bytes: the levels, then what the library said about itself when they were tested."""

_LEVELS_BYTES: Final = 2


async def known_levels(store: EntryStore) -> Profile:
    """What this machine reproduces; tested if that is not known of this very library. Raises `LocalFailure`."""
    library = _library()
    noted = await store.mark(LEVELS_MARK)
    if noted is not None and noted[_LEVELS_BYTES:] == library:
        levels = levels_in(noted)
        recall(levels)
        return levels
    levels = await asyncio.to_thread(profile)
    try:
        await store.set_marks({LEVELS_MARK: levels_value(levels) + library})
    except LocalFailure as failure:
        if failure.code is not Code.DISK_FULL:  # else the next start tests again, and this one goes on
            raise
    return levels


def levels_in(noted: bytes) -> Profile:
    """Those that the first bytes of a mark hold."""
    return Profile(int.from_bytes(noted[:_LEVELS_BYTES], "big") & ALL_LEVELS)


def levels_value(levels: Profile) -> bytes:
    """As a mark holds them."""
    return levels.to_bytes(_LEVELS_BYTES, "big")


def _library() -> bytes:
    return f"{zlib.ZLIB_RUNTIME_VERSION} {sys.version} {platform.machine()}".encode()
