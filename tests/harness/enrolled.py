"""Devices enrolled without a network, for tests that run the real command line on them, and a way to let two meet.

A `Class` lies in a folder: a server's replica, a teacher's device, pupils' machines, none of them open. `meet` brings
what one device has to another, entries and content, as any transport would.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from protocol.model.entry import Entry
from protocol.replica.private_file import write_private
from protocol.roles import PersonRole, Role
from sync_agent.app import Agent
from sync_agent.keys.reading_key import tend_reading_keys
from sync_agent.machine.enrolled import DEVICE_KEYS_FILE, Enrolment
from tests.harness.beginnings import new_place
from tests.harness.classroom import open_device
from tests.harness.machines import Machine
from tests.harness.territory import SimClock, Territory, new_device

NOBODY = "http://127.0.0.1:9"
"""Where no server answers."""


@dataclass
class Class:
    """A class, its people's ids in hex, and its devices by name."""

    folder: Path
    space: str = ""
    other_space: str = ""
    teacher_person: str = ""
    pupil_person: str = ""
    devices: dict[str, Machine] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Machine:
        return self.devices[name]


_MADE: dict[tuple[tuple[str, Role], ...], Class] = {}


async def enrolled_class(folder: Path, devices: Mapping[str, Role]) -> Class:
    """A class with one teacher and one pupil on its list, and these devices let into it; all are closed again."""
    wanted = tuple(devices.items())
    if wanted not in _MADE:
        _MADE[wanted] = await _enrol(new_place(), devices)
    made = _MADE[wanted]
    shutil.copytree(made.folder, folder, dirs_exist_ok=True)
    return replace(made, folder=folder, devices={name: Machine(name, folder / name, "sync-agent") for name in devices})


async def _enrol(folder: Path, devices: Mapping[str, Role]) -> Class:
    clock = SimClock(time.time_ns() // 1_000_000)
    territory = await Territory.create(folder / "server", clock=clock)
    space = await territory.classroom("CM1")
    other = await territory.classroom("CM2")
    adult = await territory.person("Mme Petit", PersonRole.TEACHER, space)
    pupil = await territory.person("Léa", PersonRole.PUPIL, space)
    made = Class(folder, space.hex(), other.hex(), adult.hex(), pupil.hex())
    agents: list[Agent] = []
    for number, (name, role) in enumerate(devices.items(), 1):
        keys = new_device(Random(1_000 + number).randbytes)
        write_private(folder / name / DEVICE_KEYS_FILE, keys.to_bytes())
        Enrolment(NOBODY, territory.keys.root.public, territory.name, name).write(folder / name)
        await territory.let_in(keys, role, space, person=adult if role is Role.TEACHER else None)
        agent = await open_device(folder / name, territory, keys, name, number)
        if role is Role.TEACHER:
            await tend_reading_keys(agent)
        agents.append(agent)
        made.devices[name] = Machine(name, folder / name, "sync-agent")
    for agent in agents:
        for known in territory.replica.door.lineage(space)[::-1]:
            await _tell(await _entries(territory, known), agent)
        for other_agent in agents:
            await _bring(other_agent, agent)
    for agent in agents:
        await agent.close()
    await territory.close()
    return made


async def meet(*machines: Machine) -> None:
    """Let devices exchange all that they have."""
    async with AsyncExitStack() as stack:
        agents = []
        for machine in machines:
            agents.append(await open_agent(machine))
            stack.push_async_callback(agents[-1].close)
        for _ in agents:
            for one in agents:
                for other in agents:
                    await _bring(one, other)


async def open_agent(machine: Machine, seed: int = 99) -> Agent:
    """The agent of a device that no process has open."""
    return await Agent.open(machine.folder, now_ms=lambda: time.time_ns() // 1_000_000, entropy=Random(seed).randbytes)


async def _bring(source: Agent, target: Agent) -> None:
    if source is target:
        return
    for space in await source.spaces():
        await _tell([stored.entry for stored in await source.replica.store.scan(space)], target)
    for _ in range(2):  # the list of files, then the files
        for need in await target.missing():
            for pack in await source.holdings.packs(need):
                data = await source.replica.content.read_pack(pack.hash, 0, pack.size)
                await target.replica.content.ingest(need.space, data)


async def _entries(territory: Territory, space: bytes) -> list[Entry]:
    return [stored.entry for stored in await territory.replica.store.scan(space)]


async def _tell(entries: list[Entry], target: Agent) -> None:
    await target.replica.admit(entries, source=b"harness", now_ms=target.now_ms())
