"""Whoever has the server lets somebody in before a teacher's laptop meets the class (docs/threat-model.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from protocol.roles import PersonRole
from sync_agent.keys.confirming import list_readers
from tests.harness.attack import attack
from tests.harness.classroom import Device, classroom
from tests.harness.portal import portal
from tests.harness.spied_class import SpiedClass
from tests.harness.territory import new_device

ROW = "a reader who was there first"


@pytest.fixture
async def laptop(tmp_path: Path) -> AsyncIterator[Device]:
    """Hers, which meets a new year's class in which M. X reads already, and M. Durand, a colleague."""
    async with classroom(tmp_path) as room:
        petit, machine = await room.teacher(), await room.machine()
        for number, name in enumerate(("M. X", "M. Durand")):
            here = SpiedClass(room, petit, machine, b"", b"", new_device(Random(666 + number).randbytes))
            await here.name_the_spy(await room.territory.person(name, PersonRole.TEACHER, room.space), back_ms=0)
        await here.sync(petit, machine, petit)
        yield petit


@attack(ROW, off={"sync_agent.keys.confirming.WAS_THERE": b""})
async def test_who_reads_when_her_laptop_meets_the_class_is_told_once_and_plainly(laptop: Device) -> None:
    told = "Lisent aussi les travaux de vos classes : M. X (CM1), M. Durand (CM1)."
    async with portal(laptop.agent) as surfer:
        home = await surfer.page("/")
        assert told in home or told.replace("M. X (CM1), M. Durand", "M. Durand (CM1), M. X") in home
        assert "Depuis" not in home
        there = ",".join(each.id.hex() for each in await list_readers(laptop.agent) if each.was_there)
        await surfer.send("/readers", "/readers/seen-all", {"readers": there})
        assert "aussi les travaux" not in await surfer.page("/")
