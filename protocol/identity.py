"""Signing keys, agreement keys, device keys, and the identifiers made from them (docs/protocol.md, "Identity").

Rules:
- A signature covers `domain ‖ 0x00 ‖ message`; a domain holds no zero byte, so that none begins another.
- Verification is RFC 8032's without the cofactor, comparing bytes: all replicas must accept the same signatures.
- Public keys of small order, and encodings that RFC 8032 §5.1.3 does not decode, are refused before any verifying.
- Seeds come in as arguments and everything follows from them, the TLS certificate too: nothing here draws chance.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from protocol import canonical
from protocol.errors import Code, LocalFailure, PeerFault
from protocol.limits import MAX_CACHED_KEYS, MAX_DEVICE_KEYS_BYTES
from protocol.words import WORDS

KEY_BYTES: Final = 32
SEED_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
ID_BYTES: Final = 32
KEY_ID_BYTES: Final = 8

_SCHOOL: Final = b"relais/0 school"
_TLS: Final = b"relais/0 tls"
_FORMAT: Final = 0
if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

_ED25519_PRIME: Final = 2**255 - 19
_SIGN_BIT: Final = 1 << 255
# The y of the eight points whose order divides 8, with the unreduced twins of 0 and 1 that OpenSSL decodes.
_SMALL_ORDER_Y: Final = (
    0,
    1,
    0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
    0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
    _ED25519_PRIME - 1,
    _ED25519_PRIME,
    _ED25519_PRIME + 1,
)
SMALL_ORDER_SIGNING_KEYS: Final = frozenset(
    (y | sign).to_bytes(KEY_BYTES, "little") for y in _SMALL_ORDER_Y for sign in (0, _SIGN_BIT)
)
# RFC 7748 §5 masks the top bit of u, so each point has a twin with the bit set.
_LOW_ORDER_U: Final = (
    0,
    1,
    0x00B8495F16056286FDB1329CEB8D09DA6AC49FF1FAE35616AEB8413B7C7AEBE0,
    0x57119FD0DD4E22D8868E1C58C45C44045BEF839C55B1D0B1248C50A3BC959C5F,
    _ED25519_PRIME - 1,
    _ED25519_PRIME,
    _ED25519_PRIME + 1,
)
LOW_ORDER_AGREEMENT_KEYS: Final = frozenset(
    (u | top).to_bytes(KEY_BYTES, "little") for u in _LOW_ORDER_U for top in (0, _SIGN_BIT)
)


def tagged(domain: bytes, message: bytes) -> bytes:
    """`domain ‖ 0x00 ‖ message`: what is signed, hashed or bound under a domain."""
    return b"%b\x00%b" % (domain, message)


class SigningKey:
    """An Ed25519 key pair (RFC 8032) made from its 32-byte seed."""

    __slots__ = ("_private", "public", "seed")

    def __init__(self, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.seed = seed
        self.public = self._private.public_key().public_bytes_raw()

    def sign(self, domain: bytes, message: bytes) -> bytes:
        """The 64-byte signature over `domain ‖ 0x00 ‖ message`."""
        return self._private.sign(tagged(domain, message))

    def __repr__(self) -> str:
        return f"SigningKey(public={self.public.hex()})"


class AgreementKey:
    """An X25519 key pair (RFC 7748) made from its 32-byte seed."""

    __slots__ = ("private", "public", "seed")

    def __init__(self, seed: bytes) -> None:
        self.private = X25519PrivateKey.from_private_bytes(seed)
        self.seed = seed
        self.public = self.private.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return f"AgreementKey(public={self.public.hex()})"


def verify(public: bytes, domain: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` is `public`'s over `domain ‖ 0x00 ‖ message`; False for a key that `check_public` refuses."""
    key = _loaded(public)
    if key is None:
        return False
    try:
        key.verify(signature, tagged(domain, message))
    except InvalidSignature:
        return False
    return True


def check_public(public: bytes) -> None:
    """Raise `PeerFault(WEAK_KEY)` unless `public` can be an honest Ed25519 key.

    With a key of small order one signature can hold for every message, and `cryptography` loads all 14 encodings.
    """
    if _loaded(public) is None:
        raise PeerFault(Code.WEAK_KEY, "a signing key is not one that a device can have", key=public.hex())


def check_agreement(public: bytes) -> None:
    """Raise `PeerFault(WEAK_KEY)` unless `public` is 32 bytes and no X25519 point of low order (RFC 7748 §6.1).

    With a point of low order the shared secret is zero, whatever the other key.
    """
    if len(public) != KEY_BYTES or public in LOW_ORDER_AGREEMENT_KEYS:
        raise PeerFault(Code.WEAK_KEY, "an encryption key is not one that a device can have", key=public.hex())


@lru_cache(maxsize=MAX_CACHED_KEYS)
def _loaded(public: bytes) -> Ed25519PublicKey | None:
    if len(public) != KEY_BYTES or public in SMALL_ORDER_SIGNING_KEYS:
        return None
    if int.from_bytes(public, "little") & (_SIGN_BIT - 1) >= _ED25519_PRIME:
        return None
    return Ed25519PublicKey.from_public_bytes(public)


@dataclass(frozen=True, slots=True)
class TlsKey:
    """A P-256 key (PKCS #8, DER) and its self-signed certificate (DER) for the LAN (R15)."""

    private: bytes
    certificate: bytes

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the certificate: what a grant names and a dialler pins."""
        return hashlib.sha256(self.certificate).digest()

    def __repr__(self) -> str:
        return f"TlsKey(fingerprint={self.fingerprint.hex()})"


def create_tls_key(seed: bytes, extend: Callable[[bytes], x509.ExtensionType] | None = None) -> TlsKey:
    """A key and a certificate from a 32-byte `seed`, valid from 1970 to 9999 so that no PC's clock can refuse it.

    `extend` gives an extension for the certificate from the public key (SubjectPublicKeyInfo, DER). The certificate's
    signature is deterministic (RFC 6979). It is kept once made all the same: grants name its hash.
    """
    from cryptography import x509  # noqa: PLC0415 — large, and needed once in the life of a key
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.x509.oid import NameOID  # noqa: PLC0415

    wide = blake3(tagged(_TLS, seed)).digest(length=48)
    scalar = int.from_bytes(wide, "big") % (_P256_ORDER - 1) + 1
    key = ec.derive_private_key(scalar, ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "relais")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(int.from_bytes(wide[:8], "big") % 2**63 + 1)
        .not_valid_before(dt.datetime(1970, 1, 1, tzinfo=dt.UTC))
        # RFC 5280 §4.1.2.5: this date says that a certificate has no expiry.
        .not_valid_after(dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC))
    )
    if extend is not None:
        builder = builder.add_extension(extend(key_info(key.public_key())), critical=False)
    certificate = builder.sign(key, hashes.SHA256(), ecdsa_deterministic=True)
    return TlsKey(
        private=key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        certificate=certificate.public_bytes(serialization.Encoding.DER),
    )


def key_info(key: ec.EllipticCurvePublicKey) -> bytes:
    """A public key as a certificate holds it (SubjectPublicKeyInfo, DER)."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 — brings the formats of SSH, half a megabyte

    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True, slots=True)
class DeviceKeys:
    """The three keys of a device, made before enrolment; they never leave the machine."""

    signing: SigningKey
    agreement: AgreementKey
    tls: TlsKey

    @classmethod
    def create(cls, signing_seed: bytes, agreement_seed: bytes, tls_seed: bytes) -> DeviceKeys:
        """New keys from three independent 32-byte seeds."""
        return cls(SigningKey(signing_seed), AgreementKey(agreement_seed), create_tls_key(tls_seed))

    def to_bytes(self) -> bytes:
        """The keys as canonical msgpack, for a file that only its owner reads (0600)."""
        return canonical.encode(
            {
                "format": _FORMAT,
                "signing": self.signing.seed,
                "agreement": self.agreement.seed,
                "tls_key": self.tls.private,
                "tls_certificate": self.tls.certificate,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> DeviceKeys:
        """The keys that `to_bytes` wrote. Raises `LocalFailure(DAMAGED)` for anything else."""
        try:
            fields = canonical.decode(data, max_bytes=MAX_DEVICE_KEYS_BYTES)
        except PeerFault as reason:
            raise _damaged_keys() from reason
        match fields:
            case {
                "format": 0,
                "signing": bytes(signing),
                "agreement": bytes(agreement),
                "tls_key": bytes(tls_key),
                "tls_certificate": bytes(tls_certificate),
                **rest,
            } if not rest and len(signing) == len(agreement) == SEED_BYTES:
                return cls(SigningKey(signing), AgreementKey(agreement), TlsKey(tls_key, tls_certificate))
        raise _damaged_keys()


def _damaged_keys() -> LocalFailure:
    return LocalFailure(Code.DAMAGED, "the file that holds this device's keys is damaged")


def territory_id(root_public: bytes) -> bytes:
    """BLAKE3-256 of the root's public key."""
    return blake3(root_public).digest()


def school_id(territory: bytes, uai: str) -> bytes:
    """BLAKE3-256 over a prefix, the territory and the UAI in upper case: made twice offline, a school is one."""
    return blake3(tagged(_SCHOOL, territory + normal_uai(uai).encode())).digest()


def key_id(agreement_public: bytes) -> bytes:
    """The first 8 bytes of an X25519 public key, which name it in a request."""
    return agreement_public[:KEY_ID_BYTES]


_UAI_LETTERS: Final = "ABCDEFGHJKLMNPRSTUVWXYZ"
_UAI_DIGITS: Final = 7


def normal_uai(uai: str) -> str:
    """`uai` without white space, in upper case: the form that names a school."""
    return "".join(uai.split()).upper()


def uai_warning(uai: str) -> str | None:
    """A sentence when `uai` is not seven digits and their check letter (n mod 23), else None; it never refuses."""
    code = normal_uai(uai)
    digits, letter = code[:_UAI_DIGITS], code[_UAI_DIGITS:]
    if len(digits) != _UAI_DIGITS or not (digits.isascii() and digits.isdecimal()):
        return f"“{code}” is not a UAI: seven digits and a letter are expected"
    expected = _UAI_LETTERS[int(digits) % len(_UAI_LETTERS)]
    if letter != expected:
        return f"“{code}” is probably mistyped: the letter after {digits} should be {expected}"
    return None


def words_of(digest: bytes) -> tuple[str, str, str]:
    """Three French words for the first three bytes of `digest`, read aloud and compared on both sides."""
    return WORDS[digest[0]], WORDS[digest[1]], WORDS[digest[2]]


def three_words(key: bytes) -> str:
    """Three words for a device's key, which it cannot choose as it does its name; soon found by who tries keys."""
    return " ".join(words_of(blake3(key).digest()))
