"""An erasure by a copied key that holds in the minutes alone in which a machine looks (docs/attacks.md)."""

from __future__ import annotations

from random import Random

import pytest

from protocol.clock import DAY_MS
from protocol.identity import DeviceKeys
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Erasure, Revocation, Ruling
from protocol.replica.office.erasures import in_force
from protocol.replica.upkeep.eraser import Eraser
from protocol.roles import Role
from tests.harness.attack import attack
from tests.harness.classroom import Classroom
from tests.harness.territory import Territory, new_device
from tests.harness.what_is_left import left

ROW = "a stolen server wipes schools"
MINUTE_MS = 60_000


async def _nothing_is_broken(*_: object) -> dict[str, bytes | None]:
    return {}


AT_LOOKS_ALONE: dict[str, object] = {"protocol.replica.at_work.weeks.Weeks.broken": _nothing_is_broken}


@attack(ROW, off={**AT_LOOKS_ALONE, "protocol.rights.erasures._BY_ROOT": 0})
async def test_nobody_is_destroyed_by_an_erasure_that_is_taken_back_until_a_minute_before_each_look(
    room: Classroom,
) -> None:
    territory, person = room.territory, room.pupil_person
    eraser = Eraser(territory.replica, territory.holdings)
    erasure = (await territory.say(territory.id, Kind.ERASE, Erasure(person).encode())).id
    await eraser.sweep(territory.clock())
    for _ in range(9):
        await territory.say(territory.id, Kind.RULING, Ruling((), (erasure,)).encode())
        territory.clock.advance(DAY_MS - MINUTE_MS)
        assert person in (await territory.replica.view(room.space)).roster.persons, "all day nobody is missed"
        assert not await in_force(territory.replica)
        await territory.say(territory.id, Kind.RULING, Ruling((erasure,), ()).encode())
        territory.clock.advance(MINUTE_MS)
        await eraser.sweep(territory.clock())
    assert await left(territory, room.space, person)


async def _made_up(territory: Territory, number: int, role: Role) -> DeviceKeys:
    """A device to which a copied key has given a right."""
    keys = new_device(Random(number).randbytes)
    await territory.let_in(keys, role, territory.id)
    return keys


async def _said_by(territory: Territory, keys: DeviceKeys, kind: Kind, payload: bytes) -> Entry:
    """What it says, as a PC brings it to the server."""
    (right,) = territory.replica.door.authorities_of(keys.signing.public)
    said = compose(
        author=keys.signing,
        space=territory.id,
        kind=kind,
        grant=right.grant,
        at=(territory.clock() << 16) + 1,
        payload=payload,
        salt=bytes(16),
    )
    assert (await territory.replica.admit([said], source=b"a PC", now_ms=territory.clock())).admitted
    return said


@pytest.mark.parametrize("is_killed", [False, True])
@attack(ROW, off=AT_LOOKS_ALONE)
async def test_nor_by_one_that_each_day_another_made_up_administrator_refuses_who_is_cut_off_before_the_look(
    room: Classroom, *, is_killed: bool
) -> None:
    territory, person = room.territory, room.pupil_person
    head = await _made_up(territory, 1, Role.HEAD)
    erasure = (await _said_by(territory, head, Kind.ERASE, Erasure(person).encode())).id
    eraser = Eraser(territory.replica, territory.holdings)
    await eraser.sweep(territory.clock())
    for day in range(9):
        administrator = await _made_up(territory, 100 + day, Role.ADMIN)
        await _said_by(territory, administrator, Kind.RULING, Ruling((), (erasure,)).encode())
        if is_killed:
            # what is known of it lies in the store alone
            await territory.replica.reload()
        territory.clock.advance(DAY_MS - MINUTE_MS)
        assert person in (await territory.replica.view(room.space)).roster.persons, "all day nobody is missed"
        assert not await in_force(territory.replica)
        await territory.say(territory.id, Kind.REVOKE, Revocation(administrator.signing.public, ()).encode())
        territory.clock.advance(MINUTE_MS)
        await eraser.sweep(territory.clock())
    assert await left(territory, room.space, person)
