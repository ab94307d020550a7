"""What seals a backup to the territory's recovery kit, and opens it again (docs/protocol.md, "Backups").

Rules:
- a backup holds all names, and the server's keys; `restore` takes the kit anyhow, so nothing else opens it, and whoever
  finds one, or where it lies, has sizes and a date (docs/adr/0421);
- its key is made for it alone, and wrapped for the recovery key that the root has named; a kit opens what was sealed to
  the kits before it as well;
- it is sealed as it goes out, and opened as it is read, a chunk at a time: none of it lies open on the way.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from typing import IO, Final

from protocol.errors import Code, PeerFault, Refused
from protocol.identity import AgreementKey, tagged
from protocol.limits import SEALED_CHUNK_BYTES
from protocol.trust import hpke
from protocol.trust.sealed_chunks import COMMITMENT_BYTES, STREAM_KEY_BYTES, TAG_BYTES, SealedChunks

_STREAM: Final = b"relais/0 backup"
_WRAP: Final = b"relais/0 backup key"
_WHAT: Final = "backup"


def wrapped_key(key: bytes, recovery: bytes, territory: bytes, ephemeral: bytes) -> bytes:
    """A backup's key for a kit, by its recovery key; `ephemeral` is 32 fresh random bytes."""
    return hpke.seal(key, recovery, tagged(_WRAP, territory), ephemeral)


def stream_key(wrapped: bytes, territory: bytes, opening: Iterable[AgreementKey]) -> bytes:
    """A backup's key, by one of a kit's keys. Raises `Refused(WRONG_TERRITORY)` where none opens it."""
    for key in opening:
        with suppress(PeerFault):
            opened = hpke.open_(wrapped, key, tagged(_WRAP, territory))
            if len(opened) == STREAM_KEY_BYTES:
                return opened
    raise Refused(Code.WRONG_TERRITORY, "this kit does not open the backup, which was sealed to a newer one; use that")


def sealed_bytes(size: int) -> int:
    """What `size` bytes take once they are sealed."""
    return COMMITMENT_BYTES + size + max(1, -(-size // SEALED_CHUNK_BYTES)) * TAG_BYTES


async def sealed(pieces: AsyncIterator[bytes], key: bytes) -> AsyncIterator[bytes]:
    """A backup's bytes, sealed."""
    chunks, buffer, number = SealedChunks(key, _STREAM, _WHAT), bytearray(), 0
    async for piece in pieces:
        buffer += piece
        at, found = 0, []
        # the last chunk is never empty, so that one more has to come before a full one goes
        while len(buffer) - at > SEALED_CHUNK_BYTES:
            found.append(chunks.seal(bytes(buffer[at : at + SEALED_CHUNK_BYTES]), number, last=False))
            at, number = at + SEALED_CHUNK_BYTES, number + 1
        del buffer[:at]
        yield b"".join(found)
    yield chunks.seal(bytes(buffer), number, last=True)


class Unsealed:
    """A file of sealed bytes, read as what it holds: what comes out is authentic, and all of it once `finish` returns.

    Raises `PeerFault(BAD_SEAL)` where it is read.
    """

    def __init__(self, file: IO[bytes], size: int, key: bytes) -> None:
        """`size` is how many sealed bytes there are."""
        self._file = file
        self._left = size
        self._chunks = SealedChunks(key, _STREAM, _WHAT)
        self._number = 0
        self._clear = bytearray()

    def read(self, size: int) -> bytes:
        """The next `size` bytes, or what is left."""
        while len(self._clear) < size and self._left > 0:
            self._clear += self._next()
        data = bytes(self._clear[:size])
        del self._clear[:size]
        return data

    def finish(self) -> None:
        """Read what is left: that nothing is missing is known after the last chunk alone."""
        while self._left > 0 or not self._number:
            self._next()

    def _next(self) -> bytes:
        wanted = SEALED_CHUNK_BYTES + TAG_BYTES + (0 if self._number else COMMITMENT_BYTES)
        taken = self._file.read(min(wanted, self._left))
        self._left -= len(taken) or self._left
        clear = self._chunks.open(taken, self._number, last=not self._left)
        self._number += 1
        return clear
