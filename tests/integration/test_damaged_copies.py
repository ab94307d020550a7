"""What was moved aside as damaged goes with who is forgotten, be nothing else of them here than bare headers."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.model.entry import Kind
from protocol.model.structure import Erasure
from protocol.replica.storage.sqlite import DATABASE
from protocol.roles import PersonRole
from tests.harness.classroom import Classroom, Device
from tests.harness.passing_days import pass_days


def moved_aside(device: Device) -> Path:
    """A database that was found damaged once, with a name in it."""
    file = device.agent.folder / "damaged" / "database-1" / DATABASE
    file.parent.mkdir(parents=True)
    file.write_bytes(b"Camille Dubois")
    return file


@pytest.mark.parametrize("by_kit", [False, True])
async def test_it_goes_where_all_that_is_here_of_somebody_came_bare(room: Classroom, *, by_kit: bool) -> None:
    territory = room.territory
    camille = await territory.person("Camille Dubois", PersonRole.PUPIL, room.space)
    pc = await room.machine()
    says = territory.kit_says if by_kit else territory.say
    await says(territory.id, Kind.ERASE, Erasure(camille).encode())
    await pass_days(territory, 9)
    await pc.session.sync()
    stored = await pc.agent.replica.store.scan(room.space)
    assert [one.entry.payload for one in stored if one.entry.header.subject == camille] == [None]
    file = moved_aside(pc)
    await pass_days(territory, 6, pc)
    assert file.exists()
    await pass_days(territory, 3, pc)
    assert not file.exists()


async def test_it_stays_for_whom_nothing_is_here(room: Classroom) -> None:
    territory, pc = room.territory, await room.machine()
    await territory.say(territory.id, Kind.ERASE, Erasure(bytes(16)).encode())
    await pc.session.sync()
    file = moved_aside(pc)
    await pass_days(territory, 9, pc)
    assert file.exists()
