"""What a teacher says on one laptop takes the place of what she said on another that leads to it (docs/adr/0395)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path

import pytest

from protocol.errors import BadInput, Code
from protocol.rights.vouching import device_id
from protocol.roles import PersonRole, Role
from sync_agent.keys.confirming import own_device
from sync_agent.keys.phrases import new_phrase
from tests.harness.classroom import Device, work_of
from tests.harness.commands import Desk
from tests.harness.head_at_work import confirmed_head
from tests.harness.lost_laptop import CHEAP, her_next_laptop, report_on_a_heads
from tests.harness.portal import portal
from tests.harness.portfolios import remarks_in
from tests.harness.spied_class import SpiedClass, answered_class

FIRST = "Bien raconté."
SECOND = "Très bien raconté."


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[SpiedClass]:
    async with answered_class(tmp_path, FIRST, kept_for=__name__) as made:
        made.room.territory.clock.advance(60_000)
        yield made


async def _says(here: SpiedClass, device: Device, text: str, *, take_back: bool = False) -> list[str]:
    """What the command tells."""
    here.room.territory.clock.advance(60_000)
    desk = Desk(device.agent)
    await desk.ask("feedback", id=here.work.hex(), text=text, mark=None, redo=False, take_back=take_back)
    await here.sync(device, here.machine)
    return desk.told


async def _confirms(here: SpiedClass, one: Device, other: Device) -> None:
    await Desk(one.agent).ask("key-confirm", reader=device_id(own_device(other.agent)).hex(), shown_as="own")
    await here.sync(one, other, here.machine)


async def _texts(here: SpiedClass) -> list[str]:
    return [note.record.text for note in (await work_of(here.machine, here.room, here.work)).remarks]


async def _page(here: SpiedClass, device: Device) -> str:
    async with portal(device.agent) as surfer:
        return unescape(await surfer.page(f"/work/{here.work.hex()}"))


async def test_on_a_second_laptop_that_she_confirmed_on_the_first_she_corrects_and_takes_back(here: SpiedClass) -> None:
    second = await here.room.teacher()
    await here.sync(second, here.teacher)
    await _confirms(here, here.teacher, second)
    page = await _page(here, second)
    assert "Dit en votre nom sur un autre ordinateur : la correction que vous donnez ici prend sa place." in page
    told = await _says(here, second, SECOND)
    assert told == [f"this takes the place of what Mme Petit had said: “{FIRST}” (mark 18/20)"]
    assert await _texts(here) == [SECOND]
    await _says(here, second, "", take_back=True)
    assert await _texts(here) == [""]


async def test_on_a_second_laptop_that_nobody_confirmed_she_is_told_that_pupils_may_not_be_shown_it(
    here: SpiedClass,
) -> None:
    second = await here.room.teacher()
    await here.sync(second, here.teacher)
    (line,) = await _says(here, second, SECOND)
    assert line.endswith("Until it has (`key confirm` there), pupils may be shown what it says alone")
    assert await _texts(here) == [FIRST]
    await _confirms(here, here.teacher, second)
    assert await _texts(here) == [SECOND]


async def test_on_two_that_are_confirmed_on_each_other_each_corrects_what_the_other_said(here: SpiedClass) -> None:
    second = await here.room.teacher()
    await here.sync(second, here.teacher)
    await _confirms(here, here.teacher, second)
    await _says(here, second, SECOND)
    await here.sync(here.teacher)
    told = await _says(here, here.teacher, FIRST)
    beside = "this stands beside what Mme Petit, on a computer that has not confirmed this one, had said"
    unseen = "Until it has (`key confirm` there), pupils may be shown what it says alone"
    assert told == [f"{beside}: “{SECOND}”. {unseen}"]
    assert await _texts(here) == [FIRST, SECOND]
    await here.sync(second)
    await _confirms(here, second, here.teacher)
    assert await _texts(here) == [FIRST], "as soon as she has said on the second that the first is hers"
    form = re.search(r"<textarea[^>]*>([^<]*)<", await _page(here, second))
    assert form is not None
    assert form[1] == FIRST


async def test_on_her_next_laptop_she_corrects_with_a_phrase_that_she_drew_on_the_lost_one(here: SpiedClass) -> None:
    head, _ = await confirmed_head(here)
    paper = await new_phrase(here.teacher.agent, CHEAP)
    await here.sync(here.teacher, here.machine, head)
    await report_on_a_heads(here, head, here.teacher)
    new, *_ = await her_next_laptop(here, paper, head)
    await _says(here, new, SECOND)
    assert await _texts(here) == [SECOND]


async def test_and_where_a_head_whom_she_had_confirmed_says_that_it_is_hers(here: SpiedClass) -> None:
    head, _ = await confirmed_head(here)
    await report_on_a_heads(here, head, here.teacher)
    new = await here.room.teacher()
    await here.sync(new, head)
    await Desk(head.agent).ask("key-confirm", reader=device_id(own_device(new.agent)).hex())
    await here.sync(head, here.machine, new)
    await _says(here, new, SECOND)
    assert await _texts(here) == [SECOND]


async def test_on_one_to_which_the_lost_one_never_led_what_she_had_said_stays_beside_and_she_is_told(
    here: SpiedClass,
) -> None:
    head, _ = await confirmed_head(here)
    await report_on_a_heads(here, head, here.teacher)
    new = await here.room.teacher()
    for _ in range(2):
        await here.sync(new, here.machine)
    page = await _page(here, new)
    assert "Dit en votre nom sur un ordinateur qui n'a pas confirmé celui-ci : cela reste à côté" in page
    with pytest.raises(BadInput, match="on this computer or on one that has confirmed it") as refused:
        await _says(here, new, "", take_back=True)
    assert refused.value.code is Code.NOTHING_TO_SEND
    told = await _says(here, new, SECOND)
    beside = (
        "this stands beside what Mme Petit, on a computer that was cut off and had not confirmed this one, had said"
    )
    assert told == [f"{beside}: “{FIRST}” (mark 18/20)"]
    assert await _texts(here) == [SECOND, FIRST]


async def test_a_portfolio_calls_them_the_same_on_each_of_her_laptops_and_on_a_colleagues(here: SpiedClass) -> None:
    """Of the laptop that is in the class for longer the text has no number, whoever heard of which first."""
    second = await here.room.teacher()
    roy = await here.room.device(Role.TEACHER, person=await _person(here, "M. Roy"))
    await here.sync(second, roy, here.teacher)
    await _confirms(here, here.teacher, second)
    await Desk(here.teacher.agent).ask("key-confirm", reader=device_id(own_device(roy.agent)).hex())
    await here.sync(here.teacher, second, roy, here.machine)
    await _says(here, second, SECOND)
    await here.sync(here.teacher)
    await _says(here, here.teacher, FIRST)
    await here.sync(second, roy)
    for device in (here.teacher, second, roy):
        files = await Desk(device.agent).files("portfolio", space=here.room.space.hex())
        assert remarks_in(files) == {"Mme Petit": f"{FIRST}\n", "Mme Petit [2]": f"{SECOND}\n"}


async def _person(here: SpiedClass, name: str) -> bytes:
    return await here.room.territory.person(name, PersonRole.TEACHER, here.room.space)
