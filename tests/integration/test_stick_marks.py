"""What a machine notes of sticks is there while somebody asks for it, and does not grow for good."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.folds.coursework import HandInState
from sync_agent.upkeep.erasing import destroy_erased
from sync_agent.upkeep.stick_marks import REPORT_MS
from tests.harness.classroom import SMALL, Classroom, Device, assignment, state_at, work_of
from tests.harness.couriers import bring, export, know_keys

pytestmark = pytest.mark.usefixtures("space_keys")

PREFIXES = ("carried/", "by-stick/", "brought/")


async def noted(device: Device) -> list[str]:
    store = device.agent.replica.store
    return [mark for prefix in PREFIXES for mark in await store.marks(prefix)]


async def test_notes_about_a_work_that_a_stick_carried_end_a_month_later_once_it_is_at_the_server(
    room: Classroom, tmp_path: Path
) -> None:
    teacher, lea, hibou = await room.teacher(), await room.machine(), await room.machine()
    task = await assignment(room, teacher, lea, hibou)
    await know_keys(room, teacher, lea, hibou)
    hand_in = await room.hand_in(lea, task, SMALL)
    stick = tmp_path / "stick"
    stick.mkdir()
    await export(lea, stick)
    await bring(hibou, stick)
    assert await noted(lea) == [f"carried/{hand_in.hex()}"]
    assert await noted(hibou) == [f"by-stick/{hand_in.hex()}"]

    room.territory.clock.advance(REPORT_MS + 1_000)
    await destroy_erased(lea.agent)
    assert await state_at(lea, room, hand_in) is HandInState.CARRIED, "nobody is known to have it"

    for device in (hibou, lea):
        await device.session.sync()
        await device.session.sync()
        assert (await work_of(device, room, hand_in)).at_server
        await destroy_erased(device.agent)
        assert await noted(device) == []


async def test_a_month_long_the_report_of_a_drill_finds_what_a_stick_brought(room: Classroom, tmp_path: Path) -> None:
    teacher, lea, hibou = await room.teacher(), await room.machine(), await room.machine()
    task = await assignment(room, teacher, lea, hibou)
    await know_keys(room, teacher, lea, hibou)
    await room.hand_in(lea, task, SMALL)
    stick = tmp_path / "stick"
    stick.mkdir()
    await export(lea, stick)
    await bring(hibou, stick)
    await hibou.session.sync()
    await hibou.session.sync()
    room.territory.clock.advance(REPORT_MS - 3_600_000)
    before = await noted(hibou)
    await destroy_erased(hibou.agent)
    assert await noted(hibou) == before != []


async def test_notes_under_their_former_name_are_read_and_a_servers_accounts_are_left_alone(room: Classroom) -> None:
    machine = await room.machine()
    store, now = machine.agent.replica.store, room.territory.clock().to_bytes(8, "big")
    account = f"brought/{'a' * 64}/{'b' * 64}"
    await store.set_marks({f"brought/{'c' * 64}": now, account: bytes(24)})
    await destroy_erased(machine.agent)
    assert await noted(machine) == [f"by-stick/{'c' * 64}", account]
