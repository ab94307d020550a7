"""A head teacher's stolen laptop puts a school that lives by sticks under quarantine (docs/attacks.md)."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from protocol.errors import Refused
from protocol.folds.measures import Measures
from protocol.model.entry import Kind
from protocol.model.structure import Revocation
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.measures import lift_drafts
from sync_agent.school.measure_commands import start_quarantine, stop_quarantine
from sync_agent.school.measures import ordered
from tests.harness.attack import attack
from tests.harness.couriers import bring, courier_class, export, know_keys


def _those_in_force(measures: Measures, school: bytes, grant: bytes, rank: int) -> Iterable[Draft]:
    return lift_drafts(replace(measures, doubted=()), school, grant, rank)


@attack("a device is lost", off={"sync_agent.school.measure_commands.lift_drafts": _those_in_force})
async def test_a_pc_that_lives_by_sticks_comes_out_of_a_thiefs_quarantine_once_another_head_lifts_it(
    tmp_path: Path,
) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    async with courier_class(tmp_path / "room") as room:
        pc, teacher = await room.machine(), await room.teacher()
        stolen, head = await room.head(), await room.head()
        await know_keys(room, pc, teacher, stolen, head)
        before = tuple(await room.territory.replica.tips(room.school, stolen.agent.device))
        await start_quarantine(stolen.agent, None)
        for device in (stolen, pc):
            await device.session.sync()
        assert (await ordered(pc.agent)).quarantined
        cut = Revocation(stolen.agent.device, before).encode()
        await room.territory.say(room.school, Kind.REVOKE, cut)
        for device in (head, teacher):
            await device.session.sync()
        assert not (await ordered(head.agent)).quarantined
        assert await stop_quarantine(head.agent, None) == {"lifted": 1}
        assert await stop_quarantine(head.agent, None) == {"lifted": 0}
        for device in (head, teacher):
            await device.session.sync()
            await export(device, stick)
        with suppress(Refused):  # the look that brings the end is still one under quarantine
            await bring(pc, stick)
        assert not (await ordered(pc.agent)).quarantined
