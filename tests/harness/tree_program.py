"""A program that brings DIR/coursework in step once: `python -m tests.harness.tree_program DIR`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from sync_agent.materializer import Materializer
from tests.harness.enrolled import open_agent
from tests.harness.machines import Machine


async def main(folder: Path) -> None:
    """One pass over everything, edits set aside."""
    agent = await open_agent(Machine("tree", folder, "sync-agent"))
    try:
        await Materializer(agent, reserve_bytes=0).refresh(thorough=True, set_aside=True)
    finally:
        await agent.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
