"""An erasure by a copied key that holds in the minutes alone in which a machine looks (docs/attacks.md)."""

from __future__ import annotations

from protocol.clock import DAY_MS
from protocol.model.entry import Kind
from protocol.model.structure import Erasure, Ruling
from protocol.replica.office.erasures import in_force
from protocol.replica.upkeep.eraser import Eraser
from tests.harness.attack import attack
from tests.harness.classroom import Classroom
from tests.harness.what_is_left import left

ROW = "a stolen server wipes schools"
MINUTE_MS = 60_000


@attack(ROW, off={"protocol.rights.erasures._BY_ROOT": 0})
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
