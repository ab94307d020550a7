"""Somebody between two machines, who ends TLS with keys of their own, passes everything on, and reads what is clear."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from aiohttp import ClientSession, web

from protocol.errors import PeerFault, TooLarge
from protocol.limits import MAX_PACK_BYTES
from protocol.messages.wire import PACKS_PATH
from protocol.transfer.pack import open_frame, read_index

PASSED_ON = frozenset({"authorization", "content-type", "range", "upload-offset"})
PASSED_BACK = frozenset({"content-range", "content-type", "upload-offset", "etag"})


class Between:
    """Passes requests on to the honest machine at a URL; `packs` are those that came by, down and up, as they came."""

    def __init__(self, honest: str, onward: ClientSession) -> None:
        self._honest = honest
        self._onward = onward
        self.calls = 0
        self.packs: list[bytes] = []

    async def pass_on(self, request: web.Request) -> web.Response:
        self.calls += 1
        headers = {name: value for name, value in request.headers.items() if name.lower() in PASSED_ON}
        said = self.request(request.path, await request.read())
        asked = self._onward.request(request.method, self._honest + request.path_qs, data=said or None, headers=headers)
        async with asked as answer:
            body = await answer.read()
            if request.method == "GET":
                self.packs.append(body)
            elif request.path == PACKS_PATH:
                self.packs.append(said)
            back = {name: value for name, value in answer.headers.items() if name.lower() in PASSED_BACK}
            return web.Response(status=answer.status, body=self.answer(answer.status, body), headers=back)

    def request(self, path: str, body: bytes) -> bytes:
        """What is made of a request."""
        del path
        return body

    def answer(self, status: int, body: bytes) -> bytes:
        """What is made of an answer."""
        del status
        return body

    def read(self) -> bytes:
        """What the files in these packs say; what is no pack to him, as it came."""
        return b"".join(_files_in(pack) for pack in self.packs)


def _files_in(pack: bytes) -> bytes:
    try:
        frames = read_index(pack).frames
    except (PeerFault, TooLarge):
        return pack
    return b"".join(
        piece for frame in frames for piece in open_frame(frame, pack[frame.offset : frame.offset + frame.stored_bytes])
    )


B = TypeVar("B", bound=Between)


@asynccontextmanager
async def standing(who: B, shown: ssl.SSLContext) -> AsyncIterator[tuple[str, B]]:
    """Where they listen, on loopback, and who it is."""
    app = web.Application(client_max_size=MAX_PACK_BYTES)
    app.router.add_route("*", "/{rest:.*}", who.pass_on)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=shown).start()
        yield f"https://127.0.0.1:{runner.addresses[0][1]}", who
    finally:
        await runner.cleanup()
