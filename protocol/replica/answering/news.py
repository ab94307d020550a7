"""What a page of news holds: entries in order of arrival, as many as fit, and where they lead.

docs/protocol.md, "Sync" and "Reconcile".
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from protocol.errors import PeerFault
from protocol.limits import MAX_CALLED, MAX_NAME_CHARS, MAX_SPACES_PER_REQUEST, PAGE_BYTES
from protocol.messages.parts import SpacePage
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Grant
from protocol.reconcile.checkpoint import EMPTY_CHAIN, Checkpoint, standing_of
from protocol.reconcile.set_digest import fingerprint_of
from protocol.replica.answering.named_cursors import NamedCursors
from protocol.replica.at_work.replica import Replica
from protocol.rights.door import Authority, Door
from protocol.roles import RUNS_A_SCHOOL

_ENTRIES_AT_ONCE: Final = 16


def called_in(
    pages: Iterable[SpacePage], readable: Mapping[bytes, Authority], door: Door, name_of: Callable[[bytes], str | None]
) -> tuple[tuple[bytes, str], ...]:
    """The devices whose grants are in these pages, with their names, where the caller runs the school.

    Not where it only reads what lies above its school, and not for keys that it named itself, which may be anybody's.
    """
    names: dict[bytes, str] = {}
    for page in pages:
        authority = readable.get(page.checkpoint.space)
        if authority is None or not _runs(authority, page.checkpoint.space, door):
            continue
        for entry in page.entries:
            if _is_anothers_grant(entry, authority) and len(names) < MAX_CALLED:
                with contextlib.suppress(PeerFault):
                    key = Grant.parse(entry.payload or b"").signing
                    if name := name_of(key):
                        names[key] = name[:MAX_NAME_CHARS]
    return tuple(names.items())


def _runs(authority: Authority, space: bytes, door: Door) -> bool:
    return authority.role in RUNS_A_SCHOOL and authority.space in door.lineage(space)


def _is_anothers_grant(entry: Entry, authority: Authority) -> bool:
    return entry.header.kind == Kind.GRANT and entry.header.author != authority.key


class News:
    """The entries of one replica, as callers get them."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    async def pages(
        self, cursors: NamedCursors, readable: Mapping[bytes, Authority], pushed: set[bytes], *, brief: bool
    ) -> tuple[list[SpacePage], list[bytes], bool]:
        """What came after the cursors, the spaces whose cursors are not ours, and whether there is more.

        `pushed` are the entries that the caller has just brought; `brief` asks where we stand, and for no entries. Who
        names as many spaces as a request holds gets nothing of others: it may hold that, and name it never.
        """
        pages: list[SpacePage] = []
        stale: list[bytes] = []
        room = PAGE_BYTES
        more = False
        for space in readable:
            cursor = cursors.of(space)
            if cursor is None and not cursors.names_all:
                continue
            after, chain = (0, EMPTY_CHAIN) if cursor is None else (cursor.count, cursor.chain)
            position = await self._replica.position(space)
            # most callers stand where we do: that is known without a look at the disk
            there = position.chain if position.count == after else await self._replica.store.chain_at(space, after)
            if after and there != chain:
                stale.append(space)
                continue
            if position.count == after:
                continue
            if room <= 0 or len(pages) == MAX_SPACES_PER_REQUEST:
                more = True
                continue
            if brief:
                head = Checkpoint(space, position.count, position.chain, await self._replica.fingerprint(space))
                pages.append(SpacePage(head, (), (), more=True))
                continue
            arrived = await self._replica.store.page(space, after, room)
            last = arrived[-1].arrival
            room -= sum(stored.entry.wire_bytes for stored in arrived)
            chain = await self._replica.store.chain_at(space, last) or EMPTY_CHAIN
            # The last page shows the fingerprint of exactly the set to which it leads.
            records = await self._replica.records(space)
            is_last = len(records) == last
            entries = tuple(stored.entry for stored in arrived if stored.entry.id not in pushed)
            pages.append(
                SpacePage(Checkpoint(space, last, chain, fingerprint_of(records)), entries, (), more=not is_last)
            )
            more = more or not is_last
        return pages, stale, more

    async def heads(self, counts: Mapping[bytes, int]) -> list[SpacePage]:
        """Pages without news: the fingerprints of sets that a caller knows as they stand, and holds others in place of.

        `counts` are how many arrivals of each space it knows.
        """
        pages: list[SpacePage] = []
        for space, count in counts.items():
            if len(pages) == MAX_SPACES_PER_REQUEST:
                break
            position = await self._replica.position(space)
            # what has come since is news, and comes as such
            if count and position.count == count and len(records := await self._replica.records(space)) == count:
                head = Checkpoint(space, count, position.chain, fingerprint_of(records))
                pages.append(SpacePage(head, (), (), more=False))
        return pages

    async def standing(self, readable: Mapping[bytes, Authority]) -> bytes:
        """Where all these spaces stand, in one hash."""
        places = [(space, await self._replica.position(space)) for space in readable]
        return standing_of((space, position.count, position.chain) for space, position in places)

    async def entries(self, space: bytes, wanted: Sequence[bytes]) -> tuple[tuple[Entry, ...], tuple[bytes, ...]]:
        """Entries of this space, as many as fit into a page, and the ids that are left to be asked for again."""
        room = PAGE_BYTES
        fitting: list[Entry] = []
        for start in range(0, len(wanted), _ENTRIES_AT_ONCE):
            some = wanted[start : start + _ENTRIES_AT_ONCE]
            found = await self._replica.store.get(some)
            for place, name in enumerate(some, start):
                entry = found.get(name)
                if entry is None or entry.header.space != space:
                    continue
                room -= entry.wire_bytes
                if room < 0 and fitting:
                    return tuple(fitting), tuple(wanted[place:])
                fitting.append(entry)
        return tuple(fitting), ()
