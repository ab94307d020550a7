"""What the server's listener speaks: its own certificate, an official one, or no TLS (docs/adr/0035)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator

from protocol.errors import LocalFailure
from protocol.messages.enrollment import encode_chain
from protocol.replica.http.tls import OfficialCertificate, Renewable, context_of
from protocol.replica.process.background import background
from protocol.replica.service.logs import say
from sync_server.config import RunConfig, Tls
from sync_server.opened.app import Server

_log = logging.getLogger(__name__)


def check_tls(config: RunConfig) -> None:
    """Raise `BadInput` for an official certificate that cannot be used."""
    if config.official is not None:
        OfficialCertificate(*config.official)


@contextlib.asynccontextmanager
async def listener_tls(server: Server, config: RunConfig) -> AsyncIterator[ssl.SSLContext | None]:
    """What the listener needs, kept up to date while the context lasts. Raises `BadInput`, `LocalFailure`."""
    if config.official is not None:
        official = OfficialCertificate(*config.official)
        async with background(official.follow()):
            yield official.context
    elif config.tls is Tls.OWN:
        shown = Renewable(_own(server))

        async def renew() -> None:
            try:
                shown.show(await asyncio.to_thread(_own, server))
            except LocalFailure as failure:
                _log.error("the certificate of TLS is not renewed until the server is started again: %s", failure)

        server.on_new_keys = renew
        yield shown.context
    else:
        yield None


def _own(server: Server) -> ssl.SSLContext:
    """What the server's keys and certificate make. Raises `LocalFailure`."""
    key = server.keys.tls(encode_chain(server.responder.station.chain))
    # TLS 1.2 for browsers and boxes of schools; agents take this certificate over 1.3 only
    context = context_of(key, server.folder, oldest=ssl.TLSVersion.TLSv1_2)
    say(_log, f"sync-server: a browser shows this certificate as SHA-256 {key.fingerprint.hex(':').upper()}")
    return context
