"""Devices that listen on loopback as they do on a school's network: real TLS, real HTTP, the agent's own code."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sync_agent.app import Agent
from sync_agent.lan.exchange.listener import LanResponder, serving
from sync_agent.lan.exchange.peer_sync import exchange_once
from sync_agent.lan.exchange.tls import listener_context
from sync_agent.machine.addresses import Address, address_of
from sync_agent.machine.sync_result import SyncResult
from sync_agent.transport.answers import Response
from tests.harness.classroom import Device


@asynccontextmanager
async def listening_device(agent: Agent, responder: LanResponder | None = None) -> AsyncIterator[Address]:
    """The address at which a device answers others."""
    tls = listener_context(agent.keys.tls, agent.folder)
    async with serving(responder or LanResponder(agent), Address("127.0.0.1", 0), tls) as url:
        yield address_of(url.removeprefix("https://"), "url")


async def exchange(caller: Agent, listener: Agent) -> SyncResult:
    """One exchange that `caller` begins."""
    async with listening_device(listener) as address:
        return await exchange_once(caller, address)


def is_told_in_the_middle(monkeypatch: pytest.MonkeyPatch, machine: Device, neighbour: Device) -> None:
    """Before what a machine's next sync says goes out, a neighbour has told it all that it knows."""
    post = machine.session.transport.post
    told: list[SyncResult] = []

    async def told_meanwhile(path: str, body: bytes) -> Response:
        if not told:
            told.append(await exchange(machine.agent, neighbour.agent))
        return await post(path, body)

    monkeypatch.setattr(machine.session.transport, "post", told_meanwhile)
