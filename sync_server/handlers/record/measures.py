"""Drills and quarantine of a school, ordered by who runs the system (docs/protocol.md, "Measures")."""

from __future__ import annotations

from protocol.errors import BadInput, Code
from protocol.replica.console.operation import JSON
from protocol.replica.office.measures import (
    drill_draft,
    drill_report,
    end_drafts,
    is_in_doubt,
    lift_drafts,
    measures_of,
    quarantine_drafts,
    running_drills,
    shown_report,
    shown_stop,
)
from protocol.roles import RANK, Role
from sync_server.opened.app import Server


async def start_drill(server: Server, school: bytes, minutes: int) -> bytes:
    """Begin a drill; its id. Raises `BadInput(USAGE)`."""
    measures = await measures_of(server.replica, school)
    now_ms = server.now_ms()
    dated_ms = server.replica.next_ms(now_ms)
    draft = drill_draft(measures, school, server.grant, minutes, now_ms, dated_ms=dated_ms, true_ms=now_ms)
    (entry,) = await server.write([draft])
    return entry.id


async def stop_drill(server: Server, school: bytes) -> dict[str, JSON]:
    """End the drills that run; until when machines stay in them that do not hear of it."""
    drills = running_drills(await measures_of(server.replica, school), server.now_ms())
    if drills:
        await server.write(end_drafts(drills, school, server.grant))
    return shown_stop(drills)


async def report_drill(server: Server, school: bytes, name: str) -> dict[str, JSON]:
    """What the last drill has shown. Raises `BadInput(UNKNOWN_ITEM)` if there was none."""
    drills = (await measures_of(server.replica, school)).drills
    if not drills:
        raise BadInput(Code.UNKNOWN_ITEM, "there has been no drill in this school")
    report = await drill_report(server.replica, drills[0], server.replica.door.below(school))
    names: dict[bytes, str | None] = {}
    for key in {*report.parts, drills[0].by}:
        health = server.reports.of(key)
        names[key] = server.contacts.of(key).name if health is None else health.name
    return shown_report(report, name, names, server.now_ms())


async def start_quarantine(server: Server, school: bytes) -> bool:
    """Impose a quarantine, unless this key has; whether a drill is running, in which machines seldom ask for orders."""
    measures = await measures_of(server.replica, school)
    key = server.own_device[0]
    in_doubt = await is_in_doubt(server.replica, school, key)
    drafts = quarantine_drafts(measures, school, server.grant, key, in_doubt=in_doubt)
    if drafts:
        await server.write(drafts)
    return bool(running_drills(measures, server.now_ms()))


async def stop_quarantine(server: Server, school: bytes) -> dict[str, JSON]:
    """Lift whatever quarantine there is; how many."""
    measures = await measures_of(server.replica, school)
    drafts = lift_drafts(measures, school, server.grant, RANK[Role.SERVER])
    if drafts:
        await server.write(drafts)
    return {"lifted": sum(len(each.parents) for each in drafts)}
