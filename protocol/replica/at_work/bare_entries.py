"""Entries whose header alone is here, though no erasure in force covers them (docs/protocol.md, "Erasure").

The door lets a bare header in for any erasure that was ever said, since it must not depend on what came when. So after
an erasure that was held back or taken back, or one that names a single entry which is no thing (a remark, a wrap) and
therefore covers nothing, payloads may be missing that others have: they are asked for, and taken from anybody, as the
header's commitment proves them.

Rules:
- what an erasure in force covers is not asked for and not taken: it was destroyed, or is about to be;
- everything else that is held bare is; the same set is whole again wherever one replica has the payload;
- and until then not all is here, as if the entry had not come: but for what is held back, and what the root's own word
  alone shows again, which may be destroyed everywhere (docs/adr/0577).
"""

from __future__ import annotations

from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from types import MappingProxyType
from typing import Final, NamedTuple

from protocol.limits import MAX_BARE_IDS, PAGE_BYTES
from protocol.model.entry import ID_BYTES, PERSON_BYTES, Entry, Kind, commitment, parsed
from protocol.model.payload_rules import fault_of
from protocol.model.structure import Erasure
from protocol.replica.at_work.views import HEEDED_ABOVE, Views, by_space
from protocol.replica.interfaces import ERASURE_READ_MARKS, EntryStore
from protocol.rights.door import Door, covering_names, is_erasable

_BEYOND_ALL: Final = b"\xff" * (ID_BYTES + 1)
_LEFT_ALONE: Final = 30
"""With the call beside a prime: of copies that call by turns with one key each is asked in time."""

Lacking = tuple[tuple[bytes, bytes], ...]
"""(space, id) of entries whose payloads are asked for."""


class _Found(NamedTuple):
    """What lacks, and how many in each space keep it from being all here."""

    lacking: Lacking = ()
    missing: Mapping[bytes, int] = MappingProxyType({})


@dataclass(slots=True)
class Rounds:
    """Whom has been asked for what: everybody once for each, and again after a while, since nobody may have it.

    What comes to lack meanwhile comes after what lacked before: whoever brings bare headers without end has the others
    asked for all the same; and who brings one with each call is asked again for what lacked before in time.
    """

    _lacking: Lacking = ()
    _numbered: list[tuple[int, bytes, bytes]] = field(default_factory=list)
    """(number, space, id) of each that lacks, in the order in which they came to."""
    _given: int = 0
    _reached: dict[bytes, int] = field(default_factory=dict)
    """The number up to which somebody was asked."""
    _left_alone: Counter[bytes] = field(default_factory=Counter)

    def next(self, asked: bytes, lacking: Lacking, spaces: Collection[bytes]) -> tuple[bytes, ...]:
        """The ids to ask one device for now, of spaces in common."""
        if lacking != self._lacking:
            self._number(lacking)
        if not lacking:
            return ()
        first = bisect(self._numbered, (self._reached.get(asked, 0), _BEYOND_ALL))
        left = (each for each in islice(self._numbered, first, None) if each[1] in spaces)
        chosen = list(islice(left, MAX_BARE_IDS))
        if chosen:
            self._reached[asked] = chosen[-1][0]
        if len(chosen) < MAX_BARE_IDS:
            self._leave_alone(asked)
        return tuple(name for _, _, name in chosen)

    def begin(self, asked: bytes) -> None:
        """A new link: who was asked for all that lacks is asked again, anybody else goes on from there."""
        if self._left_alone[asked]:
            del self._left_alone[asked]
            self._reached.pop(asked, None)

    def _number(self, lacking: Lacking) -> None:
        numbers = {name: number for number, _, name in self._numbered}
        for _, name in lacking:
            if name not in numbers:
                self._given += 1
                numbers[name] = self._given
        self._lacking = lacking
        self._numbered = sorted((numbers[name], space, name) for space, name in lacking)

    def _leave_alone(self, asked: bytes) -> None:
        self._left_alone[asked] += 1
        if self._left_alone[asked] > _LEFT_ALONE:
            del self._left_alone[asked]
            self._reached.pop(asked, None)


class BareEntries:
    """What one replica holds bare: which payloads it lacks, and those that it takes and gives."""

    def __init__(self, store: EntryStore, door: Door, views: Views) -> None:
        """Over what a replica holds; made anew with its views."""
        self._store = store
        self._door = door
        self._views = views
        self._found: _Found | None = None
        self._changes = 0

    def note(self, admitted: Iterable[Entry]) -> None:
        """Entries have come in: what is lacking may have changed."""
        if any(entry.header.kind in HEEDED_ABOVE or entry.payload is None for entry in admitted):
            self._forget()

    async def lacking(self) -> Lacking:
        """What is held bare although no erasure in force covers it: others may have the payloads."""
        return (await self._look()).lacking

    async def missing(self) -> Mapping[bytes, int]:
        """How many entries of each space are not here before their payloads are."""
        return (await self._look()).missing

    async def _look(self) -> _Found:
        if not self._door.has_erasures:
            return _Found()
        if self._found is not None:
            return self._found
        changes, found = self._changes, await self._find()
        if changes == self._changes:
            self._found = found
        return found

    async def fill(self, entries: Iterable[Entry]) -> list[Entry]:
        """Take the payloads that belong to entries which are lacking them, for good; those entries."""
        found = await fitting(entries, self._store, self._views) if self._door.has_erasures else []
        if found:
            spaces = {entry.header.space for entry in found}
            # an erasure yet to come has more to destroy there than what arrives from now on
            await self._store.fill(found, {ERASURE_READ_MARKS + space.hex(): None for space in spaces})
            self._views.note_filled(spaces)
            self._forget()
        return found

    def _forget(self) -> None:
        self._found = None
        self._changes += 1

    async def whole(self, ids: Sequence[bytes], spaces: Iterable[bytes]) -> list[Entry]:
        """Of these entries those that are whole here, lie in one of `spaces`, and that nothing erases."""
        readable = set(spaces)
        found = (await self._store.get(ids)).values() if ids else ()
        whole = [entry for entry in found if entry.payload is not None and entry.header.space in readable]
        erased = await _erased(whole, self._views)
        return [entry for entry in whole if entry.id not in erased]

    async def _find(self) -> _Found:
        """In order of arrival."""
        if not await self._may_be_lacking():
            return _Found()
        bare = await self._store.bare()
        erased = await _erased(bare, self._views)
        left = [entry for entry in bare if entry.id not in erased]
        return _Found(tuple((entry.header.space, entry.id) for entry in left), await self._missing(left))

    async def _missing(self, lacking: Iterable[Entry]) -> Mapping[bytes, int]:
        let_go: defaultdict[bytes, set[bytes]] = defaultdict(set)
        for erasure in by_space(await self._store.scan_kinds([Kind.ERASE]) if lacking else (), _space_of):
            is_over = erasure.id not in (await self._views.view(erasure.header.space)).roster.lasting
            if is_over and (said := parsed(erasure, Erasure.parse)) is not None:
                let_go[said.covers].add(erasure.header.space)
        found = Counter[bytes]()
        for entry in by_space(lacking, _space_of):
            space, line = entry.header.space, self._door.lineage(entry.header.space)
            may_be_gone = any(not let_go[name].isdisjoint(line) for name in let_go.keys() & covering_names(entry))
            is_held_back = entry.id in (await self._views.view(space)).roster.held_back
            found[space] += not (may_be_gone or is_held_back)
        return +found

    async def _may_be_lacking(self) -> bool:
        """Bare headers come in by erasures: while all of those are in force and cover what they let in, none lacks."""
        names = []
        for erasure in by_space(await self._store.scan_kinds([Kind.ERASE]), _space_of):
            roster = (await self._views.view(erasure.header.space)).roster
            if erasure.id in roster.held_back or erasure.id in roster.undone:
                return True
            said = parsed(erasure, Erasure.parse)
            names += [] if said is None or len(said.covers) == PERSON_BYTES else [said.covers]
        let_in = (await self._store.get(names)).values() if names else ()
        return any(entry.payload is None and entry.id not in covering_names(entry) for entry in let_in)


async def fitting(entries: Iterable[Entry], store: EntryStore, views: Views) -> list[Entry]:
    """Those that bring a payload which belongs to an entry that is held bare and should not be."""
    whole = {entry.id: entry for entry in entries if entry.payload is not None and entry.salt is not None}
    held = await store.get(list(whole))
    bare = [whole[name] for name, entry in held.items() if entry.payload is None and _fits(whole[name])]
    erased = await _erased(bare, views)
    return [entry for entry in bare if entry.id not in erased]


def page_of(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """As many as a message has room for, and one if there is any."""
    room = PAGE_BYTES
    page: list[Entry] = []
    for entry in entries:
        room -= entry.wire_bytes
        if page and room < 0:
            break
        page.append(entry)
    return tuple(page)


def _fits(entry: Entry) -> bool:
    is_whole = (
        commitment(entry.salt or b"", entry.payload or b"") == entry.header.commitment and fault_of(entry) is None
    )
    # what the door needs it looks at itself: a payload that comes later would pass it by
    return is_whole and is_erasable(entry.header)


async def _erased(entries: Iterable[Entry], views: Views) -> set[bytes]:
    """Those that an erasure in force covers."""
    ordered = by_space(entries, _space_of)
    return {entry.id for entry in ordered if (await views.view(entry.header.space)).roster.is_erased(entry)}


def _space_of(entry: Entry) -> bytes:
    return entry.header.space
