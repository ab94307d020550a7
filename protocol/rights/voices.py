"""Who confirmed whom in a space, from the entries that say so (docs/protocol.md, "Confirmed devices", C1 to C12).

Rules:
- a confirmation is the word of who wrote it, by its header; with a proof, also of who drew the phrase that made this;
- who says a reading key says it by its header. So who speaks for whom hangs on no payload that somebody keeps back, or
  that is none (docs/adr/0576);
- one about a grant that is over, or that names another which is (docs/adr/0510), is kept apart, and one that was said
  since a reported device was let in again is left out until others of its person have confirmed that (`letting_back`);
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
from protocol.rights.vouching import Device, Voices, Vouch, Word, is_drawn_by, is_proof, proof_in
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

    It is the author's, but for one of itself that is proven; and of who drew the phrase that proves it, under the grant
    under which that was.
    """
    proofs: Counter[tuple[bytes, bytes]] = Counter()
    for entry, author in said:
        target = _speaker(door, entry.header.target) if entry.header.kind == Kind.VOUCH else None
        if target is None or target.person is None:
            continue
        vouch = proof_in(entry)
        if _is_its_authors(entry, vouch, author, target):
            yield entry, author, _word(target, author.person), target
        if vouch is None or vouch.proof is None:
            continue
        proofs[author.grant, target.grant] += 1
        if proofs[author.grant, target.grant] <= MAX_PROOFS_PER_GRANT:
            word = _word(target, target.person)
            for under in phrases.drawn_under(vouch.proof, vouch.signing, target):
                yield entry, under, word, target


def _is_its_authors(entry: Entry, vouch: Vouch | None, author: Authority, target: Authority) -> bool:
    """Whether a confirmation is the word of who wrote it: not of itself, where a phrase proves it, or nobody can say.

    Nor where a device was taken for one's own by a list, as earlier programs did: that is no word about either id.
    """
    is_of_itself = target.pair == author.pair and (vouch is None or vouch.proof is not None)
    is_by_a_list = entry.header.subject is not None and entry.header.subject == author.person != target.person
    return not is_of_itself and not is_by_a_list


def _word(named: Authority, by: bytes | None) -> Word:
    return Word(named.pair, named.person or b"", by, named.role is Role.HEAD)


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
