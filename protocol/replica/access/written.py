"""What somebody has written: published, answered, opened and decided, by computers of theirs (docs/adr/0419).

Rules:
- coursework, and what is said of it, is somebody's if the device under whose grant it was written speaks for them in
  that class, as if nothing of it were hidden. All else is, and this where nobody speaks for them, if that device does
  wherever its right reaches and anybody does. What another wrote in their name is counted alone;
- files of what they published are in it, each once, as far as they lie here; those that went back with an answer are
  pupils' work with marks on it: they are named with their sizes;
- of a pupil there is the name that the class's list has by now, beside what was said of their work: to write it, its
  author had it. Whom an erasure covers is not named, and no text about them is in it;
- what else is said of another, a name on a list, how a pupil signs in, the keys of their work, is in it as that it was
  said.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from protocol.clock import milliseconds_of, rfc3339
from protocol.errors import RelaisError
from protocol.folds.coursework import Item, Version
from protocol.folds.erasing import is_covered
from protocol.model.entry import Entry, Kind, parsed
from protocol.model.structure import Erasure, Invite, PersonKey, Revocation, Ruling
from protocol.model.work import Feedback
from protocol.replica.access.works import Row, Works, folder_of
from protocol.replica.at_work.replica import Replica
from protocol.replica.at_work.views import SpaceView
from protocol.replica.console.operation import JSON
from protocol.replica.content.holdings import Need
from protocol.replica.office.not_shown import NotShown, not_shown
from protocol.replica.office.whose_words import speakers
from protocol.rights.door import Authority
from protocol.rights.roster import Roster

LESSONS_FOLDER: Final = "cours"
_OF_WORK: Final = (Kind.FEEDBACK, Kind.RECEIPT_TEACHER)
"""What is said of a pupil's work, to them."""
_OF_COURSEWORK: Final = (Kind.REVISION, Kind.WITHDRAW, Kind.RESTORE, *_OF_WORK)
_OF_RIGHTS: Final = (Kind.INVITE, Kind.GRANT, Kind.REVOKE, Kind.ERASE, Kind.RULING)

AsRow: TypeAlias = Callable[[Entry, bool], Row]
"""An entry as JSON, and whether it is hidden."""
GoneIn: TypeAlias = Callable[[bytes], Collection[bytes]]
"""The names that were destroyed here in a space, or above it (`upkeep.orders.DestroyedHere.at`)."""


@dataclass(slots=True)
class Written:
    """What was found: rows for the page; `entries` all that they wrote but what is about them, as JSON.

    `rights` are entries by anybody about their devices and codes. `withheld` texts are about somebody who is to be
    forgotten; `unconfirmed` entries were written in their name by a device that nobody of theirs has confirmed.
    """

    lessons: list[Row] = field(default_factory=list)
    remarks: list[Row] = field(default_factory=list)
    opened: list[Row] = field(default_factory=list)
    devices: list[Row] = field(default_factory=list)
    rights: list[Row] = field(default_factory=list)
    entries: list[Row] = field(default_factory=list)
    withheld: int = 0
    unconfirmed: int = 0

    @property
    def is_nothing(self) -> bool:
        """Whether nothing was ever written, or let in, in their name."""
        return not (self.entries or self.devices or self.rights)

    def as_json(self) -> JSON:
        """All of it."""
        return {
            "lessons": list(self.lessons),
            "remarks": list(self.remarks),
            "opened": list(self.opened),
            "devices": list(self.devices),
            "rights": list(self.rights),
            "entries": list(self.entries),
            "withheld": self.withheld,
            "unconfirmed": self.unconfirmed,
        }


@dataclass(frozen=True, slots=True)
class _Class:
    """A class in which somebody speaks: as it is shown, and with what is not."""

    view: SpaceView
    lying: NotShown
    theirs: frozenset[bytes]
    """The grants under which what is written is their word."""


@dataclass(slots=True)
class Writings:
    """Finds what one person has written, writing files by `works` as they are found."""

    replica: Replica
    works: Works
    gone_in: GoneIn
    as_row: AsRow
    name_of: Callable[[bytes], str | None]
    """What a space is called."""

    async def of(self, person: bytes) -> Written:
        """All of it that lies here. Raises `LocalFailure`."""
        found, door = Written(), self.replica.door
        classes = {space: there for space in door.spaces() if (there := await self._class(space, person)) is not None}
        ever = frozenset[bytes]().union(*(there.theirs for there in classes.values()))
        sure = frozenset(self._undisputed(ever, classes))
        for space, there in classes.items():
            if not there.theirs:
                classes[space] = replace(there, theirs=frozenset(each for each in sure if self._reaches(each, space)))
        let_in = {each.grant: each for each in door.authorities() if each.person == person or each.grant in ever}
        reached = {below for each in let_in.values() for below in (each.space, *door.below(each.space))}
        said = defaultdict[bytes, list[Entry]](list)
        for space in (each for each in door.spaces() if each in reached):
            roster = (await self.replica.view(space)).roster
            for entry in (stored.entry for stored in await self.replica.store.scan(space)):
                if entry.header.grant in let_in:
                    said[entry.header.author].append(entry)
                    by_class = entry.header.kind in _OF_COURSEWORK and space in classes
                    if entry.header.grant not in (classes[space].theirs if by_class else sure):
                        found.unconfirmed += 1
                    elif entry.header.subject != person:
                        found.entries.append(self._row(entry, roster))
            if space in classes:
                await self._of_class(classes[space], found)
        found.devices = [row async for row in self._devices(let_in.values(), said, sure)]
        found.rights = await self._rights(person, {each.key for each in let_in.values()}, let_in)
        return found

    def _undisputed(self, ever: Iterable[bytes], classes: Mapping[bytes, _Class]) -> Iterator[bytes]:
        """The grants that are theirs in each space that they reach and in which anybody speaks for them."""
        for grant in ever:
            reached = (there for space, there in classes.items() if there.theirs and self._reaches(grant, space))
            if all(grant in there.theirs for there in reached):
                yield grant

    def _reaches(self, grant: bytes, space: bytes) -> bool:
        right = self.replica.door.authority(grant)
        return right is not None and right.space in self.replica.door.lineage(space)

    async def _class(self, space: bytes, person: bytes) -> _Class | None:
        view = await self.replica.view(space)
        if person not in speakers(view.roster):
            return None
        lying = await not_shown(self.replica, view, self.gone_in(space))
        return _Class(view, lying, frozenset(speaking_as(lying.roster, person)))

    def _row(self, entry: Entry, roster: Roster) -> Row:
        row = self.as_row(entry, roster.hides(entry))
        return row if _is_theirs_to_read(entry, roster) else row | {"payload": None, "withheld": True}

    async def _of_class(self, there: _Class, found: Written) -> None:
        space = there.view.roster.space
        for item in sorted(there.lying.whole.items.values(), key=lambda item: (_first_ms(item), item.id)):
            versions = [each for each in item.versions.values() if each.grant in there.theirs]
            if versions:
                found.lessons.append(await self._lesson(there, item, versions, len(found.lessons) + 1))
        gone = self.gone_in(space)
        for entry in (stored.entry for stored in await self.replica.store.of_kinds(space, _OF_WORK)):
            if entry.header.grant in there.theirs and not is_covered(entry, gone):
                await self._of_work(there, entry, found)

    async def _lesson(self, there: _Class, item: Item, versions: list[Version], number: int) -> Row:
        folder = f"{LESSONS_FOLDER}/{folder_of(number, item.shown.record.title)}"
        written, rows = dict[bytes, str](), list[JSON]()
        for version in versions:
            ordinal = "" if not rows else f" (version {len(versions) - len(rows)})"
            rows.append(await self._version(item.space, version, f"{folder}{ordinal}", written))
        return {
            "id": item.id.hex(),
            "space_name": self.name_of(item.space),
            "hidden": item.id not in there.view.coursework.items,
            "withdrawn": item.withdrawn,
            "versions": rows,
        }

    async def _version(self, space: bytes, version: Version, folder: str, written: dict[bytes, str]) -> Row:
        record, files, missing = version.record, list[JSON](), None
        try:
            files = await self.works.copy(Need(space, record.content.stream, sealed=False), folder, written)
        except RelaisError as error:
            missing = error.code.value
        return {
            "id": version.id.hex(),
            "kind": record.kind.value,
            "title": record.title,
            "subject": record.subject,
            "due": None if record.due_ms is None else rfc3339(record.due_ms),
            "at": rfc3339(version.at_ms),
            "bytes": record.content.size,
            "files": files,
            "missing": missing,
        }

    async def _of_work(self, there: _Class, entry: Entry, found: Written) -> None:
        roster, whole = there.view.roster, there.lying.whole
        if not _is_theirs_to_read(entry, roster):
            found.withheld += 1
            return
        work = whole.hand_ins.get(entry.header.target or b"")
        item = None if work is None else whole.items.get(work.item)
        pupil = roster.persons.get(roster.who(entry.header.subject or b""))
        row: Row = {
            "id": entry.id.hex(),
            "space_name": self.name_of(entry.header.space),
            "at": rfc3339(entry.timestamp_ms),
            "work": None if entry.header.target is None else entry.header.target.hex(),
            "title": "?" if item is None else item.shown.record.title,
            "handed_in": None if work is None else rfc3339(work.at_ms),
            "pupil": None if pupil is None else pupil.name,
        }
        note = parsed(entry, Feedback.parse) if entry.header.kind == Kind.FEEDBACK else None
        if entry.header.kind == Kind.RECEIPT_TEACHER:
            found.opened.append(row)
        elif note is not None and not note.says_nothing:
            shown = there.view.coursework.hand_ins.get(entry.header.target or b"")
            stands = shown is not None and any(each.id == entry.id for each in shown.remarks)
            said: Row = {"text": note.text, "mark": note.mark, "redo": note.redo, "files": await self._named(note)}
            found.remarks.append(row | said | {"stands": stands})

    async def _named(self, note: Feedback) -> list[JSON]:
        """The files that went back with a remark, by name and size; None of a name where the list of them lacks."""
        if note.content is None:
            return []
        try:
            files = await self.works.holdings.manifest(note.content.stream)
        except RelaisError:
            return [{"name": None, "size": note.content.size}]
        return [{"name": file.path, "size": file.size} for file in files]

    async def _devices(
        self, let_in: Collection[Authority], said: Mapping[bytes, Sequence[Entry]], spoken: Collection[bytes]
    ) -> AsyncIterator[Row]:
        grants = defaultdict[bytes, list[Authority]](list)
        for each in sorted(let_in, key=lambda each: (each.at, each.grant)):
            grants[each.key].append(each)
        for key, given in grants.items():
            keys = [parsed(each, PersonKey.parse) for each in said[key] if each.header.kind == Kind.PERSON_KEY]
            called = [each.name for each in keys if each is not None and each.name is not None]
            rosters = [(await self.replica.view(each.space)).roster for each in given]
            places: list[JSON] = [{"role": each.role.value, "space_name": self.name_of(each.space)} for each in given]
            yield {
                "device": key.hex(),
                "name": called[-1] if called else None,
                "let_in": places,
                "since": rfc3339(milliseconds_of(given[0].at)),
                "last": rfc3339(max((each.timestamp_ms for each in said[key]), default=None)),
                "entries": len(said[key]),
                "confirmed": any(each.grant in spoken for each in given),
                "cut_off": all(key in roster.cut for roster in rosters),
            }

    async def _rights(self, person: bytes, keys: Collection[bytes], let_in: Collection[bytes]) -> list[Row]:
        """What anybody has said of their devices, of codes for them, and of forgetting them."""
        said = await self.replica.store.scan_kinds(_OF_RIGHTS)
        about = [each for each in said if each.id in let_in or _names(each, person, keys)]
        return [
            self.as_row(each, (await self.replica.view(each.header.space)).roster.hides(each))
            for each in sorted(about, key=lambda each: (each.header.at, each.id))
        ]


def speaking_as(roster: Roster, person: bytes) -> Iterator[bytes]:
    """The grants of a class under which what is written is this person's word."""
    return (given.grant for given in roster.granted.values() if roster.spoken_as(given) == person)


def _is_theirs_to_read(entry: Entry, roster: Roster) -> bool:
    """Whether what somebody wrote goes to them as they wrote it: it is about no other, or said to one of their work."""
    subject = entry.header.subject
    return subject is None or (entry.header.kind in _OF_WORK and subject not in roster.erased | roster.frozen)


def _names(entry: Entry, person: bytes, keys: Collection[bytes]) -> bool:
    match entry.header.kind:
        case Kind.INVITE:
            code = parsed(entry, Invite.parse)
            return code is not None and code.person == person
        case Kind.REVOKE:
            cut = parsed(entry, Revocation.parse)
            return cut is not None and cut.key in keys
        case Kind.ERASE:
            erased = parsed(entry, Erasure.parse)
            return erased is not None and erased.covers == person
        case Kind.RULING:
            ruling = parsed(entry, Ruling.parse)
            return ruling is not None and ruling.covers == person
        case _:
            return False


def _first_ms(item: Item) -> int:
    return min(version.at_ms for version in item.versions.values())
