"""Under which name, from where, and with which headers the pages are served.

Rules:
- on loopback the pages answer to loopback names only: a name that was rebound to this machine reaches nothing;
- behind a proxy, and where other machines reach the listener, any name may lead here: a session's cookie belongs to the
  name under which it was given, so that a rebound one has none;
- where TLS is spoken, here or by the proxy, cookies are for TLS only;
- what changes something must come from our own pages: by `Sec-Fetch-Site`, which no page can forge, or by an `Origin`
  that is the `Host`;
- while there is no account, nothing is shown, and only this machine is told so;
- no script but our own file, nothing from elsewhere, never in a frame, never kept by a cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from sync_server.api.asker import asker_by_connection, asker_by_proxy
from sync_server.config import RunConfig, Tls, is_loopback, name_in
from sync_server.web.known_browsers import KNOWN_S

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    # not "no-referrer", which makes the Origin of our own forms "null"
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Permissions-Policy": (
        "camera=(), geolocation=(), microphone=(), payment=(), usb=(), "
        "publickey-credentials-create=(self), publickey-credentials-get=(self)"
    ),
}
_SAFE: Final = frozenset({"GET", "HEAD"})
_COOKIE: Final = "relais-administrator"
_KNOWN_COOKIE: Final = "relais-known"


class Turned(Exception):
    """Turned away at the door: the status, and the catalogue's key of the reason."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Door:
    """The checks of one server that runs as `config` says."""

    def __init__(self, config: RunConfig) -> None:
        self._asker_of = asker_by_proxy if config.behind_proxy else asker_by_connection
        self._secure: Final = config.behind_proxy or config.tls is not Tls.NONE
        self.is_local: Final = not (config.is_reached_by_others or config.behind_proxy)
        self.cookie: Final = f"__Host-{_COOKIE}" if self._secure else _COOKIE
        self.known_cookie: Final = f"__Host-{_KNOWN_COOKIE}" if self._secure else _KNOWN_COOKIE

    def check(self, request: web.Request) -> None:
        """Raise `Turned` for a name that is not ours, or a change that does not come from our pages."""
        host = request.headers.get("Host", "")
        if self.is_local and not _is_loopback_authority(host):
            raise Turned(HTTPStatus.MISDIRECTED_REQUEST, "problem.host")
        if request.method not in _SAFE and not _is_from_our_pages(request, host):
            raise Turned(HTTPStatus.FORBIDDEN, "problem.refused")

    def set_cookie(self, response: web.StreamResponse, token: str) -> None:
        """Give the browser its session's token."""
        response.set_cookie(self.cookie, token, path="/", httponly=True, samesite="Strict", secure=self._secure)

    def set_known(self, response: web.StreamResponse, token: str) -> None:
        """Give the browser what it is known by from now on."""
        response.set_cookie(
            self.known_cookie,
            token,
            path="/",
            httponly=True,
            samesite="Strict",
            secure=self._secure,
            max_age=KNOWN_S,
        )

    def drop_cookie(self, response: web.StreamResponse) -> None:
        """Let the browser forget it."""
        response.del_cookie(self.cookie, path="/", httponly=True, samesite="Strict", secure=self._secure)

    def address_of(self, request: web.Request) -> str:
        """Who asks, as far as it can be known."""
        return self._asker_of(request)


def _is_loopback_authority(host: str) -> bool:
    name = name_in(host)
    return name is not None and is_loopback(name)


def _is_from_our_pages(request: web.Request, host: str) -> bool:
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    try:
        origin = urlsplit(request.headers.get("Origin", ""))
    except ValueError:
        return False
    return bool(origin.netloc) and origin.netloc == host
