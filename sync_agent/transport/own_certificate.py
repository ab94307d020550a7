"""TLS to a server that shows its own certificate, bound to the root that this device has pinned (docs/adr/0035).

Rules:
- nothing of a certificate counts but that the server's chain in it leads to our root, and that the server's key signed
  the TLS key: no date, no name, no authority;
- a server that is older than the newest one known here, held back, or cut off is none of ours any more
  (docs/adr/0318);
- it is judged before a byte of a request leaves;
- the server of another territory, and a former one of ours, are told from a certificate that says nothing: of the
  latter alone authorities may judge.
"""

from __future__ import annotations

import ssl
from typing import Final, Self

from protocol.errors import Code, PeerFault, Refused, RelaisError
from sync_agent.transport.server_chain import IsOurs, KnownServers, Whose, whose_server

_NOT_OURS: Final = "the server shows no certificate of its own that counts here"


class AnotherServerError(ssl.SSLCertVerificationError):
    """The server shows a certificate of its own, and is not ours."""

    def refusal(self, url: str) -> RelaisError:
        """What is said of what answers at `url`."""
        return Refused(Code.WRONG_TERRITORY, f"a server of another territory answers at {url}; nothing was given to it")


class FormerServerError(AnotherServerError):
    """The server shows a certificate of its own that was ours: it is older than one that is known, or was cut off."""

    def refusal(self, url: str) -> RelaisError:
        """What is said of what answers at `url`."""
        return PeerFault(
            Code.WRONG_KEY,
            f"what answers at {url} is an older server than this machine has seen, or one that was cut off; nothing was"
            " given to it; ask who runs the system",
        )


_REFUSED: Final = {
    Whose.FORMERLY_OURS: FormerServerError,
    Whose.ANOTHERS: AnotherServerError,
    Whose.UNSAID: ssl.SSLCertVerificationError,
}


class _JudgedTls(ssl.SSLObject):
    """A connection that is over when the other side does not show our server's own certificate."""

    def do_handshake(self) -> None:
        """As any; then the certificate is judged."""
        super().do_handshake()
        context = self.context
        assert isinstance(context, OwnCertificateContext)  # noqa: S101  (the only one that makes these)
        shown = self.getpeercert(binary_form=True) or b""
        whose = whose_server(shown, context.is_ours, context.known)
        if whose is not Whose.OURS:
            raise _REFUSED[whose](_NOT_OURS)


class OwnCertificateContext(ssl.SSLContext):
    """Takes the own certificate of a server whose territory `is_ours`, and nothing else. TLS 1.3, which hides it.

    With what is `known` of its servers, of one that counts.
    """

    is_ours: IsOurs
    known: KnownServers | None

    def __new__(cls, is_ours: IsOurs, known: KnownServers | None) -> Self:  # noqa: D102  (see the class)
        context = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.sslobject_class = _JudgedTls
        context.is_ours = is_ours
        context.known = known
        return context

    def __init__(self, is_ours: IsOurs, known: KnownServers | None) -> None:
        """`is_ours` judges a territory by its id."""
