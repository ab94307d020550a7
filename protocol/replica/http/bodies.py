"""Bodies of requests, read with a bound on their size and on how slowly they may come (R9).

Rules:
- a declared size beyond the bound is refused before a byte is read, an undeclared one at the first byte too many;
- a `Content-Encoding` is refused: what it would grow to is not known;
- a client that brings less than a piece a minute is let go, so that slow ones do not occupy the server for ever;
- what comes fast is passed on in large pieces, each of which costs a turn of a thread and a look at the disk;
- while a piece is awaited the request counts as not whole: whoever lets us wait the longest makes room (`connections`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import ClientError, web

from protocol.errors import Code, PeerFault, TooLarge
from protocol.limits import FILE_PIECE_BYTES, KiB
from protocol.replica.http.connections import awaiting

SLOWEST_PIECE_BYTES: Final = 64 * KiB
PIECE_TIMEOUT_S: Final = 60.0
GATHER_S: Final = 0.05
"""So long a piece that is large enough grows, from when it was awaited."""


async def pieces(request: web.Request, max_bytes: int) -> AsyncIterator[bytes]:
    """The body in pieces of 1 to `FILE_PIECE_BYTES`, of at most `max_bytes` together.

    What had come before the body was cut, or became too slow, is given before that is raised. Raises `TooLarge`,
    `PeerFault(ENCODED_BODY | TOO_SLOW | CUT_OFF)`.
    """
    _check_plain(request)
    if (request.content_length or 0) > max_bytes:
        raise _too_large(max_bytes)
    left = max_bytes
    ended = False
    while not ended:
        gathered: list[bytes] = []
        fault: PeerFault | None = None
        try:
            async with asyncio.timeout(PIECE_TIMEOUT_S) as patience:
                with awaiting(request):
                    ended = await _gather(request, gathered, patience)
        except TimeoutError:
            if sum(map(len, gathered)) < SLOWEST_PIECE_BYTES:
                fault = PeerFault(Code.TOO_SLOW, "the request took too long to arrive")
        except (web.RequestPayloadError, ClientError, ConnectionError) as reason:
            fault = PeerFault(Code.CUT_OFF, "the request broke off", reason=str(reason))
        piece = b"".join(gathered)
        left -= len(piece)
        if left < 0:
            raise _too_large(max_bytes)
        if piece:
            yield piece
        if fault is not None:
            raise fault


def _check_plain(request: web.Request) -> None:
    if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise PeerFault(Code.ENCODED_BODY, "the body of a request may not be encoded")


async def _gather(request: web.Request, gathered: list[bytes], patience: asyncio.Timeout) -> bool:
    """Add what comes, until that is worth passing on; whether the body has ended. `patience` is shortened from then."""
    clock = asyncio.get_running_loop().time
    enough_s, size = clock() + GATHER_S, 0
    while size < FILE_PIECE_BYTES:
        part = await request.content.read(FILE_PIECE_BYTES - size)
        if not part:
            return True
        gathered.append(part)
        size += len(part)
        if size >= SLOWEST_PIECE_BYTES:
            if clock() >= enough_s:
                break
            patience.reschedule(enough_s)
    return False


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(Code.TOO_LARGE, f"the request is larger than {max_bytes} bytes", max=max_bytes)
