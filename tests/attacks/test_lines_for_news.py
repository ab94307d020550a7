"""One device that listens by the hundred takes no other's place (docs/attacks.md)."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from random import Random

import aiohttp
import pytest

from protocol.limits import MAX_LAN_CALLERS
from protocol.messages.wire import LIVE_PATH
from protocol.model.entry import Kind, compose
from protocol.model.structure import Successor
from protocol.replica.http.live import MAX_ASKING_PER_DEVICE, MAX_LINES_PER_DEVICE
from sync_agent.lan.exchange.listener import LanResponder
from tests.harness.attack import attack
from tests.harness.classroom import Classroom, Device
from tests.harness.http_room import HttpRoom, http_room, listening
from tests.harness.lan import exchange, listening_device
from tests.harness.patience import PATIENCE_S
from tests.harness.territory import new_device

ASKED_AT_ONCE = 60
SOON_S = 5.0
"""How long an end that comes at once may take; without the defence nothing ends, and the test goes on after it."""
OFF = {"protocol.replica.http.live.MAX_LINES_PER_DEVICE": 10_000}


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[HttpRoom]:
    async with http_room(tmp_path) as made:
        yield made


async def publish(here: HttpRoom, teacher: Device) -> None:
    """News for everybody who listens."""
    await here.room.publish(teacher, {"page.html": b"<p>L'eau</p>"})
    await teacher.session.sync()


@attack("one machine takes every line for news", off=OFF)
async def test_of_lines_that_one_device_asks_for_in_one_moment_few_stand(here: HttpRoom) -> None:
    teacher, thief = await here.room.teacher(), await here.room.machine()
    await teacher.session.sync()
    async with asyncio.timeout(PATIENCE_S), aiohttp.ClientSession() as session:
        asked = [
            session.ws_connect(here.url + LIVE_PATH, headers=here.listening(thief.agent.device))
            for _ in range(ASKED_AT_ONCE)
        ]
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

        bearers = [here.listening(thief.agent.device, second) for second in range(MAX_LINES_PER_DEVICE + 1)]
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

        await ask(here.listening(honest.agent.device))
        for second in range(MAX_ASKING_PER_DEVICE + 30):
            await ask(here.listening(thief.agent.device, second))
        gc.collect()
    assert len(here.responder.listeners) <= MAX_ASKING_PER_DEVICE + 1


@attack("one machine takes every line for news", off={"protocol.replica.http.live.gives_way": lambda *_: None})
async def test_the_questions_of_a_classmates_pc_take_no_neighbours_line(room: Classroom) -> None:
    victim, thief, honest = await room.machine(), await room.machine(), await room.machine()
    async with neighbour(victim) as near:
        for second in range(MAX_LAN_CALLERS):
            assert await near.ask(thief.agent.device, second) == HTTPStatus.OK
        assert await near.hears(honest.agent.device)
        assert await near.hears(honest.agent.device), "a line that died unnoticed keeps its own device from no new one"


@attack("one machine takes every line for news", off={"protocol.rights.door.Door.origin": lambda _door, key: key})
async def test_keys_that_a_classmates_pc_gave_itself_take_no_neighbours_line(room: Classroom) -> None:
    victim, thief, honest = await room.machine(), await room.machine(), await room.machine()
    keys = await own_keys(room, victim, thief)
    async with neighbour(victim) as near:
        for key in keys:
            assert await near.hears(key)
        assert await near.hears(honest.agent.device)


async def own_keys(room: Classroom, victim: Device, thief: Device) -> list[bytes]:
    """As many keys as there are lines, each of which the thief's machine gave itself, as its neighbour knows."""
    by, (right, *_) = thief.agent.keys, await thief.agent.replica.authorities(thief.agent.device)
    await exchange(thief.agent, victim.agent)
    said = []
    for number in range(MAX_LAN_CALLERS):
        keys = new_device(Random(number).randbytes)
        agreed = Successor.agreed(keys.signing, keys.agreement.public, None, room.space, by.signing.public)
        said.append(
            compose(
                author=by.signing,
                space=room.space,
                kind=Kind.SUCCESSOR,
                grant=right.grant,
                at=(room.territory.clock() << 16) + number,
                payload=agreed.encode(),
                salt=bytes(16),
            )
        )
    admission = await victim.agent.replica.admit(said, source=thief.agent.device, now_ms=room.territory.clock())
    assert len(admission.admitted) == len(said)
    return [Successor.parse(entry.payload or b"").signing for entry in said]


@dataclass(frozen=True)
class Near:
    """A device's listener, as others on the school's network see it. Lines stay open."""

    url: str
    responder: LanResponder
    now_ms: int
    session: aiohttp.ClientSession
    lines: list[aiohttp.ClientWebSocketResponse] = field(default_factory=list)

    async def ask(self, device: bytes, second: int) -> int:
        """The status of a question for news."""
        bearer = listening(self.responder, device, self.now_ms, second)
        async with self.session.get(self.url, headers=bearer) as answer:
            return answer.status

    async def hears(self, device: bytes) -> bool:
        """Whether a new line for news stands."""
        bearer = listening(self.responder, device, self.now_ms)
        try:
            self.lines.append(await self.session.ws_connect(self.url, headers=bearer))
        except aiohttp.WSServerHandshakeError:
            return False
        return True


@asynccontextmanager
async def neighbour(device: Device) -> AsyncIterator[Near]:
    """See `Near`."""
    responder = LanResponder(device.agent)
    connector = aiohttp.TCPConnector(ssl=False, limit=0)
    async with (
        listening_device(device.agent, responder) as address,
        aiohttp.ClientSession(connector=connector) as session,
    ):
        yield Near(f"https://{address.authority}{LIVE_PATH}", responder, device.agent.now_ms(), session)
