"""Couriers in tests: a class whose spaces have keys, and devices that write disks and read them, without processes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import Code, LocalFailure, RelaisError
from protocol.replica.at_work.replica import Draft
from protocol.replica.console.operation import JSON, Incoming, Outgoing, Params
from protocol.replica.office.space_keeper import SpaceKeeper
from sync_agent.courier.commands import Run, export_to, import_from
from sync_agent.courier.disk import BundlesOut, CourierDisk
from sync_agent.operations import table
from tests.harness.classroom import Classroom, Device, Way, classroom
from tests.harness.wire import MemoryTransport


def silent(_sentence: str) -> None:
    """Nobody reads along."""


def runner(device: Device) -> Run:
    """Has the device's own operations run."""
    operations = table(device.agent)

    async def run(name: str, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        return await operations[name](params, incoming, outgoing)

    return run


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """The disk of whoever exports meanwhile has room for so many bytes more, and for what is removed from it."""
    holds: list[int] = []

    def room(disk: CourierDisk) -> int:
        used = sum(path.stat().st_size for path in disk.place.iterdir())
        holds[:] = holds or [used + size]
        return holds[0] - used

    class Full(BundlesOut):
        def _append(self, data: memoryview) -> None:
            if len(data) > room(self._disk):
                raise LocalFailure(Code.DISK_FULL, "the disk is full")
            super()._append(data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sync_agent.courier.commands.BundlesOut", Full)
        patch.setattr(CourierDisk, "room", room)
        yield


async def export(device: Device, folder: Path) -> dict[str, Any]:
    """`courier export`."""
    return await export_to(folder, device.agent.replica.territory, runner(device), silent)


async def bring(device: Device, folder: Path) -> dict[str, Any]:
    """`courier import`."""
    return await import_from(folder, device.agent.replica.territory, runner(device), silent)


async def tend_keys(room: Classroom) -> None:
    """The server looks after the keys of spaces."""
    territory = room.territory

    async def write(drafts: Iterable[Draft]) -> list[Any]:
        return await territory.replica.write(
            list(drafts),
            author=territory.keys.signing,
            now_ms=territory.clock(),
            entropy=territory.entropy,
            unsent=False,
        )

    keeper = SpaceKeeper(
        territory.replica,
        territory.keys.agreement,
        territory.certificate.id,
        write,
        now_ms=territory.clock,
        entropy=territory.entropy,
    )
    await keeper.tend(territory.replica.door.spaces())


async def know_keys(room: Classroom, *devices: Device) -> None:
    """The server gives out the keys of spaces, and these devices meet it once."""
    await tend_keys(room)
    for device in devices:
        await device.session.sync()


@asynccontextmanager
async def courier_class(
    folder: Path, way: Way = MemoryTransport, *, spaces: int = 1, seed: int = 1
) -> AsyncIterator[Classroom]:
    """A class of `classroom` whose spaces have keys."""
    async with classroom(folder, way, spaces=spaces, seed=seed) as room:
        await tend_keys(room)
        yield room


def bundles(folder: Path) -> list[Path]:
    """The bundles on a disk."""
    return sorted(folder.glob("*/*.rls"))


def set_aside(folder: Path) -> list[Path]:
    """What an import found damaged."""
    return sorted(folder.glob("*/*.bad"))


def unfinished(folder: Path) -> list[Path]:
    """What an export left half-written."""
    return sorted(folder.glob("*/*.tmp"))


def make(folder: Path) -> None:
    """An empty folder."""
    folder.mkdir(parents=True)


def carry(place: Path, to: Path) -> None:
    """The disks that are plugged in here are so there."""
    place.rename(to)


def cut_short(path: Path) -> None:
    """A bundle that was not written to its end."""
    path.write_bytes(path.read_bytes()[:-10])


async def a_class(room: Classroom) -> tuple[Device, Device, Device]:
    """A teacher and two machines that met the server once, and will not again."""
    teacher, one, other = await room.teacher(), await room.machine(), await room.machine()
    await know_keys(room, teacher, one, other)
    for device in (teacher, one, other):
        await device.session.sync()
    return teacher, one, other


async def overhear(device: Device, other: Device, space: bytes) -> None:
    """By the school's network, `device` hears all that `other` has said, and takes no content."""
    said = await other.agent.replica.store.authored(space, other.agent.device)
    chain = await other.agent.replica.credentials([said[0].header.grant or b""])
    await device.agent.replica.admit([*chain, *said], source=other.agent.device, now_ms=other.agent.now_ms())


async def code_of(awaitable: object) -> Code:
    """With what something is refused."""
    with pytest.raises(RelaisError) as raised:
        await awaitable  # type: ignore[misc]
    return raised.value.code
