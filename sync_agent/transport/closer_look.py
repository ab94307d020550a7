"""What an error of the network means; where it may hide more, one closer look is taken (R13; docs/protocol.md, "HTTP").

Rules:
- what the error says by itself `answers` names; looked at is who vouches for a certificate that was refused, whether a
  server speaks in clear, or by TLS alone, and whether a public Wi-Fi shows its sign-in page;
- that page answers in clear where a secure connection fails, and is asked for once in `LOOK_AGAIN_S`;
- a server that has answered before speaks as its address says.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

from protocol.errors import NoAnswer, PeerFault
from protocol.replica.http.library import aiohttp
from sync_agent.network.proxies import Proxy
from sync_agent.network.trouble import Seen, Trouble, no_answer, seen_in
from sync_agent.network.trust import speaks_plainly, speaks_tls, who_vouches
from sync_agent.transport.answers import Response, portal_in, unreachable

LOOK_AGAIN_S: Final = 60.0
LOOK_S: Final = 8.0
NETWORK_ERRORS: Final = (aiohttp.ClientError, OSError, TimeoutError)

_HTTPS_PORT: Final = 443
_HTTP_PORT: Final = 80
_LOOK_CLOSER: Final = frozenset({Trouble.PLAIN, Trouble.CERTIFICATE, Trouble.INSPECTED, Trouble.SILENT, Trouble.CUT})
_NOT_UNDERSTOOD: Final = frozenset({Trouble.CUT, Trouble.STRANGER, Trouble.OTHER})


class CloserLook:
    """At the way to one server. To be used inside one event loop."""

    def __init__(
        self, url: str, leads_out: Callable[[], bool], page: Callable[[str, Proxy | None], Awaitable[Response]]
    ) -> None:
        """`leads_out` says whether this machine's system has a way out, `page` asks for an address by a proxy."""
        self._url: Final = url
        self._leads_out: Final = leads_out
        self._page: Final = page
        self._looked: tuple[float, Seen | None] | None = None
        self.was_answered = False
        """Whether the server has ever answered."""

    async def explained(self, reason: BaseException, proxy: Proxy | None) -> NoAnswer:
        """What an error means of a call that went through a proxy, or none."""
        seen = seen_in(unreachable(self._url, reason, proxy)) or Seen(Trouble.OTHER)
        parts = urlsplit(self._url)
        host, port = parts.hostname or "", parts.port or (_HTTPS_PORT if parts.scheme == "https" else _HTTP_PORT)
        if isinstance(reason, aiohttp.ClientConnectorCertificateError):
            refused = reason.certificate_error
            if isinstance(refused, ssl.SSLCertVerificationError):
                seen = await who_vouches(host, port, proxy, refused)
        elif isinstance(reason, aiohttp.ClientSSLError) and proxy is None and await speaks_plainly(host, port):
            seen = Seen(Trouble.PLAIN, f"http://{parts.netloc}")
        if seen.trouble is Trouble.OFFLINE and self._leads_out():
            seen = Seen(Trouble.NO_WAY_OUT)  # it was a router that said so, not this machine's own system
        if parts.scheme == "http" and proxy is None and seen.trouble in _NOT_UNDERSTOOD and not self.was_answered:
            seen = Seen(Trouble.SECURE, f"https://{parts.netloc}") if await speaks_tls(host, port) else seen
        if parts.scheme == "https" and port == _HTTPS_PORT and seen.trouble in _LOOK_CLOSER:
            seen = await self._sign_in_page(host, proxy) or seen
        return no_answer(self._url, seen, reason=repr(reason))

    async def _sign_in_page(self, host: str, proxy: Proxy | None) -> Seen | None:
        """The page of a public Wi-Fi, if one answers in the server's place."""
        now_s = asyncio.get_running_loop().time()
        if self._looked is not None and now_s - self._looked[0] < LOOK_AGAIN_S:
            return self._looked[1]
        found: Seen | None = None
        try:
            async with asyncio.timeout(LOOK_S):
                found = portal_in(await self._page(f"http://{host}/", proxy), f"http://{host}")
        except (*NETWORK_ERRORS, PeerFault):
            found = None
        self._looked = (now_s, found)
        return found
