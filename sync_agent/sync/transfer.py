"""Packs on their way to and from the server, behind links of an answer (R13, R16; docs/protocol.md, "Content").

Rules:
- what arrived before a cut stays, and the transfer goes on from there, at once a few times, then in the next sync;
- of a pack with wrong bytes the frames that have them are fetched again, a few times; what cannot be mended from here
  stays for another source, and what is no such pack at all is thrown away and fetched once more, no third time;
- two packs at a time, or four small ones, in pieces: memory stays constant whatever their size;
- of several sources that have the same packs each takes the next that no other has begun: they share the work by how
  fast they are;
- what passes is encrypted under the key of its link, and what is kept is not: a part goes on by any other link;
- a delta that is of no use where it arrives is given up: packs bring the same;
- one bad pack or one expired link does not keep the others back; a server that is gone or a full disk does.
"""

from __future__ import annotations

import logging
from asyncio import TaskGroup, get_running_loop
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol, TypeAlias

from protocol.errors import Code, LocalFailure, NoAnswer, PeerFault, RelaisError
from protocol.limits import INLINE_PACK_BYTES, KiB
from protocol.messages.parts import Link, Upload
from protocol.replica.byte_range import Span
from protocol.replica.content.packing.pack_sending import sent_pieces
from protocol.replica.interfaces import ContentStore, PackInfo
from protocol.replica.making import Making
from protocol.transfer.crossing import crossing
from sync_agent.machine.fetching import Fetching
from sync_agent.machine.progress import TransferProgress
from sync_agent.pacing.line_rate import WORTH_BYTES, Gauge
from sync_agent.transport.interface import Transport

PACKS_AT_ONCE: Final = 2
SMALL_PACKS_AT_ONCE: Final = 4
PIECE_BYTES: Final = 512 * KiB
MAX_CUTS_PER_PACK: Final = 3
MAX_MENDINGS: Final = 3

_CREATED: Final = 201
# The link's time is over, or the server has no more what it stood for.
_ASK_AGAIN: Final = frozenset({Code.BAD_CAPABILITY, Code.INCOMPLETE})

_log = logging.getLogger(__name__)

Job: TypeAlias = tuple[bytes, Callable[[], Awaitable[bool]]]


def _goes_on() -> bool:
    """Whether a fetch is left to others: nobody is there."""
    return False


@dataclass(slots=True)
class Moved:
    """What became of a batch.

    `packs` got there, some links had `expired`, the bytes of the `bad` ones were wrong, `failure` came first, and
    `stopped` says that it kept the others back; `thin` that
    the line turned out to be thin, and that it was left there.
    """

    packs: int = 0
    expired: bool = False
    bad: set[bytes] = field(default_factory=set)
    failure: RelaisError | None = None
    stopped: bool = False
    thin: bool = False


class Place(Protocol):
    """Where what is fetched finds room (`room`)."""

    async def come(self, size: int) -> None:
        """Make way for bytes that have come."""

    async def whole(self, size: int) -> None:
        """A pack is here."""


class Transfer:
    """Moves packs between a content store and a server."""

    def __init__(
        self,
        content: ContentStore,
        transport: Transport,
        progress: TransferProgress | None = None,
        fetching: Fetching | None = None,
        making: Callable[[Link], Awaitable[Making]] | None = None,
        room: Place | None = None,
    ) -> None:
        """`progress` is told what is on its way; `fetching` tells what comes from other sources.

        `making` bounds what a delta behind a link may make, where the other side is not trusted with that; `room` makes
        way for what comes.
        """
        self._making = making
        self._room = room
        self._progress = progress or TransferProgress()
        self._fetching = fetching or Fetching()
        self._elsewhere: list[Job] = []
        self._content = content
        self._transport = transport
        self._gauge: Gauge | None = None
        self._leaves = _goes_on
        self._too_early: list[Link] = []

    async def fetch(
        self, links: Iterable[Link], *, leave_if_thin: bool = False, leaves: Callable[[], bool] = _goes_on
    ) -> Moved:
        """Fetch what the links name, unless it is here, and until it `leaves` that to others.

        With `leave_if_thin` only while the line is not thin.
        """
        self._leaves = leaves
        by_pack: dict[bytes, list[Link]] = {}
        for link in links:
            by_pack.setdefault(link.pack, []).append(link)
        small: list[Job] = []
        large: list[Job] = []
        for pack, same in by_pack.items():
            (small if same[0].size <= INLINE_PACK_BYTES else large).append((pack, partial(self._fetch_shared, same)))
        moved = Moved()
        of_bytes = sum(same[0].size for same in by_pack.values())
        self._gauge = Gauge() if leave_if_thin and of_bytes >= WORTH_BYTES else None
        self._too_early = []
        self._progress.begin(of_bytes, sends=False)
        try:
            self._elsewhere = []
            await _work_off(small, SMALL_PACKS_AT_ONCE, moved)
            await _work_off(large, PACKS_AT_ONCE, moved)
            # what another source had begun, and may have given up
            again, self._elsewhere = self._elsewhere, []
            await _work_off(again, PACKS_AT_ONCE, moved)
        finally:
            self._progress.end()
        if self._gauge is not None:
            moved.thin = self._gauge.is_thin
        self._gauge = None
        for link in self._too_early if not moved.stopped else ():
            await self._use_late(link)
        return moved

    async def send(self, uploads: Iterable[tuple[Upload, PackInfo]]) -> Moved:
        """Send stored packs that the server wants."""
        moved = Moved()
        wanted = list(uploads)
        jobs: list[Job] = [(pack.hash, partial(self._send_usable, upload, pack)) for upload, pack in wanted]
        self._progress.begin(sum(pack.size - upload.offset for upload, pack in wanted), sends=True)
        try:
            await _work_off(jobs, PACKS_AT_ONCE, moved)
        finally:
            self._progress.end()
        return moved

    # --- down ---------------------------------------------------------------------------------------------------------

    async def _fetch_shared(self, links: Sequence[Link]) -> bool:
        """One pack, for each of the spaces that it belongs to: its bytes come once, while one source gives them."""
        moved = False
        pack = links[0].pack
        with self._fetching.claim(pack, get_running_loop().time()) as mine:
            if not mine:
                self._elsewhere.append((pack, partial(self._fetch_shared, links)))
                return False
            for link in links:
                if await self._content.pack(pack, link.space) is not None:
                    continue
                if await self._content.pack(pack) is not None:
                    await self._content.share(pack, link.space)
                else:
                    await self._fetch_usable(link)
                    if self._room is not None:
                        await self._room.whole(link.size)
                moved = True
        return moved

    async def _fetch_usable(self, link: Link) -> None:
        try:
            await self._fetch(link)
        except PeerFault as fault:
            if fault.code is not Code.MISSING_BASE:
                raise
            self._too_early.append(link)

    async def _use_late(self, link: Link) -> None:
        """A delta that came before what it is made of."""
        try:
            await self._content.finish_part(link.space, link.pack, link.size)
        except PeerFault as fault:
            # Packs bring the same, and are wished for with the next request.
            _log.warning("a delta is of no use here: %s", fault)
            await self._content.drop_part(link.pack)

    async def _fetch(self, link: Link) -> None:
        await self._receive(link)
        if not await self._finish(link):
            await self._content.drop_part(link.pack)
            await self._receive(link)
            making = None if self._making is None else await self._making(link)
            await self._content.finish_part(link.space, link.pack, link.size, making=making)

    async def _finish(self, link: Link) -> bool:
        """Make a part of full size visible, the bad frames in it fetched again; False if little of it is good.

        Raises `PeerFault` where this source has no better: the part stays, for another one.
        """
        for left in reversed(range(MAX_MENDINGS + 1)):
            try:
                making = None if self._making is None else await self._making(link)
                await self._content.finish_part(link.space, link.pack, link.size, keep_bad=True, making=making)
            except PeerFault as fault:
                if fault.code is Code.OVER_QUOTA:
                    await self._content.drop_part(link.pack)
                    raise
                if fault.code in _ASK_AGAIN or fault.code is Code.MISSING_BASE:
                    raise
                spans = await self._content.bad_spans(link.pack, link.size)
                if not spans or sum(span.length for span in spans) > link.size // 2:
                    return False
                if not left:
                    raise
                _log.warning("%d parts of some content came with wrong bytes: %s", len(spans), fault)
                for span in spans:
                    await self._mend(link, span)
            else:
                break
        return True

    async def _mend(self, link: Link, span: Span) -> None:
        """Fetch a part of a pack once more, over what is there."""
        at, end = span.start, span.start + span.length
        async with aclosing(self._fetched(link, span.start, span.length)) as pieces:
            async for piece in pieces:
                wanted = piece[: end - at]
                await self._content.mend_part(link.pack, at, wanted)
                at += len(wanted)
        if at < end:
            raise NoAnswer(Code.UNREACHABLE, "the connection was cut in the middle of some content; the work is kept")

    async def _receive(self, link: Link) -> None:
        """Bring the part to its full size."""
        held = await self._content.resume_part(link.pack, link.size)
        if held > link.size:
            await self._content.drop_part(link.pack)
            held = 0
        self._progress.note(held, get_running_loop().time())
        cuts = 0
        while held < link.size:
            before = held
            try:
                held = await self._append(link, held)
            except NoAnswer:
                held = await self._content.part_size(link.pack)
                cuts += 1
                if self._leaves():
                    raise LocalFailure(Code.PAUSED, "another device of the school goes on with this") from None
                if held == before or cuts > MAX_CUTS_PER_PACK:
                    raise
            except PeerFault as fault:
                cuts += 1
                if fault.code is not Code.WRONG_OFFSET or cuts > MAX_CUTS_PER_PACK:
                    raise
                # a neighbour sends the same pack meanwhile: what it added is as good
                if await self._content.pack(link.pack, link.space) is not None:
                    return
                held = await self._content.part_size(link.pack)

    async def _append(self, link: Link, held: int) -> int:
        """Add what one request brings. Raises `NoAnswer` at a cut, with what came before it kept."""
        # pieces as they came: what grows is copied again and again
        gathered: list[bytes] = []
        size = 0
        cut: NoAnswer | LocalFailure | None = None
        async with aclosing(self._fetched(link, held)) as pieces:
            try:
                async for piece in pieces:
                    if held + size + len(piece) > link.size:
                        raise PeerFault(Code.BAD_HASH, "a pack is longer than was announced", pack=link.pack.hex())
                    if size + len(piece) > PIECE_BYTES:
                        held = await self._keep(link, held, b"".join(gathered))
                        gathered, size = [], 0
                    gathered.append(piece)
                    size += len(piece)
                    now_s = get_running_loop().time()
                    self._progress.note(len(piece), now_s)
                    self._fetching.note(link.pack, len(piece))
                    if self._gauge is not None and self._gauge.note(len(piece), now_s):
                        cut = LocalFailure(Code.PAUSED, "the line is thin: something smaller is asked for")
                        break
                    if self._leaves():
                        cut = LocalFailure(Code.PAUSED, "another device of the school goes on with this")
                        break
            except NoAnswer as reason:
                cut = reason
        if gathered:
            held = await self._keep(link, held, b"".join(gathered))
        if cut is None and held < link.size:
            cut = NoAnswer(Code.UNREACHABLE, "the connection was cut in the middle of some content; the work is kept")
        if cut is not None and held < link.size:
            raise cut
        return held

    async def _fetched(self, link: Link, start: int, length: int | None = None) -> AsyncGenerator[bytes, None]:
        """What the link brings, as it is kept."""
        clear = crossing(link.key, start)
        async with aclosing(self._transport.fetch(link.capability, start, length)) as pieces:
            async for piece in pieces:
                yield clear(piece)

    async def _keep(self, link: Link, held: int, data: bytes) -> int:
        if self._room is not None:
            await self._room.come(len(data))
        return await self._content.append_part(link.pack, held, data)

    # --- up -----------------------------------------------------------------------------------------------------------

    async def _send_usable(self, upload: Upload, pack: PackInfo) -> bool:
        try:
            return await self._send(upload, pack)
        except PeerFault as fault:
            if fault.code in _ASK_AGAIN or not await self._content.drop_delta(pack.hash):
                raise
            # What it stands for is offered with the next request.
            _log.warning("the server cannot use a delta: %s", fault)
            return True

    async def _send(self, upload: Upload, pack: PackInfo) -> bool:
        offset = upload.offset
        cuts = 0
        while cuts <= MAX_CUTS_PER_PACK:
            try:
                length = pack.size - offset
                pieces = self._pieces(upload, pack, offset)
                response = await self._transport.send(upload.capability, offset, length, pieces)
            except NoAnswer as reason:
                if reason.code is not Code.UNREACHABLE or cuts == MAX_CUTS_PER_PACK:
                    raise
                # An empty part asks where the server stands: what arrived before the cut is there.
                nothing = self._pieces(upload, pack, pack.size)
                response = await self._transport.send(upload.capability, offset, 0, nothing)
            if response.status == _CREATED:
                await self._content.mark_packs([pack.hash], unsent=False)
                return True
            offset = response.offset()
            if offset > pack.size:
                raise PeerFault(Code.WRONG_OFFSET, "the server holds more of a pack than there is", offset=offset)
            cuts += 1
        raise NoAnswer(Code.BUSY, "the server did not take some content, which others may be sending; the work is kept")

    async def _pieces(self, upload: Upload, pack: PackInfo, offset: int) -> AsyncIterator[bytes]:
        """A pack from `offset` on, as it goes to who wants it."""
        left = pack.size - offset
        hidden = crossing(upload.key, offset)
        async with aclosing(sent_pieces(self._content, pack.hash, Span(offset, left))) as pieces:
            async for piece in pieces:
                yield hidden(piece)
                left -= len(piece)
                self._progress.note(len(piece), get_running_loop().time())
        if left:
            raise LocalFailure(Code.DAMAGED, "a stored pack is shorter than it was", pack=pack.hash.hex())


async def _work_off(jobs: Sequence[Job], at_once: int, moved: Moved) -> None:
    """Do the jobs, until one fails in a way that the others would share."""
    waiting = iter(jobs)

    async def work() -> None:
        for pack, job in waiting:
            if moved.stopped:
                return
            try:
                got = await job()
                moved.packs += got
            except RelaisError as error:
                if isinstance(error, PeerFault) and error.code in _ASK_AGAIN:
                    moved.expired = True
                    continue
                moved.failure = moved.failure or error
                if isinstance(error, PeerFault):
                    moved.bad.add(pack)
                else:
                    moved.stopped = True

    async with TaskGroup() as group:
        for _ in range(min(at_once, len(jobs))):
            group.create_task(work())
