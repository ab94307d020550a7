"""The caller's side of `export-person`: files on their way into a ZIP that appears whole or not at all."""

from __future__ import annotations

import asyncio
import os
import zipfile
from pathlib import Path
from typing import IO, Final, Self

from protocol.errors import BadInput, Code, LocalFailure
from protocol.replica.console.frame import Notices
from protocol.replica.private_file import create_private

_PASSING: Final = ".passing"
_DATE: Final = (1980, 1, 1, 0, 0, 0)


class ZipOutlet(Notices):
    """Puts files into a ZIP beside `target`. A context: what `keep` has not kept is gone at its end."""

    def __init__(self, target: Path) -> None:
        """Raises `BadInput(USAGE)` where `target` is there already, or its folder is missing."""
        if target.exists() or not target.parent.is_dir():
            raise BadInput(Code.USAGE, f"{target} exists already, or lies in no folder; choose another name")
        self._target = target
        self._passing = target.with_name(f"{target.name}{_PASSING}")
        self._zip: zipfile.ZipFile | None = None
        self._file: IO[bytes] | None = None
        self._raw: IO[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self._raw = os.fdopen(create_private(self._passing), "wb")
            self._zip = zipfile.ZipFile(self._raw, "w", zipfile.ZIP_DEFLATED)
        except OSError as reason:
            raise self._failed(reason) from reason
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        self._passing.unlink(missing_ok=True)

    async def start(self, path: str, size: int | None) -> None:
        """Begin a file."""
        info = zipfile.ZipInfo(path, _DATE)
        info.compress_type = zipfile.ZIP_DEFLATED
        assert self._zip is not None  # noqa: S101  (inside the context)
        self._file = self._zip.open(info, "w", force_zip64=size is None or size >= zipfile.ZIP64_LIMIT)

    async def data(self, data: bytes) -> None:
        """Its bytes. Raises `LocalFailure`."""
        await asyncio.to_thread(self._write, data)

    async def end(self) -> None:
        """It is whole."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def keep(self) -> None:
        """Let the archive appear. Raises `LocalFailure`."""
        try:
            self._close()
            self._passing.replace(self._target)
        except OSError as reason:
            raise self._failed(reason) from reason

    def _write(self, data: bytes) -> None:
        try:
            if self._file is not None:
                self._file.write(data)
        except OSError as reason:
            raise self._failed(reason) from reason

    def _close(self) -> None:
        if self._file is not None:  # cut off inside a file
            self._file.close()
            self._file = None
        if self._zip is not None:
            self._zip.close()
            self._zip = None
        if self._raw is not None:
            self._raw.close()
            self._raw = None

    def _failed(self, reason: OSError) -> LocalFailure:
        return LocalFailure(Code.STORAGE_FAILED, f"{self._target} cannot be written: {reason.strerror}")
