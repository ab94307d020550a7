"""In July each head teacher has leavers forgotten: the server destroys them all (docs/adr/0475)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from random import Random

from protocol.clock import DAY_MS
from protocol.limits import SALT_BYTES
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Erasure
from protocol.replica.upkeep.eraser import Eraser
from protocol.roles import PersonRole, Role
from tests.harness.classroom import classroom
from tests.harness.territory import Territory, new_device
from tests.harness.what_is_left import left

SCHOOLS = 24


async def _forgotten_by_the_head(territory: Territory, number: int) -> tuple[bytes, bytes, Entry]:
    """A class, a child in it, and what the school's head teacher says of it."""
    school = await territory.school(f"École {number}", uai=f"018{number:04}A")
    space = await territory.classroom("CM1", school)
    child = await territory.person(f"Élève {number}", PersonRole.PUPIL, space)
    head = new_device(Random(number).randbytes)
    (right,) = await territory.let_in(head, Role.HEAD, school)
    say = partial(compose, author=head.signing, grant=right.id, at=(territory.clock() << 16) + 1)
    order = say(space=school, kind=Kind.ERASE, payload=Erasure(child).encode(), salt=bytes(SALT_BYTES))
    return space, child, order


async def test_whom_the_heads_of_many_schools_forget_in_one_week_the_server_destroys(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        territory, clock = room.territory, room.territory.clock
        forgotten = [await _forgotten_by_the_head(territory, number) for number in range(SCHOOLS)]
        eraser = Eraser(territory.replica, territory.holdings)
        for _ in range(8):
            clock.advance(DAY_MS)
            await eraser.sweep(clock())
        orders = [order for _, _, order in forgotten]
        assert (
            len((await territory.replica.admit(orders, source=b"their computers", now_ms=clock())).admitted) == SCHOOLS
        )
        for day in range(14):
            await eraser.sweep(clock())
            clock.advance(DAY_MS)
            if day % 3 == 0:
                await territory.person(f"Mme {day}", PersonRole.TEACHER, territory.id)
        assert not any([await left(territory, space, child) for space, child, _ in forgotten])
