"""A teacher's disk lies in another laptop since a repair; whoever has the server says that another has its key."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from protocol.clock import DAY_MS
from protocol.messages.lives import Twin
from protocol.roles import Role
from sync_agent.keys.succession import SETTLED_MS, Place
from tests.harness.attack import attack
from tests.harness.classroom import SMALL, Classroom, Device, classroom
from tests.integration.test_clones import image_of, pc, started, stopped

ROW = "a server says that a moved laptop has a twin"


@pytest.fixture(autouse=True)
def each_start_is_one_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is switched off in between: what has passed nobody knows but by the own clock."""
    monkeypatch.setattr("protocol.replica.steady._beginning", bytes)


async def _moved(room: Classroom, first: Device, days: int) -> tuple[Device, Place]:
    """The same disk on other hardware, which is switched on every other day."""
    disk, place = await image_of(room, first), Place(pc(2))
    hers = await started(room, disk, "moved", place)
    for day in range(0, days + 2, 2):
        room.territory.clock.advance(2 * DAY_MS)
        await hers.session.sync()
        hers = await started(room, await stopped(room, hers), "moved", place, seed=day + 20)
    return hers, place


async def _is_told_of_a_twin(room: Classroom, hers: Device, place: Place) -> Device:
    """By one answer of whoever has the server; `run` opens it anew where it is to give way."""
    honest, room.frontage.responder.lives = (
        room.frontage.responder.lives,
        SimpleNamespace(hear=lambda *_: Twin.FIRST),  # type: ignore[assignment]
    )
    await hers.session.sync()
    room.frontage.responder.lives = honest
    if place.gives_way.is_set():
        hers = await started(room, await stopped(room, hers), "moved", place, seed=90)
    await hers.session.sync()
    return hers


@pytest.mark.parametrize("is_heads", [False, True])
@attack(ROW, off={"sync_agent.keys.succession.SETTLED_MS": 1000 * DAY_MS})
async def test_one_answer_takes_the_keys_of_no_laptop_that_was_moved_a_month_ago(
    tmp_path: Path, is_heads: bool
) -> None:
    async with classroom(tmp_path) as room:
        first = await (room.head(room.teacher_person) if is_heads else room.teacher())
        await first.session.sync()
        hers, place = await _moved(room, first, SETTLED_MS // DAY_MS)
        key = hers.agent.device
        hers = await _is_told_of_a_twin(room, hers, place)
        assert hers.agent.device == key
        assert await hers.agent.role() is (Role.HEAD if is_heads else Role.TEACHER)
        if not is_heads:
            await room.publish(hers, SMALL)


async def test_within_the_month_a_copy_on_other_hardware_gives_way(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        first = await room.teacher()
        await first.session.sync()
        hers, place = await _moved(room, first, 7)
        hers = await _is_told_of_a_twin(room, hers, place)
        assert await hers.agent.role() is Role.MACHINE
