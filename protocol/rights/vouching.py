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
- a word makes a device what a human was shown: a colleague's stays a colleague's, whatever lists say later of who is
  the same as whom, and speaks as no head teacher's when it is granted as one later.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final, NamedTuple, Self, TypeAlias

from blake3 import blake3
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from protocol.canonical import encode
from protocol.errors import PeerFault
from protocol.fields import Fields, compact
from protocol.identity import KEY_BYTES, SIGNATURE_BYTES, SigningKey, tagged, verify
from protocol.limits import (
    MAX_CONFIRMED_AGAIN_STEPS,
    MAX_DRAWERS_TRIED,
    MAX_PHRASES_PER_DEVICE,
    MAX_PROOFS_PER_GRANT,
    MAX_PROOFS_THAT_NAME_NO_KEY,
)
from protocol.model.entry import Entry, Kind, parsed
from protocol.rights.door import Authority, Door
from protocol.roles import HAS_READING_KEYS, Role
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
    """That a device is `person`'s: the one id under which these are listed.

    `shown` is as whose the device was shown to who said so, and `by` as who that was said: as they are granted. `head`
    says that it was shown as a head teacher's.
    """

    device: Device
    person: bytes
    shown: bytes
    by: bytes | None
    head: bool = False

    @property
    def is_own(self) -> bool:
        """Whether who said so spoke of a device of their own."""
        return self.shown == self.by


@dataclass(frozen=True, slots=True)
class Circle:
    """Whom some devices of a person lead to: the person's `own` devices, and `others`' that these have confirmed.

    `heads` are those of the others that were confirmed as head teachers', and speak as such.
    """

    own: frozenset[Device]
    others: frozenset[Device]
    heads: frozenset[Device] = frozenset()


class Away(NamedTuple):
    """Who is gone as somebody's: whose key is `cut` off, and, as that person's, who is `back` and not confirmed again.

    As whose a device was, it is confirmed again as that person's with the same two keys alone: whoever has the server
    lets a lost laptop back in as a PC, as somebody else's, or beside another X25519 key.
    """

    cut: frozenset[bytes] = frozenset()
    back: frozenset[Standing] = frozenset()

    def has(self, device: Device, whose: bytes) -> bool:
        """Whether a device is gone as a person's: by the one id under which these are listed."""
        return device[0] in self.cut or (device, whose) in self.back


@dataclass(frozen=True, slots=True)
class Voices:
    """Who was confirmed by whom in a space.

    `standings` are the devices as whose they are granted, persons under the one id under which they are listed;
    `firsts` are each person's devices that say a reading key, the earliest first; `words` are who confirmed whom, and
    as whose.
    """

    standings: frozenset[Standing] = frozenset()
    let_back: frozenset[Device] = frozenset()
    """Those that were cut off, were let in again, and that the others of their person have not confirmed since."""
    firsts: Mapping[bytes, tuple[Device, ...]] = field(default_factory=dict)
    words: Mapping[Device, frozenset[Word]] = field(default_factory=dict)
    over: Mapping[Device, frozenset[Word]] = field(default_factory=dict)
    """Words about grants that are over, but for those of devices that have come back: what was said under these stays
    whose it was."""

    def circle(self, person: bytes, *starts: Device, silent: Device | None = None) -> Circle:
        """Whom a person's devices lead to; what `silent` says is passed over."""
        begin: list[tuple[Device, _Place]] = [(start, _OWN) for start in starts]
        found, pending = set(begin), begin
        while pending:
            voice, place = pending.pop()
            for word in self.words.get(voice, ()) if voice != silent else ():
                for named in _led_to(word, person, place):
                    if named not in found:
                        found.add(named)
                        pending.append(named)
        own = frozenset(device for device, place in found if place is _OWN)
        heads = frozenset(device for device, place in found if place is not _OWN and place.is_head)
        return Circle(own, frozenset(device for device, _ in found) - own, heads)


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
    if place.is_head and word.person == person and word.shown == place.spoken_as:
        yield word.device, _OWN


def voices_of(
    entries: Iterable[Entry],
    authorities: Iterable[Authority],
    door: Door,
    aliases: Mapping[bytes, bytes],
    *,
    cut: Container[bytes] = (),
    came_back: Container[bytes] = (),
) -> Voices:
    """From the entries of a space that count, and the grants that hold there.

    `cut` are the keys that are cut off, `came_back` those that were and have been let in again.
    """
    granted = {authority.grant: authority for authority in authorities if authority.role in HAS_READING_KEYS}
    words: defaultdict[Device, set[Word]] = defaultdict(set)
    since: defaultdict[Device, set[Word]] = defaultdict(set)
    ever: defaultdict[Device, set[Word]] = defaultdict(set)
    over: defaultdict[Device, set[Word]] = defaultdict(set)

    def who(person: bytes) -> bytes:
        return aliases.get(person, person)

    said = [
        (entry, author)
        for entry in sorted(entries, key=lambda entry: (entry.header.at, entry.id))
        if (author := _speaker(door, entry.header.grant)) is not None
    ]
    drawn: defaultdict[tuple[bytes, Device], list[Entry]] = defaultdict(list)
    firsts: defaultdict[bytes, dict[Device, None]] = defaultdict(dict)
    for entry, author in said:
        person = author.person
        if person is None or person != entry.header.subject:
            continue
        if entry.header.kind == Kind.PERSON_KEY:
            firsts[who(person)].setdefault(_device(author))
        elif entry.header.kind == Kind.PHRASE:
            drawn[person, _device(author)].append(entry)
    phrases = _Phrases(drawn, firsts, who)
    proofs: Counter[tuple[bytes, bytes]] = Counter()
    for entry, author in said:
        target = _speaker(door, entry.header.target)
        if entry.header.kind == Kind.VOUCH and target is not None and target.person is not None:
            said_of = parsed(entry, Vouch.parse)
            if said_of is None:
                continue
            if said_of.proof is not None:
                proofs[author.grant, target.grant] += 1
                if proofs[author.grant, target.grant] > MAX_PROOFS_PER_GRANT:
                    continue
            is_since = author.key in came_back and author.grant in granted
            into = [ever if target.grant not in granted else since if is_since else words]
            if target.grant not in granted and not is_since:
                into.append(over)
            for voice, word in _said_by(entry, author, said_of, target, phrases, who):
                for one in into:
                    one[voice].add(word)
    voices = Voices(
        frozenset((_device(each), who(each.person)) for each in granted.values() if each.person is not None),
        frozenset(_device(authority) for authority in granted.values() if authority.key in came_back),
        {person: tuple(devices) for person, devices in firsts.items()},
        {voice: frozenset(named) for voice, named in words.items()},
        {voice: frozenset(named) for voice, named in over.items()},
    )
    return _with_confirmed_again(voices, since, ever, cut)


def _said_by(
    entry: Entry,
    author: Authority,
    vouch: Vouch,
    target: Authority,
    phrases: _Phrases,
    who: Callable[[bytes], bytes],
) -> Iterable[tuple[Device, Word]]:
    """Whose word a confirmation is, and what it says: the author's, or that of who drew the phrase that proves it."""
    person = target.person or b""
    if vouch.proof is not None:
        for voice in phrases.drawers(vouch.proof, vouch.signing, target):
            yield voice, _word(target, person, target.person, who)
        return
    shown = _shown(author, entry.header.subject, person, who)
    if shown is not None:
        yield _device(author), _word(target, shown, author.person, who)


def _word(named: Authority, shown: bytes, by: bytes | None, who: Callable[[bytes], bytes]) -> Word:
    return Word(_device(named), who(named.person or b""), shown, by, named.role is Role.HEAD)


def _shown(author: Authority, subject: bytes | None, named: bytes, who: Callable[[bytes], bytes]) -> bytes | None:
    """As whose a device was shown to who confirmed it: their own, if they say so and lists do, else as it is granted.

    None where it was taken for their own, and is no more.
    """
    if subject is None or subject != author.person:
        return named
    return subject if who(subject) == who(named) else None


_Words: TypeAlias = Mapping[Device, set[Word]]


def _with_confirmed_again(voices: Voices, since: _Words, ever: _Words, cut: Container[bytes]) -> Voices:
    """What those say who came back counts once the others of theirs have confirmed them, or if there is no other.

    `since` is what they said after they came back, `ever` what was said of grants that are no more.
    """
    if not voices.let_back:
        return voices
    whose: defaultdict[Device, list[bytes]] = defaultdict(list)
    for device, person in voices.standings:
        whose[device].append(person)
    before: defaultdict[Standing, list[Device]] = defaultdict(list)
    for by, said in ever.items():
        for word in said:
            if word.is_own:
                before[word.device, word.person].append(by)
    for _ in range(MAX_CONFIRMED_AGAIN_STEPS):
        round_ = Round(voices)
        again = {one for one in voices.let_back if _is_confirmed_again(round_, one, whose.get(one, ()), before, cut)}
        if not again:
            break
        words = {**voices.words, **{one: voices.words.get(one, frozenset()) | since.get(one, set()) for one in again}}
        voices = replace(voices, let_back=voices.let_back - again, words=words)
    return voices


class Round:
    """Who is confirmed by what counts so far."""

    def __init__(self, voices: Voices) -> None:
        self.voices = voices
        self._about: defaultdict[Device, list[tuple[Device, Word]]] = defaultdict(list)
        for voice, said in voices.words.items():
            for word in said:
                self._about[word.device].append((voice, word))

    def leading_to(self, device: Device, person: bytes) -> set[Device]:
        """Which of a person's devices say, or lead to who says, that one is theirs: its own word apart.

        The same as `Voices.circle` for each of them, followed from its end.
        """
        start: tuple[Device, bytes | None] = (device, None)  # as the person's own; a head's: as who one spoke for it
        found, pending = {start}, [start]
        while pending:
            named, spoken_as = pending.pop()
            for voice, word in self._about.get(named, ()):
                for place in _led_from(voice, word, person, spoken_as) if voice != device else ():
                    if place not in found:
                        found.add(place)
                        pending.append(place)
        return {each for each, spoken_as in found if spoken_as is None}


def _led_from(
    voice: Device, word: Word, person: bytes, spoken_as: bytes | None
) -> Iterable[tuple[Device, bytes | None]]:
    """As what a voice leads by its word to a person's own device, or to a head's for which one spoke: see `_led_to`."""
    is_own = word.is_own and word.person == person
    if spoken_as is None:
        if is_own:
            yield voice, None
        if word.person == person:
            yield voice, word.shown
    elif word.head:
        if not is_own and word.by == spoken_as:
            yield voice, None
        yield voice, spoken_as


def _is_confirmed_again(
    round_: Round,
    device: Device,
    whose: Iterable[bytes],
    before: Mapping[Standing, Sequence[Device]],
    cut: Container[bytes],
) -> bool:
    """Whether each device of theirs in use that it is linked with says so, or leads to who does; there may be none.

    Each: whoever has the server names a device that speaks for a lost laptop, or has that call it its own, and what one
    can tell from words is the same for that as for an honest one.
    """
    voices = round_.voices
    for person in whose:
        # others of theirs: those that it leads to, and those that confirmed it before; nobody else's grant makes one
        linked = {*voices.circle(person, device).own, *before.get((device, person), ())}
        others = {one for one in linked - {device} - voices.let_back if one[0] not in cut}
        speaking = frozenset(one for one in others if (one, person) in voices.standings)
        if speaking and not speaking <= round_.leading_to(device, person):
            return False
    return True


class _Phrases:
    """Each person's phrases that name who drew them, and what they prove; of one device the latest count."""

    def __init__(
        self,
        drawn: Mapping[tuple[bytes, Device], Sequence[Entry]],
        firsts: Mapping[bytes, Iterable[Device]],
        who: Callable[[bytes], bytes],
    ) -> None:
        keys: defaultdict[bytes, dict[Device, list[bytes]]] = defaultdict(dict)
        for (person, device), entries in drawn.items():
            latest = entries[-MAX_PHRASES_PER_DEVICE:]
            signing = dict.fromkeys(_signing_of(entry, person, device) for entry in latest)
            keys[person][device] = [key for key in signing if key is not None]
        self._drawers: defaultdict[tuple[bytes, bytes], list[Device]] = defaultdict(list)
        self._tried: dict[bytes, tuple[bytes, ...]] = {}
        for person, of_devices in keys.items():
            order = dict.fromkeys(
                device for device in (*firsts.get(who(person), ()), *of_devices) if of_devices.get(device)
            )
            for device in order:
                for key in of_devices[device]:
                    self._drawers[person, key].append(device)
            looked_at = list(order)[:MAX_DRAWERS_TRIED]
            self._tried[person] = tuple(dict.fromkeys(key for device in looked_at for key in of_devices[device]))
        self._proven: dict[tuple[bytes, bytes, bytes | None], tuple[bytes, ...]] = {}
        self._unnamed: Counter[bytes] = Counter()

    def drawers(self, proof: bytes, signing: bytes | None, named: Authority) -> Iterable[Device]:
        """Whose word a proven confirmation is: that of who drew the phrase."""
        person = named.person or b""
        asked = (named.grant, proof, signing)
        if asked not in self._proven:
            self._proven[asked] = self._proven_by(proof, signing, named, person)
        return [device for key in self._proven[asked] for device in self._drawers[person, key][:MAX_DRAWERS_TRIED]]

    def _proven_by(self, proof: bytes, signing: bytes | None, named: Authority, person: bytes) -> tuple[bytes, ...]:
        """The keys of phrases that made a proof: one that names none is tried with few, and few such are tried."""
        keys: Iterable[bytes] = self._tried.get(person, ())
        if signing is not None:
            keys = (signing,) if (person, signing) in self._drawers else ()
        elif keys:
            self._unnamed[person] += 1
            if self._unnamed[person] > MAX_PROOFS_THAT_NAME_NO_KEY:
                return ()
        message = _message(person, _device(named), named.grant)
        return tuple(key for key in keys if verify(key, _PROOF, message, proof))


def _signing_of(entry: Entry, person: bytes, device: Device) -> bytes | None:
    """The key of a phrase that this device drew."""
    try:
        phrase = PhraseKey.parse(entry.payload or b"")
    except PeerFault:
        return None
    return phrase.signing if is_drawn_by(phrase, person, device, entry.header.space) else None


def _speaker(door: Door, grant: bytes | None) -> Authority | None:
    authority = door.authority(grant)
    return authority if authority is not None and authority.role in HAS_READING_KEYS else None


def _device(authority: Authority) -> Device:
    return authority.key, authority.agreement
