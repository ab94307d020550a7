"""Which erasures are in force, whose word they are, which wait for another's (docs/protocol.md, "Erasure")."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.erasures import in_force
from protocol.replica.upkeep.orders import destroyed_in, is_in_doubt
from sync_server.handlers.store.notices import Notice
from sync_server.opened.app import Server


@dataclass(frozen=True, slots=True)
class Forgetting:
    """An erasure in force: what it covers, whether it is destroyed here, whether it waits for somebody else's word."""

    entry: Entry
    covers: bytes
    destroyed: bool
    in_doubt: bool


async def list_erasures(server: Server) -> list[Forgetting]:
    """Every erasure that counts, in order of arrival."""
    done = await destroyed_in(server.replica)

    def is_done(entry: Entry, covers: bytes) -> bool:
        return any(covers in done.get(space, ()) for space in server.replica.door.lineage(entry.header.space))

    return [
        Forgetting(entry, covers, is_done(entry, covers), await is_in_doubt(server.replica, entry))
        for entry, covers in await in_force(server.replica)
    ]


async def confirm_destroyed(server: Server) -> int:
    """Say again what is destroyed here and was ordered only by devices that were cut off since; how many that were.

    The week in which somebody could have seen that it was wrong is over, and machines that come later must forget too.
    """
    doubtful = await _in_doubt_alone(server)
    left = {(each.entry.header.space, each.covers): None for each in doubtful if each.destroyed}
    drafts = [Draft(space, Kind.ERASE, server.grant, Erasure(covers).encode()) for space, covers in left]
    if drafts:
        await server.write(drafts)
    return len(drafts)


async def waiting_for_a_word(server: Server) -> int:
    """How many names are hidden by the word of keys that were cut off since, and destroyed nowhere meanwhile."""
    return len({each.covers for each in await _in_doubt_alone(server) if not each.destroyed})


async def erasure_notices(server: Server) -> list[Notice]:
    """That somebody is hidden and destroyed nowhere, which nobody sees who does not ask for it."""
    count = await waiting_for_a_word(server)
    return [Notice("erasures-waiting", {"count": count})] if count else []


async def _in_doubt_alone(server: Server) -> list[Forgetting]:
    """The erasures of devices that were cut off since which nobody else has said too, as far as they reach."""
    erasures = await list_erasures(server)
    sure = {(each.entry.header.space, each.covers) for each in erasures if not each.in_doubt}
    lineage = server.replica.door.lineage
    return [
        each
        for each in erasures
        if each.in_doubt and sure.isdisjoint((space, each.covers) for space in lineage(each.entry.header.space))
    ]
