"""Who may ask the portal for what: hosts, origins, tokens, and the headers that every answer carries.

Rules (docs: the threat model's rows on the local portal and on hostile lessons):
- one origin, `http://ADDRESS:PORT`; the same port under another loopback name leads there, any other name is refused,
  so that a name that was rebound to this machine reaches nothing;
- only navigation may come from another site; whatever is sent must come from our own pages, by its `Origin`, and bear
  the token of the visit, which a keyed hash ties to a `SameSite=Strict` cookie;
- no script but our own file, nothing from elsewhere, never in a frame;
- a browser gives a host's cookies to every program that it meets at that host, whatever the port: ours bear the port in
  their names, so that two portals of a machine leave each other's alone. What another program there reads or sets is
  said in docs/threat-model.md.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from http import HTTPStatus
from typing import Final

from aiohttp import web

from protocol.errors import Code, PeerFault, Refused
from sync_agent.machine.addresses import Address

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

VISIT_COOKIE: Final = "relais-visit"
TOKEN_FIELD: Final = "token"  # noqa: S105  (the name of a field)
_VISIT_BYTES: Final = 16
_VISIT: Final = re.compile(r"[A-Za-z0-9_-]{22}")
_NOTHING: Final = "'none'"
_SAFE: Final = frozenset({"GET", "HEAD"})
_LOOPBACK_NAMES: Final = ("127.0.0.1", "localhost", "[::1]")
_FRAMES: Final = frozenset({"iframe", "frame", "embed", "object", "serviceworker", "sharedworker", "worker"})

HEADERS: Final[Mapping[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    # not "no-referrer": that would make the Origin of our own forms "null"
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


def page_policy(frame: str | None = None) -> str:
    """The `Content-Security-Policy` of a page that shows `frame` (an origin), or none."""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        f"form-action 'self'; base-uri 'none'; frame-ancestors 'none'; frame-src {frame or _NOTHING}"
    )


SAVED_FILE_POLICY: Final = "default-src 'none'; sandbox; frame-ancestors 'none'"
"""For files that a page of the portal offers to save: should a browser show one all the same, it can do nothing."""


def cookie_name(request: web.Request, name: str) -> str:
    """What a cookie is called that is this portal's alone."""
    return f"{name}-{request.url.port}"


class ExpiredPage(Refused):
    """What was sent does not bear the token of this visit: the page is older than the agent's key, or foreign."""


class Door:
    """The checks of one portal at `address`, with the agent's own `key`; `port` is set once the listener has it."""

    def __init__(self, address: Address, key: bytes) -> None:
        self._address = address
        self._key = key
        self.port = address.port

    @property
    def authority(self) -> str:
        """The one `Host` under which the pages are served."""
        return replace(self._address, port=self.port).authority

    @property
    def origin(self) -> str:
        """The one origin of the pages."""
        return f"http://{self.authority}"

    @web.middleware
    async def check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let in what may come in."""
        host = request.headers.get("Host", "")
        if host != self.authority and host in self._loopback_names() and request.method in _SAFE:
            raise web.HTTPTemporaryRedirect(f"{self.origin}{request.raw_path}")
        if host != self.authority or not request.raw_path.startswith("/"):
            return _refused(HTTPStatus.MISDIRECTED_REQUEST)
        if request.method in _SAFE:
            site = request.headers.get("Sec-Fetch-Site", "none")
            foreign = site not in {"none", "same-origin"}
            if foreign and request.headers.get("Sec-Fetch-Mode") != "navigate":
                return _refused(HTTPStatus.FORBIDDEN)
        elif request.headers.get("Origin") != self.origin:
            return _refused(HTTPStatus.FORBIDDEN)
        if request.headers.get("Sec-Fetch-Dest") in _FRAMES or "Service-Worker" in request.headers:
            return _refused(HTTPStatus.FORBIDDEN)
        if "Content-Encoding" in request.headers:
            return _refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        return await handler(request)

    def _loopback_names(self) -> set[str]:
        return {f"{name}:{self.port}" for name in _LOOPBACK_NAMES}

    # --- tokens -------------------------------------------------------------------------------------------------------

    def visit_of(self, request: web.Request) -> str:
        """The visit that the browser names, or a new one."""
        visit = request.cookies.get(cookie_name(request, VISIT_COOKIE), "")
        return visit if _VISIT.fullmatch(visit) else secrets.token_urlsafe(_VISIT_BYTES)

    def token_of(self, visit: str) -> str:
        """What forms of this visit bear."""
        return hmac.new(self._key, visit.encode(errors="surrogatepass"), sha256).hexdigest()

    def check_token(self, request: web.Request, given: str | None) -> None:
        """Raise `ExpiredPage` unless what was sent comes from a form of this visit."""
        visit = request.cookies.get(cookie_name(request, VISIT_COOKIE))
        expected = self.token_of(visit or "")
        if visit is None or not hmac.compare_digest((given or "").encode(), expected.encode()):
            raise ExpiredPage(Code.USAGE, "the page has expired; load it again")


def _refused(status: HTTPStatus) -> web.Response:
    response = web.Response(status=status, text=f"{status.phrase}\n")
    response.force_close()
    return response


def broken_form(why: str) -> PeerFault:
    """What none of our own forms sends."""
    return PeerFault(Code.MALFORMED, "the form cannot be read", reason=why)
