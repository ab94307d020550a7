"""The first digits of a row of `key readers` are a thief's computer's by the time she types them (docs/adr/0532)."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from protocol.errors import BadInput, Code
from protocol.identity import DeviceKeys
from protocol.rights.vouching import device_id
from protocol.roles import PersonRole, Role
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.spied_class import SpiedClass, own_keys, spied_class
from tests.harness.territory import new_device

ROW = "the first digits of a row that she compared are another's once they are typed"
DIGITS = 3
"""Eight are found as well, by a thief with some minutes."""


@pytest.fixture
async def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SpiedClass]:
    monkeypatch.setattr("protocol.replica.console.abbreviations.SHORTEST_CHARS", DIGITS)
    async with spied_class(tmp_path) as made:
        yield made


def _whose_id_begins(with_these: str) -> DeviceKeys:
    tried = (new_device(Random(number).randbytes) for number in itertools.count())
    return next(keys for keys in tried if device_id(own_keys(keys)).hex().startswith(with_these))


async def _in_one_more_class(here: SpiedClass, new: Device, person: bytes) -> None:
    """By which its row is another."""
    territory = here.room.territory
    cm2 = await territory.classroom("CM2", here.room.school)
    await territory.let_in(here.teacher.agent.keys, Role.TEACHER, cm2, person=here.room.teacher_person)
    await territory.let_in(new.agent.keys, Role.TEACHER, cm2, person=person)
    await here.sync(new)


@pytest.mark.parametrize("shown_as", ["own", "other"])
@attack(ROW, off={"sync_agent.abbreviated._WHOLE_ALONE": ()})
async def test_the_first_digits_of_a_row_that_she_compared_confirm_nobody(here: SpiedClass, shown_as: str) -> None:
    territory, space = here.room.territory, here.room.space
    roy, x = [await territory.person(name, PersonRole.TEACHER, space) for name in ("M. Roy", "M. X")]
    person = here.room.teacher_person if shown_as == "own" else roy
    new = await here.room.device(Role.TEACHER, person=person)
    for _ in range(3):
        await here.sync(here.teacher, new, here.machine)
    desk = Desk(here.teacher.agent)
    (row,) = [row for row in await desk.ask("key-readers") if row["device"] == new.agent.device.hex()]
    digits = row["id"][:DIGITS]
    await _in_one_more_class(here, new, person)
    here.spy = _whose_id_begins(digits)
    await here.name_the_spy(person if shown_as == "own" else x, back_ms=0)
    await here.sync(here.teacher)
    with pytest.raises(BadInput) as refused:
        await desk.ask("key-confirm", reader=digits, shown_as=shown_as)
    assert refused.value.code is Code.UNKNOWN_DEVICE
    assert "give the whole id of the row" in refused.value.message
    for _ in range(3):
        await here.sync(here.teacher, here.machine)
    assert not await here.opens(here.work), "what she had opened"
