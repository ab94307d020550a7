"""What a form brings, while it comes: one unnamed file, whose bytes are noise to whoever reads the disk.

Each has a key of its own, in memory alone: what the file lets go of lies in free blocks for as long as nothing uses
them, and pupils' work is sealed only once the whole form is there (docs/adr/0412). Everything here blocks.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

_PREFIX: Final = ".upload-"
_KEY_BYTES: Final = 32
_BLOCK_BYTES: Final = 64
_COUNTER_BYTES: Final = 8
_NONCE_BYTES: Final = 8
MAX_SPOOL_BYTES: Final = _BLOCK_BYTES << 32
"""ChaCha20 counts its blocks to 2³² (RFC 8439): 256 GiB."""


class Spool:
    """A temporary file of `MAX_SPOOL_BYTES` at most in `folder`, which goes when its context ends. Raises `OSError`."""

    def __init__(self, folder: Path) -> None:
        self._key = secrets.token_bytes(_KEY_BYTES)
        self._veil = veil(self._key, 0)
        self._left = MAX_SPOOL_BYTES
        self._file = tempfile.TemporaryFile(dir=folder, prefix=_PREFIX)  # noqa: SIM115 — closed by `__exit__`

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, piece: bytes) -> None:
        """Put bytes behind those that there are."""
        self._left -= len(piece)
        if self._left < 0:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        self._file.write(self._veil.update(piece))

    def read(self, offset: int, size: int) -> bytes:
        """Bytes that were put there, once all are."""
        self._file.seek(offset)
        return veil(self._key, offset).update(self._file.read(size))


def veil(key: bytes, offset: int) -> CipherContext:
    """What hides bytes from an offset on, and shows them again: ChaCha20, whose blocks are counted by the offset."""
    blocks, within = divmod(offset, _BLOCK_BYTES)
    start = blocks.to_bytes(_COUNTER_BYTES, "little") + bytes(_NONCE_BYTES)
    found = Cipher(ChaCha20(key, start), None).encryptor()
    found.update(bytes(within))
    return found


def tidy_uploads(folder: Path) -> None:
    """Remove what forms left in DIR that a power cut ended: where unnamed files have a name until they are closed."""
    for left in folder.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # another program's, which writes it now
            left.unlink()
