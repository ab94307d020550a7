"""`drill` and `quarantine` on a head teacher's device: she leads them alone, with or without a server."""

from __future__ import annotations

from protocol.errors import BadInput, Code, Refused
from protocol.identity import school_id
from protocol.model.entry import ID_BYTES, Kind
from protocol.replica.console.abbreviations import whole
from protocol.replica.console.operation import JSON
from protocol.replica.office.ever_called import spaces_ever
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
from protocol.replica.office.names import hex_or_none
from protocol.rights.door import Authority
from protocol.roles import RUNS_A_SCHOOL
from sync_agent.app import Agent
from sync_agent.school.device_names import device_names
from sync_agent.school.measures import schools_of, true_ms
from sync_agent.space_names import space_names


async def start_drill(agent: Agent, school: str | None, minutes: int) -> dict[str, JSON]:
    """Begin one; whether the server has the order, of which the others hear there.

    Raises `BadInput`, `Refused(NO_RIGHT)`.
    """
    space, right = await _led(agent, school)
    measures, now_ms = await measures_of(agent.replica, space), agent.now_ms()
    drill = drill_draft(
        measures,
        space,
        right.grant,
        minutes,
        now_ms,
        dated_ms=agent.replica.next_ms(now_ms),
        true_ms=await true_ms(agent, now_ms),
    )
    (entry,) = await agent.write(drill)
    at_server = agent.tell_drill is not None and await agent.tell_drill()
    return {"drill": entry.id.hex(), "at_server": at_server}


async def stop_drill(agent: Agent, school: str | None) -> dict[str, JSON]:
    """End those that run; until when machines stay in them that do not hear of it."""
    space, right = await _led(agent, school)
    drills = running_drills(await measures_of(agent.replica, space), agent.now_ms())
    if drills:
        await agent.write(*end_drafts(drills, space, right.grant))
    return shown_stop(drills)


async def report_drill(agent: Agent, school: str | None) -> dict[str, JSON]:
    """What the last one has shown. Raises `BadInput(UNKNOWN_ITEM)` if there was none."""
    space = await _school(agent, school)
    drills = (await measures_of(agent.replica, space)).drills
    if not drills:
        raise BadInput(Code.UNKNOWN_ITEM, "there has been no drill in this school")
    spaces = [each for each in await agent.spaces() if space in agent.replica.door.lineage(each)]
    report = await drill_report(agent.replica, drills[0], spaces)
    name = (await space_names(agent)).get(space, space.hex())
    return shown_report(report, name, await device_names(agent), agent.now_ms())


async def start_quarantine(agent: Agent, school: str | None) -> dict[str, JSON]:
    """Impose one, unless this device has."""
    space, right = await _led(agent, school)
    measures, in_doubt = await measures_of(agent.replica, space), await is_in_doubt(agent.replica, space, agent.device)
    drafts = quarantine_drafts(measures, space, right.grant, agent.device, in_doubt=in_doubt)
    if drafts:
        await agent.write(*drafts)
    return {}


async def stop_quarantine(agent: Agent, school: str | None) -> dict[str, JSON]:
    """Lift what there is; how many. Raises `Refused(NO_RIGHT)` where who runs the system has imposed it."""
    space, right = await _led(agent, school)
    measures = await measures_of(agent.replica, space)
    drafts = lift_drafts(measures, space, right.grant, right.rank)
    if drafts:
        await agent.write(*drafts)
    return {"lifted": sum(len(each.parents) for each in drafts)}


async def _led(agent: Agent, school: str | None) -> tuple[bytes, Authority]:
    """The school that is meant, and the right to lead it. Raises `Refused(NO_RIGHT)`."""
    space = await _school(agent, school)
    try:
        return space, await agent.right(space, Kind.DRILL)
    except Refused as refusal:
        sentence = "only the head teacher's device may do that, or who runs the system"
        raise await agent.refusal(sentence, RUNS_A_SCHOOL, space) from refusal


async def _school(agent: Agent, named: str | None) -> bytes:
    schools = await schools_of(agent)
    if named is not None:
        wanted = school_id(agent.replica.territory, named)
        if not agent.replica.door.knows_space(wanted):
            begun = whole(named, await spaces_ever(agent.replica), Code.UNKNOWN_SPACE, "space")
            wanted = hex_or_none(begun, ID_BYTES) or wanted
        schools = [space for space in schools if space == wanted]
    if len(schools) != 1:
        raise BadInput(Code.UNKNOWN_SPACE, "say which school with --school UAI" if schools else "no such school here")
    return schools[0]
