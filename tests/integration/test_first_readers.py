"""Whom a work's key waits for on the PC that handed it in, in honest hands (docs/adr/0256)."""

from __future__ import annotations

from pathlib import Path

from protocol.canonical import decode, encode
from protocol.clock import DAY_MS
from protocol.limits import ACQUAINTANCE_MS
from sync_agent.hand_ins.first_readers import FirstReaders
from sync_agent.hand_ins.wraps import mark_of, tend_hand_ins
from sync_agent.machine.key_slots import MAX_MARK_BYTES
from tests.harness.classroom import keeps_key_of, work_of
from tests.harness.commands import Desk
from tests.harness.lost_laptop import another_laptop, cut_off
from tests.harness.passing_days import pass_days
from tests.harness.spied_class import spied_class


async def test_what_a_teacher_reads_on_another_of_her_laptops_waits_for_no_first_one_that_lies_in_a_drawer(
    tmp_path: Path,
) -> None:
    async with spied_class(tmp_path) as here:
        room, first = here.room, here.teacher
        second = await another_laptop(here, first)
        lost = await another_laptop(here, first)
        for _ in range(3):
            await here.sync(first, second, lost, here.machine)
        key = first.agent.reading_keys.newest_of(room.space)
        # it was given the first one's key, which is spent: that one is off, and makes no other
        await cut_off(here, lost)
        for _ in range(3):
            await here.sync(second, here.machine)
        work = await room.hand_in(here.machine, here.item, {"redaction.odt": b"encore" * 50})
        await here.sync(here.machine, second)
        assert key is not None
        assert key.public not in (await work_of(second, room, work)).readers
        await Desk(second.agent).ask("confirm-opened", id=work.hex())
        for _ in range(2):
            await here.sync(second, here.machine)
        assert not await keeps_key_of(here.machine, work)


async def test_what_was_handed_in_by_an_earlier_version_which_noted_no_time_waits_for_whom_the_pc_met_first(
    tmp_path: Path,
) -> None:
    async with spied_class(tmp_path) as here:
        agent, space = here.machine.agent, here.room.space
        key = here.teacher.agent.reading_keys.newest_of(space)
        first = await FirstReaders.of(agent, (await agent.replica.view(space)).roster)
        assert key is not None
        assert await first.of_these([key.public], None) == [key.public]
        assert not await first.have([], None)


async def test_what_an_earlier_version_had_heard_as_opened_waits_for_a_week_from_the_first_look_on(
    tmp_path: Path,
) -> None:
    async with spied_class(tmp_path) as here:
        room, machine = here.room, here.machine
        work = await room.hand_in(machine, here.item, {"redaction.odt": b"encore" * 50})
        await here.sync(machine)
        store, name = machine.agent.replica.store, mark_of(work)
        before = decode(await store.mark(name) or b"", max_bytes=MAX_MARK_BYTES)
        assert isinstance(before, dict)
        await store.set_marks({name: encode({**before, "heard": 1})})
        await tend_hand_ins(machine.agent)
        assert await keeps_key_of(machine, work)
        await pass_days(room.territory, ACQUAINTANCE_MS // DAY_MS + 1, machine)
        await tend_hand_ins(machine.agent)
        assert not await keeps_key_of(machine, work)
