"""Which devices speak for a person, by the word of the person's own devices (docs/protocol.md, "Confirmed devices").

The server, an administrator or a code names a device as somebody's. That alone must not give it the person's reading
keys, nor what was handed in before, nor the person's voice: whoever has the server could name a device of their own.

Rules:
- a person's *first* device speaks for them; so does each that one of theirs has confirmed, and so on; a device proves
  itself by the phrase as well, that one of theirs has drawn;
- of which device everything starts is an argument: a device starts from itself and from what it saw first; without
  such a memory it is the earliest that says a reading key and leads to one that is not cut;
- a head teacher's device speaks about others' devices for whom it was confirmed by, and for itself;
- a grant is nobody's word, whoever wrote it: nobody compared anything when it was written;
- a device is its pair of keys: another grant with other keys is another device;
- a word is about a device *as somebody's*: that of the grant at which it points. Another grant of the same keys, for
  another person, is another matter; and a word ends with its grant, so that who was cut off and let in again is asked
  about again;
- a word makes a device what a human was shown: a colleague's stays a colleague's, and speaks as no head teacher's when
  it is granted as one later. Each id is a person of its own, whatever lists call the same (docs/adr/0461).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final, NamedTuple, Self, TypeAlias

from blake3 import blake3
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from protocol.canonical import encode
from protocol.fields import Fields, compact
from protocol.identity import KEY_BYTES, SIGNATURE_BYTES, SigningKey, tagged, verify
from protocol.model.entry import Entry, parsed
from protocol.rights.reachability import bits_led_to
from protocol.trust.person_keys import PhraseKey
from protocol.words import WORDS

Device: TypeAlias = tuple[bytes, bytes]
"""A device's Ed25519 and X25519 keys."""
Standing: TypeAlias = tuple[Device, bytes]
"""A device as a person's."""

_PROOF: Final = b"relais/0 phrase proof"
_DRAWN: Final = b"relais/0 phrase drawn on"
_DRAWN_FOR_ONE_SPACE: Final = b"relais/0 phrase drawn"
_WORDS: Final = b"relais/0 device words"


@dataclass(frozen=True, slots=True)
class Vouch:
    """That a device (the grant that is the entry's target names it) is its person's.

    `proof` is a signature by the key that follows from the person's phrase, and `signing` that key's public half, which
    programs before ADR 0248 did not name; without a proof, the author's word counts.
    """

    proof: bytes | None = None
    signing: bytes | None = None

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From an entry's payload."""
        fields = Fields.of_payload(payload, "a confirmation")
        return cls(fields.octets_or_none("proof", SIGNATURE_BYTES), fields.octets_or_none("signing", KEY_BYTES))

    def encode(self) -> bytes:
        """To an entry's payload."""
        return encode(compact(proof=self.proof, signing=self.signing))


def proof_in(entry: Entry) -> Vouch | None:
    """What a confirmation says besides its header, which is its author's word: nothing where that cannot be read."""
    return parsed(entry, Vouch.parse)


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


def prove(signer: SigningKey, person: bytes, device: Device, grant: bytes) -> Vouch:
    """That who knows the phrase uses this device, which was let in by this grant: another takes another proof."""
    return Vouch(signer.sign(_PROOF, _message(person, device, grant)), signer.public)


def is_proof(proof: bytes, signing: bytes, person: bytes, device: Device, grant: bytes) -> bool:
    """Whether a phrase's key made a proof (`prove`)."""
    return verify(signing, _PROOF, _message(person, device, grant), proof)


def drawn_by(signer: SigningKey, person: bytes, device: Device) -> bytes:
    """That who knows the phrase drew it on this device, for this person: said by another device, it is nobody's.

    The device keeps it for the spaces that come later. It is of use to no other pair of keys.
    """
    return signer.sign(_DRAWN, _message(person, device))


def is_drawn_by(phrase: PhraseKey, person: bytes, device: Device, space: bytes) -> bool:
    """Whether a phrase's own key says that this device drew it: wherever it says so, or, as it once was, in a space."""
    if phrase.signing is None or phrase.proof is None:
        return False
    return verify(phrase.signing, _DRAWN, _message(person, device), phrase.proof) or verify(
        phrase.signing, _DRAWN_FOR_ONE_SPACE, _message(person, device, space), phrase.proof
    )


def _message(person: bytes, device: Device, name: bytes = b"") -> bytes:
    return person + device[0] + device[1] + name


class Word(NamedTuple):
    """That a device is `person`'s, said as `by`: as both are granted. `head`: it was shown as a head teacher's."""

    device: Device
    person: bytes
    by: bytes | None
    head: bool = False

    @property
    def is_own(self) -> bool:
        """Whether who said so spoke of a device of their own."""
        return self.person == self.by


@dataclass(frozen=True, slots=True)
class Circle:
    """Whom some devices of a person lead to: the person's `own` devices, and `others`' that these have confirmed.

    `heads` are those of the others that were confirmed as head teachers', and speak as such. `others_as` are the others
    with as whose they were confirmed: as anybody else's nobody has looked at them.
    """

    own: frozenset[Device]
    others: frozenset[Device]
    heads: frozenset[Device] = frozenset()
    others_as: frozenset[Standing] = frozenset()


class Away(NamedTuple):
    """Who is gone as somebody's: whose key is `cut` off, and, as that person's, who is `back` and not confirmed again.

    As whose a device was, it is confirmed again as that person's with the same two keys alone: whoever has the server
    lets a lost laptop back in as a PC, as somebody else's, or beside another X25519 key.
    """

    cut: frozenset[bytes] = frozenset()
    back: frozenset[Standing] = frozenset()

    def has(self, device: Device, whose: bytes) -> bool:
        """Whether a device is gone as a person's."""
        return device[0] in self.cut or (device, whose) in self.back


@dataclass(frozen=True, slots=True)
class Voices:
    """Who was confirmed by whom in a space.

    `standings` are the devices as whose they are granted; `firsts` are each person's devices that say a reading key,
    the earliest first; `words` are who confirmed whom, and as whose.
    """

    standings: frozenset[Standing] = frozenset()
    let_back: frozenset[Device] = frozenset()
    """Those that were reported, were let in again, and that the others of their person have not confirmed since."""
    firsts: Mapping[bytes, tuple[Device, ...]] = field(default_factory=dict)
    words: Mapping[Device, frozenset[Word]] = field(default_factory=dict)
    over: Mapping[Device, frozenset[Word]] = field(default_factory=dict)
    """Words about grants that are over: what was said under these stays whose it was."""
    unheard_by: Mapping[bytes, frozenset[Device]] = field(default_factory=dict)
    """The grants that are over, or whose device was cut off again, by which it had been let in again, and that wait for
    others of its person; with those, some where there are many."""
    waits_for: Mapping[Device, frozenset[Device]] = field(default_factory=dict)
    """Of those `let_back`, which devices of its person's each waits for: they were never away, and have not said that
    it is theirs, nor lead to who has. Where there are many, some."""

    def with_over(self) -> Voices:
        """As if the grants that are over still held."""
        none: frozenset[Word] = frozenset()
        both = {*self.words, *self.over}
        return replace(self, words={one: self.words.get(one, none) | self.over.get(one, none) for one in both})

    def circle(self, person: bytes, *starts: Device, says: Mapping[Device, frozenset[Word]] | None = None) -> Circle:
        """Whom a person's devices lead to; of some devices it counts what they are said to say."""
        begin: list[tuple[Device, _Place]] = [(start, _OWN) for start in starts]
        found, pending = set(begin), begin
        while pending:
            voice, place = pending.pop()
            for word in says[voice] if says and voice in says else self.words.get(voice, ()):
                for named in _led_to(word, person, place):
                    if named not in found:
                        found.add(named)
                        pending.append(named)
        own = frozenset(device for device, place in found if place is _OWN)
        heads = frozenset(device for device, place in found if place is not _OWN and place.is_head)
        others_as = frozenset(
            (device, place.whose) for device, place in found if place is not _OWN and device not in own
        )
        return Circle(own, frozenset(device for device, _ in others_as), heads, others_as)

    def led_to_among(self, person: bytes, bits: Mapping[Device, int]) -> dict[Device, int]:
        """For each of these devices of a person the `bits` of those of them to which it leads as the person's own.

        As `circle` from each of them, in one pass; each leads to itself.
        """

        def onward(here: tuple[Device, _Place]) -> Iterable[tuple[Device, _Place]]:
            voice, place = here
            return [named for word in self.words.get(voice, ()) for named in _led_to(word, person, place)]

        starts: list[tuple[Device, _Place]] = [(device, _OWN) for device in bits]
        found = bits_led_to(starts, onward, lambda here: bits.get(here[0], 0) if here[1] is _OWN else 0)
        return {device: found[device, _OWN] for device in bits}


class _Other(NamedTuple):
    """Where somebody else's device stands in a circle.

    Whose it is, as who a device of one's own spoke for it, and whether all words that led to it were of a head's.
    """

    whose: bytes
    spoken_as: bytes | None
    is_head: bool


_Place: TypeAlias = _Other | None
_OWN: Final = None


def _led_to(word: Word, person: bytes, place: _Place) -> Iterable[tuple[Device, _Place]]:
    """Where a word of a device in a person's circle puts whom it names."""
    if place is _OWN:
        is_own = word.is_own and word.person == person
        yield word.device, _OWN if is_own else _Other(word.person, word.by, word.head)
        return
    if place.is_head or (word.is_own and word.person == place.whose):
        yield word.device, _Other(word.person, place.spoken_as, place.is_head and word.head)
    if place.is_head and word.person == person == place.spoken_as:
        yield word.device, _OWN
