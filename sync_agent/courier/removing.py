"""Which bundles may leave a courier disk once an export has written what it has (docs/adr/0279).

Rules:
- whoever removes a bundle has, or can do without, all that it holds: what is here and in force is written again first,
  what is not here is on the disk alone, as far as anybody knows;
- content that is not here is missed while its work may still be needed: nobody has opened it for good, and what is
  merely hidden, or not known, counts as that; what no work names, while something open that is in force lacks here;
- a bundle that holds what was destroyed here goes as soon as nothing of it is missed, whatever others on the disk name.
  For that what the server has by its receipt is not missed: who was erased would else travel until somebody opened it;
- one of which nearly nothing is of use goes while the disk knows no more of its space than this device;
- an entry that is merely bare here and whole there keeps its bundle: the erasure was taken back, or is not due;
- what was set aside as damaged is read by nobody any more: for who was erased it goes as soon as its entries are here.

docs/protocol.md, "Courier disks".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from protocol.bundles.form import Index, PackNote
from protocol.folds.coursework import Work, live_content
from protocol.limits import MiB
from protocol.replica.content.holdings import Need, work_need
from sync_agent.app import Agent
from sync_agent.courier.disk import is_set_aside
from sync_agent.courier.survey import Card
from sync_agent.hand_ins.for_good import opened_for_good

_WASTE_BYTES: Final = 16 * MiB
_WASTE_SHARE: Final = 4


@dataclass(frozen=True, slots=True)
class Known:
    """What a device has of a space: its entries; those that are `bare` for now; those that were `destroyed` here.

    `of_use` are the packs that it has and would write onto a disk.
    """

    entries: frozenset[bytes]
    bare: frozenset[bytes]
    destroyed: frozenset[bytes]
    of_use: frozenset[bytes]


async def leaving(
    agent: Agent, space: bytes, cards: Collection[Card], again: Iterable[Card], known: Known
) -> list[Card]:
    """The bundles of a space that may be removed, of those that lie there; `again` are due to be, for their key."""
    erased = [card for card in cards if holds_erased(card, known) and is_read(card, known)]
    waste = []
    if all(is_read(card, known) for card in cards):
        due = [*again, *(card for card in cards if is_waste(card, known))]
        waste = [card for card in due if known.bare.isdisjoint(card.index.entries)]
    if not erased and not waste:
        return []
    missing = await Missing.of(agent, space, known.destroyed)
    found = [card for card in erased if await _lets_go(card, known, missing)]
    for card in waste:
        if card not in found and not await missing.is_in(card):
            found.append(card)
    return found


async def _lets_go(card: Card, known: Known, missing: Missing) -> bool:
    """Whether a bundle that holds what was destroyed goes, as far as what else it holds is concerned."""
    if is_set_aside(card.name):
        return True
    if not known.bare.isdisjoint(card.index.entries):
        return False
    return not await missing.is_in(card, but_for_the_server=True)


def is_read(card: Card, known: Known) -> bool:
    """Whether all entries that a bundle names are here."""
    return known.entries.issuperset((*card.index.entries, *card.index.bare))


def holds_erased(card: Card, known: Known) -> bool:
    """Whether a bundle holds what was destroyed here: words, or sealed work."""
    works = (work for pack in card.index.packs for work in pack.works)
    return not known.destroyed.isdisjoint((*card.index.entries, *works))


def is_waste(card: Card, known: Known) -> bool:
    """Whether a bundle holds little but content that is of no use any more."""
    waste = sum(pack.size for pack in card.index.packs if pack.hash not in known.of_use)
    total = sum(pack.size for pack in card.index.packs)
    return waste >= _WASTE_BYTES and (total - waste) * _WASTE_SHARE < total


class Missing:
    """What content of a space is not here, and may be missed. Made by `of`."""

    def __init__(
        self,
        agent: Agent,
        space: bytes,
        works: Mapping[bytes, Work],
        open_needs: Iterable[Need],
        is_opened: Callable[[Work], bool],
        destroyed: Collection[bytes],
    ) -> None:
        self._agent = agent
        self._space = space
        self._works = works
        self._open_needs = list(open_needs)
        self._is_opened = is_opened
        self._destroyed = destroyed
        self._lacks_open: bool | None = None

    @classmethod
    async def of(cls, agent: Agent, space: bytes, destroyed: Collection[bytes]) -> Missing:
        """As the entries of a space stand now; `destroyed` are those of which nothing is left but headers."""
        coursework = (await agent.replica.view(space)).coursework
        needs = (Need(space, ref.stream, sealed=False) for ref in live_content(coursework))
        is_opened = await opened_for_good(agent, space)
        return cls(agent, space, coursework.hand_ins, needs, is_opened, destroyed)

    async def is_in(self, card: Card, *, but_for_the_server: bool = False) -> bool:
        """Whether a bundle holds any of it; `but_for_the_server`: what that has by its receipt is not missed."""
        absent = await self._absent(card.index)
        if any(not pack.works for pack in absent) and await self._does_open_content_lack():
            return True
        needs = []
        for name in {name for pack in absent for name in pack.works}.difference(self._destroyed):
            work = self._works.get(name)
            if work is None:
                return True
            if not (self._is_opened(work) or (but_for_the_server and work.at_server)):
                needs.append(work_need(work))
        return bool(await self._agent.holdings.incomplete(needs, 1))

    async def _absent(self, index: Index) -> list[PackNote]:
        content = self._agent.replica.content
        return [pack for pack in index.packs if await content.pack(pack.hash, self._space) is None]

    async def _does_open_content_lack(self) -> bool:
        if self._lacks_open is None:
            self._lacks_open = bool(await self._agent.holdings.incomplete(self._open_needs, 1))
        return self._lacks_open
