"""Enrolment codes, which a person types by hand (docs/protocol.md, "Invitation codes").

A code is 36 characters of Crockford's base32 in nine groups of four: version (1), fingerprint of the root and secret
(32 for 10 + 10 bytes), checksum (3). It is read whatever the case, spaces and dashes, with O as 0 and I and L as 1.

Rules:
- a code is all that a newcomer knows of its territory: so people compare what every code of a territory has after its
  version with what the kit and machines that are in already show, whoever made the code (docs/adr/0367);
- nobody is told the secret: who lets in is shown what is derived from it, and a signature for the one device that shows
  it, by a key that is derived from it too. Who was told so lets nobody else in with it, at any office that knows the
  code's `invite`;
- with that key the code vouches for its `invite`, which says who may honour it: a key that was cut off before shows a
  newcomer as good a chain, and cannot write such an invitation (docs/adr/0315);
- codes of version 0, made by earlier programs, have no such key, and are told as they are: whoever reads them, a server
  in wrong hands say, can use them; those of version 1 vouch for nothing.
"""

from __future__ import annotations

import hmac
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from blake3 import blake3

from protocol.errors import Code, Refused
from protocol.identity import SigningKey, tagged, verify
from protocol.limits import MAX_CODE_CHARS

FINGERPRINT_BYTES: Final = 10
SECRET_BYTES: Final = 10

_DOMAIN: Final = b"relais/0 invitation"
_CHECK: Final = b"relais/0 code check"
_VEIL: Final = b"relais/0 code told"
_SHOWN: Final = b"relais/0 code shown"
_KEY: Final = b"relais/0 code key"
_PROOF: Final = b"relais/0 code proof"
_VOUCH: Final = b"relais/0 code vouches"
_TOLD_AS_IT_IS: Final = 0
_VOUCHES: Final = 2
_VERSION: Final = 2
_CHARS: Final = 36
_CHECK_CHARS: Final = 3
_GROUP_CHARS: Final = 4
_COMPARED_CHARS: Final = 4 * _GROUP_CHARS - 1

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES: Final = {char: value for value, char in enumerate(ALPHABET)}
_READ_AS: Final = str.maketrans({"O": "0", "I": "1", "L": "1"})


@dataclass(frozen=True, slots=True)
class Invitation:
    """What a code holds: the first bytes of the territory's id, and a secret, whose version says how it is told."""

    fingerprint: bytes
    secret: bytes
    version: int = _VERSION

    @classmethod
    def create(cls, territory: bytes, secret: bytes) -> Invitation:
        """An invitation into `territory` (its 32-byte id) with `SECRET_BYTES` of fresh randomness."""
        return cls(territory[:FINGERPRINT_BYTES], secret)

    def matches(self, territory: bytes) -> bool:
        """Whether the code was made for the territory with this id."""
        return hmac.compare_digest(self.fingerprint, territory[:FINGERPRINT_BYTES])

    @property
    def shown(self) -> bytes:
        """What who lets in is told, `SECRET_BYTES` of it: from version 1 on it does not say what the secret is."""
        if self.version == _TOLD_AS_IT_IS:
            return self.secret
        return blake3(tagged(_SHOWN, self.secret)).digest(length=SECRET_BYTES)

    @property
    def secret_hash(self) -> bytes:
        """BLAKE3-256 over a prefix and what is shown: what an `invite` entry holds."""
        return invitation_hash(self.shown)

    @property
    def key(self) -> bytes | None:
        """The Ed25519 key that an `invite` entry holds too, by which a device proves that it has the whole code."""
        signing = self._signing()
        return None if signing is None else signing.public

    def proof(self, device: bytes) -> bytes | None:
        """That a device, by its Ed25519 key, has the whole code: good for no other; None for a code of version 0."""
        signing = self._signing()
        return None if signing is None else signing.sign(_PROOF, device)

    @property
    def vouches(self) -> bool:
        """Whether whoever honours this code has to show an `invite` for which it vouches."""
        return self.version >= _VOUCHES

    def vouch(self, invite: bytes) -> bytes | None:
        """The code's own word for what its `invite` says, in bytes; None for a code of version 0."""
        signing = self._signing()
        return None if signing is None else signing.sign(_VOUCH, invite)

    def _signing(self) -> SigningKey | None:
        if self.version == _TOLD_AS_IT_IS:
            return None
        return SigningKey(blake3(tagged(_KEY, self.secret)).digest())

    def code(self) -> str:
        """The code, in groups of four joined by dashes."""
        body = ALPHABET[self.version] + to_base32(self.fingerprint + self.secret)
        whole = body + _checksum(body)
        return "-".join(whole[at : at + _GROUP_CHARS] for at in range(0, _CHARS, _GROUP_CHARS))

    def __repr__(self) -> str:
        return f"Invitation(fingerprint={self.fingerprint.hex()})"


def territory_fingerprint(territory: bytes) -> str:
    """What each code of a territory has after its first character, in groups as there: 75 bits of its id.

    `territory` is the id of the root in force, or the beginning of it that a code holds.
    """
    chars = to_base32(territory[:FINGERPRINT_BYTES])[:_COMPARED_CHARS]
    first = _GROUP_CHARS - 1
    groups = (chars[at : at + _GROUP_CHARS] for at in range(first, _COMPARED_CHARS, _GROUP_CHARS))
    return "-".join((chars[:first], *groups))


def invitation_hash(secret: bytes) -> bytes:
    """The hash under which an `invite` entry keeps what a code shows."""
    return blake3(tagged(_DOMAIN, secret)).digest()


def is_proof(key: bytes, device: bytes, proof: bytes) -> bool:
    """Whether this proves that a device has the whole code, of which an `invite` holds this key."""
    return verify(key, _PROOF, device, proof)


def is_vouched(key: bytes, invite: bytes, vouch: bytes) -> bool:
    """Whether the code whose `invite` holds this key vouches for what that says, in bytes."""
    return verify(key, _VOUCH, invite, vouch)


def veiled(secret: bytes, secret_hash: bytes, device: bytes) -> bytes:
    """What a code shows, as a device (by its Ed25519 key) tells it: only who knows the hash reads it; twice is back.

    Only who reads the space of an `invite` knows its hash. A key that was cut off before the code was made does not,
    and what it is told lets nobody in.
    """
    veil = blake3(tagged(_VEIL, device), key=secret_hash).digest(length=SECRET_BYTES)
    return bytes(one ^ other for one, other in zip(secret, veil, strict=True))


def told_of(hashes: Iterable[bytes], told: bytes, device: bytes) -> bytes | None:
    """By the hash of what it shows, the code that a device told, veiled; None: it is none of these.

    What `veiled` and `invitation_hash` say of each, for many: whoever tells a wrong one has all of them tried.
    """
    message, secret_bits = tagged(_VEIL, device), int.from_bytes(told)
    before = tagged(_DOMAIN, b"")
    for secret_hash in hashes:
        veil = blake3(message, key=secret_hash).digest(length=SECRET_BYTES)
        secret = (secret_bits ^ int.from_bytes(veil)).to_bytes(SECRET_BYTES)
        if hmac.compare_digest(blake3(before + secret).digest(), secret_hash):
            return secret_hash
    return None


def parse_code(text: str) -> Invitation:
    """The invitation that `text` holds, as typed. Raises `Refused(CODE_WRONG)` with what to look for."""
    if len(text) > MAX_CODE_CHARS:
        raise _wrong("this is far too long for a code")
    typed = as_typed(text)
    for char in typed:
        if char not in _VALUES:
            raise _wrong(f"no code holds the character “{char}”: please compare it with the original")
    if len(typed) != _CHARS:
        raise _wrong(f"a code has {_CHARS} letters and digits, and this one has {len(typed)}", count=len(typed))
    body, check = typed[:-_CHECK_CHARS], typed[-_CHECK_CHARS:]
    if check != _checksum(body):
        raise _wrong("the code is mistyped somewhere: please compare it with the original")
    version = ALPHABET.index(body[0])
    if version > _VERSION:
        raise _wrong("this code was made for a newer version of the program: please update it")
    both = from_base32(body[1:], FINGERPRINT_BYTES + SECRET_BYTES)
    return Invitation(both[:FINGERPRINT_BYTES], both[FINGERPRINT_BYTES:], version)


def as_typed(text: str) -> str:
    """`text` in upper case without spaces and dashes, with the letters that look like a digit read as that digit."""
    # Unicode's classes P (punctuation, every dash), Z (spaces) and C (controls, marks of order) mean nothing in a code.
    kept = (char for char in text.upper() if unicodedata.category(char)[0] not in "PZC")
    return "".join(kept).translate(_READ_AS)


def to_base32(data: bytes) -> str:
    """`data` in Crockford's base32, most significant bits first, zero bits at the end."""
    chars = -(-len(data) * 8 // 5)
    number = int.from_bytes(data, "big") << (chars * 5 - len(data) * 8)
    return "".join(ALPHABET[number >> 5 * place & 31] for place in reversed(range(chars)))


def from_base32(text: str, size: int) -> bytes:
    """The `size` bytes that `to_base32` wrote as `text`; `text` holds characters of `ALPHABET` only."""
    number = 0
    for char in text:
        number = number << 5 | _VALUES[char]
    return (number >> (len(text) * 5 - size * 8)).to_bytes(size, "big")


def _checksum(body: str) -> str:
    return to_base32(blake3(tagged(_CHECK, body.encode())).digest(length=2))[:_CHECK_CHARS]


def _wrong(sentence: str, **facts: object) -> Refused:
    return Refused(Code.CODE_WRONG, sentence, **facts)
