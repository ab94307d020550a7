"""An exchange with one other device: entries both ways, then the content that either lacks (R3, R12).

Rules:
- the spaces in common only, territory before school before class; each is reconciled by ranges once per connection,
  after that cursors and this device's own order of arrival tell what is new: one request when nothing is; where not all
  could be compared there is no cursor, and the next exchange goes on with that;
- what a peer brings goes through the ordinary door, and is noted for the server, which may lack it;
- content goes both ways beside them (`peer_content`); others hear of an entry and of what is small of it at once;
- whoever lacks what rights hang on is brought it (`line_of_rights`), or asks for it (`in_doubt`).

docs/protocol.md, "Neighbours".
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

from blake3 import blake3

from protocol.errors import Code, LocalFailure, NoAnswer, PeerFault, Refused
from protocol.limits import CURSOR_HASH_BYTES, MAX_PUSHED_BYTES
from protocol.messages.calls import SyncAnswer, SyncRequest
from protocol.messages.likeness import Told
from protocol.messages.parts import InlinePack, Offer, Wanted
from protocol.model.entry import Entry
from protocol.replica.at_work.bare_entries import page_of
from protocol.replica.interfaces import PackInfo, Position
from protocol.rights.door import Authority
from protocol.roles import KEEPS_REPORTS
from sync_agent.app import Agent
from sync_agent.coursework.deflating import own_levels
from sync_agent.hand_ins.copies import Copies, note_forgotten
from sync_agent.health import REPORT_AGE_MS, LastSync, own_report
from sync_agent.lan.exchange.meeting import check_certificate, closed_spaces, common_spaces
from sync_agent.lan.exchange.peer_calls import PeerCalls
from sync_agent.lan.exchange.peer_content import PeerContent
from sync_agent.lan.exchange.progress import Exchange
from sync_agent.lan.exchange.standing import Standing, standing_for
from sync_agent.lan.exchange.to_peer import FromPeer, ToPeer
from sync_agent.machine.sync_result import SyncResult
from sync_agent.sync.cursors import check_named, shown_cursors
from sync_agent.sync.hearing_alone import HearingAlone
from sync_agent.sync.in_doubt import spaces_in_doubt, spaces_to_hear_of
from sync_agent.sync.line_of_rights import LACKS_RIGHTS, LineOfRights
from sync_agent.sync.payloads import Payloads
from sync_agent.sync.peer_news import news_of
from sync_agent.sync.reconciling import Reconciling
from sync_agent.sync.want_of_room import is_for_want_of_room, no_room_there
from sync_agent.sync.withdrawn import lets_in, take_withdrawals, take_withdrawals_with
from sync_agent.transport.interface import Transport

MAX_REQUESTS: Final = 2_000
_NOWHERE: Final = Position(1, bytes(CURSOR_HASH_BYTES))
"""A cursor that fits no store: no pages come of its space."""
_MANY_LACKS: Final = 200
"""Whoever lacks so much may not have named all of it."""


class PeerSession:
    """Exchanges with one device over one connection, one at a time. What it remembers is lost with the connection."""

    def __init__(self, agent: Agent, transport: Transport, device: Authority, copies: Copies | None = None) -> None:
        """With the device at the other end; `copies` says what is entrusted to it."""
        self.agent = agent
        self.device = device
        self.transport = transport
        self.live: str | None = None
        """The capability to listen for news, once an exchange has brought it."""
        self.wants_live = False
        self.moves = False
        """Whether content is moving, either way."""
        self.leaves_some = False
        """Whether the last exchange left content to another neighbour that is sending it."""
        self.name: str | None = None
        """What people call the device, once it has said so."""
        self._calls = PeerCalls(agent, transport, device)
        self._copies = copies or Copies(agent, lambda: {device.key})
        self._content = PeerContent(agent, transport, device.key, self._copies)
        self._giving = ToPeer(agent, device.key)
        self._payloads = Payloads(agent, self._calls)
        self._reconciling = Reconciling(agent, self._calls, self._giving)
        self._rights = LineOfRights(agent, self._calls, device.key)
        self._generation: bytes | None = None
        self._cursors: dict[bytes, Position] = {}
        self._known: dict[bytes, int] = {}
        self._lacking: frozenset[Wanted] | None = None
        self._reported_ms: int | None = None
        self._hearing_alone = HearingAlone(agent)
        self._turn = asyncio.Lock()

    async def exchange(self) -> SyncResult:
        """Bring both sides to agree in the spaces in common, content included.

        Raises `NoAnswer`, `Refused` (no longer a member, or nothing in common), `PeerFault`, `LocalFailure`.
        """
        async with self._turn:
            before = self.transport.traffic.copy()
            done = Exchange()
            try:
                await self._run_with_rights(done)
            except Refused as refusal:
                await take_withdrawals_with(self.agent, refusal, self.device.key)
                raise
            except (LocalFailure, NoAnswer) as failure:
                if is_for_want_of_room(failure):
                    alone = Reconciling(self.agent, self._calls, FromPeer(self.agent))
                    await self._hearing_alone.hear(alone, await common_spaces(self.agent, self.device.key))
                raise
            finally:
                self.leaves_some = done.leaves_some
                self._tell(done)
            if done.failure is not None:
                raise done.failure
            traffic = self.transport.traffic.since(before)
            return SyncResult(done.received, done.sent, traffic.bytes_in, traffic.bytes_out, traffic.round_trips)

    async def is_like(self, told: Told | None) -> bool:
        """Whether the device stands where this one does, by what it told: each has all that the other one has."""
        own = None if told is None else await self.standing()
        if told is None or own is None or not own.is_like(told):
            return False
        self._lacking = own.lacking
        for space, there in own.places_of(told).items():
            if space in self._cursors:
                self._cursors[space] = there
                self._known[space] = max(self._known.get(space, 0), own.places[space].count)
        return True

    async def standing(self) -> Standing | None:
        """Where this device stands for the other one (`standing_for`)."""
        return await standing_for(self.agent, self.device.key, self._copies.entrusted)

    def holds(self, space: bytes, arrived: int, stream: bytes) -> bool:
        """Whether the device holds content that the entry names which arrived here as number `arrived` of a space."""
        if self._lacking is None or space not in self._cursors:
            return False
        return self._known.get(space, 0) >= arrived and Wanted(space, stream) not in self._lacking

    # --- the course of an exchange ------------------------------------------------------------------------------------

    async def _run_with_rights(self, done: Exchange) -> None:
        """Once more, where the other one lacked what shows that it may go on, and was brought it."""
        try:
            await self._run(done)
        except Refused as refusal:
            if refusal.code not in LACKS_RIGHTS:
                raise
            await take_withdrawals_with(self.agent, refusal, self.device.key)
            common = await common_spaces(self.agent, self.device.key)
            if not await self._rights.bring(common):
                raise
            await self._run(done)

    async def _run(self, done: Exchange) -> None:
        closed = {*await closed_spaces(self.agent), *await spaces_to_hear_of(self.agent, self.device.key)}
        if closed and not await common_spaces(self.agent, self.device.key):
            await self._ask_back(done, closed)
        if self._generation is None:
            # The answer names the store, and what lies in it comes by ranges.
            replica = self.agent.replica
            unknown = dict.fromkeys((replica.territory, *await self._common()), _NOWHERE)
            cursors = shown_cursors(list(unknown), unknown, (), replica.door.spaces())
            opening = SyncRequest(cursors=cursors, live=self.wants_live, name=self.agent.enrolment.device_name)
            answer = await self._calls.sync(opening)
            self.name = answer.name
            await self._take(done, answer)
        await self._reconcile_strange(done)
        done.received += await self._payloads.ask()
        composed = await self._compose(done)
        for _ in range(MAX_REQUESTS):
            request, sending, packs = composed
            answer = await self._calls.sync(replace(request, registers=await self._reports()))
            self._note_sent(done, request, sending, answer)
            self._lacking = frozenset(answer.lacks) if len(answer.lacks) < _MANY_LACKS else None
            for entry in request.push:
                done.owed.pop(entry.id, None)
            await self._take(done, answer)
            if (no_room := no_room_there(answer.refused)) is not None:
                raise no_room
            common = await self._common()
            self.moves = True
            try:
                uploaded = await self._content.work_off(done, answer, packs)
                await self._content.find_lacking(done, answer.lacks, common)
                await self._content.find_entrusted(done, common)
            finally:
                self.moves = False
            is_strange = await self._reconcile_strange(done)
            composed = await self._compose(done)
            # what the peer lacks after entries and packs of a request, its answer has said; after an upload it has not
            if not (uploaded or is_strange or answer.more or _asks(composed[0])):
                return
        raise PeerFault(Code.MALFORMED, "a device always has more to say; the exchange was ended")

    async def _ask_back(self, done: Exchange, closed: Collection[bytes]) -> None:
        """Nothing is open between both any more: take the pages of what the other one knows as open again.

        What lets it in may be on any of them: a grant, or a revocation of who had cut it off. Raises `Refused` while
        the other one knows of none either.
        """
        generation: bytes | None = None
        cursors: dict[bytes, Position] = {}
        for _ in range(MAX_REQUESTS):
            check_named(cursors)
            shown = shown_cursors(list(cursors), cursors, ())
            answer = await self._calls.sync(SyncRequest(generation=generation, cursors=shown))
            generation = answer.generation or generation
            for page in answer.pages:
                space = page.checkpoint.space
                cursors[space] = Position(page.checkpoint.count, page.checkpoint.chain)
                if space in closed or space == self.agent.replica.territory:
                    await self._take_page(done, space, page.entries)
            if not answer.more or await common_spaces(self.agent, self.device.key):
                return

    async def _common(self) -> list[bytes]:
        common = await common_spaces(self.agent, self.device.key)
        if not common:
            raise Refused(Code.REVOKED, "that device is no longer part of this system")
        await check_certificate(self.agent.replica, self.device)
        return common

    async def _reconcile_strange(self, done: Exchange) -> bool:
        """Reconcile the spaces in common whose state at the peer is not known; whether there were any."""
        found = False
        for space in await self._common():
            if space in self._cursors or space in done.unlike:
                continue
            found = True
            before = (await self.agent.replica.position(space)).count
            result = await self._reconciling.reconcile(space)
            after = (await self.agent.replica.position(space)).count
            # what has come between two parts of a comparison is news, whichever of both it lies in
            if self._known.get(space, before) == before:
                self._known[space] = after if after - before == result.received else before
            if result.is_whole:
                self._cursors[space] = Position(result.checkpoint.count, result.checkpoint.chain)
            else:
                done.unlike.add(space)
            done.received += result.received
            done.sent += result.unsent
        return found

    # --- asking -------------------------------------------------------------------------------------------------------

    async def _compose(self, done: Exchange) -> tuple[SyncRequest, dict[bytes, int], dict[bytes, PackInfo]]:
        """The next request, how far its entries lead in each space, and the packs that it speaks of."""
        spaces = await self._common()
        strange = {space: there for space, there in done.strange.items() if space not in spaces}
        check_named(strange)
        learned = self.agent.replica.door.spaces()
        push, sending = await self._news(spaces)
        await self._content.find_named(done, push, spaces)
        inline, offers = self._content.packs(done)
        content = self.agent.replica.content
        known = {**dict.fromkeys(done.unlike, _NOWHERE), **self._cursors, **strange}
        request = SyncRequest(
            generation=self._generation,
            cursors=shown_cursors([*spaces, *strange], known, (), learned),
            push=(*push, *page_of(done.owed.values())),
            packs=tuple([InlinePack(pack.space, await content.read_pack(pack.hash, 0, pack.size)) for pack in inline]),
            offers=tuple(Offer(pack.space, pack.hash, pack.size) for pack in offers),
            want=tuple(await self._content.wanted(done, spaces)),
            live=self.wants_live and self.live is None,
            levels=await own_levels(self.agent),
        )
        return request, sending, {pack.hash: pack for pack in (*inline, *offers)}

    async def _reports(self) -> tuple[bytes, ...]:
        """This device's health, for one that passes it on, while the server is out of reach; seldom (R10)."""
        now_ms = self.agent.now_ms()
        if self._reported_ms is not None and 0 <= now_ms - self._reported_ms < REPORT_AGE_MS:
            return ()
        theirs = await self.agent.replica.authorities(self.device.key)
        if all(grant.role not in KEEPS_REPORTS for grant in theirs):
            return ()
        last = await LastSync.read(self.agent.replica.store)
        if last is not None and last.reachable:
            return ()
        self._reported_ms = now_ms
        return ((await own_report(self.agent)).data,)

    async def _news(self, spaces: Sequence[bytes]) -> tuple[list[Entry], dict[bytes, int]]:
        """Entries that the peer is not known to hold, in order of arrival, and where they lead."""
        room = MAX_PUSHED_BYTES
        push: list[Entry] = []
        sending: dict[bytes, int] = {}
        for space in spaces:
            known = self._known.get(space, 0)
            if room <= 0 or (await self.agent.replica.position(space)).count <= known:
                continue
            page = await self.agent.replica.store.page(space, known, room)
            push += [stored.entry for stored in page]
            room -= sum(stored.entry.wire_bytes for stored in page)
            sending[space] = page[-1].arrival
        return push, sending

    # --- taking -------------------------------------------------------------------------------------------------------

    def _note_sent(
        self, done: Exchange, request: SyncRequest, sending: Mapping[bytes, int], answer: SyncAnswer
    ) -> None:
        if no_room_there(answer.refused) is None:
            self._known.update(sending)
        refused = {*answer.waiting, *(refusal.id for refusal in answer.refused)}
        done.sent += sum(entry.id not in refused for entry in request.push)
        done.wishes.update((wish.space, wish.stream) for wish in request.want)
        done.offered.update(blake3(pack.data).digest() for pack in request.packs)
        done.offered.update(offer.pack for offer in request.offers)

    async def _take(self, done: Exchange, answer: SyncAnswer) -> None:
        """Entries and small packs of an answer; who listens here hears of both at once."""
        done.owed |= {entry.id: entry for entry in await self._payloads.owed(answer, await self._common())}
        if answer.live is not None:
            self.live = answer.live
        if answer.generation is not None:
            self._generation = answer.generation
            self._cursors.clear()
        for space in answer.stale:
            self._cursors.pop(space, None)
        await take_withdrawals(self.agent, answer.withdrawn, self.device.key)
        for page in answer.pages:
            space = page.checkpoint.space
            if space not in await self.agent.spaces():
                if await self._take_strange(done, space, page.entries):
                    done.strange[space] = Position(page.checkpoint.count, page.checkpoint.chain)
                continue
            await self._take_page(done, space, page.entries)
            # of what is closed to the other one, which has not heard of that, it hears all the same how far it is
            self._cursors[space] = done.strange[space] = Position(page.checkpoint.count, page.checkpoint.chain)
        await self._content.take(done, answer.packs)
        self._tell(done)

    def _tell(self, done: Exchange) -> None:
        grown, done.grown = frozenset(done.grown), set()
        if grown:
            self.agent.replica.on_news(grown, self.device.key)

    async def _take_strange(self, done: Exchange, space: bytes, entries: Sequence[Entry]) -> bool:
        """Take in a page of a class that the other one knows to be open to this device; whether to go on to the next.

        It is reconciled once it is known here. A grant that will never pass is not asked for without end.
        """
        if space in await spaces_in_doubt(self.agent):
            await self._take_page(done, space, entries)
            return True
        return await self._take_own_grants(space, entries) or not done.may_wait(space)

    async def _take_own_grants(self, space: bytes, entries: Sequence[Entry]) -> bool:
        """Take what lets this device into a space, and nothing else of it; whether none of it has to come again.

        What proves the right of who wrote it may still be on its way.
        """
        mine = [entry for entry in entries if entry.header.space == space and lets_in(entry, self.agent.device)]
        if mine:
            now_ms, news = self.agent.now_ms(), news_of(self.agent.entropy)
            await self.agent.replica.admit(
                mine, source=self.device.key, now_ms=now_ms, news=news, hold=False, bounded=True
            )
        return len(await self.agent.replica.store.present([entry.id for entry in mine])) == len(mine)

    async def _take_page(self, done: Exchange, space: bytes, entries: Sequence[Entry]) -> None:
        entries = [entry for entry in entries if entry.header.space == space]
        if not entries:
            return
        replica = self.agent.replica
        before = (await replica.position(space)).count
        admission = await replica.admit(
            entries,
            source=self.device.key,
            now_ms=self.agent.now_ms(),
            news=news_of(self.agent.entropy),
            bounded=True,
            tells=False,
        )
        done.grown.update(entry.header.space for entry in admission.let_in)
        done.received += len(admission.admitted)
        await note_forgotten(self.agent, admission.admitted, self.agent.device)
        after = (await replica.position(space)).count
        if self._known.get(space, 0) == before and after - before == len(admission.admitted):
            self._known[space] = after


def _asks(request: SyncRequest) -> bool:
    """Whether a request brings or wants anything."""
    return bool(request.push or request.packs or request.offers or request.want)
