"""A stream sealed in chunks under one key, so that none can be changed, left out or moved (docs/protocol.md).

Each chunk is sealed by ChaCha20-Poly1305 with nonce = 0 (7) ‖ number (4, big-endian) ‖ 1 for the last, else 0 (the
STREAM construction: Hoang, Reyhanitabar, Rogaway, Vizár, "Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance", CRYPTO 2015). The first begins with a commitment to the key: nobody can give two readers keys that
open one ciphertext to two texts. A key seals one stream, ever.
"""

from __future__ import annotations

import hmac
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocol.errors import Code, PeerFault
from protocol.identity import tagged
from protocol.trust import hpke

STREAM_KEY_BYTES: Final = 32
COMMITMENT_BYTES: Final = 32
TAG_BYTES: Final = hpke.TAG_BYTES
_AEAD_KEY_BYTES: Final = 32


class SealedChunks:
    """What follows from a stream's key: the chunks' key, and the commitment that the first chunk begins with.

    `domain` says what the stream is for, `what` is what people call it.
    """

    __slots__ = ("_aead", "_commitment", "_what")

    def __init__(self, stream_key: bytes, domain: bytes, what: str) -> None:
        """From 32 bytes that seal nothing else."""
        size = COMMITMENT_BYTES + _AEAD_KEY_BYTES
        both = HKDF(hashes.SHA256(), size, salt=None, info=tagged(domain, b"")).derive(stream_key)
        self._commitment = both[:COMMITMENT_BYTES]
        self._aead = ChaCha20Poly1305(both[COMMITMENT_BYTES:])
        self._what = what

    def seal(self, plain: bytes, number: int, *, last: bool) -> bytes:
        """The chunk of this number, counted from 0."""
        sealed = self._aead.encrypt(_nonce(number, last=last), plain, None)
        return sealed if number else self._commitment + sealed

    def open(self, sealed: bytes, number: int, *, last: bool) -> bytes:
        """What a chunk holds. Raises `PeerFault(BAD_SEAL)` for another key, and for what does not belong here."""
        if number == 0:
            if not hmac.compare_digest(sealed[:COMMITMENT_BYTES], self._commitment):
                raise PeerFault(Code.BAD_SEAL, f"this is not the key of this {self._what}")
            sealed = sealed[COMMITMENT_BYTES:]
        try:
            return self._aead.decrypt(_nonce(number, last=last), sealed, None)
        except InvalidTag as reason:
            sentence = f"a part of a sealed {self._what} is damaged, missing or out of place"
            raise PeerFault(Code.BAD_SEAL, sentence) from reason


def _nonce(number: int, *, last: bool) -> bytes:
    return bytes(7) + number.to_bytes(4, "big") + (b"\x01" if last else b"\x00")
