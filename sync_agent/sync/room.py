"""Room on the disk: what may still be fetched, and what makes way for it (R8). The rules are in `eviction` and `worth`.

Rules:
- content leaves a reserve of the disk free: entries, hand-ins and the database need it; below that no content is
  fetched, which is said (`disk-full`) and ends by itself once there is room;
- with a budget, packs never take more than that, but for the one that has just come;
- nothing makes way for a size that somebody has said. What is missing is asked for where room could be made, and room
  is made as its bytes come, for those that are there and for little more;
- what makes way is noted first, then forgotten, then removed: it counts as not here, is not fetched by itself, and
  comes back when somebody opens it;
- so much makes way in a day, and no more, whoever wrote what it makes way for; more while somebody waits for what they
  have opened;
- what one author claims beyond a fair share comes after all that others wrote: it may be that nothing stands behind it.
  Of hand-ins it lets nothing make way and fills no disk either;
- while the disk does not give a list of files back that is here nothing makes way: of what it names nothing is known;
- what is wished for and finds no room within the budget, beside what is here already, is noted as if it had made way.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from protocol.clock import DAY_MS
from protocol.errors import Code, LocalFailure, RelaisError
from protocol.limits import MiB
from protocol.replica.content.holdings import Need, NotReadNow
from sync_agent.app import Agent
from sync_agent.machine.eviction import NOTHING, Piece, Worth, left_today, plan
from sync_agent.machine.marks import MADE_WAY_MARK
from sync_agent.sync.worth import Worths

RESERVE_BYTES: Final = 128 * MiB
AGAIN_MS: Final = 60_000
FAIR_SHARE_BYTES: Final = 512 * MiB
AHEAD_BYTES: Final = 16 * MiB
"""For so much of what was promised room is made at once, as it comes: looking at all that is here takes time."""
UNSEEN_BYTES: Final = 64 * MiB
"""So much comes at most before the disk is looked at again."""
RESERVE_SHARE: Final = 20
"""Of a small disk only so much is kept free: its size divided by this."""

_NO_BUDGET: Final = 1 << 62
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Named:
    """What an entry says of the content that it names: how large it is, of when, and whose word that is."""

    size: int
    at_ms: int
    author: bytes


@dataclass(frozen=True, slots=True)
class _Wish:
    """Content that is missing, how large it is at most, and its rank if it came.

    It is fair unless one author has said so much that is missing here that others come first.
    """

    need: Need
    size: int
    rank: tuple[Worth, int]
    is_fair: bool = True

    @property
    def makes_way(self) -> bool:
        """Whether anything may go for it."""
        return self.is_fair or not self.need.sealed


class Room:
    """See the module; over one agent."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._content = agent.replica.content
        self._worths = Worths(agent)
        self._before: tuple[frozenset[Need], int] | None = None
        self._before_ms = 0
        self._fitting: list[Need] = []
        self._promised: tuple[Worth, int] | None = None
        self._promised_bytes = 0
        self._is_opened = False
        self._unseen_bytes = 0
        self._unseen_in_budget = 0
        self._turn = asyncio.Lock()

    async def left_bytes(self) -> int:
        """How many bytes of content may still come."""
        return min(await self._left_on_disk(), await self._left_in_budget())

    async def _left_on_disk(self) -> int:
        return await self._content.free_bytes() - await self._reserve_bytes()

    async def _left_in_budget(self) -> int:
        budget = self._agent.room_limits.budget_bytes
        if budget is None:
            return _NO_BUDGET
        return budget - sum((await self._content.pack_sizes()).values())

    async def takes(self, size: int) -> bool:
        """Whether so many bytes may come without anything making way."""
        return size <= 0 or size <= await self.left_bytes()

    async def fitting(self, missing: Sequence[Need]) -> list[Need]:
        """Those of `missing` for which there is room, or could be made; says if the disk is too full."""
        agent = self._agent
        left = await self.left_bytes()
        asked = (frozenset(missing), left // MiB)
        now_ms = agent.now_ms()
        if asked == self._before and 0 <= now_ms - self._before_ms < AGAIN_MS:
            return self._fitting
        self._before, self._before_ms = None, now_ms
        self._promised, self._is_opened = None, any(map(agent.comes_on_demand, missing))
        self._promised_bytes = 0
        self._unseen_bytes = self._unseen_in_budget = 0
        agent.is_disk_full = False
        if left < 0:
            left += await self._make_way(-left, (Worth.SHOWN, 0))
        elif not missing:
            return []
        wishes = await self._wishes(missing)
        if sum(wish.size for wish in wishes) <= left:
            return list(missing)
        fitting, homeless = await self._placed(wishes, left)
        await self._settle(homeless)
        self._fitting = [need for need in missing if need in fitting]
        if not self._fitting or self._promised is not None:
            # nothing has changed until something is missing that was not, or room has come
            self._before = asked
        return self._fitting

    async def _placed(self, wishes: Iterable[_Wish], left: int) -> tuple[set[Need], list[Need]]:
        """What finds room here, or could find it; and what does not. Nothing goes yet."""
        may_go, pieces = await self._may_go()
        all_packs, alone = may_go, left
        is_known = pieces is not None
        pieces = pieces or []
        waits = await self._left_today() == 0
        fitting: set[Need] = set()
        homeless: list[Need] = []
        for wish in sorted(wishes, key=lambda wish: (wish.is_fair, wish.makes_way, wish.rank), reverse=True):
            if wish.size > left and wish.makes_way:
                found = plan(may_go, pieces, wish.size - left, wish.rank)
                if found.freed_bytes >= wish.size - left:
                    if waits:
                        self._agent.is_disk_full = True
                        continue
                    left += found.freed_bytes
                    self._promised_bytes += found.freed_bytes
                    may_go = {pack: size for pack, size in may_go.items() if pack not in found.packs}
                    self._promised = max(wish.rank, self._promised or wish.rank)
            if wish.size <= left:
                left -= wish.size
                fitting.add(wish.need)
            elif is_known and wish.makes_way and not _finds_room(wish, alone, all_packs, pieces):
                homeless.append(wish.need)
        return fitting, homeless

    async def _settle(self, homeless: Sequence[Need]) -> None:
        """What finds no place is put away if that is the budget's doing, and waits if the disk is too full."""
        budget = self._agent.room_limits.budget_bytes
        if await self._left_on_disk() <= 0 or (homeless and budget is None):
            self._agent.is_disk_full = True
        elif homeless:
            await self._agent.put_away({(need.space, need.stream) for need in homeless if not need.sealed})
            self._agent.is_disk_full = self._agent.is_disk_full or any(need.sealed for need in homeless)

    async def come(self, size: int) -> None:
        """Make way for so many bytes that have come of a pack.

        Raises `LocalFailure(DISK_FULL)` if nothing may go for them.
        """
        async with self._turn:
            if size > self._unseen_bytes:
                await self._look(size)
            self._unseen_bytes -= size

    async def whole(self, size: int) -> None:
        """A pack of this size is here: it counts for the budget from now on."""
        async with self._turn:
            self._unseen_in_budget -= size
            if self._unseen_in_budget < 0:
                await self._look(0)

    async def _look(self, size: int) -> None:
        on_disk, in_budget = await self._left_on_disk(), await self._left_in_budget()
        short = max(size - on_disk, -in_budget)
        if short > 0:
            wanted = max(short, min(self._promised_bytes, AHEAD_BYTES))
            freed = await self._make_way(wanted, self._promised or (Worth.SHOWN, 0))
            self._promised_bytes = max(0, self._promised_bytes - freed)
            if size and freed < short:
                self._agent.is_disk_full = True
                raise LocalFailure(Code.DISK_FULL, "there is no room on this disk for what is to come")
            on_disk, in_budget = on_disk + freed, in_budget + freed
        self._unseen_bytes = min(on_disk, UNSEEN_BYTES) if in_budget >= 0 else 0
        self._unseen_in_budget = in_budget

    def refused(self, failure: RelaisError | None) -> bool:
        """Whether something waits for room, which the device says by itself (`is_disk_full`)."""
        is_full = isinstance(failure, LocalFailure) and failure.code is Code.DISK_FULL
        return is_full and self._agent.is_disk_full

    async def _reserve_bytes(self) -> int:
        given = self._agent.room_limits.reserve_bytes
        if given is not None:
            return given
        return min(RESERVE_BYTES, await self._content.disk_bytes() // RESERVE_SHARE)

    async def _named(self, spaces: Iterable[bytes]) -> dict[tuple[bytes, bytes], _Named]:
        """What is said of the content of these spaces."""
        named: dict[tuple[bytes, bytes], _Named] = {}
        for space in spaces:
            coursework = (await self._agent.replica.view(space)).coursework
            for item in coursework.items.values():
                for version in item.versions.values():
                    content = version.record.content
                    named[space, content.stream] = _Named(content.size, version.at_ms, version.author)
            for work in coursework.hand_ins.values():
                content = work.record.content
                named[space, content.stream] = _Named(content.size, work.at_ms, work.author)
                for note, files in work.said_with_files.items():
                    named[space, files.stream] = _Named(files.size, note.at_ms, note.author)
        return named

    async def _wishes(self, missing: Iterable[Need]) -> list[_Wish]:
        named = await self._named({need.space for need in missing})
        unknown = _Named(0, 0, b"")
        found = [(need, named.get((need.space, need.stream), unknown)) for need in missing]
        # of hand-ins the smallest, of coursework the newest are an author's share
        found.sort(key=lambda one: (one[1].size, one[1].at_ms) if one[0].sealed else (-one[1].at_ms, one[1].size))
        wishes = []
        now_ms = self._agent.now_ms()
        shares: Counter[tuple[bytes, bool]] = Counter()
        for need, said in found:
            worth = Worth.KEPT if need.sealed else Worth.SHOWN
            used_ms = max(min(self._worths.dated_ms(said.at_ms), now_ms), await self._agent.opened_ms(need.stream))
            share = self._agent.replica.door.origin(said.author), need.sealed
            shares[share] += said.size
            is_fair = self._agent.comes_on_demand(need) or shares[share] <= FAIR_SHARE_BYTES
            wishes.append(_Wish(need, said.size, (worth, used_ms), is_fair))
        return wishes

    # --- what goes ----------------------------------------------------------------------------------------------------

    async def _may_go(self) -> tuple[dict[bytes, int], list[Piece] | None]:
        """The packs that lie here and not in the outbox, their sizes, and what needs them.

        None may go, and nothing is known, while a list of files is here and the disk does not give it back: what it
        names would look as if nothing named it.
        """
        try:
            pieces = await self._worths.pieces()
        except NotReadNow as failure:
            _log.warning("nothing makes way: %s", failure)
            self._agent.is_disk_full = True
            return {}, None
        unsent = {pack.hash for pack in await self._content.unsent_packs()}
        return {pack: size for pack, size in (await self._content.pack_sizes()).items() if pack not in unsent}, pieces

    async def _make_way(self, wanted_bytes: int, before: tuple[Worth, int]) -> int:
        """Let content go that ranks below `before`, as far as there is such; how many bytes that freed."""
        may_go, found_here = await self._may_go()
        pieces = found_here or []
        unnamed = plan(may_go, pieces, wanted_bytes, NOTHING)
        may_go = {pack: size for pack, size in may_go.items() if pack not in unnamed.packs}
        wanted = wanted_bytes - unnamed.freed_bytes
        found = plan(may_go, pieces, min(wanted, await self._left_today()), before)
        packs = (*unnamed.packs, *found.packs)
        if not packs:
            return 0
        shown = {(piece.need.space, piece.need.stream) for piece in found.gone if piece.worth >= Worth.RECEIVED}
        await self._agent.put_away(shown)
        await self._note_today(found.freed_bytes)
        # before: a power cut leaves nothing that is called whole and is gone; after: who looked meanwhile saw it here
        await self._agent.holdings.forget()
        await self._content.drop(packs)
        await self._agent.holdings.forget()
        freed = unnamed.freed_bytes + found.freed_bytes
        _log.info("%d packs made way, %d bytes", len(packs), freed)
        return freed

    async def _left_today(self) -> int:
        held, gone = sum((await self._content.pack_sizes()).values()), await self._gone_today()
        return left_today(gone, held + gone, is_opened=self._is_opened)

    async def _gone_today(self) -> int:
        mark = await self._agent.replica.store.mark(MADE_WAY_MARK) or bytes(16)
        return int.from_bytes(mark[8:], "big") if mark[:8] == self._day() else 0

    async def _note_today(self, gone_bytes: int) -> None:
        if gone_bytes:
            gone = await self._gone_today() + gone_bytes
            await self._agent.replica.store.set_marks({MADE_WAY_MARK: self._day() + gone.to_bytes(8, "big")})

    def _day(self) -> bytes:
        """The day of what it has watched: the wall clock's may be set to and fro between two."""
        return max(0, self._agent.watched.now_ms() // DAY_MS).to_bytes(8, "big")


def _finds_room(wish: _Wish, left: int, may_go: Mapping[bytes, int], pieces: Collection[Piece]) -> bool:
    """Whether there would be room if nothing else were missing: of what else is, it may be that nothing ever comes."""
    return wish.size <= left or plan(may_go, pieces, wish.size - left, wish.rank).freed_bytes >= wish.size - left


async def named_sizes(agent: Agent, spaces: Iterable[bytes]) -> dict[tuple[bytes, bytes], int]:
    """The bytes of each version's content in these spaces, as its author says."""
    found = {}
    for space in spaces:
        for item in (await agent.replica.view(space)).coursework.items.values():
            contents = [version.record.content for version in item.versions.values()]
            found.update({(space, content.stream): content.size for content in contents})
    return found
