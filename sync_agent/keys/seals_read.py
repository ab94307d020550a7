"""To which keys the work of a class was sealed, from the wraps themselves: read once while this program runs.

Rules (docs/adr/0272, 0278, 0291):
- a wrap counts from who had the content key: from the device that handed in, whichever of its keys it wrote with, from
  the root, and from teachers' devices that this one knows (`acquaintances`); a machine's about others' work does not,
  nor does that of a device that a server invents: it would name honest people, and hide others behind keys of nobody;
- only of keys that nobody has said a machine's seals are read to a bound, and those that fell under it anew once a key
  of them is said;
- what has come is read alone: there are thousands, and every page asks.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

from protocol.model.entry import Entry, Header, Kind, parsed
from protocol.model.work import Wraps
from protocol.replica.at_work.replica import Replica
from protocol.rights.door import Door
from protocol.rights.vouching import device_id
from protocol.roles import HAS_READING_KEYS
from sync_agent.app import Agent

MAX_SEALED_BY_ONE: Final = 50_000
"""So many keys that nobody has said, counted by each work, are read of what one machine has sealed: of further ones
alone it is not kept which they are."""
_KEYS_OF_NOBODY: Final = b""
_READ_AT_ONCE: Final = 200


class Seal(NamedTuple):
    """Which work was sealed, when, and to which keys; whether who handed it in, or the root, says so (`is_own`)."""

    work: bytes
    at_ms: int
    keys: tuple[bytes, ...]
    is_own: bool


@dataclass(slots=True)
class SealsRead:
    """What has been read of a replica's wraps, up to an arrival.

    By name alone are kept those that wait for the hand-in that they are about, and those by teachers' devices that this
    one does not know, by class and device: whoever has the server makes as many of both as it likes; and those of which
    keys of nobody fell under the bound. `said` are the keys of each class that have a name.
    """

    filled: int
    after: int = 0
    authors: dict[bytes, bytes] = field(default_factory=dict)
    waiting: defaultdict[bytes, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    aside: defaultdict[tuple[bytes, bytes], list[bytes]] = field(default_factory=lambda: defaultdict(list))
    by_line: Counter[bytes] = field(default_factory=Counter)
    over: defaultdict[bytes, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    said: Mapping[bytes, frozenset[bytes]] = field(default_factory=dict)
    sealed: defaultdict[bytes, dict[bytes, Seal]] = field(default_factory=lambda: defaultdict(dict))
    alike: dict[tuple[bytes, ...], tuple[bytes, ...]] = field(default_factory=dict)

    def take(self, entry: Entry, door: Door, known: Mapping[bytes, Collection[bytes]]) -> list[bytes]:
        """One more, or one that was taken already; which others to take again."""
        header = entry.header
        if header.kind == Kind.HAND_IN:
            self.authors[entry.id] = header.author
            return self.waiting.pop(entry.id, [])
        if header.target is None:
            return []
        author, reader = self.authors.get(header.target), _reader(header, door)
        if author is None:
            self.waiting[header.target].append(entry.id)
        elif (is_own := _has_the_key(header, author, door)) or reader in known.get(header.space, ()):
            self._add(entry, door, is_own=is_own)
        elif reader is not None:
            self.aside[header.space, reader].append(entry.id)
        return []

    def known_by_now(self, known: Mapping[bytes, Collection[bytes]]) -> list[bytes]:
        """Those that were set aside, and count since."""
        met = [each for each in self.aside if each[1] in known.get(each[0], ())]
        return [name for each in met for name in self.aside.pop(each)]

    def said_by_now(self, said: Mapping[bytes, frozenset[bytes]]) -> list[bytes]:
        """Those of which keys fell under the bound, where a key is said that was not when they were read."""
        before = self.said
        more = [space for space, keys in said.items() if space in self.over and keys - before.get(space, frozenset())]
        self.said = {**self.said, **said}
        return [name for space in more for name in self.over.pop(space)]

    def _add(self, entry: Entry, door: Door, *, is_own: bool) -> None:
        header, record = entry.header, parsed(entry, Wraps.parse)
        if record is None or header.target is None:
            return
        said, line = self.said.get(header.space, frozenset()), door.began_as(header.author)
        keys, is_over = dict[bytes, None](), False
        for named, _ in record.wraps:
            has_room = self.by_line[line] < MAX_SEALED_BY_ONE
            if named not in said and has_room:
                self.by_line[line] += named not in keys
            is_over |= named not in said and not has_room
            keys[named if named in said or has_room else _KEYS_OF_NOBODY] = None
        if is_over:
            self.over[header.space].append(entry.id)
        # a machine seals one work after the other to the same keys
        alike = tuple(keys)
        alike = self.alike.setdefault(alike, alike)
        self.sealed[header.space][entry.id] = Seal(header.target, entry.timestamp_ms, alike, is_own)


_READ: Final[WeakKeyDictionary[Replica, SealsRead]] = WeakKeyDictionary()


async def seals(
    agent: Agent, known: Mapping[bytes, Collection[bytes]], said: Mapping[bytes, frozenset[bytes]]
) -> Mapping[bytes, Mapping[bytes, Seal]]:
    """To which keys the work of these classes was sealed, by which entry: what has come since is read alone.

    `known` are the devices, in each, whose word about others' work counts, and `said` the keys that have a name there.
    """
    replica = agent.replica
    # what came bare, and was passed over, may have got its payload since
    filled = sum(map(replica.filled, known))
    latest = await replica.store.latest()
    read = _READ.get(replica)
    if read is None or read.filled != filled:
        read = _READ[replica] = SealsRead(filled)
    again = read.known_by_now(known) + read.said_by_now(said)
    if latest is not None and latest[0] != read.after:
        came = await replica.store.scan_kinds([Kind.HAND_IN, Kind.WRAP], read.after)
        again += await _take(read, came, replica, known)
        read.after = max(read.after, latest[0])
    if again:
        await _take(read, list((await replica.store.get(again)).values()), replica, known)
    return read.sealed


async def _take(
    read: SealsRead, came: Sequence[Entry], replica: Replica, known: Mapping[bytes, Collection[bytes]]
) -> list[bytes]:
    again = []
    for start in range(0, len(came), _READ_AT_ONCE):
        for entry in came[start : start + _READ_AT_ONCE]:
            again += read.take(entry, replica.door, known)
        # the first look reads thousands, while other pages wait
        await asyncio.sleep(0)
    return again


def _has_the_key(header: Header, author: bytes, door: Door) -> bool:
    """Whether who wrote a wrap handed the work in: a device that took keys of its own goes on with its earlier work.

    Also one whose later key was granted a right: whoever has the server gives it one. And the root has every key.
    """
    return header.grant is None or door.began_as(header.author) == door.began_as(author)


def _reader(header: Header, door: Door) -> bytes | None:
    """The device of a teacher's that wrote it."""
    given = door.authority(header.grant)
    if given is None or given.role not in HAS_READING_KEYS:
        return None
    return device_id(given.pair)
