"""A neighbour shows a device a right of its own that no door lets in (docs/attacks.md, "keeps busy")."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from protocol.clock import at_from
from protocol.errors import PeerFault
from protocol.identity import DeviceKeys, SigningKey
from protocol.messages.parts import SpacePage
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Grant
from protocol.roles import Role
from protocol.trust.envelope import OpenedRequest
from sync_agent.app import Agent
from sync_agent.lan.exchange.listener import LanResponder
from sync_agent.lan.exchange.peer_sync import exchange_once
from tests.harness.attack import attack
from tests.harness.classroom import classroom
from tests.harness.lan import listening_device

MANY_REQUESTS = 60


def false_grant(space: bytes, keys: DeviceKeys, now_ms: int) -> Entry:
    """A right in a class, by somebody of whom nobody knows anything."""
    given = Grant(keys.signing.public, keys.agreement.public, keys.tls.fingerprint, Role.MACHINE, None, None)
    return compose(
        author=SigningKey(os.urandom(32)),
        space=space,
        kind=Kind.GRANT,
        grant=os.urandom(32),
        at=at_from(now_ms, 0),
        payload=given.encode(),
        salt=os.urandom(16),
    )


class Liar(LanResponder):
    """Puts such a right on each page of a class."""

    def __init__(self, agent: Agent, grant: Entry) -> None:
        super().__init__(agent)
        self.asked = 0
        honest = self._news.pages

        async def pages(*given: Any, **named: Any) -> Any:
            found, stale, more = await honest(*given, **named)
            return [self._lie(page, grant) for page in found], stale, more

        self._news.pages = pages  # type: ignore[method-assign]

    @staticmethod
    def _lie(page: SpacePage, grant: Entry) -> SpacePage:
        is_there = page.checkpoint.space == grant.header.space
        return replace(page, entries=(grant, *page.entries)) if is_there else page

    async def _sync(self, opened: OpenedRequest) -> bytes:
        self.asked += 1
        return await super()._sync(opened)


@attack("a hostile or broken peer", off={"sync_agent.lan.exchange.progress.Exchange.may_wait": lambda *_: True})
async def test_a_right_that_no_door_lets_in_is_not_asked_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with classroom(tmp_path) as room:
        other = await room.territory.classroom("CM2")
        await room.territory.crowd(10, other)
        machine, neighbour = await room.machine(), await room.device(Role.MACHINE, room.space, other)
        await machine.session.sync()
        await room.territory.let_in(machine.agent.keys, Role.MACHINE, other)
        await neighbour.session.sync()
        monkeypatch.setattr("protocol.replica.answering.news.PAGE_BYTES", 1_000)
        monkeypatch.setattr("sync_agent.lan.exchange.peer_session.MAX_REQUESTS", MANY_REQUESTS)
        liar = Liar(neighbour.agent, false_grant(other, machine.agent.keys, machine.agent.now_ms()))
        async with listening_device(neighbour.agent, liar) as address:
            with suppress(PeerFault):
                await exchange_once(machine.agent, address)
        assert liar.asked < MANY_REQUESTS
        assert other in await machine.agent.spaces()
