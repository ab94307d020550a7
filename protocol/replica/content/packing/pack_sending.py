"""A stored pack on its way to somebody, in pieces.

Rules:
- where the pack lies is asked once, not for each piece; several pieces are read by one turn of a thread, into memory
  that is used again;
- what goes away meanwhile ends early, and never with other bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from protocol.limits import FILE_PIECE_BYTES, KiB
from protocol.replica.byte_range import Span
from protocol.replica.interfaces import ContentStore

SENT_PIECE_BYTES: Final = 64 * KiB
"""What TLS gets at once: larger blocks are memory that the system hands out anew each time (`native_memory`)."""


async def sent_pieces(content: ContentStore, pack: bytes, span: Span) -> AsyncGenerator[bytes, None]:
    """A part of a stored pack or delta, verbatim; less of it if it goes away. Raises `LocalFailure`."""
    read = await content.pack_reader(pack)
    at, end = span.start, span.start + span.length
    memory = memoryview(bytearray(min(FILE_PIECE_BYTES, span.length)))
    while at < end and (have := await asyncio.to_thread(read, at, memory[: end - at])):
        for start in range(0, have, SENT_PIECE_BYTES):
            yield bytes(memory[start : min(start + SENT_PIECE_BYTES, have)])
        at += have
