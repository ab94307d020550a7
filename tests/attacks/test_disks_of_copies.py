"""Attacks: the disk of one copy of an image gives away the keys of the image, which another PC goes on using."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random
from typing import cast
from unittest import mock

import pytest

from protocol import canonical
from protocol.clock import DAY_MS
from protocol.errors import BadInput, RelaisError
from protocol.identity import DeviceKeys
from protocol.limits import KiB
from protocol.replica.private_file import write_private
from sync_agent.app import Agent
from sync_agent.keys.succession import Place, bind
from sync_agent.machine.enrolled import DEVICE_KEYS_FILE, FORMER_KEYS_FILE
from sync_agent.sync.session import Session
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.kept_town import town_at_work
from tests.harness.office_devices import AtWork, Town, town
from tests.harness.wire import MemoryTransport
from tests.integration.test_clones import pc

ROW = "a copy of an image is taken, and goes on as another"


def _keep_whole(folder: Path, keys: DeviceKeys) -> None:
    """As an earlier version did it."""
    write_private(folder / FORMER_KEYS_FILE, canonical.encode({"keys": [keys.to_bytes()]}))


def _keep_what_is_there(_folder: Path) -> None:
    """As if a start let go of nothing."""


WHOLE = {
    "sync_agent.keys.succession.keep_former": _keep_whole,
    "sync_agent.keys.succession.let_go_of_seeds": _keep_what_is_there,
}


def _whole_keys_on(disk: Path) -> list[DeviceKeys]:
    """With what a thief could sign of the keys that a PC had before."""
    held = cast("dict[str, list[bytes]]", canonical.decode((disk / FORMER_KEYS_FILE).read_bytes(), max_bytes=64 * KiB))
    found = []
    for row in held["keys"]:
        try:
            found.append(DeviceKeys.from_bytes(row))
        except RelaisError:
            continue
    return found


async def _started(here: Town, folder: Path, number: int) -> Device:
    agent = await Place(pc(number)).open(folder, here.office.clock, Random(number).randbytes)
    way = MemoryTransport(here.frontage)
    device = Device(agent, Session(agent, way), way)
    here.devices.append(device)
    for _ in range(2):
        await device.session.sync()
    return device


async def _stopped(here: Town, device: Device) -> Path:
    here.devices.remove(device)
    await device.close()
    return device.agent.folder


async def _two_of_an_image(here: Town, at_work: AtWork) -> tuple[Device, Device]:
    """The first PC of an image, which keeps the image's key, and a copy."""
    for _ in range(2):
        await here.sync()
    disk = await _stopped(here, at_work.machine)
    bind(disk, pc(1), Random(9).randbytes)
    shutil.copytree(disk, here.folder / "copy")
    return await _started(here, disk, 1), await _started(here, here.folder / "copy", 2)


async def _as_those(here: Town, disk: Path) -> list[Device]:
    """Devices of a thief's: one for each key that he finds on the disk of a copy."""
    found = []
    for number, keys in enumerate(_whole_keys_on(disk)):
        folder = here.folder / f"his-{number}"
        shutil.copytree(disk, folder, ignore=shutil.ignore_patterns("run"))
        write_private(folder / DEVICE_KEYS_FILE, keys.to_bytes())
        agent = await Agent.open(folder, now_ms=here.office.clock, entropy=Random(7).randbytes)
        way = MemoryTransport(here.frontage)
        found.append(Device(agent, Session(agent, way), way))
    return found


async def _is_answered(device: Device) -> bool:
    try:
        await device.session.sync()
    except RelaisError:
        return False
    return True


@attack(ROW, off=WHOLE)
async def test_whoever_has_the_disk_of_a_copy_that_was_cut_off_reads_on_as_no_other_pc(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        _, copy = await _two_of_an_image(here, at_work)
        await here.office.do("lost", device=copy.agent.device.hex())
        disk = await _stopped(here, copy)
        his = await _as_those(here, disk)
        try:
            assert not [device for device in his if await _is_answered(device)]
        finally:
            for device in his:
                await device.agent.close()


@attack(ROW, off={"sync_agent.keys.succession.let_go_of_seeds": _keep_what_is_there})
async def test_what_an_earlier_version_kept_of_an_image_is_let_go_of_at_the_next_start(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        first, copy = await _two_of_an_image(here, at_work)
        disk = await _stopped(here, copy)
        _keep_whole(disk, first.agent.keys)
        assert _whole_keys_on(disk)
        again = await _started(here, disk, 2)
        assert not _whole_keys_on(disk)
        assert first.agent.keys.signing.seed not in b"".join(each.read_bytes() for each in (disk / "keys").iterdir())
        assert again.agent.former == {first.agent.device}
        assert first.agent.keys.agreement.public in {each.public for each in again.agent.agreements}


@attack("a class is closed while a line keeps its work from the server", off=WHOLE)
async def test_whoever_sits_at_one_copy_says_of_no_other_that_it_has_told_all(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        office = here.office
        first, copy = await _two_of_an_image(here, at_work)
        await here.work(first, at_work.item, at_work.pupil)
        his = await _as_those(here, copy.agent.folder)
        try:
            for _ in range(40):
                office.clock.advance(DAY_MS)
                await here.sync(at_work.teacher, copy, *his)
        finally:
            for device in his:
                await device.agent.close()
        told = await office.do("space close", space=office.space)
        assert [row["device"] for row in told["unheard"]] == [first.agent.device.hex()]
        with pytest.raises(BadInput, match="have not told all that they know"):
            await office.with_kit("space close", kit_in(tmp_path / "server" / "kit", None), space=office.space)


@attack(ROW, off={"protocol.replica.office.losses.came_of": mock.AsyncMock(return_value=())})
async def test_who_reports_a_copy_is_told_with_whose_keys_it_was_copied(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        at_work, office = await here.class_at_work(), here.office
        first, copy = await _two_of_an_image(here, at_work)
        third = await _started(here, _copied(await _stopped(here, first), here.folder / "third"), 3)
        key = first.agent.device.hex()
        await office.do("confirm", device=third.agent.device.hex())
        told = await office.do("lost", device=copy.agent.device.hex())
        assert {row["device"] for row in told["image"]} == {key}
        assert any(f"`lost {key}` cuts those keys off too" in line for line in office.said.lines)
        assert (await office.do("lost", device=key))["image"] == []
        assert (await office.do("lost", device=copy.agent.device.hex()))["image"] == []
        await third.session.sync()
        assert await office.server.replica.readable(third.agent.device), "who was confirmed stays"


def _copied(disk: Path, to: Path) -> Path:
    shutil.copytree(disk, to, ignore=shutil.ignore_patterns("run"))
    return to
