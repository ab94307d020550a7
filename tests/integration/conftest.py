"""What several modules begin with: a class at one server, its office, an assignment, a disk to carry, two devices.

A module that begins with another one says so itself.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.model.work import ItemKind
from protocol.roles import Role
from tests.harness.classroom import Classroom, Device, brought, classroom
from tests.harness.couriers import tend_keys
from tests.harness.enrolled import enrolled_class
from tests.harness.portal import PAGE
from tests.harness.server_in_process import Office, office
from tests.harness.tree import Pair


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Classroom]:
    async with classroom(tmp_path) as made:
        yield made


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Office]:
    async with office(tmp_path / "server") as made:
        yield made


@pytest.fixture
async def space_keys(room: Classroom) -> None:
    """The spaces of the room have keys, as whoever carries bundles needs them."""
    await tend_keys(room)


@pytest.fixture
async def assignment(room: Classroom) -> tuple[Device, Device, str]:
    """A teacher's device and a PC that have an assignment, and its id."""
    teacher, pc = await room.teacher(), await room.machine()
    item = (await room.publish(teacher, {"consigne.html": PAGE}, kind=ItemKind.ASSIGNMENT)).item.hex()
    await brought(teacher, pc)
    return teacher, pc, item


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return tmp_path / "disk" / "Relais"


@pytest.fixture
async def pair(tmp_path: Path) -> Pair:
    return Pair(await enrolled_class(tmp_path, {"petit": Role.TEACHER, "renard": Role.MACHINE}))


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are told as they are there."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
