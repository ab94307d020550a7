"""Which devices speak for a person, by the word of the person's own devices (docs/protocol.md, "Confirmed devices").

The server, an administrator or a code names a device as somebody's. That alone must not give it the person's reading
keys, nor what was handed in before, nor the person's voice: whoever has the server could name a device of their own.

Rules:
- a person's *first* device speaks for them; so does each that one of theirs has confirmed, and so on; a device proves
  itself by the phrase as well, that one of theirs has drawn;
- of which device everything starts is an argument: a device starts from itself and from what it saw first; without
  such a memory it is the earliest that says a reading key and leads to one that is not cut;
- a head teacher's device speaks about others' devices for whom it was confirmed by, and for itself; it has confirmed
  what it granted;
- a device is its pair of keys: another grant with other keys is another device.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Self, TypeAlias

from blake3 import blake3
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from protocol.canonical import encode
from protocol.entry import Entry, Kind
from protocol.errors import PeerFault
from protocol.fields import Fields, compact
from protocol.identity import SIGNATURE_BYTES, SigningKey, tagged, verify
from protocol.person_keys import PhraseKey
from protocol.rights import Authority, Door
from protocol.roles import HAS_READING_KEYS, Role
from protocol.words import WORDS

Device: TypeAlias = tuple[bytes, bytes]
"""A device's Ed25519 and X25519 keys."""

_PROOF: Final = b"relais/0 phrase proof"
_WORDS: Final = b"relais/0 device words"


@dataclass(frozen=True, slots=True)
class Vouch:
    """That a device (the grant that is the entry's target names it) is its person's.

    `proof` is a signature by the key that follows from the person's phrase; without it, the author's word counts.
    """

    proof: bytes | None = None

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From an entry's payload."""
        return cls(Fields.of_payload(payload, "a confirmation").octets_or_none("proof", SIGNATURE_BYTES))

    def encode(self) -> bytes:
        """To an entry's payload."""
        return encode(compact(proof=self.proof))


def device_id(device: Device) -> bytes:
    """The name of a pair of keys."""
    return blake3(device[0] + device[1]).digest()


@lru_cache(maxsize=512)
def device_words(device: Device) -> str:
    """Six words for a device, compared by eye on two screens.

    Who names devices may try keys until the words fit: 48 bits at a hundredth of a second each are beyond anybody.
    """
    kdf = Argon2id(salt=_WORDS[:16], length=6, iterations=1, lanes=1, memory_cost=8_192)
    return " ".join(WORDS[byte] for byte in kdf.derive(tagged(_WORDS, device[0] + device[1])))


def phrase_signer(seed: bytes) -> SigningKey:
    """The key that signs for who knows a phrase, from the seed of its X25519 key."""
    return SigningKey(blake3(tagged(_PROOF, seed)).digest())


def prove(signer: SigningKey, person: bytes, device: Device) -> Vouch:
    """That who knows the phrase uses this device."""
    return Vouch(signer.sign(_PROOF, _message(person, device)))


def _message(person: bytes, device: Device) -> bytes:
    return person + device[0] + device[1]


@dataclass(frozen=True, slots=True)
class Circle:
    """Whom some devices of a person lead to: the person's `own` devices, and `others`' that these have confirmed."""

    own: frozenset[Device]
    others: frozenset[Device]


@dataclass(frozen=True, slots=True)
class Voices:
    """Who was confirmed by whom in a space.

    `persons` says whose a device is, under the one id under which somebody is listed; `firsts` are each person's
    devices that say a reading key, the earliest first; `words` are who confirmed whom.
    """

    persons: Mapping[Device, bytes] = field(default_factory=dict)
    heads: frozenset[Device] = frozenset()
    firsts: Mapping[bytes, tuple[Device, ...]] = field(default_factory=dict)
    words: Mapping[Device, frozenset[Device]] = field(default_factory=dict)

    def circle(self, person: bytes, start: Device) -> Circle:
        """Whom a person's device leads to."""
        own, others, pending = {start}, set[Device](), [start]
        while pending:
            voice = pending.pop()
            speaks_for_others = voice in own or voice in self.heads
            for named in self.words.get(voice, ()):
                whose = self.persons.get(named)
                if not speaks_for_others and whose != self.persons.get(voice):
                    continue
                into = own if whose == person else others
                if named not in into:
                    into.add(named)
                    pending.append(named)
        return Circle(frozenset(own), frozenset(others - own))


def voices_of(
    entries: Iterable[Entry], authorities: Iterable[Authority], door: Door, aliases: Mapping[bytes, bytes]
) -> Voices:
    """From the entries of a space that count, and the grants that hold there."""
    persons: dict[Device, bytes] = {}
    heads: dict[bytes, Device] = {}
    words: defaultdict[Device, set[Device]] = defaultdict(set)
    granted = [authority for authority in authorities if authority.role in HAS_READING_KEYS]
    for authority in granted:
        if authority.person is not None:
            persons[_device(authority)] = aliases.get(authority.person, authority.person)
        if authority.role is Role.HEAD:
            heads[authority.key] = _device(authority)
    for authority in granted:
        if authority.author in heads:
            words[heads[authority.author]].add(_device(authority))
    said = [
        (entry, author)
        for entry in sorted(entries, key=lambda entry: (entry.header.at, entry.id))
        if (author := _speaker(door, entry.header.grant)) is not None
    ]
    phrases: defaultdict[bytes, list[_Phrase]] = defaultdict(list)
    firsts: defaultdict[bytes, dict[Device, None]] = defaultdict(dict)
    for entry, author in said:
        person = author.person
        if person is None or person != entry.header.subject:
            continue
        if entry.header.kind == Kind.PERSON_KEY:
            firsts[aliases.get(person, person)].setdefault(_device(author))
        elif entry.header.kind == Kind.PHRASE and (signing := _signing_of(entry)) is not None:
            phrases[person].append((_device(author), signing))
    for entry, author in said:
        named = _speaker(door, entry.header.target)
        if entry.header.kind == Kind.VOUCH and named is not None:
            for voice in _voices(entry, author, named, phrases):
                words[voice].add(_device(named))
    return Voices(
        persons,
        frozenset(heads.values()),
        {person: tuple(devices) for person, devices in firsts.items()},
        {voice: frozenset(named) for voice, named in words.items()},
    )


_Phrase: TypeAlias = tuple[Device, bytes]
"""Which device drew a phrase, and the key that signs for who knows it."""


def _voices(
    entry: Entry, author: Authority, named: Authority, phrases: Mapping[bytes, Iterable[_Phrase]]
) -> Iterable[Device]:
    """Whose word a confirmation is: its author's, or that of who drew the phrase by which it is proven."""
    try:
        said = Vouch.parse(entry.payload or b"")
    except PeerFault:
        return
    if said.proof is None:
        yield _device(author)
    elif named.person is not None:
        for voice, signing in phrases.get(named.person, ()):
            if verify(signing, _PROOF, _message(named.person, _device(named)), said.proof):
                yield voice


def _signing_of(entry: Entry) -> bytes | None:
    try:
        return PhraseKey.parse(entry.payload or b"").signing
    except PeerFault:
        return None


def _speaker(door: Door, grant: bytes | None) -> Authority | None:
    authority = door.authority(grant)
    return authority if authority is not None and authority.role in HAS_READING_KEYS else None


def _device(authority: Authority) -> Device:
    return authority.key, authority.agreement
