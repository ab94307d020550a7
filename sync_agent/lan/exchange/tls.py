"""TLS 1.3 between two devices, without authorities and without clocks (R15; docs/protocol.md, "Neighbours").

Rules:
- a listener shows the self-signed certificate of its device; a dialler asks nothing of it but that it is the one that
  it expects: no date, no name, no issuer is looked at;
- the certificate is compared before a byte of a request leaves;
- who is dialled for the first time is taken as shown, and held to it from then on; the grant decides afterwards
  (`sync_agent.lan.exchange.meeting`).
"""

from __future__ import annotations

import hashlib
import hmac
import ssl
from pathlib import Path
from typing import Self

from protocol.identity import TlsKey
from protocol.replica.http.tls import context_of


def listener_context(key: TlsKey, folder: Path) -> ssl.SSLContext:
    """What a listener needs. Raises `LocalFailure`."""
    return context_of(key, folder, oldest=ssl.TLSVersion.TLSv1_3)


class _ComparedTls(ssl.SSLObject):
    """A connection that is over when the other side shows another certificate than the context expects."""

    def do_handshake(self) -> None:
        super().do_handshake()
        shown = hashlib.sha256(self.getpeercert(binary_form=True) or b"").digest()
        context = self.context
        assert isinstance(context, DiallerContext)  # noqa: S101  (the only one that makes these)
        if context.expected is None:
            context.expected = shown
        elif not hmac.compare_digest(shown, context.expected):
            raise ssl.SSLCertVerificationError("another machine answers than the one that is expected here")


class DiallerContext(ssl.SSLContext):
    """Expects one certificate, by its SHA-256; None takes the first one that is shown, and expects it from then on."""

    expected: bytes | None

    def __new__(cls, expected: bytes | None) -> Self:  # noqa: D102  (see the class)
        context = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.sslobject_class = _ComparedTls
        context.expected = expected
        return context

    def __init__(self, expected: bytes | None) -> None:
        """`expected` is the SHA-256 of the certificate's DER bytes."""
