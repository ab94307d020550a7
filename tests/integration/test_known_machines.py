"""Since when a device knows the machines of a class, and whose work a list that ends has room for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from protocol.folds.coursework import Work, by_turns
from protocol.roles import Role
from sync_agent.app import Agent
from sync_agent.hand_ins import known_machines
from sync_agent.hand_ins.known_machines import known_since
from tests.harness.classroom import Device
from tests.harness.passing_days import pass_days
from tests.harness.spied_class import spied_class
from tests.harness.territory import new_device


async def test_a_machine_that_came_since_is_known_after_a_week_and_after_those_that_were_there(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        (work,) = (await here.teacher.agent.replica.view(here.room.space)).coursework.hand_ins.values()
        new = await here.room.machine()
        for _ in range(2):
            await here.sync(new, here.teacher)

        def of(machine: Device) -> Work:
            return replace(work, author=machine.agent.device)

        before = known_since(here.teacher.agent)
        assert before(of(here.machine)) is not None
        assert before(of(new)) is None
        await pass_days(here.room.territory, 8, here.teacher)
        since = known_since(here.teacher.agent)
        old_ms, new_ms = since(of(here.machine)), since(of(new))
        assert old_ms is not None
        assert new_ms is not None
        assert old_ms < new_ms
        folder, clock = here.teacher.agent.folder, here.room.territory.clock
        here.room.devices.remove(here.teacher)
        await here.teacher.close()
        agent = await Agent.open(folder, now_ms=clock, entropy=Random(3).randbytes)
        assert known_since(agent)(of(new)) == new_ms
        await agent.close()


async def test_so_many_are_noted_and_those_without_a_right_make_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with spied_class(tmp_path) as here:
        there = len(here.teacher.agent.acquainted.machines[here.room.space])
        monkeypatch.setattr(known_machines, "MAX_MACHINES_NOTED", there + 2)
        invented = [new_device(Random(number).randbytes) for number in range(5)]
        for keys in invented:
            await here.room.territory.let_in(keys, Role.MACHINE, here.room.space)
        await here.sync(here.teacher)
        noted = here.teacher.agent.acquainted.machines[here.room.space]
        assert len(noted) == there + 2
        assert here.machine.agent.device[:8] in noted


def _works(work: Work, *authors: bytes) -> list[Work]:
    return [replace(work, id=bytes([number]) * 32, author=author) for number, author in enumerate(authors)]


async def test_known_machines_have_half_of_a_list_at_least_and_so_have_the_others(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        (work,) = (await here.teacher.agent.replica.view(here.room.space)).coursework.hand_ins.values()
        works = _works(work, *(b"%d" % number for number in range(6)), b"old", b"old", b"old")
        shown = by_turns(works, 4, lambda each: 0 if each.author == b"old" else None)
        assert [each.author for each in shown] == [b"0", b"1", b"old", b"old"]
        flood = _works(work, *[b"old"] * 6, b"new", b"new", b"new")
        shown = by_turns(flood, 4, lambda each: 0 if each.author == b"old" else None)
        assert [each.author for each in shown] == [b"old", b"old", b"new", b"new"]
        first = by_turns(_works(work, b"b", b"c", b"a"), 1, lambda each: each.author[0])
        assert [each.author for each in first] == [b"a"]
