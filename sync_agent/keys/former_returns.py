"""“Était-ce bien vous ?”: what a teacher's former laptop said since it was found.

Rules: docs/protocol.md, "Confirmed devices", C27 and C28; docs/adr/0258.

A laptop is reported, found and let in again; its teacher works on with it, until it is lost or retired. What it said
since it was found counts once each of her devices that was never reported, and that it is linked with, says that this
was hers. Her next laptop is linked with it as soon as it has her paper, and cannot know.

- a human says so, and no program by itself: what a thief said, whom the server let in, looks the same;
- so that she can tell, all that is known of it is shown: when it was reported, let in again, by whom, and until when
  it spoke, how much it wrote, and whom it called hers, which a yes makes hers: by its word, by a phrase that it drew,
  and by the words of those;
- days are those that the authors of entries gave;
- a yes is about what was shown: where there is more by now, it is shown again. What is withheld from this device until
  after the yes is hers without a question;
- a no is said to nobody, for what nobody calls theirs counts for nobody: it is a mark of this device, which is asked
  no more on its first page, but among the teacher's computers, where a yes can still be said (docs/adr/0266).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Self
from weakref import WeakKeyDictionary

from blake3 import blake3

from protocol.clock import DAY_MS, milliseconds_of
from protocol.errors import BadInput, Code
from protocol.model.entry import Entry, Kind, parsed
from protocol.replica.at_work.replica import Draft, Replica
from protocol.rights.door import Authority
from protocol.rights.roster import Roster
from protocol.rights.vouching import Device, Vouch, device_id, is_proof
from protocol.trust.person_keys import PhraseKey
from sync_agent.app import Agent
from sync_agent.keys.confirming import (
    WAITS,
    first_keys,
    name_of,
    named_by,
    own_device,
    own_grant,
    own_grants,
    own_in_use,
)
from sync_agent.machine.marks import NOT_MINE_MARKS

ASKED: Final = "was that you?"
DECLINED: Final = "not you, or not known"
"""How such a return stands, where states of readers are told in a word, until this device has said yes; or no."""
MAX_ASKED: Final = 20
"""Of so many in a class it is asked: whoever has the server invents them, and they stand behind those of who speaks."""
MAX_TOLD: Final = 10
"""So many returns are told in words, and of each so many of the devices that it called its teacher's."""
MAX_TRIED: Final = 64
"""Of so many proofs it is looked at whether they are any."""
CHANGED: Final = "more is known of that by now: look again (`key readers`) before you say so"


@dataclass(frozen=True, slots=True)
class FormerReturn:
    """That a former device of this teacher's was let in again, and not all of hers say that it was in her hands.

    `id` names what was shown; `pair` are the device's keys; `grants` are those that a yes is about, with their classes.
    `reported_ms` is when it was last cut off before, `is_report` that this was for its own sake; `let_in_ms` when, and
    `let_in_by` as whom, somebody let it in again; `until_ms` when it was cut off since. `answers` is how many it wrote
    to pupils, `phrases` how many phrases it drew, and `called_hers` whom a yes makes hers besides, or confirmed by her:
    whom it confirmed, who proved themselves by these phrases, and whom those lead to. It `is_asked` of this device, or
    this one has said so; `waits_for` are others of hers that have not. It `is_declined` if the answer here was no.
    """

    id: bytes
    pair: Device
    person: bytes
    name: str | None
    grants: tuple[tuple[bytes, bytes], ...]
    reported_ms: int | None
    is_report: bool
    let_in_ms: int
    let_in_by: str
    until_ms: int | None
    answers: int
    phrases: int
    called_hers: tuple[tuple[Device, str | None], ...]
    is_asked: bool
    is_declined: bool
    waits_for: tuple[tuple[Device, str | None], ...]

    @property
    def state(self) -> str:
        """The same in a word."""
        if self.is_declined:
            return DECLINED
        return ASKED if self.is_asked else WAITS

    @property
    def spaces(self) -> list[bytes]:
        """The classes of which it is said."""
        return list(dict.fromkeys(space for space, _ in self.grants))

    @property
    def devices(self) -> list[Device]:
        """Those of which words are shown."""
        return [self.pair, *(device for device, _ in (*self.called_told, *self.waits_for))]

    @property
    def called_told(self) -> Sequence[tuple[Device, str | None]]:
        """Those of `called_hers` that are told one by one."""
        return self.called_hers[:MAX_TOLD]

    @property
    def called_untold(self) -> int:
        """How many more these are."""
        return len(self.called_hers) - len(self.called_told)


class _Days(NamedTuple):
    """What is told of a return; those of one device of which the same is told are one, in however many classes."""

    reported: int | None
    is_report: bool
    let_in: int
    let_in_by: str
    until: int | None
    is_asked: bool


@dataclass(frozen=True, slots=True)
class _Back:
    """Such a return in one class."""

    space: bytes
    person: bytes
    grants: Sequence[Authority]
    name: str | None
    reported_ms: int | None
    is_report: bool
    let_in_ms: int
    let_in_by: str
    until_ms: int | None
    said: bytes
    answers: int
    phrases: frozenset[bytes]
    called_hers: Mapping[Device, str | None]
    is_asked: bool
    waits_for: Mapping[Device, str | None]

    @property
    def pair(self) -> Device:
        return self.grants[0].key, self.grants[0].agreement

    @property
    def days(self) -> _Days:
        reported, until = (None if at_ms is None else at_ms // DAY_MS for at_ms in (self.reported_ms, self.until_ms))
        return _Days(reported, self.is_report, self.let_in_ms // DAY_MS, self.let_in_by, until, self.is_asked)


async def list_former_returns(agent: Agent) -> list[FormerReturn]:
    """Those that wait for an answer here first, the latest of these first. Empty where this device teaches nothing."""
    marks = await agent.replica.store.marks(NOT_MINE_MARKS)
    declined = frozenset(bytes.fromhex(key.removeprefix(NOT_MINE_MARKS)) for key in marks)
    alike: defaultdict[tuple[Device, _Days], list[_Back]] = defaultdict(list)
    for back in await _remembered(agent):
        alike[back.pair, back.days].append(back)
    joined = [_joined(backs, declined) for backs in alike.values()]
    return sorted(joined, key=lambda each: (not each.is_asked, each.is_declined, -each.let_in_ms, each.id))


def _joined(backs: Sequence[_Back], declined: Container[bytes]) -> FormerReturn:
    """What is told of one in all the classes in which that is the same."""
    first = backs[0]
    grants = tuple(sorted((back.space, grant.grant) for back in backs for grant in back.grants))
    called = {device: name for back in backs for device, name in back.called_hers.items()}
    waits_for = {device: name for back in backs for device, name in back.waits_for.items()}
    return FormerReturn(
        id=_id(first.pair, [grant for _, grant in grants], [back.said for back in backs], called),
        pair=first.pair,
        person=first.person,
        name=first.name,
        grants=grants,
        reported_ms=first.reported_ms,
        is_report=first.is_report,
        let_in_ms=first.let_in_ms,
        let_in_by=first.let_in_by,
        until_ms=first.until_ms,
        answers=sum(back.answers for back in backs),
        phrases=len(frozenset().union(*(back.phrases for back in backs))),
        called_hers=tuple(sorted(called.items(), key=lambda each: each[0])),
        is_asked=first.is_asked,
        is_declined=first.is_asked and all(grant in declined for _, grant in grants),
        waits_for=tuple(sorted(waits_for.items(), key=lambda each: each[0])),
    )


def _id(pair: Device, grants: Iterable[bytes], said: Iterable[bytes], called: Iterable[Device]) -> bytes:
    """The name of what is shown: another once there is more of it, so that a yes is about nothing else."""
    told = b"".join((*sorted(said), *sorted(map(device_id, called))))
    return blake3(b"".join((device_id(pair), *grants, blake3(told).digest()))).digest()


async def _remembered(agent: Agent) -> Sequence[_Back]:
    """As `_unheard`, found out once for as long as nothing comes: each page asks, and a thief may have said much."""
    changes = agent.replica.changes
    known = _FOUND.get(agent.replica)
    if known is None or known[0] != changes:
        # what comes while this is found out counts for the next who asks
        known = _FOUND[agent.replica] = changes, [back async for back in _unheard(agent)]
    return known[1]


_FOUND: Final[WeakKeyDictionary[Replica, tuple[int, Sequence[_Back]]]] = WeakKeyDictionary()


async def _unheard(agent: Agent) -> AsyncIterator[_Back]:
    """In each class that this device teaches, the former returns that wait for its word, or for others' beside it."""
    grants, door, mine = await own_grants(agent), agent.replica.door, own_device(agent)
    for space in await agent.spaces() if grants else ():
        roster = (await agent.replica.view(space)).roster
        unheard = [given for grant in roster.voices.unheard_by if (given := door.authority(grant)) is not None]
        teaching = await own_grant(agent, grants, space) if unheard and space not in roster.erased else None
        if teaching is None or teaching.person is None:
            continue
        of_one: defaultdict[tuple[Device, int | None], list[Authority]] = defaultdict(list)
        for given in sorted(unheard, key=lambda each: (each.at, each.grant)):
            if given.person == teaching.person and given.key != agent.device:
                of_one[given.pair, roster.again.get(given.grant)].append(given)
        if not of_one:
            continue
        known = await _Known.of(agent, space, roster, teaching.person)
        said = {each.header.target for each in known.vouches if each.header.author == agent.device}
        speaking = roster.speaking.get(teaching.person, ())
        asked = sorted(of_one.items(), key=lambda one: (one[0][0] not in speaking, -one[1][0].at, one[1][0].grant))
        await known.read({pair[0] for (pair, _), _ in asked[:MAX_ASKED]})
        for _, backs in asked[:MAX_ASKED]:
            waits_for = roster.voices.unheard_by[backs[0].grant]
            is_said = not said.isdisjoint(each.grant for each in backs)
            if is_said or mine in waits_for:
                yield await _back(agent, known, backs, waits_for if is_said else frozenset())


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a class, read once for all returns in it.

    Its roster, which of the teacher's devices this one leads to, the first key of each, all confirmations, and what
    some devices said, by the grants under which they did.
    """

    agent: Agent
    space: bytes
    roster: Roster
    own: Collection[Device]
    keys: Mapping[Device, Entry]
    vouches: Sequence[Entry]
    said: defaultdict[bytes | None, list[Entry]]

    @classmethod
    async def of(cls, agent: Agent, space: bytes, roster: Roster, person: bytes) -> Self:
        """Of a class in which a device stands for this teacher."""
        said = await agent.replica.store.of_kinds(space, [Kind.VOUCH, Kind.PERSON_KEY])
        by_kind: defaultdict[int, list[Entry]] = defaultdict(list)
        for stored in said:
            by_kind[stored.entry.header.kind].append(stored.entry)
        vouches = [entry for entry in by_kind[Kind.VOUCH] if not roster.hides(entry)]
        own = own_in_use(agent, roster, person)
        keys = first_keys(by_kind[Kind.PERSON_KEY], roster, agent.replica.door)
        return cls(agent, space, roster, own, keys, vouches, defaultdict(list))

    async def read(self, authors: Iterable[bytes]) -> None:
        """Read what these devices said."""
        for author in authors:
            for entry in await self.agent.replica.store.authored(self.space, author):
                if not self.roster.hides(entry):
                    self.said[entry.header.grant].append(entry)


async def _back(agent: Agent, known: _Known, grants: Sequence[Authority], waits_for: Collection[Device]) -> _Back:
    """What is known of a return in a class."""
    roster, own, keys = known.roster, known.own, known.keys
    pair = grants[0].key, grants[0].agreement
    store = agent.replica.store
    names = await _revocations_named(agent, roster, grants)
    ids = {grant.grant for grant in grants}
    cuts = await store.get([name for name, key in roster.revocations.items() if key == pair[0]])
    named = [cuts[name] for name in names & cuts.keys()]
    before = max(named, key=lambda cut: (cut.header.target is None, *_when(cut)), default=None)
    since = [cut for name, cut in cuts.items() if name not in names and cut.header.target in {None, *ids}]
    until = min(since, key=_when, default=None)
    said = [entry for name in ids for entry in known.said[name] if entry.header.author == pair[0]]
    phrases = [key for entry in said if (key := _phrase(entry)) is not None]
    called = {to for entry in said if (to := _confirmed_by(agent, entry)) is not None}
    called |= _proven(agent, known.vouches, phrases)
    called = _led_to(roster, grants[0].person or b"", called.difference(own, [pair])).difference(own, [pair])
    return _Back(
        space=known.space,
        person=grants[0].person or b"",
        grants=grants,
        name=name_of(keys.get(pair)),
        reported_ms=None if before is None else before.timestamp_ms,
        is_report=before is not None and before.header.target is None,
        let_in_ms=milliseconds_of(grants[0].at),
        let_in_by=named_by(agent, grants[0]),
        until_ms=None if until is None else until.timestamp_ms,
        said=blake3(b"".join(sorted(entry.id for entry in said))).digest(),
        answers=sum(entry.header.kind == Kind.FEEDBACK for entry in said),
        phrases=frozenset((*(each.agreement for each in phrases), *(each.id for each in said if _is_unread(each)))),
        called_hers={to: name_of(keys.get(to)) for to in called},
        is_asked=not waits_for,
        waits_for={device: name_of(keys.get(device)) for device in waits_for if device != own_device(agent)},
    )


def _when(entry: Entry) -> tuple[int, bytes]:
    return entry.header.at, entry.id


def _confirmed_by(agent: Agent, entry: Entry) -> Device | None:
    """The device for which an entry speaks by the word of who wrote it, be it also that of who drew a phrase."""
    named = agent.replica.door.authority(entry.header.target) if entry.header.kind == Kind.VOUCH else None
    return None if named is None else named.pair


def _phrase(entry: Entry) -> PhraseKey | None:
    """The phrase that somebody drew."""
    return parsed(entry, PhraseKey.parse) if entry.header.kind == Kind.PHRASE else None


def _is_unread(entry: Entry) -> bool:
    """Whether somebody drew a phrase of which the header alone is here: a yes is about that one too."""
    return entry.header.kind == Kind.PHRASE and entry.payload is None


def _proven(agent: Agent, vouches: Iterable[Entry], phrases: Iterable[PhraseKey]) -> set[Device]:
    """Whom one of these phrases proves; where very many say so, too many rather than too few."""
    signing = {each.signing for each in phrases if each.signing is not None}
    found: set[Device] = set()
    tried = 0
    for entry in vouches if signing else ():
        vouch, named = parsed(entry, Vouch.parse), agent.replica.door.authority(entry.header.target)
        if vouch is None or vouch.proof is None or named is None or named.person is None:
            continue
        keys = signing if vouch.signing is None else signing & {vouch.signing}
        device = named.pair
        tried += 0 if device in found else len(keys)
        if keys and (
            tried > MAX_TRIED or any(is_proof(vouch.proof, key, named.person, device, named.grant) for key in keys)
        ):
            found.add(device)
    return found


def _led_to(roster: Roster, person: bytes, called: Collection[Device]) -> set[Device]:
    """Some devices that become a person's, with all that these and their words lead to as theirs."""
    return {*called, *roster.voices.with_over().circle(person, *called).own}


async def _revocations_named(agent: Agent, roster: Roster, grants: Sequence[Authority]) -> set[bytes]:
    """What some grants of one key take back, by themselves or through others of it (`let_in_again`)."""
    door, found, key = agent.replica.door, set[bytes](), grants[0].key
    seen = pending = {grant.grant for grant in grants}
    while pending:
        entries = (await agent.replica.store.get(sorted(pending))).values()
        parents = {name for entry in entries for name in entry.header.parents}
        found |= parents & roster.revocations.keys()
        given = {name for name in parents - seen if (to := door.authority(name)) is not None and to.key == key}
        seen, pending = seen | given, given
    return found


# --- a human's word ---------------------------------------------------------------------------------------------------


async def confirm_former_return(agent: Agent, asked: FormerReturn, shown_as: str | None) -> int:
    """Say that a former device was in this teacher's hands after it was let in again; in how many classes that is new.

    Raises `BadInput`: UNKNOWN_DEVICE where more is known of it by now than was shown; USAGE where it is not said to be
    about a device of this teacher's own.
    """
    if shown_as != "own":
        raise BadInput(Code.USAGE, "what your own former device said is confirmed as that (--as own)")
    async with agent.writing:
        if all(each.id != asked.id for each in await list_former_returns(agent)):
            raise BadInput(Code.UNKNOWN_DEVICE, CHANGED, reader=asked.id.hex())
        grants, drafts = await own_grants(agent), list[Draft]()
        for space, grant in asked.grants:
            mine = await own_grant(agent, grants, space)
            if mine is not None:
                word = Vouch().encode()
                drafts.append(Draft(space, Kind.VOUCH, mine.grant, word, subject=mine.person, target=grant))
        await agent.write(*drafts)
    agent.on_change()
    return len(asked.spaces)


async def decline_former_return(agent: Agent, asked: bytes) -> None:
    """Note on this device that this was not its teacher, or that she does not know: no page begins with it any more.

    Nothing is said to anybody. Raises `BadInput(UNKNOWN_DEVICE)` where more is known of it by now than was shown.
    """
    each = await former_return(agent, asked)
    if each is None:
        raise BadInput(Code.UNKNOWN_DEVICE, CHANGED, reader=asked.hex())
    await agent.replica.store.set_marks({NOT_MINE_MARKS + grant.hex(): b"" for _, grant in each.grants})
    agent.on_change()


async def former_return(agent: Agent, asked: bytes) -> FormerReturn | None:
    """The one of this name, if it is the name of one that is asked here."""
    return next((each for each in await list_former_returns(agent) if each.is_asked and each.id == asked), None)
