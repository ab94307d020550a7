"""Where a file of a hand-in goes when a teacher saves it from a page, as it comes; all of them as a ZIP: `archive`.

Nothing is answered before the first byte is there, so that a hand-in that cannot be opened becomes an error page.
"""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from sync_agent.portal.files.media_types import UNKNOWN, attachment


class Quiet:
    """Takes what a command says on the way, and no file."""

    async def start(self, path: str, size: int | None) -> None:
        """No file is expected."""

    async def data(self, data: bytes) -> None:
        """Nothing is kept."""

    async def end(self) -> None:
        """Nothing was begun."""

    async def progress(self, text: str) -> None:
        """Lines are for the command line."""


class OneFile(Quiet):
    """Answers with the file at `wanted`, and passes over the others. `found` says whether there was one."""

    def __init__(self, request: web.Request, wanted: str, headers: Mapping[str, str]) -> None:
        self._request = request
        self._wanted = wanted
        self._inside = False
        self.found = False
        self.response = web.StreamResponse(
            headers={**headers, "Content-Type": UNKNOWN, "Content-Disposition": attachment(wanted.rpartition("/")[2])}
        )

    async def start(self, path: str, size: int | None) -> None:
        """Begin to answer if it is the one."""
        self._inside = path == self._wanted and not self.found
        if self._inside:
            self.found = True
            self.response.content_length = size
            await self.response.prepare(self._request)

    async def data(self, data: bytes) -> None:
        """Pass it on."""
        if self._inside:
            await self.response.write(data)

    async def end(self) -> None:
        """Go on with the next."""
        self._inside = False
