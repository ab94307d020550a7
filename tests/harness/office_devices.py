"""Devices of a server that runs in the test's own process: enrolled with a code, syncing without a network."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import NamedTuple

from protocol.clock import DAY_MS
from protocol.errors import Code, NoAnswer
from protocol.identity import DeviceKeys
from protocol.model.work import ItemKind
from protocol.replica.console.frame import Notices
from protocol.replica.console.operation import JSON, Incoming, Outgoing, Params
from protocol.replica.private_file import write_private
from sync_agent.app import Agent
from sync_agent.courier.commands import export_to
from sync_agent.coursework.publisher import Wish, publish
from sync_agent.enrollment.by_code import Enrolled
from sync_agent.enrollment.by_stick import enroll_by_stick
from sync_agent.hand_ins.handing_in import hand_in
from sync_agent.machine.enrolled import DEVICE_KEYS_FILE, Enrolment
from sync_agent.operations import table
from sync_agent.sync.session import Session
from sync_agent.upkeep.erasing import destroy_erased
from tests.harness.classroom import SMALL, WORK, Device, Given, above
from tests.harness.couriers import silent
from tests.harness.server_in_process import Office, office
from tests.harness.territory import new_device
from tests.harness.wire import URL, Frontage, MemoryTransport


class AtWork(NamedTuple):
    """See `Town.class_at_work`."""

    teacher: Device
    machine: Device
    person: str
    pupil: str
    item: bytes


class Town:
    """An office and the devices that it let in. `frontage` is where the server answers."""

    def __init__(self, folder: Path, here: Office) -> None:
        self.folder = folder
        self.office = here
        self.frontage = Frontage(here.server.responder)
        self.devices: list[Device] = []

    @property
    def space(self) -> bytes:
        return bytes.fromhex(self.office.space)

    @property
    def school(self) -> bytes:
        """The class's school."""
        return above(self.office.server.replica, self.space)

    async def device(
        self,
        role: str,
        person: str | None = None,
        space: str | None = None,
        *,
        keys: DeviceKeys | None = None,
        code: str | None = None,
    ) -> Device:
        """A new device in this role, by a code of its own if none is given, which has synced once."""
        server, number = self.office.server, len(self.devices) + 1
        keys = keys or new_device(Random(2_000 + number).randbytes)
        code = code or await self.office.invite(role, *([space] if space else []), person=person)
        member = await self.office.enrol(code, keys, f"PC {number}")
        folder = self.folder / f"device-{number}"
        write_private(folder / DEVICE_KEYS_FILE, keys.to_bytes())
        Enrolment(URL, server.territory.root, server.territory.name, f"PC {number}").write(folder)
        agent = await Agent.open(folder, now_ms=self.office.clock, entropy=Random(number).randbytes)
        chain = server.responder.station.chain
        await agent.replica.admit(
            (*chain, *member.answer.entries), source=server.keys.signing.public, now_ms=self.office.clock()
        )
        way = MemoryTransport(self.frontage)
        device = Device(agent, Session(agent, way), way)
        self.devices.append(device)
        await device.session.sync()
        return device

    async def head_of_the_school(self) -> Device:
        """A new computer of a head teacher of the class's school, which has synced once."""
        return await self.device("head", None, self.school.hex())

    async def write_stick(
        self, device: Device, stick: Path, *, online: bool, say: Callable[[str], None] = silent
    ) -> None:
        """`courier export` on a device, which reaches the server or not."""

        def connect(_url: str) -> MemoryTransport:
            if not online:
                raise NoAnswer(Code.UNREACHABLE, "the line is down")
            return MemoryTransport(self.frontage)

        operations = table(device.agent, connect)

        async def run(name: str, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
            return await operations[name](params, incoming, outgoing)

        await export_to(stick, device.agent.replica.territory, run, say)

    async def enrol_by_stick(
        self, folder: Path, stick: Path, code: str, *, url: str | None = None, say: Callable[[str], None] = silent
    ) -> Enrolled:
        """`enroll --stick` on a new machine that reaches nobody. Raises `NoAnswer` until the stick has the answer."""
        clock = self.office.clock
        return await enroll_by_stick(
            folder, stick, code, "Merle", url=url, now_ms=clock, entropy=os.urandom, say=say, identify=dict
        )

    def place_on(self, stick: Path) -> Path:
        """Where this territory's part of a stick lies."""
        return stick / self.office.server.replica.territory[:8].hex()

    async def class_at_work(self) -> AtWork:
        """A teacher and a pupil, a computer of each, and work that was asked for, which the pupils' has heard of."""
        person = await self.office.add_person("Mme Petit", "teacher")
        pupil = await self.office.add_person("Léa", "pupil")
        teacher, machine = await self.device("teacher", person), await self.device("machine")
        item = await self.assignment(teacher)
        await self.sync(machine)
        return AtWork(teacher, machine, person, pupil, item)

    async def class_in_step(self) -> AtWork:
        """The same, once everybody's news has reached everybody else."""
        found = await self.class_at_work()
        for _ in range(2):
            await self.sync()
        return found

    async def assignment(self, teacher: Device) -> bytes:
        """Work that the teacher asks for, at the server."""
        item = await self.asks_for_work(teacher, self.space)
        await self.sync(teacher)
        return item

    async def asks_for_work(self, teacher: Device, space: bytes) -> bytes:
        """The same in any class, on the teacher's machine only."""
        wish = Wish(space, None, ItemKind.ASSIGNMENT, "Racontez")
        return (await publish(teacher.agent, wish, Given(SMALL), Notices())).item

    async def work(self, machine: Device, item: bytes, pupil: str) -> bytes:
        """Work of a pupil, on the machine only."""
        sizes = [(path, len(data)) for path, data in sorted(WORK.items())]
        return await hand_in(machine.agent, item, bytes.fromhex(pupil), sizes, Given(WORK), Notices())

    async def sync(self, *devices: Device) -> None:
        for device in devices or self.devices:
            await device.session.sync()

    async def days_pass(self, days: int, *devices: Device) -> None:
        """On each of them these devices, or all, look for what is to be destroyed, as `run` does, and sync."""
        for _ in range(days):
            self.office.clock.advance(DAY_MS)
            for device in devices or self.devices:
                await destroy_erased(device.agent)
                await device.session.sync()


@asynccontextmanager
async def town(folder: Path) -> AsyncIterator[Town]:
    """A new territory with one class, its server answering."""
    async with office(folder / "server") as here:
        found = Town(folder, here)
        try:
            yield found
        finally:
            for device in found.devices:
                await device.close()
