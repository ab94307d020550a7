"""What was acknowledged, and what the world may be excused for having lost.

Entries count as acknowledged when the write that made them has returned. They may be gone only if the last disk that
would have handed them on was burnt, or rolled back to an image without them: the ledger looks at all disks at each such
moment. What a neighbour has shown of a class that is not read there, to say who it is, nobody hands on: it is that
neighbour's to bring. The same holds for content. What files a title or a name stands for is known from before the
attempt: what was not acknowledged may be seen all the same, but whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from protocol.folds.coursework import Work
from protocol.model.entry import Entry, Kind
from protocol.replica.content.kept.memory_packs import _Pack
from protocol.replica.storage.memory import MemoryStore
from tests.simulation.disk import Disk

Files = Mapping[str, bytes]

SHOWN_TO_NEIGHBOURS: Final = frozenset({Kind.GRANT, Kind.SUCCESSOR})
"""By which neighbours show who they are, with no regard to who reads the space."""
_TOLD_TO_ALL: Final = SHOWN_TO_NEIGHBOURS | {Kind.REVOKE}


class _Held:
    """The streams and chunks of packs, in each space: what only another space holds cannot be handed on."""

    def __init__(self, packs: Iterable[_Pack]) -> None:
        self.streams: set[tuple[bytes, bytes]] = set()
        self.chunks: set[tuple[bytes, bytes]] = set()
        for pack in packs:
            for space in pack.spaces:
                self.streams.update((space, stream) for stream in pack.streams)
                self.chunks.update((space, chunk.hash) for chunk in pack.chunks)


class BrokenError(AssertionError):
    """An invariant does not hold."""


@dataclass
class Ledger:
    """See the module."""

    entries: dict[bytes, Entry] = field(default_factory=dict)
    lost: set[bytes] = field(default_factory=set)
    lost_streams: set[tuple[bytes, bytes]] = field(default_factory=set)
    published: dict[str, Files] = field(default_factory=dict)
    handed_in: dict[str, bytes] = field(default_factory=dict)

    def acknowledge(self, entries: Sequence[Entry]) -> None:
        """These are kept: somebody was told so."""
        self.entries.update({entry.id: entry for entry in entries})

    def burn(self, burnt: Disk, others: Iterable[Disk]) -> None:
        """A disk is gone; `others` are all that remain, its replacement among them."""
        remaining = list(others)
        for name in self.entries.keys() - self.lost:
            entry = self.entries[name]
            if name in burnt.store._entries and not any(_hands_on(disk.store, entry) for disk in remaining):
                self.lost.add(name)
        self.lost_streams |= gone_with([burnt], remaining)

    @property
    def kept(self) -> dict[bytes, Entry]:
        """What must be everywhere in the end."""
        return {name: entry for name, entry in self.entries.items() if name not in self.lost}


def _hands_on(store: MemoryStore, entry: Entry) -> bool:
    """Whether an entry lies there, and not just because a neighbour has shown it where its space is not read."""
    if entry.header.kind not in SHOWN_TO_NEIGHBOURS or entry.id not in store._entries:
        return entry.id in store._entries
    return any(one.entry.header.kind not in _TOLD_TO_ALL for one in store._spaces[entry.header.space].entries)


def gone_with(burnt: Iterable[Disk], remaining: Iterable[Disk]) -> set[tuple[bytes, bytes]]:
    """The streams, each with its space, of which some part lay on these disks and lies on none that remains."""
    packs = [pack for disk in burnt for pack in disk.packs._packs.values()]
    held = _Held(packs)
    left = _Held(pack for disk in remaining for pack in disk.packs._packs.values())
    if held.streams <= left.streams and held.chunks <= left.chunks:
        return set()
    return (held.streams - left.streams) | {
        (space, stream)
        for pack in packs
        for stream, refs in pack.streams.items()
        for space in pack.spaces
        if any((space, ref.hash) not in left.chunks for ref in refs)
    }


def holds_sealed(disk: Disk, work: Work) -> bool:
    """Whether all chunks of a hand-in lie on a disk."""
    packs = [pack for pack in disk.packs._packs.values() if work.space in pack.spaces]
    stream = work.record.content.stream
    chunks = next((pack.streams[stream] for pack in packs if stream in pack.streams), None)
    return chunks is not None and all(any(ref in pack.chunks for pack in packs) for ref in chunks)


def holds(store: MemoryStore, name: bytes) -> bool:
    """Whether an entry lies in a store."""
    return name in store._entries
