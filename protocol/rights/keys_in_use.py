"""Whose reading keys of a space are in use, and which are spent by what was cut off (docs/protocol.md, "Roster").

Rules:
- nothing about a key counts from anybody but a device of the person whom it is about, by the grant that it wrote under;
- what a device that is away as its teacher's has made, or was given, is spent: nothing more is sealed to it;
- a key in whose place its own device has said another is over, whatever else is hidden or held back of either;
- what the devices in use of the same person hold is not spent by whoever names it beside a key of nobody.

Pure; called by the roster alone.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from functools import cache
from typing import Final, NamedTuple, TypeAlias

from protocol.limits import MAX_PHRASES_LOOKED_AT, MAX_READING_KEYS_PER_DEVICE
from protocol.model.entry import Entry, Kind, parsed
from protocol.model.structure import PersonKey
from protocol.rights.door import Authority, Door
from protocol.rights.speaking import Led
from protocol.rights.vouching import Away, Device, is_drawn_by
from protocol.roles import HAS_READING_KEYS
from protocol.trust.person_keys import KeyWraps, PhraseKey

Key: TypeAlias = tuple[bytes, bytes]
"""A teacher, or a key that signs, and an X25519 key as that one's."""
_NOBODY: Final = frozenset[bytes]()


class Doubted(NamedTuple):
    """The entries that are held back, and the grants under which nobody speaks."""

    held_back: Container[bytes]
    unheard: Container[bytes]


def replaced_keys(entries: Iterable[Entry]) -> frozenset[bytes]:
    """Which of the entries that say a key have had another said in their place by their own author (`parents`).

    As whosever's and under whichever grant, and held back or not: only who said a key replaces it, for good.
    """
    said = {entry.id: entry.header for entry in entries if entry.header.kind == Kind.PERSON_KEY}
    return frozenset(
        name
        for header in said.values()
        for name in header.parents
        if name in said and said[name].author == header.author
    )


def keys_in_use(
    entries: Iterable[Entry], door: Door, cut: frozenset[bytes], spent: frozenset[Key], replaced: frozenset[bytes]
) -> tuple[dict[bytes, tuple[bytes, ...]], dict[bytes, frozenset[Device]]]:
    """Whom hand-ins are sealed to: each teacher's keys, oldest first; and which devices made each.

    Of one device the latest `MAX_READING_KEYS_PER_DEVICE` count that it has not replaced: an honest one puts another
    in the place of one that may be in wrong hands.
    """
    said: defaultdict[bytes, dict[bytes, set[Device]]] = defaultdict(dict)
    for person, device, entry in _by_their_own(entries, Kind.PERSON_KEY, door):
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


def whose_keys(entries: Iterable[Entry], door: Door, aliases: Mapping[bytes, bytes]) -> dict[bytes, frozenset[bytes]]:
    """Whose each reading key is that was ever said, under the one id under which somebody is listed."""
    found: defaultdict[bytes, set[bytes]] = defaultdict(set)
    for person, _, entry in _by_their_own(entries, Kind.PERSON_KEY, door):
        if (key := parsed(entry, PersonKey.parse)) is not None:
            found[key.agreement].add(aliases.get(person, person))
    return {key: frozenset(persons) for key, persons in found.items()}


def said_by(entries: Iterable[Entry], door: Door) -> dict[bytes, frozenset[Device]]:
    """The devices that ever said each reading key."""
    found: defaultdict[bytes, set[Device]] = defaultdict(set)
    for _, device, entry in _by_their_own(entries, Kind.PERSON_KEY, door):
        if (key := parsed(entry, PersonKey.parse)) is not None:
            found[key.agreement].add(device)
    return {key: frozenset(devices) for key, devices in found.items()}


def phrases_of(
    entries: Iterable[Entry], door: Door, cut: frozenset[bytes]
) -> dict[bytes, tuple[tuple[Device, PhraseKey], ...]]:
    """The phrases of each teacher, oldest first, each with the device that drew it: of one device the latest."""
    said = [each for each in _by_their_own(entries, Kind.PHRASE, door) if each[-1].header.author not in cut]
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


def keys_spent(
    heard: Sequence[Entry],
    given: Iterable[Entry],
    door: Door,
    away: Away,
    gone: Mapping[Key, Collection[bytes]],
    aliases: Mapping[bytes, bytes],
    doubted: Doubted,
    leading: tuple[Led, Led],
    phrases: Mapping[bytes, Iterable[tuple[Device, PhraseKey]]],
) -> frozenset[Key]:
    """The reading keys, each with its teacher, that a device which is `away` as that teacher's has made or was given.

    `gone` are the keys of devices that are, with who signs for each; `heard` is what counts, and `given` are all
    entries that say that a key was given to somebody. Whoever has the server holds such a one back, or has it said
    under a grant that nobody confirmed, or as another person's, beforehand: where who made the key says so, it counts
    all the same; where another device of the same person does, though it is held back. What either says, if it is in
    use, counts whosever that device is by the lists of today; and what is given to the X25519 key of a device in use to
    which an id's own are `leading` (now, and once), or of one of its `phrases`, is given to nobody else. Nor does
    anybody else spend a key that one of these has said as that id's, whosever he says it is. But for what somebody says
    of themselves: a lost laptop would spend each new key of hers by saying that it was given it; or that one was of
    whom nobody knows, as hers let in and cut off for that: of what is held back of who is away only those count as
    given a key to whom an id's own lead, or led.
    """
    if not any(away):
        return frozenset()
    now, once = (_of_each(led, aliases) for led in leading)
    by_key = _whoever_they_are(gone)

    def is_away(device: Device, person: bytes) -> bool:
        return away.has(device, aliases.get(person, person))

    papers: defaultdict[bytes, set[bytes]] = defaultdict(set)
    for id_, drawer, agreement in _of_phrases(phrases, is_away):
        if drawer in now(id_) or drawer in once(id_):
            papers[id_].add(agreement)

    @cache  # many gifts are of few persons
    def held_by(persons: frozenset[bytes]) -> tuple[frozenset[Device], frozenset[bytes]]:
        own = frozenset(device for each in persons for device in now(each) if not is_away(device, each))
        return own, _kept_by(own, *(papers[each] for each in persons))

    @cache
    def signers(person: bytes, to: bytes, *, of_own: bool) -> Collection[bytes]:
        """Who signs for what is gone of a person beside an X25519 key; of those alone whom the person's own lead to."""
        those = gone.get((aliases.get(person, person), to), ())
        if not of_own:
            return those
        return [key for key, _ in _led_to(((key, to) for key in those), (now(person), once(person)))]

    def is_theirs(person: bytes, device: Device, entry: Entry) -> bool:
        return _is_theirs(entry, device, doubted, (now(person), once(person)))

    said = [
        (person, device, key.agreement, is_theirs(person, device, entry))
        for person, device, entry in _by_their_own(heard, Kind.PERSON_KEY, door)
        if (key := parsed(entry, PersonKey.parse)) is not None
    ]
    theirs_alone = _made_by_their_own(said)
    found, claimed = set[Key](), defaultdict[Key, set[bytes]](set)
    for person, device, agreement, theirs in said:
        if theirs or (person, agreement) not in theirs_alone:
            claimed[device[0], agreement].add(person)
            if is_away(device, person):
                found.add((person, agreement))
    made_as = {key: frozenset(persons) for key, persons in claimed.items()}
    spent_by_maker: set[Key] = set()
    for person, device, entry in _by_their_own(given, Kind.KEY_WRAP, door):
        gift, author = parsed(entry, KeyWraps.parse), entry.header.author
        if gift is None:
            continue
        made = made_as.get((author, gift.agreement), _NOBODY)
        counts = is_theirs(person, device, entry) or (bool(made) and (person, gift.agreement) not in theirs_alone)
        # as whose it is given: as whose its author made it, which many gifts share, and as this one's
        alone = frozenset({person}) if counts else _NOBODY
        itself = author if entry.id in doubted.held_back else None
        kept, (own, kept_alone) = held_by(made)[1], held_by(alone)
        strange = [to for to in {recipient for recipient, _ in gift.wraps} if to not in kept and to not in kept_alone]
        if made or device in own:
            holders = (each for to in strange for each in by_key.get(to, ()))
        else:
            of_own = itself is not None and is_away(device, person)
            holders = (each for to in strange for one in alone for each in signers(one, to, of_own=of_own))
        # two of them are looked at, at most: only one is `itself`
        if any(holder != itself for holder in holders):
            found.update((each, gift.agreement) for each in alone)
            spent_by_maker.add((author, gift.agreement))
    found.update((each, maker[1]) for maker in spent_by_maker for each in made_as.get(maker, ()))
    return frozenset(found)


def _of_each(led: Led, aliases: Mapping[bytes, bytes]) -> Callable[[bytes], Collection[Device]]:
    """To which devices an id's own lead; of one that has none of its own, those of the others that a list calls it."""
    listed: defaultdict[bytes, set[Device]] = defaultdict(set)
    for id_, devices in led.items():
        listed[aliases.get(id_, id_)] |= devices
    return lambda person: led[person] if person in led else listed.get(aliases.get(person, person), set())


def _made_by_their_own(said: Iterable[tuple[bytes, Device, bytes, bool]]) -> frozenset[Key]:
    """The keys that a device of the teacher has said as the teacher's."""
    return frozenset((person, agreement) for person, _, agreement, theirs in said if theirs)


def _is_theirs(entry: Entry, device: Device, doubted: Doubted, own: Iterable[Container[Device]]) -> bool:
    """Whether one of somebody's devices said it: that a list calls it theirs is not enough."""
    return entry.header.grant not in doubted.unheard and any(device in devices for devices in own)


def _led_to(devices: Iterable[Device], own: Iterable[Container[Device]]) -> list[Device]:
    """Those of the devices that are among somebody's."""
    return [device for device in devices if any(device in devices_of for devices_of in own)]


def _kept_by(own: Iterable[Device], *papers: Iterable[bytes]) -> frozenset[bytes]:
    """The X25519 keys of somebody's devices in use, and of their phrases: a gift to these is one to nobody else."""
    return frozenset(agreement for _, agreement in own).union(*papers)


def _of_phrases(
    phrases: Mapping[bytes, Iterable[tuple[Device, PhraseKey]]], is_away: Callable[[Device, bytes], bool]
) -> Iterable[tuple[bytes, Device, bytes]]:
    """As whose each phrase was drawn, by which device that is not away as that one's, and its X25519 key."""
    return ((id_, by, said.agreement) for id_, drawn in phrases.items() for by, said in drawn if not is_away(by, id_))


def _whoever_they_are(gone: Mapping[Key, Collection[bytes]]) -> dict[bytes, set[bytes]]:
    """The keys of devices that are gone by their X25519 keys alone."""
    found: defaultdict[bytes, set[bytes]] = defaultdict(set)
    for (_, agreement), signers in gone.items():
        found[agreement].update(signers)
    return dict(found)


def keys_cut_off(authorities: Iterable[Authority], away: Away, aliases: Mapping[bytes, bytes]) -> dict[Key, set[bytes]]:
    """The X25519 keys of each teacher's devices that are away as that one's, with the keys that sign for these.

    Nothing proves whose an X25519 key is: that another machine, cut off or not, says it is its own means nothing here.
    """
    found: defaultdict[Key, set[bytes]] = defaultdict(set)
    for each in authorities:
        whose = None if each.role not in HAS_READING_KEYS else each.person
        if whose is not None and away.has((each.key, each.agreement), aliases.get(whose, whose)):
            found[whose, each.agreement].add(each.key)
    return dict(found)


def keys_held(
    claimed: Collection[Key],
    living: Iterable[Authority],
    away: Away,
    phrases: Mapping[bytes, Iterable[tuple[Device, PhraseKey]]],
    aliases: Mapping[bytes, bytes],
    led: tuple[Led, Led],
) -> frozenset[Key]:
    """Those of the keys, `claimed` as each teacher's, that the teacher's devices in use hold, or drew as phrases.

    Whoever may write grants names them beside a signing key of their own, which is then cut off: that spends nothing.
    Of devices that are `away` none counts, nor a phrase of theirs: a lost laptop can have drawn one with its own X25519
    key. A device holds what it has for each id of its person whose own devices have `led` to it (now; what it drew,
    also once), and for one that has none: for no other, whatever lists call the same, and whatever it is granted as.
    """
    now, once = led
    granted = [
        (each.person, (each.key, each.agreement), each.agreement)
        for each in living
        if each.person is not None and each.role in HAS_READING_KEYS
    ]
    drawn = [(person, device, phrase.agreement) for person, said in phrases.items() for device, phrase in said]
    held: set[Key] = set()
    for those, leading in ((granted, (now,)), (drawn, (now, once))):
        theirs = {
            (aliases.get(id_, id_), device) for ids in leading for id_, led_to in ids.items() for device in led_to
        }
        holders: defaultdict[Key, set[Device]] = defaultdict(set)
        for person, device, agreement in those:
            one = aliases.get(person, person)
            if not away.has(device, one) and (one, device) in theirs:
                holders[one, agreement].add(device)
                if person not in now:
                    held.add((person, agreement))
        for person, agreement in claimed:
            have = holders.get((aliases.get(person, person), agreement))
            # of two sets the smaller is walked: that many devices hold a key, or lead to one, costs no square
            if have and any(not have.isdisjoint(ids.get(person, ())) for ids in leading):
                held.add((person, agreement))
    return frozenset(held.intersection(claimed))


def _by_their_own(entries: Iterable[Entry], kind: Kind, door: Door) -> Iterable[tuple[bytes, Device, Entry]]:
    """Entries of a kind that a teacher's own device wrote about its teacher, oldest first, each with the device.

    Nothing about a key counts from anybody else: the subject is the person whom the author's own grant names.
    """
    for entry in sorted(entries, key=lambda entry: (entry.header.at, entry.id)):
        if entry.header.kind != kind or entry.payload is None or entry.header.subject is None:
            continue
        authority = door.authority(entry.header.grant)
        if authority is not None and authority.person == entry.header.subject and authority.role in HAS_READING_KEYS:
            yield entry.header.subject, (authority.key, authority.agreement), entry
