"""A PC without a line, the month for which it keeps what nobody has opened, and backups from before (docs/adr/0254)."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from sync_agent.machine.eviction import Worth
from sync_agent.sync.worth import Worths
from tests.harness.classroom import WORK, assignment, work_of
from tests.harness.couriers import bring, courier_class, export, know_keys
from tests.harness.passing_days import pass_days


@pytest.mark.parametrize("is_backed_up_again", [False, True])
async def test_a_backup_from_before_the_work_ends_no_month_where_the_receipt_came_by_a_stick(
    tmp_path: Path, *, is_backed_up_again: bool
) -> None:
    async with courier_class(tmp_path / "room") as room:
        clock, responder = room.territory.clock, room.frontage.responder
        teacher, pc = await room.teacher(), await room.machine()
        item = await assignment(room, teacher, pc)
        await know_keys(room, teacher, pc)
        for device in (teacher, pc, teacher, pc):
            await device.session.sync()
        clock.advance(DAY_MS)
        responder.backup_ms = clock()
        clock.advance(DAY_MS)
        work = await room.hand_in(pc, item, WORK)
        stick = tmp_path / "stick"
        stick.mkdir()
        await export(pc, stick)
        await bring(teacher, stick)
        for _ in range(2):
            await teacher.session.sync()
        await export(teacher, stick)
        await bring(pc, stick)
        assert (await work_of(pc, room, work)).at_server
        if is_backed_up_again:
            clock.advance(DAY_MS)
            responder.backup_ms = clock()
        await pc.session.sync()
        await pass_days(room.territory, 32, pc)
        await pc.session.sync()
        (piece,) = [each for each in await Worths(pc.agent).pieces() if each.need.sealed]
        assert piece.worth is (Worth.RECEIVED if is_backed_up_again else Worth.KEPT)
