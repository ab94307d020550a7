"""TLS to a server that shows its own certificate, bound to the root that this device has pinned (docs/adr/0035).

Rules:
- nothing of a certificate counts but that the server's chain in it leads to our root, and that the server's key signed
  the TLS key: no date, no name, no authority;
- it is judged before a byte of a request leaves;
- the server of another territory is told from a certificate that says nothing: of the latter authorities may judge.
"""

from __future__ import annotations

import ssl
from typing import Final, Self

from protocol.errors import PeerFault
from protocol.trust.server_tls import Binding
from sync_agent.transport.server_chain import IsOurs, is_of_our_server

_NOT_OURS: Final = "the server shows no certificate of its own"


class AnotherTerritoryError(ssl.SSLCertVerificationError):
    """The server shows a certificate of its own, under another root than ours."""


class _JudgedTls(ssl.SSLObject):
    """A connection that is over when the other side does not show our server's own certificate."""

    def do_handshake(self) -> None:
        """As any; then the certificate is judged."""
        super().do_handshake()
        context = self.context
        assert isinstance(context, OwnCertificateContext)  # noqa: S101  (the only one that makes these)
        shown = self.getpeercert(binary_form=True) or b""
        if is_of_our_server(shown, context.is_ours):
            return
        raise AnotherTerritoryError(_NOT_OURS) if _says_whose(shown) else ssl.SSLCertVerificationError(_NOT_OURS)


class OwnCertificateContext(ssl.SSLContext):
    """Takes the own certificate of a server whose territory `is_ours`, and nothing else. TLS 1.3, which hides it."""

    is_ours: IsOurs

    def __new__(cls, is_ours: IsOurs) -> Self:  # noqa: D102  (see the class)
        context = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.sslobject_class = _JudgedTls
        context.is_ours = is_ours
        return context

    def __init__(self, is_ours: IsOurs) -> None:
        """`is_ours` judges a territory by its id."""


def _says_whose(certificate: bytes) -> bool:
    try:
        return Binding.shown_in(certificate) is not None
    except PeerFault:
        return False
