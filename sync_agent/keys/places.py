"""Where this device stands for a teacher, and what was said there of the teacher's reading keys (docs/protocol.md).

Rules ("Reading keys"):
- a place is a space in which this device's own grant makes its person a teacher;
- what it says it says with its own two keys, as whose it came in: under any other grant nobody hears it, or hears
  somebody else (docs/adr/0513).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, Self, TypeAlias

from protocol.errors import PeerFault
from protocol.identity import KEY_BYTES, AgreementKey
from protocol.model.entry import Entry, Kind, parsed
from protocol.model.structure import PersonKey
from protocol.replica.at_work.replica import Draft
from protocol.rights.door import Authority
from protocol.rights.roster import Roster
from protocol.rights.vouching import Device
from protocol.roles import HAS_READING_KEYS
from protocol.trust.person_keys import (
    KeyWraps,
    PhraseKey,
)
from sync_agent.app import Agent
from sync_agent.keys.confirming import own_grant, own_grants, own_in_use
from sync_agent.keys.said_by_space import said_by_space
from sync_agent.machine.marks import PHRASE_OVER_MARKS
from sync_agent.machine.reading_key_file import OwnKey

_Moment: TypeAlias = tuple[int, bytes]
"""`at`, then id, of an entry."""
_NOT_HEARD: Final[_Moment] = (1 << 64, b"")
"""Of what has come while this was read: later than all that there was."""


@dataclass(frozen=True, slots=True)
class Place:
    """A space in which this device stands for a teacher, and what is said there about the teacher's keys.

    `said` are the keys that this device has written down there, as far as that counts; `own` all that it wrote so;
    `made` those that it made for that space and that teacher, the newest first, `of_all` those that an earlier version
    made for all classes; `drawn` the phrases that it said there; `devices` are those of the teacher's that this one
    leads to (`own_in_use`).
    """

    space: bytes
    grant: Authority
    person: bytes
    roster: Roster
    devices: frozenset[Device]
    made: tuple[AgreementKey, ...]
    of_all: tuple[AgreementKey, ...]
    drawn: frozenset[bytes]
    said: frozenset[bytes]
    own: tuple[tuple[Entry, bytes], ...]
    wraps: tuple[tuple[Entry, KeyWraps], ...]
    gifts: tuple[Entry, ...]
    """What says that this device has sealed keys there, or another of the teacher's has, as far as its word counts."""
    phrases: tuple[tuple[Entry, PhraseKey], ...]
    """The phrases that were ever said there by this device, or one that is, or was, the teacher's too."""
    phrases_ever: tuple[tuple[Entry, PhraseKey], ...]
    """These, and what is hidden or does not count: what is so now need not be so tomorrow (docs/adr/0565)."""
    phrases_replaced: frozenset[bytes]
    """The entries in whose place one of these devices says, by a header that nothing hides, that it drew a phrase."""
    over: frozenset[bytes]
    """The phrases that this device has given up there."""
    replaced: frozenset[bytes] = frozenset()
    """Those in whose place one of these devices has drawn another, in any place, by the public halves of their keys."""
    first_said: Mapping[tuple[bytes, bytes], _Moment] = field(default_factory=dict)
    """When each device has first said each phrase, in any place: what is said again is no newer for it."""

    @property
    def current(self) -> AgreementKey | None:
        """This device's newest key there."""
        return self.made[0] if self.made else None

    @property
    def given_to(self) -> frozenset[bytes]:
        """The X25519 keys to which this device has sealed keys, or another of the teacher's has those of this one.

        A memory that no list moves (docs/adr/0230).
        """
        theirs = {each.public for each in self.made}
        return frozenset(
            recipient
            for entry, gift in self._given
            if entry.header.author == self.grant.key or gift.agreement in theirs
            for recipient, _ in gift.wraps
        )

    @property
    def current_given_to(self) -> frozenset[bytes]:
        """Those of them to which this device, or another of the teacher's, has sealed the newest key."""
        newest = None if self.current is None else self.current.public
        return frozenset(to for _, gift in self._given if gift.agreement == newest for to, _ in gift.wraps)

    @property
    def _given(self) -> Iterable[tuple[Entry, KeyWraps]]:
        found = ((entry, parsed(entry, KeyWraps.parse)) for entry in self.gifts)
        return ((entry, gift) for entry, gift in found if gift is not None)

    @property
    def drawn_in_use(self) -> list[tuple[Device, PhraseKey]]:
        """The phrases that devices in use of the teacher's drew, oldest first."""
        drawn = self.roster.phrases.get(self.person, ())
        return [(device, phrase) for device, phrase in drawn if device in self.devices]

    @property
    def in_force(self) -> tuple[Device, PhraseKey] | None:
        """The last phrase in whose place none was drawn, with who drew it: to that this device seals keys."""
        good = [each for each in reversed(self.drawn_in_use) if not self.is_given_up(each[1].agreement)]
        return max(good, key=lambda each: self.since(each[0][0], each[1].agreement), default=None)

    def since(self, by: bytes, phrase: bytes) -> _Moment:
        """When a device has first said a phrase."""
        return self.first_said.get((by, phrase), _NOT_HEARD)

    def is_given_up(self, phrase: bytes) -> bool:
        """Whether another was drawn in a phrase's place, or seen in force instead: no list and no loss undoes it."""
        return phrase in self.replaced or phrase in self.over

    @property
    def over_by_now(self) -> frozenset[bytes]:
        """`over` with what is replaced, hidden or not, and what else is out of force now.

        What this device has drawn itself it gives up once another was drawn in its place, and not since it is merely
        seen as another than the last: for a moment that is so of whatever somebody holds back.
        """
        return self.over | self.replaced | self.out_of_force - self.drawn

    @property
    def out_of_force(self) -> frozenset[bytes]:
        """The other ones, by the public halves of their keys.

        Who drew one may have said the X25519 key of a device in use as that of the phrase: that is none of these.
        """
        good = {agreement for _, agreement in self.devices}
        if self.in_force is not None:
            good.add(self.in_force[1].agreement)
        return frozenset(said.agreement for _, said in self.drawn_in_use) - good

    @property
    def is_replaced(self) -> bool:
        """Whether this device has itself said another in the place of its newest key.

        What it made since is not here: its disk was restored or copied, or a part of it has rotted (docs/adr/0219).
        """
        named = {name for entry, _ in self.own for name in entry.header.parents}
        return any(entry.id in named for entry, key in self.own if self.made and key == self.made[0].public)

    @property
    def is_closed(self) -> bool:
        """Whether the class was closed or the teacher forgotten: what is said there is hidden at once, then destroyed.

        Who says it would say it again at each look.
        """
        return not self.roster.erased.isdisjoint((self.space, self.person))


@dataclass(frozen=True, slots=True)
class Held:
    """What is read once for all places: the keys that this device made; by space, what gives some, and says phrases."""

    keys: tuple[OwnKey, ...]
    wraps: Mapping[bytes, Sequence[Entry]]
    phrases: Mapping[bytes, Sequence[Entry]]

    @classmethod
    async def by(cls, agent: Agent) -> Self:
        """What an agent holds."""
        wraps, phrases = await said_by_space(agent, Kind.KEY_WRAP), await said_by_space(agent, Kind.PHRASE)
        return cls(agent.reading_keys.own(), wraps, phrases)


async def places_of(agent: Agent) -> list[Place]:
    """All of them, closed classes included."""
    teaching = await own_grants(agent)
    if not teaching:
        return []
    found, held = [], await Held.by(agent)
    for space in await agent.spaces():
        grant = await own_grant(agent, teaching, space)
        if grant is not None and grant.person is not None:
            found.append(await place_in(agent, space, grant, grant.person, held))
    replaced, first = frozenset(name for place in found for name in _replaced(place)), _first_said(found)
    return [replace(place, replaced=replaced, first_said=first) for place in found]


async def places_or_refuse(agent: Agent) -> list[Place]:
    """The same. Raises `Refused(NO_RIGHT)` where there is none."""
    places = await places_of(agent)
    if not places:
        raise await agent.refusal("this device stands for no teacher, and has no keys to hand-ins", HAS_READING_KEYS)
    return places


async def place_in(agent: Agent, space: bytes, grant: Authority, person: bytes, held: Held) -> Place:
    """A space as this device's grant makes it that person's place."""
    written = await agent.replica.store.authored(space, agent.device)
    roster = (await agent.replica.view(space)).roster
    wraps = []
    # what this device has said itself is done, also where it is hidden: once under each grant, as with keys
    hidden = [each for each in written if each.header.kind == Kind.KEY_WRAP and roster.hides(each)]
    own_hidden = [each for each in hidden if each.header.grant == grant.grant]
    for entry in (*about(agent, held.wraps.get(space, ()), person, roster), *own_hidden):
        try:
            wraps.append((entry, KeyWraps.parse(entry.payload or b"")))
        except PeerFault:
            continue
    own = tuple(_own_keys(written))
    said_ever = {key for _, key in own}
    devices = own_in_use(agent, roster, person)
    drawers = ever_own(roster, devices)
    called = _ever_called(agent, written, person)
    # a lost laptop names as given whatever it likes
    sealers = _Sealers(
        frozenset({agent.device, *(device[0] for device in devices)}),
        frozenset(each.key for each in called if not roster.is_away(each.pair, each.person or b"")),
    )
    phrases = list(_phrases(agent, held.phrases.get(space, ()), drawers, person, roster))
    return Place(
        space=space,
        grant=grant,
        person=person,
        roster=roster,
        devices=devices,
        made=tuple(each.key for each in held.keys if (each.space, each.person) == (space, person)),
        of_all=tuple(each.key for each in held.keys if each.space is None and each.key.public in said_ever),
        drawn=frozenset(_drawn(written, roster, grant.grant)),
        said=frozenset(_said(own, roster, grant.grant)),
        own=own,
        wraps=tuple(wraps),
        gifts=tuple(entry for entry in held.wraps.get(space, ()) if sealers.heed(entry, roster)),
        over=phrases_over_in(await agent.replica.store.mark(phrases_over_mark(space)) or b""),
        phrases=tuple((one, phrase) for one in phrases if (phrase := parsed(one, PhraseKey.parse)) is not None),
        phrases_replaced=frozenset(name for one in phrases for name in one.header.parents),
        phrases_ever=tuple(
            _phrases_ever(held.phrases.get(space, ()), drawers.union(each.key for each in called), person)
        ),
    )


def phrases_over_mark(space: bytes) -> str:
    """Where `Place.over` is kept: apart from what is noted of devices, whose keys whoever lets them in may choose."""
    return PHRASE_OVER_MARKS + space.hex()


def phrases_over_in(mark: bytes) -> frozenset[bytes]:
    """`Place.over`, from its mark: a byte follows each, in which an earlier state said that a key was made for it."""
    return frozenset(mark[at : at + KEY_BYTES] for at in range(0, len(mark), KEY_BYTES + 1))


def mark_of_phrases_over(phrases: Iterable[bytes]) -> bytes:
    """The mark of `Place.over`."""
    return b"".join(phrase + b"\0" for phrase in sorted(phrases))


def ever_own(roster: Roster, devices: Iterable[Device]) -> frozenset[bytes]:
    """The keys that sign of a teacher's devices in use, and of those that one of these has ever called its own."""
    said = [words.get(device, ()) for device in devices for words in (roster.voices.words, roster.voices.over)]
    return frozenset(word.device[0] for words in said for word in words if word.is_own).union(
        device[0] for device in devices
    )


def _phrases(
    agent: Agent,
    said: Iterable[Entry],
    by: Container[bytes],
    person: bytes,
    roster: Roster,
) -> Iterable[Entry]:
    """What some devices have said of a teacher's phrases: what is not hidden.

    Of who is away what was said before the report: not under a grant by which somebody let a lost laptop in again, and
    that the others of the teacher's have not confirmed, also once that is reported in its turn.
    """
    for entry in said:
        if entry.header.author not in by or roster.hides(entry):
            continue
        granted = agent.replica.door.authority(entry.header.grant)
        if granted is None or not granted.person == entry.header.subject == person:
            continue
        is_own = entry.header.author == agent.device  # what a found laptop has drawn it keeps until it is confirmed
        if is_own or granted.grant not in roster.again or roster.speaks(granted.grant):
            yield entry


def _phrases_ever(said: Iterable[Entry], by: Container[bytes], person: bytes) -> Iterable[tuple[Entry, PhraseKey]]:
    """All that some devices have said of a teacher's phrases and that can be read, whatever hides it."""
    for entry in said:
        if entry.header.author in by and entry.header.subject == person:
            phrase = parsed(entry, PhraseKey.parse)
            if phrase is not None:
                yield entry, phrase


def _replaced(place: Place) -> Iterable[bytes]:
    """Those in whose place another was drawn: each stays so, whatever its date, who is lost since, and what hides it.

    What draws in its place counts: whoever takes a laptop away draws on it too, and that is taken back. It does so by
    its header, which nobody can show without that: a paper that was lost opens nothing more (docs/adr/0576).
    """
    return (phrase.agreement for entry, phrase in place.phrases_ever if entry.id in place.phrases_replaced)


def _first_said(places: Iterable[Place]) -> dict[tuple[bytes, bytes], _Moment]:
    """When each device has first said each phrase, hidden or not: nobody else makes it newer, or older."""
    first: dict[tuple[bytes, bytes], _Moment] = {}
    for place in places:
        for entry, phrase in place.phrases_ever:
            word, moment = (entry.header.author, phrase.agreement), (entry.header.at, entry.id)
            first[word] = min(moment, first.get(word, moment))
    return first


class _Sealers(NamedTuple):
    """Whose word counts of what was given: devices that are in use, and those for which this one has spoken."""

    in_use: frozenset[bytes]
    spoken_for: frozenset[bytes]

    def heed(self, entry: Entry, roster: Roster) -> bool:
        """Whether it does: hidden or not of the former; of the others what is not hidden."""
        author = entry.header.author
        return author in self.in_use or (author in self.spoken_for and not roster.hides(entry))


def _ever_called(agent: Agent, written: Iterable[Entry], person: bytes) -> tuple[Authority, ...]:
    """The grants of devices of which this one has ever said that they are its teacher's too, hidden or not."""
    named = (
        agent.replica.door.authority(entry.header.target)
        for entry in written
        if entry.header.kind == Kind.VOUCH and entry.header.subject == person
    )
    return tuple(grant for grant in named if grant is not None)


def _own_keys(written: Iterable[Entry]) -> Iterable[tuple[Entry, bytes]]:
    """The entries by which this device has written down a reading key, each with the key."""
    for entry in written:
        key = parsed(entry, PersonKey.parse) if entry.header.kind == Kind.PERSON_KEY else None
        if key is not None:
            yield entry, key.agreement


def _said(own: Iterable[tuple[Entry, bytes]], roster: Roster, grant: bytes) -> Iterable[bytes]:
    """The keys that this device has written down here, as far as that counts.

    What is held back is said again, once under each grant.
    """
    return (key for entry, key in own if entry.id not in roster.held_back or entry.header.grant == grant)


def _drawn(written: Iterable[Entry], roster: Roster, grant: bytes) -> Iterable[bytes]:
    """The phrases that this device has said, as far as that counts, by the public halves of their keys.

    What is held back is said again, once under each grant.
    """
    for entry in written:
        phrase = parsed(entry, PhraseKey.parse) if entry.header.kind == Kind.PHRASE else None
        if phrase is not None and (entry.id not in roster.held_back or entry.header.grant == grant):
            yield phrase.agreement


def about(agent: Agent, said: Iterable[Entry], person: bytes, roster: Roster) -> list[Entry]:
    """What a teacher's devices have said of that in a class, without what is held back: it moves nothing."""
    door = agent.replica.door
    return [
        entry
        for entry in said
        if entry.header.subject == person
        and not roster.hides(entry)
        and (authority := door.authority(entry.header.grant)) is not None
        and authority.person == person
    ]


def draft(
    place: Place, kind: Kind, payload: bytes, target: bytes | None = None, parents: tuple[bytes, ...] = ()
) -> Draft:
    """What is to be said about the teacher of a place there."""
    return Draft(place.space, kind, place.grant.grant, payload, subject=place.person, target=target, parents=parents)
