"""A browser with an authenticator, as far as the server can tell: what they say of a passkey made or used anywhere.

It shares no code with the server, and obeys whatever a test tells it, so that it can say what no browser would.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

PRESENT, VERIFIED, HAS_CREDENTIAL = 0x01, 0x04, 0x40
SEEN = PRESENT | VERIFIED


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass
class Authenticator:
    """One passkey of the site of `origin`, and the browser that it is used with."""

    origin: str
    id: bytes = field(default_factory=lambda: os.urandom(32))
    key: EllipticCurvePrivateKey = field(default_factory=lambda: generate_private_key(SECP256R1()))

    @property
    def public(self) -> bytes:
        """The key as `getPublicKey()` gives it."""
        return self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def made(
        self, challenge: str, *, page: str | None = None, flags: int = SEEN, key: bytes | None = None
    ) -> dict[str, str]:
        """The form of a new passkey. `page` is the origin that asks, if it is not the site itself."""
        numbers = self.key.public_key().public_numbers()
        cose = b"\xa5\x01\x02\x03\x26\x20\x01\x21\x58\x20" + numbers.x.to_bytes(32, "big")
        cose += b"\x22\x58\x20" + numbers.y.to_bytes(32, "big")
        data = self._data(flags | HAS_CREDENTIAL, 0) + bytes(16) + len(self.id).to_bytes(2, "big") + self.id + cose
        return {
            "id": b64(self.id),
            "client": b64(self._client("webauthn.create", challenge, page)),
            "authenticator": b64(data),
            "key": b64(self.public if key is None else key),
        }

    def used(self, challenge: str, *, page: str | None = None, flags: int = SEEN, count: int = 0) -> dict[str, str]:
        """The form of a passkey that is used."""
        client = self._client("webauthn.get", challenge, page)
        data = self._data(flags, count)
        signature = self.key.sign(data + hashlib.sha256(client).digest(), ECDSA(SHA256()))
        return {"id": b64(self.id), "client": b64(client), "authenticator": b64(data), "signature": b64(signature)}

    def _client(self, kind: str, challenge: str, page: str | None) -> bytes:
        return json.dumps({"type": kind, "challenge": challenge, "origin": page or self.origin}).encode()

    def _data(self, flags: int, count: int) -> bytes:
        party = hashlib.sha256((urlsplit(self.origin).hostname or "").encode()).digest()
        return party + bytes([flags]) + count.to_bytes(4, "big")
