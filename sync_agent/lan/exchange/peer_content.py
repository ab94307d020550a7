"""The content of an exchange with one other device: what is asked for, what it brings, what it lacks of what is here.

Rules:
- content is asked for where it is missing here and there is room; what is fetched from elsewhere, or sent by another
  neighbour, is not fetched twice;
- the peer brings no more of a space than its allowance there leaves, whatever its packs turn out to hold;
- of what it lacks it is given what an entry of a space in common names: it may name anything. A hand-in's content goes
  to its author, and to who reads hand-ins;
- what is small travels inside the request that brings the entries naming it.

docs/protocol.md, "Neighbours".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from blake3 import blake3

from protocol.errors import Code, NoAnswer, PeerFault
from protocol.limits import INLINE_PACK_BYTES, INLINE_TOTAL_BYTES, MAX_INLINE_PACKS
from protocol.messages.calls import SyncAnswer
from protocol.messages.parts import InlinePack, Link, Upload, Wanted
from protocol.model.entry import Entry, Kind
from protocol.replica.answering.allowances import Allowance, Allowances
from protocol.replica.answering.outgoing import NamedStreams
from protocol.replica.content.holdings import Need
from protocol.replica.interfaces import PackInfo
from protocol.replica.making import Making
from protocol.roles import READS_HAND_INS, Role
from sync_agent.app import Agent
from sync_agent.hand_ins.copies import Copies
from sync_agent.lan.exchange.progress import Exchange
from sync_agent.machine.fetching import Left
from sync_agent.sync.room import Room
from sync_agent.sync.transfer import Moved, Transfer
from sync_agent.transport.interface import Transport

MAX_WANTED: Final = 500
MAX_OFFERS: Final = 500
_NAMES_CONTENT: Final = frozenset({Kind.REVISION, Kind.HAND_IN})


@dataclass(slots=True)
class _Made:
    """What is made of a pack or delta behind a link, and how much of it was counted beside its size."""

    link: Link
    making: Making
    counted: int = 0
    noted: int = 0


class PeerContent:
    """See the module. `device` is the key of the one at the other end; `copies` says what is entrusted to it."""

    def __init__(self, agent: Agent, transport: Transport, device: bytes, copies: Copies) -> None:
        self._agent = agent
        self._device = device
        self._copies = copies
        self._room = Room(agent)
        self._allowances = Allowances(agent.replica, agent.holdings)
        self._transfer = Transfer(
            agent.replica.content,
            transport,
            fetching=agent.fetching,
            making=self._may_be_made,
            room=self._room,
        )
        self._made: list[_Made] = []
        self._left = Left(agent.sending)

    async def wanted(self, done: Exchange, common: Collection[bytes]) -> list[Wanted]:
        """Missing content of the spaces in common that was not asked for yet."""
        fitting = await self._room.fitting(await self._agent.missing())
        wishes = dict.fromkeys((need.space, need.stream) for need in fitting if need.space in common)
        return [Wanted(*wish) for wish in wishes if wish not in done.wishes][:MAX_WANTED]

    def packs(self, done: Exchange) -> tuple[list[PackInfo], list[PackInfo]]:
        """Packs to send inside the request, and packs to offer, of those that the peer lacks."""
        room = INLINE_TOTAL_BYTES
        inline: list[PackInfo] = []
        offers: list[PackInfo] = []
        for pack in sorted(done.lacks.values(), key=lambda pack: (pack.size, pack.hash)):
            if pack.hash in done.offered:
                continue
            if pack.size > INLINE_PACK_BYTES:
                offers.append(pack)
            elif pack.size <= room and len(inline) < MAX_INLINE_PACKS:
                inline.append(pack)
                room -= pack.size
        return inline, offers[:MAX_OFFERS]

    async def take(self, done: Exchange, packs: Sequence[InlinePack]) -> None:
        """What came inside an answer."""
        for pack in packs:
            await self._take_pack(done, pack)
        if packs:
            await self._room.whole(sum(len(pack.data) for pack in packs))

    async def work_off(self, done: Exchange, answer: SyncAnswer, packs: Mapping[bytes, PackInfo]) -> bool:
        """Send and fetch what an answer names, of these `packs` here; whether anything was sent. Raises `NoAnswer`."""
        uploads = [(upload, packs[upload.pack]) for upload in answer.uploads if upload.pack in packs]
        sent = await self._transfer.send([pair for pair in uploads if not _is_held(*pair)])
        mine = await self._agent.spaces()
        links = await self._wanted_links(done, [link for link in answer.links if link.space in mine])
        fetched = await self._transfer.fetch(links)
        await self._note_made()
        self._made.clear()
        if fetched.packs:
            done.grown.update(link.space for link in links)
        if not _others_send_it(sent):
            self._conclude(done, sent)
        self._conclude(done, fetched)
        return bool(sent.packs)

    # --- what comes ---------------------------------------------------------------------------------------------------

    async def _take_pack(self, done: Exchange, pack: InlinePack) -> None:
        content = self._agent.replica.content
        try:
            if pack.space not in await self._agent.spaces():
                return
            if await content.pack(blake3(pack.data).digest(), pack.space) is not None:
                return
            allowance = await self._allowances.of(pack.space, self._device)
            if await self._allowances.ingest(pack.space, self._device, pack.data, allowance):
                done.grown.add(pack.space)
        except PeerFault as fault:
            done.note_failure(fault)

    async def _wanted_links(self, done: Exchange, links: Sequence[Link]) -> list[Link]:
        """Those that bring no more than what is lacking here, and what nobody is sending."""
        found = []
        open_to: dict[bytes, Allowance] = {}
        for link in links:
            if await self._left.takes(link.pack, self._agent.now_ms()):
                done.leaves_some = True
                continue
            if link.space not in open_to:
                open_to[link.space] = await self._allowances.of(link.space, self._device)
            lacking = open_to[link.space].lacking
            if open_to[link.space].take(link.size):
                await self._allowances.note(link.space, self._device, link.size, lacking=lacking)
                found.append(link)
        return found

    async def _note_made(self) -> None:
        """Count what packs and deltas behind links have made so far, beyond their sizes, which were counted before."""
        for made in self._made:
            more = made.making.came(made.link.size) - made.link.size - made.counted
            noted = made.making.noted - made.noted
            made.counted, made.noted = made.counted + more, made.noted + noted
            if more or noted:
                await self._allowances.note(made.link.space, self._device, more, lacking=more, noted=noted)

    async def _may_be_made(self, link: Link) -> Making:
        await self._note_made()
        making = (await self._allowances.of(link.space, self._device)).making()
        self._made.append(_Made(link, making))
        return making

    def _conclude(self, done: Exchange, moved: Moved) -> None:
        if isinstance(moved.failure, NoAnswer):
            raise moved.failure
        if not self._room.refused(moved.failure):
            done.note_failure(moved.failure)

    # --- what the peer lacks ------------------------------------------------------------------------------------------

    async def find_named(self, done: Exchange, push: Sequence[Entry], common: Collection[bytes]) -> None:
        """The packs that are here of what is small, and named by entries that the peer is brought: it lacks them."""
        news = {entry.id for entry in push if entry.header.kind in _NAMES_CONTENT}
        for space in {entry.header.space for entry in push if entry.id in news}:
            coursework = (await self._agent.replica.view(space)).coursework
            heads = [head for item in coursework.items.values() if not item.withdrawn for head in item.heads]
            # of what is made from something earlier the peer holds a part, which it says
            named = [head.record.content for head in heads if head.id in news and not head.parents]
            named += [work.record.content for work in coursework.hand_ins.values() if work.id in news]
            small = [Wanted(space, content.stream) for content in named if content.size <= INLINE_TOTAL_BYTES]
            await self.find_lacking(done, small, common)

    async def find_lacking(self, done: Exchange, lacks: Sequence[Wanted], common: Collection[bytes]) -> None:
        """The packs that are here of what the peer lacks, as far as it may have them."""
        wanted: defaultdict[bytes, list[Wanted]] = defaultdict(list)
        for lack in lacks:
            wanted[lack.space].append(lack)
        theirs = await self._agent.replica.readable(self._device)
        for space in (each for each in common if each in wanted and each in theirs):
            streams = NamedStreams((await self._agent.replica.view(space)).coursework)
            for lack in wanted[space]:
                for pack in await self._content_of(lack, streams, theirs[space].role):
                    done.lacks.setdefault(pack.hash, pack)

    async def find_entrusted(self, done: Exchange, common: Collection[bytes]) -> None:
        """The packs of work of this device that the peer is asked to keep."""
        for space in common:
            for stream in await self._copies.entrusted(space, self._device):
                for pack in await self._agent.holdings.packs(Need(space, stream, sealed=True)):
                    done.lacks.setdefault(pack.hash, pack)

    async def _content_of(self, lack: Wanted, streams: NamedStreams, theirs: Role) -> list[PackInfo]:
        if lack.stream in streams.open:
            return await self._agent.holdings.packs(Need(lack.space, lack.stream, sealed=False))
        author = streams.authors.get(lack.stream)
        if author is None or not (theirs in READS_HAND_INS or author == self._device):
            return []
        return await self._agent.holdings.packs(Need(lack.space, lack.stream, sealed=True))


def _others_send_it(sent: Moved) -> bool:
    """Whether the peer takes a pack from somebody else as well: that is no trouble of the line."""
    return isinstance(sent.failure, NoAnswer) and sent.failure.code is Code.BUSY


def _is_held(upload: Upload, pack: PackInfo) -> bool:
    return upload.offset == pack.size and not upload.capability
