"""What a sync request says: cursors, the outbox, small packs, offers, wishes, health (R12; docs/protocol.md, "Sync").

Rules:
- the first request of a sync stays small, so that it costs little where a round trip is what hurts;
- an entry that waits at the server is sent again only when something has moved, or after a while; each request says how
  many entries the server will not have taken after it: whoever asks for nothing has not told all yet (docs/adr/0338);
- each but a report alone says what is held here, but for what is left to send, unless more lies here than the server
  was seen to hold: that is compared without being asked (docs/adr/0340, docs/adr/0467);
- each but a report alone says of which spaces it is not told what is held here, since they are closed to this device,
  under whatever key it was let in (docs/adr/0359, docs/adr/0369);
- what a publication changed goes up as a delta, in place of its packs, unless the server turns out to need them;
- a small pack travels inside, the smallest first, those that do not fit with the next request; a larger one is offered;
- nothing is said twice in one sync without a reason, so that a sync always ends;
- content that the server could not give is asked for again after an eighth of the time that it was waited for, unless
  somebody waits for this sync.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from protocol.clock import milliseconds_of
from protocol.errors import Code
from protocol.limits import (
    FIRST_PUSH_BYTES,
    INLINE_PACK_BYTES,
    INLINE_TOTAL_BYTES,
    MAX_ENDED_SPACES,
    MAX_OFFERS,
    MAX_PUSHED_BYTES,
)
from protocol.messages.calls import SyncRequest
from protocol.messages.held_names import HeldNames
from protocol.messages.parts import Held, InlinePack, Offer, Wanted
from protocol.model.entry import Entry, Kind
from protocol.model.register import Health, RegisterKind, compose_register
from protocol.reconcile.checkpoint import Checkpoint, Cursor
from protocol.replica.at_work.deserted import but_for_deserted
from protocol.replica.at_work.readers import ever_opened_to
from protocol.replica.content.holdings import work_need
from protocol.replica.interfaces import PackInfo, Position, RegisterRow
from sync_agent.app import Agent
from sync_agent.coursework.deflating import own_levels
from sync_agent.health import health_of, last_health, worth_saying
from sync_agent.machine.marks import GENERATION_MARK, HEALTH_MARK, NO_STRONG_MARK
from sync_agent.machine.refusals import oldest_refused_hand_in, refused_ids
from sync_agent.pacing.budget import is_metered
from sync_agent.sync.acknowledged import left_by_space, left_to_send, unseen
from sync_agent.sync.carried_reports import reports_due
from sync_agent.sync.cursors import check_named, read_cursors, shown_cursors, standing
from sync_agent.sync.room import Room, named_sizes
from sync_agent.sync.sharing import Sharing

MAX_WANTED: Final = 500
MAX_INLINE_PACKS: Final = 200
PARKED_MS: Final = 60_000
WISH_PAUSE_PART: Final = 8
LONGEST_WISH_PAUSE_MS: Final = 30 * 60_000


@dataclass(slots=True)
class Parked:
    """Entries that wait at the server for something that it lacks: their sizes, since when, whether something moved."""

    sizes: dict[bytes, int] = field(default_factory=dict)
    since_ms: int = 0
    moved: bool = False

    def add(self, entries: Iterable[Entry], now_ms: int) -> None:
        """These were sent and wait."""
        self.sizes.update({entry.id: entry.wire_bytes for entry in entries})
        self.since_ms, self.moved = now_ms, False

    def drop(self, ids: Iterable[bytes]) -> None:
        """These wait no longer."""
        for entry_id in ids:
            self.sizes.pop(entry_id, None)

    def is_due(self, now_ms: int) -> bool:
        """Whether to send them again."""
        return bool(self.sizes) and (self.moved or not 0 <= now_ms - self.since_ms < PARKED_MS)


@dataclass(slots=True)
class Said:
    """What was said in one sync, and must not be said again in it without a reason.

    `due` are packs that the server was found to lack; `complete` the spaces that had all their content when last looked
    at; `fetching` says that links are waiting to be worked off, so that nothing is wished for yet; `held` that the
    budget holds large content back, except that of hand-ins; `strong_wishes` what was asked for in the fewest bytes,
    and `strong_settled` that what came of it has been looked at; `held_of` the spaces of which it is to be said what is
    held, because a part of what is missing is here; `patient` that nobody waits for this sync; `by_name` that the
    server asked for the cursors themselves; `worth` what a patient sync has asked for, and may ask for again;
    `returning` the spaces that the server sends although this device knows them as closed to it, and how far they came:
    nothing of that is noted for good before what lets it in has come.
    """

    requests: int = 0
    packs: set[bytes] = field(default_factory=set)
    wishes: set[tuple[bytes, bytes]] = field(default_factory=set)
    due: dict[bytes, PackInfo] = field(default_factory=dict)
    complete: set[bytes] = field(default_factory=set)
    fetching: bool = False
    whole: bool = False
    held: bool = False
    strong_wishes: frozenset[tuple[bytes, bytes]] = frozenset()
    strong_settled: bool = False
    held_of: dict[bytes, HeldNames] = field(default_factory=dict)
    patient: bool = False
    by_name: bool = False
    worth: set[tuple[bytes, bytes]] = field(default_factory=set)
    returning: dict[bytes, Checkpoint] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, the packs that it carries and offers, the own health report that it brings, if any, and others'.

    `noted` is what was noted of the last report when this one was composed.
    """

    request: SyncRequest
    carried: tuple[PackInfo, ...]
    offered: tuple[PackInfo, ...]
    health: Health | None
    reports: tuple[RegisterRow, ...] = ()
    noted: bytes | None = None

    @property
    def packs(self) -> dict[bytes, PackInfo]:
        """All packs that it speaks of, by hash."""
        return {pack.hash: pack for pack in (*self.carried, *self.offered)}

    @property
    def has_news(self) -> bool:
        """Whether it says more than where this agent stands."""
        request = self.request
        return bool(request.push or request.packs or request.offers or request.want)


class Asking:
    """Composes the requests of an agent's syncs."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.room = Room(agent)
        """What is asked for finds room there, and has it made as it comes."""
        self.parked = Parked()
        self.closed: set[bytes] = set()
        self.trouble: Code | None = None
        self.skew_ms = 0
        self.thin = False
        """Whether the line has turned out to be thin."""
        self.challenge: bytes | None = None
        """The latest that the server gave."""
        self.wants_live = False
        """Whether to ask for the capability to listen for news."""
        self._wished: dict[tuple[bytes, bytes], tuple[int, int]] = {}

    async def compose(self, said: Said, sharing: Sharing | None = None) -> Asked:
        """The next request of a sync in which `said` was said.

        Raises `PeerFault` where the server names more classes, closed to this device, than a request may hold.
        """
        check_named(said.returning)
        agent = self._agent
        store = agent.replica.store
        spaces = list(await agent.spaces())
        wanted = [] if said.fetching else await self._wanted(spaces, said, sharing)
        push = await self._push(FIRST_PUSH_BYTES if said.requests == 0 else MAX_PUSHED_BYTES)
        inline, offers = await self._packs(said)
        noted = await store.mark(HEALTH_MARK)
        health = await self._health(push, inline)
        reports = await reports_due(agent)
        thin = await self._asks_for_little(said, wanted)
        known = await read_cursors(store)
        known |= {space: Position(there.count, there.chain) for space, there in said.returning.items()}
        beyond = sum((await unseen(agent)).values())
        untaken = await self._untaken(push) or beyond
        # a report and nothing else stays below a kilobyte both ways; the next question tells
        only_reports = (health is not None or reports) and not push
        quiet = not (said.requests or said.by_name or push or inline or offers or wanted)
        stands = standing(spaces, known, said.complete) if quiet else None
        # what neighbours brought to several goes up once: who is named for it compares
        leaves = sharing is not None and sharing.leaves_any(spaces)
        request = SyncRequest(
            generation=await store.mark(GENERATION_MARK),
            cursors=() if stands is not None else self._shown((*spaces, *said.returning), known, said.complete),
            standing=stands,
            push=tuple(push),
            packs=tuple([await self._inline(pack) for pack in inline]),
            offers=tuple(Offer(pack.space, pack.hash, pack.size) for pack in offers),
            want=tuple(wanted),
            registers=(*(() if health is None else (self._signed(health),)), *(row.data for row in reports)),
            live=self.wants_live and said.requests == 0,
            thin=thin,
            levels=await own_levels(agent),
            held=tuple(Held(space, names.encode()) for space, names in said.held_of.items()),
            brief=leaves and not said.whole,
            untaken=untaken,
            sets=None if only_reports or (beyond and leaves) else await self._sets(spaces),
            ended=() if only_reports else await self._ended(spaces),
            challenge=None if only_reports else self.challenge,
        )
        return Asked(request, tuple(inline), tuple(offers), health, tuple(reports), noted)

    def _shown(
        self, spaces: Iterable[bytes], known: Mapping[bytes, Position], complete: Iterable[bytes]
    ) -> tuple[Cursor, ...]:
        return shown_cursors(list(dict.fromkeys(spaces)), known, complete, self._agent.replica.door.spaces())

    async def _asks_for_little(self, said: Said, wanted: list[Wanted]) -> bool:
        """Whether to say that the line is thin, or metered: until what is wanted has been asked for, once in a sync."""
        budget = self._agent.budget
        thin = self.thin or is_metered(budget.limits, metered=budget.metered)
        if not thin or said.strong_wishes or await self._agent.replica.store.mark(NO_STRONG_MARK):
            return False
        said.strong_wishes = frozenset((wish.space, wish.stream) for wish in wanted)
        return True

    async def _wanted(self, spaces: list[bytes], said: Said, sharing: Sharing | None) -> list[Wanted]:
        """Missing content that was not asked for yet; notes which spaces are complete."""
        missing = await self._agent.missing()
        room = missing if said.held else await self.room.fitting(missing)
        said.complete = set(spaces) - {need.space for need in missing}
        wished = [
            (need.space, need.stream)
            for need in room
            if need.space not in self.closed and (need.sealed or not said.held)
        ]
        now_ms = self._agent.now_ms()
        self._wished = {wish: self._wished[wish] for wish in wished if wish in self._wished}
        due = [wish for wish in dict.fromkeys(wished) if wish not in said.wishes]
        if sharing is not None:
            sizes = await named_sizes(self._agent, {need.space for need in missing})
            sharing.still_misses(
                {Wanted(need.space, need.stream): sizes.get((need.space, need.stream), 0) for need in missing}
            )
            sealed = {need.stream for need in missing if need.sealed}
            due = [wish for wish in due if wish[1] in sealed or sharing.is_mine(Wanted(*wish), content=True)]
        if said.patient:
            due = [wish for wish in due if wish in said.worth or self._is_worth_asking(wish, now_ms)]
        del due[MAX_WANTED:]
        said.worth.update(due)
        self._wished.update({wish: (self._wished.get(wish, (now_ms, 0))[0], now_ms) for wish in due})
        return [Wanted(*wish) for wish in due]

    def _is_worth_asking(self, wish: tuple[bytes, bytes], now_ms: int) -> bool:
        """What was asked for long in vain is asked for more seldom: it may be that nobody has it any more."""
        first_ms, last_ms = self._wished.get(wish, (now_ms, now_ms))
        pause_ms = min((last_ms - first_ms) // WISH_PAUSE_PART, LONGEST_WISH_PAUSE_MS)
        return not 0 <= now_ms - last_ms < pause_ms

    async def _push(self, room: int) -> list[Entry]:
        """The oldest entries that are not known to wait, or else those that do, if it is time."""
        parked = self.parked.sizes
        outbox = await self._agent.replica.store.unsent(room + sum(parked.values()))
        fresh = [entry for entry in outbox if entry.id not in parked]
        if not fresh and self.parked.is_due(self._agent.now_ms()):
            fresh = outbox
        fitting: list[Entry] = []
        for entry in fresh:
            room -= entry.wire_bytes
            if room < 0 and fitting:
                break
            fitting.append(entry)
        return fitting

    async def _packs(self, said: Said) -> tuple[list[PackInfo], list[PackInfo]]:
        """Packs to carry, and packs to offer; deltas first, in the order of their making, not what they cover."""
        content = self._agent.replica.content
        deltas = [PackInfo(delta.hash, delta.size, delta.space) for delta in await content.unsent_deltas()]
        covered = {pack for delta in await content.unsent_deltas() for pack in delta.covers}
        packs = {pack.hash: pack for pack in await content.unsent_packs() if pack.hash not in covered}
        packs.update(said.due)
        large = any(pack.size > INLINE_PACK_BYTES for pack in (*deltas, *packs.values()))
        urgent = await _hand_in_packs(self._agent) if large else frozenset()
        room = INLINE_TOTAL_BYTES
        gone = self.closed | set(await self._agent.ended_classes())
        inline: list[PackInfo] = []
        offers: list[PackInfo] = []
        for pack in [*deltas, *sorted(packs.values(), key=lambda pack: (pack.size, pack.hash))]:
            if pack.hash in said.packs or pack.space in gone:
                continue
            if pack.size > INLINE_PACK_BYTES:
                if pack.hash in urgent or not said.held:
                    offers.append(pack)
            elif pack.size <= room and len(inline) < MAX_INLINE_PACKS:
                inline.append(pack)
                room -= pack.size
        offers.sort(key=lambda pack: pack.hash not in urgent)
        return inline, offers[:MAX_OFFERS]

    async def _inline(self, pack: PackInfo) -> InlinePack:
        return InlinePack(pack.space, await self._agent.replica.content.read_pack(pack.hash, 0, pack.size))

    async def only_health(self, trouble: Code) -> Asked | None:
        """A request that reports `trouble` and says nothing else, or None if the server knows already."""
        store = self._agent.replica.store
        noted = await store.mark(HEALTH_MARK)
        health = await self._health([], [], trouble)
        if health is None:
            return None
        spaces = list(await self._agent.spaces())
        request = SyncRequest(
            generation=await store.mark(GENERATION_MARK),
            cursors=self._shown(spaces, await read_cursors(store), ()),
            push=(),
            packs=(),
            offers=(),
            want=(),
            registers=(self._signed(health),),
            untaken=await self._untaken([]),
        )
        return Asked(request, (), (), health, noted=noted)

    async def _health(self, push: list[Entry], inline: list[PackInfo], trouble: Code | None = None) -> Health | None:
        """The report, if it says something new: what will still be unsent when this request has arrived.

        What has waited at the server may wait there again: it counts as unsent until it was taken (docs/adr/0442).
        """
        store, content = self._agent.replica.store, self._agent.replica.content
        _, wire_bytes = await store.unsent_totals()
        push = [entry for entry in push if entry.id not in self.parked.sizes]
        untaken = await self._untaken(push)
        leaving = {pack.hash for pack in inline}
        leaving |= {pack for delta in await content.unsent_deltas() if delta.hash in leaving for pack in delta.covers}
        packs = {pack.hash: pack.size for pack in await content.unsent_packs() if pack.hash not in leaving}
        report = await health_of(
            self._agent,
            untaken,
            max(0, wire_bytes - sum(entry.wire_bytes for entry in push)) + sum(packs.values()),
            trouble or self.trouble or self._trouble_here(),
            oldest_ms=await self._oldest_hand_in(push) if untaken else None,
            skew_ms=self.skew_ms,
        )
        return worth_saying(report, await last_health(store))

    def _trouble_here(self) -> Code | None:
        if self._agent.is_disk_full:
            return Code.DISK_FULL
        return Code.INTERNAL if self._agent.unforeseen.is_fresh() else None

    async def _untaken(self, push: list[Entry]) -> int:
        """How many entries the server will not have taken when this has arrived: unsent ones, and what it refuses."""
        return max(0, await left_to_send(self._agent) - len(push))

    async def _sets(self, spaces: Iterable[bytes]) -> bytes | None:
        """All that is held here of what the server may hear of, but for what is left to send, in one hash."""
        replica = self._agent.replica
        counts = [(space, (await replica.position(space)).count) for space in spaces]
        return await replica.digests.sets(counts, await left_by_space(self._agent))

    async def _ended(self, spaces: Collection[bytes]) -> tuple[bytes, ...]:
        """The spaces of which something is held here, and which this device may read no more, whatever its key was.

        But for what the root has taken back, and nobody is in.
        """
        replica, keys = self._agent.replica, (self._agent.device, *self._agent.former)
        ever = set[bytes]().union(*(ever_opened_to(replica.door, key) for key in keys)).difference(spaces)
        ended = await but_for_deserted(replica.door, replica.deserted_by_root, ever)
        held = await replica.store.spaces() if ended else {}
        # of so many that they are cut short nothing counts as told
        return tuple(sorted(space for space in ended if held.get(space)))[:MAX_ENDED_SPACES]

    async def _oldest_hand_in(self, push: list[Entry]) -> int | None:
        """The time of the oldest hand-in that the server will not have taken, of those that a message could hold."""
        leaving = {entry.id for entry in push}
        store = self._agent.replica.store
        outbox = await store.unsent(MAX_PUSHED_BYTES)
        staying = [entry for entry in outbox if entry.header.kind == Kind.HAND_IN and entry.id not in leaving]
        times = [milliseconds_of(entry.header.at) for entry in staying]
        refused_ms = await oldest_refused_hand_in(store, await refused_ids(store))
        return min([*times, *(() if refused_ms is None else (refused_ms,))], default=None)

    def _signed(self, health: Health) -> bytes:
        """The report as the server takes it: dated by the server's clock as far as it is known."""
        at_ms = max(0, self._agent.now_ms() - self.skew_ms)
        device = self._agent.keys.signing
        return compose_register(device, RegisterKind.HEALTH, device.public, at_ms, health.encode()).data


async def _hand_in_packs(agent: Agent) -> frozenset[bytes]:
    """The packs with pupils' work that the server has not confirmed: they go first, and no budget holds them."""
    found: set[bytes] = set()
    for space in await agent.spaces():
        for work in (await agent.replica.view(space)).coursework.hand_ins.values():
            if not work.at_server:
                found.update(pack.hash for pack in await agent.holdings.packs(work_need(work)))
    return frozenset(found)
