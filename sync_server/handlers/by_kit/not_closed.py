"""Classes of past years that the kit has not closed, for `status` and the overview (docs/privacy.md, "How long")."""

from __future__ import annotations

from typing import Final

from protocol.replica.office.left_over import NotClosed, classes_not_closed
from protocol.replica.office.spaces import space_records
from sync_server.handlers.store.notices import Notice
from sync_server.opened.app import Server

_MAX_NAMED: Final = 3


async def not_closed(server: Server) -> list[NotClosed]:
    """All of them, the longest past first."""
    return await classes_not_closed(server.replica, await space_records(server), server.now_ms())


async def not_closed_notices(server: Server) -> list[Notice]:
    """One for all of them, which names the first; none where there is none."""
    records = await space_records(server)
    found = await classes_not_closed(server.replica, records, server.now_ms())
    if not found:
        return []
    schools = {space: record.uai for space, record in records.items()}
    named = [
        f"{each.name} ({each.year}, {schools.get(each.school or b'') or '?'}, {each.past_day})"
        for each in found[:_MAX_NAMED]
    ]
    names = ", ".join([*named, *(["…"] if len(found) > len(named) else [])])
    return [Notice("not-closed", {"count": len(found), "names": names, "space": found[0].space.hex()})]
