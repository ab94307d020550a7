"""One device that listens by the hundred takes no other's place (docs/threat-model.md)."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from protocol.messages.wire import LIVE_PATH, Capability, Purpose
from protocol.replica.http.live import MAX_ASKING_PER_DEVICE, MAX_LINES_PER_DEVICE
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.http_room import HttpRoom, http_room
from tests.harness.patience import PATIENCE_S

ASKED_AT_ONCE = 60
SOON_S = 5.0
"""How long an end that comes at once may take; without the defence nothing ends, and the test goes on after it."""
OFF = {"protocol.replica.http.live.MAX_LINES_PER_DEVICE": 10_000}


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[HttpRoom]:
    async with http_room(tmp_path) as made:
        yield made


def issued(here: HttpRoom, device: Device, second: int) -> dict[str, str]:
    """What a sync shows the device `second` seconds later than another."""
    station, territory = here.responder.station, here.room.territory
    expires_s = territory.clock() // 1000 + 600 + second
    shown = Capability(Purpose.LISTEN, territory.replica.territory, device.agent.device, 0, expires_s)
    return {"Authorization": f"Bearer {shown.issue(station.capability_key)}"}


async def publish(here: HttpRoom, teacher: Device) -> None:
    """News for everybody who listens."""
    await here.room.publish(teacher, {"page.html": b"<p>L'eau</p>"})
    await teacher.session.sync()


@attack("one machine takes every line for news", off=OFF)
async def test_of_lines_that_one_device_asks_for_in_one_moment_few_stand(here: HttpRoom) -> None:
    teacher, thief = await here.room.teacher(), await here.room.machine()
    await teacher.session.sync()
    async with asyncio.timeout(PATIENCE_S), aiohttp.ClientSession() as session:
        asked = [session.ws_connect(here.url + LIVE_PATH, headers=issued(here, thief, 0)) for _ in range(ASKED_AT_ONCE)]
        lines = await asyncio.gather(*asked)
        await publish(here, teacher)
        heard = [message.type for message in await asyncio.gather(*(line.receive() for line in lines))]
    assert heard.count(aiohttp.WSMsgType.TEXT) == MAX_LINES_PER_DEVICE
    assert heard.count(aiohttp.WSMsgType.CLOSE) == ASKED_AT_ONCE - MAX_LINES_PER_DEVICE


@attack("one machine takes every line for news", off=OFF)
async def test_of_one_device_that_asks_and_waits_the_newest_questions_stand(here: HttpRoom) -> None:
    teacher, thief = await here.room.teacher(), await here.room.machine()
    await teacher.session.sync()
    async with asyncio.timeout(PATIENCE_S), aiohttp.ClientSession() as session:

        async def ask(bearer: dict[str, str]) -> int:
            async with session.get(here.url + LIVE_PATH, headers=bearer) as answer:
                return answer.status

        bearers = [issued(here, thief, second) for second in range(MAX_LINES_PER_DEVICE + 1)]
        assert {await ask(bearer) for bearer in bearers} == {200}, "who asks for the first time is told to look"
        waiting = [asyncio.create_task(ask(bearer)) for bearer in bearers]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=SOON_S)
        await publish(here, teacher)
        answers = await asyncio.gather(*waiting)
    assert sorted(answers) == [200] * MAX_LINES_PER_DEVICE + [204]


@attack("one machine takes every line for news", off={"protocol.replica.http.live.MAX_ASKING_PER_DEVICE": 10_000})
async def test_of_one_device_that_asks_and_asks_few_questions_are_remembered(here: HttpRoom) -> None:
    thief, honest = await here.room.machine(), await here.room.machine()
    async with asyncio.timeout(PATIENCE_S), aiohttp.ClientSession() as session:

        async def ask(bearer: dict[str, str]) -> None:
            async with session.get(here.url + LIVE_PATH, headers=bearer) as answer:
                assert answer.status == 200

        await ask(issued(here, honest, 0))
        for second in range(MAX_ASKING_PER_DEVICE + 30):
            await ask(issued(here, thief, second))
        gc.collect()
    assert len(here.responder.listeners) <= MAX_ASKING_PER_DEVICE + 1
