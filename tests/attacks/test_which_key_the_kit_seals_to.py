"""The kit opens earlier work to a teacher's laptop, and not to one of hers that was stolen (docs/attacks.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from protocol.errors import BadInput, Code
from protocol.model.entry import Kind, parsed
from protocol.model.work import Wraps
from protocol.rights.vouching import device_words
from sync_agent.keys.confirming import own_device
from sync_agent.keys.key_wraps import reading_keys
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.next_year import NextYear

ROW = "the kit seals to a reading key that a lost laptop has too"


async def _stolen(year: NextYear) -> Device:
    """The second of her two laptops, which have compared words and have each other's keys; it is reported."""
    second = await year.second_laptop()
    await year.sync()
    await year.here.office.do("lost", device=second.agent.device.hex())
    year.here.devices.remove(second)
    await second.close()
    return second


async def _is_called_for(year: NextYear, folder: Path, *spaces: bytes) -> Any:
    """The kit, for the laptop that she still has."""
    words = device_words(own_device(year.teacher.agent))
    asked = {"person": year.person, "words": words, "space": [each.hex() for each in spaces], "again": True}
    return await year.here.office.with_kit("rewrap", kit_in(folder / "server" / "kit", None), **asked)


async def _work(year: NextYear) -> bytes:
    item = await year.here.assignment(year.teacher)
    await year.sync()
    work = await year.here.work(year.machine, item, year.pupil)
    await year.sync()
    return work


async def _sealed_to(year: NextYear) -> set[bytes]:
    """The keys to which the root has sealed work."""
    said = await year.server.store.scan_kinds([Kind.WRAP])
    wraps = [parsed(each, Wraps.parse) for each in said if each.header.grant is None]
    return {key for each in wraps if each is not None for key, _ in each.wraps}


@attack(ROW, off={"sync_server.handlers.by_kit.standing._is_spent": lambda *_: False})
async def test_the_kit_seals_nothing_to_a_key_that_her_stolen_laptop_has_too(year: NextYear, tmp_path: Path) -> None:
    await _work(year)
    second = await _stolen(year)
    with pytest.raises(BadInput, match="Let this device call first") as refused:
        await _is_called_for(year, tmp_path, year.here.space)
    assert refused.value.code is Code.NOT_YET
    assert any(f"nothing is opened in {year.here.space.hex()}" in line for line in year.here.office.said.lines)
    assert not await _sealed_to(year) & reading_keys(second.agent).keys()


async def test_once_hers_has_called_it_has_a_key_of_its_own_to_which_the_kit_seals(
    year: NextYear, tmp_path: Path
) -> None:
    work = await _work(year)
    second = await _stolen(year)
    await year.sync()
    assert (await _is_called_for(year, tmp_path, year.here.space))["hand_ins"] == 1
    assert not await _sealed_to(year) & reading_keys(second.agent).keys()
    await year.sync()
    assert await Desk(year.teacher.agent).files("open-hand-in", id=work.hex())


async def test_a_class_where_hers_has_such_a_key_is_passed_over_and_told(year: NextYear, tmp_path: Path) -> None:
    await _work(year)
    alone, both = await year.new_class(), year.here.space
    await year.here.office.do("grant", device=year.teacher.agent.device.hex(), space=[alone.hex()])
    await _stolen(year)
    assert await _is_called_for(year, tmp_path, alone, both) == {"hand_ins": 0}
    (told,) = [line for line in year.here.office.said.lines if "nothing is opened in" in line]
    assert both.hex() in told
