"""That a key consents to be certified as a server's, by its own signature (docs/adr/0563).

Who has the store open names the key, and the kit certifies none without this: it might be a teacher's laptop's, which
would be cut off as a server's key that was replaced.
"""

from __future__ import annotations

from typing import Final

from protocol.canonical import encode
from protocol.identity import SigningKey, verify
from protocol.model.structure import Certificate

_DOMAIN: Final = b"relais/0 server consent"


def consent(signing: SigningKey, certificate: Certificate, territory: bytes, root: bytes) -> bytes:
    """The word of the key that is certified, for this root of this territory."""
    return signing.sign(_DOMAIN, _said(certificate, territory, root))


def consents(word: bytes, certificate: Certificate, territory: bytes, root: bytes) -> bool:
    """Whether this is the word of the key that is certified."""
    return verify(certificate.signing, _DOMAIN, _said(certificate, territory, root), word)


def _said(certificate: Certificate, territory: bytes, root: bytes) -> bytes:
    return encode([territory, root, certificate.signing, certificate.agreement])
