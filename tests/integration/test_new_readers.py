"""A teacher sees who newly reads pupils' work, and decides what of before goes there where she wants to be asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import BadInput, Refused
from protocol.roles import PersonRole, Role
from sync_agent.new_readers import READER_MARKS, SHOWN_FOR_MS, readers
from tests.harness.classroom import WORK, Classroom, Device, assignment, classroom
from tests.harness.commands import Desk
from tests.harness.portal import portal


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Classroom]:
    async with classroom(tmp_path) as made:
        yield made


async def sync(*devices: Device) -> None:
    for device in devices:
        await device.session.sync()


async def opens(device: Device, work: bytes) -> bool:
    try:
        return await Desk(device.agent).files("open-hand-in", id=work.hex()) == WORK
    except Refused:
        return False


async def listed(device: Device) -> Any:
    return await Desk(device.agent).ask("key-readers")


async def test_a_new_reader_is_shown_for_two_weeks_and_those_who_were_there_are_not(room: Classroom) -> None:
    first = await room.teacher()
    second = await room.teacher()
    await sync(first, second, first)
    assert [row["accepted"] for row in await listed(first)] == [True], "it was there when this device first looked"
    colleague = await room.territory.person("M. Roux", PersonRole.TEACHER, room.space)
    third = await room.device(Role.TEACHER, person=colleague)
    await sync(third, first)
    newest, *_ = await listed(first)
    assert (newest["device"], newest["name"], newest["accepted"]) == (third.agent.device.hex(), "M. Roux", False)
    async with portal(first.agent) as page:
        assert "au nom de M. Roux" in await page.page("/")
        room.territory.clock.advance(SHOWN_FOR_MS)
        assert "new-reader" not in await page.page("/")
    pc = await room.machine()
    await sync(pc)
    assert await listed(pc) == []
    async with portal(pc.agent) as page:
        assert "new-reader" not in await page.page("/")


async def test_where_she_is_asked_a_new_laptop_reads_what_was_before_once_it_is_accepted(room: Classroom) -> None:
    teacher, pc = await room.teacher(), await room.machine()
    await sync(teacher)
    item = await assignment(room, teacher, pc)
    work = await room.hand_in(pc, item, WORK)
    await sync(pc, teacher)
    desk = Desk(teacher.agent)
    await desk.ask("confirm-opened", id=work.hex())
    await desk.ask("key-hand-over", ask=True)
    await sync(teacher, pc)
    laptop = await room.teacher()
    await sync(laptop, teacher, laptop, teacher, laptop)
    assert not await opens(laptop, work)
    async with portal(teacher.agent) as page:
        room.territory.clock.advance(2 * SHOWN_FOR_MS)
        assert "new-reader" in await page.page("/"), "it waits for her word"
    for wrong in ("", laptop.agent.device.hex()[:6], "ab" * 32):
        with pytest.raises(BadInput, match="key readers"):
            await desk.ask("key-accept", device=wrong)
    await desk.ask("key-accept", device=laptop.agent.device.hex()[:10].upper())
    await sync(teacher, laptop, teacher, laptop)
    assert await opens(laptop, work)
    async with portal(teacher.agent) as page:
        assert "new-reader" not in await page.page("/")
    another = await room.teacher()
    await desk.ask("key-hand-over", ask=False)
    await sync(another, teacher, another, teacher, another)
    assert await opens(another, work), "as before"


async def test_what_cannot_be_read_of_a_reader_is_as_if_it_had_just_been_seen(room: Classroom) -> None:
    first, second = await room.teacher(), await room.teacher()
    await sync(first, second, first)
    await first.agent.replica.store.set_marks(
        {f"{READER_MARKS}{second.agent.device.hex()}": b"\xc1", f"{READER_MARKS}zz": b""}
    )
    (reader,) = await readers(first.agent)
    assert (reader.accepted, reader.seen_ms) == (False, room.territory.clock.ms)
