"""One stored file to a browser: validators, one range, and its bytes as they are read and checked (RFC 9110).

The first piece is read before anything is answered, so that damage becomes an error page; damage found later cuts the
connection, which the browser reports as a failed download.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from http import HTTPStatus

from aiohttp import web

from protocol.errors import LocalFailure
from protocol.replica.byte_range import NotSatisfiable, Span, asked_span
from protocol.transfer.manifest import ManifestEntry
from sync_agent.app import Agent
from sync_agent.portal.files.media_types import attachment, content_type, is_text, media_of

_log = logging.getLogger(__name__)


async def deliver(
    request: web.Request, agent: Agent, file: ManifestEntry, headers: Mapping[str, str], *, save: bool
) -> web.StreamResponse:
    """Answer with a file; `save` asks the browser to save it, which it also does with what it cannot show.

    Raises `LocalFailure(INCOMPLETE | DAMAGED)` before anything was answered.
    """
    tag = f'"{file.stream.hex()[:32]}"'
    common = {"Cache-Control": "private, no-cache", **headers, "ETag": tag, "Accept-Ranges": "bytes"}
    if tag in request.headers.get("If-None-Match", ""):
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=common)
    media = media_of(file.path)
    head = await _head(agent, file) if is_text(media.type) else b""
    common["Content-Type"] = content_type(media.type, head, whole=len(head) == file.size)
    if save or not media.shown:
        common["Content-Disposition"] = attachment(file.path.rpartition("/")[2])
    try:
        part = _part(request, file.size, tag)
    except NotSatisfiable:
        outside = {**headers, "Content-Range": f"bytes */{file.size}"}
        return web.Response(status=HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers=outside)
    span = part or Span(0, file.size)
    status = HTTPStatus.OK
    if part is not None:
        status = HTTPStatus.PARTIAL_CONTENT
        common["Content-Range"] = f"bytes {part.start}-{part.start + part.length - 1}/{file.size}"
    response = web.StreamResponse(status=status, headers=common)
    response.content_length = span.length
    await _send(request, response, agent, file, span)
    return response


def _part(request: web.Request, size: int, tag: str) -> Span | None:
    """The range to answer with, or None for the whole. Raises `NotSatisfiable`."""
    if size == 0 or request.headers.get("If-Range", tag) != tag:
        return None
    return asked_span(request.headers.get("Range"), size)


async def _head(agent: Agent, file: ManifestEntry) -> bytes:
    async with aclosing(agent.holdings.read_checked(file.stream)) as pieces:
        async for piece in pieces:
            return piece
    return b""


async def _send(
    request: web.Request, response: web.StreamResponse, agent: Agent, file: ManifestEntry, span: Span
) -> None:
    if request.method == "HEAD" or span.length == 0:
        await response.prepare(request)
        await response.write_eof()
        return
    async with aclosing(_bytes_of(agent, file, span)) as pieces:
        try:
            async for piece in pieces:
                if not response.prepared:
                    await response.prepare(request)
                await response.write(piece)
        except LocalFailure as failure:
            if not response.prepared:
                raise
            _log.warning("a file could not be sent to its end: %s", failure.code)
            response.force_close()
            if request.transport is not None:
                request.transport.abort()
            return
    await response.write_eof()


async def _bytes_of(agent: Agent, file: ManifestEntry, span: Span) -> AsyncGenerator[bytes, None]:
    left = span.length
    async with aclosing(agent.holdings.read_checked(file.stream, span.start)) as pieces:
        async for piece in pieces:
            yield piece[:left]
            left -= len(piece)
            if left <= 0:
                return
