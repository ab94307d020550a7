"""A stolen key orders without end what a school may be told to do for a while (docs/protocol.md, "Measures")."""

from __future__ import annotations

import html

from protocol.clock import at_from
from protocol.folds.measures import DrillOrder, QuarantineOrder
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Erasure, Revocation
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.measures import measures_of
from sync_agent.school.measures import ordered
from tests.harness.attack import attack
from tests.harness.classroom import Classroom, Device
from tests.harness.erasures import every_name
from tests.harness.portal import portal

HOUR_MS = 3_600_000


LOOK_MS = HOUR_MS // 2
DAY_LOOKS = 48


async def orders(room: Classroom, thief: Device, school: bytes, *, days: int) -> list[Entry]:
    """A drill of three hours every three hours, for days to come."""
    grant = (await thief.agent.right(school, Kind.DRILL)).grant
    return [
        compose(
            author=thief.agent.keys.signing,
            space=school,
            kind=Kind.DRILL,
            grant=grant,
            at=at_from(room.territory.clock() + hour * HOUR_MS),
            payload=DrillOrder(180).encode(),
            salt=bytes(16),
        )
        for hour in range(0, 24 * days, 3)
    ]


@attack(
    "drills without end",
    off={
        "sync_agent.school.measures.may_begin": lambda *_: True,
        "sync_agent.school.measures.is_early": lambda *_: False,
    },
)
async def test_whatever_a_thief_orders_machines_hear_the_same_day_that_the_thief_was_cut_off(room: Classroom) -> None:
    territory = room.territory
    school = room.school
    thief, machine = await room.head(person=room.teacher_person), await room.machine()
    await thief.session.sync()
    flood = await orders(room, thief, school, days=4)
    admission = await territory.replica.admit(flood, source=thief.agent.device, now_ms=territory.clock())
    assert len(admission.admitted) == len(flood)
    await machine.session.sync()
    await territory.say(school, Kind.REVOKE, Revocation(thief.agent.device, ()).encode())
    cut = []
    for _ in range(3 * DAY_LOOKS):
        cut.append((await ordered(machine.agent)).drill is not None)
        territory.clock.advance(LOOK_MS)
    by_day = [sum(cut[start : start + DAY_LOOKS]) for start in range(2 * DAY_LOOKS)]
    assert max(by_day) * LOOK_MS <= 3 * HOUR_MS
    # the way is open, and the word comes by it
    await machine.session.sync()
    for _ in range(DAY_LOOKS):
        assert (await ordered(machine.agent)).drill is None
        territory.clock.advance(LOOK_MS)


@attack("an erasure takes back what a higher office ordered", off={"protocol.rights.roster.covering_names": every_name})
async def test_a_stolen_heads_laptop_erases_no_quarantine_that_it_may_not_lift(room: Classroom) -> None:
    territory, school = room.territory, room.school
    head, machine = await room.head(), await room.machine()
    order = await territory.say(school, Kind.QUARANTINE, QuarantineOrder(on=True).encode())
    await head.session.sync()
    right = await head.agent.right(school, Kind.ERASE)
    await head.agent.write(Draft(school, Kind.ERASE, right.grant, Erasure(order.id).encode()))
    await head.session.sync()
    await machine.session.sync()
    for each in (head, machine):
        assert (await measures_of(each.agent.replica, school)).quarantines


async def test_pages_say_of_an_order_what_its_device_was_let_in_as_and_not_who_decided_it(room: Classroom) -> None:
    thief, teacher = await room.head(person=room.teacher_person), await room.teacher()
    await thief.session.sync()
    grant = (await thief.agent.right(room.school, Kind.QUARANTINE)).grant
    await thief.agent.write(Draft(room.school, Kind.QUARANTINE, grant, QuarantineOrder(on=True).encode()))
    for device in (thief, teacher):
        await device.session.sync()
    async with portal(teacher.agent) as surfer:
        page = html.unescape(await surfer.page("/"))
    assert "par un appareil inscrit pour la direction" in page[page.index('id="quarantine"') :]
