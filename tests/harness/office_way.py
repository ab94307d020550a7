"""Agents that enrol with, and sync to, a server that is opened in the test's own process and served over HTTP."""

from __future__ import annotations

import os
from pathlib import Path

from sync_agent.app import Agent
from sync_agent.enrollment.by_code import Enrolled, enroll
from sync_agent.machine.sync_result import SyncResult
from sync_agent.network.settings import Network
from sync_agent.sync.session import Session
from sync_agent.transport.over_http import HttpTransport
from tests.harness.server_in_process import Office


async def enrol_by(made: Office, folder: Path, url: str, code: str, network: Network | None = None) -> Enrolled:
    """A device that enrols at `url`. Raises what the agent does."""
    return await enroll(
        folder,
        url,
        code,
        "Renard",
        now_ms=made.clock,
        entropy=os.urandom,
        connect=lambda address: HttpTransport(address, network),
    )


async def sync_by(made: Office, folder: Path, url: str, network: Network | None = None) -> SyncResult:
    """One sync of an enrolled device, by a way of its own. Raises what the agent does."""
    agent = await Agent.open(folder, now_ms=made.clock, entropy=os.urandom)
    transport = HttpTransport(url, network)
    try:
        return await Session(agent, transport).sync()
    finally:
        await transport.close()
        await agent.close()
