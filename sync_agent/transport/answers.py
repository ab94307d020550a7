"""What came back over HTTP: the server's sealed word, an error in clear, or somebody else's answer, named.

Rules (R13, R15): only what is sealed is the server's word; whatever does not speak this protocol (a sign-in page, a
filter, a proxy, a wrong address) is `NoAnswer`, with what was seen (`network.trouble`).
"""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urljoin, urlsplit

from protocol.errors import BadInput, Code, NoAnswer, PeerFault, Refused, RelaisError
from protocol.limits import MAX_RETRY_AFTER_S
from protocol.messages.errors import error_from
from protocol.messages.wire import CONTENT_TYPE, OFFSET_HEADER
from protocol.replica.http.library import aiohttp
from sync_agent.network.proxies import Proxy
from sync_agent.network.trouble import Seen, Trouble, fit, no_answer, title_of

_JSON: Final = "application/json"
_HTML: Final = ("text/html", "application/xhtml+xml")
_UNNAMED: Final = ("", "application/octet-stream")
_UNAVAILABLE: Final = 503
_PROXY_LOGIN: Final = 407
_SIGN_IN_FIRST: Final = 511
_BLOCKING: Final = (401, 403, 451)
_GATEWAY: Final = (502, 503, 504)
_REDIRECTS: Final = range(300, 400)
_OK: Final = 200


@dataclass(frozen=True, slots=True)
class Response:
    """What came back: status, headers by lower-case name, the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def media_type(self) -> str:
        """The content type without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def is_ours(self) -> bool:
        """Whether the body is a message of this protocol: sealed, or a chain in clear.

        A box on the way may have taken the content type away; opening the body will tell.
        """
        if self.media_type in _UNNAMED and self.status == _OK:
            return bool(self.body) and not self.body.lstrip().startswith(b"<")
        return self.media_type == CONTENT_TYPE

    def offset(self) -> int:
        """How many bytes of a pack the server holds. Raises `PeerFault(MALFORMED)`."""
        text = self.headers.get(OFFSET_HEADER.lower(), "")
        if not (text.isascii() and text.isdecimal() and len(text) < 12):  # noqa: PLR2004  (digits of a pack's size)
            raise PeerFault(Code.MALFORMED, "the server does not say how much of a pack it holds")
        return int(text)


def recognised(response: Response, url: str, proxy: Proxy | None = None) -> Response:
    """`response` if this protocol explains it, else the `NoAnswer` that it amounts to. It came through `proxy`."""
    if response.is_ours:
        return response
    if response.status == _UNAVAILABLE and (response.media_type not in _HTML or "retry-after" in response.headers):
        raise _busy(response)
    if response.media_type == _JSON and response.status not in _REDIRECTS:
        return response
    raise no_answer(url, _stranger(response, url, proxy), status=response.status)


def error_in(response: Response, url: str) -> RelaisError:
    """The error that an unsealed answer stands for.

    Anybody on the way can write one, so it never counts as a refusal by the server.
    """
    if response.status == _UNAVAILABLE:
        return _busy(response)
    try:
        error = json.loads(response.body)["error"]
        found = error_from(str(error["code"]), str(error["message"])[:500])
    except (ValueError, TypeError, KeyError, RecursionError):
        return no_answer(url, Seen(Trouble.STRANGER, f"status {response.status}"), status=response.status)
    if isinstance(found, (Refused, BadInput)):
        return no_answer(url, Seen(Trouble.BLOCKED, fit(found.message)), status=response.status)
    return found


def portal_in(response: Response, url: str) -> Seen | None:
    """The sign-in page that an answer in clear stands for, if it is surely one; a real server may have a page too."""
    if response.status not in _REDIRECTS and response.status != _SIGN_IN_FIRST:
        return None
    seen = _stranger(response, url, None)
    elsewhere = seen.about not in ("", urlsplit(url).hostname)
    return seen if seen.trouble is Trouble.SIGN_IN and elsewhere else None


def proxy_refusal(status: int, schemes: list[str], proxy: Proxy, *, page: str = "") -> Seen:
    """What a proxy's own answer means: what it asks for in `Proxy-Authenticate`, the address that it leads to."""
    if status == _PROXY_LOGIN:
        if schemes and not any(scheme.lower().startswith("basic") for scheme in schemes):
            return Seen(Trouble.PROXY_METHOD, proxy.authority)
        return Seen(Trouble.PROXY_SIGN_IN if proxy.name is None else Trouble.PROXY_PASSWORD, proxy.authority)
    if status in _REDIRECTS or status == _SIGN_IN_FIRST:
        return Seen(Trouble.SIGN_IN, _host_of(page))
    if status in _GATEWAY:
        return Seen(Trouble.GATEWAY, f"proxy {proxy.authority}, status {status}")
    return Seen(Trouble.PROXY_REFUSES, proxy.authority)


def _busy(response: Response) -> NoAnswer:
    text = response.headers.get("retry-after", "")
    retry_after_s = int(text) if text.isascii() and text.isdecimal() and len(text) < 8 else None  # noqa: PLR2004
    if retry_after_s is not None:
        retry_after_s = min(retry_after_s, MAX_RETRY_AFTER_S)
    return NoAnswer(
        Code.BUSY, "the server is busy and asks to come back later; the work is kept", retry_after_s=retry_after_s
    )


def _stranger(response: Response, url: str, proxy: Proxy | None) -> Seen:
    """Who answers in the server's place, as far as the answer tells."""
    status, title = response.status, title_of(response.body)
    if status == _PROXY_LOGIN and proxy is not None:
        return proxy_refusal(status, response.headers.get("proxy-authenticate", "").split(", "), proxy)
    if status == _SIGN_IN_FIRST:
        return Seen(Trouble.SIGN_IN, title)
    if status in _REDIRECTS:
        return _elsewhere(response, url)
    if response.media_type in _HTML and status == _OK:
        return Seen(Trouble.SIGN_IN, title)
    if response.media_type in _HTML and status in _BLOCKING:
        return Seen(Trouble.BLOCKED, title or f"status {status}")
    if status in _GATEWAY:
        return Seen(Trouble.GATEWAY, f"status {status}")
    return Seen(Trouble.STRANGER, title or f"status {status}")


def _elsewhere(response: Response, url: str) -> Seen:
    """A redirect: to a page on which to sign in, or to the same server's new address."""
    try:
        there = urlsplit(urljoin(url, response.headers.get("location", "")))
        same = there.hostname == urlsplit(url).hostname
    except ValueError:
        return Seen(Trouble.SIGN_IN)
    if same and there.scheme == "https" and urlsplit(url).scheme == "http":
        return Seen(Trouble.MOVED, fit(f"{there.scheme}://{there.netloc}"))
    return Seen(Trouble.SIGN_IN, fit(there.hostname or ""))


def _host_of(address: str) -> str:
    try:
        return fit(urlsplit(address).hostname or "")
    except ValueError:
        return ""


# --- when there was no answer ----------------------------------------------------------------------------------------


def unreachable(url: str, reason: BaseException, proxy: Proxy | None = None) -> NoAnswer:
    """What an error of the network means, in one sentence; the call went through `proxy`."""
    return no_answer(url, _seen(reason, proxy), reason=repr(reason))


def _seen(reason: BaseException, proxy: Proxy | None) -> Seen:
    match reason:
        case aiohttp.ClientHttpProxyError(status=status, headers=headers) if proxy is not None:
            if headers is None:
                return proxy_refusal(status, [], proxy)
            schemes, page = headers.getall("Proxy-Authenticate", []), headers.get("Location", "")
            return proxy_refusal(status, schemes, proxy, page=page)
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientConnectorDNSError() if proxy is not None:
            return Seen(Trouble.PROXY_GONE, proxy.authority)
        case aiohttp.ConnectionTimeoutError():
            return Seen(Trouble.SILENT) if proxy is None else Seen(Trouble.PROXY_GONE, proxy.authority)
        case aiohttp.ClientConnectorDNSError():
            return Seen(Trouble.NAME_UNKNOWN)
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
            return Seen(Trouble.CERTIFICATE)
        case aiohttp.ClientConnectorError(os_error=OSError(errno=number)):
            return Seen(_BY_NUMBER.get(number or 0, Trouble.OTHER))
        case TimeoutError():
            return Seen(Trouble.STALLED)
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError() | aiohttp.ClientOSError():
            return Seen(Trouble.CUT)
        case aiohttp.ClientResponseError():
            return Seen(Trouble.STRANGER, "no HTTP as it should be")
        case OSError(errno=number):
            return Seen(_BY_NUMBER.get(number or 0, Trouble.OTHER))
        case _:
            return Seen(Trouble.OTHER)


_BY_NUMBER: Final[Mapping[int, Trouble]] = {
    errno.ECONNREFUSED: Trouble.NO_SERVER,
    errno.ENETUNREACH: Trouble.OFFLINE,
    errno.ENETDOWN: Trouble.OFFLINE,
    errno.EHOSTUNREACH: Trouble.SILENT,
    errno.EHOSTDOWN: Trouble.SILENT,
    errno.ETIMEDOUT: Trouble.SILENT,
    errno.ECONNRESET: Trouble.CUT,
    errno.ECONNABORTED: Trouble.CUT,
}
