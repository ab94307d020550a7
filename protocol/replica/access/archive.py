"""The caller's side of `export-person`: files on their way into a ZIP that appears whole or not at all.

Their paths are what the program says that has the store open: none leads out of where a family unpacks it.
"""

from __future__ import annotations

import asyncio
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final, Self

from protocol.errors import BadInput, Code, LocalFailure, PeerFault, disk_fault
from protocol.portable_names import displayable
from protocol.replica.console.frame import Notices, tell
from protocol.replica.private_file import create_private

_PASSING: Final = ".passing"
_DATE: Final = (1980, 1, 1, 0, 0, 0)
_STRANGE: Final = "\\:\0"


def tell_in_clear(place: Path) -> None:
    """Say of what was written about people, for whoever had it written, that anybody reads it there (docs/adr/0433)."""
    tell(
        f"{place} is not encrypted: hand it over in person, and delete it here afterwards (docs/operate.md, “Handing "
        "an archive over”)"
    )


class ZipOutlet(Notices):
    """Puts files into a ZIP beside `target`. A context: what `keep` has not kept is gone at its end."""

    def __init__(self, target: Path) -> None:
        """Raises `BadInput(USAGE)` where `target` is there already, or its folder is missing."""
        if target.exists():
            raise BadInput(Code.USAGE, f"{target} exists already; choose another name")
        if not target.parent.is_dir():
            raise BadInput(Code.USAGE, f"the folder {target.parent} does not exist; make it, or choose another one")
        self._target = target
        self._passing = target.with_name(f"{target.name}{_PASSING}")
        self._zip: zipfile.ZipFile | None = None
        self._file: IO[bytes] | None = None
        self._raw: IO[bytes] | None = None

    def __enter__(self) -> Self:
        with self._named():
            self._raw = os.fdopen(create_private(self._passing), "wb")
            self._zip = zipfile.ZipFile(self._raw, "w", zipfile.ZIP_DEFLATED)
        return self

    def __exit__(self, *_: object) -> None:
        for part in (self._file, self._zip, self._raw):
            if part is not None:
                with suppress(OSError):  # the last bytes find no room: nobody wants them
                    part.close()
        self._passing.unlink(missing_ok=True)

    async def start(self, path: str, size: int | None) -> None:
        """Begin a file. Raises `PeerFault(BAD_NAME)` for a path that leads elsewhere, `LocalFailure`."""
        _check_inside(path)
        info = zipfile.ZipInfo(path, _DATE)
        info.compress_type = zipfile.ZIP_DEFLATED
        assert self._zip is not None  # noqa: S101  (inside the context)
        with self._named():
            self._file = self._zip.open(info, "w", force_zip64=size is None or size >= zipfile.ZIP64_LIMIT)

    async def data(self, data: bytes) -> None:
        """Its bytes. Raises `LocalFailure`."""
        await asyncio.to_thread(self._write, data)

    async def end(self) -> None:
        """It is whole. Raises `LocalFailure`."""
        if self._file is not None:
            with self._named():
                self._file.close()
            self._file = None

    def keep(self) -> None:
        """Let the archive appear. Raises `LocalFailure`."""
        assert self._zip is not None  # noqa: S101  (inside the context)
        assert self._raw is not None  # noqa: S101
        with self._named():
            self._zip.close()
            self._raw.close()
            self._passing.replace(self._target)

    def _write(self, data: bytes) -> None:
        if self._file is not None:
            with self._named():
                self._file.write(data)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as reason:
            code = disk_fault(reason)
            raise LocalFailure(code, f"{self._target} cannot be written: {reason.strerror}") from reason


def _check_inside(path: str) -> None:
    if any(part in ("", ".", "..") for part in path.split("/")) or any(char in path for char in _STRANGE):
        raise PeerFault(Code.BAD_NAME, f"{displayable(path)} is no path inside an archive", path=displayable(path))
