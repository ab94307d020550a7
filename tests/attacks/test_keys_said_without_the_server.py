"""The server is away for weeks, or in wrong hands: reading keys follow from what neighbours and sticks bring (0271)."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.folds.hand_in_keys import content_key_of
from protocol.limits import MAX_READING_KEYS_AT_ONCE, READING_KEY_PAUSE_MS
from protocol.model.entry import Kind
from protocol.model.structure import PersonKey
from protocol.replica.at_work.replica import Draft
from sync_agent.app import Agent
from sync_agent.hand_ins.copies import Copies
from sync_agent.keys.key_wraps import reading_keys
from sync_agent.lan.exchange.after_news import MAX_LOOKS_ALONE, AfterNews
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.couriers import bring, export, know_keys
from tests.harness.lan import exchange
from tests.harness.lost_laptop import another_laptop, invent_and_cut_off, keys_said
from tests.harness.spied_class import SpiedClass, spied_class

ROW = "a laptop is stolen while the server is away"


async def _nothing(_agent: object) -> int:
    return 0


async def _opens_what_is_handed_in_now(here: SpiedClass, laptop: Device) -> bool:
    work = await here.room.hand_in(here.machine, here.item, {"b.odt": b"written in the outage"})
    found = (await here.machine.agent.replica.view(here.room.space)).coursework.hand_ins[work]
    return content_key_of(found, reading_keys(laptop.agent)) is not None


@attack(ROW, off={"sync_agent.lan.exchange.after_news.tend_after_news": _nothing})
async def test_what_is_handed_in_after_a_report_is_sealed_to_her_other_laptop_though_only_neighbours_are_there(
    tmp_path: Path,
) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        machine, first = here.machine, here.teacher
        second, head = await another_laptop(here, first), await here.room.head()
        await here.sync(head, first, second, machine, first, second, machine)
        await Desk(head.agent).ask("lost", device=first.agent.device.hex())
        await exchange(second.agent, head.agent)
        await exchange(machine.agent, second.agent)
        assert await _opens_what_is_handed_in_now(here, second)
        assert not await _opens_what_is_handed_in_now(here, first)


@attack(ROW, off={"sync_agent.courier.importing.tend_after_news": _nothing})
async def test_what_is_handed_in_after_a_report_is_sealed_to_her_other_laptop_though_only_a_stick_goes_round(
    tmp_path: Path,
) -> None:
    async with spied_class(tmp_path / "class") as here:
        machine, first = here.machine, here.teacher
        second, head = await another_laptop(here, first), await here.room.head()
        stick = tmp_path / "stick"
        stick.mkdir()
        await know_keys(here.room, head, first, second, machine)
        await here.sync(head, first, second, machine)
        await Desk(head.agent).ask("lost", device=first.agent.device.hex())
        await export(head, stick)
        await bring(second, stick)
        await export(second, stick)
        await bring(machine, stick)
        assert await _opens_what_is_handed_in_now(here, second)


@attack(
    "one laptop makes reading keys without end",
    off={"sync_agent.keys.reading_key.READING_KEY_LONG_PAUSE_MS": READING_KEY_PAUSE_MS},
)
async def test_laptops_that_are_invented_and_cut_off_cost_her_few_keys_a_week_whichever_neighbour_brings_them(
    tmp_path: Path,
) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        for number in range(3 * MAX_READING_KEYS_AT_ONCE):
            await invent_and_cut_off(here, number)
            await here.sync(here.machine)
            await exchange(here.machine.agent, here.teacher.agent)
            await exchange(here.teacher.agent, here.machine.agent)
            here.room.territory.clock.advance(READING_KEY_PAUSE_MS)
        await here.sync(here.machine)
        assert len(await keys_said(here, here.teacher.agent.device)) <= MAX_READING_KEYS_AT_ONCE


async def _speaks(agent: Agent) -> int:
    """Some way that nobody has thought of: there is something to say at each look."""
    (right,) = await agent.own_rights()
    key = PersonKey(agent.entropy(32)).encode()
    await agent.write(Draft(right.space, Kind.PERSON_KEY, right.grant, key, subject=right.person))
    return 1


@attack(
    "one laptop makes reading keys without end",
    off={"sync_agent.lan.exchange.after_news.MAX_LOOKS_ALONE": 10 * MAX_LOOKS_ALONE},
)
async def test_what_would_be_due_at_each_look_is_said_a_few_times_until_a_neighbour_brings_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with spied_class(tmp_path) as here:
        monkeypatch.setattr("sync_agent.sync.after_news.tend_reading_keys", _speaks)
        agent = here.teacher.agent
        after_news = AfterNews(agent, Copies(agent, set))
        looks = [await after_news.tend() for _ in range(2 * MAX_LOOKS_ALONE)]
        assert sum(looks) == MAX_LOOKS_ALONE
        await here.room.hand_in(here.machine, here.item, {"b.odt": b"news"})
        await exchange(agent, here.machine.agent)
        assert await after_news.tend() > 0
