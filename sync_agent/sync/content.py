"""The content of a sync: what its answers bring, name and ask for (R12, R16, R18; docs/protocol.md, "Sync", "Content").

Rules:
- hand-ins leave before coursework comes;
- what is left to other devices of the school is theirs to fetch, but not what only some may read; what a neighbour is
  bringing is not fetched beside it;
- where a part of a space's content is here, what is held is said once, and a batch made for it is fetched;
- on a line that turns out to be thin strong containers are asked for; what they do not bring, as packs;
- what the server lacks and is here goes to it; the same offer is not made twice in an hour, but to a store that is
  another one by now, or an older one; what it lacked before a delta went up is not what it lacks after;
- a pack that came with the wrong bytes twice is left alone for a while;
- while a server has more to say, so much of what it names is noted and no more: the rest is asked for after that.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from blake3 import blake3

from protocol.errors import Code, LocalFailure, NoAnswer, PeerFault
from protocol.limits import MiB
from protocol.messages.calls import SyncAnswer
from protocol.messages.parts import Link, Upload, Wanted
from protocol.replica.answering.outgoing import NamedStreams
from protocol.replica.content.holdings import Need
from protocol.replica.interfaces import PackInfo
from protocol.transfer.delta import is_delta
from sync_agent.app import Agent
from sync_agent.machine.fetching import Left
from sync_agent.machine.marks import NO_STRONG_MARK
from sync_agent.sync.asking import Asked, Asking
from sync_agent.sync.partial_content import partly_held
from sync_agent.sync.run import Run
from sync_agent.sync.transfer import Moved, Transfer
from sync_agent.transport.interface import Transport

MAX_NOTED_LINKS: Final = 20_000
MAX_EARLY_BYTES: Final = 16 * MiB
LACK_AGAIN_MS: Final = 60 * 60_000
BAD_PACK_MS: Final = 10 * 60_000
LOOK_AGAIN_S: Final = 10.0
"""After so long it is seen to whether content has come that a neighbour was bringing."""

_log = logging.getLogger(__name__)


class SyncContent:
    """Content that moves in the syncs of one agent; what it remembers between them saves requests."""

    def __init__(self, agent: Agent, transport: Transport, asking: Asking) -> None:
        self._agent = agent
        self._asking = asking
        self._store = agent.replica.store
        self._content = agent.replica.content
        self._room = asking.room
        self._transfer = Transfer(self._content, transport, agent.progress, agent.fetching, room=self._room)
        self._left = Left(agent.sending)
        self._answered_lacks: dict[tuple[bytes, bytes], tuple[frozenset[bytes], int]] = {}
        self._bad_packs: dict[bytes, int] = {}

    async def take_packs(self, run: Run, answer: SyncAnswer) -> None:
        """Keep the small packs that came inside the answer."""
        for pack in answer.packs:
            try:
                if await self._content.pack(blake3(pack.data).digest(), pack.space) is None:
                    await self._content.ingest(pack.space, pack.data)
                    run.brought.add(pack.space)
            except (PeerFault, LocalFailure) as failure:
                if isinstance(failure, PeerFault) and is_delta(pack.data):
                    if not _is_laden(run):
                        run.early.append(pack)
                        run.early_bytes += len(pack.data)
                else:
                    run.note(failure)
        if answer.packs:
            await self._room.whole(sum(len(pack.data) for pack in answer.packs))

    async def take_links(self, run: Run, asked: Asked, answer: SyncAnswer) -> None:
        """Note what is to be fetched and sent, as far as it finds room here and is this device's to fetch."""
        now_ms = self._agent.now_ms()
        laden = run.said.held or _is_laden(run)
        if answer.pages and (laden or not await self._room.takes(sum(link.size for link in answer.links))):
            # its links are for news; what was wished for, and finds room, is asked for again
            run.said.wishes.difference_update((wish.space, wish.stream) for wish in asked.request.want)
        else:
            links = [
                link
                for link in answer.links
                if self._is_worth_fetching(link, now_ms) and self._is_mine(run, link, asked)
            ]
            run.links += await self._say_what_is_held(run, asked, links)
        offered = asked.packs
        run.uploads += [(upload, offered[upload.pack]) for upload in answer.uploads if upload.pack in offered]

    async def _say_what_is_held(self, run: Run, asked: Asked, links: list[Link]) -> list[Link]:
        """The links to follow: not those of spaces of whose content a part is here, once that has not been said yet."""
        if asked.request.held:
            # what these links do not bring is asked for as packs
            run.said.held_of = {}
            run.rest_of |= {(wish.space, wish.stream) for wish in asked.request.want}
            return links
        if run.rest_of or not asked.request.want or asked.request.thin:
            return links
        run.said.held_of = await partly_held(self._agent, asked.request.want, links)
        if run.said.held_of:
            spaces = run.said.held_of.keys()
            run.said.wishes = {wish for wish in run.said.wishes if wish[0] not in spaces}
            run.again = True
        return [link for link in links if link.space not in run.said.held_of]

    def _is_mine(self, run: Run, link: Link, asked: Asked) -> bool:
        """Whether this device is to fetch content: what it wished for, and news whose content it does not leave."""
        if run.sharing is None or any(wish.space == link.space for wish in asked.request.want):
            return True
        return run.sharing.is_mine(Wanted(link.space, link.pack), content=True)

    def _is_worth_fetching(self, link: Link, now_ms: int) -> bool:
        """Not, for a while, what twice came with the wrong bytes."""
        return not 0 <= now_ms - self._bad_packs.get(link.pack, -BAD_PACK_MS) < BAD_PACK_MS

    async def work_off(self, run: Run) -> None:
        """Send and fetch what answers have named; hand-ins leave before coursework comes."""
        uploads, run.uploads = run.uploads, []
        links, run.links = run.links, []
        held = {pack.hash for upload, pack in uploads if upload.offset == pack.size and not upload.capability}
        if held:
            await self._content.mark_packs(held, unsent=False)
        sent = await self._send(run, [(upload, pack) for upload, pack in uploads if pack.hash not in held])
        if isinstance(fault := sent.failure, PeerFault) and fault.code is Code.OVER_QUOTA:
            # what names it may be on its way: the next answers tell
            run.unwanted.update(dict.fromkeys(sent.bad, fault))
            sent.failure = None
        self._conclude(run, sent)
        fetched = await self._fetch(run, links)
        if fetched.packs:
            run.brought.update(link.space for link in links)
        await self._take_late(run)
        self._bad_packs.update(dict.fromkeys(fetched.bad, self._agent.now_ms()))
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

    async def _send(self, run: Run, uploads: Sequence[tuple[Upload, PackInfo]]) -> Moved:
        """What others may have left to this device is seen by them to go."""
        if run.sharing is None:
            return await self._transfer.send(uploads)
        size = sum(pack.size - upload.offset for upload, pack in uploads)
        async with run.sharing.sending(size, lambda: self._agent.progress.moved_bytes):
            return await self._transfer.send(uploads)

    async def _fetch(self, run: Run, links: Sequence[Link]) -> Moved:
        """What is this device's to fetch, and what only some may read in any case."""
        sharing = run.sharing
        if sharing is None:
            return await self._transfer.fetch(links, leave_if_thin=not self._asking.thin)
        sealed = {need.space for need in await self._agent.missing() if need.sealed}
        async with sharing.fetching(links, of_all=sealed) as named:
            mine = [link for link in named if not await self._left.takes(link.pack, self._agent.now_ms())]
            if len(mine) < len(named):
                sharing.look_again(LOOK_AGAIN_S)
            fetched = await self._transfer.fetch(
                mine, leave_if_thin=not self._asking.thin, leaves=lambda: sharing.gives_up
            )
            if sharing.gives_up:
                # who has it now is asked for it, and whether the line goes on is seen
                run.said.wishes.clear()
                run.again = True
            return fetched

    async def _take_late(self, run: Run) -> None:
        """Deltas that came in an answer before what they are made of, which its links have brought now."""
        early, run.early, run.early_bytes = run.early, [], 0
        for pack in early:
            try:
                await self._content.ingest(pack.space, pack.data)
                run.brought.add(pack.space)
            except PeerFault as fault:
                # What it would have brought is missing still, and is wished for with the next request.
                _log.warning("a delta is of no use here: %s", fault)
            except LocalFailure as failure:
                run.note(failure)

    async def settle_unwanted(self, run: Run) -> None:
        """What the server refused because nothing there named it is no failure if it has taken it since."""
        if run.unwanted:
            unsent = {pack.hash for pack in await self._content.unsent_packs()}
            run.note(next((fault for pack, fault in run.unwanted.items() if pack in unsent), None))

    def _conclude(self, run: Run, moved: Moved) -> None:
        run.again = run.again or bool(moved.packs)
        if isinstance(moved.failure, NoAnswer) and moved.failure.code in (Code.UNREACHABLE, Code.BUSY):
            raise moved.failure
        is_paused = isinstance(moved.failure, LocalFailure) and moved.failure.code is Code.PAUSED
        if not (is_paused or self._room.refused(moved.failure)):
            run.note(moved.failure)

    async def _ask_for_less(self, run: Run, fetched: Moved) -> None:
        """On a line that turned out to be thin, strong containers are asked for; what they do not bring, as packs."""
        if fetched.thin and not self._asking.thin:
            self._asking.thin = True
            run.said.wishes.clear()
            run.again = True
        elif run.said.strong_wishes and not run.said.strong_settled:
            run.said.strong_settled = True
            left = {(need.space, need.stream) for need in await self._agent.missing()}
            run.said.wishes &= run.said.wishes - left
            run.again = run.again or bool(left)
            settled = fetched.packs and not (fetched.failure or fetched.expired or fetched.stopped)
            if left & run.said.strong_wishes and settled:
                await self._store.set_marks({NO_STRONG_MARK: b"\x01"})

    async def _ask_for_the_rest(self, run: Run) -> None:
        """What a batch did not bring, since two pieces of content may have one name, is asked for once as packs."""
        if run.rest_of and not run.rest_settled:
            run.rest_settled = True
            left = run.rest_of & {(need.space, need.stream) for need in await self._agent.missing()}
            run.said.wishes -= left
            run.again = run.again or bool(left)

    async def answer_lacks(self, run: Run, asked: Asked, answer: SyncAnswer) -> None:
        """What the server lacks and is here goes to it with the next request."""
        now_ms = self._agent.now_ms()
        spoken_of = {*asked.packs, *await self._covered_by(asked.offered)} if answer.lacks else set()
        named: dict[bytes, NamedStreams] = {}
        for lack in answer.lacks:
            if not self._agent.replica.door.knows_space(lack.space):
                continue
            if lack.space not in named:
                named[lack.space] = NamedStreams((await self._agent.replica.view(lack.space)).coursework)
            packs = {pack.hash: pack for pack in await self._content_of(lack, named[lack.space])}
            if packs and run.sharing is not None and not run.sharing.is_mine(lack, lacked=True):
                continue
            run.said.wishes.add((lack.space, lack.stream))
            key = (lack.space, lack.stream)
            if not packs or key in run.lacks_answered or not packs.keys().isdisjoint(spoken_of):
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

    def forget_offers(self) -> None:
        """The server's store is not the one that was offered anything: a new one, or an older image of it."""
        self._answered_lacks.clear()

    async def _covered_by(self, offered: Sequence[PackInfo]) -> set[bytes]:
        """The packs in whose place deltas were offered, and have been sent since."""
        names = {pack.hash for pack in offered}
        spaces = dict.fromkeys(pack.space for pack in offered)
        deltas = [delta for space in spaces for delta in await self._content.deltas(space)]
        return {pack for delta in deltas if delta.hash in names for pack in delta.covers}

    async def _content_of(self, lack: Wanted, streams: NamedStreams) -> list[PackInfo]:
        """The packs that are here of a stream that the server lacks, where an entry that is here names it too."""
        if lack.stream not in streams.open and lack.stream not in streams.authors:
            return []
        sealed = lack.stream not in streams.open
        return await self._agent.holdings.packs(Need(lack.space, lack.stream, sealed=sealed))


def _is_laden(run: Run) -> bool:
    """Whether as much is noted as one sync notes before it works it off."""
    return len(run.links) >= MAX_NOTED_LINKS or run.early_bytes >= MAX_EARLY_BYTES
