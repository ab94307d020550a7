"""Sets that differ from the server's, and what is done about it (R3; docs/protocol.md, "Sync", "Reconcile").

Rules:
- where cursors no longer serve (a restored image, a server made anew), spaces are reconciled by ranges;
- a set that differs from the server's although cursors say otherwise is noticed by its fingerprint, looked at once
  more, then reconciled; until then a mark says so, written with the cursor that leads beyond the page that showed it
  (ADR 0210);
- what a server refused is offered again: to another one (other keys, or another store) at once, to it a day later;
- where more lies here than the server was seen to hold, and is left to send, what it acknowledged may not be there
  (`acknowledged`): that space is compared;
- a server that holds other sets than were said shows its own, without news: these are compared, each once an hour,
  since what a door refuses here stays apart (docs/adr/0340);
- where the server's store is another, spaces that are closed to this device just then are compared when they are back:
  half of a revocation's line, say, closes all until the rest has come;
- new cursors are kept together and at the end: an interruption leaves the old ones, which are stale again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from protocol.errors import Code, Refused
from protocol.messages.calls import SyncAnswer
from protocol.messages.parts import SpacePage, Wanted
from protocol.model.entry import Entry
from protocol.reconcile.checkpoint import Checkpoint
from protocol.reconcile.negentropy import Record
from protocol.reconcile.set_digest import fingerprint_of
from protocol.replica.interfaces import Position
from sync_agent.app import Agent
from sync_agent.machine.marks import DOUBT_MARKS, GENERATION_MARK, HEALTH_MARK
from sync_agent.machine.refusals import note_refusals, offer_again
from sync_agent.sync.acknowledged import left_by_space, unseen
from sync_agent.sync.asking import Asking
from sync_agent.sync.cursors import cursor_marks, read_cursors
from sync_agent.sync.line_of_rights import LineOfRights
from sync_agent.sync.peer_news import news_marks, settle, unproven, unsettled
from sync_agent.sync.reconciling import Reconciled, Reconciling
from sync_agent.sync.run import Run
from sync_agent.transport.sealed_calls import SealedCalls

COMPARED_EVERY_MS: Final = 60 * 60_000

_log = logging.getLogger(__name__)


class SyncRepair:
    """Brings the spaces of one agent back in step with the server's."""

    def __init__(self, agent: Agent, calls: SealedCalls, asking: Asking, rights: LineOfRights) -> None:
        self._agent = agent
        self._calls = calls
        self._asking = asking
        self._rights = rights
        self._store = agent.replica.store
        self._reconciling = Reconciling(agent, calls)
        self._kept: Mapping[str, bytes] = {}
        self._compared_ms: dict[bytes, int] = {}

    async def note_refusals(self, codes: Mapping[bytes, Code]) -> None:
        """The server refuses these. That is this answer's word, and no other's."""
        await note_refusals(self._store, codes, await self._refuser(), self._agent.now_ms())

    async def ask_again(self) -> None:
        """What was refused is sent once more, if it is time; what was taken is looked for. Either may be a lie."""
        await offer_again(self._store, await self._refuser(), self._agent.now_ms())
        doubted = (await unseen(self._agent)).keys() - (await unsettled(self._store)).keys()
        if doubted:
            await self._store.set_marks(news_marks(sorted(doubted), self._agent.entropy))

    async def _refuser(self) -> bytes:
        return (await self._calls.server()).key + (await self._store.mark(GENERATION_MARK) or b"")

    async def recall_doubts(self, run: Run) -> None:
        """Go on with the doubts that an earlier sync was cut short with."""
        self._kept = await self._store.marks(DOUBT_MARKS)
        run.doubts = {bytes.fromhex(name.removeprefix(DOUBT_MARKS)): value for name, value in self._kept.items()}

    async def take_differing(self, run: Run, answer: SyncAnswer) -> SyncAnswer:
        """The answer without what only shows that sets differ which were compared of late; notes the others."""
        shown = [page for page in answer.pages if not (page.entries or page.refused or page.more)]
        known = await read_cursors(self._store) if shown else {}
        spaces = {page.checkpoint.space for page in shown if _leads_nowhere(page.checkpoint, known)}
        run.differing = {space for space in spaces if self._is_due(space)}
        passed = spaces - run.differing
        run.unlike |= passed
        pages = tuple(page for page in answer.pages if page.checkpoint.space not in passed)
        return replace(answer, pages=pages) if passed else answer

    def _is_due(self, space: bytes) -> bool:
        compared_ms = self._compared_ms.get(space)
        return compared_ms is None or not 0 <= self._agent.now_ms() - compared_ms < COMPARED_EVERY_MS

    async def doubts_in(self, pages: Sequence[SpacePage]) -> dict[str, bytes]:
        """The marks of the spaces that pages are to be compared in, for the transaction that moves their cursors."""
        marks = {}
        for page in pages:
            space, fingerprint = page.checkpoint.space, page.checkpoint.fingerprint
            if not page.more and not await self._is_set(space, fingerprint, page.entries):
                marks[DOUBT_MARKS + space.hex()] = fingerprint
        self._kept = {**self._kept, **marks}
        return marks

    async def compare(self, run: Run, pages: Sequence[SpacePage]) -> None:
        """Note the spaces whose sets differ from the server's although nothing of them is on its way any more."""
        for page in pages:
            space = page.checkpoint.space
            run.doubts.pop(space, None)
            if page.more:
                continue
            if await self._is_set(space, page.checkpoint.fingerprint):
                run.unlike.discard(space)
            else:
                run.doubts[space] = page.checkpoint.fingerprint
        await self._keep_doubts(run)

    async def _keep_doubts(self, run: Run) -> None:
        now = {DOUBT_MARKS + space.hex(): fingerprint for space, fingerprint in run.doubts.items()}
        if now != self._kept:
            await self._store.set_marks({**dict.fromkeys(self._kept), **now})
            self._kept = now

    async def _is_set(self, space: bytes, fingerprint: bytes, coming: Iterable[Entry] = ()) -> bool:
        """Whether our set and what is `coming`, with or without what is left to send of it, is that one."""
        records = await self._agent.replica.records(space)
        records = records.with_added(Record(entry.timestamp_ms, entry.id) for entry in coming)
        if fingerprint_of(records) == fingerprint:
            return True
        left = (await left_by_space(self._agent)).get(space)
        if not left:
            return False
        return fingerprint_of(records, without=left) == fingerprint

    async def is_another_store(self, generation: bytes) -> bool:
        """Whether the server's store is not the one that our cursors speak of; the first one is simply noted."""
        if await self._store.mark(GENERATION_MARK) is None and not await read_cursors(self._store):
            await self._store.set_marks({GENERATION_MARK: generation})
            return False
        return True

    async def note_store(self, answer: SyncAnswer, *, is_another: bool) -> None:
        """Which store it is that has answered, before anything else of what it says is noted."""
        generation = answer.generation or await self._store.mark(GENERATION_MARK)
        if generation is not None:
            await self._agent.note_store(generation, answer.time_ms, is_another=is_another)

    async def reconcile_if_needed(self, run: Run, answer: SyncAnswer, *, all_spaces: bool) -> None:
        """Reconcile what is stale, doubtful, closed, or unknown to the server; all spaces when its store is another."""
        spaces = list(await self._agent.spaces())
        news = await unsettled(self._store)
        here = await self._store.spaces() if news else {}
        news = {space: value for space, value in news.items() if space in here}
        due = set(spaces) if all_spaces else await self._strange_spaces(run, answer, spaces)
        doubted = await unproven(self._agent.replica, news, answer.pages)
        if run.sharing is not None:
            later = {space for space in doubted if not run.sharing.is_mine(Wanted(space, news[space]))}
            news = {space: value for space, value in news.items() if space not in later}
            doubted -= later
        due |= doubted
        settled = news.keys() - doubted
        marks: dict[str, bytes | None] = {}
        if answer.generation is not None:
            marks[GENERATION_MARK] = answer.generation
        if all_spaces:
            marks[HEALTH_MARK] = None
            # what lets this device into the others again may be on its way: they are compared when they are back
            held = await self._store.spaces()
            marks |= news_marks(sorted(held.keys() - set(spaces)), self._agent.entropy)
        for space in spaces:
            if space in due and space not in run.reconciled:
                run.reconciled.add(space)
                done = await self._reconcile(run, space)
                if done is not None and done.is_whole:
                    marks.update(cursor_marks(done.checkpoint))
                    settled.add(space)
        if due or all_spaces:
            # Together and at the end: an interruption leaves the old cursors, which are stale again.
            await self._store.set_marks(marks)
        await settle(self._store, {space: news[space] for space in settled if space in news})
        await self._keep_doubts(run)
        self._asking.closed -= set(spaces) - set(answer.closed) - due

    async def _strange_spaces(self, run: Run, answer: SyncAnswer, spaces: Sequence[bytes]) -> set[bytes]:
        paged = {page.checkpoint.space for page in answer.pages} - run.differing
        due = set(answer.closed) - self._asking.closed
        for space, fingerprint in list(run.doubts.items()):
            if space in paged:
                run.again = True
                continue
            del run.doubts[space]
            if not await self._is_set(space, fingerprint):
                due.add(space)
        cursors = await read_cursors(self._store)
        for space in spaces:
            known = space in cursors or space in self._asking.closed
            if not known and (await self._store.position(space)).count:
                due.add(space)
        return due

    async def _reconcile(self, run: Run, space: bytes) -> Reconciled | None:
        try:
            done = await self._reconciling.reconcile(space)
        except Refused as refusal:
            if refusal.code is not Code.CANNOT_READ:
                raise
            if await self._rights.bring([space]):
                return await self._reconcile(run, space)
            _log.info("the server does not let this device read %s", space.hex())
            self._asking.closed.add(space)
            return None
        self._asking.closed.discard(space)
        if done.is_whole:
            self._compared_ms[space] = self._agent.now_ms()
        if not await self._is_set(space, done.checkpoint.fingerprint):
            run.unlike.add(space)
        run.received += done.received
        run.again = True
        self._asking.parked.moved = True
        return done


def _leads_nowhere(checkpoint: Checkpoint, known: Mapping[bytes, Position]) -> bool:
    """Whether a page ends where its space was known to stand."""
    there = known.get(checkpoint.space)
    return there is not None and (checkpoint.count, checkpoint.chain) == (there.count, there.chain)
