"""Keys of spaces: one symmetric key per space and epoch, for bundles (docs/protocol.md, "Space keys").

Rules:
- a key is named by its commitment, which a `space key` entry of the server or an administrator signs; a wrap counts
  only if it opens to that key, whoever made it; whom it counts as given to is `protocol.rights.given_keys`' to say;
- a key is sealed to the devices whose grants hold in the space, to recovery, and to the current key of each space
  below: who reads a class opens its school's key and the territory's with it, and nobody wraps for thousands;
- the newest key that is not held back and whose author is not cut off is in force: of the highest epoch, then the
  latest, then the largest id; epochs follow one another, and a key beyond the first gap is never in force;
- a key is due to be replaced when the revocations in the space, above it and below it are not those that it was made
  for: what comes after them is not for the devices that they cut.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from blake3 import blake3
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocol.canonical import encode
from protocol.errors import Code, PeerFault
from protocol.fields import Fields, compact
from protocol.identity import AgreementKey, check_agreement, tagged
from protocol.limits import MAX_WRAPS_PER_ENTRY
from protocol.model.entry import ID_BYTES, Entry, Kind, KindClass
from protocol.rights.door import WRITERS, Authority
from protocol.rights.given_keys import GivenKeys, GivenKeysFold
from protocol.rights.roster import Roster
from protocol.trust import hpke

SPACE_KEY_BYTES: Final = 32
WRAP_BYTES: Final = SPACE_KEY_BYTES + hpke.OVERHEAD_BYTES
CUTS_BYTES: Final = 16
MAX_EPOCH: Final = 2**32

_DERIVE: Final = b"relais/0 space key"
_WRAP: Final = b"relais/0 space wrap"


@dataclass(frozen=True, slots=True)
class SpaceKeyRecord:
    """What is said in public of a key: its epoch, its name, the X25519 key that stands for it, what it was made after.

    `cuts` is `cuts_digest` of the revocations that were known, None if there were none.
    """

    epoch: int
    commitment: bytes
    agreement: bytes
    cuts: bytes | None = None

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From an entry's payload."""
        fields = Fields.of_payload(payload, "a space's key")
        agreement = fields.octets("agreement", ID_BYTES)
        check_agreement(agreement)
        return cls(
            fields.count("epoch", MAX_EPOCH),
            fields.octets("commitment", ID_BYTES),
            agreement,
            fields.octets_or_none("cuts", CUTS_BYTES),
        )

    def encode(self) -> bytes:
        """To an entry's payload."""
        return encode(compact(epoch=self.epoch, commitment=self.commitment, agreement=self.agreement, cuts=self.cuts))


@dataclass(frozen=True, slots=True)
class SpaceWraps:
    """One key, named by its commitment, sealed to several recipients: (X25519 key, `enc` ‖ ciphertext ‖ tag)."""

    commitment: bytes
    wraps: tuple[tuple[bytes, bytes], ...]

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From an entry's payload."""
        fields = Fields.of_payload(payload, "a wrap of a space's key")
        wraps = fields.pairs("wraps", (ID_BYTES, WRAP_BYTES), MAX_WRAPS_PER_ENTRY)
        return cls(fields.octets("commitment", ID_BYTES), wraps)

    def encode(self) -> bytes:
        """To an entry's payload."""
        return encode({"commitment": self.commitment, "wraps": [[key, sealed] for key, sealed in self.wraps]})


class SpaceSecret:
    """A space's key, and what follows from it: its name, the X25519 key that stands for it, the key of bundles."""

    __slots__ = ("agreement", "bundle", "commitment", "key")

    def __init__(self, key: bytes) -> None:
        """`key` is `SPACE_KEY_BYTES` of randomness."""
        if len(key) != SPACE_KEY_BYTES:
            raise ValueError("a space's key has another size")
        derived = HKDF(hashes.SHA256(), 96, salt=None, info=tagged(_DERIVE, b"")).derive(key)
        self.key: Final = key
        self.commitment: Final = derived[:32]
        self.agreement: Final = AgreementKey(derived[32:64])
        self.bundle: Final = derived[64:]

    def __repr__(self) -> str:
        """The name only."""
        return f"SpaceSecret({self.commitment.hex()})"

    def record(self, epoch: int, cuts: bytes | None) -> SpaceKeyRecord:
        """What a `space key` entry says of it."""
        return SpaceKeyRecord(epoch, self.commitment, self.agreement.public, cuts)

    def wrap(self, space: bytes, recipient: bytes, ephemeral: bytes) -> bytes:
        """The key for one recipient; `ephemeral` is 32 fresh random bytes. Raises `PeerFault(WEAK_KEY)`."""
        return hpke.seal(self.key, recipient, _info(space, self.commitment), ephemeral)


def unwrap(sealed: bytes, recipient: AgreementKey, space: bytes, commitment: bytes) -> SpaceSecret:
    """The key of this name in a wrap. Raises `PeerFault(BAD_SEAL)` for another recipient, space or key."""
    key = hpke.open_(sealed, recipient, _info(space, commitment))
    if len(key) != SPACE_KEY_BYTES or (secret := SpaceSecret(key)).commitment != commitment:
        raise PeerFault(Code.BAD_SEAL, "a wrap of a space's key holds another key")
    return secret


@dataclass(frozen=True, slots=True)
class SpaceKeys:
    """The keys of a space, the newest first; those that may be `in_turn` in force; and to whom each is sealed.

    `next_epoch` is that of the key which would follow.
    """

    records: tuple[SpaceKeyRecord, ...]
    given: GivenKeys
    in_turn: tuple[SpaceKeyRecord, ...]
    next_epoch: int

    @property
    def current(self) -> SpaceKeyRecord | None:
        """The one in force."""
        return self.in_turn[0] if self.in_turn else None


def fold_space_keys(entries: Iterable[Entry], roster: Roster) -> SpaceKeys:
    """The keys that a space's entries make; what is held back or cannot be read is passed over."""
    found: list[tuple[int, int, bytes, SpaceKeyRecord]] = []
    trusted: set[bytes] = set()
    epochs: set[int] = set()
    given = GivenKeysFold(roster, may_make_keys)
    for entry in sorted(entries, key=lambda entry: (entry.header.at, entry.id)):
        if entry.payload is None:
            continue
        hidden = roster.hides(entry)
        try:
            if entry.header.kind == Kind.SPACE_KEY:
                record = SpaceKeyRecord.parse(entry.payload)
                epochs.add(record.epoch)
                if not hidden:
                    found.append((record.epoch, entry.header.at, entry.id, record))
                if not hidden and entry.header.author not in roster.cut:
                    trusted.add(entry.id)
            elif hidden:
                continue
            elif entry.header.kind == Kind.SPACE_WRAP:
                wraps = SpaceWraps.parse(entry.payload)
                given.add(entry, wraps.commitment, wraps.wraps)
        except PeerFault:
            continue
    found.sort(key=lambda row: row[:3], reverse=True)
    last = _last_in_a_row(epochs)
    in_turn = tuple(record for epoch, _, name, record in found if epoch <= last and name in trusted)
    return SpaceKeys(tuple(record for *_, record in found), given.result(), in_turn, last + 1)


def may_make_keys(grant: Authority) -> bool:
    """Whether a grant allows to make keys of spaces."""
    return grant.role in WRITERS[KindClass.STRUCTURE]


def _last_in_a_row(epochs: Iterable[int]) -> int:
    """The last epoch before the first gap, counted from 1: who jumps ahead is waited for by nobody."""
    last = 0
    for epoch in sorted(epochs):
        if epoch > last + 1:
            break
        last = epoch
    return last


def recipients(roster: Roster, recovery: Iterable[bytes], below: Iterable[SpaceKeys]) -> list[bytes]:
    """The X25519 keys that a space's key is for: its devices', recovery's, and the key in force of each space below."""
    devices = (authority.agreement for authority in roster.authorities if authority.key not in roster.cut)
    spaces = (keys.current.agreement for keys in below if keys.current is not None)
    return list(dict.fromkeys((*devices, *recovery, *spaces)))


def cuts_digest(revocations: Iterable[bytes]) -> bytes | None:
    """What a key says of the revocations that it was made after: a hash of their ids, None if there are none."""
    ids = sorted(revocations)
    return blake3(b"".join(ids)).digest(CUTS_BYTES) if ids else None


def _info(space: bytes, commitment: bytes) -> bytes:
    return tagged(_WRAP, space + commitment)
