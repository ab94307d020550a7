"""A class and its server, made once for the tests of a file, from which each begins with a copy of its own.

As `kept_class`: what was held in memory only is gone. It is made before a test switches its defence off
(docs/adr/0195): one in step by a fixture (`keep_town`), one at work by the first test that is defended.
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
from tests.harness.attack import is_undefended
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


_IN_STEP: Final[dict[str, _Kept]] = {}
_AT_WORK: Final[dict[str, _Kept]] = {}


async def keep_town(kept_for: str) -> None:
    """Make it, unless this process has made it for the tests of that file."""
    if kept_for not in _IN_STEP:
        async with town(new_place()) as here:
            _IN_STEP[kept_for] = _kept(here, await here.class_in_step())


@asynccontextmanager
async def town_in_step(folder: Path, kept_for: str) -> AsyncIterator[tuple[Town, AtWork]]:
    """The town that was kept for a file, in `folder`, and who is at work in it."""
    async with _copy(_IN_STEP[kept_for], folder) as found:
        yield found


@asynccontextmanager
async def town_at_work(folder: Path, *, kept_for: str, in_step: bool = False) -> AsyncIterator[tuple[Town, AtWork]]:
    """A town with its class at work (`Town.class_at_work`), or in step (`Town.class_in_step`), in `folder`, and who is.

    It must be kept for a file whose tests have changed nothing before they ask for it; an attack whose defence is
    switched off by now has its own made.
    """
    if is_undefended():
        async with town(folder) as here:
            yield here, await (here.class_in_step() if in_step else here.class_at_work())
        return
    if kept_for not in _AT_WORK:
        async with town(new_place()) as here:
            _AT_WORK[kept_for] = _kept(here, await here.class_at_work())
    async with _copy(_AT_WORK[kept_for], folder) as (here, at_work):
        for _ in range(2 if in_step else 1):
            await here.sync()  # which the server would remember, had it not begun anew
        yield here, at_work


def _kept(here: Town, at_work: AtWork) -> _Kept:
    """What is kept of a town; it is to be closed before it is copied."""
    return _Kept(here.folder, here.office.clock(), here.office.space, at_work)


@asynccontextmanager
async def _copy(kept: _Kept, folder: Path) -> AsyncIterator[tuple[Town, AtWork]]:
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
                await device.close()
