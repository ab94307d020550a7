"""Destroying what erasures cover, once it is due (docs/protocol.md, "Erasure"; the rules are `protocol.folds.erasing`).

Rules:
- an erasure counts while the fold of the space in which it lies does not hold it back, and no ruling takes it back;
- what was destroyed goes again whenever it comes, whoever takes the erasure back, until the root does;
- while its author is cut off there, it hides and destroys nothing: somebody else must say it too, and theirs waits;
- its week is the time for which it holds, in no doubt, without a break: what was taken back and is meant again waits;
- it reaches its space and all below: one in the territory's reaches every class;
- payload and salt go, the header stays: the set, its fingerprint and its signatures are what they were;
- when an erasure was first seen, and what was destroyed for which, are marks of this replica, and no part of any set;
- a mark of an earlier version, which does not say for which, spares a name its place in the day's count, and nothing
  else: not where an erasure of the name has been let go of, and not its week;
- who is named and is not here, invented or of another school, is passed over until something of theirs comes;
- a space is looked through to its end, and then only what comes; from its beginning as soon as other names are looked
  for, its arrivals are numbered anew, or payloads have come for what was bare;
- immediately before anything goes it is looked whether each order that is obeyed still counts: what takes one of them
  back, or cuts off who said it, while a class is looked through, is heeded, and the sweep begins anew. Other words
  postpone nothing, however many come: each time it begins anew there is an order less;
- what waits in quarantine goes too, and by itself once it has waited for `HELD_MS`;
- of what a part of a pack holds nobody can say whose it is: when content is given up, all parts go to which this
  program is not adding, and by themselves after a week;
- into a list of files it is looked once a sweep, however many entries name it (`named_lists`);
- what was moved aside as damaged goes when an order is carried out of whom anything is here, be it bare: what a
  database has lost came again as others have it, and the one that lies aside may have it whole;
- what comes into a class while it is looked through keeps content too: it is looked at before anything goes. Where it
  comes faster than that, or something is being written here, the payloads go, and the content at the next look;
- content that only erased entries named is given up first, so that a sweep that was cut off finds it again; no hand-in
  keeps what is not sealed, and nothing else takes what is; what comes again goes at the next look.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, NamedTuple

from blake3 import blake3

from protocol.errors import PeerFault
from protocol.folds.coursework import live_content
from protocol.folds.erasing import Order, due, has_waited, is_destroyed_by
from protocol.limits import CURSOR_HASH_BYTES, HELD_MS
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure
from protocol.model.work import content_of
from protocol.replica.at_work.bare_entries import by_space
from protocol.replica.at_work.destroyed import DONE_MARKS, Done, carried_out, destroyed
from protocol.replica.at_work.forgotten import forget_reports
from protocol.replica.at_work.replica import Replica
from protocol.replica.content.holdings import Holdings, Need
from protocol.replica.content.kept.left_parts import are_parts_left, left_waited_less, let_go_of_left
from protocol.replica.content.kept.unnamed import let_go_of_unnamed, waited_less
from protocol.replica.interfaces import ERASURE_READ_MARKS, EntryStore
from protocol.replica.upkeep.come_again import here_less, waited_for_long
from protocol.replica.upkeep.named_lists import NamedLists
from protocol.replica.upkeep.stood import count_arrivals, stood, stood_less
from protocol.rights.door import covering_names
from protocol.trust.sealing import has_sealed_form

SWEEP_INTERVAL_S: Final = 3600.0

SEEN_MARKS: Final = "erasure-seen/"
"""+ erasure in hex → 8 bytes of ms: since when this replica has seen it hold, in no doubt, without a break."""
LOOKED_MARK: Final = "erasure-looked"
"""→ 8 bytes of ms: when this replica last looked, by the time of its looks (`pace`)."""
HELD_MARK: Final = "held-since"
"""→ for each entry in quarantine, 8 bytes of ms when a sweep first saw it and the first 8 bytes of its id."""
LEFT_MARKS: Final = "erasure-content/"
"""+ stream in hex → whether it is open: nothing named it when its entries went, and the next look is to let it go."""
LEFTOVERS_MARK: Final = "erasure-leftovers"
"""→ something was destroyed here, and what lies beside the database may hold it still: until that was seen to."""
_OPEN, _SEALED = b"\1", b"\2"
_ROUNDS: Final = 4
_HELD_ROW_BYTES: Final = 16
_LATER_DAYS: Final = 2
"""What was destroyed on a day that is still to come counts for today, if it is so near: the clock was set back."""


@dataclass(frozen=True, slots=True)
class Destroyed:
    """What a sweep did: how many names it destroyed anew, and the entries whose payloads went."""

    names: int = 0
    entries: tuple[bytes, ...] = ()


class _Countermanded(Exception):
    """One of the orders that a sweep obeys counts no more."""


class _MoreCame(Exception):
    """Content may be named by more than was looked at."""


@dataclass(frozen=True, slots=True)
class _Obeyed:
    """What a sweep obeys, and what it knew of the folds when it decided that."""

    orders: Sequence[Order] = ()
    done: Mapping[bytes, Done] = field(default_factory=dict)
    now_ms: int = 0
    changes: int = -1


class Eraser:
    """Sweeps one replica."""

    def __init__(self, replica: Replica, holdings: Holdings) -> None:
        """Over an opened replica and what is known of its content."""
        self._replica = replica
        self._store = replica.store
        self._holdings = holdings
        self._found: dict[bytes, _Found] = {}
        self._obeyed = _Obeyed()
        self._lists = NamedLists(replica.store, replica.content)

    async def sweep(self, now_ms: int) -> Destroyed:
        """Destroy what is due at `now_ms`. Raises `LocalFailure`. May be repeated, and cut off anywhere."""
        await self._let_go_of_old(now_ms)
        carried = await self._carry_out(now_ms)
        await count_arrivals(self._replica, now_ms)
        await forget_reports(self._replica)
        # last: a part that cannot be removed keeps no erasure from being carried out
        await let_go_of_left(self._store, self._replica.content, now_ms)
        return carried

    async def _carry_out(self, now_ms: int) -> Destroyed:
        gone: list[bytes] = []
        self._lists = NamedLists(self._store, self._replica.content)
        while True:
            with contextlib.suppress(_Countermanded):
                names = await self._obey(now_ms, gone)
                break
        await self._lists.end()
        return Destroyed(names, tuple(gone))

    async def _obey(self, now_ms: int, gone: list[bytes]) -> int:
        """Destroy what is due, the entries add to `gone`; how many names anew. Raises `_Countermanded`."""
        changes = self._replica.changes
        done = await destroyed(self._store)
        read = await self._store.marks(ERASURE_READ_MARKS)
        erasures, doubtful, ended = await _sorted(self._replica)
        orders = await self._orders(erasures, doubtful, _that_hold(done, ended), now_ms)
        if not orders and not done and not read:
            return 0
        today = _day(now_ms)
        destroyed_today = {name for name, record in done.items() if 0 <= record.day - today <= _LATER_DAYS}
        obeyed = due(orders, now_ms, destroyed_today)
        self._obeyed = _Obeyed(obeyed, done, now_ms, changes)
        names = {space: self._names_in(space) for space in self._replica.door.spaces()}
        noted = {space: read.get(ERASURE_READ_MARKS + space.hex()) for space in names}
        await self._seek(names, noted)
        for space, covers in names.items():
            gone += await self._sweep_space(space, covers, noted[space])
        await self._sweep_quarantine({order.covers for order in obeyed})
        await self._go_on()
        await self._give_up_again(now_ms)
        await self._give_up_again(now_ms)
        fresh = [order for order in obeyed if not order.is_done]
        records = _noting(done, obeyed, now_ms, ended)
        marks = {DONE_MARKS + name.hex(): None if one is None else one.encode() for name, one in records.items()}
        if await self._is_any_here(fresh):
            marks[LEFTOVERS_MARK] = b"\1"
            async with self._still_obeying():
                await self._replica.content.forget_damaged()
        await self._store.set_marks(marks)
        self._replica.note_destroyed(await carried_out(self._store))
        if done:
            await let_go_of_unnamed(self._store, self._replica.content, now_ms)
        return len({order.covers for order in fresh})

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
        """Whether each of these orders might be obeyed now as well."""
        erasures, doubtful, ended = await _sorted(self._replica, {order.covers for order in obeyed.orders})
        noted = await noted_since(self._store)
        seen = {entry.id: noted.get(entry.id, obeyed.now_ms) for entry, _ in erasures}
        orders = self._made(erasures, doubtful, seen, _that_hold(obeyed.done, ended), obeyed.now_ms)
        counting = {(each.covers, each.space) for each in orders if each.is_done or each.is_ready(obeyed.now_ms)}
        return counting.issuperset((each.covers, each.space) for each in obeyed.orders)

    async def looked_ms(self) -> int | None:
        """When the last look was, if there was one since anything has waited."""
        noted = await self._store.mark(LOOKED_MARK)
        return None if noted is None else int.from_bytes(noted, "big")

    async def note_look(self, now_ms: int, leapt_ms: int) -> None:
        """A look at `now_ms`. Over so many ms since the last nothing has waited, and no day has passed."""
        if not (self._replica.door.has_erasures or await are_parts_left(self._store, self._replica.content)):
            return
        marks: dict[str, bytes | None] = {LOOKED_MARK: now_ms.to_bytes(8, "big")}
        if leapt_ms:
            seen = await noted_since(self._store)
            marks |= {SEEN_MARKS + name.hex(): _since_mark(at + leapt_ms) for name, at in seen.items()}
            marks |= {
                DONE_MARKS + name.hex(): replace(record, day=_day(now_ms)).encode()
                for name, record in (await destroyed(self._store)).items()
                if record.by is not None and record.day == _day(now_ms - leapt_ms)
            }
            marks |= await waited_less(self._store, leapt_ms)
            marks |= await left_waited_less(self._store, leapt_ms)
            marks |= await stood_less(self._store, leapt_ms)
            marks |= await here_less(self._store, leapt_ms)
        await self._store.set_marks(marks)

    async def _orders(
        self,
        erasures: Sequence[tuple[Entry, bytes]],
        doubtful: set[bytes],
        done: Mapping[bytes, Done],
        now_ms: int,
    ) -> list[Order]:
        """What is to be destroyed: each name once in each space that holds an erasure of it."""
        seen = await self._since({entry.id for entry, _ in erasures} - doubtful, now_ms)
        orders = self._made(erasures, doubtful, seen, done, now_ms)
        stood_ms = await stood(self._replica, [order.covers for order in orders if order.of_person], now_ms)
        orders = [replace(order, stood_ms=stood_ms.get(order.covers, 0)) for order in orders]
        return await self._with_presence(orders, now_ms)

    def _made(
        self,
        erasures: Iterable[tuple[Entry, bytes]],
        doubtful: Collection[bytes],
        seen: Mapping[bytes, int],
        done: Mapping[bytes, Done],
        now_ms: int,
    ) -> list[Order]:
        """The orders that these erasures are; those in no doubt have been `seen` to hold since then."""
        by_name: defaultdict[bytes, list[Entry]] = defaultdict(list)
        for entry, covers in erasures:
            by_name[covers].append(entry)
        orders: list[Order] = []
        for covers, said in by_name.items():
            for space in {entry.header.space for entry in said}:
                reaching = _reaching(self._replica, said, space)
                sure = [entry for entry in reaching if entry.id not in doubtful]
                signed = [entry for entry in sure if entry.header.grant is None]
                order = Order(
                    covers,
                    seen_ms=min((seen[entry.id] for entry in sure), default=None),
                    kit_seen_ms=min((seen[entry.id] for entry in signed), default=None),
                    space=space,
                    reached_by=frozenset(entry.id for entry in reaching),
                )
                heard = sure if order.of_person else signed
                waited = (one for one in heard if one.header.space == space and has_waited(seen[one.id], now_ms))
                orders.append(replace(order, by=frozenset(one.id for one in waited)))
        return [replace(order, is_done=_is_done(order, done.get(order.covers), now_ms)) for order in orders]

    async def _with_presence(self, orders: list[Order], now_ms: int) -> list[Order]:
        """Which of those that may be obeyed for the first time, within the day's number, concern anybody here."""
        asked = [order for order in orders if order.is_ready(now_ms)]
        asked = [order for order in asked if not (order.is_done or order.is_signed(now_ms))]
        if not asked:
            return orders
        door = self._replica.door
        here: defaultdict[bytes, set[bytes]] = defaultdict(set)
        for space in door.spaces():
            line = door.lineage(space)
            if sought := frozenset(order.covers for order in asked if order.space in line):
                names = await self._named_in(space, sought)
                for above in line:
                    here[above] |= names
        waiting = {name for one in await self._store.held() for name in covering_names(one.entry)}
        absent = {order for order in asked if order.covers not in here[order.space] | waiting}
        return [replace(order, is_here=order not in absent) for order in orders]

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
        names = {name for stored in arrived for name in covering_names(stored.entry)} & found.sought
        position = await self._store.position(space) if arrived else None
        if position is not None and position.count == arrived[-1].arrival:
            found = replace(found, count=position.count, chain=position.chain)
        found = replace(found, names=found.names | names)
        self._found[space] = found
        return found.names & sought

    async def _since(self, holding: Collection[bytes], now_ms: int) -> dict[bytes, int]:
        """Since when these erasures, which hold and are in no doubt, do so here without a break; noted from now on."""
        noted = await noted_since(self._store)
        seen = {name: min(noted.get(name, now_ms), now_ms) for name in holding}
        marks = {SEEN_MARKS + name.hex(): _since_mark(at) for name, at in seen.items() if noted.get(name) != at}
        ended = {SEEN_MARKS + name.hex(): None for name in noted.keys() - seen.keys()}
        await self._store.set_marks({**marks, **ended})
        return seen

    def _names_in(self, space: bytes) -> set[bytes]:
        """What is to go in a space."""
        line = self._replica.door.lineage(space)
        return {order.covers for order in self._obeyed.orders if order.space in line}

    async def _seek(self, names: Mapping[bytes, Collection[bytes]], noted: Mapping[bytes, bytes | None]) -> None:
        """Say beforehand what the lists of all spaces will be asked for, so that each answers once."""
        going = _Named(open=await self._holdings.come_again())
        going.add(await self._left_before())
        for space, covers in names.items():
            if covers:
                arrived = await self._store.scan(space, await self._looked_at(space, _hash_of(covers), noted[space]))
                gone = [one.entry for one in arrived if is_destroyed_by(one.entry, covers)]
                going.add(await self._named(gone, are_going=True))
        await self._lists.seek(going.streams | await self._replica.content.sharing(going.open))

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
            await self._give_up_content(space, gone)
        last = arrived[-1].arrival
        chain = await self._store.chain_at(space, last) or b""
        marks = {mark: last.to_bytes(8, "big") + chain + sought, **({LEFTOVERS_MARK: b"\1"} if gone else {})}
        async with self._still_obeying():
            await self._store.erase([entry.id for entry in gone], marks)
        return [entry.id for entry in gone]

    async def _looked_at(self, space: bytes, sought: bytes, noted: bytes | None) -> int:
        """How many entries need no other look. The mark holds that number, the chain there, and what was sought."""
        if noted is None or noted[8 + CURSOR_HASH_BYTES :] != sought:
            return 0
        count = int.from_bytes(noted[:8], "big")
        return count if await self._store.chain_at(space, count) == noted[8 : 8 + CURSOR_HASH_BYTES] else 0

    async def _sweep_quarantine(self, covers: Collection[bytes]) -> None:
        """What waits for its right is no part of a set, and has words and names in it all the same."""
        names = set(covers)
        gone = [held for held in await self._store.held() if not names.isdisjoint(covering_names(held.entry))]
        if gone:
            async with self._still_obeying():
                await self._replica.drop_waiting(gone)
            await self._store.scrub()

    async def _let_go_of_old(self, now_ms: int) -> None:
        """What has waited for `HELD_MS` waits in vain; whoever has it may bring it again."""
        held = {one.entry.id: one for one in await self._store.held()}
        noted = await self._store.mark(HELD_MARK) or b""
        rows = (noted[at : at + _HELD_ROW_BYTES] for at in range(0, len(noted), _HELD_ROW_BYTES))
        since = {row[8:]: int.from_bytes(row[:8], "big") for row in rows}
        old = [name for name in held if since.get(name[:8], now_ms) < now_ms - HELD_MS]
        await self._replica.drop_waiting([held[name] for name in old])
        left = sorted({name[:8] for name in held} - {name[:8] for name in old})
        noting = b"".join(since.get(name, now_ms).to_bytes(8, "big") + name for name in left)
        if noting != noted:
            await self._store.set_marks({HELD_MARK: noting or None})

    async def _give_up_content(self, space: bytes, gone: Sequence[Entry]) -> None:
        """Let go of what only the entries that go name, in this space and in those that share packs with it.

        What is open is kept by entries alone that name it openly: a hand-in is sealed, and any PC of a class could name
        a remark as one. So could it name a list that repeats the remark's chunks, which goes with it. But whoever may
        say feedback could name the work of others in it: what has the form of sealed work, a hand-in keeps.
        """
        going = await self._named(gone, are_going=True)
        spaces = {space, *await self._replica.content.spaces_of(going.streams)}
        await self._let_go_of(going, spaces, {entry.id for entry in gone})

    async def _left_before(self) -> _Named:
        """What was to go with its entries, and could not."""
        left = _Named()
        for key, kind in (await self._store.marks(LEFT_MARKS)).items():
            (left.open if kind == _OPEN else left.sealed).add(bytes.fromhex(key.removeprefix(LEFT_MARKS)))
        return left

    async def _go_on(self) -> None:
        """Let go of what an earlier look has left, unless something names it by now."""
        going = await self._left_before()
        if going.streams and await self._let_go_of(going, await self._replica.content.spaces_of(going.streams)):
            await self._store.set_marks({LEFT_MARKS + stream.hex(): None for stream in going.streams})

    async def _give_up_again(self, now_ms: int) -> None:
        """Let go of what was given up and has come again with some pack, unless an entry names it openly by now.

        Not while one may follow, since something is on its way from here, or name it in a list that is still to come:
        for such a list a week is waited.
        """
        content, streams = self._replica.content, await self._holdings.come_again()
        overdue = await waited_for_long(self._store, streams, now_ms)
        if not streams or await content.unsent_packs():
            return
        spaces = await content.spaces_of(streams)
        for space in spaces:
            coursework = (await self._replica.view(space)).coursework
            needs = [Need(space, ref.stream, sealed=False) for ref in live_content(coursework)]
            if await self._holdings.incomplete(needs, most=1):
                streams = overdue
                break
        if streams:
            await self._let_go_of(_Named(open=streams), spaces)

    async def _let_go_of(self, going: _Named, spaces: Collection[bytes], names: Collection[bytes] = ()) -> bool:
        """Give up streams of these spaces that none of their entries keeps; those of these `names` go.

        False: more came than could be looked at. What is to go is noted then.
        """
        if not going.streams:
            await self._replica.content.forget(spaces, (), self._still_obeying)
            return True
        shared = await self._replica.content.sharing(going.open)
        await self._lists.seek(going.streams | shared)
        left = _Left(dict.fromkeys(spaces, 0), frozenset(names))
        unnamed = _Named()
        for _ in range(_ROUNDS):
            await self._read_on(left)
            unnamed = await self._unnamed(going, shared, left.named)
            with contextlib.suppress(_MoreCame):
                if await self._replica.content.forget(spaces, unnamed.streams, partial(self._as_read, left)):
                    await self._holdings.forget()
                return True
        marks = {LEFT_MARKS + stream.hex(): _SEALED for stream in unnamed.sealed}
        await self._store.set_marks({**marks, **{LEFT_MARKS + stream.hex(): _OPEN for stream in unnamed.open}})
        return False

    async def _unnamed(self, going: _Named, shared: Collection[bytes], left: _Named) -> _Named:
        """What goes: what is `left` names none of it. Of open content it is noted who may bring it no more."""
        await self._holdings.take_back(going.open & left.open)
        named = going.open - left.open
        plain = await self._not_sealed(named)
        opened = named - (left.sealed - plain)
        # of what came meanwhile nobody has asked whether it is named
        sharing = await self._not_sealed((await self._replica.content.sharing(opened)).intersection(shared) - left.open)
        await self._holdings.give_up((opened & plain) | sharing)
        return _Named(opened | sharing, going.sealed - left.streams)

    async def _read_on(self, left: _Left) -> None:
        """Look at what has come since it was looked at last; at all of it where payloads have come for bare entries."""
        for space, count in left.read.items():
            filled = self._replica.filled(space)
            after = count if filled == left.filled.get(space) else 0
            left.filled[space] = filled
            stored = await self._store.scan(space, after)
            left.named.add(await self._named(one.entry for one in stored if one.entry.id not in left.without))
            left.read[space] = stored[-1].arrival if stored else after

    @contextlib.asynccontextmanager
    async def _as_read(self, left: _Left) -> AsyncIterator[None]:
        """Inside nothing comes in, and no entry is here that was not looked at. Raises `_MoreCame` otherwise."""
        async with self._still_obeying():
            if await self._has_more(left):
                raise _MoreCame
            yield

    async def _has_more(self, left: _Left) -> bool:
        # what is being written may name what lay here already, and no entry says so yet
        if await self._replica.content.is_building():
            return True
        for space, count in left.read.items():
            if self._replica.filled(space) != left.filled[space]:
                return True
            if any(content_of(stored.entry) for stored in await self._store.scan(space, count)):
                return True
        return False

    async def _not_sealed(self, streams: Collection[bytes]) -> set[bytes]:
        """Those that are no sealed work, as their lists prove, which are here."""
        lists = await self._replica.content.chunk_lists(list(streams))
        return {name for name, chunks in lists.items() if not has_sealed_form(chunks)}

    async def _named(self, entries: Iterable[Entry], *, are_going: bool = False) -> _Named:
        """All streams that entries name, those that a list of files names included, as far as it is here.

        Of such, all that are here where the entries `are_going`, of others' those that are sought.
        """
        named = _Named()
        inside = self._lists.files_in if are_going else self._lists.sought_in
        for entry in entries:
            content = content_of(entry)
            if content is None:
                continue
            if entry.header.kind == Kind.HAND_IN:
                named.sealed.add(content.stream)
            elif content.stream not in named.looked_into:
                named.looked_into.add(content.stream)
                named.open.add(content.stream)
                named.open.update(await inside(content.stream))
        return named


@dataclass(frozen=True, slots=True)
class _Named:
    """Streams that entries name: `open` ones for all who read the space, and those of hand-ins."""

    open: set[bytes] = field(default_factory=set)
    sealed: set[bytes] = field(default_factory=set)
    looked_into: set[bytes] = field(default_factory=set)
    """The open ones that entries name themselves."""

    @property
    def streams(self) -> set[bytes]:
        """All of them."""
        return self.open | self.sealed

    def add(self, others: _Named) -> None:
        """These too."""
        self.open.update(others.open)
        self.sealed.update(others.sealed)


@dataclass(frozen=True, slots=True)
class _Left:
    """What entries name that stay: all but those `without`.

    `read` are so many arrivals of each space, `filled` how often payloads had come there by then.
    """

    read: dict[bytes, int]
    without: frozenset[bytes]
    filled: dict[bytes, int] = field(default_factory=dict)
    named: _Named = field(default_factory=_Named)


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


async def noted_since(store: EntryStore) -> dict[bytes, int]:
    """Since when erasures have been seen to hold here, by the own clock in ms."""
    return {
        bytes.fromhex(key.removeprefix(SEEN_MARKS)): int.from_bytes(at, "big", signed=True)
        for key, at in (await store.marks(SEEN_MARKS)).items()
    }


class _Sorted(NamedTuple):
    """The erasures that hold here, with what they cover, in order of arrival; which are in doubt; and the others."""

    holding: list[tuple[Entry, bytes]]
    doubtful: set[bytes]
    ended: dict[bytes, bytes]


async def _sorted(replica: Replica, of: Collection[bytes] | None = None) -> _Sorted:
    """The erasures of all names, or `of` these.

    Those hold that no fold holds back and nobody has taken back, and what was obeyed here, until the root lets go. Each
    space is looked at once: of more than folds are kept of, erasures may have been said by turns.
    """
    found: list[tuple[int, Entry, bytes]] = []
    doubtful: set[bytes] = set()
    ended: dict[bytes, bytes] = {}
    said = enumerate(await replica.store.scan_kinds([Kind.ERASE]))
    for arrival, entry in by_space(said, lambda each: each[1].header.space):
        try:
            covers = Erasure.parse(entry.payload or b"").covers
        except PeerFault:
            continue
        if of is not None and covers not in of:
            continue
        roster = (await replica.view(entry.header.space)).roster
        counts = entry.id not in roster.held_back and entry.id not in roster.undone
        if counts or entry.id in roster.carried_out:
            found.append((arrival, entry, covers))
            if await is_in_doubt(replica, entry):
                doubtful.add(entry.id)
        else:
            ended[entry.id] = covers
    found.sort(key=lambda each: each[0])
    return _Sorted([(entry, covers) for _, entry, covers in found], doubtful, ended)


async def is_in_doubt(replica: Replica, erasure: Entry) -> bool:
    """Whether who said an erasure has been cut off since: a thief may have said it. The kit's word is in no doubt."""
    if erasure.header.grant is None:
        return False
    return erasure.header.author in (await replica.view(erasure.header.space)).roster.cut


async def destroyed_in(replica: Replica) -> dict[bytes, set[bytes]]:
    """Whom and what this replica has destroyed and would again, by the spaces in which (and below which) it does.

    What the root has let go of since is not among it.
    """
    done = await destroyed(replica.store)
    found: defaultdict[bytes, set[bytes]] = defaultdict(set)
    for entry, covers in (await _sorted(replica)).holding if done else ():
        record = done.get(covers)
        if record is not None and record.by is not None and entry.id in record.by:
            found[entry.header.space].add(covers)
    return found


def _reaching(replica: Replica, erasures: Iterable[Entry], space: bytes) -> list[Entry]:
    """Those that lie in a space or above it."""
    line = replica.door.lineage(space)
    return [entry for entry in erasures if entry.header.space in line]


def _is_done(order: Order, record: Done | None, now_ms: int) -> bool:
    """Whether an order was obeyed before. Of what an earlier version destroyed, whatever may be obeyed by now."""
    if record is None:
        return False
    return order.is_ready(now_ms) if record.by is None else not record.by.isdisjoint(order.reached_by)


def _that_hold(done: Mapping[bytes, Done], ended: Mapping[bytes, bytes]) -> dict[bytes, Done]:
    """Without the marks of earlier versions of whom somebody has brought back: which erasure was obeyed, nobody knows.

    `ended` are the erasures that do not hold → what they cover.
    """
    let_go = set(ended.values())
    return {name: record for name, record in done.items() if record.by is not None or name not in let_go}


def _noting(
    done: Mapping[bytes, Done], obeyed: Iterable[Order], now_ms: int, ended: Mapping[bytes, bytes]
) -> dict[bytes, Done | None]:
    """What to note of names that were destroyed now or before; None of one of which no obeyed erasure holds."""
    by: defaultdict[bytes, frozenset[bytes]] = defaultdict(frozenset)
    counted = set()
    for order in obeyed:
        by[order.covers] |= order.by
        if not (order.is_done or order.is_signed(now_ms)):
            counted.add(order.covers)
    found: dict[bytes, Done | None] = {}
    for name in {*done, *by}:
        before = done.get(name, Done(0, frozenset()))
        ids = by[name] | ((before.by or frozenset()) - ended.keys())
        record = Done(_day(now_ms) if name in counted else before.day, ids) if ids else None
        if record != done.get(name):
            found[name] = record
    return found


def _hash_of(covers: Collection[bytes]) -> bytes:
    return blake3(b"".join(sorted(covers))).digest()


def _since_mark(at_ms: int) -> bytes:
    """Less than 0 where the own clock is at its beginning, and something has waited for longer than that."""
    return at_ms.to_bytes(8, "big", signed=True)


def _day(now_ms: int) -> int:
    """A local day as a number; never 0."""
    try:
        return dt.datetime.fromtimestamp(now_ms / 1000).astimezone().date().toordinal()
    except (ValueError, OverflowError, OSError):
        return 1
