"""Erasures as they were: before what an office orders went with its space or person alone, and whoever says them."""

from __future__ import annotations

from protocol.model.entry import Entry
from protocol.replica.at_work.replica import Replica
from protocol.replica.office.erasures import in_force


def every_name(entry: Entry) -> tuple[bytes, ...]:
    """All names of an entry, whatever it is: an erasure of any of them covers it."""
    header = entry.header
    return tuple(name for name in (header.subject, header.target, entry.id, header.space) if name is not None)


async def closed_by_anybody(replica: Replica) -> set[bytes]:
    """What is hidden by an erasure of anybody's: as if the kit had said it."""
    return {covers for _, covers in await in_force(replica)}
