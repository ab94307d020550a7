"""Simulated disks: what is durable of a machine, its images, and the moments at which the power may go.

A `Disk` is what lies on the platter; it survives. A machine works on it through `Powered` stores, made anew at each
start: each call may be the one at which the power goes, before it or right after it took effect. From then on nothing
passes through any more, whatever the machine's tasks still try on their way out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cache
from inspect import iscoroutinefunction
from random import Random
from typing import Any, Final, cast

from protocol.replica.content.kept.memory_packs import MemoryPacks, _Delta, _Pack
from protocol.replica.interfaces import ContentStore, EntryStore
from protocol.replica.storage.memory import MemoryStore, _Space

SLOW_WRITES = 0.1
SLOWEST_S = 0.5

# what only looks; every other call changes the disk
_READS: Final = frozenset(
    (
        *("present", "get", "position", "chain_at", "page", "scan", "scan_kinds", "authored", "times", "spaces"),
        *("written", "latest", "authored_by_then", "bare", "unsent_ids"),
        *("unsent", "unsent_totals", "held", "mark", "marks", "registers", "verify", "close", "part_size", "pack"),
        *("read_pack", "chunk_list", "chunk_lists", "known_streams", "missing_chunks", "missing_streams"),
        *("held_names", "sharing", "is_building"),
        *("packs_holding", "unsent_packs", "totals", "free_bytes", "deltas", "unsent_deltas", "chunk", "stream"),
        *("abort", "of_kinds", "bad_spans", "disk_bytes", "pack_sizes", "parts_sent", "lying_parts", "drop_lying"),
    )
)


class PowerCut(asyncio.CancelledError):
    """The machine has no power: the task ends, and nothing that it still tries has an effect."""


@dataclass
class Disk:
    """What survives a power cut: entries, packs, and small files by name (the keys of people)."""

    store: MemoryStore = field(default_factory=MemoryStore)
    packs: MemoryPacks = field(default_factory=MemoryPacks)
    files: dict[str, bytes] = field(default_factory=dict)
    noted: tuple[tuple[int, int], ...] = ()
    """At a server: the times at which what is here was noted, and how much that was."""
    room_bytes: int | None = None
    """How much content finds room, where others' files fill the disk."""
    made_way: dict[bytes, _Pack] = field(default_factory=dict)
    """Packs that went to make room, until somebody has looked at them (`full_disks`)."""

    def held_by(self, when_ms: int) -> set[bytes]:
        """The entries that were noted by a time."""
        count = max((count for at_ms, count in self.noted if at_ms <= when_ms), default=0)
        return set(list(self.store._entries)[:count])

    async def unsent(self) -> set[bytes]:
        """The content that is still to be sent."""
        packs, deltas = await self.packs.unsent_packs(), await self.packs.unsent_deltas()
        return {pack.hash for pack in packs} | {delta.hash for delta in deltas}

    def image(self) -> Disk:
        """The disk as it is now, to be put into a machine later. Entries and chunks never change and are shared."""
        store, packs = MemoryStore(), MemoryPacks()
        for mine, its in ((self.store, store), (self.packs, packs)):
            for name, value in vars(mine).items():
                setattr(its, name, copy(value))
        store._spaces = {
            space: _Space(held.entries.copy(), held.chains.copy()) for space, held in self.store._spaces.items()
        }
        packs._packs = {
            name: _Pack(pack.data, pack.chunks, pack.streams, pack.spaces.copy())
            for name, pack in self.packs._packs.items()
        }
        packs._deltas = {
            name: _Delta(delta.about, delta.data, delta.unsent) for name, delta in self.packs._deltas.items()
        }
        return Disk(store, packs, copy(self.files), self.noted)

    def lose_unflushed(self, random: Random) -> None:
        """What a power cut does to downloads under way: their ends, which were not flushed, are gone or torn."""
        for name, data in list(self.packs._parts.items()):
            kept = data[: random.randrange(len(data) + 1)]
            match random.randrange(3):
                case 0:
                    self.packs._parts[name] = kept
                case 1:
                    self.packs._parts[name] = kept + bytes(len(data) - len(kept))
                case _:
                    pass


class Power:
    """The power of a machine from one start to the next cut. `on_cut` is told of a cut that a call ran into."""

    def __init__(self, random: Random, on_cut: Callable[[], None]) -> None:
        self.on = True
        self._random = random
        self._on_cut = on_cut
        self._calls_left: int | None = None
        self._after = False

    def cut_in(self, calls: int, *, after: bool) -> None:
        """Let the power go at the `calls`-th write from now, just before it or just after."""
        self._calls_left, self._after = calls, after

    def cut_never(self) -> None:
        """Let it stay."""
        self._calls_left = None

    def check(self) -> None:
        """Raises `PowerCut` if there is none."""
        if not self.on:
            raise PowerCut

    async def write(self, method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One call that changes the disk."""
        self.check()
        if self._random.random() < SLOW_WRITES:
            await asyncio.sleep(self._random.random() * SLOWEST_S)
        else:
            await asyncio.sleep(0)
        self.check()
        last = False
        if self._calls_left is not None:
            self._calls_left -= 1
            last = self._calls_left <= 0
            if last and not self._after:
                self._cut()
        result = await method(*args, **kwargs)
        if last:
            self._cut()
        return result

    def _cut(self) -> None:
        self.on = False
        self._on_cut()
        raise PowerCut


class Powered:
    """Passes calls on to `inner` while there is power. How it does is made when a call is first asked for."""

    def __init__(self, inner: object, power: Power) -> None:
        self.inner = inner
        self._power = power

    def __getattr__(self, name: str) -> Callable[..., Any]:
        kind: Any = type(self.inner)
        if name not in _methods(kind):
            raise AttributeError(name)
        method, power = getattr(self.inner, name), self._power
        call = _reading(method, power) if name in _READS else _writing(method, power)
        self.__dict__[name] = call
        return call


class _PoweredPacks(Powered):
    def __init__(self, disk: Disk, power: Power) -> None:
        super().__init__(disk.packs, power)
        self._disk = disk
        self._inner = disk.packs

    @property
    def changes(self) -> int:
        """Of no call: what a program counts in its memory."""
        return self._inner.changes

    async def free_bytes(self) -> int:
        self._power.check()
        _, _, taken = await self._inner.totals()
        room = self._disk.room_bytes
        return await self._inner.free_bytes() if room is None else max(0, room - taken)

    async def disk_bytes(self) -> int:
        self._power.check()
        room = self._disk.room_bytes
        return await self._inner.disk_bytes() if room is None else room

    async def drop(self, packs: Sequence[bytes]) -> None:
        held = {name: self._inner._packs[name] for name in packs if name in self._inner._packs}
        try:
            await self._power.write(self._inner.drop, (packs,), {})
        finally:
            self._disk.made_way.update({name: pack for name, pack in held.items() if name not in self._inner._packs})

    async def build(self, space: bytes, *, unsent: bool, sealed: bool = False) -> Powered:
        self._power.check()
        return Powered(await self._inner.build(space, unsent=unsent, sealed=sealed), self._power)

    async def read_stream(self, stream: bytes, start: int = 0) -> AsyncIterator[bytes]:
        async for piece in self._inner.read_stream(stream, start):
            self._power.check()
            yield piece


def stores(disk: Disk, power: Power) -> tuple[EntryStore, ContentStore]:
    """The two halves of a replica on `disk`, for as long as there is `power`."""
    store = cast("EntryStore", Powered(disk.store, power))
    return store, cast("ContentStore", _PoweredPacks(disk, power))


def _writing(method: Callable[..., Any], power: Power) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        return await power.write(method, args, kwargs)

    return call


def _reading(method: Callable[..., Any], power: Power) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        if not power.on:
            raise PowerCut
        return method(*args, **kwargs)

    return call


@cache
def _methods(kind: type) -> frozenset[str]:
    """The names of what may be asked of a store, one answer at a time."""
    return frozenset(name for name, what in vars(kind).items() if name[0] != "_" and iscoroutinefunction(what))
