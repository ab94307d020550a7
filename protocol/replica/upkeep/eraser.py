"""Destroying what erasures cover, once it is due (docs/protocol.md, "Erasure").

What is to go, and for how long it has waited, `orders` say, and `protocol.folds.erasing` which of it is due. Rules:
- payload and salt go, the header stays: the set, its fingerprint and its signatures are what they were;
- who is named and is not here, invented or of another school, is passed over until something of theirs comes;
- who is counted goes class by class (docs/adr/0454). What has gone in some has gone there, whoever takes the erasure
  back (docs/adr/0468); the name was destroyed once it has in all;
- what comes back where it has gone takes no second place. What comes later in another class under a name that was
  destroyed is counted there, as if it were somebody else (docs/adr/0460);
- a space is looked through to its end, and then only what comes; from its beginning as soon as other names are looked
  for, its arrivals are numbered anew, or payloads have come for what was bare;
- immediately before anything goes it is looked whether each order that is obeyed still counts: what takes one of them
  back, or cuts off who said it, while a class is looked through, is heeded, and the sweep begins anew. Other words
  postpone nothing, however many come: each time it begins anew there is an order less, and no place more of the day's;
- what waits in quarantine goes too, and by itself once it has waited for `HELD_MS`;
- of what a part of a pack holds nobody can say whose it is: when content is given up for an order that was not obeyed
  before, all parts go to which this program is not adding, and by themselves after a week;
- what was moved aside as damaged goes when an order is carried out of whom anything is here, be it bare: what a
  database has lost came again as others have it, and the one that lies aside may have it whole;
- content that only erased entries named is given up first (`content_to_go`).
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from blake3 import blake3

from protocol.folds.erasing import Order, Place, carried_out_whole, day_of, due, is_destroyed_by
from protocol.identity import KEY_BYTES
from protocol.limits import CURSOR_HASH_BYTES, HELD_MS
from protocol.model.entry import Entry
from protocol.replica.at_work.destroyed import (
    DONE_MARKS,
    Done,
    Taken,
    carried_out,
    carried_out_at,
    destroyed,
    key_word_marks,
    place_mark,
    places_taken,
)
from protocol.replica.at_work.forgotten import forget_reports
from protocol.replica.at_work.replica import Replica
from protocol.replica.content.holdings import Holdings
from protocol.replica.content.kept.left_parts import are_parts_left, left_waited_less, let_go_of_left
from protocol.replica.content.kept.unnamed import let_go_of_unnamed, waited_less
from protocol.replica.interfaces import ERASURE_READ_MARKS, EntryStore
from protocol.replica.lain_since import LainSince
from protocol.replica.office.called_here import said_elsewhere
from protocol.replica.upkeep.come_again import here_less
from protocol.replica.upkeep.content_to_go import ContentToGo
from protocol.replica.upkeep.orders import (
    DOUBTED,
    Judged,
    Said,
    judge_alike,
    noting,
    orders_again,
    orders_of,
    said_in,
)
from protocol.replica.upkeep.stood import count_listed, stood
from protocol.rights.door import covering_names, is_erasable

SWEEP_INTERVAL_S: Final = 3600.0

_NAME_BYTES: Final = 8
LOOKED_MARK: Final = "erasure-looked"
"""→ 8 bytes of ms, when this replica last looked, by the time of its looks (`pace`); a note of `steady`, or none."""
HELD: Final = LainSince("held-since", _NAME_BYTES)
"""Since when each entry has waited in quarantine, by the beginning of its id."""
LONG_GONE: Final = LainSince("long-gone-since", KEY_BYTES)
"""Since when each device that was cut off has been one of which a server is to remember nothing."""
LEFTOVERS_MARK: Final = "erasure-leftovers"
"""→ something was destroyed here, and what lies beside the database may hold it still: until that was seen to."""
LEAPT_MARK: Final = "erasure-leapt"
"""→ 8 bytes of ms, over how much of all time the own clock leapt at looks: less than 0 where it was set back more."""
_LATER_DAYS: Final = 2
"""What was destroyed on a day that is still to come counts for today, if it is so near: of an earlier version, whose
days were those of the calendar. No clock that was years ahead then keeps a place for as long."""


@dataclass(frozen=True, slots=True)
class Destroyed:
    """What a sweep did: how many names it has destroyed, in all their classes, and the entries whose payloads went.

    `at_ms` is the time by which it looked: whatever else waits is reckoned by that, and by no own clock meanwhile.
    """

    at_ms: int
    names: int = 0
    entries: tuple[bytes, ...] = ()


class _Countermanded(Exception):
    """One of the orders that a sweep obeys counts no more."""


@dataclass(frozen=True, slots=True)
class _Obeyed:
    """What a sweep obeys, and what it knew of the folds when it decided that."""

    orders: Sequence[Order] = ()
    done: Mapping[bytes, Done] = field(default_factory=dict)
    now_ms: int = 0
    changes: int = -1
    judged: Mapping[bytes, Judged] = field(default_factory=dict)

    @property
    def names(self) -> set[bytes]:
        """What is to go."""
        return {order.covers for order in self.orders}


class Eraser:
    """Sweeps one replica."""

    def __init__(self, replica: Replica, holdings: Holdings) -> None:
        """Over an opened replica and what is known of its content."""
        self._replica = replica
        self._store = replica.store
        self._holdings = holdings
        self._found: dict[bytes, _Found] = {}
        self._obeyed = _Obeyed()
        self._content = ContentToGo(replica, holdings, self._still_obeying)

    async def sweep(self, now_ms: int) -> Destroyed:
        """Destroy what is due at `now_ms`. Raises `LocalFailure`. May be repeated, and cut off anywhere."""
        await self._let_go_of_old(now_ms)
        carried = await self._carry_out(now_ms)
        await count_listed(self._replica, now_ms)
        await forget_reports(self._replica)
        # last: a part that cannot be removed keeps no erasure from being carried out
        await let_go_of_left(self._store, self._replica.content, now_ms)
        return carried

    async def _carry_out(self, now_ms: int) -> Destroyed:
        gone: list[bytes] = []
        self._content = ContentToGo(self._replica, self._holdings, self._still_obeying)
        while True:
            with contextlib.suppress(_Countermanded):
                names = await self._obey(now_ms, gone)
                break
        await self._content.end()
        return Destroyed(now_ms, names, tuple(gone))

    async def _obey(self, now_ms: int, gone: list[bytes]) -> int:
        """Destroy what is due, the entries add to `gone`; how many names anew. Raises `_Countermanded`."""
        changes = self._replica.changes
        done = await destroyed(self._store)
        read = await self._store.marks(ERASURE_READ_MARKS)
        said = await said_in(self._replica)
        places = await places_taken(self._store)
        orders = await self._orders(said, done, places, now_ms)
        if not orders and not done and not read and not places:
            return 0
        today = day_of(now_ms, await self._leapt_ms())
        obeyed = due(orders, now_ms, _taken_on(today, places, done))
        judged = said.judged_of({order.covers for order in obeyed})
        self._obeyed = _Obeyed(obeyed, done, now_ms, changes, judged)
        await self._take_places(places, today)
        names = {space: self._names_in(space) for space in self._replica.door.spaces()}
        noted = {space: read.get(ERASURE_READ_MARKS + space.hex()) for space in names}
        await self._seek(names, noted)
        for space, covers in names.items():
            gone += await self._sweep_space(space, covers, noted[space])
        await self._sweep_quarantine()
        await self._content.give_up_left()
        await self._content.give_up_again(now_ms)
        fresh = [order for order in obeyed if not order.is_done]
        whole = carried_out_whole(orders, obeyed)
        records = noting(done, whole, now_ms, today, said.ended)
        marks = {DONE_MARKS + name.hex(): None if one is None else one.encode() for name, one in records.items()}
        marks |= await self._gone(order for order in obeyed if order.at)
        if await self._is_any_here(fresh):
            marks[LEFTOVERS_MARK] = b"\1"
            async with self._still_obeying():
                await self._replica.content.forget_damaged()
        await self._store.set_marks(marks)
        self._replica.note_destroyed(await carried_out(self._store), await carried_out_at(self._store))
        if done:
            await let_go_of_unnamed(self._store, self._replica.content, now_ms)
        return len({order.covers for order in whole if not order.is_done})

    async def _take_places(self, places: Mapping[Place, Taken], today: int) -> None:
        """Note who takes a place of this day's number, before anything of theirs goes. Raises `_Countermanded`.

        Places of days that are over are let go of, but for those where a name has gone.
        """
        obeyed = self._obeyed
        fresh = {one.place for one in obeyed.orders if one.is_counted(obeyed.now_ms)}
        gone = {one.place for one in obeyed.orders if one.at and one.is_done}
        gone |= {place for place, taken in places.items() if taken.by and place.name in obeyed.done}
        marks = dict[str, bytes | None]()
        for place in fresh | places.keys():
            taken = places.get(place, Taken(-1))
            if _is_of(today, taken.day):
                continue
            if place in fresh:
                marks |= place_mark(place, Taken(today, taken.by if place in gone else frozenset()))
            elif place not in gone:
                marks |= place_mark(place, None)
        if marks:
            async with self._still_obeying():
                await self._store.set_marks(marks)

    async def _gone(self, orders: Iterable[Order]) -> dict[str, bytes | None]:
        """What to note of those that were obeyed in a class: there they take no place another day."""
        places, marks = await places_taken(self._store), dict[str, bytes | None]()
        for order in orders:
            before = places.get(order.place, Taken(0))
            places[order.place] = replace(before, by=before.by | order.by)
            if places[order.place] != before:
                marks |= place_mark(order.place, places[order.place])
        return marks

    @contextlib.asynccontextmanager
    async def _still_obeying(self) -> AsyncIterator[None]:
        """Inside nothing comes in, and all that is obeyed counts. Raises `_Countermanded` otherwise."""
        async with self._replica.nothing_comes():
            changes = self._replica.changes
            if changes != self._obeyed.changes:
                if not await self._count_still(self._obeyed):
                    raise _Countermanded
                self._obeyed = replace(self._obeyed, changes=changes)
            yield

    async def _count_still(self, obeyed: _Obeyed) -> bool:
        """Whether each of these orders might be obeyed now as well.

        All erasures are read for that only where a fold says something else of them than before: meanwhile nothing
        comes in, at each step, and whoever may order says them without end.
        """
        if await judge_alike(self._replica, obeyed.judged):
            return True
        said = await said_in(self._replica, obeyed.names)
        orders = await self._orders_as_noted(said, obeyed.done, obeyed.now_ms)
        counting = {(each.covers, each.space) for each in orders if each.is_done or each.is_ready(obeyed.now_ms)}
        again = {each.place for each in orders_again(said, await places_taken(self._store))}
        self._obeyed = replace(self._obeyed, judged=said.judged_of(obeyed.names))
        return all((each.covers, each.space) in counting or each.place in again for each in obeyed.orders)

    async def looked(self) -> tuple[int | None, bytes]:
        """When the last look was, if there was one since anything has waited, and the note that was given with it."""
        noted = await self._store.mark(LOOKED_MARK)
        return (None, b"") if noted is None else (int.from_bytes(noted[:8], "big"), noted[8:])

    async def _leapt_ms(self) -> int:
        return int.from_bytes(await self._store.mark(LEAPT_MARK) or b"", "big", signed=True)

    async def note_look(self, now_ms: int, leapt_ms: int, note: bytes = b"") -> None:
        """A look at `now_ms`. Over so many ms since the last nothing has waited, and no day has passed."""
        if await self._does_anything_wait():
            # what is kept for the kit on a full disk is given up once for the whole look
            by_kit = await self._is_kits_word_due(now_ms)
            # what comes meanwhile may end a week that would be written again
            async with self._replica.nothing_comes():
                await self._store.set_marks(await self._marks_of_look(now_ms, leapt_ms, note), by_kit=by_kit)

    async def _is_kits_word_due(self, now_ms: int) -> bool:
        """Whether the kit has ordered what is to go by now, and has not gone."""
        if not self._replica.door.has_erasures:
            return False
        orders = await self._orders_as_noted(await said_in(self._replica), await destroyed(self._store), now_ms)
        return any(each.is_signed(now_ms) and not each.is_done for each in orders)

    async def _orders_as_noted(self, said: Said, done: Mapping[bytes, Done], now_ms: int) -> list[Order]:
        """What is to be destroyed, by when each erasure was seen, as that is noted: it is not looked at anew."""
        noted = await self._replica.weeks.noted()
        seen = {entry.id: noted.get(entry.id, now_ms) for entry, _ in said.holding}
        return orders_of(self._replica, said, seen, done, now_ms)

    async def _does_anything_wait(self) -> bool:
        if self._replica.door.has_erasures or await self._store.mark(LONG_GONE.mark):
            return True
        return await are_parts_left(self._store, self._replica.content)

    async def _marks_of_look(self, now_ms: int, leapt_ms: int, note: bytes) -> dict[str, bytes | None]:
        marks: dict[str, bytes | None] = {LOOKED_MARK: now_ms.to_bytes(8, "big") + note}
        if leapt_ms:
            marks[LEAPT_MARK] = (await self._leapt_ms() + leapt_ms).to_bytes(8, "big", signed=True)
            marks |= await self._replica.weeks.less(leapt_ms)
            marks |= await waited_less(self._store, leapt_ms)
            marks |= await left_waited_less(self._store, leapt_ms)
            marks |= await here_less(self._store, leapt_ms)
            marks |= await DOUBTED.less(self._store, leapt_ms)
            marks |= await HELD.less(self._store, leapt_ms)
            marks |= await LONG_GONE.less(self._store, leapt_ms)
        return marks

    async def _orders(
        self, said: Said, done: Mapping[bytes, Done], places: Mapping[Place, Taken], now_ms: int
    ) -> list[Order]:
        """What is to be destroyed, and where it is."""
        seen = await self._replica.weeks.look(said.sure, now_ms)
        orders = orders_of(self._replica, said, seen, done, now_ms)
        orders = await self._with_presence(orders, now_ms)
        days = await stood(self._replica, {order.covers for order in orders if order.at})
        again = orders_again(said, places)
        gone = {order.place for order in again}
        noted = {place.name for place, taken in places.items() if taken.by}
        return [
            *(
                replace(order, stood_days=days.get(order.place, 0), is_done=_is_done_at(order, gone, noted))
                for order in orders
            ),
            *again,
        ]

    async def _with_presence(self, orders: list[Order], now_ms: int) -> list[Order]:
        """Those that are obeyed within the day's number, or were, once for each class in which they may be.

        Without those of whom nothing is here.
        """
        unsigned = (order for order in orders if order.of_person and not order.is_signed(now_ms))
        asked = {order for order in unsigned if order.is_done or order.is_ready(now_ms)}
        if not asked:
            return orders
        door = self._replica.door
        here: defaultdict[bytes, set[bytes]] = defaultdict(set)
        for space in door.spaces():
            line = door.lineage(space)
            if sought := frozenset(order.covers for order in asked if order.space in line):
                for name in await self._named_in(space, sought):
                    here[name].add(space)
        waiting: defaultdict[bytes, set[bytes]] = defaultdict(set)
        for held in await self._store.held():
            for name in covering_names(held.entry):
                waiting[name].add(held.entry.header.space)

        def classes_of(order: Order) -> Iterator[bytes]:
            yield from (space for space in here[order.covers] if order.space in door.lineage(space))
            yield from (self._counted_in(order, space) for space in waiting[order.covers])

        parts = [replace(order, at=space) for order in asked for space in {*classes_of(order)}]
        return [*(order for order in orders if order not in asked), *parts]

    def _counted_in(self, order: Order, space: bytes) -> bytes:
        """As whose what waits for its right in a space goes: it may be a space that nobody knows."""
        return space if order.space in self._replica.door.lineage(space) else order.space

    async def _is_any_here(self, orders: Sequence[Order]) -> bool:
        """Whether anything names one of those for whom these are."""
        names = {order.covers for order in orders}
        for space in self._replica.door.spaces():
            sought = frozenset(names & self._names_in(space))
            if sought and await self._named_in(space, sought):
                return True
        return False

    async def _named_in(self, space: bytes, sought: frozenset[bytes]) -> frozenset[bytes]:
        """Those names that entries of a space bear, bare ones too; what was looked at before is not read again."""
        found = self._found.get(space)
        if found is None or not await found.holds(self._store, space, sought):
            found = _Found(sought)
        arrived = await self._store.scan(space, found.count)
        erasable = (stored.entry for stored in arrived if is_erasable(stored.entry.header))
        names = {name for entry in erasable for name in covering_names(entry)} & found.sought
        position = await self._store.position(space) if arrived else None
        if position is not None and position.count == arrived[-1].arrival:
            found = replace(found, count=position.count, chain=position.chain)
        found = replace(found, names=found.names | names)
        self._found[space] = found
        return found.names & sought

    def _names_in(self, space: bytes) -> set[bytes]:
        """What is to go in a space."""
        line = self._replica.door.lineage(space)
        return {order.covers for order in self._obeyed.orders if order.reaches(line)}

    async def _seek(self, names: Mapping[bytes, Collection[bytes]], noted: Mapping[bytes, bytes | None]) -> None:
        """Say beforehand which entries of all spaces are to go."""
        gone: list[Entry] = []
        for space, covers in names.items():
            if covers:
                arrived = await self._store.scan(space, await self._looked_at(space, _hash_of(covers), noted[space]))
                gone += [one.entry for one in arrived if is_destroyed_by(one.entry, covers)]
        await self._content.seek(gone)

    async def _sweep_space(self, space: bytes, covers: Collection[bytes], noted: bytes | None) -> list[bytes]:
        """Destroy what is covered in a space: what has come since it was last looked through for just that."""
        mark = ERASURE_READ_MARKS + space.hex()
        if not covers:
            if noted is not None:
                await self._store.set_marks({mark: None})
            return []
        sought = _hash_of(covers)
        arrived = await self._store.scan(space, await self._looked_at(space, sought, noted))
        if not arrived:
            return []
        gone = [stored.entry for stored in arrived if is_destroyed_by(stored.entry, covers)]
        if gone:
            await self._content.give_up_of(space, gone, for_the_first_time=self._is_any_fresh(space, gone))
        last = arrived[-1].arrival
        chain = await self._store.chain_at(space, last) or b""
        marks = await said_elsewhere(self._store, gone) | key_word_marks(gone)
        marks |= {mark: last.to_bytes(8, "big") + chain + sought, **({LEFTOVERS_MARK: b"\1"} if gone else {})}
        async with self._still_obeying():
            await self._store.erase([entry.id for entry in gone], marks)
        return [entry.id for entry in gone]

    def _is_any_fresh(self, space: bytes, gone: Iterable[Entry]) -> bool:
        """Whether any of these goes for whom or what nothing went in this space before."""
        line = self._replica.door.lineage(space)
        fresh = {order.covers for order in self._obeyed.orders if not order.is_done and order.reaches(line)}
        return any(is_destroyed_by(entry, fresh) for entry in gone)

    async def _looked_at(self, space: bytes, sought: bytes, noted: bytes | None) -> int:
        """How many entries need no other look. The mark holds that number, the chain there, and what was sought."""
        if noted is None or noted[8 + CURSOR_HASH_BYTES :] != sought:
            return 0
        count = int.from_bytes(noted[:8], "big")
        return count if await self._store.chain_at(space, count) == noted[8 : 8 + CURSOR_HASH_BYTES] else 0

    async def _sweep_quarantine(self) -> None:
        """What waits for its right is no part of a set, and has words and names in it all the same."""

        def is_to_go(entry: Entry) -> bool:
            names, space = covering_names(entry), entry.header.space
            obeyed = (order for order in self._obeyed.orders if order.covers in names)
            return any(order.at in (b"", self._counted_in(order, space)) for order in obeyed)

        gone = [held for held in await self._store.held() if is_to_go(held.entry)]
        if gone:
            async with self._still_obeying():
                await self._replica.drop_waiting(gone)
            await self._store.scrub()

    async def _let_go_of_old(self, now_ms: int) -> None:
        """What has waited for `HELD_MS` waits in vain; whoever has it may bring it again."""
        held = {one.entry.id: one for one in await self._store.held()}
        since = await HELD.look(self._store, {name[:_NAME_BYTES] for name in held}, now_ms)
        old = {name for name in held if since[name[:_NAME_BYTES]] < now_ms - HELD_MS}
        if old:
            await self._replica.drop_waiting([held[name] for name in old])
            await HELD.look(self._store, {name[:_NAME_BYTES] for name in held.keys() - old}, now_ms)


@dataclass(frozen=True, slots=True)
class _Found:
    """Which of the names `sought` the first `count` arrivals of a space bear; `chain` is theirs."""

    sought: frozenset[bytes]
    count: int = 0
    chain: bytes = b""
    names: frozenset[bytes] = frozenset()

    async def holds(self, store: EntryStore, space: bytes, sought: frozenset[bytes]) -> bool:
        """Whether it says so of these names as well, and of the arrivals as they are numbered now."""
        return sought <= self.sought and (not self.count or await store.chain_at(space, self.count) == self.chain)


def _taken_on(today: int, places: Mapping[Place, Taken], done: Mapping[bytes, Done]) -> set[Place]:
    """The places of a day that are taken; of whom an earlier version has destroyed then, one."""
    of_today = {place for place, taken in places.items() if _is_of(today, taken.day)}
    noted = {name for name, record in done.items() if _is_of(today, record.day)}
    return of_today | {Place(name, b"") for name in noted - {place.name for place in of_today}}


def _is_of(today: int, day: int) -> bool:
    return 0 <= day - today <= _LATER_DAYS


def _is_done_at(order: Order, gone: Collection[Place], noted: Collection[bytes]) -> bool:
    """Whether an order was obeyed before where it is to be: in its class, if it is `noted` for any where that was.

    `gone` are the places in which all has gone. An earlier version noted no places of what it finished.
    """
    return (order.is_done and (not order.at or order.covers not in noted)) or order.place in gone


def _hash_of(covers: Collection[bytes]) -> bytes:
    return blake3(b"".join(sorted(covers))).digest()
