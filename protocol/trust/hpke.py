"""HPKE, base mode, one shot (RFC 9180; docs/protocol.md, "Seals").

The suite is DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305, without associated data; a seal is
`enc (32) ‖ ciphertext ‖ tag (16)`. Sealing is written here so that the ephemeral key
comes in as an argument; opening is the library's, so that every round trip checks one implementation with another.
"""

from __future__ import annotations

import hmac
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from protocol.errors import Code, PeerFault
from protocol.identity import AgreementKey, check_agreement

ENC_BYTES: Final = 32
TAG_BYTES: Final = 16
OVERHEAD_BYTES: Final = ENC_BYTES + TAG_BYTES

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_KEM_ID: Final = b"KEM\x00\x20"
_SUITE_ID: Final = b"HPKE\x00\x20\x00\x01\x00\x03"
_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


def seal(plaintext: bytes, recipient_public: bytes, info: bytes, ephemeral_secret: bytes) -> bytes:
    """`plaintext` so that only the holder of `recipient_public` (X25519) reads it, and only under the same `info`.

    `ephemeral_secret` is 32 fresh random bytes, used for this seal and never again. Raises `PeerFault(WEAK_KEY)` for a
    recipient's key of low order.
    """
    check_agreement(recipient_public)
    ephemeral = AgreementKey(ephemeral_secret)
    shared = ephemeral.private.exchange(X25519PublicKey.from_public_bytes(recipient_public))
    key, nonce = key_schedule(shared, ephemeral.public, recipient_public, info)
    return ephemeral.public + ChaCha20Poly1305(key).encrypt(nonce, plaintext, None)


def open_(sealed: bytes, recipient: AgreementKey, info: bytes) -> bytes:
    """The plaintext of `sealed`. Raises `PeerFault(BAD_SEAL)` for another key or `info`, and for bytes that changed."""
    try:
        return _SUITE.decrypt(sealed, recipient.private, info=info)
    except InvalidTag as reason:
        raise PeerFault(Code.BAD_SEAL, "sealed bytes do not open with this key") from reason


def key_schedule(shared: bytes, enc: bytes, recipient_public: bytes, info: bytes) -> tuple[bytes, bytes]:
    """Key and base nonce of RFC 9180 §4.1 (ExtractAndExpand) and §5.1 (KeySchedule) from the X25519 result `shared`."""
    eae_prk = _extract(_KEM_ID, b"", b"eae_prk", shared)
    secret_of_kem = _expand(_KEM_ID, eae_prk, b"shared_secret", enc + recipient_public, _KEY_BYTES)
    context = b"\x00" + _PSK_ID_HASH + _extract(_SUITE_ID, b"", b"info_hash", info)
    secret = _extract(_SUITE_ID, secret_of_kem, b"secret", b"")
    key = _expand(_SUITE_ID, secret, b"key", context, _KEY_BYTES)
    return key, _expand(_SUITE_ID, secret, b"base_nonce", context, _NONCE_BYTES)


def _extract(suite: bytes, salt: bytes, label: bytes, material: bytes) -> bytes:
    return hmac.digest(salt, b"HPKE-v1" + suite + label + material, "sha256")


def _expand(suite: bytes, prk: bytes, label: bytes, info: bytes, size: int) -> bytes:
    # One block of HKDF-Expand (RFC 5869 §2.3) is 32 bytes, the most that is asked for here.
    labelled = size.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return hmac.digest(prk, labelled + b"\x01", "sha256")[:size]


_PSK_ID_HASH: Final = _extract(_SUITE_ID, b"", b"psk_id_hash", b"")
