"""Rules broken on purpose, each as a context in which the product is wrong: the simulator has to notice every one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from random import Random
from typing import Any
from unittest import mock

from protocol.errors import RelaisError
from protocol.messages.calls import SyncAnswer
from protocol.messages.parts import Wanted
from protocol.model.ancestry import heads
from protocol.model.entry import Entry, unsigned
from protocol.replica.at_work.replica import Draft, Replica
from protocol.replica.content.holdings import Holdings, Need
from protocol.replica.interfaces import ContentStore
from protocol.rights.door import Authority
from protocol.transfer.chunking import ChunkRef
from sync_agent.app import Agent
from sync_agent.courier.survey import COURIER
from sync_agent.hand_ins.copies import Copies
from sync_agent.lan.exchange import peer_session
from sync_agent.lan.exchange.peer_content import PeerContent
from sync_agent.lan.exchange.scope import LanScope
from sync_agent.sync.repair import SyncRepair
from sync_agent.sync.run import Run
from sync_agent.sync.session import Session
from tests.simulation.disk import Disk


def forgets_prev() -> AbstractContextManager[object]:
    """An entry does not name its author's latest ones."""

    def without(**given: Any) -> Entry:
        return unsigned(**{**given, "prev": ()})

    return mock.patch("protocol.replica.at_work.replica.unsigned", without)


def nothing_is_counted() -> AbstractContextManager[object]:
    """Nobody looks whether the server holds as much as a device, or the same: what is lost would be found by that."""

    async def nothing(_agent: Agent) -> dict[bytes, int]:
        return {}

    async def the_same(*_: object) -> None:
        """All that it says it holds lies there."""

    patches = contextlib.ExitStack()
    patches.enter_context(mock.patch("protocol.replica.answering.serving.differing", the_same))
    for room in ("asking", "repair"):
        patches.enter_context(mock.patch(f"sync_agent.sync.{room}.unseen", nothing))
    return patches


def counts_what_was_tried_as_sent() -> AbstractContextManager[object]:
    """The outbox is emptied when a call fails."""
    plain = Session._note_failure

    async def noted(self: Session, run: Run, error: RelaisError) -> None:
        await self._store.mark_sent([entry.id for entry in await self._store.unsent(1 << 20)])
        await plain(self, run, error)

    patches = contextlib.ExitStack()
    patches.enter_context(nothing_is_counted())
    patches.enter_context(mock.patch.object(Session, "_note_failure", noted))
    return patches


def folds_by_arrival() -> AbstractContextManager[object]:
    """Of several heads the one that came first is shown."""

    def first_come(entries: Sequence[Entry], passed_over: Sequence[Entry]) -> list[Entry]:
        kept = {entry.id for entry in heads(entries, passed_over)}
        return [entry for entry in entries if entry.id in kept]

    return mock.patch("protocol.folds.coursework.heads", first_come)


def believes_the_manifest() -> AbstractContextManager[object]:
    """A revision counts as complete as soon as its list of files is here."""

    async def is_complete(self: Holdings, need: Need) -> bool:
        return await self._content.chunk_list(need.stream) is not None

    async def incomplete(self: Holdings, needs: Iterable[Need], most: int | None = None) -> list[Need]:
        del most
        return [need for need in dict.fromkeys(needs) if not await is_complete(self, need)]

    patches = contextlib.ExitStack()
    patches.enter_context(mock.patch.object(Holdings, "is_complete", is_complete))
    patches.enter_context(mock.patch.object(Holdings, "incomplete", incomplete))
    return patches


def never_reconciles() -> AbstractContextManager[object]:
    """Cursors are all that is ever compared."""

    async def nothing(*_args: object, **_kwargs: object) -> None:
        return

    return mock.patch.object(SyncRepair, "reconcile_if_needed", nothing)


def takes_waiting_for_taken() -> AbstractContextManager[object]:
    """What waits at the server, and may be thrown away there, leaves the outbox; what it found no room for as well."""
    plain = SyncAnswer.parse

    def parse(payload: bytes) -> SyncAnswer:
        return replace(plain(payload), waiting=(), lacks=())

    return mock.patch.object(SyncAnswer, "parse", parse)


def signs_receipts_unseen() -> AbstractContextManager[object]:
    """The server signs for a hand-in whose content it does not have."""
    plain = Holdings.incomplete

    async def incomplete(self: Holdings, needs: Iterable[Need], most: int | None = None) -> list[Need]:
        return await plain(self, [need for need in needs if not need.sealed], most)

    return mock.patch.object(Holdings, "incomplete", incomplete)


def names_packs_for_chunks_only() -> AbstractContextManager[object]:
    """The list of an empty file is in nobody's pack. (A bug that this simulator found.)"""
    plain = Holdings.packs

    async def packs(self: Holdings, need: Need, *, beyond: Sequence[Need] = ()) -> list[Any]:
        content, self._content = self._content, _ChunksOnly(self._content)
        try:
            return list(await plain(self, need, beyond=beyond))
        finally:
            self._content = content

    return mock.patch.object(Holdings, "packs", packs)


class _ChunksOnly:
    def __init__(self, inner: ContentStore) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def packs_holding(self, space: bytes, chunks: Iterable[ChunkRef], streams: Iterable[bytes] = ()) -> list[Any]:
        del streams
        return await self._inner.packs_holding(space, chunks)


def acknowledges_before_the_flush() -> AbstractContextManager[object]:
    """A power cut takes the entry with it that was written last."""
    plain = Disk.lose_unflushed

    def lose(self: Disk, random: Random) -> None:
        plain(self, random)
        unsent = self.store._unsent
        if unsent:
            name = next(reversed([name for name in self.store._entries if name in unsent]))
            space = self.store._spaces[self.store._entries.pop(name).header.space]
            unsent.discard(name)
            if space.entries[-1].entry.id == name:
                space.entries.pop()
                space.chains.pop()

    return mock.patch.object(Disk, "lose_unflushed", lose)


def lets_everybody_read() -> AbstractContextManager[object]:
    """A grant opens all that there is."""
    plain = Replica.readable

    async def readable(self: Replica, key: bytes) -> dict[bytes, Authority]:
        found = await plain(self, key)
        if found:
            some = next(iter(found.values()))
            found = {**dict.fromkeys(self.door.spaces(), some), **found}
        return found

    return mock.patch.object(Replica, "readable", readable)


def signs_for_copies_unseen() -> AbstractContextManager[object]:
    """A machine signs for a second copy of work of which it holds the entry only."""

    async def receipts(self: Copies, space: bytes) -> list[Draft]:
        with mock.patch.object(Holdings, "incomplete", _nothing_missing):
            return await plain(self, space)

    plain = Copies._receipts
    return mock.patch.object(Copies, "_receipts", receipts)


async def _nothing_missing(_self: Holdings, _needs: Iterable[Need], most: int | None = None) -> list[Need]:
    del most
    return []


def exchanges_no_content_with_neighbours() -> AbstractContextManager[object]:
    """Neighbours come to agree on entries only."""

    async def nothing(*_args: object) -> list[Wanted]:
        return []

    patches = contextlib.ExitStack()
    for name in ("wanted", "find_lacking"):
        patches.enter_context(mock.patch.object(PeerContent, name, nothing))
    return patches


def shows_neighbours_everything() -> AbstractContextManager[object]:
    """Whoever is of the school is sent all that this device holds."""

    async def everything(agent: Agent, _device: bytes) -> list[bytes]:
        return list(await agent.spaces())

    async def shared(self: LanScope, _readable: object) -> dict[bytes, Authority]:
        return await self._agent.spaces()

    patches = contextlib.ExitStack()
    patches.enter_context(mock.patch.object(peer_session, "common_spaces", everything))
    patches.enter_context(mock.patch.object(LanScope, "shared", shared))
    return patches


def takes_what_a_stick_brought_as_sent() -> AbstractContextManager[object]:
    """What came by a stick is not sent on to the server."""
    plain = Replica.admit

    async def admit(self: Replica, entries: Sequence[Entry], *, source: bytes, **given: Any) -> Any:
        return await plain(
            self, entries, source=source, **{**given, "news": None if source == COURIER else given.get("news")}
        )

    patches = contextlib.ExitStack()
    patches.enter_context(nothing_is_counted())
    patches.enter_context(mock.patch.object(Replica, "admit", admit))
    return patches


def destroys_too_early() -> AbstractContextManager[object]:
    """What is erased goes after five days: who sees within the week that it was wrong finds it gone."""
    return mock.patch("protocol.folds.erasing.ERASURE_DELAY_MS", 5 * 24 * 3600 * 1000)


def destroys_nothing() -> AbstractContextManager[object]:
    """What is erased is hidden for ever, and never destroyed."""
    return mock.patch("protocol.replica.upkeep.eraser.due", return_value=[])
