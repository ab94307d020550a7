"""Room on the disk: what may still be fetched, and what makes way for it (R8). The rules are in `eviction`.

Rules:
- content leaves a reserve of the disk free: entries, hand-ins and the database need it; below that no content is
  fetched, which is said (`disk-full`) and ends by itself once there is room;
- with a budget, packs never take more than that;
- what makes way is noted first, then forgotten, then removed: it counts as not here, is not fetched by itself, and
  comes back when somebody opens it;
- of hand-ins whose content is missing, what one device claims beyond a fair share comes last, lets nothing make way and
  fills no disk: it may be that nothing stands behind it;
- what is hidden (erased, or held back) is not worthless: work stays, and what was shown goes like what is, until the
  erasure destroys it, seven days after and five people a day;
- what is wished for and finds no room within the budget is noted as if it had made way.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from protocol.coursework import Item, Work
from protocol.entry import Entry, Kind
from protocol.errors import PeerFault
from protocol.hand_in_keys import is_opened_for_good
from protocol.limits import MiB
from protocol.replica.content.holdings import Need
from protocol.replica.keyring import recovery_keys
from protocol.replica.space_names import made_spaces
from protocol.replica.views import SpaceView
from protocol.roster import Roster
from protocol.work import ContentRef, Feedback, HandIn, Revision
from sync_agent.app import Agent
from sync_agent.coursework.reading import need_of, readable_version
from sync_agent.hand_ins.wraps import Kept, mark_of
from sync_agent.keys.acquaintances import known_in
from sync_agent.machine.eviction import Piece, Worth, is_past, is_safe_elsewhere, plan

RESERVE_BYTES: Final = 128 * MiB
AGAIN_MS: Final = 60_000
FAIR_SHARE_BYTES: Final = 512 * MiB
RESERVE_SHARE: Final = 20
"""Of a small disk only so much is kept free: its size divided by this."""

_NAMING: Final[Mapping[int, Callable[[bytes], HandIn | Revision | Feedback]]] = MappingProxyType(
    {Kind.HAND_IN: HandIn.parse, Kind.REVISION: Revision.parse, Kind.FEEDBACK: Feedback.parse}
)
"""What names content."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Wish:
    """Content that is missing, how large it is at most, and its rank if it came.

    It is fair unless one device has handed in so much that is missing here that others come first.
    """

    need: Need
    size: int
    rank: tuple[Worth, int]
    is_fair: bool = True


class Room:
    """See the module; over one agent."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._content = agent.replica.content
        self._before: tuple[frozenset[Need], int] | None = None
        self._before_ms = 0
        self._fitting: list[Need] = []

    async def left_bytes(self) -> int:
        """How many bytes of content may still come."""
        limits = self._agent.room_limits
        left = await self._content.free_bytes() - await self._reserve_bytes()
        if limits.budget_bytes is not None:
            _, _, taken = await self._content.totals()
            left = min(left, limits.budget_bytes - taken)
        return left

    async def takes(self, size: int) -> bool:
        """Whether so many bytes may come without anything making way."""
        return size <= 0 or size <= await self.left_bytes()

    async def fitting(self, missing: Sequence[Need]) -> list[Need]:
        """Those of `missing` for which there is room, or for which room was made; says if the disk is too full."""
        agent = self._agent
        left = await self.left_bytes()
        asked = (frozenset(missing), left // MiB)
        now_ms = agent.now_ms()
        if asked == self._before and 0 <= now_ms - self._before_ms < AGAIN_MS:
            return self._fitting
        self._before, self._before_ms = None, now_ms
        agent.is_disk_full = False
        if not missing and left >= 0:
            return []
        wishes = await self._wishes(missing)
        if sum(wish.size for wish in wishes) <= left:
            return list(missing)
        fitting: list[Need] = []
        homeless: list[Need] = []
        for wish in sorted(wishes, key=lambda wish: (wish.is_fair, wish.rank), reverse=True):
            if wish.size > left and wish.is_fair:
                left += await self._make_way(wish.size - left, wish.rank, whole=True)
            if wish.size <= left:
                left -= wish.size
                fitting.append(wish.need)
            elif wish.is_fair:
                homeless.append(wish.need)
        if left < 0:
            await self._make_way(-left, (Worth.SHOWN, 0), whole=False)
        await self._settle(homeless)
        self._fitting = [need for need in missing if need in set(fitting)]
        if not self._fitting:
            # nothing has changed until something is missing that was not, or room has come
            self._before = asked
        return self._fitting

    async def _settle(self, homeless: Sequence[Need]) -> None:
        """What finds no place is put away if that is the budget's doing, and waits if the disk is too full."""
        room = await self._content.free_bytes() - await self._reserve_bytes()
        budget = self._agent.room_limits.budget_bytes
        if room <= 0 or (homeless and budget is None):
            self._agent.is_disk_full = True
        elif homeless:
            await self._agent.put_away({(need.space, need.stream) for need in homeless if not need.sealed})
            self._agent.is_disk_full = any(need.sealed for need in homeless)

    async def _reserve_bytes(self) -> int:
        given = self._agent.room_limits.reserve_bytes
        if given is not None:
            return given
        return min(RESERVE_BYTES, await self._content.disk_bytes() // RESERVE_SHARE)

    # --- what is worth what -------------------------------------------------------------------------------------------

    async def _wishes(self, missing: Iterable[Need]) -> list[_Wish]:
        sizes: dict[tuple[bytes, bytes], tuple[int, int]] = {}
        authors: dict[tuple[bytes, bytes], bytes] = {}
        for space in {need.space for need in missing}:
            coursework = (await self._agent.replica.view(space)).coursework
            for item in coursework.items.values():
                for version in item.versions.values():
                    content = version.record.content
                    sizes[space, content.stream] = (content.size, version.at_ms)
            for work in coursework.hand_ins.values():
                content = work.record.content
                sizes[space, content.stream] = (content.size, work.at_ms)
                authors[space, content.stream] = self._agent.replica.door.origin(work.author)
                note = work.feedback
                if note is not None and note.record.content is not None:
                    sizes[space, note.record.content.stream] = (note.record.content.size, note.at_ms)
        wishes = []
        now_ms = self._agent.now_ms()
        shares: Counter[bytes] = Counter()
        for need in sorted(missing, key=lambda need: sizes.get((need.space, need.stream), (0, 0))):
            size, at_ms = sizes.get((need.space, need.stream), (0, 0))
            worth = Worth.KEPT if need.sealed else Worth.SHOWN
            used_ms = max(min(at_ms, now_ms), await self._agent.opened_ms(need.stream))
            author = authors.get((need.space, need.stream)) if need.sealed else None
            if author is not None:
                shares[author] += size
            wishes.append(_Wish(need, size, (worth, used_ms), author is None or shares[author] <= FAIR_SHARE_BYTES))
        return wishes

    async def _make_way(self, wanted_bytes: int, before: tuple[Worth, int], *, whole: bool) -> int:
        """Let content go that ranks below `before`; how many bytes that freed. With `whole`, all or nothing."""
        unsent = {pack.hash for pack in await self._content.unsent_packs()}
        sizes = {pack: size for pack, size in (await self._content.pack_sizes()).items() if pack not in unsent}
        found = plan(sizes, await self._pieces(), wanted_bytes, before)
        if not found.packs or (whole and found.freed_bytes < wanted_bytes):
            return 0
        shown = {(piece.need.space, piece.need.stream) for piece in found.gone if piece.worth >= Worth.RECEIVED}
        await self._agent.put_away(shown)
        await self._content.drop(found.packs)
        await self._agent.holdings.forget()
        _log.info("%d packs made way, %d bytes", len(found.packs), found.freed_bytes)
        return found.freed_bytes

    async def _pieces(self) -> list[Piece]:
        """All content that is here, wholly or in part."""
        found: list[Piece] = []
        years = await self._years()
        ended = set(await self._agent.ended_classes())
        today = dt.datetime.fromtimestamp(self._agent.now_ms() / 1000, dt.UTC).date()
        hiding: dict[bytes, Roster] = {}
        for space in await self._agent.replica.store.spaces():
            view = await self._agent.replica.view(space)
            coursework = view.coursework
            past = space in ended or is_past(years.get(space), today)
            for item in coursework.items.values():
                found += await self._pieces_of(item, past=past)
            found += await self._works_of(space, view, past=past)
            if view.roster.held_back or view.roster.erased:
                hiding[space] = view.roster
        if hiding:
            found += await self._hidden(hiding)
        return [piece for piece in found if piece.packs]

    async def _pieces_of(self, item: Item, *, past: bool) -> list[Piece]:
        readable = await self._readable(item)
        heads = {head.id for head in item.heads}
        pieces = []
        for version in item.versions.values():
            if version.author == self._agent.device:
                worth = Worth.KEPT
            elif item.withdrawn:
                worth = Worth.WITHDRAWN
            elif version.id in heads or version.id == readable:
                worth = Worth.PAST_YEAR if past else Worth.SHOWN
            else:
                worth = Worth.SUPERSEDED
            pieces.append(await self._piece(need_of(item, version), worth, version.at_ms))
        return pieces

    async def _readable(self, item: Item) -> bytes | None:
        """The version that people read while the newest has not arrived as a whole (R17)."""
        version = await readable_version(self._agent.holdings, item)
        return None if version is None else version.id

    async def _works_of(self, space: bytes, view: SpaceView, *, past: bool) -> list[Piece]:
        pieces = []
        recovery, known = await recovery_keys(self._agent.replica), known_in(self._agent, space)
        for work in view.coursework.hand_ins.values():
            mine = self._agent.made(work)
            worth = Worth.PAST_YEAR if past else Worth.SHOWN
            opened = is_opened_for_good(work, view.roster, recovery, known)
            if mine and (opened or await self._is_safe_elsewhere(work)):
                worth = Worth.RECEIVED
            elif not opened:
                worth = Worth.KEPT
            pieces.append(await self._piece(Need(space, work.record.content.stream, sealed=True), worth, work.at_ms))
            note = work.feedback
            if note is not None and note.record.content is not None:
                own = note.author == self._agent.device
                worth = Worth.KEPT if own else Worth.PAST_YEAR if past else Worth.SHOWN
                need = Need(space, note.record.content.stream, sealed=False)
                pieces.append(await self._piece(need, worth, note.at_ms))
        return pieces

    async def _hidden(self, rosters: Mapping[bytes, Roster]) -> list[Piece]:
        """What entries name that the folds pass over: an erasure, or a report, may be taken back tomorrow."""
        pieces = []
        for entry in await self._agent.replica.store.scan_kinds(list(_NAMING)):
            header = entry.header
            roster = rosters.get(header.space)
            if roster is not None and roster.hides(entry) and (content := _content_in(entry)) is not None:
                is_work = header.kind == Kind.HAND_IN
                is_kept = is_work or header.author == self._agent.device
                need = Need(header.space, content.stream, sealed=is_work)
                pieces.append(await self._piece(need, Worth.KEPT if is_kept else Worth.SHOWN, entry.timestamp_ms))
        return pieces

    async def _is_safe_elsewhere(self, work: Work) -> bool:
        agent = self._agent
        mark = await agent.replica.store.mark(mark_of(work.id)) if work.at_server else None
        seen = None if mark is None else Kept.parse(mark).seen
        return is_safe_elsewhere(seen, agent.backup_ms, own_ms=agent.now_ms(), server_ms=agent.replica.proven_ms)

    async def _piece(self, need: Need, worth: Worth, at_ms: int) -> Piece:
        packs = frozenset(pack.hash for pack in await self._agent.holdings.packs(need))
        return Piece(need, worth, max(at_ms, await self._agent.opened_ms(need.stream)), packs)

    async def _years(self) -> dict[bytes, str | None]:
        return {space: record.year for space, record in (await made_spaces(self._agent.replica)).items()}


async def named_sizes(agent: Agent, spaces: Iterable[bytes]) -> dict[tuple[bytes, bytes], int]:
    """The bytes of each version's content in these spaces, as its author says."""
    found = {}
    for space in spaces:
        for item in (await agent.replica.view(space)).coursework.items.values():
            contents = [version.record.content for version in item.versions.values()]
            found.update({(space, content.stream): content.size for content in contents})
    return found


def _content_in(entry: Entry) -> ContentRef | None:
    """The content that an entry names, while its payload is here."""
    if entry.payload is None:
        return None
    try:
        return _NAMING[entry.header.kind](entry.payload).content
    except PeerFault:
        return None
