"""A class at work: a territory's server, a teacher's device, pupils' machines, each with its own folder and session."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from protocol.errors import NoAnswer
from protocol.folds.coursework import HandInState, Work
from protocol.identity import DeviceKeys
from protocol.model.entry import Entry, Kind, compose
from protocol.model.work import ItemKind
from protocol.replica.at_work.replica import Replica
from protocol.replica.console.frame import Notices
from protocol.replica.console.operation import Complete, FileData, FileEnd, FileEvent, FileStart
from protocol.replica.content.holdings import Need
from protocol.replica.private_file import write_private
from protocol.roles import PersonRole, Role
from sync_agent.app import Agent
from sync_agent.coursework.publisher import Published, Wish, publish
from sync_agent.hand_ins.for_good import opened_for_good
from sync_agent.hand_ins.handing_in import fate_marks, hand_in, state_of
from sync_agent.hand_ins.wraps import Kept, mark_of
from sync_agent.machine.enrolled import DEVICE_KEYS_FILE, Enrolment
from sync_agent.machine.eviction import Worth
from sync_agent.sync.session import Session
from sync_agent.sync.worth import Worths
from sync_agent.transport.interface import Transport
from tests.harness.entries import SOME_RECEIPT
from tests.harness.territory import SimClock, Territory, TerritoryKeys, new_device
from tests.harness.wire import URL, Faults, Faulty, Frontage, MemoryTransport

Files = Mapping[str, bytes]
Way = Callable[[Frontage], Transport]


SMALL: Files = {"lecon.html": b"<h1>Le cycle de l'eau</h1>", "notes/memo.txt": b"un deux trois"}
LARGE: Files = {"image.png": Random(1).randbytes(70_000), "lecon.html": b"<h1>image</h1>"}
WORK: Files = {"reponse.odt": b"ma reponse " * 100}


class Given:
    """Files as a command hands them to an operation."""

    def __init__(self, files: Files) -> None:
        self._files = files

    async def __aiter__(self) -> AsyncIterator[FileEvent]:
        for path, data in sorted(self._files.items()):
            yield FileStart(path, len(data))
            for at in range(0, len(data), 262_144):
                yield FileData(data[at : at + 262_144])
            yield FileEnd()
        yield Complete()


async def open_device(folder: Path, territory: Territory, keys: DeviceKeys, name: str, seed: int) -> Agent:
    """The agent of a device that was let in: enrolled by hand, holding what opens its grants and nothing else."""
    if not (folder / DEVICE_KEYS_FILE).exists():
        write_private(folder / DEVICE_KEYS_FILE, keys.to_bytes())
        Enrolment(URL, territory.keys.root.public, territory.name, name).write(folder)
    agent = await Agent.open(folder, now_ms=territory.clock, entropy=Random(seed).randbytes)
    door = territory.replica.door
    grants = [authority.grant for authority in door.authorities() if authority.key == keys.signing.public]
    entries = await territory.replica.credentials([territory.certificate.id, *grants])
    await agent.replica.admit(entries, source=territory.keys.signing.public, now_ms=territory.clock())
    return agent


@dataclass
class Device:
    """A machine: its agent, its session, and the faults on its way to the server."""

    agent: Agent
    session: Session
    way: Transport

    async def close(self) -> None:
        """It is switched off."""
        await self.way.close()
        await self.agent.close()

    async def starts_again(self) -> None:
        """Its program ends, and starts."""
        was = self.agent
        await was.close()
        self.agent = await Agent.open(was.folder, now_ms=was.now_ms, entropy=was.entropy)
        self.session = Session(self.agent, self.way)

    async def files(self, item: bytes) -> dict[str, bytes]:
        """The files of an item's shown revision, as this device has them."""
        for space in await self.agent.spaces():
            found = (await self.agent.replica.view(space)).coursework.items.get(item)
            if found is not None:
                holdings = self.agent.holdings
                manifest = await holdings.manifest(found.shown.record.content.stream)
                return {file.path: await read(self.agent.replica, file.stream) for file in manifest}
        raise KeyError(item.hex())

    @property
    def faulty(self) -> Faulty:
        assert isinstance(self.way, Faulty)
        return self.way


@dataclass
class Classroom:
    """One class, its people, and the machines in it. Made by `classroom`."""

    folder: Path
    territory: Territory
    frontage: Frontage
    space: bytes
    teacher_person: bytes
    pupil_person: bytes
    way: Way
    devices: list[Device] = field(default_factory=list)

    @property
    def school(self) -> bytes:
        """The class's school."""
        return above(self.territory.replica, self.space)

    async def device(
        self,
        role: Role,
        *spaces: bytes,
        person: bytes | None = None,
        way: Way | None = None,
        until_ms: int | None = None,
    ) -> Device:
        """A new machine with a grant in these spaces (default: the class)."""
        number = len(self.devices) + 1
        keys = new_device(Random(1_000 + number).randbytes)
        await self.territory.let_in(keys, role, *(spaces or (self.space,)), person=person, until_ms=until_ms)
        agent = await open_device(self.folder / f"device-{number}", self.territory, keys, f"PC {number}", number)
        way_there = (way or self.way)(self.frontage)
        device = Device(agent, Session(agent, way_there), way_there)
        self.devices.append(device)
        return device

    async def teacher(self) -> Device:
        """A teacher's device."""
        return await self.device(Role.TEACHER, person=self.teacher_person)

    async def head(self, person: bytes | None = None) -> Device:
        """A computer of a head teacher of the class's school, of nobody's by name unless `person` is given."""
        return await self.device(Role.HEAD, self.school, person=person)

    async def machine(self) -> Device:
        """A pupils' PC."""
        return await self.device(Role.MACHINE)

    async def publish(
        self, device: Device, files: Files, *, kind: ItemKind = ItemKind.LESSON, item: bytes | None = None
    ) -> Published:
        """Publish from a device, without any network."""
        wish = Wish(self.space, item, kind if item is None else None, "Leçon" if item is None else None)
        return await publish(device.agent, wish, Given(files), Notices())

    async def hand_in(self, device: Device, item: bytes, files: Files) -> bytes:
        """Hand in for the pupil, without any network."""
        sizes = [(path, len(data)) for path, data in sorted(files.items())]
        return await hand_in(device.agent, item, self.pupil_person, sizes, Given(files), Notices())

    async def agree(self, devices: Sequence[Device] | None = None) -> bool:
        """Whether these devices (default: all) and the server hold equal sets of the class and of what is above it."""
        spaces = self.territory.replica.door.lineage(self.space)
        expected = [await self.territory.replica.fingerprint(space) for space in spaces]
        for device in self.devices if devices is None else devices:
            found = [await device.agent.replica.fingerprint(space) for space in spaces]
            if found != expected or await device.agent.missing():
                return False
        return True

    async def restart_server(self, folder: Path, keys: TerritoryKeys | None = None) -> None:
        """The server starts again over `folder`: its own, or an old image of it."""
        keys = keys or self.territory.keys
        await self.replace_server(await Territory.open(folder, keys, clock=self.territory.clock))

    async def replace_server(self, territory: Territory) -> None:
        """Another server answers from now on at the same address."""
        await self.territory.close()
        self.territory = territory
        self.frontage.responder = territory.responder()

    async def close(self) -> None:
        """Everybody lets go of what is theirs."""
        for device in self.devices:
            await device.close()
        await self.territory.close()


@asynccontextmanager
async def classroom(
    folder: Path, way: Way = MemoryTransport, *, spaces: int = 1, seed: int = 1
) -> AsyncIterator[Classroom]:
    """A class (and `spaces` - 1 more in its school) with a teacher and a pupil on its list."""
    territory = await Territory.create(folder / "server", seed=seed, clock=SimClock())
    space = await territory.classroom()
    for number in range(1, spaces):
        await territory.classroom(f"CM{number + 1}")
    teacher = await territory.person("Mme Petit", PersonRole.TEACHER, space)
    pupil = await territory.person("Léa", PersonRole.PUPIL, space)
    room = Classroom(folder, territory, Frontage(territory.responder()), space, teacher, pupil, way)
    try:
        yield room
    finally:
        await room.close()


def above(replica: Replica, space: bytes) -> bytes:
    """The space above one that has one."""
    parent = replica.door.parent(space)
    assert parent is not None
    return parent


async def read(replica: Replica, stream: bytes) -> bytes:
    """The bytes of a stream."""
    return b"".join([piece async for piece in replica.content.read_stream(stream)])


def faulty(frontage: Frontage) -> Faulty:
    return Faulty(MemoryTransport(frontage))


async def work_of(device: Device, room: Classroom, hand_in: bytes) -> Work:
    return (await device.agent.replica.view(room.space)).coursework.hand_ins[hand_in]


async def state_at(device: Device, room: Classroom, hand_in: bytes) -> HandInState:
    """How far a hand-in has come, as a device says."""
    agent = device.agent
    roster, marks = (await agent.replica.view(room.space)).roster, await fate_marks(agent.replica.store)
    return state_of(agent, roster, await work_of(device, room, hand_in), marks)


async def sealed_key_of(device: Device, hand_in: bytes) -> bytes | None:
    """The key of work that was handed in on a machine, as it keeps it."""
    mark = await device.agent.replica.store.mark(mark_of(hand_in))
    return Kept.parse(mark or b"").sealed_key


async def takes_for_opened(device: Device, space: bytes, hand_in: bytes) -> bool:
    """Whether a device takes a work for opened by whom it was meant for."""
    work = (await device.agent.replica.view(space)).coursework.hand_ins[hand_in]
    return (await opened_for_good(device.agent, space))(work)


async def keeps_key_of(device: Device, hand_in: bytes) -> bool:
    """Whether it keeps it."""
    return await sealed_key_of(device, hand_in) is not None


async def worth_of(device: Device, need: Need) -> Worth:
    """What a stream that lies here is worth to a device where room lacks."""
    (piece,) = [each for each in await Worths(device.agent).pieces() if each.need == need]
    return piece.worth


async def assignment(room: Classroom, teacher: Device, *others: Device) -> bytes:
    """An assignment that the teacher has published and the others have fetched."""
    item = (await room.publish(teacher, SMALL, kind=ItemKind.ASSIGNMENT)).item
    for device in (teacher, *others):
        await device.session.sync()
    return item


async def receipts_said(device: Device, space: bytes, ats: Iterable[int]) -> list[Entry]:
    """Receipts of a device's key, one for each of these `at`s, which are in no store: as many as somebody likes."""
    grant = (await device.agent.replica.authorities(device.agent.device))[0].grant
    return [
        compose(
            author=device.agent.keys.signing,
            space=space,
            kind=Kind.RECEIPT_SAFE,
            grant=grant,
            at=at,
            payload=SOME_RECEIPT,
            salt=bytes(16),
            target=bytes(32),
        )
        for at in ats
    ]


async def brought(teacher: Device, *devices: Device) -> None:
    """What the teacher has reaches the others, and what they say of it the teacher."""
    for device in (teacher, *devices, teacher):
        await device.session.sync()


async def everything(room: Classroom) -> tuple[Device, Device, bytes, bytes]:
    """A teacher has published much, a pupil has handed in much, nothing of it has been sent."""
    teacher, machine = await room.teacher(), await room.machine()
    task = await assignment(room, teacher, machine)
    item = (await room.publish(teacher, LARGE)).item
    hand_in = await room.hand_in(machine, task, LARGE)
    return teacher, machine, item, hand_in


async def syncs(device: Device) -> bool:
    try:
        await device.session.sync()
    except NoAnswer:
        return False
    return True


async def converge(*devices: Device) -> None:
    for _ in range(2):
        for device in devices:
            device.faulty.faults = Faults()
            await device.session.sync()


async def needs_of(device: Device, room: Classroom) -> list[Need]:
    return await device.agent.needs(room.space, (await device.agent.spaces())[room.space])
