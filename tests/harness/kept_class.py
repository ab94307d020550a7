"""A class as it stood at a moment, to begin from many times: what lies in its folders, copied and opened again.

What was held in memory only is gone, as when every program of the class is started anew; where randomness goes on, it
is other randomness. Whoever is in the class, and what they said to one another, is what it was.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Self

from sync_agent.app import Agent
from sync_agent.sync.session import Session
from tests.harness.classroom import Classroom, Device
from tests.harness.territory import SimClock, Territory
from tests.harness.wire import Frontage

_SEEDS_OF_DEVICES = 2_000


@dataclass(frozen=True)
class KeptClass:
    """What a class was, and where it lies."""

    was: Classroom
    now_ms: int
    device_folders: tuple[str, ...]

    @classmethod
    def of(cls, room: Classroom) -> Self:
        """The class as it is now. It is to be closed before it is opened again, its folder to stay as it is then."""
        folders = tuple(device.agent.folder.relative_to(room.folder).as_posix() for device in room.devices)
        return cls(room, room.territory.clock(), folders)

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[Classroom]:
        """The same class in `folder`; its devices are in the order in which they were let in."""
        shutil.copytree(self.was.folder, folder, dirs_exist_ok=True)
        before = self.was.territory
        territory = await Territory.open(folder / "server", before.keys, clock=SimClock(self.now_ms))
        territory.schools, territory.classes = [*before.schools], [*before.classes]
        frontage = Frontage(territory.responder())
        room = replace(self.was, folder=folder, territory=territory, frontage=frontage, devices=[])
        try:
            for number, name in enumerate(self.device_folders):
                entropy = Random(_SEEDS_OF_DEVICES + number).randbytes
                agent = await Agent.open(folder / name, now_ms=territory.clock, entropy=entropy)
                way = room.way(frontage)
                room.devices.append(Device(agent, Session(agent, way), way))
            yield room
        finally:
            await room.close()
