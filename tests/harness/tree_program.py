"""A program that brings DIR/coursework in step once, for `tests.harness.forks`."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sync_agent.coursework.materializer import Materializer
from tests.harness.enrolled import open_agent
from tests.harness.machines import Machine


async def _pass(folder: Path) -> None:
    """One pass over everything, edits set aside."""
    agent = await open_agent(Machine("tree", folder, "sync-agent"))
    try:
        await Materializer(agent, reserve_bytes=0).refresh(thorough=True, set_aside=True)
    finally:
        await agent.close()


def run(folder: Path) -> int:
    """The pass in a process of its own."""
    asyncio.run(_pass(folder))
    return 0
