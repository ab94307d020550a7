"""What the pages show, taken from the folds: classes, cards, hand-ins, how the exchange stands.

Rules:
- an item is read in its newest version that is here as a whole (R17); one without any is "arriving". What is read, its
  title, its author and its day are always those of one version (docs/adr/0306);
- a pupils' machine shows nothing of what is withdrawn, and of hand-ins only what the fold says of their state;
- names come from the class list of the very space (R11);
- a class of a past year is as if it were not here (`past_years`).
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

from protocol.errors import BadInput, Code, LocalFailure, Refused
from protocol.folds.coursework import Coursework, HandInState, Item, Version, Work, latest_first
from protocol.model.entry import Kind
from protocol.model.work import ContentRef, ItemKind, Revision
from protocol.replica.at_work.views import Basis, SpaceView
from protocol.replica.content.holdings import Need
from protocol.replica.office.namesakes import Place, alike, places_in
from protocol.replica.office.spaces import is_hidden
from protocol.replica.office.whose_words import signatures, speakers
from protocol.rights.roster import Person, Roster
from protocol.roles import SEES_ALL_WORK, PersonRole
from protocol.transfer.manifest import ManifestEntry
from sync_agent.app import Agent
from sync_agent.coursework.known_as_of import agreed_ms
from sync_agent.coursework.past_years import past_spaces
from sync_agent.coursework.reading import Manifests, need_of, readable_version
from sync_agent.coursework.texts import text_file, text_of
from sync_agent.hand_ins.drafts import Drafts
from sync_agent.hand_ins.file_names import SealedLists
from sync_agent.hand_ins.handing_in import fate_marks, state_of
from sync_agent.health import LastSync
from sync_agent.keys.confirming import is_unconfirmed
from sync_agent.machine.marks import REFUSED_MARKS
from sync_agent.network.trouble import in_touch
from sync_agent.pacing.budget import Hold, Verdict
from sync_agent.portal.shown.first_names import Pupil, whole_names
from sync_agent.portal.shown.standing import Exchange
from sync_agent.scheduler import Outcome
from sync_agent.school.sign_in import SignInBook
from sync_agent.space_names import space_names, unnamed_schools

_INDEXES: Final = ("index.html", "index.htm", "index.xhtml")
_PAGE_ENDINGS: Final = (".html", ".htm", ".xhtml")
_FAR_MS: Final = 1 << 62
_REMEMBERED_TEXTS: Final = 64


@dataclass(frozen=True)
class Room:
    """A space of this device as people see it.

    `is_class`: it is one, and not what lies above. `basis` changes whenever what its folds heed has grown. `now_ms` is
    when it is looked at.
    """

    space: bytes
    name: str
    is_class: bool
    roster: Roster
    coursework: Coursework
    basis: Basis
    now_ms: int
    signatures: Mapping[bytes, str] = field(default_factory=dict)
    """By which names words are signed of those who may say something in it."""
    uai: str | None = None
    """That of a school that has no other name."""
    places: Mapping[bytes, Place] = field(default_factory=dict)
    """Of pupils whom nothing in their names tells from others of this device: where they stand among those here."""

    @property
    def pupils(self) -> list[Person]:
        """Who learns here, by name; of one name, by their numbers."""
        pupils = [person for person in self.roster.persons.values() if person.role is PersonRole.PUPIL]
        return sorted(pupils, key=lambda one: (one.name.casefold(), self.number_of(one.id), one.id))

    def lists(self, person: bytes) -> bool:
        """Whether somebody is on its list."""
        return person in self.roster.persons

    @property
    def teachers(self) -> list[Person]:
        """Who teaches here, by name."""
        return _by_name(self.roster.teachers)

    @cached_property
    def works(self) -> Mapping[bytes, Sequence[Work]]:
        """What was handed in for each item, newest first: sorted once for a page, whoever hands in how often."""
        found: defaultdict[bytes, list[Work]] = defaultdict(list)
        for work in latest_first(self.coursework.hand_ins.values(), self.now_ms):
            found[work.item].append(work)
        return found

    @cached_property
    def newest(self) -> frozenset[bytes]:
        """The hand-ins that their pupil has replaced by no other for the same item."""
        last: dict[tuple[bytes, bytes], bytes] = {}
        for item, works in self.works.items():
            for work in works:
                last.setdefault((item, self.roster.who(work.person)), work.id)
        return frozenset(last.values())

    @cached_property
    def whole_names(self) -> Mapping[bytes, str]:
        """The pupils' names for who teaches them; two who share one are told apart."""
        return whole_names(Pupil(one.id, one.name, self.name, self.number_of(one.id)) for one in self.pupils)

    def number_of(self, person: bytes) -> int:
        """By which number a pupil is told from those of the same name; 0 where there is none."""
        return self.places[person].number if person in self.places else 0

    def versions_of(self, work: Work) -> list[Work]:
        """All that the same pupil handed in for the same assignment, newest first."""
        owner = self.roster.who(work.person)
        return [other for other in self.works.get(work.item, ()) if self.roster.who(other.person) == owner]

    @cached_property
    def left(self) -> Mapping[bytes, str]:
        """The names of who has left the list, as it called them last; those who share one are told apart."""
        gone = sorted(self.roster.left.values(), key=lambda one: (one.name.casefold(), one.id))
        return whole_names(Pupil(one.id, one.name, self.name) for one in gone)

    def name_of(self, person: bytes | None) -> str | None:
        """A name from the class list, if it has one."""
        found = None if person is None else self.roster.persons.get(self.roster.who(person))
        return None if found is None else found.name

    def called(self, person: bytes) -> str | None:
        """What a pupil is called, told from who shares the name; None of whom the list has no name."""
        return self.whole_names.get(self.roster.who(person)) or self.name_of(person)

    def voice_of(self, person: bytes | None) -> str | None:
        """The name of whose word something is (`Roster.shown_as`): a list alone makes nobody somebody else."""
        signed = self.signatures.get(person or b"")
        return self.name_of(person) if signed is None and person not in self.roster.aliases else signed


@dataclass(frozen=True, slots=True)
class Piece:
    """An item, where it is, and the version of it that can be read here, if one can."""

    room: Room
    item: Item
    readable: Version | None
    put_away: bool = False
    """Whether its files made way for others here, and come when somebody asks for them."""

    @property
    def is_newest(self) -> bool:
        """Whether what can be read is what everybody is shown."""
        return self.readable is self.item.shown

    @property
    def version(self) -> Version:
        """What can be read, else what everybody is shown: of this one are the title, the author and the day."""
        return self.readable or self.item.shown

    @property
    def record(self) -> Revision:
        """What that version says; as what, and until when, work is handed in is for the shown one to say."""
        return self.version.record

    @property
    def is_assignment(self) -> bool:
        """Whether work can be handed in for it."""
        return self.item.shown.record.kind is ItemKind.ASSIGNMENT

    @property
    def due_ms(self) -> int | None:
        """When it is due."""
        return self.item.shown.record.due_ms

    def works_of(self, person: bytes | None) -> list[Work]:
        """What a person handed in for it, newest first; without a person, everything."""
        works = self.room.works.get(self.item.id, ())
        return [work for work in works if person is None or self.room.roster.who(work.person) == person]


@dataclass(frozen=True, slots=True)
class Told:
    """A hand-in with its state: what this device knows besides the fold."""

    work: Work
    state: HandInState
    made_here: bool
    refusal: str | None


class Shelf:
    """Looks things up for the pages; remembers lists of files that it has read."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self._manifests = Manifests()
        self._sealed_lists = SealedLists()
        self._texts: OrderedDict[bytes, str] = OrderedDict()
        self._known_signatures: dict[bytes, tuple[int, Mapping[bytes, str]]] = {}
        self._known_places: dict[bytes, tuple[Basis, frozenset[Person], Mapping[bytes, Place]]] = {}
        self.sign_in = SignInBook(agent)
        self.drafts = Drafts(agent)

    # --- classes and people -------------------------------------------------------------------------------------------

    async def rooms(self) -> list[Room]:
        """The spaces of this device, those above first; no class that is closed, or of a past year."""
        door = self.agent.replica.door
        names = await space_names(self.agent)
        unnamed = await unnamed_schools(self.agent, names)
        rooms, now_ms = [], self.agent.now_ms()
        past = await past_spaces(self.agent)
        for space in await self.agent.spaces():
            if space in past:
                continue
            view = await self.agent.replica.view(space)
            if await is_hidden(self.agent.replica, space):
                continue
            is_class = door.parent(space) not in (None, door.territory)
            signed = await self._signatures(view)
            name, uai = names.get(space, ""), unnamed.get(space)
            rooms.append(Room(space, name, is_class, view.roster, view.coursework, view.basis, now_ms, signed, uai))
        return await self._with_places(rooms)

    async def _signatures(self, view: SpaceView) -> Mapping[bytes, str]:
        # what any list says counts
        space, changes = view.roster.space, self.agent.replica.changes
        known = self._known_signatures.get(space)
        if known is None or known[0] != changes:
            found = await signatures(self.agent.replica, view.roster, speakers(view.roster))
            known = self._known_signatures[space] = changes, found
        return known[1]

    async def _with_places(self, rooms: list[Room]) -> list[Room]:
        """The rooms with the numbers of those of their pupils who share a name; lists are read where some do."""
        groups = alike(one for room in rooms if room.is_class for one in room.roster.persons.values())
        found = {person.id for group in groups for person in group}
        placed = []
        for room in rooms:
            shared = [one for one in room.pupils if one.id in found] if room.is_class else []
            places = await self._places(room, shared) if shared else {}
            placed.append(replace(room, places=places) if places else room)
        return placed

    async def _places(self, room: Room, shared: Sequence[Person]) -> Mapping[bytes, Place]:
        basis, whose = room.basis, frozenset(shared)
        known = self._known_places.get(room.space)
        if known is None or known[:2] != (basis, whose):
            found = await places_in(self.agent.replica, room.roster, shared)
            known = self._known_places[room.space] = basis, whose, found
        return known[2]

    async def teaches(self) -> bool:
        """Whether this is a teacher's device."""
        return await self.agent.role() in SEES_ALL_WORK

    def author_of(self, grant: bytes | None, room: Room) -> str | None:
        """The name of the person whose word is what was written under a grant, if a list has one.

        Other grants of the same device say nothing of it: whoever has the server writes as many as they like.
        """
        return room.voice_of(room.roster.shown_as(self.agent.replica.door.authority(grant)))

    def is_unconfirmed(self, grant: bytes | None, room: Room) -> bool:
        """Whether a teacher's grant names a person, without that anybody of theirs has said so."""
        return is_unconfirmed(room.roster, self.agent.replica.door.authority(grant))

    async def may_publish(self, room: Room) -> bool:
        """Whether this device may write coursework in a space."""
        try:
            await self.agent.right(room.space, Kind.REVISION)
        except (BadInput, Refused):
            return False
        return True

    # --- items --------------------------------------------------------------------------------------------------------

    async def pieces(self, rooms: Iterable[Room]) -> list[Piece]:
        """All items of these spaces, in no promised order."""
        return [await self._piece(room, item) for room in rooms for item in room.coursework.items.values()]

    async def piece(self, rooms: Iterable[Room], wanted: bytes) -> Piece:
        """One item. Raises `BadInput(UNKNOWN_ITEM)`."""
        for room in rooms:
            item = room.coursework.items.get(wanted)
            if item is not None:
                return await self._piece(room, item)
        raise BadInput(Code.UNKNOWN_ITEM, f"there is no item “{wanted.hex()}” here")

    async def _piece(self, room: Room, item: Item) -> Piece:
        readable = await readable_version(self.agent, item)
        away = readable is None and self.agent.comes_on_demand(need_of(item, item.shown))
        return Piece(room, item, readable, put_away=away)

    async def files(self, content: ContentRef | None) -> Sequence[ManifestEntry]:
        """The files of a version or of feedback; nothing while their list is not here."""
        return () if content is None else await self._manifests.of(self.agent, content.stream) or ()

    async def text(self, space: bytes, content: ContentRef | None) -> str:
        """The text that a teacher wrote instead of a file, or beside some; empty without one, and until all is here."""
        file = text_file(await self.files(content))
        if content is None or file is None or not await self.is_here(space, content):
            return ""
        found = self._texts.get(file.stream)
        if found is None:
            try:
                async with aclosing(self.agent.holdings.read_checked(file.stream)) as pieces:
                    found = text_of(b"".join([piece async for piece in pieces]))
            except LocalFailure as failure:
                if failure.code not in (Code.INCOMPLETE, Code.DAMAGED):
                    raise
                return ""
            self._texts[file.stream] = found
            while len(self._texts) > _REMEMBERED_TEXTS:
                self._texts.popitem(last=False)
        return found

    async def is_here(self, space: bytes, content: ContentRef, *, sealed: bool = False) -> bool:
        """Whether all of some content is here."""
        return await self.agent.holdings.is_complete(Need(space, content.stream, sealed=sealed))

    # --- hand-ins -----------------------------------------------------------------------------------------------------

    async def work(self, rooms: Iterable[Room], wanted: bytes) -> tuple[Room, Work]:
        """One hand-in. Raises `BadInput(UNKNOWN_HAND_IN)`."""
        for room in rooms:
            work = room.coursework.hand_ins.get(wanted)
            if work is not None:
                return room, work
        raise BadInput(Code.UNKNOWN_HAND_IN, f"there is no hand-in “{wanted.hex()}” here")

    async def refusals(self) -> Mapping[str, bytes]:
        """`handing_in.fate_marks`, with why the server refused something for good."""
        return await fate_marks(self.agent.replica.store)

    def told(self, room: Room, work: Work, refusals: Mapping[str, bytes]) -> Told:
        """A hand-in of a room with its state."""
        reason = refusals.get(f"{REFUSED_MARKS}{work.id.hex()}")
        return Told(
            work,
            state_of(self.agent, room.roster, work, refusals),
            self.agent.made(work),
            None if reason is None else reason.decode(errors="replace"),
        )

    async def sealed_files(self, work: Work) -> Sequence[tuple[str, int]]:
        """Path and size of each file inside a hand-in, as far as this device may know them."""
        return await self._sealed_lists.of(self.agent, work)

    # --- the exchange -------------------------------------------------------------------------------------------------

    async def exchange(self, outcome: Outcome | None, rooms: Collection[Room]) -> Exchange:
        """How it stands."""
        store = self.agent.replica.store
        waiting, _ = await store.unsent_totals()
        waiting += len(await self.agent.replica.content.unsent_packs())
        proven = [await self.proven_ms(room) for room in rooms if room.is_class]
        last = await LastSync.read(store)
        # where no class is shown, all of nothing is here as of the last answer
        as_of = proven or ([] if last is None else [last.at_ms])
        return Exchange(
            outcome=outcome,
            waiting=waiting,
            missing=len(await self.agent.missing()) + sum((await self.agent.replica.bare.missing()).values()),
            refused=len(await store.marks(REFUSED_MARKS)),
            proven_ms=min((at for at in as_of if at is not None), default=None) if None not in as_of else None,
            held=self._held(),
            neighbours=self.agent.live_neighbours(),
            seen=None if last is None or last.seen is None else in_touch(last.seen, self.agent.live_neighbours()),
            moving=self.agent.progress.moving,
            server=self.agent.enrolment.territory_name,
        )

    def _held(self) -> Verdict:
        now = self.agent.budget.verdict
        return Verdict(Hold.DISK_FULL) if now.hold is None and self.agent.has_no_room else now

    async def proven_ms(self, room: Room) -> int | None:
        """When it was last proven that everything of a space is here."""
        return await agreed_ms(self.agent, room.space)


def entry_page(files: Sequence[ManifestEntry]) -> str | None:
    """The file with which a lesson opens: its index, else its only page."""
    paths = {file.path.lower(): file.path for file in files}
    for index in _INDEXES:
        if index in paths:
            return paths[index]
    pages = [file.path for file in files if file.path.lower().endswith(_PAGE_ENDINGS)]
    return pages[0] if len(pages) == 1 else None


def by_due(pieces: Iterable[Piece]) -> list[Piece]:
    """What is due first comes first, what has no date last."""
    return sorted(pieces, key=lambda piece: (piece.due_ms or _FAR_MS, piece.record.title, piece.item.id))


def newest_first(pieces: Iterable[Piece]) -> list[Piece]:
    """What was said last comes first."""
    return sorted(pieces, key=lambda piece: (piece.version.at_ms, piece.item.id), reverse=True)


def _by_name(persons: Iterable[Person]) -> list[Person]:
    return sorted(persons, key=lambda person: (person.name.casefold(), person.id))
