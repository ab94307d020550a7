"""Scenes of a school that plays a drill, or is under quarantine."""

from __future__ import annotations

from protocol.replica.office.measures import measures_of, quarantine_drafts
from sync_agent.school.measures import DrillTransport, ordered, schools_of
from sync_agent.sync.session import Session
from tests.harness.classroom import Classroom, Device

MINUTE = 60_000


async def head_of(room: Classroom) -> Device:
    """The head teacher's device."""
    head = await room.head(person=room.teacher_person)
    await head.session.sync()
    return head


async def school_of(device: Device) -> bytes:
    (school,) = await schools_of(device.agent)
    return school


async def learn(*devices: Device) -> None:
    for device in devices:
        await device.session.sync()


def rehearsing(device: Device) -> DrillTransport:
    """The device, whose way to the server is the one that `run` gives it."""
    way = DrillTransport(device.way, device.agent.enrolment.server_url)
    device.session = Session(device.agent, way)
    return way


async def heed(device: Device, way: DrillTransport) -> None:
    way.follow(await ordered(device.agent))


async def impose(room: Classroom) -> bytes:
    """The server puts the school under quarantine; the school."""
    replica = room.territory.replica
    school = replica.door.parent(room.space) or b""
    for draft in quarantine_drafts(
        await measures_of(replica, school), school, room.territory.certificate.id, room.territory.keys.signing.public
    ):
        await room.territory.say(school, draft.kind, draft.payload)
    return school
