"""A teacher's reading keys on all of the teacher's devices, and under a phrase (docs/protocol.md, "Reading keys").

Rules:
- a reading key travels sealed only, to the X25519 keys of devices of the same person, and to that of a phrase;
- a seal is bound to the space, the person and the key: what it holds must be the key that it names, and a copy of it in
  another space opens nothing there;
- a phrase is drawn, never thought up: `PHRASE_WORDS` of 256 words, because its public half lies on every machine of the
  class, where anybody may guess for years;
- who types a phrase tries a bounded number: each costs what a guess costs, and who has a teacher's grant says some.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self, TypeAlias

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from protocol.canonical import encode
from protocol.errors import BadInput, Code, PeerFault
from protocol.fields import Fields, compact
from protocol.identity import KEY_BYTES, SEED_BYTES, SIGNATURE_BYTES, AgreementKey, tagged
from protocol.limits import MAX_CODE_CHARS, MAX_TRIED_PHRASES, MAX_WRAPS_PER_ENTRY, SALT_BYTES
from protocol.trust import hpke
from protocol.trust.kit import Argon2Cost
from protocol.words import WORDS

Derivation: TypeAlias = tuple[bytes, Argon2Cost, bytes]
"""From what a phrase gives a key, besides its words: a person, a cost, a salt."""

PHRASE_WORDS: Final = 8
_USUAL_WORK: Final = Argon2Cost().memory_kib * Argon2Cost().passes

_DOMAIN: Final = b"relais/0 key wrap of a space"
_EARLIER_DOMAIN: Final = b"relais/0 key wrap"
"""Of a version that had one key for all spaces, and bound its seals to none."""
_PHRASE: Final = b"relais/0 phrase"
_SEAL_BYTES: Final = SEED_BYTES + hpke.OVERHEAD_BYTES


@dataclass(frozen=True, slots=True)
class KeyWraps:
    """One reading key of a teacher, sealed: (recipient's X25519 key, `enc` ‖ ciphertext ‖ tag) for each recipient."""

    agreement: bytes
    wraps: tuple[tuple[bytes, bytes], ...]

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From an entry's payload."""
        fields = Fields.of_payload(payload, "a wrapped reading key")
        wraps = fields.pairs("wraps", (KEY_BYTES, _SEAL_BYTES), MAX_WRAPS_PER_ENTRY)
        return cls(fields.octets("agreement", KEY_BYTES), wraps)

    def encode(self) -> bytes:
        """To an entry's payload."""
        return encode({"agreement": self.agreement, "wraps": [[key, sealed] for key, sealed in self.wraps]})


@dataclass(frozen=True, slots=True)
class PhraseKey:
    """The public half of the key that a phrase gives, and how it gives it: another recipient of reading keys.

    `signing` is the Ed25519 key that signs for who knows the phrase (`rights.vouching`); `proof` is what it signed:
    which device drew the phrase, for whom and where. Without it the phrase opens keys, and is nobody's.
    """

    agreement: bytes
    salt: bytes
    cost: Argon2Cost
    signing: bytes | None = None
    proof: bytes | None = None

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From an entry's payload."""
        fields = Fields.of_payload(payload, "a phrase")
        cost = Argon2Cost(fields.count("memory"), fields.count("passes"), fields.count("lanes"))
        if not cost.is_bounded:
            raise PeerFault(Code.MALFORMED, "a phrase asks for more memory or time than any phrase needs")
        return cls(
            fields.octets("agreement", KEY_BYTES),
            fields.octets("salt", SALT_BYTES),
            cost,
            fields.octets_or_none("signing", KEY_BYTES),
            fields.octets_or_none("proof", SIGNATURE_BYTES),
        )

    def encode(self) -> bytes:
        """To an entry's payload."""
        return encode(
            compact(
                agreement=self.agreement,
                salt=self.salt,
                memory=self.cost.memory_kib,
                passes=self.cost.passes,
                lanes=self.cost.lanes,
                signing=self.signing,
                proof=self.proof,
            )
        )


@dataclass(frozen=True, slots=True)
class SaidPhrase:
    """A phrase as an entry says it: for whom, by which line of keys, whether that speaks for the teacher, and when."""

    person: bytes
    key: PhraseKey
    by: bytes
    speaks: bool
    at: int
    id: bytes

    @property
    def derivation(self) -> Derivation:
        """What its key is derived from."""
        return self.person, self.key.cost, self.key.salt

    @property
    def work(self) -> int:
        """What that costs: KiB of memory, times passes."""
        return self.key.cost.memory_kib * self.key.cost.passes


def worth_trying(said: Iterable[SaidPhrase]) -> list[Derivation]:
    """What who types a phrase derives, at most `MAX_TRIED_PHRASES`, in this order.

    Each line's phrases have their turn, the newest first; of one turn come first those of lines that speak for the
    teacher, then the cheapest. Who speaks depends on dates here, where nothing is remembered yet: that alone gives
    nobody all turns. What would be dearer, together with those before, than so many usual ones is passed over.
    """
    turns: Counter[bytes] = Counter()
    counted: set[tuple[bytes, Derivation]] = set()
    places: dict[Derivation, tuple[int, bool, int]] = {}
    for one in sorted(said, key=lambda one: (one.at, one.id), reverse=True):
        # said in several spaces it is one all the same
        if (one.by, one.derivation) not in counted:
            counted.add((one.by, one.derivation))
            place = (turns[one.by], not one.speaks, one.work)
            turns[one.by] += 1
            places[one.derivation] = min(place, places.get(one.derivation, place))
    left = MAX_TRIED_PHRASES * _USUAL_WORK
    found: list[Derivation] = []
    for derivation in sorted(places, key=places.__getitem__):
        work = places[derivation][-1]
        if len(found) < MAX_TRIED_PHRASES and work <= left:
            left -= work
            found.append(derivation)
    return found


def seal_reading_key(
    key: AgreementKey, space: bytes | None, person: bytes, recipient: bytes, ephemeral: bytes
) -> bytes:
    """A teacher's reading key of a space for one recipient; `ephemeral` is 32 fresh random bytes.

    Without a space, as an earlier version sealed: for what it had sealed alone. Raises `PeerFault(WEAK_KEY)`.
    """
    return hpke.seal(key.seed, recipient, _info(space, person, key.public), ephemeral)


def open_reading_key(
    sealed: bytes, space: bytes | None, person: bytes, agreement: bytes, recipient: AgreementKey
) -> AgreementKey:
    """The reading key whose public half is `agreement`. Raises `PeerFault(BAD_SEAL)` for anything else.

    What was sealed in another space, or without one as an earlier version did, is something else.
    """
    seed = hpke.open_(sealed, recipient, _info(space, person, agreement))
    if len(seed) != SEED_BYTES or (key := AgreementKey(seed)).public != agreement:
        raise PeerFault(Code.BAD_SEAL, "a wrap does not hold the reading key that it names")
    return key


def phrase_of(drawn: bytes) -> str:
    """The phrase that `PHRASE_WORDS` random bytes stand for."""
    return " ".join(WORDS[byte] for byte in drawn)


def drawn_of(phrase: str) -> bytes:
    """The bytes behind a phrase, as typed: whatever the case, the accents and what stands between the words.

    Raises `BadInput(USAGE)`, which names a word that is none.
    """
    if len(phrase) > MAX_CODE_CHARS:
        raise BadInput(Code.USAGE, "this is far too long for a phrase")
    words = "".join(char if char.isalpha() else " " for char in unicodedata.normalize("NFC", phrase)).split()
    places = [_PLACES.get(_plain(word)) for word in words]
    for word, place in zip(words, places, strict=True):
        if place is None:
            raise BadInput(Code.USAGE, f"no phrase holds the word “{word}”: please compare it with the paper")
    if len(places) != PHRASE_WORDS:
        raise BadInput(Code.USAGE, f"a phrase has {PHRASE_WORDS} words, and this one has {len(places)}")
    return bytes(place for place in places if place is not None)


def phrase_key(drawn: bytes, person: bytes, salt: bytes, cost: Argon2Cost) -> AgreementKey:
    """The X25519 key that a phrase gives: Argon2id (RFC 9106) of its bytes."""
    kdf = Argon2id(salt=salt, length=SEED_BYTES, iterations=cost.passes, lanes=cost.lanes, memory_cost=cost.memory_kib)
    return AgreementKey(kdf.derive(tagged(_PHRASE, person + drawn)))


def _info(space: bytes | None, person: bytes, agreement: bytes) -> bytes:
    if space is None:
        return tagged(_EARLIER_DOMAIN, person + agreement)
    return tagged(_DOMAIN, space + person + agreement)


def _plain(word: str) -> str:
    """A word without accents and case: no two of the list differ by those only."""
    return "".join(char for char in unicodedata.normalize("NFD", word.casefold()) if not unicodedata.combining(char))


_PLACES: Final = {_plain(word): place for place, word in enumerate(WORDS)}
