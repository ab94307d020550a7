"""Whoever has the server lets somebody in before a teacher's laptop meets the class (docs/attacks.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from random import Random

import pytest

from protocol.rights.roster import Roster
from protocol.rights.vouching import Device as Keys
from protocol.rights.vouching import device_id
from protocol.roles import PersonRole
from sync_agent.keys.confirming import list_readers, rows
from sync_agent.machine.marks import KNOWN_READER_MARKS
from tests.harness.attack import attack
from tests.harness.classroom import Device, classroom
from tests.harness.portal import portal
from tests.harness.spied_class import SpiedClass
from tests.harness.territory import new_device

ROW = "a reader who was there first"


@pytest.fixture
async def laptop(tmp_path: Path) -> AsyncIterator[Device]:
    """Hers, before it meets a new year's class in which M. X reads already, and M. Durand, a colleague."""
    async with classroom(tmp_path) as room:
        petit, machine = await room.teacher(), await room.machine()
        for number, name in enumerate(("M. X", "M. Durand")):
            here = SpiedClass(room, petit, machine, b"", b"", new_device(Random(666 + number).randbytes))
            await here.name_the_spy(await room.territory.person(name, PersonRole.TEACHER, room.space), back_ms=0)
        await here.sync(machine)
        yield petit


def _all_are_known(roster: Roster, starts: Mapping[bytes, Iterable[Keys]]) -> dict[str, bytes]:
    devices = (device_id(device) for theirs in starts.values() for device in theirs)
    return {f"{KNOWN_READER_MARKS}{roster.space.hex()}/{device.hex()}": b"" for device in devices}


@attack(ROW, off={"sync_agent.keys.first_met._there_already": _all_are_known})
async def test_who_reads_when_her_laptop_meets_the_class_is_told_once_and_plainly(laptop: Device) -> None:
    for _ in range(2):
        await laptop.session.sync()
    told = "Lisent aussi les travaux de vos classes : M. X (CM1), M. Durand (CM1)."
    async with portal(laptop.agent) as surfer:
        home = await surfer.page("/")
        assert told in home or told.replace("M. X (CM1), M. Durand", "M. Durand (CM1), M. X") in home
        assert "Depuis" not in home
        listed = rows(each for each in await list_readers(laptop.agent) if each.was_there)
        there = ",".join(row.hex() for row in listed)
        await surfer.send("/readers", "/readers/seen", {"rows": there})
        assert "aussi les travaux" not in await surfer.page("/")
