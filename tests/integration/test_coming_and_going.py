"""Who was let go, came back and goes again is out again, at the server and at a head teacher's computer alike."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from protocol.clock import DAY_MS
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.office_devices import Town, town

Ask = Callable[..., Awaitable[Any]]
Going = Callable[[Ask, str, str, str], Awaitable[Any]]


async def _reported(ask: Ask, device: str, _person: str, _space: str) -> Any:
    return await ask("lost", device=device)


async def _let_go_as_a_device(ask: Ask, device: str, _person: str, space: str) -> Any:
    return await ask("ungrant", device=device, space=[space])


async def _let_go_as_a_person(ask: Ask, _device: str, person: str, space: str) -> Any:
    return await ask("ungrant", person=person, space=[space])


async def _retired(ask: Ask, _device: str, person: str, _space: str) -> Any:
    return await ask("person retire", person=person)


async def _goes_and_comes_back(here: Town, ask: Ask, head: Device, gone: Device, going: Going, person: str) -> None:
    device, space = gone.agent.device.hex(), here.office.space
    for _ in range(3):
        here.office.clock.advance(DAY_MS)
        await going(ask, device, person, space)
        await here.sync(head)
        assert here.space not in await here.office.server.replica.readable(gone.agent.device)
        here.office.clock.advance(DAY_MS)
        await ask("grant", device=device, space=[space])
        await here.sync(head)
        assert here.space in await here.office.server.replica.readable(gone.agent.device)


@pytest.mark.parametrize(
    ("going", "at_the_server"),
    [
        *itertools.product([_reported, _let_go_as_a_device, _let_go_as_a_person], [True, False]),
        (_retired, True),
    ],
)
async def test_a_teachers_laptop_that_comes_back_can_go_again(
    tmp_path: Path, going: Going, at_the_server: bool
) -> None:
    async with town(tmp_path) as here:
        person = await here.office.add_person("M. Durand", "teacher")
        head, laptop = await here.head_of_the_school(), await here.device("teacher", person)
        await here.sync(head, laptop, head)
        ask = here.office.do if at_the_server else Desk(head.agent).ask
        await _goes_and_comes_back(here, ask, head, laptop, going, person)


@pytest.mark.parametrize("at_the_server", [True, False], ids=["server", "head"])
@pytest.mark.parametrize("going", [_reported, _let_go_as_a_device])
async def test_a_pc_that_was_found_can_be_lost_again(tmp_path: Path, going: Going, at_the_server: bool) -> None:
    async with town(tmp_path) as here:
        head, pc = await here.head_of_the_school(), await here.device("machine")
        await here.sync(head, pc, head)
        ask = here.office.do if at_the_server else Desk(head.agent).ask
        await _goes_and_comes_back(here, ask, head, pc, going, "")
