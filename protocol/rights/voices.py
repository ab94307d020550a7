"""Who confirmed whom in a space, from the entries that say so (docs/protocol.md, "Confirmed devices", C1 to C12).

Rules:
- a confirmation is the word of who wrote it, or, with a proof, of who drew the phrase that made this;
- one that was destroyed, with somebody who is shown again, is the word of who wrote it: its header says all of that;
- one about a grant that is over, or that names another which is (docs/adr/0510), is kept apart, and one that was said
  since a reported device was let in again is left out until others of its person have confirmed that (`letting_back`);
- who says a reading key says it by its header, destroyed or not; a payload that holds none is no word (docs/adr/0554);
- of what a device says few phrases and few proofs are looked at: each of them is a signature.

Pure; called by the roster alone.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping
from typing import TypeAlias

from protocol.errors import PeerFault
from protocol.limits import (
    MAX_DRAWERS_TRIED,
    MAX_PHRASES_PER_DEVICE,
    MAX_PROOFS_PER_GRANT,
    MAX_PROOFS_THAT_NAME_NO_KEY,
)
from protocol.model.entry import Entry, Kind
from protocol.rights.door import Authority, Door
from protocol.rights.keys_in_use import says_a_key
from protocol.rights.letting_back import LetInAgain, Return, Returns
from protocol.rights.vouching import Device, Voices, Word, is_drawn_by, is_proof, vouched
from protocol.roles import HAS_READING_KEYS, Role
from protocol.trust.person_keys import PhraseKey

_Said: TypeAlias = tuple[Entry, Authority]
"""An entry, and the grant under which a teacher's device wrote it."""
_Drawn: TypeAlias = defaultdict[tuple[bytes, Device, Return | None], list[_Said]]
"""The phrases of a person that a device drew, before it was let in again and since each time, each with the grant."""


def voices_of(
    entries: Iterable[Entry],
    authorities: Iterable[Authority],
    door: Door,
    *,
    cut: Container[bytes],
    came_back: Container[bytes],
    again: LetInAgain,
) -> Voices:
    """From the entries of a space that count, and the grants that hold there.

    `cut` are the keys that are cut off, `came_back` those that were reported and have been let in `again`.
    """
    granted = {authority.grant: authority for authority in authorities if authority.role in HAS_READING_KEYS}
    words: defaultdict[Device, set[Word]] = defaultdict(set)
    over: defaultdict[Device, set[Word]] = defaultdict(set)
    returns = Returns(granted, came_back, again)
    said = [
        (entry, author)
        for entry in sorted(entries, key=lambda entry: (entry.header.at, entry.id))
        if (author := _speaker(door, entry.header.grant)) is not None
    ]
    firsts, drawn = _of_keys(said, returns)
    for entry, under, word, target in _confirmations(said, door, _Phrases(drawn, firsts)):
        voice, since = under.pair, returns.of(under)
        returns.note(voice, since, word, target)
        if since is None:
            (words if _holds(entry, granted) else over)[voice].add(word)
    voices = Voices(
        frozenset((each.pair, each.person) for each in granted.values() if each.person is not None),
        frozenset(authority.pair for authority in granted.values() if authority.key in came_back),
        {person: tuple(devices) for person, devices in firsts.items()},
        {voice: frozenset(named) for voice, named in words.items()},
        {voice: frozenset(named) for voice, named in over.items()},
    )
    former = [named for grant in again if (named := _speaker(door, grant)) is not None]
    return returns.joined(voices, former, cut)


def _of_keys(said: Iterable[_Said], returns: Returns) -> tuple[Mapping[bytes, Iterable[Device]], _Drawn]:
    """The devices of each person that say a reading key, the earliest first; and the phrases that they drew."""
    firsts: defaultdict[bytes, dict[Device, None]] = defaultdict(dict)
    drawn: _Drawn = defaultdict(list)
    for entry, author in said:
        person = author.person
        if person is None or person != entry.header.subject:
            continue
        if says_a_key(entry):
            firsts[person].setdefault(author.pair)
        elif entry.header.kind == Kind.PHRASE:
            drawn[person, author.pair, returns.of(author)].append((entry, author))
    return firsts, drawn


def _holds(confirmation: Entry, granted: Container[bytes]) -> bool:
    """Whether each right still holds with which it ends: the one that it is about, and those that it names besides."""
    return all(right in granted for right in (confirmation.header.target, *confirmation.header.parents))


def _confirmations(
    said: Iterable[_Said], door: Door, phrases: _Phrases
) -> Iterable[tuple[Entry, Authority, Word, Authority]]:
    """Each confirmation, said under which grant, by the device that this names, what it says, and about which grant.

    It is the author's, or that of who drew the phrase that proves it: under the grant under which that was.
    """
    proofs: Counter[tuple[bytes, bytes]] = Counter()
    for entry, author in said:
        target = _speaker(door, entry.header.target) if entry.header.kind == Kind.VOUCH else None
        vouch = None if target is None else vouched(entry)
        if target is None or target.person is None or vouch is None:
            continue
        if entry.payload is None and target.pair == author.pair:
            continue  # that was proven by a phrase, and of itself it says nothing
        if vouch.proof is None:
            if not _is_as_an_own_of_another_id(author, entry.header.subject, target.person):
                yield entry, author, _word(target, author.person), target
            continue
        proofs[author.grant, target.grant] += 1
        if proofs[author.grant, target.grant] <= MAX_PROOFS_PER_GRANT:
            word = _word(target, target.person)
            for under in phrases.drawn_under(vouch.proof, vouch.signing, target):
                yield entry, under, word, target


def _word(named: Authority, by: bytes | None) -> Word:
    return Word(named.pair, named.person or b"", by, named.role is Role.HEAD)


def _is_as_an_own_of_another_id(author: Authority, subject: bytes | None, named: bytes) -> bool:
    """Whether a device was taken for one's own by a list, as earlier programs did: that is no word about either id."""
    return subject is not None and subject == author.person != named


class _Phrases:
    """Each person's phrases that name who drew them, and what they prove; of one device the latest count.

    What it drew since it was let in again takes the place of none that it had drawn before.
    """

    def __init__(self, drawn: _Drawn, firsts: Mapping[bytes, Iterable[Device]]) -> None:
        keys: defaultdict[bytes, defaultdict[Device, dict[bytes, None]]] = defaultdict(lambda: defaultdict(dict))
        self._under: defaultdict[tuple[bytes, bytes, Device], dict[bytes, Authority]] = defaultdict(dict)
        for (person, device, _), said in drawn.items():
            for entry, author in said[-MAX_PHRASES_PER_DEVICE:]:
                key = _signing_of(entry, person, device)
                if key is not None:
                    keys[person][device][key] = None
                    self._under[person, key, device][author.grant] = author
        self._drawers: defaultdict[tuple[bytes, bytes], list[Device]] = defaultdict(list)
        self._tried: dict[bytes, tuple[bytes, ...]] = {}
        for person, of_devices in keys.items():
            order = dict.fromkeys(device for device in (*firsts.get(person, ()), *of_devices) if of_devices.get(device))
            for device in order:
                for key in of_devices[device]:
                    self._drawers[person, key].append(device)
            looked_at = list(order)[:MAX_DRAWERS_TRIED]
            self._tried[person] = tuple(dict.fromkeys(key for device in looked_at for key in of_devices[device]))
        self._proven: dict[tuple[bytes, bytes, bytes | None], tuple[bytes, ...]] = {}
        self._unnamed: Counter[bytes] = Counter()

    def drawn_under(self, proof: bytes, signing: bytes | None, named: Authority) -> Iterable[Authority]:
        """Whose word a proven confirmation is: that of who drew the phrase, under each grant under which that was."""
        person = named.person or b""
        asked = (named.grant, proof, signing)
        if asked not in self._proven:
            self._proven[asked] = self._proven_by(proof, signing, named, person)
        return [
            under
            for key in self._proven[asked]
            for device in self._drawers[person, key][:MAX_DRAWERS_TRIED]
            for under in self._under[person, key, device].values()
        ]

    def _proven_by(self, proof: bytes, signing: bytes | None, named: Authority, person: bytes) -> tuple[bytes, ...]:
        """The keys of phrases that made a proof: one that names none is tried with few, and few such are tried."""
        keys: Iterable[bytes] = self._tried.get(person, ())
        if signing is not None:
            keys = (signing,) if (person, signing) in self._drawers else ()
        elif keys:
            self._unnamed[person] += 1
            if self._unnamed[person] > MAX_PROOFS_THAT_NAME_NO_KEY:
                return ()
        device = named.pair
        return tuple(key for key in keys if is_proof(proof, key, person, device, named.grant))


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
