"""Errors outside an envelope: JSON with a stable code and a sentence; the status is the class's, or the code's."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final

from aiohttp import web

from protocol.errors import BadInput, Code, LocalFailure, RelaisError

_log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_REFUSALS: Final[Mapping[int, tuple[Code, str]]] = {
    HTTPStatus.NOT_FOUND: (Code.UNKNOWN_PATH, "there is nothing at this address"),
    HTTPStatus.METHOD_NOT_ALLOWED: (Code.USAGE, "this address does not take this method"),
    HTTPStatus.MISDIRECTED_REQUEST: (
        Code.USAGE,
        "this is answered under no name: ask the address that the listener has, or localhost",
    ),
}

_STATUS_OF_CODE: Final[Mapping[Code, int]] = {
    Code.BAD_CAPABILITY: HTTPStatus.FORBIDDEN,
    Code.WRONG_OFFSET: HTTPStatus.CONFLICT,
    Code.INCOMPLETE: HTTPStatus.NOT_FOUND,
    Code.ENCODED_BODY: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    Code.TOO_SLOW: HTTPStatus.REQUEST_TIMEOUT,
    Code.DISK_FULL: HTTPStatus.INSUFFICIENT_STORAGE,
    Code.READ_ONLY: HTTPStatus.INSUFFICIENT_STORAGE,
}


def problem(error: RelaisError, status: int | None = None, headers: Mapping[str, str] | None = None) -> web.Response:
    """The response that tells `error`."""
    retry_after_s = error.facts.get("retry_after_s")
    if retry_after_s is not None:
        headers = {**(headers or {}), "Retry-After": str(retry_after_s)}
    chosen = _STATUS_OF_CODE.get(error.code, error.http_status) if status is None else status
    document = {"error": {"code": error.code.value, "message": error.message}}
    return web.Response(
        body=json.dumps(document, ensure_ascii=False).encode(),
        status=int(chosen),
        content_type="application/json",
        headers=headers,
    )


class Problems:
    """The middleware that turns what handlers raise into `problem`. `on_failure` hears of failures of this machine."""

    def __init__(self, on_failure: Callable[[LocalFailure], None]) -> None:
        self._on_failure = on_failure

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer, whatever happens."""
        try:
            return await handler(request)
        except LocalFailure as failure:
            _log.error("%s: %s (%s)", _place(request), failure, failure.code)
            self._on_failure(failure)
            return problem(failure)
        except RelaisError as error:
            return problem(error)
        except web.HTTPException as refusal:
            code, sentence = _REFUSALS.get(refusal.status, (Code.USAGE, f"this request is refused: {refusal.reason}"))
            kept = {name: value for name, value in refusal.headers.items() if name == "Allow"}
            return problem(BadInput(code, sentence), refusal.status, kept)
        except ConnectionError:
            raise
        except Exception:  # noqa: BLE001 — one request's surprise must not be the caller's silence
            _log.exception("%s failed in an unforeseen way", _place(request))
            return problem(
                LocalFailure(Code.INTERNAL, "something unforeseen happened here; the server's log says more")
            )


def _place(request: web.Request) -> str:
    """Where a request went, without the capability that its path may hold."""
    resource = request.match_info.route.resource
    return f"{request.method} {'?' if resource is None else resource.canonical}"
