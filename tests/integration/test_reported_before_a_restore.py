"""Who restores a server is led to the laptops that were reported before: theirs stay out until that is said again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from protocol.rights.vouching import device_id, device_words
from sync_agent.keys.confirming import confirm, own_device
from tests.harness.classroom import Device
from tests.harness.copied_keys import back_up, burnt_and_restored, next_class
from tests.harness.office_devices import town
from tests.harness.server_in_process import Office


@asynccontextmanager
async def _restored(folder: Path) -> AsyncIterator[tuple[Office, str, Device, list[Device]]]:
    """A teacher whose first laptop was reported, and who has said of two others on each that it is hers."""
    async with town(folder) as here:
        person = await here.office.add_person("Mme Petit", "teacher")
        first, *others = [await here.device("teacher", person) for _ in range(3)]
        await here.office.do("lost", device=first.agent.device.hex())
        here.devices.remove(first)
        await first.close()
        for _ in range(2):
            await here.sync()
        for one, other in (others, reversed(others)):
            await confirm(one.agent, device_id(own_device(other.agent)), shown_as="own")
        for _ in range(2):
            await here.sync()
        await back_up(here)
        async with burnt_and_restored(here) as office:
            yield office, person, first, others


async def _in(office: Office, devices: list[Device], space: bytes) -> list[bool]:
    return [space in await office.server.replica.readable(device.agent.device) for device in devices]


async def test_who_is_let_into_a_class_after_a_restore_comes_along_once_the_report_of_before_is_said_again(
    tmp_path: Path,
) -> None:
    async with _restored(tmp_path) as (office, person, first, others):
        space = await next_class(office, person)
        assert await _in(office, others, space) == [False, False]
        told = "\n".join(office.said.lines)
        again = f"sync-server lost {first.agent.device.hex()}"
        assert again in told
        assert "“Mme Petit”" in told, "whom to ask"
        assert all(told.count(device_words(own_device(each.agent))) == 2 for each in others), "and what for"
        await office.do("lost", device=first.agent.device.hex())
        space = await next_class(office, person)
        assert await _in(office, others, space) == [True, True]
        assert again not in "\n".join(office.said.lines)


async def test_the_status_of_a_restored_server_says_so_before_until_it_is_said_again(tmp_path: Path) -> None:
    async with _restored(tmp_path) as (office, _, first, others):
        again = f"sync-server lost {first.agent.device.hex()}"
        for is_told in (True, False):
            office.said.lines.clear()
            await office.do("status")
            told = "\n".join(office.said.lines)
            assert (again in told, "face to face" in told) == (is_told, is_told)
            assert all((device_words(own_device(each.agent)) in told) is is_told for each in others)
            await office.do("lost", device=first.agent.device.hex())
