"""The folds of a replica's spaces, kept while what they were made from stands (R4; docs/protocol.md, "Roster").

Rules:
- a fold reads the whole set of its own space; of the spaces above it only what it heeds: grants, erasures and rulings,
  and all of them as soon as a revocation has to be weighed;
- so a new school in the territory, or a name in the staff's list, makes no class be folded again;
- what lies above is weighed once, for the space right above: a class in which nothing bears on that takes it over, and
  reads its own set alone. Else the folds of thousands of classes would cost their square (docs/adr/0494);
- a fold that is kept grows by what has come, where it can (`protocol.folds.growth`): only else is the whole set read;
- what lies above is read once; afterwards only what has come since;
- of many who ask for a space that has grown, one folds it, and the others wait;
- what a replica remembers is an input of a fold as sets are: one that it was made without is made anew;
- how many folds are kept is bounded by the room that all but the largest take; the least used go first. One that is
  larger than all that room, a thief's, and those that are looked at by turns with it would each make the other go.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol, TypeVar
from weakref import WeakValueDictionary

from protocol.folds.coursework import Coursework
from protocol.folds.growth import LETS_IN, MOVES_ALL, Heard, SpaceFold, fold_below, fold_space, grown, growth_of
from protocol.folds.measures import Measures
from protocol.model.entry import Entry, Kind
from protocol.replica.interfaces import EntryStore
from protocol.rights.door import Door
from protocol.rights.revocations import is_weighed
from protocol.rights.roster import Roster, fold_roster
from protocol.rights.speaking import Remembered, Starts

T = TypeVar("T")

KEPT_BYTES: Final = 60_000_000
"""So much room folds may take beside the largest, by a rough count, where a server has many large classes."""

_EMPTY_BYTES: Final = 8_000
_INDEXED_BYTES: Final = 120
_FOLDED_BYTES: Final[Mapping[int, int]] = {Kind.PERSON: 150, Kind.REVISION: 1_500, Kind.HAND_IN: 2_400, Kind.WRAP: 700}
HEEDED_ABOVE: Final = LETS_IN | MOVES_ALL
"""What moves folds in the spaces below it: what may put an erasure in force, or out of it, is among it."""
_ALONE: Final = frozenset({Kind.ERASE, Kind.RULING})
_HIDES: Final = frozenset({Kind.ERASE, Kind.REVOKE})


@dataclass(frozen=True, slots=True)
class Basis:
    """What folds were made from: how many own entries, and how many heeded ones in each space above, nearest first.

    `weighs` says that a revocation was weighed, so that all entries above count; `filled` is how often own entries that
    had been bare have got their payloads; `remembered` what this replica remembers.
    """

    own: int
    above: tuple[int, ...]
    weighs: bool
    filled: int = 0
    remembered: Remembered = field(default_factory=Remembered)


@dataclass(frozen=True, slots=True)
class SpaceView:
    """The folds of a space, what they were made from, and the room that they take, by a rough count."""

    fold: SpaceFold
    basis: Basis
    weight_bytes: int

    @property
    def roster(self) -> Roster:
        """Rights and names."""
        return self.fold.roster

    @property
    def coursework(self) -> Coursework:
        """Items and hand-ins."""
        return self.fold.coursework

    @property
    def measures(self) -> Measures:
        """Orders to a school."""
        return self.fold.measures


@dataclass(slots=True)
class _Above:
    """What has been read of a space above others: of `count` entries those that are heeded, and those that alone do."""

    count: int = 0
    heeded: list[Heard] = field(default_factory=list)
    revokes: bool = False
    erases: bool = False
    erasures: list[Entry] = field(default_factory=list)

    def add(self, entries: Sequence[Entry]) -> None:
        self.count += len(entries)
        self.heeded += [Heard.of(entry) for entry in entries if entry.header.kind in HEEDED_ABOVE]
        self.revokes = self.revokes or any(map(_weighs, entries))
        self.erasures += [entry for entry in entries if entry.header.kind in _ALONE]
        self.erases = self.erases or any(entry.header.kind == Kind.ERASE for entry in entries)


class Memory(Protocol):
    """Whom a replica has met, and in which order: as it stands now, and the same object as long as that does."""

    async def of(self, space: bytes) -> Remembered:
        """What that comes to where one space is looked at. Raises `LocalFailure`."""
        ...


class NoMemory:
    """Of a replica that remembers nobody."""

    _nobody: Final = Remembered()

    async def of(self, _space: bytes) -> Remembered:
        """Nothing."""
        return self._nobody


def by_space(each: Iterable[T], space_of: Callable[[T], bytes]) -> list[T]:
    """The same, one space after the other: by turns each might be folded anew, since not of all folds are kept."""
    return sorted(each, key=space_of)


class Views:
    """The folds over one store, judged by one door; made anew with it."""

    def __init__(self, store: EntryStore, door: Door) -> None:
        """Nothing is read yet."""
        self._store = store
        self._door = door
        self._kept: OrderedDict[bytes, SpaceView] = OrderedDict()
        self._kept_bytes = 0
        self._above: dict[bytes, _Above] = {}
        self._filled: Counter[bytes] = Counter()
        self._memory: Memory = NoMemory()
        self._destroyed: frozenset[bytes] = frozenset()
        self._destroyed_at: Mapping[bytes, frozenset[bytes]] = {}
        self._era = 0
        """Counts how often something else than sets, which folds hang on, has changed."""
        self._folding: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()

    def note_filled(self, spaces: Iterable[bytes]) -> None:
        """Entries of these spaces, which count as they did, hold more than they did."""
        self._filled.update(spaces)

    def remember(self, memory: Memory) -> None:
        """Fold from now on with what this replica remembers."""
        self._memory = memory

    def note_destroyed(self, obeyed: frozenset[bytes], obeyed_at: Mapping[bytes, frozenset[bytes]]) -> None:
        """Fold from now on with all erasures that this replica has obeyed: what they cover stays erased here.

        Those that it has obeyed in a space, and not yet wherever they reach, count in the fold of that one alone.
        """
        if (obeyed, obeyed_at) != (self._destroyed, self._destroyed_at):
            self._era += 1
            self._destroyed, self._destroyed_at = obeyed, obeyed_at
            self._kept.clear()
            self._kept_bytes = 0

    def filled(self, space: bytes) -> int:
        """How often that has happened in a space."""
        return self._filled[space]

    async def view(self, space: bytes) -> SpaceView:
        """The folds of a space as its store stands."""
        cached = self._kept.get(space)
        if cached is None or not await self._stands(space, cached.basis):
            async with self._folding.setdefault(space, asyncio.Lock()):
                cached = await self._folded(space)
        elif space in self._kept:
            # others may have made it go meanwhile; it is as good for who asked
            self._kept.move_to_end(space)
        return cached

    async def _folded(self, space: bytes) -> SpaceView:
        """As `view`, while nobody else folds the space; whoever came first may have done it."""
        cached = self._kept.get(space)
        view = await self.changed(space, None if cached is None else cached.basis) or cached
        assert view is not None  # noqa: S101  (there is one where there was no basis)
        if view is not cached:
            self._keep(space, view)
        return view

    async def changed(self, space: bytes, basis: Basis | None) -> SpaceView | None:
        """The folds of a space, unless they were made from `basis` and would be the same; nothing is kept."""
        if basis is not None and await self._stands(space, basis):
            return None
        line = self._door.lineage(space)[1:]
        above = [await self._read_above(member) for member in line]
        filled = self._filled[space]
        kept, remembered = self._kept.get(space), await self._memory.of(space)
        stays = kept is not None and (kept.basis.filled, kept.basis.remembered) == (filled, remembered)
        if kept is not None and stays and len(kept.basis.above) == len(line):
            view = await self._grown(space, kept, line, above)
            if view is not None:
                return view
        own = [stored.entry for stored in await self._store.scan(space)]
        view = await self._from_above(space, own, above, filled, remembered)
        if view is not None:
            return view
        weighs = any(each.revokes for each in above) or any(map(_weighs, own))
        sets = [each.erasures for each in above]
        counts = _counts(above, weighs=False)
        if weighs:
            sets = [[stored.entry for stored in await self._store.scan(member)] for member in line]
            counts = tuple(map(len, sets))
        above_own = [entry for entries in sets for entry in entries]
        destroyed = self._destroyed | self._destroyed_at.get(space, frozenset())
        fold = fold_space(space, own, above_own, self._door, remembered, destroyed)
        basis = Basis(len(own), counts, weighs, filled, remembered)
        return SpaceView(fold, basis, _EMPTY_BYTES + _weight_bytes(own))

    async def _from_above(
        self, space: bytes, own: Sequence[Entry], above: Sequence[_Above], filled: int, remembered: Remembered
    ) -> SpaceView | None:
        """The folds of a space from those of the one above it, if nothing in it may bear on what was weighed there."""
        over = self._door.parent(space)
        if over is None or not self._destroyed_at.keys().isdisjoint((space, over)):
            return None
        era, higher = self._era, await self.view(over)
        erases = any(each.erases for each in above)
        fold = fold_below(higher.roster, space, own, self._door, remembered, erasures_above=erases)
        if fold is None or era != self._era:
            return None
        weighs = higher.basis.weighs
        counts = (higher.basis.own, *higher.basis.above) if weighs else _counts(above, weighs=False)
        basis = Basis(len(own), counts, weighs, filled, remembered)
        return SpaceView(fold, basis, _EMPTY_BYTES + _weight_bytes(own))

    async def unhidden(self, space: bytes) -> Roster:
        """The roster of a space as if nobody were cut off, and nothing erased; it is made anew each time.

        Each voice starts where it does as it counts, and of whom nobody speaks so from whomever it would then: what is
        shown again adds whom it leads to, and takes nobody's name (docs/adr/0409).
        """
        counting = (await self.view(space)).roster.starts
        line = [[one.entry for one in await self._store.scan(member)] for member in self._door.lineage(space)]
        own, *above = [[entry for entry in said if entry.header.kind not in _HIDES] for said in line]
        remembered, higher = await self._memory.of(space), [entry for said in above for entry in said]
        shown = fold_roster(space, own, higher, self._door, remembered)
        starts = _begun(shown.starts, counting)
        if starts == shown.starts:
            return shown
        return fold_roster(space, own, higher, self._door, replace(remembered, firsts=starts))

    async def _grown(
        self, space: bytes, kept: SpaceView, line: Sequence[bytes], above: Sequence[_Above]
    ) -> SpaceView | None:
        """A fold that is kept, with what has come since, if it can grow by that."""
        basis, era = kept.basis, self._era
        counts = _counts(above, weighs=False)
        heard = [one for each, first in zip(above, basis.above, strict=True) for one in each.heeded[first:]]
        if basis.weighs:
            sets = [
                await self._store.scan(member, after=first) for member, first in zip(line, basis.above, strict=True)
            ]
            counts = tuple(first + len(later) for first, later in zip(basis.above, sets, strict=True))
            heard = [Heard.of(stored.entry) for later in sets for stored in later]
        fresh = [stored.entry for stored in await self._store.scan(space, after=basis.own)]
        growth = growth_of(kept.fold, fresh, heard, self._door)
        if growth is None:
            return None
        older = await self._store.get(growth.older) if growth.older else {}
        if era != self._era:
            return None
        fold = grown(kept.fold, growth, older, self._door, basis.remembered)
        if fold is None:
            return None
        reached = replace(basis, own=basis.own + len(fresh), above=counts)
        return SpaceView(fold, reached, kept.weight_bytes + _weight_bytes(fresh))

    async def _stands(self, space: bytes, basis: Basis) -> bool:
        """Whether folds that were made from `basis` would be the same now."""
        above = [await self._read_above(member) for member in self._door.lineage(space)[1:]]
        count = (await self._store.position(space)).count
        counts, remembered = _counts(above, weighs=basis.weighs), await self._memory.of(space)
        return basis == Basis(count, counts, basis.weighs, self._filled[space], remembered)

    async def _read_above(self, space: bytes) -> _Above:
        count = (await self._store.position(space)).count
        above = self._above.setdefault(space, _Above())
        if above.count < count:
            # Two tasks may have read the same: what is added begins where the first of them left off.
            later = await self._store.scan(space, after=above.count)
            above.add([stored.entry for stored in later if stored.arrival > above.count])
        return above

    def _keep(self, space: bytes, view: SpaceView) -> None:
        self._drop(space)
        self._kept_bytes += view.weight_bytes
        self._kept[space] = view
        while self._kept_bytes > KEPT_BYTES and self._beside_the_largest_bytes() > KEPT_BYTES:
            self._drop(next(iter(self._kept)))

    def _beside_the_largest_bytes(self) -> int:
        return self._kept_bytes - max(view.weight_bytes for view in self._kept.values())

    def _drop(self, space: bytes) -> None:
        dropped = self._kept.pop(space, None)
        self._kept_bytes -= 0 if dropped is None else dropped.weight_bytes


def _begun(alone: Starts, counting: Starts) -> Starts:
    return {**alone, **{person: devices for person, devices in counting.items() if devices}}


def _weighs(entry: Entry) -> bool:
    return entry.header.kind == Kind.ROOT_ACCOUNT or is_weighed(entry)


def _weight_bytes(entries: Iterable[Entry]) -> int:
    """The room that entries take in a fold: roughly what they say, with what Python needs to hold it."""
    return sum(
        _INDEXED_BYTES + _FOLDED_BYTES.get(entry.header.kind, 0) + len(entry.payload or b"") for entry in entries
    )


def _counts(above: Sequence[_Above], *, weighs: bool) -> tuple[int, ...]:
    return tuple(each.count if weighs else len(each.heeded) for each in above)
