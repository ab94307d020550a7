"""A device of a class dates a word some hours ahead, and honest machines date theirs after it (docs/adr/0611, 0612)."""

from __future__ import annotations

import html
from pathlib import Path
from random import Random

import pytest

from protocol.clock import DAY_MS
from protocol.model.entry import Kind
from protocol.model.work import ItemKind
from protocol.replica.console.frame import Notices
from protocol.roles import Role
from sync_agent.coursework.publisher import Wish, publish
from sync_agent.keys import space_keys
from sync_agent.school.sign_in import tend_sign_in
from tests.harness.attack import attack
from tests.harness.classroom import SMALL, WORK, Given, assignment, classroom
from tests.harness.dated_ahead import moved
from tests.harness.portal import portal
from tests.harness.sign_in import signed_class
from tests.harness.territory import new_device

HOUR_MS = 3_600_000
FEW = 3
ROW = "words dated some hours ahead"


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


@attack(ROW, off={"sync_agent.hand_ins.handing_in._clock_if_moved": lambda _agent: None})
async def test_what_a_server_signs_as_the_time_as_well_is_to_be_checked(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        teacher, pc, other = await room.teacher(), await room.machine(), await room.machine()
        for device in (teacher, pc, other):
            await device.session.sync()
        item = await assignment(room, teacher, pc)
        await pc.agent.replica.prove_time(room.territory.clock() + 20 * HOUR_MS)
        await moved(room, other, pc)
        work = await room.hand_in(pc, item, WORK)
        for device in (pc, teacher):
            await device.session.sync()
        async with portal(teacher.agent) as surfer:
            assert "heure à vérifier" in html.unescape(await surfer.page(f"/work/{work.hex()}"))


@attack(ROW, off={"sync_agent.keys.space_keys.is_enough": lambda _ages_ms: False})
@pytest.mark.parametrize("signed_days_ahead", [0, 9], ids=["by a word", "by what a server signs"])
async def test_they_lift_no_bound_on_what_is_sealed_for_newcomers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signed_days_ahead: int
) -> None:
    monkeypatch.setattr(space_keys, "MAX_SEALINGS_A_DAY", FEW)
    async with classroom(tmp_path) as room:
        school, other = await signed_class(room), await room.machine()
        office, agent = room.territory, school.teacher.agent
        for device in (other, school.teacher):
            await device.session.sync()
        office.clock.advance(2 * HOUR_MS)
        await moved(room, other, school.teacher)

        async def seals_for(newcomers: range) -> int:
            for number in newcomers:
                said = await office.let_in(new_device(Random(5_000 + number).randbytes), Role.MACHINE, room.space)
                office.clock.advance(1_000)
                await agent.replica.admit(said, source=office.keys.signing.public, now_ms=office.clock())
                await tend_sign_in(agent)
            said_all = await agent.replica.store.authored(room.space, agent.device)
            return sum(entry.header.kind == Kind.SIGN_IN_WRAP for entry in said_all)

        before = await seals_for(range(1))
        for days in range(1, signed_days_ahead + 1):
            await agent.replica.prove_time(office.clock() + days * DAY_MS)
            await moved(room, other, school.teacher, hours=days * 24 + 20)
            await seals_for(range(days, days + 1))
        assert await seals_for(range(1 + signed_days_ahead, 4 * FEW)) <= before + FEW
        waiting = await seals_for(range(0))
        office.clock.advance(space_keys.SEALING_PAUSE_MS)
        assert await seals_for(range(4 * FEW, 4 * FEW + 3)) == waiting + 1, "all who came by then are given it at once"
