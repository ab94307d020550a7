"""What a stolen device says without end, brought to its neighbours under another heading than as news."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from protocol.errors import RelaisError
from protocol.messages.calls import SyncAnswer
from protocol.model.entry import Entry, Kind, compose
from protocol.roles import Role
from protocol.trust.envelope import OpenedRequest
from sync_agent.app import Agent
from sync_agent.lan.listener import LanResponder
from sync_agent.lan.peer_sync import exchange_once
from tests.harness.attack import attack
from tests.harness.classroom import classroom
from tests.harness.entries import SOME_RECEIPT
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


async def _whoever_says_it(agent: Agent, proofs: Sequence[Entry], source: bytes) -> None:
    await agent.replica.admit(proofs, source=source, now_ms=agent.now_ms(), hold=False)


@attack(ROW, off={"sync_agent.lan.peer_session.take_withdrawals": _whoever_says_it})
async def test_what_is_shown_as_a_withdrawn_right_counts_like_all_that_a_device_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.replica.quotas.MAX_ENTRIES_PER_KEY", BOUND)
    async with classroom(tmp_path) as room:
        machine, thief = await room.machine(), await room.device(Role.MACHINE, room.space)
        await machine.session.sync()
        await thief.session.sync()
        grant = (await thief.agent.replica.authorities(thief.agent.device))[0].grant
        said = [
            compose(
                author=thief.agent.keys.signing,
                space=room.space,
                kind=Kind.RECEIPT_SAFE,
                grant=grant,
                at=(room.territory.clock() << 16) + number,
                payload=SOME_RECEIPT,
                salt=bytes(16),
                target=bytes(32),
            )
            for number in range(150)
        ]
        async with listening_device(thief.agent, _Liar(thief.agent, said)) as address:
            with suppress(RelaisError):
                await exchange_once(machine.agent, address)
        here = await machine.agent.replica.store.scan_kinds([Kind.RECEIPT_SAFE])
        assert len([entry for entry in here if entry.header.author == thief.agent.device]) <= BOUND
