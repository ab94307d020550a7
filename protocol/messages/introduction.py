"""How two devices of a school find out that they have a space in common, and strangers find out nothing (R15).

Rules:
- a space's *secret* is the id of the entry that made it: whoever holds the space holds that entry, and nobody else can
  guess an id, which hashes a random salt. (A school's own id is no secret: it is made of a public UAI.)
- a *tag* is a keyed hash of a fresh nonce under a secret: it names a space to those who have it, noise to others;
- a caller introduces itself with tags bound to the certificate that it was shown, so that a machine in between cannot
  pass them on; what is announced on the network carries tags of another kind, bound to where the machine says it is, so
  that nobody announces it elsewhere;
- one tag of an announcement is made under the device's own key: a clone, which holds it too, knows its twin by it;
- members all have the tags' secrets: that an announcement is by who has its *name*, a signature says, by a key that is
  drawn with the name and named by it, and tells strangers nothing (docs/adr/0114);
- the number of tags is rounded up with noise;
- who has no space yet, but a code, knocks with a tag under the code's hash: only who could let it in knows that one.

docs/protocol.md, "Neighbours".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from blake3 import blake3

from protocol.errors import Code, PeerFault
from protocol.identity import KEY_BYTES, SIGNATURE_BYTES, SigningKey, tagged, verify
from protocol.limits import MAX_INTRODUCTION_TAGS

NONCE_BYTES: Final = 16
TAG_BYTES: Final = 8
TAGS_ROUNDED_TO: Final = 8
MAX_INTRODUCTION_BYTES: Final = 1 + NONCE_BYTES + MAX_INTRODUCTION_TAGS * TAG_BYTES

_VERSION: Final = b"\x01"
_KNOCK: Final = b"\x02"
_INTRODUCTION: Final = b"relais/0 introduction\x00"
_ANNOUNCEMENT: Final = b"relais/0 announcement\x00"
_PLACED: Final = b"relais/0 placed announcement\x00"
_ENROLMENT: Final = b"relais/0 enrolment\x00"
_OWN: Final = b"relais/0 own announcement\x00"
_NAME: Final = b"relais/0 announced name"
_NAME_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Tags:
    """Tags under one nonce, in no meaningful order."""

    nonce: bytes
    tags: tuple[bytes, ...]

    def encode(self) -> bytes:
        """Nonce ‖ tags."""
        return self.nonce + b"".join(self.tags)

    @classmethod
    def parse(cls, data: bytes) -> Tags:
        """What `encode` wrote. Raises `PeerFault(MALFORMED)`."""
        nonce, rest = data[:NONCE_BYTES], data[NONCE_BYTES:]
        if len(nonce) != NONCE_BYTES or len(rest) % TAG_BYTES or len(rest) > MAX_INTRODUCTION_TAGS * TAG_BYTES:
            raise PeerFault(Code.MALFORMED, "an introduction has the wrong form")
        return cls(nonce, tuple(rest[at : at + TAG_BYTES] for at in range(0, len(rest), TAG_BYTES)))

    def common(self, secrets: Mapping[bytes, bytes], context: bytes) -> set[bytes]:
        """The spaces of `secrets` (secret → space) that one of the tags names."""
        shown = set(self.tags)
        return {space for secret, space in secrets.items() if _tag(secret, self.nonce, context) in shown}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a machine says that it listens: its name, IP address (4 or 16 bytes) and port, and what else it says."""

    instance: bytes
    address: bytes
    port: int
    said: bytes

    @property
    def context(self) -> bytes:
        """What its tags are bound to."""
        parts = (self.instance, self.address, self.port.to_bytes(2, "big"), self.said)
        return _PLACED + b"".join(bytes([len(part)]) + part for part in parts)


def introduction(secrets: Sequence[bytes], certificate_sha256: bytes, nonce: bytes, noise: bytes) -> bytes:
    """What a caller sends first to a machine that showed this certificate.

    `nonce` is fresh; `noise` are as many random bytes as `noise_bytes(len(secrets))` says.
    """
    return _VERSION + _tags(secrets, _INTRODUCTION + certificate_sha256, nonce, noise).encode()


def introduced(data: bytes, secrets: Mapping[bytes, bytes], certificate_sha256: bytes) -> set[bytes]:
    """The spaces that a caller has in common with the holder of `secrets` (secret → space), whose certificate this is.

    Raises `PeerFault(MALFORMED | UNKNOWN_FORMAT)`.
    """
    if not is_introduction(data):
        raise PeerFault(Code.UNKNOWN_FORMAT, "this is no introduction")
    return Tags.parse(data[1:]).common(secrets, _INTRODUCTION + certificate_sha256)


def is_introduction(data: bytes) -> bool:
    """Whether a call's body is an introduction, and no sealed request."""
    return data[:1] == _VERSION


def knock(secret_hash: bytes, certificate_sha256: bytes, nonce: bytes) -> bytes:
    """What a machine with a code sends first to one that showed this certificate; `nonce` is fresh."""
    return _KNOCK + Tags(nonce, (_tag(secret_hash, nonce, _ENROLMENT + certificate_sha256),)).encode()


def knocked(data: bytes, secret_hashes: Iterable[bytes], certificate_sha256: bytes) -> bool:
    """Whether a knock is made with a code of which one of these is the hash. Raises `PeerFault(MALFORMED)`."""
    tags = Tags.parse(data[1:])
    return bool(tags.common({each: each for each in secret_hashes}, _ENROLMENT + certificate_sha256))


def is_knock(data: bytes) -> bool:
    """Whether a call's body is a knock, and no sealed request."""
    return data[:1] == _KNOCK


def announcement(secrets: Sequence[bytes], instance: bytes, nonce: bytes, noise: bytes) -> Tags:
    """What a machine shows to its network under the name `instance`."""
    return _tags(secrets, _ANNOUNCEMENT + instance, nonce, noise)


def announcement_at(secrets: Sequence[bytes], place: Place, nonce: bytes, noise: bytes) -> Tags:
    """The same by a machine that knows where it is: repeated from elsewhere, it names nothing."""
    return _tags(secrets, place.context, nonce, noise)


def announced_name(key: bytes) -> str:
    """The name under which a machine with this Ed25519 key, drawn for it at each start, is announced."""
    return blake3(tagged(_NAME, key)).digest(_NAME_BYTES).hex()


def name_seal(signer: SigningKey, place: Place) -> bytes:
    """Key ‖ signature: that this was said at this place by who has the name."""
    return signer.public + signer.sign(_NAME, place.context)


@lru_cache(maxsize=1_024)
def is_by_its_name(seal: bytes, place: Place) -> bool:
    """Whether what was said at a place was said by who has the name there. What is heard again is not checked again."""
    key, signature = seal[:KEY_BYTES], seal[KEY_BYTES:]
    if len(signature) != SIGNATURE_BYTES or place.instance != announced_name(key).encode():
        return False
    return verify(key, _NAME, place.context, signature)


def own_secret(signing_seed: bytes) -> bytes:
    """The secret of the tag by which a device knows its own key in an announcement; to all others it is noise."""
    return blake3(_OWN, key=signing_seed).digest()


def announced(tags: Tags, secrets: Mapping[bytes, bytes], instance: bytes) -> set[bytes]:
    """The spaces that the machine announced as `instance` has in common with the holder of `secrets`."""
    return tags.common(secrets, _ANNOUNCEMENT + instance)


def announced_at(tags: Tags, secrets: Mapping[bytes, bytes], place: Place) -> set[bytes]:
    """The spaces that the machine which announced itself for this place has in common with the holder of `secrets`."""
    return tags.common(secrets, place.context)


def noise_bytes(count: int) -> int:
    """How many random bytes round `count` tags up."""
    shown = min(count, MAX_INTRODUCTION_TAGS)
    return -shown % TAGS_ROUNDED_TO * TAG_BYTES


def _tags(secrets: Iterable[bytes], context: bytes, nonce: bytes, noise: bytes) -> Tags:
    real = [_tag(secret, nonce, context) for secret in list(secrets)[:MAX_INTRODUCTION_TAGS]]
    filling = [noise[at : at + TAG_BYTES] for at in range(0, len(noise), TAG_BYTES)]
    return Tags(nonce, tuple(sorted([*real, *filling])))


def _tag(secret: bytes, nonce: bytes, context: bytes) -> bytes:
    return blake3(context + nonce, key=secret).digest(TAG_BYTES)
