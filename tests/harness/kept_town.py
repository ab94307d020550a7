"""A class in step with its server, made once for the tests of a file, from which each begins with a copy of its own.

As `kept_class`: what was held in memory only is gone. It is made by a fixture (`keep_town`), before a test switches its
defence off (docs/adr/0195).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from sync_agent.app import Agent
from sync_agent.sync.session import Session
from sync_server.opened.app import opened
from tests.harness.beginnings import new_place
from tests.harness.classroom import Device
from tests.harness.office_devices import AtWork, Town, town
from tests.harness.server_in_process import Office
from tests.harness.territory import SimClock
from tests.harness.wire import MemoryTransport


@dataclass(frozen=True)
class _Kept:
    """Where a town lies, when that was, which class it has, and who is in it: the teacher's device, then the PC."""

    folder: Path
    now_ms: int
    space: str
    at_work: AtWork


_KEPT: Final[dict[str, _Kept]] = {}


async def keep_town(kept_for: str) -> None:
    """Make it, unless this process has made it for the tests of that file."""
    if kept_for not in _KEPT:
        async with town(new_place()) as here:
            at_work = await here.class_in_step()
            _KEPT[kept_for] = _Kept(here.folder, here.office.clock(), here.office.space, at_work)


@asynccontextmanager
async def town_in_step(folder: Path, kept_for: str) -> AsyncIterator[tuple[Town, AtWork]]:
    """The town that was kept for a file, in `folder`, and who is at work in it."""
    kept = _KEPT[kept_for]
    shutil.copytree(kept.folder, folder, dirs_exist_ok=True)
    clock = SimClock(kept.now_ms)
    async with opened(folder / "server", now_ms=clock, entropy=os.urandom) as server:
        here = Town(folder, Office(server, clock, kept.space))
        try:
            for number, was in enumerate((kept.at_work.teacher, kept.at_work.machine), 1):
                place = folder / was.agent.folder.relative_to(kept.folder)
                agent = await Agent.open(place, now_ms=clock, entropy=Random(number).randbytes)
                way = MemoryTransport(here.frontage)
                here.devices.append(Device(agent, Session(agent, way), way))
            teacher, machine = here.devices
            yield here, kept.at_work._replace(teacher=teacher, machine=machine)
        finally:
            for device in here.devices:
                await device.way.close()
                await device.agent.close()
