"""Letting go of content that only what is destroyed has named (docs/protocol.md, "Erasure").

Rules:
- it goes before its entries do: a sweep that was cut off finds it again; what comes again goes at the next look;
- no hand-in keeps what is not sealed, and nothing else takes what is;
- into a list of files it is looked once a sweep, however many entries name it (`named_lists`);
- what comes into a class while it is looked through keeps content too: it is looked at before anything goes. Where
  lists of files come faster than that, or something is being written here, the payloads go, and the content at the
  next look.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from protocol.folds.coursework import live_content
from protocol.model.entry import Entry, Kind
from protocol.model.work import content_of
from protocol.replica.at_work.replica import Replica
from protocol.replica.content.holdings import Holdings, Need
from protocol.replica.upkeep.come_again import waited_for_long
from protocol.replica.upkeep.named_lists import NamedLists
from protocol.trust.sealing import has_sealed_form

LEFT_MARKS: Final = "erasure-content/"
"""+ stream in hex → whether it is open: nothing named it when its entries went, and the next look is to let it go."""
_OPEN, _SEALED = b"\1", b"\2"
_ROUNDS: Final = 4


class _MoreCame(Exception):
    """Content may be named by more than was looked at."""


class ContentToGo:
    """The content of one replica, during one sweep."""

    def __init__(
        self, replica: Replica, holdings: Holdings, still_obeying: Callable[[], AbstractAsyncContextManager[None]]
    ) -> None:
        """Inside `still_obeying` nothing comes in, and what the sweep obeys counts; it raises otherwise."""
        self._replica = replica
        self._store = replica.store
        self._content = replica.content
        self._holdings = holdings
        self._still_obeying = still_obeying
        self._lists = NamedLists(replica.store, replica.content)

    async def end(self) -> None:
        """The sweep is over."""
        await self._lists.end()

    async def seek(self, gone: Iterable[Entry]) -> None:
        """Say beforehand what the lists of all spaces will be asked for, so that each answers once.

        That is what these entries name, which are to go, and what was left before or has come again.
        """
        going = _Named(open=await self._holdings.come_again())
        going.add(await self._left_before())
        going.add(await self._named(gone, are_going=True))
        await self._lists.seek(going.streams | await self._content.sharing(going.open))

    async def give_up_of(self, space: bytes, gone: Sequence[Entry], *, for_the_first_time: bool) -> None:
        """Let go of what only the entries that go name, in this space and in those that share packs with it.

        What is open is kept by entries alone that name it openly: a hand-in is sealed, and any PC of a class could name
        a remark as one. So could it name a list that repeats the remark's chunks, which goes with it. But whoever may
        say feedback could name the work of others in it: what has the form of sealed work, a hand-in keeps.

        Where any of it goes `for_the_first_time`, parts of packs go too. Afterwards nothing asks for such content; and
        any PC of a class may hand in for somebody who was destroyed, whenever it likes.
        """
        going = await self._named(gone, are_going=True)
        spaces = {space, *await self._content.spaces_of(going.streams)}
        await self._let_go_of(going, spaces, {entry.id for entry in gone})
        if for_the_first_time:
            await self._content.forget_unfinished(spaces)

    async def give_up_left(self) -> None:
        """Let go of what an earlier look has left, unless something names it by now."""
        going = await self._left_before()
        if going.streams and await self._let_go_of(going, await self._content.spaces_of(going.streams)):
            await self._store.set_marks({LEFT_MARKS + stream.hex(): None for stream in going.streams})

    async def give_up_again(self, now_ms: int) -> None:
        """Let go of what was given up and has come again with some pack, unless an entry names it openly by now.

        Not while one may follow, since something is on its way from here, or name it in a list that is still to come:
        for either a week is waited. A server may take nothing for longer than that, and something lacks always.
        """
        streams = await self._holdings.come_again()
        overdue = await waited_for_long(self._store, streams, now_ms)
        spaces = await self._content.spaces_of(streams)
        if streams != overdue and await self._may_follow(spaces):
            streams = overdue
        if streams:
            await self._let_go_of(_Named(open=streams), spaces)

    async def _may_follow(self, spaces: Iterable[bytes]) -> bool:
        """Whether an entry of these spaces may still come to name what lies here."""
        if await self._content.unsent_packs():
            return True
        for space in spaces:
            coursework = (await self._replica.view(space)).coursework
            needs = [Need(space, ref.stream, sealed=False) for ref in live_content(coursework)]
            if await self._holdings.incomplete(needs, most=1):
                return True
        return False

    async def _left_before(self) -> _Named:
        """What was to go with its entries, and could not."""
        left = _Named()
        for key, kind in (await self._store.marks(LEFT_MARKS)).items():
            (left.open if kind == _OPEN else left.sealed).add(bytes.fromhex(key.removeprefix(LEFT_MARKS)))
        return left

    async def _let_go_of(self, going: _Named, spaces: Collection[bytes], names: Collection[bytes] = ()) -> bool:
        """Give up streams of these spaces that none of their entries keeps; those of these `names` go.

        False: more came than could be looked at. What is to go is noted then.
        """
        if not going.streams:
            await self._content.forget(spaces, (), self._still_obeying)
            return True
        shared = await self._content.sharing(going.open)
        await self._lists.seek(going.streams | shared)
        left = _Left(dict.fromkeys(spaces, 0), frozenset(names), frozenset(going.streams | shared))
        unnamed = _Named()
        for _ in range(_ROUNDS):
            await self._read_on(left)
            unnamed = await self._unnamed(going, shared, left.named)
            with contextlib.suppress(_MoreCame):
                if await self._content.forget(spaces, unnamed.streams, partial(self._as_read, left)):
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
        sharing = await self._not_sealed((await self._content.sharing(opened)).intersection(shared) - left.open)
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
        if await self._content.is_building():
            return True
        for space, count in left.read.items():
            if self._replica.filled(space) != left.filled[space]:
                return True
            news = [stored.entry for stored in await self._store.scan(space, count)]
            if await self._may_keep(news, left.going):
                return True
        return False

    async def _may_keep(self, entries: Iterable[Entry], going: frozenset[bytes]) -> bool:
        """Whether one of these may keep any of what goes: others postpone nothing, however many come.

        A hand-in names its own stream alone; and so does what has no list here, or one of which that is known.
        """
        streams: set[bytes] = set()
        lists: set[bytes] = set()
        for entry in entries:
            content = content_of(entry)
            if content is not None:
                streams.add(content.stream)
                if entry.header.kind != Kind.HAND_IN and not self._lists.names_none(content.stream):
                    lists.add(content.stream)
        return not going.isdisjoint(streams) or bool(await self._content.known_streams(list(lists)))

    async def _not_sealed(self, streams: Collection[bytes]) -> set[bytes]:
        """Those that are no sealed work, as their lists prove, which are here."""
        lists = await self._content.chunk_lists(list(streams))
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

    `read` are so many arrivals of each space, `filled` how often payloads had come there by then; `going` is what goes.
    """

    read: dict[bytes, int]
    without: frozenset[bytes]
    going: frozenset[bytes]
    filled: dict[bytes, int] = field(default_factory=dict)
    named: _Named = field(default_factory=_Named)
