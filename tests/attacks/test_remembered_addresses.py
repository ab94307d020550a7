"""What may stand at an address at which a device of the school was met before (docs/attacks.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from random import Random

import pytest

from protocol.messages.enrollment import encode_chain
from protocol.messages.introduction import is_introduction
from protocol.messages.wire import Call
from protocol.model.entry import Entry
from protocol.replica.answering.station import Reply
from protocol.rights.door import Authority
from sync_agent.app import Agent
from sync_agent.lan.exchange.listener import LanResponder
from sync_agent.lan.exchange.meeting import MISDIRECTED, chain_for
from sync_agent.lan.exchange.peer_transport import PeerTransport
from sync_agent.lan.finding.places_met import places_mark, read_places, with_met
from sync_agent.lan.school_lan import Lan
from tests.harness.attack import attack
from tests.harness.classroom import SMALL, Classroom, classroom
from tests.harness.lan import listening_device
from tests.harness.measures import learn
from tests.harness.patience import until
from tests.integration.test_places_met import HERE


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Classroom]:
    async with classroom(tmp_path) as made:
        yield made


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_S", "ALONE_S", "IN_TOUCH_S"):
        monkeypatch.setattr(f"sync_agent.lan.revisiting.{name}", (0.05, 0.1))


class Impostor(LanResponder):
    """Has heard what a teacher's laptop shows to those who know the class, and says it to everybody."""

    def __init__(self, agent: Agent, chain: Sequence[Entry]) -> None:
        super().__init__(agent)
        self.introductions = 0
        self.heard: list[bytes] = []
        """What it was told beside introductions."""
        self._chain = encode_chain(chain)

    async def answer(self, call: Call, body: bytes) -> Reply:
        if is_introduction(body):
            self.introductions += 1
            return Reply(MISDIRECTED, self._chain)
        self.heard.append(body)
        return await super().answer(call, body)


async def whoever_is_shown(
    agent: Agent, _certificate: bytes, entries: Sequence[Entry], _transport: PeerTransport
) -> Authority:
    """Where nobody looks at whose certificate it is."""
    shown = {entry.id for entry in entries}
    return next(each for each in agent.replica.door.authorities() if each.grant in shown and each.person is not None)


@attack(
    "another machine takes a remembered address", off={"sync_agent.lan.exchange.meeting._device_with": whoever_is_shown}
)
async def test_who_stands_where_a_device_was_met_is_told_nothing_and_left_alone(
    room: Classroom, at_once: None, tmp_path: Path
) -> None:
    teacher, pc = await room.teacher(), await room.machine()
    await learn(teacher, pc)
    await room.publish(teacher, SMALL)
    chain = await chain_for(teacher.agent, await teacher.agent.spaces())
    async with classroom(tmp_path / "elsewhere", seed=99) as elsewhere:
        # the n-th device of every class in tests has the n-th certificate
        *_, stranger = [(await elsewhere.machine()).agent for _ in range(3)]
        impostor = Impostor(stranger, chain)
        async with listening_device(stranger, impostor) as address, listening_device(teacher.agent) as moved:
            now_ms = pc.agent.now_ms()
            await pc.agent.replica.store.set_marks(places_mark(with_met((), address, teacher.agent.device, now_ms)))
            lan = Lan(pc.agent, news=lambda: None, draw=Random(1).uniform)
            async with lan.open(HERE, ()):
                await until(lambda: impostor.introductions)
                await until(lambda: not lan.rows())
                assert not lan.live_devices()
                assert not impostor.heard, "tags that nobody else can read are all that it hears"
                rounds = lan._revisits._round
                await until(lambda: lan._revisits._round > rounds + 3)
                assert impostor.introductions == 1, "nobody is looked for there again"
                # who was met there is met where it is now, and that is kept instead
                await lan.keep(moved, None)
                await until(lambda: teacher.agent.device in lan.live_devices())
                await until(lambda: _noted(lan, pc.agent, moved))


async def _noted(lan: Lan, agent: Agent, moved: object) -> bool:
    await lan._revisits.note()
    return [place.address for place in await read_places(agent.replica.store)] == [moved]
