"""What a device says without end: brought under another heading than as news, or before work that was acknowledged."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from protocol.clock import at_from
from protocol.errors import RelaisError
from protocol.messages.calls import SyncAnswer
from protocol.model.entry import Entry, Kind
from protocol.replica.at_work.passage import Passage
from protocol.replica.at_work.quotas import Quotas
from protocol.replica.at_work.replica import Replica
from protocol.roles import Role
from protocol.trust.envelope import OpenedRequest
from sync_agent.app import Agent
from sync_agent.lan.exchange.listener import LanResponder
from sync_agent.lan.exchange.peer_sync import exchange_once
from tests.harness.attack import attack
from tests.harness.classroom import SMALL, Classroom, Device, assignment, brought, classroom, receipts_said
from tests.harness.lan import listening_device

ROW = "a stolen laptop says words without end"
BOUND = 5


class _Liar(LanResponder):
    """Shows what it says as what took its neighbour's rights away, 64 in each answer."""

    def __init__(self, agent: Agent, said: Sequence[Entry]) -> None:
        super().__init__(agent)
        self._told = list(said)

    async def _sync(self, opened: OpenedRequest) -> bytes:
        answer = SyncAnswer.parse(await super()._sync(opened))
        some, self._told = self._told[:64], self._told[64:]
        return replace(answer, withdrawn=tuple(some), more=bool(self._told)).encode()


async def _flood(room: Classroom, device: Device, number: int) -> list[Entry]:
    """So many receipts of a machine's key, said now."""
    now = at_from(room.territory.clock())
    return await receipts_said(device, room.space, range(now, now + number))


async def _whoever_says_it(agent: Agent, proofs: Sequence[Entry], source: bytes) -> None:
    await agent.replica.admit(proofs, source=source, now_ms=agent.now_ms(), hold=False)


@attack(ROW, off={"sync_agent.lan.exchange.peer_session.take_withdrawals": _whoever_says_it})
async def test_what_is_shown_as_a_withdrawn_right_counts_like_all_that_a_device_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.replica.at_work.quotas.MAX_ENTRIES_PER_KEY", BOUND)
    async with classroom(tmp_path) as room:
        machine, thief = await room.machine(), await room.device(Role.MACHINE, room.space)
        await machine.session.sync()
        await thief.session.sync()
        said = await _flood(room, thief, 150)
        async with listening_device(thief.agent, _Liar(thief.agent, said)) as address:
            with suppress(RelaisError):
                await exchange_once(machine.agent, address)
        here = await machine.agent.replica.store.scan_kinds([Kind.RECEIPT_SAFE])
        assert len([entry for entry in here if entry.header.author == thief.agent.device]) <= BOUND


async def _never(_quotas: Quotas, _entry: Entry) -> bool:
    return False


@attack(
    "a program on a PC floods a restored server before the work comes back",
    off={"protocol.replica.at_work.quotas.Quotas._is_acknowledged": _never},
)
async def test_a_hand_in_that_the_server_had_acknowledged_comes_back_whatever_its_pc_has_said_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.replica.at_work.quotas.MAX_ENTRIES_PER_KEY", BOUND)
    async with classroom(tmp_path) as room:
        teacher, machine = await room.teacher(), await room.machine()
        task = await assignment(room, teacher, machine)
        await room.territory.close()
        shutil.copytree(tmp_path / "server", tmp_path / "image")
        await room.restart_server(tmp_path / "server")
        work = await room.hand_in(machine, task, SMALL)
        await brought(teacher, machine)
        await room.restart_server(tmp_path / "image")
        server, device, now_ms = room.territory.replica, machine.agent.device, room.territory.clock()
        flooded = await server.admit(await _flood(room, machine, 2 * BOUND), source=device, now_ms=now_ms, bounded=True)
        assert len(flooded.admitted) == BOUND
        await teacher.session.sync()
        await teacher.session.sync()
        assert work in await server.store.present([work])
        more = await server.admit(await _flood(room, machine, 2 * BOUND), source=device, now_ms=now_ms, bounded=True)
        assert not more.admitted


async def _nobody_looks(_replica: Replica, _passage: Passage, _before: object) -> None:
    return


@attack(ROW, off={"protocol.replica.at_work.replica.Replica._refuse_beyond": _nobody_looks})
@pytest.mark.parametrize("first", ["with its grant", "before its grant"])
async def test_what_is_said_along_with_the_grant_that_lets_it_in_counts_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    monkeypatch.setattr("protocol.replica.at_work.quotas.MAX_ENTRIES_PER_KEY", BOUND)
    async with classroom(tmp_path) as room:
        machine = await room.machine()
        await machine.session.sync()
        thief = await room.device(Role.MACHINE, room.space)
        await thief.session.sync()
        said, device = await _flood(room, thief, 4 * BOUND), thief.agent.device
        grants = await thief.agent.replica.store.get([said[0].header.grant or b""])
        batches = [[*grants.values(), *said]] if first == "with its grant" else [said, list(grants.values())]
        for batch in batches:
            await machine.agent.replica.admit(batch, source=device, now_ms=room.territory.clock(), bounded=True)
        here = await machine.agent.replica.store.authored(room.space, device)
        assert 0 < len(here) <= BOUND
