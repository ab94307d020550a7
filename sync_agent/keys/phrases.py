"""A teacher's phrase: eight words on paper that open the reading keys on another device ("Reading keys", K14 to K22).

Rules:
- the words are drawn, and lie nowhere but on the paper;
- one is in force: who draws another says it in the place of all those before, whichever of the teacher's devices drew
  them, and whatever hides them just then (docs/adr/0565); no key is sealed to these any more, and each device makes
  another in the place of what they open (docs/adr/0225); what was sealed to that stays open to whoever has the paper
  and a copy of the class;
- the phrase in force opens the classes that came after it was drawn, too: who drew it says it there;
- who types one tries a bounded number, and each costs what a guess costs;
- of the keys that it opens, those that are in use, or came from who drew it, are sealed to this device; of the others a
  bounded number: whoever may let devices in seals keys of nobody to a paper (docs/adr/0247).
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from protocol.errors import Code, PeerFault, Refused
from protocol.identity import AgreementKey
from protocol.limits import MAX_DRAWN_PHRASES, MAX_GIVEN_READING_KEYS, MAX_PARENTS, SALT_BYTES
from protocol.model.entry import Entry, Kind
from protocol.replica.at_work.replica import Draft
from protocol.rights.vouching import Device, Vouch, Word, drawn_by, is_drawn_by, phrase_signer, prove
from protocol.trust.kit import Argon2Cost
from protocol.trust.person_keys import (
    PHRASE_WORDS,
    Derivation,
    PhraseKey,
    SaidPhrase,
    drawn_of,
    phrase_key,
    phrase_of,
    worth_trying,
)
from sync_agent.app import Agent
from sync_agent.keys.confirming import own_device
from sync_agent.keys.key_wraps import keys_to_pass_on, lacking, open_given_keys, opened, reading_keys, seals
from sync_agent.keys.places import Place, about, draft, places_or_refuse
from sync_agent.keys.said_by_space import said_by_space
from sync_agent.machine.enrolled import PHRASE_FILE
from sync_agent.machine.phrase_file import DrawnPhrase, drawn_in, file_of

_Derived: TypeAlias = dict[Derivation, AgreementKey]
"""What a phrase gives for a person and a salt, at a cost."""


async def new_phrase(agent: Agent, cost: Argon2Cost | None = None) -> str:
    """Draw a phrase that opens the teacher's keys on another device; it takes the place of all earlier ones.

    Raises `Refused(NO_RIGHT)` on a device that stands for no teacher.
    """
    cost = cost or Argon2Cost()
    derived: _Derived = {}
    places = await places_or_refuse(agent)
    drawn, salt = agent.entropy(PHRASE_WORDS), agent.entropy(SALT_BYTES)
    await _derive(derived, drawn, [(place.person, cost, salt) for place in places])
    async with agent.writing:
        places = await places_or_refuse(agent)
        await _derive(derived, drawn, [(place.person, cost, salt) for place in places])
        await open_given_keys(agent)
        phrases = {person: _drawn(agent, person, key, salt, cost) for (person, _, _), key in derived.items()}
        drafts = []
        for place in places:
            drafts.append(draft(place, Kind.PHRASE, phrases[place.person].key.encode(), parents=_to_replace(place)))
            public, of_all = phrases[place.person].key.agreement, {key.public: key for key in place.of_all}
            drafts += seals(agent, place, {public: keys_to_pass_on(agent, place)})
            drafts += seals(agent, place, {public: of_all}, of_all=True)
        await agent.write(*drafts)
        agent.secrets.keep(PHRASE_FILE, file_of([*phrases.values()][:MAX_DRAWN_PHRASES]))
    return phrase_of(drawn)


def _to_replace(place: Place) -> tuple[bytes, ...]:
    """The entries in whose place a phrase is drawn: all of the teacher's, hidden or not, of devices in use or not.

    As many as an entry names: each device's in turn, so that none leaves those of another unnamed, first those in
    whose place none was drawn yet, then the newest; in each turn this device's before the others.
    """
    turns = Counter[bytes]()
    ranked: dict[bytes, tuple[int, bool]] = {}
    named: set[tuple[bytes, bytes]] = set()
    for entry, said in sorted(place.phrases_ever, key=lambda each: _newest_first(place, *each)):
        author = entry.header.author
        if (author, said.agreement) not in named:
            named.add((author, said.agreement))
            ranked[entry.id] = turns[author], author != place.grant.key
            turns[author] += 1
    return tuple(sorted(sorted(ranked, key=ranked.__getitem__)[:MAX_PARENTS]))


def _newest_first(place: Place, entry: Entry, said: PhraseKey) -> tuple[bool, int, bytes]:
    return said.agreement in place.replaced, -entry.header.at, entry.id


def _drawn(agent: Agent, person: bytes, key: AgreementKey, salt: bytes, cost: Argon2Cost) -> DrawnPhrase:
    """Signed once, for this device: what signs is forgotten with the words."""
    signer = phrase_signer(key.seed)
    proof = drawn_by(signer, person, own_device(agent))
    return DrawnPhrase(person, PhraseKey(key.public, salt, cost, signer.public, proof))


def phrases_due(agent: Agent, places: Sequence[Place]) -> list[Draft]:
    """The phrase that this device drew, in classes that came later: the paper opens those too.

    As long as none of the teacher's devices has drawn another since, in whichever class that was said. In whose place
    another was drawn is let go of, before it is said anywhere; what is not seen as the last is kept, and said nowhere:
    for a moment that is so of whatever somebody holds back. Where no class is left in which any was said, at the turn
    of a year, it is the one.
    """
    drafts, kept = [], []
    drawn = _drawn_here(agent)
    for phrase in drawn:
        theirs = [place for place in places if place.person == phrase.person]
        if _is_replaced(phrase.key.agreement, theirs):
            continue
        kept.append(phrase)
        is_over = any(place.is_given_up(phrase.key.agreement) for place in theirs)
        if not is_over and _drawn_last(theirs) in (None, phrase.key.agreement):
            lacking = [place for place in theirs if phrase.key.agreement not in place.drawn]
            drafts += [draft(place, Kind.PHRASE, phrase.key.encode()) for place in lacking]
    if len(kept) < len(drawn):
        agent.secrets.keep(PHRASE_FILE, file_of(kept))
    return drafts


def _is_replaced(phrase: bytes, places: Iterable[Place]) -> bool:
    """Whether another was drawn in a phrase's place."""
    return any(phrase in place.replaced for place in places)


def _drawn_here(agent: Agent) -> list[DrawnPhrase]:
    """What this device drew: not what it has from another one, of whose disk its own was a copy.

    What cannot be read goes: an earlier state of this version kept a key there that signs for the phrase.
    """
    kept = agent.secrets.read(PHRASE_FILE)
    drawn = drawn_in(kept)
    if kept and not drawn:
        agent.secrets.keep(PHRASE_FILE, b"")
    mine, anywhere = own_device(agent), b""
    return [each for each in drawn if is_drawn_by(each.key, each.person, mine, anywhere)]


def _drawn_last(places: Iterable[Place]) -> bytes | None:
    """Of a teacher's phrases that one's own devices have said, that which was said for the first time last.

    But for those in whose place another was drawn, by a clock that was ahead.
    """
    first = dict[bytes, tuple[int, bytes]]()
    for place in places:
        own = {device[0] for device in place.devices}
        for entry, phrase in place.phrases:
            is_theirs = entry.header.author in own and entry.header.subject == place.person
            if is_theirs and phrase.agreement not in place.replaced:
                at = place.since(entry.header.author, phrase.agreement)
                first[phrase.agreement] = min(at, first.get(phrase.agreement, at))
    return max(first, key=first.__getitem__, default=None)


async def open_with_phrase(agent: Agent, phrase: str) -> int:
    """Take the teacher's keys that a phrase opens, and seal them to this device; how many it did not have yet.

    Raises `BadInput(USAGE)` for what is no phrase, `Refused(CANNOT_READ)` for one that opens nothing here,
    `Refused(NO_RIGHT)`.
    """
    drawn = drawn_of(phrase)
    derived: _Derived = {}
    await _derive(derived, drawn, await _to_try(agent, await places_or_refuse(agent)))
    async with agent.writing:
        by_place: defaultdict[bytes, dict[bytes, AgreementKey]] = defaultdict(dict)
        before: defaultdict[bytes, dict[bytes, AgreementKey]] = defaultdict(dict)
        drafts, unasked, sure = list[Draft](), list[Draft](), set[bytes]()
        places = await places_or_refuse(agent)
        await _derive(derived, drawn, await _to_try(agent, places))
        for place in places:
            for said in await _phrases_said(agent, place):
                key = derived.get(said.derivation)
                if key is not None and key.public == said.key.agreement:
                    drafts += _proofs(agent, place, key)
                    records = [each for _, each in place.wraps]
                    sure |= {each.agreement for entry, each in place.wraps if _is_by(agent, entry, said)}
                    by_place[place.space] |= opened(place.space, place.person, records, key)
                    before[place.space] |= opened(None, place.person, records, key)
        names = {name for keys in (*by_place.values(), *before.values()) for name in keys}
        if not names:
            raise Refused(
                Code.CANNOT_READ, "this phrase opens none of your keys here: compare it with the paper, or sync first"
            )
        new = len(names - reading_keys(agent).keys())
        mine = agent.keys.agreement.public
        for place in places:
            agent.reading_keys.given.setdefault((place.space, place.person), {}).update(by_place[place.space])
            agent.reading_keys.given_before |= before[place.space]
            sealers = {device[0] for device in place.devices}
            here, of_all = (lacking(place, mine, keys[place.space], sealers) for keys in (by_place, before))
            for keys, of_all_classes in ((here, False), (of_all, True)):
                surely, others = _worth_saying(place, keys, sure)
                drafts += seals(agent, place, {mine: surely}, of_all=of_all_classes)
                unasked += seals(agent, place, {mine: others}, of_all=of_all_classes)
        if drafts:
            await agent.write(*drafts)
        await agent.write_unasked(*unasked)
    return new


def _worth_saying(place: Place, keys: dict[bytes, AgreementKey], sure: set[bytes]) -> list[dict[bytes, AgreementKey]]:
    """Which of the keys that a phrase opened are sealed to this device: those that are sure, and so many of the others.

    Sure is what a paper's drawer sealed to it, and what is in use.
    """
    sure = sure.union(*place.roster.reading_keys.values())
    others = [name for name in sorted(keys) if name not in sure][:MAX_GIVEN_READING_KEYS]
    return [{name: keys[name] for name in keys if name in sure}, {name: keys[name] for name in others}]


def _is_by(agent: Agent, entry: Entry, said: SaidPhrase) -> bool:
    return agent.replica.door.origin(entry.header.author) == said.by


async def _phrases_said(agent: Agent, place: Place) -> list[SaidPhrase]:
    """Every phrase that was ever drawn: what an older one opened, it opens still."""
    found = []
    said = (await said_by_space(agent, Kind.PHRASE)).get(place.space, ())
    for entry in about(agent, said, place.person, place.roster):
        header = entry.header
        try:
            key = PhraseKey.parse(entry.payload or b"")
        except PeerFault:
            continue
        line, speaks = agent.replica.door.origin(header.author), place.roster.speaks(header.grant)
        found.append(SaidPhrase(place.person, key, line, speaks, header.at, entry.id))
    return found


async def _to_try(agent: Agent, places: Iterable[Place]) -> list[Derivation]:
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


def _proofs(agent: Agent, place: Place, key: AgreementKey) -> list[Draft]:
    """That who knows the phrase uses this device, for the teacher's others; and that its drawer is the teacher's."""
    signer, mine = phrase_signer(key.seed), own_device(agent)
    proof = prove(signer, place.person, mine, place.grant.grant).encode()
    words = place.roster.voices.words
    person = place.person
    drawers = {
        device
        for device, phrase in place.roster.phrases.get(place.person, ())
        if phrase.agreement == key.public and phrase.signing == signer.public and device != mine
    }
    drafts = [] if _is_known_to(place, drawers, mine) else [draft(place, Kind.VOUCH, proof, place.grant.grant)]
    for each in place.roster.authorities:
        device = each.pair
        if device in drawers and each.person == person and not _is_confirmed_own(words.get(mine, ()), device, person):
            drafts.append(draft(place, Kind.VOUCH, Vouch().encode(), each.grant))
            drawers.discard(device)
    return drafts


def _is_known_to(place: Place, drawers: Iterable[Device], mine: Device) -> bool:
    """Whether one that drew the phrase has confirmed this device: who lets others in has any of these say so."""
    words = place.roster.voices.words
    return any(_is_confirmed_own(words.get(device, ()), mine, place.person) for device in drawers)


def _is_confirmed_own(words: Iterable[Word], device: Device, person: bytes) -> bool:
    return any(word.is_own and (word.device, word.person) == (device, person) for word in words)
