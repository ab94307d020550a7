"""“Est-ce bien votre nouvel ordinateur ?”: devices that a teacher confirms, and who reads a class's work.

Rules (docs/protocol.md, "Confirmed devices", C13 to C18; docs/adr/0064):
- the server's word alone gives a device none of a teacher's keys and nothing that was handed in before: one of the
  teacher's own devices says so, after a human has compared six words on both;
- what a human confirmed is what was shown: a colleague's device becomes none of one's own, whatever lists say (0461);
- what is confirmed ends with a right: of several that say the same with the first, or what lasts longer (0573);
- what is confirmed of a colleague whose stay has a last day ends with it (0510);
- listed is in a class who has said a key there, be it destroyed, and whoever speaks, whatever there is of it (0554);
- a yes is about the classes in which the device was listed to who says it, as what and as whose: where anything has
  changed meanwhile they look again (0511);
- where classes show a device differently, it is confirmed in those that show it as it was shown; the others are named;
- what lies above its classes this device has no say in: one of one's own that speaks there alone is confirmed in the
  classes below, which its right reaches, and nobody else's is (0535);
- what was confirmed in one class holds in every other that both devices teach, but for one that was ever reported
  somewhere, of which a human alone says so (`reported`, 0568);
- who was looked at, was gone, and is back is news like anybody who is new;
- words are made for what is shown, and beside the loop: each takes a hundredth of a second, and whoever lets devices in
  may invent them by the thousand.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Final, NamedTuple

from blake3 import blake3

from protocol.clock import milliseconds_of
from protocol.errors import BadInput, Code, Refused
from protocol.model.entry import Entry, Kind, KindClass, parsed
from protocol.model.structure import PersonKey
from protocol.model.work import ItemKind
from protocol.replica.at_work.replica import Draft
from protocol.replica.at_work.views import SpaceView
from protocol.replica.console.operation import JSON
from protocol.replica.office.erasures import closed_by_kit
from protocol.rights.door import Authority, Door
from protocol.rights.keys_in_use import holds_a_key, says_a_key
from protocol.rights.roster import Roster
from protocol.rights.vouching import Circle, Device, Standing, Vouch, Word, device_id, device_words
from protocol.roles import HAS_READING_KEYS, Role
from sync_agent.app import Agent
from sync_agent.keys.reports_known import said_yes_despite
from sync_agent.keys.said_by_space import said_by_space
from sync_agent.keys.seen_readers import (
    back_in,
    has_another,
    is_looked_at,
    looked_at,
    returns_looked_at,
    returns_of,
    space_mark,
)
from sync_agent.machine.marks import KNOWN_READER_MARKS, KNOWN_RETURN_MARKS, WAS_THERE

MAX_LISTED_WORDS: Final = 50
"""For so many devices a list says the words; for any other that is asked for by its id."""
SHOWN_AS: Final = ("own", "head", "other")
YOURS: Final = "yours?"
WAITS: Final = "waits"
"""How a device of this teacher's stands of which is asked here, and one that others of hers are asked about."""
NOT_HERE: Final = "no such device teaches in a class of this one"
ABOVE: Final = "it reads what lies above your classes, where this device has no right: who teaches there confirms it"
NOT_SHOWN: Final = f"{NOT_HERE}, or not as it was shown: look again"


@dataclass(frozen=True, slots=True)
class Reader:
    """A device that stands for a teacher in a class.

    `id` names its `pair` of keys; `person` is whose it is by its grant; `mine` says that it stands for the teacher of
    this device, `shown_as` whether it is shown as "own", as a "head" teacher's or as an "other" one's, `confirmed` that
    this device's teacher has confirmed it as that, `speaks` that its words count as that teacher's here; `named_by` is
    the role that let it in; `is_news` that nobody has looked at it here as that since it was let in again by one of
    these `returns`, `was_there` that this is all, since it read already when this device met the class.
    One of the teacher's that is back `waits_for` these, with their names; if not `is_asked`, this device has said all
    that it can. This device itself waits for one that `is_awaited`. It has no right in what `is_above` its classes.
    """

    id: bytes
    pair: Device
    person: bytes
    space: bytes
    name: str | None
    since_ms: int | None
    named_by: str
    is_this: bool
    mine: bool
    shown_as: str
    confirmed: bool
    speaks: bool
    is_news: bool
    was_there: bool
    returns: frozenset[bytes] = frozenset()
    waits_for: tuple[tuple[Device, str | None], ...] = ()
    is_asked: bool = True
    is_awaited: bool = False
    is_above: bool = False

    @property
    def device(self) -> bytes:
        """The key that signs for it."""
        return self.pair[0]

    @property
    def state(self) -> str:
        """How it stands, in one word."""
        for holds, word in (
            (self.is_this, "this"),
            (self.confirmed, "confirmed"),
            (bool(self.waits_for) and not self.is_asked, WAITS),
            (self.mine, YOURS),
            (not self.speaks, "not confirmed"),
        ):
            if holds:
                return word
        return "reads new work"


def own_device(agent: Agent) -> Device:
    """This device's pair of keys."""
    return agent.device, agent.keys.agreement.public


def circle_of(agent: Agent, roster: Roster, person: bytes) -> Circle:
    """Whom this device leads to: to these it gives keys and what was opened, and to nobody else."""
    return roster.voices.circle(person, own_device(agent))


def circle_ever(agent: Agent, roster: Roster, person: bytes) -> Circle:
    """Whose words were this device's person's, or confirmed by them, whatever has ended since.

    From this device alone, as `circle_of`: one that is new has no more than dates to tell which of a person's devices
    came first (docs/adr/0387).
    """
    return roster.voices.with_over().circle(person, own_device(agent))


def own_in_use(agent: Agent, roster: Roster, person: bytes) -> frozenset[Device]:
    """Those of its teacher's devices that this one leads to, past whoever is cut off there or came back unconfirmed."""

    def counts(device: Device, whose: bytes | None) -> bool:
        return device[0] == agent.device or not roster.is_away(device, whose or b"")

    words = {
        voice: frozenset(word for word in said if counts(voice, word.by) and counts(word.device, word.person))
        for voice, said in roster.voices.words.items()
    }
    return replace(roster.voices, words=words).circle(person, own_device(agent)).own


def is_unconfirmed(roster: Roster, given: Authority | None) -> bool:
    """Whether a teacher's grant names a person as whose nothing of it is shown: nobody of theirs has said so."""
    if given is None or given.person is None or given.role not in HAS_READING_KEYS:
        return False
    return roster.shown_as(given) is None


async def own_grants(agent: Agent) -> list[Authority]:
    """The grants that make this device a teacher's."""
    return [grant for grant in await agent.own_rights() if grant.role in HAS_READING_KEYS and grant.person is not None]


async def own_grant(agent: Agent, grants: Sequence[Authority], space: bytes) -> Authority | None:
    """The first of these that holds in a space."""
    return next(iter(await agent.counting_first(grants, space)), None)


class ReadHere(NamedTuple):
    """A space of whose readers this device's teacher is told; as whom it is granted there, or, `is_above`, below."""

    space: bytes
    person: bytes
    is_above: bool = False


async def read_here(agent: Agent) -> list[ReadHere]:
    """The spaces of whose readers this device's teacher is told: her classes.

    And what lies above them, where work is handed in, or ever was, shown or not: nobody else may teach there whose
    pages would tell, and whoever has the server lists her pupils, names who reads, and hides the assignment before her
    laptop hears (docs/adr/0283, 0538); or where a device has said a key as hers to which hers lead in no class
    (docs/adr/0527). None that the kit has closed: whose each key is went with the class, and she would be told of her
    own as of somebody's. What a stolen key of the server's hides goes on to be told.
    """
    grants, door = await own_grants(agent), agent.replica.door
    found: dict[bytes, ReadHere] = {}
    for space in await agent.spaces() if grants else ():
        mine = await own_grant(agent, grants, space)
        if mine is not None and mine.person is not None:
            found[space] = ReadHere(space, mine.person)
    views = [(place, await agent.replica.view(place.space)) for place in found.values()]
    hers = {device for place, view in views for device in own_in_use(agent, view.roster, place.person)}
    for place, _ in views:
        for above in (each for each in door.lineage(place.space) if each not in found):
            view = await agent.replica.view(above)
            if await _takes_work(agent, view) or _has_more(view.roster, place.person, hers):
                found[above] = place._replace(space=above, is_above=True)
    hidden = [space for space in found if space in (await agent.replica.view(space)).roster.erased]
    closed = await closed_by_kit(agent.replica) if hidden else ()
    return [place for space, place in found.items() if space not in closed]


async def _takes_work(agent: Agent, view: SpaceView) -> bool:
    kinds = (item.shown.record.kind for item in view.coursework.items.values())
    lying = await agent.replica.store.written(view.roster.space, [KindClass.WORK])
    return bool(lying) or ItemKind.ASSIGNMENT in kinds


def _has_more(roster: Roster, person: bytes, hers: Container[Device]) -> bool:
    return any(device not in hers for device in roster.voices.firsts.get(person, ()))


async def list_readers(agent: Agent) -> list[Reader]:
    """The devices of teachers in the classes of this one, this one's own first. Empty where it teaches nothing."""
    places = await read_here(agent)
    seen, store = await agent.replica.store.marks(KNOWN_READER_MARKS), agent.replica.store
    in_class = await said_by_space(agent, Kind.PERSON_KEY) if places else {}
    known_returns = await store.marks(KNOWN_RETURN_MARKS)
    rosters = {place.space: (await agent.replica.view(place.space)).roster for place in places}
    said_in = {space: first_keys(in_class.get(space, ()), each, agent.replica.door) for space, each in rosters.items()}
    listed = {space: _listed(roster, said_in[space]) for space, roster in rosters.items()}
    returns = await returns_of(agent, (device for there in listed.values() for device, _ in there))
    found = []
    for space, person, is_above in places:
        roster = rosters[space]
        circle, own = circle_of(agent, roster, person), own_in_use(agent, roster, person)
        waits_for, this = roster.voices.waits_for, own_device(agent)
        spoken_for = {word.device for word in roster.voices.words.get(this, ()) if word.is_own}
        said = said_in[space]
        for device, grant in listed[space]:
            key, whose = said.get(device), grant.person or b""
            speaks, is_mine = grant.grant not in roster.unconfirmed, whose == person
            shown_as = _shown_as(grant, is_own=is_mine)
            confirmed = _is_confirmed(circle, own, shown_as, (device, whose))
            name = device_id(device)
            mark, back = seen.get(space_mark(KNOWN_READER_MARKS, space, name)), back_in(agent, returns, space, device)
            is_back = has_another(back, known_returns.get(space_mark(KNOWN_RETURN_MARKS, space, name)))
            found.append(
                Reader(
                    id=name,
                    pair=device,
                    person=whose,
                    waits_for=_called_there(waits_for.get(device, ()), said) if is_mine else (),
                    is_asked=device not in spoken_for or this in waits_for.get(device, ()),
                    is_awaited=device in waits_for.get(this, ()),
                    space=space,
                    name=name_of(key),
                    since_ms=milliseconds_of(grant.at if key is None else key.header.at),
                    named_by=named_by(agent, grant),
                    is_this=device == this,
                    mine=is_mine,
                    shown_as=shown_as,
                    confirmed=confirmed,
                    speaks=speaks,
                    is_news=not confirmed and (is_back or not is_looked_at(mark, whose, speaks=speaks)),
                    was_there=mark == WAS_THERE,
                    returns=back,
                    is_above=is_above,
                )
            )
    return sorted(found, key=_place)


def _listed(roster: Roster, said: Mapping[Device, Entry]) -> list[tuple[Device, Authority]]:
    return [
        (device, grant)
        for device, grant in speakers(roster)
        if grant.key not in roster.cut and _is_listed(said.get(device), speaks=grant.grant not in roster.unconfirmed)
    ]


def _is_listed(key: Entry | None, *, speaks: bool) -> bool:
    """Whether a device is: a word of another one has it speak also before it says a key of its own."""
    return key is not None or speaks


def _is_confirmed(circle: Circle, own: Container[Device], shown_as: str, standing: Standing) -> bool:
    """Whether a device was confirmed as what it is shown as, and as whose: nobody looked at it as anybody else's."""
    device, _ = standing
    if shown_as == "own":
        return device in own
    return standing in circle.others_as and (shown_as == "other" or device in circle.heads)


def _called_there(devices: Iterable[Device], keys: Mapping[Device, Entry]) -> tuple[tuple[Device, str | None], ...]:
    """Some devices, each by what it calls itself in a class."""
    return tuple((device, name_of(keys.get(device))) for device in sorted(devices))


def _place(reader: Reader) -> tuple[bool, bool, bool, bytes, int]:
    """Those that a human knows first: however many are invented, they stand behind them."""
    return not reader.mine, not reader.is_this, not reader.confirmed, reader.space, reader.since_ms or 0


async def words_of(pairs: Iterable[Device]) -> dict[Device, str]:
    """The six words of devices, which are compared on both machines."""
    wanted = list(dict.fromkeys(pairs))
    return await asyncio.to_thread(lambda: {pair: device_words(pair) for pair in wanted})


def rows(readers: Iterable[Reader]) -> dict[bytes, list[Reader]]:
    """Each device as what it is shown, in the classes in which it is that, by an id of just this.

    With another class, or as something else, it is another row.
    """
    alike: defaultdict[tuple[bytes, str, bytes], list[Reader]] = defaultdict(list)
    for reader in readers:
        alike[reader.id, reader.shown_as, b"" if reader.mine else reader.person].append(reader)
    return {_row_id(theirs): theirs for theirs in alike.values()}


def _row_id(theirs: Sequence[Reader]) -> bytes:
    def told(each: Reader) -> bytes:
        as_what = bytes([each.speaks, SHOWN_AS.index(each.shown_as)])
        return blake3(b"".join((each.space, each.id, each.person, as_what, *sorted(each.returns)))).digest()

    return blake3(b"".join(sorted(told(each) for each in theirs))).digest()


def _was_row(asked: bytes, theirs: Sequence[Reader], shown_as: str | None) -> bool:
    """Whether this row was shown by another id until it was confirmed as that, and all else is what it was."""
    if shown_as != theirs[0].shown_as or not all(each.confirmed for each in theirs):
        return False
    return asked == _row_id([replace(each, speaks=False) for each in theirs])


def named_rows(named: Sequence[tuple[Device, str | None]], words: Mapping[Device, str]) -> list[JSON]:
    """Devices as commands name them."""
    return [{"device": device[0].hex(), "words": words.get(device), "name": name} for device, name in named]


@dataclass(frozen=True, slots=True)
class Confirmed:
    """In how many classes a word was new, and in which others, shown there as what, the device was left alone."""

    new: int
    left: Sequence[tuple[bytes, str]]


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """A device as it stands in one class: by which grants both are there, and as whose it is shown.

    It is listed there, or in what lies `above`.
    """

    space: bytes
    roster: Roster
    mine: Authority
    named: Device
    grant: Authority
    above: bytes | None = None

    @property
    def listed_in(self) -> bytes:
        return self.above or self.space

    @property
    def shown_as(self) -> str:
        return _shown_as(self.grant, is_own=self.grant.person == self.mine.person)

    @property
    def whose(self) -> bytes:
        return self.grant.person or b""


async def confirm(agent: Agent, asked: bytes, *, shown_as: str | None = None, person: bytes | None = None) -> Confirmed:
    """Say that a device is its person's, in the classes of the row (`rows`) that was shown to who says so.

    `asked` is that row's id; by the device's own (`device_id`) it is each row that lists it now. `shown_as`
    (`Reader.shown_as`) and `person` are as what and whose it was shown; without them that may not be in doubt, and a
    head teacher's, and one of this teacher's own, are confirmed only as that.

    Said again, by the id that the row had before, it is nothing new.

    Raises `Refused(NO_RIGHT)` on a device that stands for no teacher, and for one of somebody else's that is listed
    above its classes alone; `BadInput`: UNKNOWN_DEVICE, also where it is by now no more, in any class, or in other
    classes, what was shown; USAGE where more has to be said.
    """
    grants = await own_grants(agent)
    if not grants:
        raise await agent.refusal("this device stands for no teacher, and confirms no other", HAS_READING_KEYS)
    if shown_as not in (None, *SHOWN_AS):
        raise BadInput(Code.USAGE, f"a device is shown as one of: {', '.join(SHOWN_AS)}")
    async with agent.writing:
        listed = await list_readers(agent)
        now = rows(listed)
        if asked not in now and any(_was_row(asked, theirs, shown_as) for theirs in now.values()):
            return Confirmed(0, ())
        shown = now.get(asked) or [each for each in listed if each.id == asked]
        places = [place async for place in _places(agent, grants, shown)]
        if not places:
            is_above = bool(shown) and all(each.is_above for each in shown)
            raise Refused(Code.NO_RIGHT, ABOVE) if is_above else await _nobody(listed, asked)
        meant = _meant(places, shown_as, person)
        drafts = [each for place in {each.space: each for each in meant}.values() for each in _word_at(agent, place)]
        if drafts:
            await agent.write(*drafts)
        if meant[0].shown_as == "own":
            await agent.replica.store.set_marks(await said_yes_despite(agent, meant[0].named[0]))
    said = {(place.listed_in, place.shown_as) for place in meant}
    await acknowledge(agent, (each for each in shown if (each.space, each.shown_as) in said))
    theirs = dict.fromkeys((each.space, each.shown_as) for each in listed if each.pair == meant[0].named)
    return Confirmed(len(drafts), [each for each in theirs if each not in said])


async def _nobody(listed: Iterable[Reader], asked: bytes) -> BadInput:
    """Why no device is confirmed by this id. By a signing key alone none is: it may be named beside other keys."""
    pairs = [(row, theirs[0].pair) for row, theirs in rows(listed).items() if theirs[0].device == asked]
    if not pairs:
        return BadInput(Code.UNKNOWN_DEVICE, NOT_SHOWN, reader=asked.hex())
    words = await words_of([pair for _, pair in pairs[:MAX_LISTED_WORDS]])
    told = "; ".join(f"{row.hex()} ({words[pair]})" for row, pair in pairs if pair in words)
    return BadInput(
        Code.UNKNOWN_DEVICE,
        "this id, of `devices`, is that of the device's signing key, which proves no other key to be its own. Compare "
        f"the six words with those on its own screen, and give the id that stands beside them: {told}",
        reader=asked.hex(),
    )


async def _places(agent: Agent, grants: Sequence[Authority], shown: Iterable[Reader]) -> AsyncIterator[_Place]:
    for reader in shown:
        for space in () if reader.is_this else await _said_in(agent, reader):
            mine, roster = await own_grant(agent, grants, space), (await agent.replica.view(space)).roster
            for named, grant in () if mine is None else speakers(roster):
                if mine is not None and (named, grant.person) == (reader.pair, reader.person):
                    yield _Place(space, roster, mine, named, grant, reader.space if reader.is_above else None)


async def _said_in(agent: Agent, reader: Reader) -> list[bytes]:
    """Where this device says a word about one that is listed: there, or below, of one of its own above."""
    if not reader.is_above:
        return [reader.space]
    lineage = agent.replica.door.lineage
    hers = [each.space for each in await read_here(agent) if not each.is_above and each.person == reader.person]
    return [space for space in hers if reader.mine and reader.space in lineage(space)]


def _meant(places: Sequence[_Place], shown_as: str | None, person: bytes | None) -> list[_Place]:
    """Those of a device that are as it was shown. Raises `BadInput` where that is none, or in doubt."""
    ways = {place.shown_as for place in places}
    if shown_as is None and ways != {"other"}:
        raise BadInput(
            Code.USAGE,
            f"this device is shown as: {', '.join(sorted(ways))}. Look again (`key readers`), and say as what you "
            "confirm it (--as): one of your own is given all your keys, and whoever a confirmed head teacher's device "
            "calls yours is believed",
        )
    like_it = [place for place in places if shown_as in (None, place.shown_as)]
    meant = [place for place in like_it if person in (None, place.whose) or place.shown_as == "own"]
    if not meant:
        raise BadInput(Code.UNKNOWN_DEVICE, "whose this device is has changed meanwhile: look again before you confirm")
    if len({place.whose for place in meant if place.shown_as != "own"}) > 1:
        raise BadInput(
            Code.USAGE,
            "this device is granted as several people's: ask who runs the system which is right, and say whose it is "
            "(--person)",
        )
    return meant


async def acknowledge(agent: Agent, shown: Iterable[Reader]) -> None:
    """Somebody has seen that these devices read, each where and as what it is shown: that is no news any more."""
    readers = list(shown)
    marks = await looked_at(agent, ((each.space, each.id, each.person, each.speaks) for each in readers))
    marks |= await returns_looked_at(agent, ((each.space, each.id, each.returns) for each in readers))
    await agent.replica.store.set_marks(marks)
    agent.on_change()


async def confirmations_due(
    agent: Agent, places: Sequence[tuple[bytes, Authority, Roster]], away: Container[bytes]
) -> list[Draft]:
    """What this device has said of its teacher's devices in one class and not yet in another that both teach.

    Of who is `away` (`reported`) only a human says so once more. What was said there under the same grant was said,
    heard or not: the word of who was let in again counts once another device of theirs has confirmed it. What its
    phrase has proven it says itself too, once: of a device's phrases the latest alone prove anything.
    """
    said_here, told = await _vouched(agent), await _told_of(agent)
    said = {
        (word.device, word.by)
        for _, _, roster in places
        for word in roster.voices.words.get(own_device(agent), ())
        if word.is_own
    }
    drafts = []
    for space, mine, roster in places:
        for named, grant in speakers(roster):
            if (named, mine.person) in said and grant.person == mine.person and named[0] not in away:
                is_told = (space, named, mine.person) in told
                drafts += _word_at(agent, _Place(space, roster, mine, named, grant), is_told=is_told)
    return [each for each in drafts if (each.space, each.grant, each.target, each.subject) not in said_here]


async def _vouched(agent: Agent) -> set[tuple[bytes, bytes | None, bytes | None, bytes | None]]:
    """Where, under which of its grants, this device has spoken for which grant, and as for whose."""
    written = await agent.replica.store.scan_kinds([Kind.VOUCH])
    own = (entry.header for entry in written if entry.header.author == agent.device)
    return {(header.space, header.grant, header.target, header.subject) for header in own}


async def _told_of(agent: Agent) -> set[tuple[bytes, Device, bytes | None]]:
    """For which devices this one has itself spoken in each space, as for whose, whatever grants they had then."""
    written = await agent.replica.store.scan_kinds([Kind.VOUCH])
    own = [entry.header for entry in written if entry.header.author == agent.device]
    named = [(header, agent.replica.door.authority(header.target)) for header in own]
    return {(header.space, to.pair, header.subject) for header, to in named if to is not None}


def _shown_as(grant: Authority, *, is_own: bool) -> str:
    return "own" if is_own else "head" if grant.role is Role.HEAD else "other"


def _word_at(agent: Agent, place: _Place, *, is_told: bool = True) -> list[Draft]:
    """What says that a device is its person's in a class, unless it was said; if not `is_told`, whoever said it."""
    mine, grant, roster = place.mine, place.grant, place.roster
    if grant.person is None or grant.key in roster.cut:
        return []
    word = Word(place.named, grant.person, mine.person, grant.role is Role.HEAD)
    if is_told and word in roster.voices.words.get(own_device(agent), ()):
        return []
    ends_with = _last_day_beside(roster, word, grant)
    draft = Draft(place.space, Kind.VOUCH, mine.grant, Vouch().encode(), subject=grant.person, target=grant.grant)
    return [replace(draft, parents=ends_with)]


def _last_day_beside(roster: Roster, word: Word, grant: Authority) -> tuple[bytes, ...]:
    """With which right a word about a colleague ends besides: of theirs that have a last day the one that has the last.

    Whoever has the server says a right without an end of any device that it calls theirs, and ends the others once
    somebody has confirmed that one (docs/adr/0510).
    """
    if word.is_own or grant.until_ms is not None:
        return ()
    theirs = (right for right in roster.authorities if right.person == grant.person and right.role in HAS_READING_KEYS)
    ends = [(right.until_ms, right.grant) for right in theirs if right.until_ms is not None]
    return (max(ends)[1],) if ends else ()


def speakers(roster: Roster) -> list[tuple[Device, Authority]]:
    """Who stands for a teacher in a space, as whose, each with the grant that a word about it names."""
    found = defaultdict[Standing, list[Authority]](list)
    for grant in roster.authorities:
        if grant.role in HAS_READING_KEYS and grant.person is not None:
            found[grant.pair, grant.person].append(grant)
    return [(pair, _named_of(grants)) for (pair, _), grants in found.items()]


def _named_of(grants: Sequence[Authority]) -> Authority:
    """Of grants that say the same of a device, as they came, that of the highest rank; of these which lasts longest.

    Then the first: by a later one whoever has the server has a word end that is about what it says once more.
    """
    return max(grants, key=lambda each: (each.rank, inf if each.until_ms is None else each.until_ms))


def name_of(key: Entry | None) -> str | None:
    """What a device calls itself where it says a key."""
    said = None if key is None else parsed(key, PersonKey.parse)
    return None if said is None else said.name


def first_keys(said: Iterable[Entry], roster: Roster, door: Door) -> dict[Device, Entry]:
    """The first entry by which each device said a reading key, of those `said` in a space that nothing holds back.

    One that says what the device calls itself, or else one that was destroyed, is not here, or holds no key.
    """
    found: dict[Device, Entry] = {}
    counting = [entry for entry in said if not roster.hides(entry)]
    for entry in sorted(counting, key=lambda entry: (not holds_a_key(entry), entry.header.at, entry.id)):
        grant = door.authority(entry.header.grant)
        if grant is not None and says_a_key(entry):
            found.setdefault(grant.pair, entry)
    return found


def named_by(agent: Agent, grant: Authority) -> str:
    """The role of who wrote a grant: as what that device was let in, whoever has it. Pages say no more of it."""
    roles = [
        each for each in agent.replica.door.authorities_of(grant.author) if agent.replica.door.covers(each, grant.space)
    ]
    return max(roles, key=lambda each: each.rank).role.value if roles else "root"
