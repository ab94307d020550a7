"""Packs over HTTP: fetched by a link, with `Range`; sent with a capability, from where the last try ended (R13).

What passes is encrypted under the key of its link (`crossing`): TLS may end at somebody's who is not meant to read it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web

from protocol.errors import BadInput, Code, PeerFault, RelaisError
from protocol.limits import MAX_PACK_BYTES
from protocol.messages.wire import OFFSET_HEADER, PACK_TYPE, Capability
from protocol.replica.answering.serving import Responder
from protocol.replica.byte_range import NotSatisfiable, Span, asked_span
from protocol.replica.content.packing.pack_sending import sent_pieces
from protocol.replica.http.bodies import pieces
from protocol.replica.http.meter import Direction, Meter
from protocol.replica.http.problems import problem
from protocol.replica.interfaces import ContentStore
from protocol.transfer.crossing import crossing

_log = logging.getLogger(__name__)

_BEARER: Final = "bearer "
_STOPPED: Final = frozenset({Code.CUT_OFF, Code.TOO_SLOW})


class Packs:
    """Handlers for content. Memory stays constant, whatever the size of a pack."""

    def __init__(self, responder: Responder, meter: Meter) -> None:
        self._responder = responder
        self._content: ContentStore = responder.replica.content
        self._meter = meter

    async def fetch(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/packs/{capability}`: 200, 206, 403, 404, 416. Of `HEAD` a range is no part: it asks of the whole."""
        capability = self._responder.fetch_capability(request.match_info["capability"])
        pack = await self._content.pack(capability.pack, capability.space)
        if pack is None:
            gone = BadInput(Code.INCOMPLETE, "this content is not here any more; ask for a new link")
            return problem(gone, HTTPStatus.NOT_FOUND)
        tag = f'"{pack.hash.hex()}"'
        common = {"Content-Type": PACK_TYPE, "Accept-Ranges": "bytes", "ETag": tag}
        asked = None if request.method == hdrs.METH_HEAD else request.headers.get("Range")
        try:
            span = asked_span(asked, pack.size)
        except NotSatisfiable:
            fault = PeerFault(Code.WRONG_OFFSET, "the range begins behind the end of this content")
            return problem(fault, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, {"Content-Range": f"bytes */{pack.size}"})
        if span is None or request.headers.get("If-Range", tag) != tag:
            return await self._send(request, web.StreamResponse(headers=common), capability, Span(0, pack.size))
        last = span.start + span.length - 1
        common["Content-Range"] = f"bytes {span.start}-{last}/{pack.size}"
        part = web.StreamResponse(status=HTTPStatus.PARTIAL_CONTENT, headers=common)
        return await self._send(request, part, capability, span)

    async def receive(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/packs`: 201 once the pack is whole and visible, 204 while it is not, 400, 403, 409, 413, 507."""
        capability = self._responder.send_capability(_bearer(request))
        pack, sender = capability.pack, capability.sender
        offset = _offset(request)
        if await self._content.pack(pack, capability.space) is not None:
            await self._content.drop_part(pack, sender)
            return _progress(HTTPStatus.CREATED, capability.size)
        have = await self._content.part_size(pack, sender)
        if have > capability.size:  # it was said to be larger before: what is here is not the pack
            await self._content.drop_part(pack, sender)
            have = 0
        if have != offset:
            return _continues_at(have)
        try:
            async with self._responder.allowances.receiving(capability):
                have = await self._take(request, capability, offset)
                if have < capability.size:
                    return _progress(HTTPStatus.NO_CONTENT, have)
                await self._responder.allowances.finish(capability)
        except PeerFault as fault:
            if fault.code is not Code.WRONG_OFFSET:
                raise
            # a copy of its disk, or a request of its own that the sender took for cut, brings the same meanwhile
            return _continues_at(await self._content.part_size(pack, sender))
        await self._responder.received_pack(capability.space)
        return _progress(HTTPStatus.CREATED, capability.size)

    async def _take(self, request: web.Request, capability: Capability, offset: int) -> int:
        """Keep what arrives, also of a body that breaks off; the size of what is here then."""
        have = offset
        clear = crossing(capability.link_key, offset)
        try:
            async for piece in pieces(request, capability.size - offset):
                have = await self._content.append_part(capability.pack, have, clear(piece), capability.sender)
                self._meter.moved(Direction.IN, len(piece))
        except PeerFault as fault:
            if fault.code not in _STOPPED or have < capability.size:
                raise
        return have

    async def _send(
        self, request: web.Request, response: web.StreamResponse, capability: Capability, span: Span
    ) -> web.StreamResponse:
        response.content_length = span.length
        if request.method == hdrs.METH_HEAD:
            return response
        hidden = crossing(capability.link_key, span.start)
        async with aclosing(sent_pieces(self._content, capability.pack, span)) as sending:
            piece = await anext(sending, b"")
            await response.prepare(request)
            left = span.length
            while piece:
                await response.write(hidden(piece))
                self._meter.moved(Direction.OUT, len(piece))
                left -= len(piece)
                piece = await _more(sending)
        if left:
            response.force_close()
        await response.write_eof()
        return response


def _continues_at(have: int) -> web.Response:
    fault = PeerFault(Code.WRONG_OFFSET, f"this content is to continue at byte {have}", expected=have)
    return problem(fault, headers={OFFSET_HEADER: str(have)})


async def _more(sending: AsyncGenerator[bytes, None]) -> bytes:
    """More of a pack that is being sent; nothing at its end, or if it has gone: a short body tells the caller."""
    try:
        return await anext(sending, b"")
    except RelaisError as error:
        _log.warning("content went away while it was sent: %s", error)
        return b""


def _bearer(request: web.Request) -> str:
    value = request.headers.get("Authorization", "")
    if value[: len(_BEARER)].lower() != _BEARER:
        raise PeerFault(Code.BAD_CAPABILITY, "sending content needs the capability that a sync gave")
    return value[len(_BEARER) :].strip()


def _offset(request: web.Request) -> int:
    value = request.headers.get(OFFSET_HEADER, "")
    if not (value.isascii() and value.isdecimal() and len(value) <= len(str(MAX_PACK_BYTES))):
        raise PeerFault(Code.MALFORMED, f"sending content needs {OFFSET_HEADER}, the byte at which it begins")
    return int(value)


def _progress(status: HTTPStatus, offset: int) -> web.Response:
    return web.Response(status=status, headers={OFFSET_HEADER: str(offset)})
