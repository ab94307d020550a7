"""Links have keys where both sides know of them: who has an earlier program is not cut off (docs/adr/0363)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import pytest_asyncio

from protocol.messages.calls import SyncRequest
from sync_agent.lan.exchange.peer_sync import exchange_once
from tests.harness.classroom import Classroom, classroom
from tests.harness.lan import listening_device

FILM = {"film.bin": Random(11).randbytes(300_000)}
HEARD = "protocol.replica.answering.serving.SyncRequest.parse"
SAID = "sync_agent.transport.sealed_calls.SyncRequest.encode"


@pytest_asyncio.fixture
async def room(tmp_path: Path) -> AsyncIterator[Classroom]:
    async with classroom(tmp_path) as opened:
        yield opened


@pytest.fixture(params=["all as now", "who answers is from before", "who asks is from before"])
def programs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    parse, encode = SyncRequest.parse, SyncRequest.encode
    if request.param == "who answers is from before":
        monkeypatch.setattr(HEARD, lambda data: replace(parse(data), keyed=False))
    elif request.param == "who asks is from before":
        monkeypatch.setattr(SAID, lambda request: encode(replace(request, keyed=False)))


@pytest.mark.usefixtures("programs")
async def test_content_goes_up_and_comes_down_whichever_side_was_updated_first(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    item = (await room.publish(teacher, FILM)).item
    await teacher.session.sync()
    assert await teacher.agent.replica.content.unsent_packs() == []
    await machine.session.sync()
    assert await machine.files(item) == FILM


@pytest.mark.usefixtures("programs")
async def test_so_it_does_between_neighbours(room: Classroom) -> None:
    teacher, machine, other = await room.teacher(), await room.machine(), await room.machine()
    item = (await room.publish(teacher, FILM)).item
    async with listening_device(machine.agent) as address:
        await exchange_once(teacher.agent, address)
        await exchange_once(other.agent, address)
    assert await machine.files(item) == FILM
    assert await other.files(item) == FILM
