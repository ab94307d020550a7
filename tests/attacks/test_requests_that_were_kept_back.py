"""Requests of a machine that somebody on the way keeps back, and brings once its process has got another nonce."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.errors import Code, NoAnswer
from protocol.messages.lives import Life
from protocol.messages.wire import SYNC_PATH
from protocol.roles import Role
from sync_agent.keys.succession import TELLINGS, Place
from sync_agent.sync.session import Session
from sync_agent.transport.answers import Response
from tests.harness.attack import attack
from tests.harness.challenged import give_challenges
from tests.harness.classroom import Classroom, Device, classroom
from tests.harness.wire import MemoryTransport
from tests.integration.test_clones import image_of, pc, started, stopped

ROW = "requests that were kept back show a twin"
KEPT = 6


class Line(MemoryTransport):
    """Reads nothing and changes nothing; keeps some requests back, and brings one of them before each later one."""

    keeps = False
    kept: tuple[bytes, ...] = ()

    async def post(self, path: str, body: bytes) -> Response:
        if path == SYNC_PATH and self.keeps:
            self.kept = (*self.kept, body)
            raise NoAnswer(Code.UNREACHABLE, "nobody answers")
        if path == SYNC_PATH and self.kept:
            first, *rest = self.kept
            self.kept = tuple(rest)
            await super().post(path, first)
        return await super().post(path, body)


def _counts_whenever_it_was_written(*_: object) -> bool:
    return True


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Classroom]:
    async with classroom(tmp_path) as made:
        give_challenges(made.frontage.responder, made.territory.clock)
        yield made


async def _through(room: Classroom, first: Device, place: Place) -> tuple[Device, Line]:
    """Its disk, started on this hardware, behind the line."""
    device = await started(room, await image_of(room, first), "here", place)
    line = Line(room.frontage)
    return Device(device.agent, Session(device.agent, line), line), line


async def _sleeps_while_some_are_kept(room: Classroom, device: Device, line: Line, place: Place) -> Device:
    """What it says while nobody answers is kept; it sleeps; and `run` opens it anew where it is to give way."""
    for _ in range(3):
        await device.session.sync()
    line.keeps = True
    for _ in range(KEPT):
        with pytest.raises(NoAnswer):
            await device.session.sync()
    line.keeps = False
    device.agent.life = Life(b"it slept")
    for _ in range(KEPT + TELLINGS):
        await device.session.sync()
    assert not line.kept
    if place.gives_way.is_set():
        room.devices[-1] = device
        device = await started(room, await stopped(room, device), "here", place, seed=9)
        await device.session.sync()
    return device


@attack(ROW, off={"protocol.messages.lives.shows_life": _counts_whenever_it_was_written})
async def test_who_brings_requests_late_takes_a_laptop_that_was_repaired_no_keys(room: Classroom) -> None:
    place = Place(pc(2))
    hers, line = await _through(room, await room.teacher(), place)
    key = hers.agent.device
    hers = await _sleeps_while_some_are_kept(room, hers, line, place)
    assert hers.agent.device == key
    assert await hers.agent.role() is Role.TEACHER


@attack(ROW, off={"protocol.messages.lives.shows_life": _counts_whenever_it_was_written})
async def test_nor_does_a_pc_draw_new_keys_for_them(room: Classroom) -> None:
    place = Place(pc(1))
    machine, line = await _through(room, await room.machine(), place)
    key = machine.agent.device
    machine = await _sleeps_while_some_are_kept(room, machine, line, place)
    assert machine.agent.device == key
