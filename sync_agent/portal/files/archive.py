"""Where the files of a hand-in go when a teacher saves all of them from a page: into a ZIP, as they come.

Nothing is answered before the first byte is there, so that a hand-in that cannot be opened becomes an error page.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from typing import IO, Final, cast

from aiohttp import web

from sync_agent.portal.files.media_types import attachment
from sync_agent.portal.files.saving import Quiet

_ZIP_64_FROM: Final = 1 << 31
_FLUSH_BYTES: Final = 1 << 18


class Archive(Quiet):
    """Answers with a ZIP of all files, not compressed: what takes room is compressed already."""

    def __init__(self, request: web.Request, name: str, headers: Mapping[str, str]) -> None:
        self._request = request
        self._sink = _Sink()
        # the library wants a file, and takes one that can only be written on
        self._zip = zipfile.ZipFile(cast("IO[bytes]", self._sink), "w", zipfile.ZIP_STORED)
        self._file: IO[bytes] | None = None
        self.response = web.StreamResponse(
            headers={**headers, "Content-Type": "application/zip", "Content-Disposition": attachment(name)}
        )

    async def start(self, path: str, size: int | None) -> None:
        """Begin a file."""
        info = zipfile.ZipInfo(path)
        info.external_attr = 0o644 << 16
        self._file = self._zip.open(info, "w", force_zip64=(size or 0) >= _ZIP_64_FROM)

    async def data(self, data: bytes) -> None:
        """Add bytes."""
        if self._file is not None:
            self._file.write(data)
            await self._flush(_FLUSH_BYTES)

    async def end(self) -> None:
        """End a file."""
        if self._file is not None:
            self._file.close()
            self._file = None
            await self._flush(_FLUSH_BYTES)

    async def finish(self) -> None:
        """Write the list of files, which ends a ZIP."""
        self._zip.close()
        await self._flush(0)

    async def _flush(self, at_least_bytes: int) -> None:
        if len(self._sink.pending) >= at_least_bytes:
            if not self.response.prepared:
                await self.response.prepare(self._request)
            await self.response.write(self._sink.take())


class _Sink:
    """What was written and not yet sent. No place to go back to: so the library puts sizes behind the files."""

    def __init__(self) -> None:
        self.pending = bytearray()

    def write(self, data: bytes) -> int:
        self.pending += data
        return len(data)

    def flush(self) -> None:
        """Sent by `take`."""

    def take(self) -> bytes:
        data = bytes(self.pending)
        self.pending.clear()
        return data
