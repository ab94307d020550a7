"""Destroying what erasures cover, once it is due (docs/protocol.md, "Erasure"; the rules are `protocol.erasing`).

Rules:
- an erasure counts while the fold of the space in which it lies does not hold it back, and no ruling takes it back;
- what was destroyed goes again whenever it comes, whoever takes the erasure back, until the root does;
- while its author is cut off there, it hides and destroys nothing: somebody else must say it too;
- it reaches its space and all below: one in the territory's reaches every class;
- payload and salt go, the header stays: the set, its fingerprint and its signatures are what they were;
- when an erasure was first seen, and what was destroyed when, are marks of this replica, and no part of any set;
- what waits in quarantine goes too, and by itself once it has waited for `HELD_MS`;
- content that only erased entries named is given up first, so that a sweep that was cut off finds it again.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from protocol.entry import PERSON_BYTES, Entry, Kind
from protocol.erasing import Order, due, is_destroyed_by
from protocol.errors import LocalFailure, PeerFault
from protocol.limits import HELD_MS
from protocol.replica.destroyed import DONE_MARKS, destroyed_days
from protocol.replica.holdings import Holdings
from protocol.replica.replica import Replica
from protocol.rights import erasable_names
from protocol.structure import Erasure
from protocol.work import ContentRef, Feedback, HandIn, Revision

SWEEP_INTERVAL_S: Final = 3600.0

SEEN_MARKS: Final = "erasure-seen/"
"""+ erasure in hex → 8 bytes of ms: when this replica first saw it."""
READ_MARKS: Final = "erasure-read/"
"""+ space in hex → canonical 8 bytes: how many entries had been looked at for what is in `DONE_MARKS`."""
HELD_MARK: Final = "held-since"
"""→ for each entry in quarantine, 8 bytes of ms when a sweep first saw it and the first 8 bytes of its id."""
_HELD_ROW_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Destroyed:
    """What a sweep did: how many names it destroyed for the first time, and the entries whose payloads went."""

    names: int = 0
    entries: tuple[bytes, ...] = ()


class Eraser:
    """Sweeps one replica."""

    def __init__(self, replica: Replica, holdings: Holdings) -> None:
        """Over an opened replica and what is known of its content."""
        self._replica = replica
        self._store = replica.store
        self._holdings = holdings

    async def sweep(self, now_ms: int) -> Destroyed:
        """Destroy what is due at `now_ms`. Raises `LocalFailure`. May be repeated, and cut off anywhere."""
        await self._let_go_of_old(now_ms)
        done = await destroyed_days(self._store)
        erasures, lifted = await self._in_force(done)
        if not erasures and not lifted:
            return Destroyed()
        orders = await self._orders(erasures, now_ms)
        today = _day(now_ms)
        covers = due(orders.values(), done, now_ms, sum(day == today for day in done.values()))
        fresh = [name for name in covers if name not in done]
        destroyed: list[bytes] = []
        for space in self._replica.door.spaces():
            line = self._replica.door.lineage(space)
            names = {name for name in covers if any(entry.header.space in line for entry in erasures[name])}
            if names:
                destroyed += await self._sweep_space(space, names, anew=not names.isdisjoint(fresh))
        await self._sweep_quarantine(covers)
        marks: dict[str, bytes | None] = {DONE_MARKS + name.hex(): None for name in lifted}
        marks |= {DONE_MARKS + name.hex(): (0 if orders[name].by_kit else today).to_bytes(4, "big") for name in fresh}
        await self._store.set_marks(marks)
        self._replica.note_destroyed({*done, *fresh} - lifted)
        return Destroyed(len(fresh), tuple(destroyed))

    async def _in_force(self, done: Collection[bytes]) -> tuple[dict[bytes, list[Entry]], set[bytes]]:
        """The erasures that no fold holds back and nobody has taken back, by what they cover.

        What is `done` stays so, unless the root lets go of all that covers it: those names come second.
        """
        named: set[bytes] = set()
        found: defaultdict[bytes, list[Entry]] = defaultdict(list)
        for entry in await self._store.scan_kinds([Kind.ERASE]):
            try:
                covers = Erasure.parse(entry.payload or b"").covers
            except PeerFault:
                continue
            named.add(covers)
            roster = (await self._replica.view(entry.header.space)).roster
            counts = entry.id not in roster.held_back and entry.id not in roster.undone
            if counts or (covers in done and covers in roster.erased):
                found[covers].append(entry)
        return found, (named & set(done)) - found.keys()

    async def _orders(self, erasures: dict[bytes, list[Entry]], now_ms: int) -> dict[bytes, Order]:
        seen = {
            bytes.fromhex(key.removeprefix(SEEN_MARKS)): int.from_bytes(at, "big")
            for key, at in (await self._store.marks(SEEN_MARKS)).items()
        }
        fresh = {entry.id: now_ms for entries in erasures.values() for entry in entries if entry.id not in seen}
        await self._store.set_marks({SEEN_MARKS + name.hex(): at.to_bytes(8, "big") for name, at in fresh.items()})
        seen |= fresh
        spaces = set(self._replica.door.spaces())
        return {
            covers: Order(
                covers,
                seen_ms=min(seen[entry.id] for entry in entries),
                by_kit=any(entry.header.grant is None for entry in entries),
                of_space=len(covers) != PERSON_BYTES and covers in spaces,
                in_doubt=all([await is_in_doubt(self._replica, entry) for entry in entries]),
            )
            for covers, entries in erasures.items()
        }

    async def _sweep_space(self, space: bytes, covers: Collection[bytes], *, anew: bool) -> list[bytes]:
        """Destroy what is covered in a space; only what has come since the last look, unless there is more to find."""
        mark = READ_MARKS + space.hex()
        after = 0 if anew else int.from_bytes(await self._store.mark(mark) or b"", "big")
        arrived = await self._store.scan(space, after)
        if not arrived:
            return []
        gone = [stored.entry for stored in arrived if is_destroyed_by(stored.entry, covers)]
        if gone:
            await self._give_up_content(space, gone)
        await self._store.erase([entry.id for entry in gone], {mark: arrived[-1].arrival.to_bytes(8, "big")})
        return [entry.id for entry in gone]

    async def _sweep_quarantine(self, covers: Collection[bytes]) -> None:
        """What waits for its right is no part of a set, and has words and names in it all the same."""
        names = set(covers)
        gone = [held.entry.id for held in await self._store.held() if not names.isdisjoint(erasable_names(held.entry))]
        if gone:
            await self._store.drop_held(gone)

    async def _let_go_of_old(self, now_ms: int) -> None:
        """What has waited for `HELD_MS` waits in vain; whoever has it may bring it again."""
        held = [one.entry.id for one in await self._store.held()]
        noted = await self._store.mark(HELD_MARK) or b""
        rows = (noted[at : at + _HELD_ROW_BYTES] for at in range(0, len(noted), _HELD_ROW_BYTES))
        since = {row[8:]: int.from_bytes(row[:8], "big") for row in rows}
        old = [name for name in held if since.get(name[:8], now_ms) < now_ms - HELD_MS]
        await self._store.drop_held(old)
        left = sorted({name[:8] for name in held} - {name[:8] for name in old})
        noting = b"".join(since.get(name, now_ms).to_bytes(8, "big") + name for name in left)
        if noting != noted:
            await self._store.set_marks({HELD_MARK: noting or None})

    async def _give_up_content(self, space: bytes, gone: Sequence[Entry]) -> None:
        """Let go of what only the entries that go name in the space."""
        names = {entry.id for entry in gone}
        left = [stored.entry for stored in await self._store.scan(space) if stored.entry.id not in names]
        streams = await self._streams(gone)
        if streams:
            streams -= await self._streams(left)
        if await self._replica.content.forget(space, streams):
            await self._holdings.forget()

    async def _streams(self, entries: Iterable[Entry]) -> set[bytes]:
        """All streams that entries name, those that a manifest names included, as far as it is here."""
        found: set[bytes] = set()
        for kind, content in _contents(entries):
            found.add(content.stream)
            if kind != Kind.HAND_IN:
                with contextlib.suppress(LocalFailure):
                    found.update(file.stream for file in await self._holdings.manifest(content.stream))
        return found


async def is_in_doubt(replica: Replica, erasure: Entry) -> bool:
    """Whether who said an erasure has been cut off since: a thief may have said it. The kit's word is in no doubt."""
    if erasure.header.grant is None:
        return False
    return erasure.header.author in (await replica.view(erasure.header.space)).roster.cut


def _contents(entries: Iterable[Entry]) -> Iterable[tuple[int, ContentRef]]:
    for entry in entries:
        reader = _NAMING_CONTENT.get(entry.header.kind)
        if reader is None or entry.payload is None:
            continue
        try:
            content = reader.parse(entry.payload).content
        except PeerFault:
            continue
        if content is not None:
            yield entry.header.kind, content


_NAMING_CONTENT: Final[dict[int, type[Revision | HandIn | Feedback]]] = {
    Kind.REVISION: Revision,
    Kind.HAND_IN: HandIn,
    Kind.FEEDBACK: Feedback,
}


def _day(now_ms: int) -> int:
    """A local day as a number; never 0."""
    try:
        return dt.datetime.fromtimestamp(now_ms / 1000).astimezone().date().toordinal()
    except (ValueError, OverflowError, OSError):
        return 1
