"""A teacher's reading keys, to which hand-ins of a class are wrapped (docs/protocol.md, "Reading keys").

Rules:
- each device of a teacher makes a key of its own for each class where its grant makes its person a teacher, and is
  given those of the teacher's other devices in that class once one of them has confirmed it, so that it reads what came
  before (`confirming`): the server's word alone gives it none;
- a key is durable in DIR before an entry names it; those that were given lie in the set, sealed, and nowhere else;
- it is said in its class alone, and sealed there alone, to each confirmed device of the same person and to the latest
  phrase that one of these drew: who is not let into a class, or was cut off there, is given its keys in no other;
- what it says it says with its own two keys, as whose it came in first: under any other grant nobody hears it;
- in a class that was closed nothing more is said;
- when a device of the same person is cut off in the class, another key is made for it, which is said in the place of
  the one before, whatever may be seen of what that device was given; of keys that are spent again and again, few are
  replaced within an hour, and where none of hers ever led to the device, within a week.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Container, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Final, TypeAlias

from protocol.entry import Entry, Kind, parsed
from protocol.errors import Code, PeerFault, Refused
from protocol.identity import AgreementKey
from protocol.kit import Argon2Cost
from protocol.limits import (
    MAX_GIVEN_READING_KEYS,
    MAX_OWN_READING_KEYS,
    MAX_PARENTS,
    MAX_READING_KEYS_AT_ONCE,
    MAX_WRAPS_PER_ENTRY,
    READING_KEY_LONG_PAUSE_MS,
    READING_KEY_PAUSE_MS,
    SALT_BYTES,
)
from protocol.person_keys import (
    PHRASE_WORDS,
    Derivation,
    KeyWraps,
    PhraseKey,
    SaidPhrase,
    drawn_of,
    open_reading_key,
    phrase_key,
    phrase_of,
    seal_reading_key,
    worth_trying,
)
from protocol.replica.replica import Draft
from protocol.rights import Authority, Door
from protocol.roles import HAS_READING_KEYS
from protocol.roster import Roster, away_of
from protocol.structure import PersonKey
from protocol.vouching import Device, Vouch, Word, drawn_by, phrase_signer, prove
from sync_agent.app import Agent
from sync_agent.keys.confirming import confirmations_due, own_device, own_in_use, remember_firsts
from sync_agent.machine.marks import KEY_MADE_MARKS
from sync_agent.machine.reading_key_file import OwnKey

_NOTE_BYTES: Final = 16
_Derived: TypeAlias = dict[Derivation, AgreementKey]
"""What a phrase gives for a person and a salt, at a cost."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A space in which this device stands for a teacher, and what is said there about the teacher's keys.

    `said` are the keys that this device has written down there, as far as that counts; `own` all that it wrote so;
    `made` those that it made for that space and that teacher, the newest first, and `before` what else it said there:
    under another id of the same teacher's, or the keys of all classes of an earlier version.
    """

    space: bytes
    grant: Authority
    person: bytes
    roster: Roster
    made: tuple[AgreementKey, ...]
    before: tuple[AgreementKey, ...]
    said: frozenset[bytes]
    own: tuple[tuple[Entry, bytes], ...]
    wraps: tuple[tuple[Entry, KeyWraps], ...]

    @property
    def current(self) -> AgreementKey | None:
        """This device's newest key there."""
        return self.made[0] if self.made else None

    @property
    def is_closed(self) -> bool:
        """Whether it is a class that was closed: what is said there is destroyed everywhere at the next look."""
        return self.space in self.roster.erased


async def tend_reading_keys(agent: Agent) -> int:
    """Say, seal and replace reading keys where that is due; how many entries that took."""
    await remember_firsts(agent)
    async with agent.writing:
        places = [place for place in await _places(agent) if not place.is_closed]
        if not places:
            return 0
        await open_given_keys(agent)
        places = await _with_keys_due(agent, places)
        drafts = []
        for place in places:
            drafts += _sayings_due(place, agent.enrolment.device_name)
            drafts += _seals_due(agent, place)
        drafts += confirmations_due(agent, [(place.space, place.grant, place.roster) for place in places])
        if drafts:
            await agent.write(*drafts)
    return len(drafts)


# --- making keys ------------------------------------------------------------------------------------------------------


async def _with_keys_due(agent: Agent, places: Sequence[_Place]) -> list[_Place]:
    """The places with a new key in each that has none, or whose newest one may be in wrong hands.

    For whom that was done is noted after the key is durable: in a crash a key is made too many rather than too few.
    """
    found, notes = [], dict[str, bytes | None]()
    made: list[OwnKey] = []
    room = MAX_OWN_READING_KEYS - len(agent.own_reading_keys())
    for place in places:
        own = own_in_use(agent, place.roster, place.person)
        away, led_to = _away_of_theirs(agent, place, own)
        mark = KEY_MADE_MARKS + place.space.hex()
        before = _notes_in(await agent.replica.store.mark(mark) or b"")
        noted = before - _notes_of(device for device, _ in own)
        if len(made) < room and _is_due(place, away - noted, led_to - noted, agent.now_ms()):
            made.append(OwnKey(AgreementKey(agent.entropy(32)), place.space, place.person))
            found.append(replace(place, made=(made[-1].key, *place.made)))
            noted |= away
        else:
            found.append(place)
        if noted != before:
            notes[mark] = b"".join(sorted(noted))
    if made:
        agent.keep_reading_keys(made)
    if notes:
        await agent.replica.store.set_marks(notes)
    return found


def _is_due(place: _Place, away: Collection[bytes], led_to: Collection[bytes], now_ms: int) -> bool:
    """Whether a place has no key, or another is to be made for those who are `away` since the newest was."""
    if place.current is None:
        return True
    is_spent = (place.person, place.current.public) in place.roster.spent
    pause_ms = READING_KEY_PAUSE_MS if is_spent or led_to else READING_KEY_LONG_PAUSE_MS
    return (is_spent or bool(away)) and _may_make_another(place, now_ms, pause_ms)


def _away_of_theirs(agent: Agent, place: _Place, own: Collection[Device]) -> tuple[frozenset[bytes], frozenset[bytes]]:
    """Notes of the devices that were ever let in as this teacher's and are cut off in the place, or back unconfirmed.

    The second ones are those to which one of the teacher's `own` led: whoever may let devices in invents others.
    Whatever is hidden or held back of what they were given: they may have had it. But for a key of nobody that was let
    in beside the X25519 key of a device in use, or of a phrase.
    """
    roster = place.roster
    drawn = {said.agreement for by, said in roster.phrases.get(place.person, ()) if by in own}
    in_use = {agreement for _, agreement in own} | drawn
    away = frozenset(
        key
        for key in away_of(roster.cut, roster.voices) - {agent.device}
        for given in agent.replica.door.authorities_of(key)
        if given.person is not None
        and given.agreement not in in_use
        and roster.who(given.person) == roster.who(place.person)
    )
    said = (roster.voices.words, roster.voices.over)
    led_to = {word.device[0] for device in own for words in said for word in words.get(device, ()) if word.is_own}
    return _notes_of(away), _notes_of(away & led_to)


def _notes_of(devices: Iterable[bytes]) -> frozenset[bytes]:
    return frozenset(device[:_NOTE_BYTES] for device in devices)


def _notes_in(mark: bytes) -> frozenset[bytes]:
    return frozenset(mark[at : at + _NOTE_BYTES] for at in range(0, len(mark), _NOTE_BYTES))


def _may_make_another(place: _Place, now_ms: int, pause_ms: int) -> bool:
    """Whether this device has made few keys there of late: nothing that spends them again and again goes on so."""
    made = {key for entry, key in place.own if abs(now_ms - entry.timestamp_ms) < pause_ms}
    return len(made) < MAX_READING_KEYS_AT_ONCE


def _sayings_due(place: _Place, name: str) -> list[Draft]:
    """What says a place's newest key instead of those before it, where that was not said, or not of all of them."""
    current = place.current
    if current is None:
        return []
    before = _to_replace(place, current.public)
    if current.public in place.said and not any(one not in place.roster.held_back for one in before):
        return []
    payload = PersonKey(current.public, name).encode()
    return [
        _draft(place, Kind.PERSON_KEY, payload, parents=tuple(sorted(before[at : at + MAX_PARENTS])))
        for at in range(0, max(len(before), 1), MAX_PARENTS)
    ]


def _to_replace(place: _Place, key: bytes) -> list[bytes]:
    """The entries in whose place a key is said: this device's of the keys that it had made before.

    Of no other: two copies of one disk would replace each other's keys for ever.
    """
    earlier = {each.public for each in (*place.made, *place.before)} - {key}
    named = {name for entry, _ in place.own for name in entry.header.parents}
    of_earlier = [entry for entry, said in place.own if said in earlier and entry.id not in named]
    return [entry.id for entry in of_earlier if place.roster.tells_of_keys(entry)]


def reading_keys(agent: Agent) -> dict[bytes, AgreementKey]:
    """All reading keys that this device can use, of all classes, by public half."""
    given = {name: key for keys in agent.given_reading_keys.values() for name, key in keys.items()}
    return {**given, **{each.key.public: each.key for each in agent.own_reading_keys()}}


def _keys_of(agent: Agent, place: _Place) -> dict[bytes, AgreementKey]:
    """Those of a place: what this device made for it, or was given there by who had it. Of no other is anything sealed.

    Who says a key is not asked: whoever says another class's as theirs has it sealed to them so.
    """
    own = {key.public: key for key in (*place.made, *place.before)}
    return {**agent.given_reading_keys.get(place.space, {}), **own}


async def new_phrase(agent: Agent, cost: Argon2Cost | None = None) -> str:
    """Draw a phrase that opens the teacher's keys on another device; it takes the place of an earlier one.

    Raises `Refused(NO_RIGHT)` on a device that stands for no teacher.
    """
    cost = cost or Argon2Cost()
    derived: _Derived = {}
    places = await _places_or_refuse(agent)
    drawn, salt = agent.entropy(PHRASE_WORDS), agent.entropy(SALT_BYTES)
    await _derive(derived, drawn, [(place.person, cost, salt) for place in places])
    async with agent.writing:
        places = await _places_or_refuse(agent)
        await _derive(derived, drawn, [(place.person, cost, salt) for place in places])
        await open_given_keys(agent)
        drafts = []
        for place in places:
            key = derived[place.person, cost, salt]
            public, signer = key.public, phrase_signer(key.seed)
            proof = drawn_by(signer, place.person, (agent.device, place.grant.agreement), place.space)
            said = PhraseKey(public, salt, cost, signer.public, proof)
            drafts.append(_draft(place, Kind.PHRASE, said.encode()))
            drafts += _seals(agent, place, {public: _keys_of(agent, place)})
        await agent.write(*drafts)
    return phrase_of(drawn)


async def open_with_phrase(agent: Agent, phrase: str) -> int:
    """Take the teacher's keys that a phrase opens, and seal them to this device; how many it did not have yet.

    Raises `BadInput(USAGE)` for what is no phrase, `Refused(CANNOT_READ)` for one that opens nothing here,
    `Refused(NO_RIGHT)`.
    """
    drawn = drawn_of(phrase)
    derived: _Derived = {}
    await _derive(derived, drawn, await _to_try(agent, await _places_or_refuse(agent)))
    async with agent.writing:
        opened: defaultdict[bytes, dict[bytes, AgreementKey]] = defaultdict(dict)
        drafts: list[Draft] = []
        places = await _places_or_refuse(agent)
        await _derive(derived, drawn, await _to_try(agent, places))
        for place in places:
            for said in await _phrases_said(agent, place):
                key = derived.get(said.derivation)
                if key is not None and key.public == said.key.agreement:
                    drafts += _proofs(agent, place, key)
                    records = [each for _, each in place.wraps]
                    opened[place.space] |= _opened(place.person, records, {key.public: key})
        names = {name for keys in opened.values() for name in keys}
        if not names:
            raise Refused(
                Code.CANNOT_READ, "this phrase opens none of your keys here: compare it with the paper, or sync first"
            )
        new = len(names - reading_keys(agent).keys())
        mine = agent.keys.agreement.public
        for place in places:
            here = opened[place.space]
            agent.given_reading_keys.setdefault(place.space, {}).update(here)
            sealers = {device[0] for device in own_in_use(agent, place.roster, place.person)}
            drafts += _seals(agent, place, {mine: _lacking(place, mine, here, sealers)})
        if drafts:
            await agent.write(*drafts)
    return new


async def open_given_keys(agent: Agent) -> None:
    """Open what other devices of this teacher have sealed to this one, of the keys that are kept (`_kept_of`)."""
    persons = {
        grant.person
        for grant in await agent.own_rights()
        if grant.role in HAS_READING_KEYS and grant.person is not None
    }
    mine = agent.keys.agreement
    rosters: dict[bytes, Roster] = {}
    sealed: defaultdict[bytes, dict[bytes, list[tuple[bytes, KeyWraps]]]] = defaultdict(dict)
    for entry in await agent.replica.store.scan_kinds([Kind.KEY_WRAP]) if persons else ():
        person, space = entry.header.subject, entry.header.space
        if space not in rosters:
            rosters[space] = (await agent.replica.view(space)).roster
        # who was added twice has laptops under either id; it is who seals that must have confirmed this one
        if person is None or rosters[space].who(person) not in map(rosters[space].who, persons):
            continue
        try:
            record = KeyWraps.parse(entry.payload or b"")
        except PeerFault:
            continue
        if any(recipient == mine.public for recipient, _ in record.wraps):
            sealed[space].setdefault(record.agreement, []).append((person, record))
    for space, here in sealed.items():
        given = agent.given_reading_keys.get(space, {})
        kept = _kept_of(rosters[space], here)
        found = {name: key for name, key in given.items() if name in kept or name not in here}
        for name in kept - found.keys():
            for person, record in here[name]:
                if name not in found:
                    found |= _opened(person, [record], {mine.public: mine})
        agent.given_reading_keys[space] = found


def _kept_of(roster: Roster, names: Collection[bytes]) -> set[bytes]:
    """Which of a class's keys that are sealed to this device it keeps; that follows from the set alone.

    So many of those that devices have said whose right holds, each device's in turn, the earliest first; and so many of
    all others: what whoever was cut off since has made takes no place from these. What is in use is kept in any case.
    """
    in_use = {name for keys in roster.reading_keys.values() for name in keys if name in names}
    said: defaultdict[Device, dict[bytes, None]] = defaultdict(dict)
    holding: set[Device] = set()
    for name, devices in roster.said_by.items():
        for device in devices if name in names else ():
            said[device][name] = None
            if device[0] not in roster.cut:
                holding.add(device)
    first = _in_turn(said[device] for device in sorted(holding))[:MAX_GIVEN_READING_KEYS]
    others = [said[device] for device in sorted(said.keys() - holding)]
    unsaid = sorted(set(names).difference(*said.values()))
    rest = [name for name in _in_turn([*others, unsaid]) if name not in first]
    return {*first, *rest[:MAX_GIVEN_READING_KEYS], *in_use}


def _in_turn(lists: Iterable[Iterable[bytes]]) -> list[bytes]:
    """The first of each, then the second ones."""
    return list(dict.fromkeys(name for turn in zip_longest(*lists) for name in turn if name is not None))


# --- what is said in a space ------------------------------------------------------------------------------------------


async def _places(agent: Agent) -> list[_Place]:
    door = agent.replica.door
    teaching = [grant for grant in await agent.own_rights() if grant.role in HAS_READING_KEYS]
    found = []
    for space in await agent.spaces() if teaching else ():
        here = [grant for grant in teaching if grant.person is not None and door.covers(grant, space)]
        # as whose it came in first: whoever writes grants calls it somebody else's later
        if here and (person := here[0].person) is not None:
            nearest, *_ = _nearest_first([grant for grant in here if grant.person == person], door)
            found.append(await _place(agent, space, nearest, person))
    return found


def _nearest_first(teaching: Iterable[Authority], door: Door) -> list[Authority]:
    """The grant of the class before that of the school, the last before those that it may have let back in."""
    ranked = sorted(enumerate(teaching), key=lambda each: (-len(door.lineage(each[1].space)), -each[0]))
    return [grant for _, grant in ranked]


async def _places_or_refuse(agent: Agent) -> list[_Place]:
    places = await _places(agent)
    if not places:
        raise Refused(Code.NO_RIGHT, "this device stands for no teacher, and has no keys to hand-ins")
    return places


async def _place(agent: Agent, space: bytes, grant: Authority, person: bytes) -> _Place:
    written = await agent.replica.store.authored(space, agent.device)
    roster = (await agent.replica.view(space)).roster
    wraps = []
    for entry in await _about(agent, space, Kind.KEY_WRAP, person, roster):
        try:
            wraps.append((entry, KeyWraps.parse(entry.payload or b"")))
        except PeerFault:
            continue
    own = tuple(_own_keys(written))
    said = frozenset(_said(own, roster, grant.grant))
    made, before = _made_for(agent, space, person, roster, {key for _, key in own})
    return _Place(space, grant, person, roster, made, before, said, own, tuple(wraps))


def _made_for(
    agent: Agent, space: bytes, person: bytes, roster: Roster, said: Container[bytes]
) -> tuple[tuple[AgreementKey, ...], tuple[AgreementKey, ...]]:
    """This device's keys of a space for its teacher, the newest first; and those that it `said` there before."""
    keys = agent.own_reading_keys()
    theirs = [each for each in keys if each.space == space and roster.who(each.person or b"") == roster.who(person)]
    of_all = [each.key for each in keys if each.space is None and each.key.public in said]
    made = [each.key for each in theirs if each.person == person]
    return tuple(made), (*(each.key for each in theirs if each.person != person), *of_all)


def _said(own: Iterable[tuple[Entry, bytes]], roster: Roster, grant: bytes) -> Iterable[bytes]:
    """The keys that this device has written down here, as far as that counts.

    What is held back is said again, once under each grant; and what a copy of this device has replaced, or it did
    itself before its disk was restored.
    """
    counts = (each for each in own if each[0].id not in roster.replaced)
    return (key for entry, key in counts if entry.id not in roster.held_back or entry.header.grant == grant)


def _own_keys(written: Iterable[Entry]) -> Iterable[tuple[Entry, bytes]]:
    """The entries by which this device has written down a reading key, each with the key."""
    for entry in written:
        key = parsed(entry, PersonKey.parse) if entry.header.kind == Kind.PERSON_KEY else None
        if key is not None:
            yield entry, key.agreement


async def _phrases_said(agent: Agent, place: _Place) -> list[SaidPhrase]:
    """Every phrase that was ever drawn: what an older one opened, it opens still."""
    found = []
    for entry in await _about(agent, place.space, Kind.PHRASE, place.person, place.roster):
        header = entry.header
        try:
            key = PhraseKey.parse(entry.payload or b"")
        except PeerFault:
            continue
        line, speaks = agent.replica.door.origin(header.author), place.roster.speaks(header.grant)
        found.append(SaidPhrase(place.person, key, line, speaks, header.at, entry.id))
    return found


async def _to_try(agent: Agent, places: Iterable[_Place]) -> list[Derivation]:
    """What is derived of a phrase that somebody types here."""
    return worth_trying([said for place in places for said in await _phrases_said(agent, place)])


async def _derive(derived: _Derived, drawn: bytes, wanted: Iterable[Derivation]) -> None:
    """Add what is wanted and not there yet: each costs what a guess costs, and is derived beside everything else.

    To be called before the store is held, and again under it for what came in between.
    """
    for at in wanted:
        if at not in derived:
            person, cost, salt = at
            derived[at] = await asyncio.to_thread(phrase_key, drawn, person, salt, cost)


async def _about(agent: Agent, space: bytes, kind: Kind, person: bytes, roster: Roster) -> list[Entry]:
    """What a teacher's devices have said of a kind, without what is held back: it moves nothing."""
    door = agent.replica.door
    return [
        entry
        for entry in await agent.replica.store.scan_kinds([kind])
        if entry.header.space == space
        and entry.header.subject == person
        and not roster.hides(entry)
        and (authority := door.authority(entry.header.grant)) is not None
        and authority.person == person
    ]


# --- sealing and opening ----------------------------------------------------------------------------------------------


def _opened(
    person: bytes, records: Iterable[KeyWraps], recipients: dict[bytes, AgreementKey]
) -> dict[bytes, AgreementKey]:
    found: dict[bytes, AgreementKey] = {}
    for record in records:
        for recipient, sealed in record.wraps:
            if recipient in recipients and record.agreement not in found:
                try:
                    found[record.agreement] = open_reading_key(sealed, person, record.agreement, recipients[recipient])
                except PeerFault:
                    continue
    return found


def _seals_due(agent: Agent, place: _Place) -> list[Draft]:
    """Every key of the place for each confirmed device of the teacher, and for their latest phrase, that lacks it."""
    own = own_in_use(agent, place.roster, place.person)
    person, standings = place.roster.who(place.person), place.roster.voices.standings
    granted = {device for device in own if (device, person) in standings}
    wanted = {device[1] for device in granted} - {agent.keys.agreement.public}
    phrases = [phrase for author, phrase in place.roster.phrases.get(place.person, ()) if author in own]
    wanted |= {phrase.agreement for phrase in phrases[-1:]}
    keys = _keys_of(agent, place)
    # what a device says that it gave itself goes with its word: another one says it as well, for when it is lost
    sealers = {to: {device[0] for device in own if device[1] != to} for to in wanted}
    return _seals(agent, place, {to: _lacking(place, to, keys, sealers[to]) for to in sorted(wanted)})


def _lacking(
    place: _Place, recipient: bytes, keys: dict[bytes, AgreementKey], sealers: Container[bytes]
) -> dict[bytes, AgreementKey]:
    """Those keys that none of the teacher's devices that count, the `sealers`, has sealed to the recipient here.

    What others say they sealed proves nothing: it might not open.
    """
    done = {
        record.agreement
        for entry, record in place.wraps
        if entry.header.author in sealers and any(to == recipient for to, _ in record.wraps)
    }
    return {public: key for public, key in keys.items() if public not in done}


def _seals(agent: Agent, place: _Place, wanted: dict[bytes, dict[bytes, AgreementKey]]) -> list[Draft]:
    by_key: dict[bytes, list[tuple[bytes, bytes]]] = {}
    for recipient, keys in wanted.items():
        for public, key in keys.items():
            try:
                sealed = seal_reading_key(key, place.person, recipient, agent.entropy(32))
            except PeerFault:
                continue  # a device whose key is of low order reads nothing
            by_key.setdefault(public, []).append((recipient, sealed))
    return [
        _draft(place, Kind.KEY_WRAP, KeyWraps(public, tuple(wraps[start : start + MAX_WRAPS_PER_ENTRY])).encode())
        for public, wraps in by_key.items()
        for start in range(0, len(wraps), MAX_WRAPS_PER_ENTRY)
    ]


def _proofs(agent: Agent, place: _Place, key: AgreementKey) -> list[Draft]:
    """That who knows the phrase uses this device, for the teacher's others; and that its drawer is the teacher's."""
    signer, mine = phrase_signer(key.seed), own_device(agent)
    proof = prove(signer, place.person, mine, place.grant.grant).encode()
    words = place.roster.voices.words
    person = place.roster.who(place.person)
    theirs = place.roster.voices.firsts.get(person, ())
    is_known = any(_is_confirmed_own(words.get(device, ()), mine, person) for device in theirs if device != mine)
    drafts = [] if is_known else [_draft(place, Kind.VOUCH, proof, place.grant.grant)]
    drawers = {
        device
        for device, phrase in place.roster.phrases.get(place.person, ())
        if phrase.agreement == key.public and phrase.signing == signer.public and device != mine
    }
    for each in place.roster.authorities:
        device = (each.key, each.agreement)
        is_theirs = each.person is not None and place.roster.who(each.person) == person
        if device in drawers and is_theirs and not _is_confirmed_own(words.get(mine, ()), device, person):
            drafts.append(_draft(place, Kind.VOUCH, Vouch().encode(), each.grant))
            drawers.discard(device)
    return drafts


def _is_confirmed_own(words: Iterable[Word], device: Device, person: bytes) -> bool:
    return any(word.is_own and (word.device, word.person) == (device, person) for word in words)


def _draft(
    place: _Place, kind: Kind, payload: bytes, target: bytes | None = None, parents: tuple[bytes, ...] = ()
) -> Draft:
    return Draft(place.space, kind, place.grant.grant, payload, subject=place.person, target=target, parents=parents)
