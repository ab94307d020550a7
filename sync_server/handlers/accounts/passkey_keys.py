"""The public keys of passkeys, P-256 and RSA, in the form that browsers give (SubjectPublicKeyInfo, DER).

Apart from `webauthn`, since reading keys of any kind loads a megabyte that a server needs when a passkey is used.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

_MAX_SIGNATURE_BYTES: Final = 1_024
_MIN_RSA_BITS: Final = 2_048
_MAX_RSA_BITS: Final = 4_096


def is_signed(key: bytes, signature: bytes, signed: bytes) -> bool:
    """Whether the owner of `key` (DER) signed."""
    if len(signature) > _MAX_SIGNATURE_BYTES:
        return False
    public = _public_key(key)
    try:
        if isinstance(public, EllipticCurvePublicKey):
            public.verify(signature, signed, ECDSA(SHA256()))
        elif public is not None:
            public.verify(signature, signed, PKCS1v15(), SHA256())
    except InvalidSignature:
        return False
    return public is not None


def numbers_of(der: bytes) -> tuple[bytes, ...] | None:
    """The numbers of a key, as an authenticator writes them (COSE); None if it is none that passkeys may have.

    How long a key may be was looked at where it came in (`webauthn.MAX_KEY_BYTES`).
    """
    key = _public_key(der)
    if isinstance(key, EllipticCurvePublicKey):
        point = key.public_numbers()
        return point.x.to_bytes(32, "big"), point.y.to_bytes(32, "big")
    if key is None:
        return None
    return (key.public_numbers().n.to_bytes(key.key_size // 8, "big"),)


def _public_key(der: bytes) -> EllipticCurvePublicKey | RSAPublicKey | None:
    try:
        key = load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm):
        return None
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return key
    if isinstance(key, RSAPublicKey) and _MIN_RSA_BITS <= key.key_size <= _MAX_RSA_BITS:
        return key
    return None
