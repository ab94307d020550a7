"""A device of the class dates a word some hours ahead, and the clocks of honest machines go on from there (0611)."""

from __future__ import annotations

import html
from pathlib import Path

import pytest

from protocol.clock import at_from
from protocol.model.entry import Kind, compose
from protocol.model.work import ItemKind
from protocol.replica.console.frame import Notices
from sync_agent.coursework.publisher import Wish, publish
from tests.harness.attack import attack
from tests.harness.classroom import SMALL, WORK, Classroom, Device, Given, classroom
from tests.harness.portal import portal

HOUR_MS = 3_600_000
ROW = "words dated some hours ahead"


async def moved(room: Classroom, other: Device, *hearing: Device, hours: int = 20) -> None:
    """A word about nothing that a device of the class has dated some hours ahead comes to others."""
    now_ms = room.territory.clock()
    word = compose(
        author=other.agent.keys.signing,
        space=room.space,
        kind=Kind.SIGN_IN_LOCK,
        grant=(await other.agent.right(room.space, Kind.SIGN_IN_LOCK)).grant,
        at=at_from(now_ms + hours * HOUR_MS),
        payload=b"\x80",
        salt=bytes(16),
        subject=bytes(16),
        target=bytes(32),
    )
    for device in hearing:
        admission = await device.agent.replica.admit([word], source=b"a stick", now_ms=now_ms)
        assert len(admission.admitted) == 1


@attack(ROW, off={"sync_agent.hand_ins.handing_in._clock_if_moved": lambda _agent: None})
@pytest.mark.parametrize("hours", [10, -1], ids=["in time", "late"])
async def test_what_is_handed_in_is_late_by_no_word_of_others(tmp_path: Path, hours: int) -> None:
    async with classroom(tmp_path) as room:
        teacher, pc, other = await room.teacher(), await room.machine(), await room.machine()
        clock, everybody = room.territory.clock, (teacher, pc, other)
        for device in everybody:
            await device.session.sync()
        wish = Wish(room.space, None, ItemKind.ASSIGNMENT, "Devoir", due_ms=clock() + hours * HOUR_MS)
        item = (await publish(teacher.agent, wish, Given(SMALL), Notices())).item
        for device in everybody:
            await device.session.sync()
        await moved(room, other, pc)
        clock.advance(60_000)
        work = await room.hand_in(pc, item, WORK)
        for device in (pc, teacher):
            await device.session.sync()
        async with portal(teacher.agent) as surfer:
            page = html.unescape(await surfer.page(f"/work/{work.hex()}"))
        assert "heure à vérifier" in page
        assert ('class="late"' in page) == (hours < 0)
