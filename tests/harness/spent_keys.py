"""Which reading keys are spent, said as plainly as can be: what `protocol.rights.spent_keys.keys_spent` has to say.

This was the program's own once: it costs gifts times recipients times devices that are gone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache

from protocol.model.entry import Entry, Kind, parsed
from protocol.model.structure import PersonKey
from protocol.rights.door import Door
from protocol.rights.keys_in_use import Key, by_their_own
from protocol.rights.speaking import Speaking
from protocol.rights.spent_keys import (
    Doubted,
    _is_theirs,
    _kept_by,
    _made_by_their_own,
    _of_phrases,
    _whoever_they_are,
)
from protocol.rights.vouching import Away, Device
from protocol.trust.person_keys import KeyWraps, PhraseKey


def keys_spent_plainly(
    heard: Sequence[Entry],
    given: Iterable[Entry],
    door: Door,
    away: Away,
    gone: Mapping[Key, Collection[bytes]],
    doubted: Doubted,
    leading: tuple[Speaking, Speaking],
    phrases: Mapping[bytes, Iterable[tuple[Device, PhraseKey]]],
) -> frozenset[Key]:
    """As `keys_spent` says, each gift asked about each recipient, and each of these about all that are gone."""
    if not any(away):
        return frozenset()
    now = leading[0]
    by_key = _whoever_they_are(gone)

    def is_away(device: Device, person: bytes) -> bool:
        return away.has(device, person)

    papers: defaultdict[bytes, set[bytes]] = defaultdict(set)
    for id_, drawer, agreement in _of_phrases(phrases, is_away):
        if any(drawer in led.get(id_, ()) for led in leading):
            papers[id_].add(agreement)

    @cache  # many gifts are of few persons
    def held_by(persons: frozenset[bytes]) -> tuple[frozenset[Device], frozenset[bytes]]:
        own = frozenset(device for each in persons for device in now.get(each, ()) if not is_away(device, each))
        return own, _kept_by(own, *(papers[each] for each in persons))

    said = [
        (person, device, key.agreement, _is_theirs(entry, doubted))
        for person, device, entry in by_their_own(heard, Kind.PERSON_KEY, door)
        if (key := parsed(entry, PersonKey.parse)) is not None
    ]
    theirs_alone = _made_by_their_own(said)
    found, made_as = set(), defaultdict[Key, set[bytes]](set)
    for person, device, agreement, theirs in said:
        if theirs or (person, agreement) not in theirs_alone:
            made_as[device[0], agreement].add(person)
            if is_away(device, person):
                found.add((person, agreement))
    for person, device, entry in by_their_own(given, Kind.KEY_WRAP, door):
        gift, author = parsed(entry, KeyWraps.parse), entry.header.author
        if gift is None:
            continue
        made = made_as.get((author, gift.agreement), set())
        is_held_back = entry.id in doubted.held_back
        if is_held_back and not made and is_away(device, person):
            continue
        counts = _is_theirs(entry, doubted) or (bool(made) and (person, gift.agreement) not in theirs_alone)
        if not (persons := frozenset({person, *made} if counts else made)):
            continue
        itself = (author,) if is_held_back else ()
        own, kept = held_by(persons)
        strange = [recipient for recipient, _ in gift.wraps if recipient not in kept]
        holders = [each for to in strange for one in persons for each in gone.get((one, to), ())]
        if made or device in own:
            holders += [each for recipient in strange for each in by_key.get(recipient, ())]
        if any(holder not in itself for holder in holders):
            found.update((each, gift.agreement) for each in persons)
    return frozenset(found)
