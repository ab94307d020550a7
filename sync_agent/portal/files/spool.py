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

from protocol.transfer.crossing import LINK_KEY_BYTES, MAX_CROSSING_BYTES, crossing

_PREFIX: Final = ".upload-"


class Spool:
    """A temporary file of `MAX_CROSSING_BYTES` at most in `folder`; it goes as its context ends. Raises `OSError`."""

    def __init__(self, folder: Path) -> None:
        self._key = secrets.token_bytes(LINK_KEY_BYTES)
        self._hidden = crossing(self._key, 0)
        self._left = MAX_CROSSING_BYTES
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
        self._file.write(self._hidden(piece))

    def read(self, offset: int, size: int) -> bytes:
        """Bytes that were put there, once all are."""
        self._file.seek(offset)
        return crossing(self._key, offset)(self._file.read(size))


def tidy_uploads(folder: Path) -> None:
    """Remove what forms left in DIR that a power cut ended: where unnamed files have a name until they are closed."""
    for left in folder.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # another program's, which writes it now
            left.unlink()
