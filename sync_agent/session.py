"""A sync: this agent and the server come to agree, content included (R12, R16; docs/protocol.md, "Sync").

Rules:
- one request and one answer when nothing, or little, is new; more only while they bring something forward: a sync ends;
- entries before content, parents before children; what an answer brings is durable, with its cursor, before the next;
- the server's word is what its sealed answers say: what it took leaves the outbox, what it lacks goes back into it;
- where cursors no longer serve (a restored image, a server made anew), spaces are reconciled by ranges;
- a set that differs from the server's although cursors say otherwise is noticed by its fingerprint, looked at once
  more, then reconciled.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from blake3 import blake3

from protocol.delta import is_delta
from protocol.errors import BadInput, Code, LocalFailure, NoAnswer, PeerFault, Refused, RelaisError
from protocol.limits import MAX_PUSHED_BYTES
from protocol.message_parts import InlinePack, Link, SpacePage, Upload, Wanted
from protocol.messages import SyncAnswer
from protocol.reconcile import fingerprint_of
from protocol.replica.holdings import Need
from protocol.replica.interfaces import PackInfo
from protocol.sorted_records import SortedRecords
from sync_agent.app import (
    DISK_FULL_MARK,
    GENERATION_MARK,
    HEALTH_MARK,
    NO_STRONG_MARK,
    PROVEN_MARKS,
    REFUSED_MARKS,
    Agent,
)
from sync_agent.asking import Asked, Asking, Said
from sync_agent.budget import Hold
from sync_agent.carried_reports import sent_marks
from sync_agent.copies import note_forgotten
from sync_agent.cursors import cursor_marks, read_cursors
from sync_agent.deflating import note_server_levels
from sync_agent.heads import take_heads
from sync_agent.health import LastSync
from sync_agent.network.trouble import seen_in
from sync_agent.partial_content import partly_held
from sync_agent.payloads import Payloads
from sync_agent.peer_news import settle, unproven, unsettled
from sync_agent.reading_key import tend_reading_keys
from sync_agent.reconciling import Reconciled, Reconciling
from sync_agent.room import Room
from sync_agent.sealed_calls import SealedCalls
from sync_agent.sharing import Sharing
from sync_agent.sign_in import tend_sign_in
from sync_agent.space_keys import tend_space_keys
from sync_agent.spending import held_back
from sync_agent.sync_result import SyncResult
from sync_agent.transfer import Moved, Transfer
from sync_agent.transport import Transport
from sync_agent.withdrawn import take_withdrawals, take_withdrawals_with
from sync_agent.wraps import tend_hand_ins

MAX_REQUESTS: Final = 10_000
NOTED_EVERY_MS: Final = 60_000
LACK_AGAIN_MS: Final = 60 * 60_000
BAD_PACK_MS: Final = 10 * 60_000

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Run:
    """What one sync has done so far, and what it still has to do."""

    routine: bool = False
    told: bool = False
    said: Said = field(default_factory=Said)
    received: int = 0
    sent: int = 0
    again: bool = False
    links: list[Link] = field(default_factory=list)
    early: list[InlinePack] = field(default_factory=list)
    uploads: list[tuple[Upload, PackInfo]] = field(default_factory=list)
    renewed: bool = False
    reconciled: set[bytes] = field(default_factory=set)
    doubts: dict[bytes, bytes] = field(default_factory=dict)
    lacks_answered: set[tuple[bytes, bytes]] = field(default_factory=set)
    proven: set[bytes] = field(default_factory=set)
    answered_ms: int = 0
    brought: set[bytes] = field(default_factory=set)
    rest_of: set[tuple[bytes, bytes]] = field(default_factory=set)
    rest_settled: bool = False
    withdrawn: set[bytes] = field(default_factory=set)
    failure: RelaisError | None = None

    def note(self, failure: RelaisError | None) -> None:
        """Remember what went wrong first; the sync goes on with what it can still do."""
        self.failure = self.failure or failure


class Session:
    """Syncs of one agent with its server, one at a time. Made once; what it remembers between syncs saves requests."""

    def __init__(self, agent: Agent, transport: Transport) -> None:
        self.agent = agent
        self.transport = transport
        transport.hold_to(agent.replica.territory.__eq__)
        self._store = agent.replica.store
        self._content = agent.replica.content
        self._calls = SealedCalls(agent, transport)
        self._asking = Asking(agent)
        self._payloads = Payloads(agent, self._calls)
        self._budget = agent.budget
        self._room = Room(agent)
        self._transfer = Transfer(self._content, transport, agent.progress, agent.fetching)
        self._reconciling = Reconciling(agent, self._calls)
        self._one_at_a_time = asyncio.Lock()
        self._readers_kept = False
        self._told = False
        self._disk_full_noted = agent.is_disk_full
        self._noted: LastSync | None = None
        self._noted_ms = 0
        self._answered_lacks: dict[tuple[bytes, bytes], tuple[frozenset[bytes], int]] = {}
        self._bad_packs: dict[bytes, int] = {}
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
            run, self._told = _Run(routine=routine, told=self._told), False
            try:
                if self._budget.is_paused:
                    return await self._say_paused()
                await self._run(run)
                await self._note_room()
                if self.agent.is_disk_full and not routine:
                    run.note(LocalFailure(Code.DISK_FULL, "the disk is too full for the content that is missing here"))
                if run.failure is not None:
                    raise run.failure
            except RelaisError as error:
                await self._note_failure(error)
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
            await self._store.set_marks({HEALTH_MARK: asked.health.encode()})
        traffic = self.transport.traffic.since(before)
        return SyncResult(0, 0, traffic.bytes_in, traffic.bytes_out, traffic.round_trips)

    async def _compose(self, run: _Run) -> Asked:
        """The next request; while content is held back it asks for hand-ins only, and offers no others."""
        held = run.routine and self._budget.verdict.hold is not None
        if held and not run.said.held:
            run.links.clear()
        run.said.held = held
        run.said.patient = run.routine and not run.told
        self._budget.exempt = held or not run.routine
        return await self._asking.compose(run.said, self.sharing)

    async def _run(self, run: _Run) -> None:
        run.received += await self._payloads.ask()
        asked = await self._compose(run)
        for _ in range(MAX_REQUESTS):
            run.again = False
            answer = await self._calls.sync(asked.request)
            if answer.unlike:
                run.said.by_name = True
                asked = await self._compose(run)
                continue
            run.answered_ms = answer.time_ms
            if answer.live is not None and self.on_live is not None:
                self._asking.wants_live = False
                self.on_live(answer.live)
            await self._apply(run, asked, answer)
            said = await self._keep_readers(run)
            if self._budget.is_paused or not (run.again or said or asked.has_news or answer.pages or answer.lacks):
                return
            asked = await self._compose(run)
            if not (run.again or asked.has_news):
                return
        raise PeerFault(Code.MALFORMED, "the server always has more to say; the sync was ended")

    async def _apply(self, run: _Run, asked: Asked, answer: SyncAnswer) -> None:
        """Everything that an answer asks for."""
        await self._note_answer(run, asked, answer)
        if answer.withdrawn:
            await take_withdrawals(self.agent, answer.withdrawn, (await self._calls.server()).key)
        another = answer.generation is not None and await self._is_another_store(answer.generation)
        left: set[bytes] = set()
        if asked.request.brief:
            answer, left, due = await take_heads(self.agent, self.sharing, answer)
            if due:
                run.said.whole = run.again = True
        await self._take_pages(run, answer)
        answer = await self._without_ended(run, answer)
        await self._mark_taken(run, asked, answer)
        if owed := await self._payloads.owed(answer):
            await self._store.mark_unsent([entry.id for entry in owed])
            run.again = True
        await self._take_packs(run, answer)
        now_ms = self.agent.now_ms()
        if answer.pages and (run.said.held or not await self._room.takes(sum(link.size for link in answer.links))):
            # its links are for news; what was wished for, and finds room, is asked for again
            run.said.wishes.difference_update((wish.space, wish.stream) for wish in asked.request.want)
        else:
            links = [
                link for link in answer.links if self._is_worth_fetching(link, now_ms) and self._is_mine(link, asked)
            ]
            run.links += await self._say_what_is_held(run, asked, links)
        offered = asked.packs
        run.uploads += [(upload, offered[upload.pack]) for upload in answer.uploads if upload.pack in offered]
        for page in answer.pages:
            await self._compare(run, page)
        run.said.fetching = run.again and _has_more(answer)
        if run.said.fetching:
            return
        await self._reconcile_if_needed(run, answer, all_spaces=another or bool(answer.stale))
        await self._note_proven(run, answer, left)
        await self._work_off(run)
        await self._answer_lacks(run, asked, answer)

    async def _without_ended(self, run: _Run, answer: SyncAnswer) -> SyncAnswer:
        """Without pages of spaces that are closed to this device: who sends them lacks the revocation, and gets it."""
        mine = await self.agent.spaces()
        ended = {page.checkpoint.space for page in answer.pages} - mine.keys()
        if not ended:
            return answer
        lacking = set(await self.agent.replica.revocations_against(self.agent.device, ended)) - run.withdrawn
        run.withdrawn |= lacking
        await self._store.mark_unsent(lacking)
        run.again = run.again or bool(lacking)
        return replace(answer, pages=tuple(page for page in answer.pages if page.checkpoint.space in mine))

    async def _say_what_is_held(self, run: _Run, asked: Asked, links: list[Link]) -> list[Link]:
        """The links to follow: not those of spaces of whose content a part is here, once that has not been said yet."""
        if asked.request.held:
            # what these links do not bring is asked for as packs
            run.said.held_of = {}
            run.rest_of |= {(wish.space, wish.stream) for wish in asked.request.want}
            return links
        if run.rest_of or not asked.request.want or asked.request.thin:
            return links
        run.said.held_of = await partly_held(self.agent, asked.request.want, links)
        if run.said.held_of:
            spaces = run.said.held_of.keys()
            run.said.wishes = {wish for wish in run.said.wishes if wish[0] not in spaces}
            run.again = True
        return [link for link in links if link.space not in run.said.held_of]

    async def _ask_for_the_rest(self, run: _Run) -> None:
        """What a batch did not bring, since two pieces of content may have one name, is asked for once as packs."""
        if run.rest_of and not run.rest_settled:
            run.rest_settled = True
            left = run.rest_of & {(need.space, need.stream) for need in await self.agent.missing()}
            run.said.wishes -= left
            run.again = run.again or bool(left)

    def _is_mine(self, link: Link, asked: Asked) -> bool:
        """Whether this device is to fetch content: what it wished for, and news whose content it does not leave."""
        if self.sharing is None or any(wish.space == link.space for wish in asked.request.want):
            return True
        return self.sharing.is_mine(Wanted(link.space, link.pack), content=True)

    async def _keep_readers(self, run: _Run) -> bool:
        """After news: reading keys and wraps that have become due travel in this very sync. Whether there were any."""
        said = 0
        if (run.received or run.sent or not self._readers_kept) and not run.said.fetching:
            self._readers_kept = True
            try:
                said += await tend_reading_keys(self.agent)
                said += await tend_hand_ins(self.agent)
                said += await tend_space_keys(self.agent)
                said += await tend_sign_in(self.agent)
            except (BadInput, Refused) as lost:
                _log.info("this device has lost a right: %s", lost)
        return said > 0

    # --- entries ------------------------------------------------------------------------------------------------------

    async def _take_pages(self, run: _Run, answer: SyncAnswer) -> None:
        if not answer.pages:
            return
        server = await self._calls.server()
        cursors = await read_cursors(self._store)
        for page in answer.pages:
            space = page.checkpoint.space
            admission = await self.agent.replica.admit(
                page.entries, source=server.key, now_ms=self.agent.now_ms(), marks=cursor_marks(page.checkpoint)
            )
            run.received += len(admission.admitted)
            await note_forgotten(self.agent, admission.admitted, self.agent.device)
            # What had waited here may have come by another way, so that the server does not hold it.
            await self._store.mark_unsent(entry.id for entry in admission.released)
            known = cursors.get(space)
            if known is None or known.count < page.checkpoint.count:
                run.again = run.again or _has_more(answer)
            if admission.admitted:
                run.said.complete.discard(space)
            if admission.refused or page.refused:
                _log.warning("the server sent entries of %s that the door refuses", space.hex())
        await self._arrived(entry.id for page in answer.pages for entry in page.entries)

    async def _arrived(self, ids: Iterable[bytes]) -> None:
        """What the server has sent, it holds: it need not be sent to it."""
        waiting, _ = await self._store.unsent_totals()
        if waiting:
            listed = list(ids)
            await self._store.mark_sent(listed)
            self._asking.parked.drop(listed)

    async def _mark_taken(self, run: _Run, asked: Asked, answer: SyncAnswer) -> None:
        """Packs that went inside leave the outbox, and so do pushed entries unless they wait."""
        carried = [pack.hash for pack in asked.carried if pack.space not in answer.closed]
        if carried:
            await self._content.mark_packs(carried, unsent=False)
        push = asked.request.push
        if not push:
            return
        # A quarantine that is full says that the grant is missing: that is no refusal for good.
        waiting = {*answer.waiting, *(refusal.id for refusal in answer.refused if refusal.code is Code.MISSING_GRANT)}
        codes = {refusal.id: refusal.code for refusal in answer.refused if refusal.id not in waiting}
        refused = [entry.id for entry in push if entry.id in codes]
        taken = [entry.id for entry in push if entry.id not in codes and entry.id not in waiting]
        if refused:
            _log.warning("the server refused %d entries of this device for good", len(refused))
            await self._store.set_marks({f"{REFUSED_MARKS}{lost.hex()}": codes[lost].encode() for lost in refused})
        await self._store.mark_sent([*taken, *refused])
        parked = self._asking.parked
        parked.drop([*taken, *refused])
        parked.add((entry for entry in push if entry.id in waiting), self.agent.now_ms())
        parked.moved = bool(taken)
        run.sent += len(taken)

    async def _compare(self, run: _Run, page: SpacePage) -> None:
        """Note a space whose set differs from the server's although nothing of it is on its way any more."""
        space = page.checkpoint.space
        run.doubts.pop(space, None)
        if not page.more and not await self._agrees(space, page.checkpoint.fingerprint):
            run.doubts[space] = page.checkpoint.fingerprint

    async def _agrees(self, space: bytes, fingerprint: bytes) -> bool:
        """Whether our set, without what the server refuses, is that one; it is while something of it is unsent."""
        if await self.agent.replica.fingerprint(space) == fingerprint:
            return True
        waiting, _ = await self._store.unsent_totals()
        if waiting:
            outbox = await self._store.unsent(MAX_PUSHED_BYTES)
            if len(outbox) < waiting or any(entry.header.space == space for entry in outbox):
                return True
        refused = {bytes.fromhex(mark.removeprefix(REFUSED_MARKS)) for mark in await self._store.marks(REFUSED_MARKS)}
        if not refused:
            return False
        kept = [record for record in await self.agent.replica.records(space) if record.id not in refused]
        return fingerprint_of(SortedRecords(kept)) == fingerprint

    # --- reconciliation -----------------------------------------------------------------------------------------------

    async def _is_another_store(self, generation: bytes) -> bool:
        """Whether the server's store is not the one that our cursors speak of; the first one is simply noted."""
        if await self._store.mark(GENERATION_MARK) is None and not await read_cursors(self._store):
            await self._store.set_marks({GENERATION_MARK: generation})
            return False
        return True

    async def _reconcile_if_needed(self, run: _Run, answer: SyncAnswer, *, all_spaces: bool) -> None:
        """Reconcile what is stale, doubtful, closed, or unknown to the server; all spaces when its store is another."""
        spaces = list(await self.agent.spaces())
        news = await unsettled(self._store)
        due = set(spaces) if all_spaces else await self._strange_spaces(run, answer, spaces)
        doubted = await unproven(self.agent.replica, news, answer.pages)
        if self.sharing is not None:
            later = {space for space in doubted if not self.sharing.is_mine(Wanted(space, news[space]))}
            news = {space: value for space, value in news.items() if space not in later}
            doubted -= later
        due |= doubted
        settled = news.keys() - doubted
        marks: dict[str, bytes | None] = {}
        if answer.generation is not None:
            marks[GENERATION_MARK] = answer.generation
        if all_spaces:
            marks[HEALTH_MARK] = None
        for space in spaces:
            if space in due and space not in run.reconciled:
                run.reconciled.add(space)
                done = await self._reconcile(run, space)
                if done is not None:
                    marks.update(cursor_marks(done.checkpoint))
                    settled.add(space)
        if due or all_spaces:
            # Together and at the end: an interruption leaves the old cursors, which are stale again.
            await self._store.set_marks(marks)
        await settle(self._store, {space: news[space] for space in settled if space in news})
        self._asking.closed -= set(spaces) - set(answer.closed) - due

    async def _strange_spaces(self, run: _Run, answer: SyncAnswer, spaces: Sequence[bytes]) -> set[bytes]:
        paged = {page.checkpoint.space for page in answer.pages}
        due = set(answer.closed) - self._asking.closed
        for space, fingerprint in list(run.doubts.items()):
            if space in paged:
                run.again = True
                continue
            del run.doubts[space]
            if not await self._agrees(space, fingerprint):
                due.add(space)
        cursors = await read_cursors(self._store)
        for space in spaces:
            known = space in cursors or space in self._asking.closed
            if not known and (await self._store.position(space)).count:
                due.add(space)
        return due

    async def _reconcile(self, run: _Run, space: bytes) -> Reconciled | None:
        try:
            done = await self._reconciling.reconcile(space)
        except Refused as refusal:
            if refusal.code is not Code.CANNOT_READ:
                raise
            _log.info("the server does not let this device read %s", space.hex())
            self._asking.closed.add(space)
            return None
        self._asking.closed.discard(space)
        run.received += done.received
        run.again = True
        self._asking.parked.moved = True
        return done

    # --- content ------------------------------------------------------------------------------------------------------

    async def _take_packs(self, run: _Run, answer: SyncAnswer) -> None:
        for pack in answer.packs:
            try:
                if await self._content.pack(blake3(pack.data).digest(), pack.space) is None:
                    await self._content.ingest(pack.space, pack.data)
                    run.brought.add(pack.space)
            except (PeerFault, LocalFailure) as failure:
                if isinstance(failure, PeerFault) and is_delta(pack.data):
                    run.early.append(pack)
                else:
                    run.note(failure)

    async def _take_late(self, run: _Run) -> None:
        """Deltas that came in an answer before what they are made of, which its links have brought now."""
        early, run.early = run.early, []
        for pack in early:
            try:
                await self._content.ingest(pack.space, pack.data)
                run.brought.add(pack.space)
            except PeerFault as fault:
                # What it would have brought is missing still, and is wished for with the next request.
                _log.warning("a delta is of no use here: %s", fault)
            except LocalFailure as failure:
                run.note(failure)

    def _is_worth_fetching(self, link: Link, now_ms: int) -> bool:
        """Not, for a while, what twice came with the wrong bytes."""
        return not 0 <= now_ms - self._bad_packs.get(link.pack, -BAD_PACK_MS) < BAD_PACK_MS

    async def _work_off(self, run: _Run) -> None:
        """Send and fetch what answers have named; hand-ins leave before coursework comes."""
        uploads, run.uploads = run.uploads, []
        links, run.links = run.links, []
        held = {pack.hash for upload, pack in uploads if upload.offset == pack.size and not upload.capability}
        if held:
            await self._content.mark_packs(held, unsent=False)
        sent = await self._transfer.send([(upload, pack) for upload, pack in uploads if pack.hash not in held])
        self._conclude(run, sent)
        fetched = await self._fetch(links)
        if fetched.packs:
            run.brought.update(link.space for link in links)
        await self._take_late(run)
        self._bad_packs.update(dict.fromkeys(fetched.bad, self.agent.now_ms()))
        self._conclude(run, fetched)
        if sent.expired or fetched.expired:
            # Ask for new links, once without progress, as long as there is some with it.
            progress = bool(sent.packs or fetched.packs)
            if progress or not run.renewed:
                run.said.packs.difference_update(pack.hash for _, pack in uploads)
                run.said.wishes.clear()
            run.renewed = not progress
        await self._ask_for_less(run, fetched)
        await self._ask_for_the_rest(run)

    async def _fetch(self, links: Sequence[Link]) -> Moved:
        """What is this device's to fetch, and what only some may read in any case."""
        if self.sharing is None:
            return await self._transfer.fetch(links, leave_if_thin=not self._asking.thin)
        sealed = {need.space for need in await self.agent.missing() if need.sealed}
        async with self.sharing.fetching(links, of_all=sealed) as mine:
            return await self._transfer.fetch(mine, leave_if_thin=not self._asking.thin)

    async def _ask_for_less(self, run: _Run, fetched: Moved) -> None:
        """On a line that turned out to be thin, strong containers are asked for; what they do not bring, as packs."""
        if fetched.thin and not self._asking.thin:
            self._asking.thin = True
            run.said.wishes.clear()
            run.again = True
        elif run.said.strong_wishes and not run.said.strong_settled:
            run.said.strong_settled = True
            left = {(need.space, need.stream) for need in await self.agent.missing()}
            run.said.wishes &= run.said.wishes - left
            run.again = run.again or bool(left)
            settled = fetched.packs and not (fetched.failure or fetched.expired or fetched.stopped)
            if left & run.said.strong_wishes and settled:
                await self._store.set_marks({NO_STRONG_MARK: b"\x01"})

    def _conclude(self, run: _Run, moved: Moved) -> None:
        run.again = run.again or bool(moved.packs)
        if isinstance(moved.failure, NoAnswer) and moved.failure.code in (Code.UNREACHABLE, Code.BUSY):
            raise moved.failure
        if not (isinstance(moved.failure, LocalFailure) and moved.failure.code is Code.PAUSED):
            run.note(moved.failure)

    async def _answer_lacks(self, run: _Run, asked: Asked, answer: SyncAnswer) -> None:
        """What the server lacks and is here goes to it with the next request."""
        now_ms = self.agent.now_ms()
        for lack in answer.lacks:
            packs = {pack.hash: pack for pack in await self._content_of(lack)}
            if packs and self.sharing is not None and not self.sharing.is_mine(lack):
                continue
            run.said.wishes.add((lack.space, lack.stream))
            key = (lack.space, lack.stream)
            if not packs or key in run.lacks_answered or not packs.keys().isdisjoint(asked.packs):
                continue
            before, at_ms = self._answered_lacks.get(key, (frozenset(), 0))
            if before == packs.keys() and 0 <= now_ms - at_ms < LACK_AGAIN_MS:
                continue
            run.lacks_answered.add(key)
            self._answered_lacks[key] = (frozenset(packs), now_ms)
            await self._content.mark_packs(packs, unsent=True)
            run.said.due.update(packs)
            run.said.packs.difference_update(packs)
        if not answer.lacks:
            self._answered_lacks.clear()

    async def _content_of(self, lack: Wanted) -> list[PackInfo]:
        """The packs that are here of a stream that the server lacks."""
        works = (await self.agent.replica.view(lack.space)).coursework.hand_ins.values()
        sealed = any(work.record.content.stream == lack.stream for work in works)
        return await self.agent.holdings.packs(Need(lack.space, lack.stream, sealed=sealed))

    # --- notes --------------------------------------------------------------------------------------------------------

    async def _note_answer(self, run: _Run, asked: Asked, answer: SyncAnswer) -> None:
        """What was said has been heard; the time that the answer proves."""
        run.said.requests += 1
        run.said.packs.update(asked.packs)
        run.said.wishes.update((wish.space, wish.stream) for wish in asked.request.want)
        if asked.health is not None:
            await self._store.set_marks({HEALTH_MARK: asked.health.encode()})
        await self._store.set_marks(sent_marks(asked.reports))
        await note_server_levels(self._store, answer.levels)
        self._asking.skew_ms = self.agent.now_ms() - answer.time_ms
        proven_ms = self.agent.replica.proven_ms
        if proven_ms is None or abs(answer.time_ms - proven_ms) >= NOTED_EVERY_MS:
            await self.agent.replica.prove_time(answer.time_ms)
        await self.agent.note_backup(answer.backup_ms)

    async def _note_proven(self, run: _Run, answer: SyncAnswer, left: Iterable[bytes]) -> None:
        """The spaces of which this answer proves that all the server holds is here."""
        doubtful = {*answer.stale, *answer.closed, *run.doubts, *left}
        run.proven = {space for space in await read_cursors(self._store) if space not in doubtful}

    async def _note_success(self, run: _Run, *, spare_disk: bool) -> None:
        self._asking.trouble = None
        await self.agent.keep_copies()
        last = LastSync(run.answered_ms, reachable=True, skew_ms=self._asking.skew_ms)
        now_ms = self.agent.now_ms()
        recent = self._noted is not None and self._noted.reachable and self._noted.seen is None
        recent = recent and 0 <= now_ms - self._noted_ms < NOTED_EVERY_MS
        if spare_disk and recent and not (run.received or run.sent):
            return
        proven = run.answered_ms.to_bytes(8, "big")
        marks = {**last.marks(), **{PROVEN_MARKS + space.hex(): proven for space in run.proven}}
        await self._store.set_marks(marks)
        self._noted, self._noted_ms = last, now_ms

    async def _note_failure(self, error: RelaisError) -> None:
        """Keep when the server last answered; say whether it did now."""
        if not isinstance(error, NoAnswer):
            self._asking.trouble = error.code
        if error.code is Code.REVOKED:
            await take_withdrawals_with(self.agent, error, (await self._calls.server()).key)
        if isinstance(error, LocalFailure):
            return
        # what answers in its place is not the server
        reachable = error.code not in (Code.UNREACHABLE, Code.WRONG_TERRITORY)
        before = self._noted or await LastSync.read(self._store)
        last = LastSync(before.at_ms if before else None, reachable, before.skew_ms if before else 0, seen_in(error))
        if last != self._noted:
            await self._store.set_marks(last.marks())
            self._noted, self._noted_ms = last, self.agent.now_ms()


def _has_more(answer: SyncAnswer) -> bool:
    return answer.more or any(page.more for page in answer.pages)
