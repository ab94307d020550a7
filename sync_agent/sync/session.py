"""A sync: this agent and the server come to agree, content included (R12, R16; docs/protocol.md, "Sync").

Rules:
- one request and one answer when nothing, or little, is new; more only while they bring something forward: a sync ends;
- entries before content, parents before children, and what follows from entries before content too, however the sync
  ends (docs/adr/0595); what an answer brings is durable, with its cursor, before the next;
- the server's word is what its sealed answers say: what it took leaves the outbox, what it lacks goes back into it;
  what a store took that our cursors do not fit leaves it once sets were compared (ADR 0231);
- content and sets that differ are rooms of their own (`content`, `repair`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final

from protocol.errors import Code, LocalFailure, NoAnswer, PeerFault, Refused, RelaisError
from protocol.messages.calls import SyncAnswer
from protocol.messages.parts import SpacePage
from protocol.reconcile.checkpoint import Checkpoint
from protocol.replica.at_work.replica import Heard
from protocol.replica.left_due import LeftDue
from sync_agent.app import Agent
from sync_agent.coursework.deflating import note_server_levels
from sync_agent.hand_ins.copies import note_forgotten
from sync_agent.health import LastSync, note_taken
from sync_agent.machine.marks import CHALLENGE_MARK, DISK_FULL_MARK, PROVEN_MARKS
from sync_agent.machine.refusals import passes
from sync_agent.machine.sync_result import SyncResult
from sync_agent.network.trouble import seen_in
from sync_agent.pacing.budget import Hold
from sync_agent.pacing.spending import held_back
from sync_agent.school.device_names import note_called
from sync_agent.sync.above_first import hear_what_lies_above
from sync_agent.sync.after_news import tend_after_news
from sync_agent.sync.asking import Asked, Asking
from sync_agent.sync.carried_reports import sent_marks
from sync_agent.sync.closed_spaces import bring_from_closed
from sync_agent.sync.content import SyncContent
from sync_agent.sync.cursors import cursor_marks, read_cursors, without_cursor
from sync_agent.sync.heads import take_heads
from sync_agent.sync.hearing_alone import HearingAlone
from sync_agent.sync.line_of_rights import LineOfRights
from sync_agent.sync.payloads import Payloads
from sync_agent.sync.peer_news import forget_unknown
from sync_agent.sync.reconciling import Reconciling, Taking
from sync_agent.sync.repair import SyncRepair
from sync_agent.sync.run import Run
from sync_agent.sync.sharing import Sharing
from sync_agent.sync.want_of_room import is_for_want_of_room, no_room_there
from sync_agent.sync.withdrawn import as_meant, take_withdrawals, take_withdrawals_with
from sync_agent.transport.interface import Transport
from sync_agent.transport.sealed_calls import SealedCalls, hold_to_servers
from sync_agent.transport.spoken_elsewhere import note_elsewhere

MAX_REQUESTS: Final = 10_000
NOTED_EVERY_MS: Final = 60_000
MAX_ROUNDS_ALONE: Final = 16
MAX_CLOSED_HERE: Final = 64
"""Of more spaces that are closed to this device alone it is not remembered how far the server led in them."""

_log = logging.getLogger(__name__)


class Session:
    """Syncs of one agent with its server, one at a time. Made once; what it remembers between syncs saves requests."""

    def __init__(self, agent: Agent, transport: Transport, meanwhile: Callable[[], object] | None = None) -> None:
        """`meanwhile` begins what can be done while the first question is on its way."""
        self.agent = agent
        self._meanwhile = meanwhile
        self.transport = transport
        hold_to_servers(transport, agent.replica)
        self._store = agent.replica.store
        self._content = agent.replica.content
        self._calls = SealedCalls(agent, transport)
        self._asking = Asking(agent)
        self._payloads = Payloads(agent, self._calls)
        self._budget = agent.budget
        self._moving = SyncContent(agent, transport, self._asking)
        self._rights = LineOfRights(agent, self._calls)
        self._repair = SyncRepair(agent, self._calls, self._asking, self._rights)
        self._hearing_alone = HearingAlone(agent)
        self._one_at_a_time = asyncio.Lock()
        self._tended: Heard | None = None
        self._closed_here: dict[bytes, Checkpoint] = {}
        self._began = False
        self._told = False
        self._whole = False
        self._disk_full_noted = agent.is_disk_full
        self._noted: LastSync | None = None
        self._noted_ms = 0
        self.sharing: Sharing | None = None
        """What is left to other devices of the school; set where there may be any."""
        self.on_live: Callable[[str], None] | None = None
        """Told the capability to listen for news, when `ask_for_live` has asked for it."""

    async def sync(self, *, routine: bool = False) -> SyncResult:
        """Send and fetch until nothing remains, content included.

        A `routine` one keeps to the budget, says no more than that this device is paused while it is, and when it is
        quiet is noted in the store once a minute only. Raises `NoAnswer`, `Refused`, `PeerFault`, `LocalFailure`
        (PAUSED unless `routine`): what was done before stays done, and the next sync goes on from there.
        """
        async with self._one_at_a_time:
            if self._budget.is_paused and not routine:
                raise held_back(Hold.PAUSED)
            before = self.transport.traffic.copy()
            run = Run(routine=routine, told=self._told, sharing=self.sharing)
            run.said.whole, self._whole = self._whole, False
            try:
                if self._budget.is_paused:
                    return await self._say_paused()
                self._told = False
                await self._run(run)
                await self._moving.settle_unwanted(run)
                await self._note_room()
                if self.agent.is_disk_full and not routine:
                    run.note(LocalFailure(Code.DISK_FULL, "the disk is too full for the content that is missing here"))
                if run.failure is not None:
                    raise run.failure
            except RelaisError as error:
                self._told = self._told or run.told
                await self._look_all_the_same(run)
                await self._note_failure(run, error)
                if (meant := await as_meant(self.agent, error)) is not None:
                    raise meant from error
                raise
            finally:
                await self._budget.note()
                if run.brought:
                    # Neighbours that wait for this content hear that it is here.
                    self.agent.replica.on_news(frozenset(run.brought), (await self._calls.server()).key)
            await self._note_success(run, spare_disk=routine)
            traffic = self.transport.traffic.since(before)
            return SyncResult(
                run.received, run.sent, traffic.bytes_in, traffic.bytes_out, traffic.round_trips, bool(run.brought)
            )

    async def _note_room(self) -> None:
        """Let the next process know whether the disk is too full, if it can still be written."""
        if self._disk_full_noted != self.agent.is_disk_full:
            with contextlib.suppress(LocalFailure):
                await self._store.set_marks({DISK_FULL_MARK: b"\x01" if self.agent.is_disk_full else None})
                self._disk_full_noted = self.agent.is_disk_full

    def hear_news(self) -> None:
        """The server says that something has come there: the next sync asks for all that is missing here."""
        self._told = True

    def take_all_news(self) -> None:
        """The next sync takes every entry from the server itself: a neighbour would bring it too late."""
        self._whole = True

    def ask_for_live(self) -> None:
        """Let the next sync ask for the capability to listen for news."""
        self._asking.wants_live = True

    # --- the course of a sync -----------------------------------------------------------------------------------------

    async def _say_paused(self) -> SyncResult:
        """Let the server know once; what its answer brings is passed over, and asked for again afterwards."""
        before = self.transport.traffic.copy()
        asked = await self._asking.only_health(Code.PAUSED)
        if asked is None:
            return SyncResult()
        await self._calls.sync(asked.request)
        if asked.health is not None:
            await note_taken(self._store, asked.health, asked.noted)
        traffic = self.transport.traffic.since(before)
        return SyncResult(0, 0, traffic.bytes_in, traffic.bytes_out, traffic.round_trips)

    async def _compose(self, run: Run) -> Asked:
        """The next request; while content is held back it asks for hand-ins only, and offers no others."""
        held = run.routine and self._budget.verdict.hold is not None
        if held and not run.said.held:
            run.links.clear()
        run.said.held = held
        run.said.patient = run.routine and not run.told
        self._budget.exempt = held or not run.routine
        return await self._asking.compose(run.said, run.sharing)

    async def _run(self, run: Run) -> None:
        """All that is said, from the first question on: whichever of them is refused, what it lacks is brought once."""
        while True:
            try:
                return await self._say_all(run)
            except Refused as refusal:
                if refusal.code is not Code.REVOKED or not await self._show_rights(refusal):
                    raise
            except (LocalFailure, NoAnswer) as failure:
                if is_for_want_of_room(failure):
                    alone = Reconciling(self.agent, self._calls, Taking())
                    await self._hearing_alone.hear(alone, list(await self.agent.spaces()))
                raise

    async def _say_all(self, run: Run) -> None:
        left = LeftDue()
        if not self._began:
            with left.where_there_is_room():
                await forget_unknown(self._store)
            self._asking.challenge = await self._store.mark(CHALLENGE_MARK)
            with left.where_there_is_room():
                await hear_what_lies_above(self.agent, self._calls)
            self._began = True
        with left.where_there_is_room():
            run.received += await self._payloads.ask()
        await bring_from_closed(self.agent, self._calls)
        with left.where_there_is_room():
            await self._repair.ask_again()
        run.note(left.failure)
        await self._repair.recall_doubts(run)
        mine = await self.agent.spaces()
        run.said.returning = {space: there for space, there in self._closed_here.items() if space not in mine}
        run.recalled = set(run.said.returning)
        asked = await self._compose(run)
        for _ in range(MAX_REQUESTS):
            run.again = False
            meanwhile, self._meanwhile = self._meanwhile, None
            if meanwhile is not None:
                meanwhile()
            answer = await self._calls.sync(asked.request)
            if answer.unlike:
                run.said.by_name = True
                asked = await self._compose(run)
                continue
            run.answered_ms = answer.time_ms
            if answer.live is not None and self.on_live is not None:
                self._asking.wants_live = False
                self.on_live(answer.live)
            said = await self._hear(run, asked, answer)
            more = run.again or said or asked.has_news or answer.pages or answer.lacks
            if self._budget.is_paused or not (more or _is_to_be_told(run)):
                return
            asked = await self._compose(run)
            if more and (run.again or asked.has_news):
                continue
            if not _is_to_be_told(run):
                return
            run.is_anew = False
        raise PeerFault(Code.MALFORMED, "the server always has more to say; the sync was ended")

    async def _show_rights(self, refusal: Refused) -> bool:
        """Whether a server that refuses everything lacked something that shows the opposite, and was brought it."""
        await take_withdrawals_with(self.agent, refusal, (await self._calls.server()).key)
        return await self._rights.bring(await self.agent.spaces())

    async def _hear(self, run: Run, asked: Asked, answer: SyncAnswer) -> bool:
        """Everything that an answer asks for. Whether there was something to say because of it.

        What follows from news waits for no content: a line that is cut in each long transfer keeps nobody from meeting
        whom they have heard (docs/adr/0595). Content may have more follow.
        """
        answer = await self._take(run, asked, answer)
        self._remember_closed(run)
        if run.said.fetching:
            return False
        said = await self._keep_readers(run)
        await self._moving.work_off(run)
        await self._moving.answer_lacks(run, asked, answer)
        if run.brought:
            said = await self._keep_readers(run) or said
        return said

    async def _take(self, run: Run, asked: Asked, answer: SyncAnswer) -> SyncAnswer:
        """What an answer brings and says of entries, and what of content came inside; what is left of it to be done."""
        run.heard_out = False
        another = answer.generation is not None and await self._repair.is_another_store(answer.generation)
        await self._repair.note_store(answer, is_another=another or bool(answer.stale))
        await self._note_answer(run, asked, answer)
        if answer.withdrawn:
            await take_withdrawals(self.agent, answer.withdrawn, (await self._calls.server()).key)
        if another or answer.stale:
            self._moving.forget_offers()
        for space in (*answer.stale, *answer.closed):
            run.said.returning.pop(space, None)
        run.is_anew = run.is_anew or another
        answer = await self._repair.take_differing(run, answer)
        left: set[bytes] = set()
        if asked.request.brief:
            answer, left, due = await take_heads(self.agent, run.sharing, answer)
            if due:
                run.said.whole = run.again = True
        await self._take_pages(run, answer)
        answer = await self._without_ended(run, answer)
        await note_called(self.agent, answer.called)
        await self._mark_taken(run, asked, answer)
        if owed := await self._payloads.owed(answer, await self.agent.spaces()):
            await self._store.mark_unsent([entry.id for entry in owed])
            run.again = True
        await self._moving.take_packs(run, answer)
        await self._moving.take_links(run, asked, answer)
        await self._repair.compare(run, answer.pages)
        run.said.fetching = run.again and _has_more(answer)
        run.heard_out = not run.said.fetching
        if run.said.fetching:
            return answer
        if another:
            await bring_from_closed(self.agent, self._calls)
        await self._repair.reconcile_if_needed(run, answer, all_spaces=another or bool(answer.stale))
        await self._note_proven(run, answer, left)
        return answer

    async def _without_ended(self, run: Run, answer: SyncAnswer) -> SyncAnswer:
        """Without pages of spaces that are closed to this device: who sends them lacks the revocation, and gets it."""
        mine = await self.agent.spaces()
        ended = {page.checkpoint.space for page in answer.pages} - mine.keys()
        if not ended:
            return answer
        known = filter(self.agent.replica.door.knows_space, ended)
        lacking = set(await self.agent.replica.revocations_against(self.agent.device, known)) - run.withdrawn
        run.withdrawn |= lacking
        await self._store.mark_unsent(lacking)
        run.again = run.again or bool(lacking)
        return replace(answer, pages=tuple(page for page in answer.pages if page.checkpoint.space in mine))

    def _remember_closed(self, run: Run) -> None:
        """How far the server's pages led in spaces that are closed to this device alone: the next sync goes on there.

        A server may refuse what closed them for long, and would send all of them with each answer.
        """
        known = filter(self.agent.replica.door.knows_space, run.said.returning)
        self._closed_here = {space: run.said.returning[space] for space in islice(known, MAX_CLOSED_HERE)}

    async def _keep_readers(self, run: Run) -> bool:
        """After news: reading keys and wraps that have become due travel in this very sync. Whether there were any.

        News are also what neighbours and disks have brought since, of which the server may have nothing new to say, and
        what lay here as a header alone and is whole now.
        What is due at each look, whoever brings that about, keeps no sync from ending.
        """
        said = 0
        if run.received != run.received_before:
            run.received_before, run.rounds_alone = run.received, 0
        if run.rounds_alone == MAX_ROUNDS_ALONE:
            _log.warning("there is something to say at each look here; what is left waits for the next sync")
            return False
        heard = await self.agent.replica.heard()
        if (run.received or run.sent or heard != self._tended) and not run.said.fetching:
            said = await tend_after_news(self.agent)
            self._tended = heard  # not before: what found no room is due with the next sync, whatever comes
        run.rounds_alone += said > 0
        return said > 0

    async def _look_all_the_same(self, run: Run) -> None:
        """However a sync ends, what it has heard is looked at: whoever cuts each one would else decide when that is.

        Not what a server was in the middle of saying: what takes back the first of it may come with the last.
        """
        try:
            if run.heard_out:
                await self._keep_readers(run)
        except LocalFailure as failure:
            _log.info("what has come cannot be looked at before the next sync: %s", failure)

    # --- entries ------------------------------------------------------------------------------------------------------

    async def _take_pages(self, run: Run, answer: SyncAnswer) -> None:
        if not answer.pages:
            return
        server = await self._calls.server()
        cursors = await read_cursors(self._store)
        mine = await self.agent.spaces()
        shown = run.led | {space: there.count for space, there in run.said.returning.items()}
        marks: dict[str, bytes | None] = {}
        for page in answer.pages:
            space = page.checkpoint.space
            if space in mine:
                marks |= cursor_marks(page.checkpoint)
                continue
            # What lets it in again may be on a later page. It had asked for none: pages begin at the first entry.
            if space not in run.said.returning and cursors.pop(space, None) is not None:
                marks |= without_cursor(space)
            run.said.returning[space] = page.checkpoint
            run.recalled.discard(space)
        marks |= await self._repair.doubts_in([page for page in answer.pages if page.checkpoint.space in mine])
        # in one transaction: a school's relay gets a hundred pages, and each would wait for the disk
        came = [entry for page in answer.pages for entry in page.entries]
        admission = await self.agent.replica.admit(came, source=server.key, now_ms=self.agent.now_ms(), marks=marks)
        run.received += len(admission.admitted)
        await self._note_returned(run, answer.pages)
        await note_forgotten(self.agent, admission.admitted, self.agent.device)
        # What had waited here may have come by another way, so that the server does not hold it.
        await self._store.mark_unsent(entry.id for entry in admission.released)
        run.said.complete -= {entry.header.space for entry in admission.admitted}
        shown |= {space: there.count for space, there in cursors.items()}
        has_more = _has_more(answer)
        for page in answer.pages:
            if _leads_on(shown, page):
                run.again = run.again or has_more
                run.led[page.checkpoint.space] = page.checkpoint.count
        if admission.refused or any(page.refused for page in answer.pages):
            _log.warning("the server sent entries that the door refuses")
        await self._arrived(entry.id for entry in came)

    async def _note_returned(self, run: Run, pages: Sequence[SpacePage]) -> None:
        """How far the server's pages have led in what is open to this device by now: not in what it only names."""
        mine = await self.agent.spaces() if run.said.returning else {}
        marks: dict[str, bytes | None] = {}
        # this very question told nothing of what was closed as it was asked
        run.again = run.again or bool((run.said.returning.keys() | run.recalled) & mine.keys())
        for space in run.recalled & mine.keys():
            # the store may have lost some of it since an earlier sync was told: it is compared as a whole
            run.said.returning.pop(space, None)
        back = run.said.returning.keys() & mine.keys()
        marks |= await self._repair.doubts_in([page for page in pages if page.checkpoint.space in back])
        for space in back:
            marks |= cursor_marks(run.said.returning.pop(space))
        if marks:
            await self._store.set_marks(marks)

    async def _arrived(self, ids: Iterable[bytes]) -> None:
        """What the server has sent, it holds: it need not be sent to it."""
        waiting, _ = await self._store.unsent_totals()
        if waiting:
            listed = list(ids)
            await self._store.mark_sent(listed)
            self._asking.parked.drop(listed)

    async def _mark_taken(self, run: Run, asked: Asked, answer: SyncAnswer) -> None:
        """Packs that went inside leave the outbox; so do pushed entries, unless they wait or no cursor covers them."""
        run.note(no_room_there(answer.refused))
        codes = {refusal.id: refusal.code for refusal in answer.refused}
        carried = [pack.hash for pack in asked.carried if pack.space not in answer.closed and pack.hash not in codes]
        if carried:
            await self._content.mark_packs(carried, unsent=False)
        push = asked.request.push
        if not push:
            return
        passing = {entry.id for entry in push if entry.id in codes and passes(entry, codes[entry.id])}
        waiting = passing.union(answer.waiting)
        codes = {name: code for name, code in codes.items() if name not in waiting}
        refused = [entry.id for entry in push if entry.id in codes]
        # before all was compared the store may be gone, and these cursors fit the next; what is closed here never is
        uncompared = (set(answer.stale) & (await self.agent.spaces()).keys()) - run.reconciled
        left = waiting | {entry.id for entry in push if entry.header.space in uncompared}
        taken = [entry.id for entry in push if entry.id not in codes and entry.id not in left]
        if refused:
            _log.warning("the server refused %d entries of this device", len(refused))
            await self._repair.note_refusals({lost: codes[lost] for lost in refused})
        await self._store.mark_sent([*taken, *refused])
        parked = self._asking.parked
        parked.drop([*taken, *refused])
        parked.add((entry for entry in push if entry.id in waiting), self.agent.now_ms())
        parked.moved = bool(taken)
        run.sent += len(taken)

    # --- notes --------------------------------------------------------------------------------------------------------

    async def _note_answer(self, run: Run, asked: Asked, answer: SyncAnswer) -> None:
        """What was said has been heard; the time that the answer proves."""
        run.said.requests += 1
        run.said.packs.update(asked.packs)
        run.said.wishes.update((wish.space, wish.stream) for wish in asked.request.want)
        if asked.health is not None:
            await note_taken(self._store, asked.health, asked.noted)
        await self._store.set_marks(sent_marks(asked.reports))
        await note_server_levels(self._store, answer.levels)
        self._asking.challenge = answer.challenge or self._asking.challenge
        self._asking.skew_ms = self.agent.now_ms() - answer.time_ms
        proven_ms = self.agent.replica.proven_ms
        if proven_ms is None or abs(answer.time_ms - proven_ms) >= NOTED_EVERY_MS:
            await self.agent.replica.prove_time(answer.time_ms)
        await self.agent.note_backup(answer.backup_ms, answer.time_ms)
        if answer.elsewhere:
            await note_elsewhere(self._store, (await self._calls.server()).key)

    async def _note_proven(self, run: Run, answer: SyncAnswer, left: Iterable[bytes]) -> None:
        """The spaces of which this answer proves that all the server holds is here."""
        missing = await self.agent.replica.bare.missing()
        doubtful = {*answer.stale, *answer.closed, *run.doubts, *run.unlike, *left, *missing}
        run.proven = {space for space in await read_cursors(self._store) if space not in doubtful}

    async def _note_success(self, run: Run, *, spare_disk: bool) -> None:
        self._asking.trouble = None
        await self.agent.keep_copies()
        last = LastSync(run.answered_ms, reachable=True, skew_ms=self._asking.skew_ms)
        now_ms = self.agent.now_ms()
        recent = self._noted is not None and self._noted.reachable and self._noted.seen is None
        recent = recent and 0 <= now_ms - self._noted_ms < NOTED_EVERY_MS
        if spare_disk and recent and not (run.received or run.sent):
            return
        proven = run.answered_ms.to_bytes(8, "big")
        marks = {
            **last.marks(),
            CHALLENGE_MARK: self._asking.challenge,
            **{PROVEN_MARKS + space.hex(): proven for space in run.proven},
        }
        await self._store.set_marks(marks)
        self._noted, self._noted_ms = last, now_ms

    async def _note_failure(self, run: Run, error: RelaisError) -> None:
        """Keep when the server last answered; say whether it did now."""
        if is_for_want_of_room(error):
            self._asking.parked.moved = True  # somebody may have made room by the next sync
        if not isinstance(error, NoAnswer):
            self._asking.trouble = error.code
        if error.code is Code.REVOKED:
            await take_withdrawals_with(self.agent, error, (await self._calls.server()).key)
        if isinstance(error, LocalFailure) and not run.answered_ms:
            return
        # what answers in its place is not the server
        reachable = error.code not in (Code.UNREACHABLE, Code.WRONG_TERRITORY)
        before = self._noted or await LastSync.read(self._store)
        last = LastSync(before.at_ms if before else None, reachable, before.skew_ms if before else 0, seen_in(error))
        if last == self._noted:
            return
        try:
            await self._store.set_marks(last.marks())
        except LocalFailure:
            if not isinstance(error, LocalFailure):
                raise
            return  # this disk is what the error is about
        self._noted, self._noted_ms = last, 0  # the next success is news, however soon


def _leads_on(shown: Mapping[bytes, int], page: SpacePage) -> bool:
    """Whether a page leads further than where this device has come; `shown` says where that was, by space."""
    return shown.get(page.checkpoint.space, 0) < page.checkpoint.count


def _is_to_be_told(run: Run) -> bool:
    """Whether one question more is due: a store that was made anew hears at once that this was all (docs/adr/0340)."""
    return run.is_anew


def _has_more(answer: SyncAnswer) -> bool:
    return answer.more or any(page.more for page in answer.pages)
