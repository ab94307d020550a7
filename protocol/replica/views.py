"""The folds of a replica's spaces, kept while what they were made from stands (R4; docs/protocol.md, "Roster").

Rules:
- a fold reads the whole set of its own space; of the spaces above it only what it heeds: grants, erasures and rulings,
  and all of them as soon as a revocation has to be weighed;
- so a new school in the territory, or a name in the staff's list, makes no class be folded again;
- what lies above is read once; afterwards only what has come since;
- how many folds are kept is bounded by the entries that went into them; the least used go first.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from protocol.coursework import Coursework, fold_coursework
from protocol.entry import Entry, Kind
from protocol.measures import Measures, fold_measures
from protocol.replica.interfaces import EntryStore
from protocol.rights import Door
from protocol.roster import Remembered, Roster, fold_roster

KEPT_ENTRIES: Final = 50_000
"""Folds of so many entries are kept: some 60 MB at most, where a server has many large classes."""

_EMPTY_WEIGHT: Final = 8
_HEEDED_ABOVE: Final = frozenset(
    {
        Kind.CERTIFICATE,
        Kind.GRANT,
        Kind.SUCCESSOR,
        Kind.REVOKE,
        Kind.ROOT_ROTATION,
        Kind.ROOT_ACCOUNT,
        Kind.ERASE,
        Kind.RULING,
    }
)
_ALONE: Final = frozenset({Kind.ERASE, Kind.RULING})
_CUTTING: Final = frozenset({Kind.REVOKE, Kind.ROOT_ROTATION, Kind.ROOT_ACCOUNT})


@dataclass(frozen=True, slots=True)
class Basis:
    """What folds were made from: how many own entries, and how many heeded ones in each space above, nearest first.

    `weighs` says that a revocation was weighed, so that all entries above count; `filled` is how often own entries that
    had been bare have got their payloads.
    """

    own: int
    above: tuple[int, ...]
    weighs: bool
    filled: int = 0


@dataclass(frozen=True, slots=True)
class SpaceView:
    """The folds of a space, and what they were made from."""

    roster: Roster
    coursework: Coursework
    measures: Measures
    basis: Basis


@dataclass(slots=True)
class _Above:
    """What has been read of a space above others: of `count` entries how many are heeded, and which count alone."""

    count: int = 0
    heeded: int = 0
    revokes: bool = False
    erasures: list[Entry] = field(default_factory=list)

    def add(self, entries: Sequence[Entry]) -> None:
        self.count += len(entries)
        self.heeded += sum(entry.header.kind in _HEEDED_ABOVE for entry in entries)
        self.revokes = self.revokes or any(entry.header.kind in _CUTTING for entry in entries)
        self.erasures += [entry for entry in entries if entry.header.kind in _ALONE]


class Views:
    """The folds over one store, judged by one door; made anew with it."""

    def __init__(self, store: EntryStore, door: Door) -> None:
        """Nothing is read yet."""
        self._store = store
        self._door = door
        self._kept: OrderedDict[bytes, SpaceView] = OrderedDict()
        self._kept_entries = 0
        self._above: dict[bytes, _Above] = {}
        self._filled: Counter[bytes] = Counter()
        self._remembered: dict[bytes, Remembered] = {}
        self._destroyed: frozenset[bytes] = frozenset()

    def note_filled(self, spaces: Iterable[bytes]) -> None:
        """Entries of these spaces, which count as they did, hold more than they did."""
        self._filled.update(spaces)

    def remember(self, remembered: Mapping[bytes, Remembered]) -> None:
        """Fold from now on with what this replica has seen first, by space."""
        for space in {*remembered, *self._remembered}:
            if remembered.get(space) != self._remembered.get(space):
                dropped = self._kept.pop(space, None)
                self._kept_entries -= 0 if dropped is None else _weight(dropped)
        self._remembered = dict(remembered)

    def note_destroyed(self, obeyed: frozenset[bytes]) -> None:
        """Fold from now on with all erasures that this replica has obeyed: what they cover stays erased here."""
        if obeyed != self._destroyed:
            self._destroyed = obeyed
            self._kept.clear()
            self._kept_entries = 0

    def filled(self, space: bytes) -> int:
        """How often that has happened in a space."""
        return self._filled[space]

    async def view(self, space: bytes) -> SpaceView:
        """The folds of a space as its store stands."""
        cached = self._kept.get(space)
        view = await self.changed(space, None if cached is None else cached.basis) or cached
        assert view is not None  # noqa: S101  (there is one where there was no basis)
        if view is not cached:
            self._keep(space, view)
        elif space in self._kept:
            # others may have made it go meanwhile; it is as good for who asked
            self._kept.move_to_end(space)
        return view

    async def changed(self, space: bytes, basis: Basis | None) -> SpaceView | None:
        """The folds of a space, unless they were made from `basis` and would be the same; nothing is kept."""
        line = self._door.lineage(space)[1:]
        above = [await self._read_above(member) for member in line]
        count = (await self._store.position(space)).count
        filled = self._filled[space]
        if basis is not None and basis == Basis(count, _counts(above, weighs=basis.weighs), basis.weighs, filled):
            return None
        own = [stored.entry for stored in await self._store.scan(space)]
        weighs = any(each.revokes for each in above) or any(entry.header.kind in _CUTTING for entry in own)
        sets = [each.erasures for each in above]
        counts = _counts(above, weighs=False)
        if weighs:
            sets = [[stored.entry for stored in await self._store.scan(member)] for member in line]
            counts = tuple(map(len, sets))
        remembered = self._remembered.get(space, {})
        above_own = [entry for entries in sets for entry in entries]
        roster = fold_roster(space, own, above_own, self._door, remembered, self._destroyed)
        return SpaceView(
            roster,
            fold_coursework(space, own, roster),
            fold_measures(own, roster, self._door),
            Basis(len(own), counts, weighs, filled),
        )

    async def _read_above(self, space: bytes) -> _Above:
        count = (await self._store.position(space)).count
        above = self._above.setdefault(space, _Above())
        if above.count < count:
            # Two tasks may have read the same: what is added begins where the first of them left off.
            later = await self._store.scan(space, after=above.count)
            above.add([stored.entry for stored in later if stored.arrival > above.count])
        return above

    def _keep(self, space: bytes, view: SpaceView) -> None:
        replaced = self._kept.pop(space, None)
        self._kept_entries += _weight(view) - (0 if replaced is None else _weight(replaced))
        self._kept[space] = view
        while self._kept_entries > KEPT_ENTRIES and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._kept_entries -= _weight(dropped)


def _weight(view: SpaceView) -> int:
    """What a fold counts among `KEPT_ENTRIES`: one of nothing takes room as well."""
    return view.basis.own + _EMPTY_WEIGHT


def _counts(above: Sequence[_Above], *, weighs: bool) -> tuple[int, ...]:
    return tuple(each.count if weighs else each.heeded for each in above)
