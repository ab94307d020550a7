"""Devices enrolled without a network, for tests that run the real command line on them, and a way to let two meet.

A `Class` lies in a folder: a server's replica, a teacher's device, pupils' machines, none of them open. `meet` brings
what one device has to another, entries and content, as any transport would.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from protocol.roles import PersonRole, Role
from sync_agent.app import Agent
from sync_agent.reading_key import say_reading_key
from tests.harness.classroom import open_device
from tests.harness.territory import SimClock, Territory, new_device

TIMEOUT_S = 120


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    stdout: bytes
    stderr: str

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.stdout)

    @property
    def code(self) -> str:
        """The code of the error on stdout."""
        return str(self.json["error"]["code"])


@dataclass(frozen=True)
class Machine:
    """A device's folder, and its command line."""

    folder: Path

    def run(self, *arguments: str, cwd: Path | None = None, as_json: bool = True) -> Done:
        """Run a command to its end; with `--json` unless told otherwise."""
        ended = subprocess.run(
            [*command(self.folder, *arguments), *(["--json"] if as_json else [])],
            capture_output=True,
            check=False,
            cwd=cwd or self.folder,
            env=environment(),
            timeout=TIMEOUT_S,
        )
        return Done(ended.returncode, ended.stdout, ended.stderr.decode())

    def ok(self, *arguments: str, cwd: Path | None = None) -> Any:
        """What a command that must succeed says."""
        done = self.run(*arguments, cwd=cwd)
        assert done.status == 0, done.stdout.decode() + done.stderr
        return done.json

    def cat(self, item: str, path: str) -> bytes:
        """A file as `cat` writes it."""
        done = self.run("cat", item, path, as_json=False)
        assert done.status == 0, done.stderr
        return done.stdout

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Begin a command, for tests that end it before it ends."""
        return subprocess.Popen(
            command(self.folder, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
        )


def command(folder: Path, *arguments: str) -> list[str]:
    """The words of a command line."""
    return [sys.executable, "-m", "sync_agent.cli", *arguments, "--data", str(folder)]


def environment() -> dict[str, str]:
    """The environment of a command: this one, without what could change its meaning, and able to find our code."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SYNC_AGENT_")}
    return {**kept, "PYTHONPATH": str(Path(__file__).parents[2])}


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


async def enrolled_class(folder: Path, devices: Mapping[str, Role]) -> Class:
    """A class with one teacher and one pupil on its list, and these devices let into it; all are closed again."""
    clock = SimClock(time.time_ns() // 1_000_000)
    territory = await Territory.create(folder / "server", clock=clock)
    space = await territory.classroom("CM1")
    other = await territory.classroom("CM2")
    adult = await territory.person("Mme Petit", PersonRole.TEACHER, space)
    pupil = await territory.person("Léa", PersonRole.PUPIL, space)
    made = Class(folder, space.hex(), other.hex(), adult.hex(), pupil.hex())
    agents: list[Agent] = []
    for number, (name, role) in enumerate(devices.items(), 1):
        keys = new_device(Random(number).randbytes)
        await territory.let_in(keys, role, space, person=adult if role is Role.TEACHER else None)
        agent = await open_device(folder / name, territory, keys, name, number)
        if role is Role.TEACHER:
            await say_reading_key(agent)
        agents.append(agent)
        made.devices[name] = Machine(folder / name)
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
    agents = [await open_agent(machine) for machine in machines]
    for _ in agents:
        for one in agents:
            for other in agents:
                await _bring(one, other)
    for agent in agents:
        await agent.close()


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


async def _entries(territory: Territory, space: bytes) -> list[Any]:
    return [stored.entry for stored in await territory.replica.store.scan(space)]


async def _tell(entries: list[Any], target: Agent) -> None:
    await target.replica.admit(entries, source=b"harness", now_ms=target.now_ms())
