"""What a courier disk holds already, from the cards of its bundles (docs/protocol.md, "Courier disks").

A card is the front of a bundle (head and sealed index) and its trailer: enough to know what the bundle brings, and that
it is whole. Of what was set aside as damaged the front comes alone, and counts for nothing but what it may still
hold; so does what was found hollow (`checking`). Cards come from the process that can see the disk; the keys are here.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from protocol.bundles.form import (
    HEAD_BYTES,
    TRAILER_BYTES,
    BundleKeys,
    Head,
    Index,
    PackNote,
    Trailer,
    head_size,
    parse_head,
)
from protocol.errors import Code, PeerFault, TooLarge
from protocol.folds.coursework import Work
from protocol.folds.space_keys import SpaceSecret
from protocol.limits import MAX_BUNDLE_INDEX_BYTES, MAX_BUNDLE_PREFACE_BYTES
from protocol.model.entry import Entry, Kind
from protocol.replica.at_work.replica import Admission
from protocol.replica.console.operation import FileData, FileEnd, FileStart, Incoming, Restart
from protocol.roles import KEEPS_REPORTS, READS_HAND_INS
from sync_agent.app import Agent
from sync_agent.courier.disk import is_set_aside
from sync_agent.hand_ins.for_good import still_to_arrive
from sync_agent.school.measures import schools_of
from sync_agent.sync.peer_news import news_of
from sync_agent.sync.withdrawn import lets_in

COURIER: Final = b"courier"
"""Under this name the quarantine keeps what a disk brought too early."""
_PROVES: Final = frozenset({Kind.ROOT_ROTATION, Kind.CERTIFICATE, Kind.GRANT, Kind.SUCCESSOR})
IN_CLEAR: Final = frozenset(
    {
        *_PROVES,
        Kind.SPACE_KEY,
        Kind.SPACE_WRAP,
        Kind.QUARANTINE,
    }
)
"""What may stand in a bundle's preface, and is taken from one: keys and ids. A `space` entry has a name."""

_MAX_CARD_BYTES: Final = HEAD_BYTES + MAX_BUNDLE_PREFACE_BYTES + MAX_BUNDLE_INDEX_BYTES + 16 + TRAILER_BYTES

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Card:
    """A whole bundle on the disk that this device can open: its file, space and key, and what it brings."""

    name: str
    size: int
    space: bytes
    commitment: bytes
    index: Index


@dataclass(slots=True)
class Survey:
    """All cards: those that open, and the names of those that do not. `spoilt` are those that nobody counts on."""

    cards: list[Card] = field(default_factory=list)
    spoilt: list[Card] = field(default_factory=list)
    locked: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    learned: bool = False
    """Whether the fronts brought entries that may open others: those that are locked are worth another look."""

    def by_space(self) -> dict[bytes, list[Card]]:
        """The cards of each space."""
        return by_space(self.cards)


def by_space(cards: Iterable[Card]) -> dict[bytes, list[Card]]:
    """Cards, those of each space."""
    found: defaultdict[bytes, list[Card]] = defaultdict(list)
    for card in cards:
        found[card.space].append(card)
    return dict(found)


async def survey(agent: Agent, incoming: Incoming, hollow: Collection[str] = ()) -> Survey:
    """Look at the cards that come in; `hollow` are those whose bodies do not open.

    What opens keys and is new here is let in. Raises `LocalFailure`.
    """
    found = Survey()
    before = await agent.replica.store.spaces()
    async for name, data in _cards(incoming):
        try:
            head = parse_head(data[: head_size(data)])
            front = len(head.data) + head.index_bytes
            size = front if is_set_aside(name) else Trailer.parse(data[-TRAILER_BYTES:]).size
        except PeerFault:
            found.damaged.append(name)
            continue
        if head.territory != agent.replica.territory:
            found.foreign.append(name)
            continue
        secret = await key_of(agent, head)
        if secret is None:
            found.locked.append(name)
            continue
        try:
            index = BundleKeys(secret.bundle, head).open_index(data[len(head.data) : front])
            cards = found.spoilt if is_set_aside(name) or name in hollow else found.cards
            cards.append(Card(name, size, head.space, head.commitment, index))
        except PeerFault:
            found.damaged.append(name)
    found.learned = await agent.replica.store.spaces() != before
    return found


async def key_of(agent: Agent, head: Head) -> SpaceSecret | None:
    """The key that opens a bundle, if this device may have it; what the preface says of it is let in first."""
    if head.space not in await agent.spaces() and not await _is_let_in(agent, head):
        return None
    secret = await agent.keyring.secret(head.space, head.commitment)
    if secret is None and head.preface:
        await admit_from_disk(agent, _in_clear(head))
        secret = await agent.keyring.secret(head.space, head.commitment)
    return secret


async def _is_let_in(agent: Agent, head: Head) -> bool:
    """Whether the preface of a space that is not open to this device brings the grant that opens it."""
    if not any(lets_in(entry, agent.device) for entry in head.preface):
        return False
    # … if it does: what else stands there is of a space that is closed, until the door has let that in
    await admit_from_disk(agent, [entry for entry in head.preface if entry.header.kind in _PROVES], hold=False)
    return head.space in await agent.spaces()


async def admit_from_disk(agent: Agent, entries: Sequence[Entry], *, hold: bool = True) -> Admission:
    """Let in what a disk brings; whether the server lacks it is seen when it is next asked. Raises `LocalFailure`."""
    news = news_of(agent.entropy)
    return await agent.replica.admit(entries, source=COURIER, now_ms=agent.now_ms(), hold=hold, news=news, bounded=True)


def _in_clear(head: Head) -> list[Entry]:
    """What a preface may say, of its own space or as proof; what else stands there comes, if it is worth it, sealed."""
    mine = (entry for entry in head.preface if entry.header.kind in _PROVES or entry.header.space == head.space)
    return [entry for entry in mine if entry.header.kind in IN_CLEAR]


def _orders_in(head: Head) -> list[Entry]:
    """The orders to a bundle's own space that its preface brings, and what proves who gave them."""
    said = {entry.id: entry for entry in head.preface if entry.header.kind in _PROVES}
    orders = [entry for entry in head.preface if entry.header.kind == Kind.QUARANTINE]
    taken = {entry.id: entry for entry in orders if entry.header.space == head.space}
    pending = [entry.header.grant for entry in taken.values()]
    while pending:
        if (proof := said.get(pending.pop() or b"")) is not None and proof.id not in taken:
            taken[proof.id] = proof
            pending.append(proof.header.grant)
    rotations = {name for name, entry in said.items() if taken and entry.header.kind == Kind.ROOT_ROTATION}
    return [entry for entry in head.preface if entry.id in taken or entry.id in rotations]


async def hear_orders(agent: Agent, incoming: Incoming) -> list[str]:
    """Of the cards that come in take the orders to this device's schools, and nothing else; the names of the bundles.

    A school under quarantine hears so of its end (docs/adr/0097). Raises `LocalFailure`.
    """
    names = []
    schools = await schools_of(agent)
    async for name, data in _cards(incoming):
        names.append(name)
        try:
            head = parse_head(data[: head_size(data)])
        except PeerFault:
            continue
        if head.territory != agent.replica.territory or head.space not in schools:
            continue
        if orders := _orders_in(head):
            await admit_from_disk(agent, orders, hold=False)
            agent.on_change()
    return names


async def keeps_reports(agent: Agent) -> bool:
    """Whether other devices' health is this device's to carry: it flows up, never down to pupils' machines."""
    return not KEEPS_REPORTS.isdisjoint(await agent.roles())


class Wishes:
    """What this device takes from bundles of one space, as its entries stand now."""

    def __init__(
        self,
        works: dict[bytes, Work],
        *,
        reads_hand_ins: bool,
        made: Callable[[Work], bool],
        still_to_arrive: Callable[[Work], bool],
    ) -> None:
        self._works = works
        self._reads_hand_ins = reads_hand_ins
        self._made = made
        self._still_to_arrive = still_to_arrive

    @classmethod
    async def of(cls, agent: Agent, space: bytes) -> Wishes:
        """For one space."""
        authority = (await agent.spaces()).get(space)
        works = dict((await agent.replica.view(space)).coursework.hand_ins)
        reads = authority is not None and authority.role in READS_HAND_INS
        still = await still_to_arrive(agent, space)
        return cls(works, reads_hand_ins=reads, made=agent.made, still_to_arrive=still)

    def wants(self, pack: PackNote) -> bool:
        """Coursework; of hand-ins what this device reads or made, and what no server and no teacher has yet."""
        if not pack.works or self._reads_hand_ins:
            return True
        return any(self._wants_work(work) for work in pack.works)

    def _wants_work(self, work_id: bytes) -> bool:
        work = self._works.get(work_id)
        if work is None:
            return True
        return self._made(work) or self._still_to_arrive(work)


async def has_news(agent: Agent, card: Card, wishes: Wishes, *, keeps: bool) -> bool:
    """Whether a bundle brings something that is not here."""
    store, content = agent.replica.store, agent.replica.content
    ids = [*card.index.entries, *card.index.bare]
    if len(await store.present(ids)) < len(set(ids)):
        return True
    lacking = {name for _, name in await agent.replica.bare.lacking()}
    if not lacking.isdisjoint(card.index.entries):
        return True
    for pack in card.index.packs:
        if wishes.wants(pack) and await content.pack(pack.hash, card.space) is None:
            return True
    if not keeps or not card.index.registers:
        return False
    here = {row.device: row.at_ms for row in await store.registers()}
    return any(here.get(note.device, -1) < note.at_ms for note in card.index.registers)


async def _cards(incoming: Incoming) -> AsyncIterator[tuple[str, bytes]]:
    """Each card with the name of its bundle's file."""
    name, data = "", bytearray()
    async for event in incoming:
        match event:
            case FileStart():
                name, data = event.path, bytearray()
            case FileData():
                data += event.data
                if len(data) > _MAX_CARD_BYTES:
                    raise TooLarge(Code.TOO_LARGE, "the front of a bundle is larger than allowed", name=name)
            case FileEnd():
                yield name, bytes(data)
            case Restart():
                raise PeerFault(Code.MALFORMED, "a courier disk changes while it is read")
            case _:
                pass
