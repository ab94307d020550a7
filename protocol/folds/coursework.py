"""The fold of coursework: items and their heads, hand-ins, receipts, feedback (R4, R5; docs/protocol.md, "Coursework").

A pure function of a space's set and of its roster, the same for every order of arrival.

Rules:
- an item is the id of its first revision; all revisions that name it as target, and the first, are its versions. It is
  one where that first one lies, be it passed over, and nowhere else: whoever has the server's key names it as target in
  a class of their own, and what pupils hand in for it would go there (docs/adr/0450);
- all heads are kept, the one with the longest ancestry is shown, a revision of several parents settles them;
- withdraw and restore replace one another like revisions do; the shown head of them says whether the item is withdrawn;
- a receipt counts only when it names the very content of the hand-in; states are only ever what signed receipts say;
- what a teacher says of a hand-in takes the place of what computers said that lead to hers, and of nobody else's words
  (`remarks`);
- what does not parse, or is held back or erased, is passed over, and so are a teacher's words and receipts by a device
  that nobody of theirs has confirmed, until somebody does;
- what is passed over holds its place: what replaced it, and was replaced through it, stays so (`model.ancestry`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from typing import TypeVar

from protocol.clock import MAX_TIME_MS, milliseconds_of
from protocol.folds.remarks import FeedbackNote, Remarks
from protocol.folds.seals import Sealers, came_with_its_work, first_readers, readers_of
from protocol.limits import MAX_CLOCK_LEAD_MS
from protocol.model.ancestry import along, heads, in_order_of_showing, replaced_by, to_replace
from protocol.model.entry import Entry, Kind, parsed
from protocol.model.payload_rules import is_said
from protocol.model.work import ContentRef, Feedback, HandIn, ItemKind, Receipt, Revision
from protocol.rights.roster import Roster

T = TypeVar("T")


class HandInState(StrEnum):
    """How far a hand-in has come, by what signed entries say.

    `carried` and `failed` are what a device knows besides.
    """

    LOCAL = "local"
    CARRIED = "carried"
    SAFE = "safe"
    SERVER = "server"
    TEACHER = "teacher"
    MARKED = "marked"
    REDO = "redo"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Version:
    """A revision: its id, who wrote it, when, what it says, and the grant under which that was written."""

    id: bytes
    author: bytes
    at_ms: int
    record: Revision
    parents: tuple[bytes, ...]
    grant: bytes | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """A piece of coursework as its entries make it.

    `heads` has the shown one first, and so has `versions`, which goes on as they are to be shown while those before
    have not arrived as a whole (R17). `line` is what a further revision replaces: the shown one, and what that did;
    `switches` what a further word on whether it is withdrawn does.
    """

    id: bytes
    space: bytes
    heads: tuple[Version, ...]
    line: tuple[bytes, ...]
    versions: Mapping[bytes, Version]
    withdrawn: bool
    switches: tuple[bytes, ...]
    clock_doubtful: bool

    @property
    def shown(self) -> Version:
        """The head that is shown everywhere."""
        return self.heads[0]

    @property
    def conflict(self) -> bool:
        """Whether there are several heads for a teacher to settle."""
        return len(self.heads) > 1

    def was_ever(self, kind: ItemKind) -> bool:
        """Whether any version is of this kind, whatever it is shown as: whoever has the server's key says another."""
        return any(version.record.kind is kind for version in self.versions.values())


@dataclass(frozen=True, slots=True)
class Witness:
    """A signed receipt that counts: what it says (SAFE, SERVER or TEACHER), by which key, when, under which grant."""

    says: HandInState
    by: bytes
    at_ms: int
    grant: bytes | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """A hand-in as its entries make it.

    `readers` maps a reader's key to sealed content keys, the author's own first, then those by the root or a teacher;
    `given` are the readers who have one of these: what another machine wraps might not open. `witnesses` are all
    receipts for it, oldest first. `remarks` are what stands of what is said of it: the newest first, but what says
    nothing, since it was taken back, behind all that says something. `remark_ids` are what a further one names.
    """

    id: bytes
    space: bytes
    item: bytes
    person: bytes
    author: bytes
    at_ms: int
    record: HandIn
    readers: Mapping[bytes, tuple[bytes, ...]]
    copies: frozenset[bytes]
    at_server: bool
    opened: bool
    remarks: tuple[FeedbackNote, ...]
    remark_ids: tuple[bytes, ...]
    late: bool
    clock_doubtful: bool
    witnesses: tuple[Witness, ...] = ()
    given: frozenset[bytes] = frozenset()
    wrapped_by: Mapping[bytes, tuple[bytes, ...]] = field(default_factory=dict)
    """The devices that made each reader's wraps (`readers`), in their order; a root of the territory among them."""
    meant_for: frozenset[bytes] = frozenset()
    """Whom its author sealed it to as it was handed in: the readers that there were then; nobody if that is not known.

    Held back or not, and whatever it is dated (`seals.first_readers`).
    """
    replaces: tuple[bytes, ...] = ()
    """What its author knew of, of the same pupil's for the same item: it comes after these, whatever their dates."""

    @property
    def feedback(self) -> FeedbackNote | None:
        """The first of what is said of it: its state goes by this."""
        return next(iter(self.remarks), None)

    @property
    def said_with_files(self) -> dict[FeedbackNote, ContentRef]:
        """Of what is said of it, what brings files."""
        return {note: note.record.content for note in self.remarks if note.record.content is not None}

    @property
    def state(self) -> HandInState:
        """The furthest state that signed entries prove."""
        for holds, state in (
            (self.feedback is not None and self.feedback.record.redo, HandInState.REDO),
            (self.feedback is not None, HandInState.MARKED),
            (self.opened, HandInState.TEACHER),
            (self.at_server, HandInState.SERVER),
            (bool(self.copies), HandInState.SAFE),
        ):
            if holds:
                return state
        return HandInState.LOCAL

    @property
    def received_ms(self) -> int:
        """When the server had it, as its latest receipt says: no sooner than it had, if it does not lie."""
        return max((each.at_ms for each in self.witnesses if each.says is HandInState.SERVER), default=0)

    @property
    def said_under(self) -> tuple[bytes | None, ...]:
        """The grants under which somebody's word made that state: of who answered, else of all who opened it."""
        if self.feedback is not None:
            return (self.feedback.grant,)
        return self.opened_under

    @property
    def opened_under(self) -> tuple[bytes | None, ...]:
        """The grants under which it was said that it has been opened, oldest first."""
        return tuple(each.grant for each in self.witnesses if each.says is HandInState.TEACHER)


def latest_first(works: Iterable[Work], now_ms: int) -> list[Work]:
    """Works by when they count as handed in: by their own dates, which machines choose.

    But what is dated long after now (`MAX_CLOCK_LEAD_MS`) by the server's receipt, or before all others; and each after
    those that it replaces: neither a clock that is years ahead nor a machine that dates what it hands in at the end of
    time keeps what a pupil hands in from being the last, nor does whoever has the server by dating receipts: they count
    for nothing that is not dated so (docs/adr/0282, 0294).
    """
    known = {work.id: work for work in works}
    moments = along(known, partial(_counts_from_ms, now_ms=now_ms), lambda work: work.replaces)
    return sorted(known.values(), key=lambda work: (moments[work.id], work.id), reverse=True)


def _all_are_known(_work: Work) -> int | None:
    return 0


def by_turns(
    works: Sequence[Work], most: int, known_since_ms: Callable[[Work], int | None] = _all_are_known
) -> list[Work]:
    """So many of these, in their order: of each machine's the first before the second of any.

    `known_since_ms` says since when the machine is known on which a work was handed in; None where it is not. Known
    ones have half of the places at least, in each turn who was known first before others; and so have all others:
    whoever has the server has as many machines as they like, and code on a known one hands in as often as it likes.
    """
    if len(works) <= most:
        return list(works)
    places: Counter[bytes] = Counter()
    known, others = list[tuple[int, int, Work]](), list[tuple[int, int, Work]]()
    for work in works:
        since_ms, turn = known_since_ms(work), places[work.author]
        (others if since_ms is None else known).append((turn, since_ms or 0, work))
        places[work.author] += 1
    of_known = max((most + 1) // 2, most - len(others))
    in_turn = [sorted(group, key=lambda each: each[:2]) for group in (known, others)]
    first = in_turn[0][:of_known]
    chosen = {work.id for *_, work in (*first, *in_turn[1][: most - len(first)])}
    return [work for work in works if work.id in chosen]


def _counts_from_ms(work: Work, *, now_ms: int) -> int:
    latest_ms = now_ms + MAX_CLOCK_LEAD_MS
    own = [work.at_ms] if work.at_ms <= latest_ms else _at_server_ms(work.witnesses)
    possible = [each for each in own if each <= latest_ms]
    return MAX_TIME_MS + 1 + min(possible) if possible else work.at_ms


@dataclass(frozen=True, slots=True)
class Coursework:
    """All items and hand-ins of a space."""

    items: Mapping[bytes, Item]
    hand_ins: Mapping[bytes, Work]


@dataclass(frozen=True, slots=True)
class Topics:
    """Entries that count, by the item or the hand-in that they are about, and hand-ins themselves, as they came.

    `passed` are those that are passed over and bear on it still, by item, and by hand-in: words that others replace,
    and wraps that came with a hand-in, which say for whom it was meant.
    """

    items: Mapping[bytes, Sequence[Entry]]
    works: Mapping[bytes, Sequence[Entry]]
    handed_in: Sequence[Entry]
    passed_of_items: Mapping[bytes, Sequence[Entry]]
    passed_of_works: Mapping[bytes, Sequence[Entry]]

    def of_items(self) -> dict[bytes, list[Entry]]:
        """All that makes each item what it is."""
        return _together(self.items, self.passed_of_items)

    def of_works(self) -> dict[bytes, list[Entry]]:
        """All that makes each hand-in what it is."""
        return _together(self.works, self.passed_of_works)


def _together(
    counting: Mapping[bytes, Sequence[Entry]], passed: Mapping[bytes, Sequence[Entry]]
) -> dict[bytes, list[Entry]]:
    return {name: [*counting.get(name, ()), *passed.get(name, ())] for name in {**counting, **passed}}


def topics_of(entries: Iterable[Entry], roster: Roster) -> Topics:
    """The entries of a space that make its coursework, sorted by what they are about; each is about one thing."""
    items: defaultdict[bytes, list[Entry]] = defaultdict(list)
    works: defaultdict[bytes, list[Entry]] = defaultdict(list)
    passed_of_items: defaultdict[bytes, list[Entry]] = defaultdict(list)
    passed_of_works: defaultdict[bytes, list[Entry]] = defaultdict(list)
    handed_in: list[Entry] = []
    for entry in entries:
        if entry.header.kind not in _KINDS:
            continue
        counts = _counts(entry, roster)
        if (item := item_named(entry)) is not None:
            (items if counts else passed_of_items)[item].append(entry)
        elif (work := work_named(entry)) is not None:
            if counts:
                works[work].append(entry)
                if entry.header.kind == Kind.HAND_IN:
                    handed_in.append(entry)
            elif entry.header.kind == Kind.FEEDBACK or came_with_its_work(entry):
                passed_of_works[work].append(entry)
    return Topics(items, works, handed_in, passed_of_items, passed_of_works)


def _counts(entry: Entry, roster: Roster) -> bool:
    if not is_said(entry) or roster.hides(entry):
        return False
    return entry.header.kind not in _A_TEACHERS_WORDS or roster.is_heard(entry.header.grant)


def item_named(entry: Entry) -> bytes | None:
    """The item that an entry makes or is about, if it is about one."""
    header = entry.header
    if header.kind == Kind.REVISION:
        return header.target or entry.id
    return header.target if header.kind in _SWITCHES else None


def work_named(entry: Entry) -> bytes | None:
    """The hand-in that an entry is, or is about."""
    header = entry.header
    if header.kind == Kind.HAND_IN:
        return entry.id
    return header.target if header.kind in _ABOUT_WORK else None


def fold_coursework(space: bytes, entries: Iterable[Entry], roster: Roster) -> Coursework:
    """The coursework of a space from its entries and its roster."""
    return with_topics(Coursework({}, {}), space, topics_of(entries, roster), roster)


def with_topics(before: Coursework, space: bytes, topics: Topics, roster: Roster) -> Coursework:
    """Coursework in which the items and hand-ins of `topics` are what these entries make of them; all others stand.

    `topics` holds all entries about each of them. The roster may have changed since `before`, but for nothing that
    bears on the others.
    """
    items = dict(before.items)
    for item_id, about in topics.items.items():
        item = _item(item_id, space, about, topics.passed_of_items.get(item_id, ()))
        if item is not None:
            items[item_id] = item
        else:
            items.pop(item_id, None)
    hand_ins = dict(before.hand_ins)
    moved = {name for name in topics.items if _dates(items.get(name)) != _dates(before.items.get(name))}
    for work in before.hand_ins.values() if moved else ():
        if work.item in moved:
            item, receipts_ms = items.get(work.item), _at_server_ms(work.witnesses)
            hand_ins[work.id] = replace(
                work,
                late=_is_late(work.at_ms, work.record, item),
                clock_doubtful=_is_doubtful(work.at_ms, work.record, item, receipts_ms),
            )
    sealers, remarks = Sealers.of(roster) if topics.handed_in else Sealers(), Remarks(roster)
    for entry in topics.handed_in:
        passed = topics.passed_of_works.get(entry.id, ())
        made = _work(entry, topics.works[entry.id], passed, items, sealers, remarks)
        if made is not None:
            hand_ins[made.id] = made
    return Coursework(items, hand_ins)


_SWITCHES = frozenset({Kind.WITHDRAW, Kind.RESTORE})
_A_TEACHERS_WORDS = frozenset({Kind.FEEDBACK, Kind.RECEIPT_TEACHER})
HANGS_ON_VOICES = _A_TEACHERS_WORDS | {Kind.WRAP}
"""What counts, or counts first, by who has said it."""
_ABOUT_WORK = _A_TEACHERS_WORDS | {Kind.WRAP, Kind.RECEIPT_SAFE, Kind.RECEIPT_SERVER}
_KINDS = _SWITCHES | _ABOUT_WORK | {Kind.REVISION, Kind.HAND_IN}


_SAYS: Mapping[int, HandInState] = {
    Kind.RECEIPT_SAFE: HandInState.SAFE,
    Kind.RECEIPT_SERVER: HandInState.SERVER,
    Kind.RECEIPT_TEACHER: HandInState.TEACHER,
}


def _begins_here(item_id: bytes, said: Iterable[Entry]) -> bool:
    """Whether its first revision is among what a space has of it: an id is of a header, which names its space."""
    return any(entry.id == item_id for entry in said)


def _item(item_id: bytes, space: bytes, about: Sequence[Entry], passed: Sequence[Entry]) -> Item | None:
    if not _begins_here(item_id, (*about, *passed)):
        return None
    revisions = [entry for entry in about if entry.header.kind == Kind.REVISION]
    records = {entry.id: record for entry in revisions if (record := parsed(entry, Revision.parse)) is not None}
    readable = {entry.id: entry for entry in revisions if entry.id in records}
    if not readable:
        return None
    others = [
        entry for entry in (*revisions, *passed) if entry.header.kind == Kind.REVISION and entry.id not in records
    ]
    versions = {
        entry.id: Version(
            entry.id,
            entry.header.author,
            milliseconds_of(entry.header.at),
            records[entry.id],
            entry.header.parents,
            entry.header.grant,
        )
        for entry in in_order_of_showing(readable, others)
    }
    switches = [entry for entry in about if entry.header.kind in _SWITCHES]
    other_switches = [entry for entry in passed if entry.header.kind in _SWITCHES]
    newest = heads(switches, other_switches)
    shown = heads(readable.values(), others)
    return Item(
        id=item_id,
        space=space,
        heads=tuple(versions[entry.id] for entry in shown),
        line=to_replace(replaced_by(shown[0].id, readable, others).values(), others),
        versions=versions,
        withdrawn=bool(newest) and newest[0].header.kind == Kind.WITHDRAW,
        switches=to_replace(switches, other_switches),
        clock_doubtful=any(
            version.at_ms < versions[parent].at_ms
            for version in versions.values()
            for parent in version.parents
            if parent in versions
        ),
    )


def _work(
    entry: Entry,
    about: Sequence[Entry],
    passed: Sequence[Entry],
    items: Mapping[bytes, Item],
    sealers: Sealers,
    remarks: Remarks,
) -> Work | None:
    header = entry.header
    record = parsed(entry, HandIn.parse)
    if record is None or header.target is None or header.subject is None:
        return None
    stream = record.content.stream
    of_kind: defaultdict[int, list[Entry]] = defaultdict(list)
    for other in about:
        of_kind[other.header.kind].append(other)

    def receipts(kind: Kind) -> list[Entry]:
        return [
            other
            for other in of_kind[kind]
            if (receipt := parsed(other, Receipt.parse)) is not None and receipt.stream == stream
        ]

    server = receipts(Kind.RECEIPT_SERVER)
    safe = [other for other in receipts(Kind.RECEIPT_SAFE) if other.header.author != header.author]
    teacher = receipts(Kind.RECEIPT_TEACHER)
    notes = {note.id: note for note in of_kind[Kind.FEEDBACK] if parsed(note, Feedback.parse) is not None}
    said_too = [other for other in (*about, *passed) if other.header.kind == Kind.FEEDBACK and other.id not in notes]
    at_ms = milliseconds_of(header.at)
    witnesses = tuple(
        Witness(_SAYS[other.header.kind], other.header.author, milliseconds_of(other.header.at), other.header.grant)
        for other in sorted((*safe, *server, *teacher), key=lambda other: (other.header.at, other.id))
    )
    readers, given, wrapped_by = readers_of(header.author, of_kind[Kind.WRAP], sealers)
    return Work(
        id=entry.id,
        space=header.space,
        item=header.target,
        person=header.subject,
        author=header.author,
        at_ms=at_ms,
        record=record,
        readers=readers,
        given=given,
        wrapped_by=wrapped_by,
        meant_for=first_readers(header.author, [*of_kind[Kind.WRAP], *passed]),
        replaces=header.parents,
        copies=frozenset(other.header.author for other in safe),
        at_server=bool(server),
        opened=bool(teacher),
        remarks=remarks.standing(in_order_of_showing(notes, said_too)),
        remark_ids=to_replace(notes.values(), said_too),
        late=_is_late(at_ms, record, items.get(header.target)),
        clock_doubtful=_is_doubtful(at_ms, record, items.get(header.target), _at_server_ms(witnesses)),
        witnesses=witnesses,
    )


def _at_server_ms(witnesses: Iterable[Witness]) -> list[int]:
    return [one.at_ms for one in witnesses if one.says is HandInState.SERVER]


def _is_doubtful(at_ms: int, record: HandIn, item: Item | None, receipts_ms: Sequence[int]) -> bool:
    """Whether a hand-in cannot be of the time that it says: after the server had it, or before there was the item.

    Where the server's receipt says that it is the item whose time is ahead, the hand-in's is as good as any. Or
    whether its machine says that others' words have moved that time.
    """
    if record.clock_ms is not None or any(at_ms > seen_ms + MAX_CLOCK_LEAD_MS for seen_ms in receipts_ms):
        return True
    first_ms = _first_ms(item)
    if first_ms is None or at_ms >= first_ms:
        return False
    return all(first_ms <= seen_ms + MAX_CLOCK_LEAD_MS for seen_ms in receipts_ms)


def _dates(item: Item | None) -> tuple[int | None, int | None]:
    """What the time of each work for it is compared with."""
    return _due_ms(item), _first_ms(item)


def _first_ms(item: Item | None) -> int | None:
    first = None if item is None else item.versions.get(item.id)
    return None if first is None else first.at_ms


def _due_ms(item: Item | None) -> int | None:
    return None if item is None else item.shown.record.due_ms


def _is_late(at_ms: int, record: HandIn, item: Item | None) -> bool:
    """Whether it was due by then, and by what its machine knew of the time itself: others' words make nobody late."""
    due_ms, known_ms = _due_ms(item), at_ms if record.clock_ms is None else record.clock_ms
    return due_ms is not None and min(at_ms, known_ms) > due_ms


def live_content(coursework: Coursework) -> Iterable[ContentRef]:
    """Content that every device of the space keeps.

    All heads of items that are not withdrawn, and what is said of hand-ins, in the order in which it is needed.
    """
    for item in in_order_of_need(coursework.items.values()):
        if not item.withdrawn:
            for version in item.heads:
                yield version.record.content
    for work in coursework.hand_ins.values():
        yield from work.said_with_files.values()


def in_order_of_need(items: Iterable[Item]) -> list[Item]:
    """What is due soonest first, then what is not due, small before large."""

    def rank(item: Item) -> tuple[bool, int, int, bytes]:
        record = item.shown.record
        return record.due_ms is None, record.due_ms or 0, record.content.size, item.id

    return sorted(items, key=rank)


def sealed_content(coursework: Coursework, author: bytes | None = None) -> Iterable[ContentRef]:
    """Content of hand-ins: of all of them for who reads or keeps them, or of one author's own (R1)."""
    for work in coursework.hand_ins.values():
        if author is None or work.author == author:
            yield work.record.content
