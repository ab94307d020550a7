"""“Ont pu lire pendant un temps”: who could read a class's work, and reads it no more.

Rules (docs/threat-model.md; docs/adr/0272):
- whoever has the server lets somebody in while PCs alone are answered, and cuts him off before a teacher's laptop hears
  of either: what PCs have sealed to him stays in the set, and tells;
- whether his right, his keys or these wraps are held back by now changes nothing of what he could read;
- what a teacher's device says of others' work, and the root's own word holds back, names nobody (docs/adr/0470);
- of a work that is held back nothing is told while it is: it is shown to nobody, and would name whom it likes;
- of who is erased, and of keys of which nobody here knows whose they are, the number of works alone is told, together,
  and looking at it notes the works: one PC makes as many keys as it likes, and would keep the alarm up for good;
- of a class that the kit has closed nothing is told (`read_here`): what says whose each key is went with it;
- days are those of the wraps, which PCs date, and names those that came first: neither is his to choose;
- whom the teacher has looked at as a reader, or confirmed, is here without being news, unless they were cut off and let
  in again since: of that the list of readers alone is looked at. Anybody else is news until looked at;
- and all are again once they could read another work: who knows, or was told, that somebody reads no more was told
  nothing of what comes. What those could read who were known is noted when they go (`gone_readers`).
  The works are noted, not how many: those that a server holds back then would make room for as many others;
- keys that somebody has said in the class, and the kit's, have their names however much is sealed (`seals_read`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Final, NamedTuple, Self, TypeAlias

from blake3 import blake3

from protocol.clock import rfc3339
from protocol.errors import BadInput, Code
from protocol.model.entry import Entry, Kind, parsed
from protocol.model.structure import PersonKey
from protocol.replica.at_work.keyring import recovery_keys_ever
from protocol.replica.console.operation import JSON, Outgoing
from protocol.replica.console.text import local_time, many_of
from protocol.replica.office.whose_words import first_signatures
from protocol.rights.circles import Circles
from protocol.rights.door import Authority, Door
from protocol.rights.keys_in_use import by_their_own
from protocol.rights.roster import Roster
from protocol.rights.vouching import Device, device_id
from sync_agent.app import Agent
from sync_agent.keys.acquaintances import known_devices
from sync_agent.keys.confirming import NOT_HERE, Reader, named_by, own_device, read_here
from sync_agent.keys.said_by_space import said_by_space
from sync_agent.keys.seals_read import Seal, seals
from sync_agent.keys.seen_readers import (
    back_in,
    has_another,
    is_looked_at,
    returns_of,
    space_mark,
)
from sync_agent.machine.beginnings import BEGINNING_BYTES, beginnings
from sync_agent.machine.marks import (
    KNOWN_READER_MARKS,
    KNOWN_RETURN_MARKS,
    PAST_READER_MARKS,
    PAST_WORKS_MARKS,
    WAS_GONE,
)
from sync_agent.space_names import space_names

COULD_READ: Final = "could read"
"""How such a reader stands, where states of readers are told in a word."""
MAX_TOLD: Final = 10
"""So many that are news are told in words."""
MAX_WORKS_NOTED: Final = 4_000
"""So many works that nobody knows who could read are noted as looked at in a class: more of them stay news."""
MAX_READ_NOTED: Final = 16_000
"""So many works that a device could read are noted as looked at in a class: more of them stay news."""


@dataclass(frozen=True, slots=True)
class PastReader:
    """Somebody, by the id that grants give, to whom work was sealed and who reads here no more by these devices.

    `id` names what is shown; `person` and `called` are None of all those of whom nobody here knows who they are, who
    are one. `devices` are told with what they called themselves, `noted` is what looking at this notes; `mine` says
    that they bear this device's teacher's name, `claimed` that grants alone call them that person's, and no word of
    one of theirs ever did: whoever has the server lets a device in as an honest colleague's. `still` says that it has
    that grant: here nothing is given to it, and computers that were told otherwise seal work to it.
    """

    id: bytes
    person: bytes | None
    called: str | None
    devices: tuple[tuple[Device, str | None], ...]
    spaces: tuple[bytes, ...]
    named_by: tuple[str, ...]
    first_ms: int
    last_ms: int
    works: int
    mine: bool
    claimed: bool
    still: bool
    is_news: bool
    noted: tuple[Noted, ...]


class Noted(NamedTuple):
    """A device in a class, and the beginnings of the works of which it was told; of keys of nobody a work, and none.

    It `leaves` if it was known there until now.
    """

    space: bytes
    what: bytes
    works: frozenset[bytes]
    leaves: bool = False


Days: TypeAlias = "tuple[int, int]"
"""When something was sealed first, and when last (ms)."""


@dataclass(slots=True)
class _Span:
    """Which works were sealed to a key, from when until when."""

    works: set[bytes] = field(default_factory=set)
    first_ms: int = 1 << 63
    last_ms: int = 0

    def add(self, works: Iterable[bytes], days: Days) -> None:
        self.works.update(works)
        self.first_ms, self.last_ms = min(self.first_ms, days[0]), max(self.last_ms, days[1])


_NO_MARKS: Final[Mapping[str, bytes]] = {}
_Standing: TypeAlias = "tuple[bytes, bytes]"
"""A line of keys, as whose it is listed."""


@dataclass(slots=True)
class _Past:
    """What is found of one such reader, in all classes."""

    person: bytes | None
    claimed: bool = False
    span: _Span = field(default_factory=_Span)
    devices: dict[Device, str | None] = field(default_factory=dict)
    spaces: dict[bytes, None] = field(default_factory=dict)
    named_by: dict[str, None] = field(default_factory=dict)
    noted: defaultdict[tuple[bytes, bytes], set[bytes]] = field(default_factory=lambda: defaultdict(set))
    mine: bool = False
    still: bool = False
    unknown: set[tuple[bytes, bytes]] = field(default_factory=set)
    leaving: set[tuple[bytes, bytes]] = field(default_factory=set)
    is_news: bool = False

    def add(self, space: bytes, device: bytes, span: _Span, *, is_known: bool, leaves: bool) -> None:
        """That so much was sealed in a class to a key of this device's."""
        self._add(space, span)
        self.noted[space, device] |= span.works
        if not is_known:
            self.unknown.add((space, device))
        if leaves:
            self.leaving.add((space, device))

    def add_works(self, space: bytes, span: _Span, *, is_news: bool) -> None:
        """The same of keys of nobody, of each of these works."""
        self._add(space, span)
        self.noted.update({(space, work): set() for work in span.works})
        self.is_news |= is_news

    def _add(self, space: bytes, span: _Span) -> None:
        self.spaces[space] = None
        self.span.add(span.works, (span.first_ms, span.last_ms))

    def shown(self, names: Mapping[bytes, str], seen: Mapping[str, bytes]) -> PastReader:
        """`seen` are the marks of those at which the teacher has looked: of any other work they are news."""
        noted = tuple(
            Noted(space, what, frozenset(work[:BEGINNING_BYTES] for work in works), (space, what) in self.leaving)
            for (space, what), works in sorted(self.noted.items())
        )
        told = (each.space + each.what + b"".join(sorted(each.works)) for each in noted)
        is_news = self.is_news or any(
            has_more_works(each.works, seen.get(_seen_mark(each, self.person)))
            for each in noted
            if (each.space, each.what) in self.unknown
        )
        return PastReader(
            id=blake3(b"".join((self.person or b"", *told))).digest(),
            person=self.person,
            called=None if self.person is None else names.get(self.person),
            devices=tuple(self.devices.items()),
            spaces=tuple(self.spaces),
            named_by=tuple(self.named_by),
            first_ms=self.span.first_ms,
            last_ms=self.span.last_ms,
            works=len(self.span.works),
            mine=self.mine,
            claimed=self.claimed,
            still=self.still,
            is_news=is_news,
            noted=noted,
        )


_Found: TypeAlias = "dict[tuple[bytes | None, bool], _Past]"
"""What is found, by person, and whether grants alone call the devices theirs."""


class _Sayer(NamedTuple):
    """Who said a reading key, as whose, and what its device calls itself."""

    given: Authority
    person: bytes
    name: str | None


async def list_past_readers(
    agent: Agent, readers: Sequence[Reader], gone: Mapping[str, bytes] = _NO_MARKS
) -> list[PastReader]:
    """Those who are not among the `readers` of today (`list_readers`), what is news first, then the latest.

    And those of whom it is about to be noted that they are `gone`. Empty where this device teaches nothing.
    """
    places = await read_here(agent)
    if not places:
        return []
    said = await said_by_space(agent, Kind.PERSON_KEY)
    classes = [
        await _Class.of(agent, each.space, each.person, readers, said.get(each.space, ()), gone) for each in places
    ]
    recovery = await recovery_keys_ever(agent.replica)
    known = {each.space: each.known_teachers for each in classes}
    sealed = await seals(agent, known, {each.space: _have_a_name(each, recovery) for each in classes})
    found: _Found = {}
    for here in classes:
        here.add_to(found, _spans(sealed.get(here.space, {}), here.roster), recovery)
    persons = {person for person, _ in found if person is not None}
    names = await first_signatures(agent.replica, [here.roster for here in classes], persons)
    seen = await agent.replica.store.marks(PAST_READER_MARKS)
    return sorted((each.shown(names, seen) for each in found.values()), key=_place)


def _spans(sealed: Mapping[bytes, Seal], roster: Roster) -> Mapping[tuple[bytes, ...], _Span]:
    """What was sealed to the same keys, of the works that count here: a machine seals most of its work to the same."""
    spans: dict[tuple[bytes, ...], _Span] = {}
    for name, seal in sealed.items():
        if seal.work not in roster.held_back and not _is_undone(name, seal, roster):
            spans.setdefault(seal.keys, _Span()).add([seal.work], (seal.at_ms, seal.at_ms))
    return spans


def _is_undone(name: bytes, seal: Seal, roster: Roster) -> bool:
    """Whether a teacher's device says it of work that others handed in, and the root's own word holds that back."""
    return not seal.is_own and name in roster.held_by_root


def _have_a_name(here: _Class, recovery: frozenset[bytes]) -> frozenset[bytes]:
    """The keys of which it is known whose they are: no flood of seals makes them keys of nobody."""
    return recovery.union(here.sayers)


@dataclass(frozen=True, slots=True)
class _Class:
    """What is known of one class: who said each key, who is listed, who of these reads; what of this its teacher knows.

    `own` is the id as which this device is granted there. `known_teachers` are the devices whose word about others'
    work counts: those that this one leads to, and old acquaintances.
    """

    space: bytes
    own: bytes
    roster: Roster
    door: Door
    named_by: Callable[[Authority], str]
    sayers: Mapping[bytes, Collection[_Sayer]]
    listed: frozenset[_Standing]
    reading: frozenset[_Standing]
    confirmed: frozenset[bytes]
    known_teachers: frozenset[bytes]
    marks: Mapping[bytes, bytes]
    gone: Mapping[bytes, bytes]
    """Of those who are gone the marks that are about to take the place of these."""
    back: frozenset[bytes]
    """The devices that were let in again after the teacher had looked at them, or confirmed them."""
    known_works: frozenset[bytes]
    given: frozenset[bytes]
    """The grants that give something."""
    circles: Callable[[], Circles]
    """Whom words ever led to; asked for seldom."""
    led: dict[bytes, frozenset[Device]] = field(default_factory=dict)
    """To which devices those of a person ever led, as far as that was asked."""

    @classmethod
    async def of(
        cls,
        agent: Agent,
        space: bytes,
        own: bytes,
        readers: Iterable[Reader],
        said: Iterable[Entry],
        gone: Mapping[str, bytes],
    ) -> Self:
        """From the marks of this device, and the words that lead on from it: what it met first may be a server's."""
        roster, door, store = (await agent.replica.view(space)).roster, agent.replica.door, agent.replica.store
        ever = roster.voices.with_over()
        circle = ever.circle(own, own_device(agent))
        prefix = f"{KNOWN_READER_MARKS}{space.hex()}/"
        confirmed = frozenset(map(device_id, circle.own | circle.others))
        sayers = _sayers(said, roster, door)
        marks = _by_device(prefix, await store.marks(prefix))
        itself_before = {device_id(one.pair) for key in agent.former for one in door.authorities_of(key)}
        return cls(
            space,
            own,
            roster,
            door,
            partial(named_by, agent),
            sayers,
            _standing((each for each in readers if each.space == space), door),
            _standing((each for each in readers if each.space == space and each.speaks), door),
            confirmed,
            confirmed.union(map(device_id, known_devices(agent, space)), itself_before),
            marks,
            _by_device(prefix, gone),
            await _back_unseen(agent, space, sayers, {*confirmed, *marks}),
            beginnings(await store.mark(f"{PAST_WORKS_MARKS}{space.hex()}")),
            frozenset(each.grant for each in roster.authorities),
            cache(partial(Circles, ever)),
        )

    def knows(self, mark: bytes | None, device: bytes, person: bytes) -> bool:
        """Whether the teacher has confirmed this device, or looked at it as this person's that reads, and it stayed."""
        return mark != WAS_GONE and (device in self.confirmed or is_looked_at(mark, person, speaks=True))

    def add_to(
        self,
        found: _Found,
        spans: Mapping[tuple[bytes, ...], _Span],
        recovery: Collection[bytes],
    ) -> None:
        """To what other classes told, what this one tells; the kits' keys are no reader's."""
        for keys, span in spans.items():
            readers = [key for key in keys if key not in recovery]
            of_nobody = not all(key in self.sayers for key in readers)
            if of_nobody and (nameless := _nameless(found)) is not None:
                nameless.add_works(self.space, span, is_news=not _are_looked_at(span.works, self.known_works))
            for sayer in (sayer for key in readers for sayer in self._whose(key)):
                given, device = sayer.given, device_id(sayer.given.pair)
                standing = self.door.origin(given.key), sayer.person
                # of one that waits, and that she does not know, the list says that nothing is given to it
                mark = self.marks.get(device)
                was_known = self.knows(mark, device, sayer.person)
                is_known = was_known and self.knows(self.gone.get(device, mark), device, sayer.person)
                leaves = was_known and not is_known
                if leaves or standing not in (self.listed if is_known else self.reading):
                    claimed = not self._is_led_to(sayer)
                    past = found.setdefault((sayer.person, claimed), _Past(sayer.person, claimed))
                    is_back = device in self.back
                    past.add(self.space, device, span, is_known=is_known and not is_back, leaves=leaves and not is_back)
                    past.devices[given.pair] = sayer.name
                    past.named_by[self.named_by(given)] = None
                    # by no list, which would take the name off him
                    past.mine |= sayer.person == self.own
                    past.still |= claimed and given.grant in self.given and self.roster.may_read(given.key)

    def _whose(self, key: bytes) -> Iterable[_Sayer]:
        """Who said a key; of a device that said it as several people, those alone who called it theirs, if any did."""
        sayers = self.sayers.get(key, ())
        if len(sayers) == 1:
            return sayers
        theirs = {sayer.given.key for sayer in sayers if self._is_led_to(sayer)}
        return (sayer for sayer in sayers if sayer.given.key not in theirs or self._is_led_to(sayer))

    def _is_led_to(self, sayer: _Sayer) -> bool:
        """Whether a voice of this person's started from a device, or a word of theirs ever led to it."""
        if (led := self.led.get(sayer.person)) is None:
            circle = self.circles().of(sayer.person)
            starts = self.roster.starts.get(sayer.person, ())
            led = self.led[sayer.person] = frozenset(device for start in starts for device in circle.start(start))
        return sayer.given.pair in led


async def _back_unseen(
    agent: Agent, space: bytes, sayers: Mapping[bytes, Iterable[_Sayer]], asked: Container[bytes]
) -> frozenset[bytes]:
    """Those of the devices `asked` about that were let in again, which nobody has looked at since."""
    said = (sayer.given.pair for some in sayers.values() for sayer in some)
    devices = {name: device for device in said if (name := device_id(device)) in asked}
    returns = await returns_of(agent, devices.values())
    seen = await agent.replica.store.marks(f"{KNOWN_RETURN_MARKS}{space.hex()}/") if returns else {}
    return frozenset(
        name
        for name, device in devices.items()
        if has_another(back_in(agent, returns, space, device), seen.get(space_mark(KNOWN_RETURN_MARKS, space, name)))
    )


def has_more_works(works: Iterable[bytes], mark: bytes | None) -> bool:
    """Whether one is among these, by their beginnings, of which the teacher has not seen that it could be read."""
    return not beginnings(mark).issuperset(works)


def _are_looked_at(works: Iterable[bytes], known: Container[bytes]) -> bool:
    """Whether the teacher has seen of all these works that keys of nobody open them."""
    return all(work[:BEGINNING_BYTES] in known for work in works)


def _nameless(found: _Found) -> _Past | None:
    """The one that stands for all of whom nobody here knows who they are."""
    return found.setdefault((None, False), _Past(None))


def _place(past: PastReader) -> tuple[bool, int, bytes]:
    return not past.is_news, -past.last_ms, past.id


def _sayers(said: Iterable[Entry], roster: Roster, door: Door) -> Mapping[bytes, Collection[_Sayer]]:
    """Who has said each key, held back or not; nobody who is erased."""
    found: defaultdict[bytes, dict[tuple[Device, bytes], _Sayer]] = defaultdict(dict)
    for person, device, entry in by_their_own(said, Kind.PERSON_KEY, door):
        key, given = parsed(entry, PersonKey.parse), door.authority(entry.header.grant)
        if key is not None and given is not None and not roster.is_erased(entry):
            found[key.agreement].setdefault((device, person), _Sayer(given, person, key.name))
    return {key: tuple(sayers.values()) for key, sayers in found.items()}


def _by_device(prefix: str, marks: Mapping[str, bytes]) -> dict[bytes, bytes]:
    return {bytes.fromhex(name.removeprefix(prefix)): mark for name, mark in marks.items() if name.startswith(prefix)}


def _standing(readers: Iterable[Reader], door: Door) -> frozenset[_Standing]:
    return frozenset((door.origin(reader.device), reader.person) for reader in readers)


# --- looked at --------------------------------------------------------------------------------------------------------


async def acknowledge_past(agent: Agent, past: PastReader) -> None:
    """Somebody has seen that these could read: it is no news any more."""
    if past.person is not None:
        marks = await works_seen(agent, past.person, past.noted)
    else:
        by_space: defaultdict[bytes, list[bytes]] = defaultdict(list)
        for each in past.noted:
            by_space[each.space].append(each.what[:BEGINNING_BYTES])
        marks = {
            f"{PAST_WORKS_MARKS}{space.hex()}": b"".join(works[:MAX_WORKS_NOTED]) for space, works in by_space.items()
        }
    await agent.replica.store.set_marks(marks)
    agent.on_change()


async def works_seen(agent: Agent, person: bytes, noted: Iterable[Noted]) -> dict[str, bytes]:
    """The marks by which the works that these could read as this person's are no news any more."""
    seen, marks = await agent.replica.store.marks(PAST_READER_MARKS), dict[str, bytes]()
    for each in noted:
        mark = _seen_mark(each, person)
        # what is held back by now may count again
        before = beginnings(seen.get(mark)) - each.works
        marks[mark] = b"".join([*sorted(each.works), *sorted(before)][:MAX_READ_NOTED])
    return marks


def _seen_mark(noted: Noted, person: bytes | None) -> str:
    return f"{PAST_READER_MARKS}{noted.space.hex()}/{noted.what.hex()}/{(person or b'').hex()}"


# --- what commands say ------------------------------------------------------------------------------------------------


async def past_reader_rows(agent: Agent, listed: Sequence[PastReader]) -> list[JSON]:
    """The rows of `key readers` about them."""
    names = await space_names(agent)
    return [
        {
            "id": each.id.hex(),
            "device": each.devices[0][0][0].hex() if each.devices else None,
            "name": ", ".join(dict.fromkeys(name for _, name in each.devices if name)) or None,
            "person": None if each.person is None else each.person.hex(),
            "teacher": each.called,
            "space": ", ".join(names.get(space, space.hex()) for space in each.spaces),
            "state": COULD_READ,
            "shown_as": "own" if each.mine else "other",
            "words": None,
            "since": rfc3339(each.first_ms),
            "named_by": ", ".join(each.named_by) or None,
            "past": {
                "until": rfc3339(each.last_ms),
                "works": each.works,
                "devices": [device[0].hex() for device, _ in each.devices],
                "is_news": each.is_news,
                "confirmed": not each.claimed and each.person is not None,
                "still": each.still,
            },
        }
        for each in listed
    ]


async def tell_of_past_readers(agent: Agent, listed: Sequence[PastReader], outgoing: Outgoing) -> None:
    """The first of those that are news, in words."""
    names = await space_names(agent)
    news = [each for each in listed if each.is_news]
    for each in news[:MAX_TOLD]:
        who = f"“{each.called}”" if each.called else "somebody whose name is not known here"
        if each.claimed:
            who = f"a computer that was let in as {who}, and that none of theirs has confirmed,"
        where = ", ".join(names.get(space, space.hex()) for space in each.spaces)
        many = f"{many_of(each.works, 'piece')} of pupils' work"
        days = " to ".join(dict.fromkeys(local_time(rfc3339(at_ms) or "") for at_ms in (each.first_ms, each.last_ms)))
        ends = "to a key to which nothing is given any more"
        if each.still:
            ends = "and is let in still: nothing is given to it here, and computers of the school take it for a reader"
        await outgoing.progress(
            f"{who} could read {many} ({where}), sealed to them {days}, {ends}. If that surprises you, ask "
            "the head of your school why, or whoever looks after the server"
        )
    if len(news) > MAX_TOLD:
        await outgoing.progress(f"and {len(news) - MAX_TOLD} more of these; `key readers --json` lists all")


def past_named(listed: Iterable[PastReader], asked: bytes | None) -> list[PastReader]:
    """All of them, or those that an id, or a device of theirs, names."""
    return [
        each
        for each in listed
        if asked in {None, each.id} or any(asked in {device[0], device_id(device)} for device, _ in each.devices)
    ]


async def one_past_reader(agent: Agent, readers: Sequence[Reader], asked: bytes) -> PastReader:
    """The one that this id shows. Raises `BadInput(UNKNOWN_DEVICE)`, also where there is more to it by now."""
    for each in await list_past_readers(agent, readers):
        if each.id == asked:
            return each
    raise BadInput(Code.UNKNOWN_DEVICE, NOT_HERE, reader=asked.hex())
