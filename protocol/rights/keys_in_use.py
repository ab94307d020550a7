"""Whose reading keys of a space are in use, and which phrases were drawn there (docs/protocol.md, "Roster").

Rules:
- nothing about a key counts from anybody but a device of the person whom it is about, by the grant that it wrote under;
- who said one says the header; which one, and that another is over, what holds a key here (docs/adr/0576);
- what is spent (`spent_keys`) is sealed to no more;
- a key in whose place its own device has said another is over, whatever else is hidden or held back of either.

Pure; called by the roster, and by who weighs what the roster hides.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import TypeAlias

from protocol.limits import MAX_PHRASES_LOOKED_AT, MAX_READING_KEYS_PER_DEVICE
from protocol.model.entry import Entry, Kind, parsed
from protocol.model.structure import PersonKey
from protocol.rights.door import Door
from protocol.rights.successions import successors_of
from protocol.rights.vouching import Device, is_drawn_by
from protocol.roles import HAS_READING_KEYS
from protocol.trust.person_keys import PhraseKey

Key: TypeAlias = tuple[bytes, bytes]
"""A teacher, or a key that signs, and an X25519 key as that one's."""


def says_a_key(entry: Entry) -> bool:
    """Whether an entry is a word about a reading key: which one, its payload says, if it is here and holds one."""
    return entry.header.kind == Kind.PERSON_KEY


def holds_a_key(entry: Entry) -> bool:
    """Whether an entry says which key."""
    return says_a_key(entry) and parsed(entry, PersonKey.parse) is not None


def replaced_keys(entries: Iterable[Entry]) -> frozenset[bytes]:
    """Which of the entries that say a key have had another said in their place by their own author (`parents`).

    As whosever's and under whichever grant, and held back or not: only who said a key replaces it, for good. But by a
    word that is here, or leads to it: a header alone puts no key in the place of another, and holds its own.
    """
    said = {entry.id: entry for entry in entries if says_a_key(entry)}
    pending, found = [entry.header for entry in said.values() if holds_a_key(entry)], set[bytes]()
    while pending:
        header = pending.pop()
        before = (name for name in header.parents if name in said and said[name].header.author == header.author)
        fresh = set(before) - found
        found |= fresh
        pending += [said[name].header for name in fresh]
    return frozenset(found)


def keys_in_use(
    entries: Iterable[Entry], door: Door, cut: frozenset[bytes], spent: frozenset[Key], replaced: frozenset[bytes]
) -> tuple[dict[bytes, tuple[bytes, ...]], dict[bytes, frozenset[Device]]]:
    """Whom hand-ins are sealed to: each teacher's keys, oldest first; and which devices made each.

    Of one device the latest `MAX_READING_KEYS_PER_DEVICE` count that it has not replaced: an honest one puts another
    in the place of one that may be in wrong hands.
    """
    said: defaultdict[bytes, dict[bytes, set[Device]]] = defaultdict(dict)
    for person, device, entry in by_their_own(entries, Kind.PERSON_KEY, door):
        key = None if entry.header.author in cut else parsed(entry, PersonKey.parse)
        if key is not None and (person, key.agreement) not in spent and entry.id not in replaced:
            said[person].setdefault(key.agreement, set()).add(device)
    found: dict[bytes, tuple[bytes, ...]] = {}
    makers: defaultdict[bytes, set[Device]] = defaultdict(set)
    for person, keys in said.items():
        counted: Counter[Device] = Counter()
        kept = []
        for agreement, devices in reversed(keys.items()):
            counted.update(devices)
            if min(counted[device] for device in devices) <= MAX_READING_KEYS_PER_DEVICE:
                kept.append(agreement)
                makers[agreement] |= devices
        found[person] = tuple(reversed(kept))
    return found, {key: frozenset(devices) for key, devices in makers.items()}


def said_as(entries: Iterable[Entry], door: Door) -> dict[bytes, frozenset[bytes]]:
    """As whose each reading key was ever said, by the ids that grants give: a list makes nobody's key another's."""
    found: defaultdict[bytes, set[bytes]] = defaultdict(set)
    for person, _, entry in by_their_own(entries, Kind.PERSON_KEY, door):
        if (key := parsed(entry, PersonKey.parse)) is not None:
            found[key.agreement].add(person)
    return {key: frozenset(persons) for key, persons in found.items()}


def said_by(entries: Iterable[Entry], door: Door) -> dict[bytes, frozenset[Device]]:
    """The devices that ever said each reading key."""
    found: defaultdict[bytes, set[Device]] = defaultdict(set)
    for _, device, entry in by_their_own(entries, Kind.PERSON_KEY, door):
        if (key := parsed(entry, PersonKey.parse)) is not None:
            found[key.agreement].add(device)
    return {key: frozenset(devices) for key, devices in found.items()}


def claimed_keys(entries: Iterable[Entry], door: Door) -> frozenset[bytes]:
    """The reading keys of which nothing proves whose they are, nor which device made them.

    Those that several devices have said: each makes its own, only what came of one by successors has the same, and no
    key succeeds another unasked. And all, where a word of another device is destroyed: it may have been any of them.
    """
    entries = list(entries)
    makers = {key: {key for key, _ in devices} for key, devices in said_by(entries, door).items()}
    unknown = {author for author, _ in unknown_words(entries)}
    doubted = {agreement: keys for agreement, keys in makers.items() if len(keys | unknown) > 1}
    authorities = door.authorities() if doubted else ()
    return frozenset(
        agreement
        for agreement, keys in doubted.items()
        if not any(keys | unknown <= {first, *successors_of(first, authorities)} for first in keys | unknown)
    )


def unknown_words(entries: Iterable[Entry]) -> frozenset[tuple[bytes, bytes]]:
    """The devices of which words about keys are bare, each as whose: which key that was, nobody can say any more.

    Without those that have said as many since: who is back says again what was destroyed with their name.
    """
    bare, said = Counter[tuple[bytes, bytes]](), Counter[tuple[bytes, bytes]]()
    for entry in entries:
        if says_a_key(entry) and entry.header.subject is not None:
            said_as = entry.header.author, entry.header.subject
            bare[said_as] += entry.payload is None
            said[said_as] += holds_a_key(entry)
    return frozenset(one for one, count in bare.items() if count > said[one])


def phrases_of(
    entries: Iterable[Entry], door: Door, cut: frozenset[bytes]
) -> dict[bytes, tuple[tuple[Device, PhraseKey], ...]]:
    """The phrases of each teacher, oldest first, each with the device that drew it: of one device the latest."""
    said = [each for each in by_their_own(entries, Kind.PHRASE, door) if each[-1].header.author not in cut]
    # what was said again, under another grant, is the same
    latest: defaultdict[tuple[bytes, Device], dict[bytes, PhraseKey | None]] = defaultdict(dict)
    for person, device, entry in reversed(said):
        those, payload = latest[person, device], entry.payload or b""
        if payload not in those and len(those) < MAX_PHRASES_LOOKED_AT:
            phrase = parsed(entry, PhraseKey.parse)
            is_theirs = phrase is not None and is_drawn_by(phrase, person, device, entry.header.space)
            those[payload] = phrase if is_theirs else None
    found: defaultdict[bytes, list[tuple[Device, PhraseKey]]] = defaultdict(list)
    for person, device, entry in said:
        if (phrase := latest[person, device].get(entry.payload or b"")) is not None:
            found[person].append((device, phrase))
    return {person: tuple(drawn) for person, drawn in found.items()}


def by_their_own(entries: Iterable[Entry], kind: Kind, door: Door) -> Iterable[tuple[bytes, Device, Entry]]:
    """Entries of a kind that a teacher's own device wrote about its teacher, oldest first, each with the device.

    Nothing about a key counts from anybody else: the subject is the person whom the author's own grant names.
    """
    for entry in sorted(entries, key=lambda entry: (entry.header.at, entry.id)):
        if entry.header.kind != kind or entry.payload is None or entry.header.subject is None:
            continue
        authority = door.authority(entry.header.grant)
        if authority is not None and authority.person == entry.header.subject and authority.role in HAS_READING_KEYS:
            yield entry.header.subject, authority.pair, entry
