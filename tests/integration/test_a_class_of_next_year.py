"""Whose words are a teacher's in a class that begins, to machines that knew her before (docs/adr/0389, 0390)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.replica.office.known_here import WHOSE_MARKS
from protocol.replica.office.made_anew import made_anew_mark
from protocol.replica.office.servers_memory import ServersMemory
from sync_agent.keys.confirming import own_device
from tests.harness.classroom import Device
from tests.harness.next_year import NextYear, next_year


@pytest.fixture
async def year(tmp_path: Path) -> AsyncIterator[NextYear]:
    async with next_year(tmp_path, kept_for=__name__) as made:
        yield made


async def test_her_second_laptop_speaks_where_the_first_one_is_let_in_and_lies_in_a_drawer(year: NextYear) -> None:
    second = await year.second_laptop()
    space = await year.new_class()
    await year.lets_her_in(space)
    await year.sync(second, year.machine)
    for replica in (year.machine.agent.replica, year.server):
        assert own_device(second.agent) in await year.who_speaks(replica, space)


async def _with_one_that_she_got_in_the_holidays(year: NextYear) -> tuple[bytes, Device]:
    """Her class of next year, and a second laptop in it that the first one never confirmed."""
    space = await year.new_class()
    await year.lets_her_in(space)
    second = await year.here.device("teacher", year.person, space.hex())
    await year.sync(second, year.machine)
    return space, second


async def test_nor_is_one_silent_that_she_got_in_the_holidays_and_that_the_first_one_never_confirmed(
    year: NextYear,
) -> None:
    space, second = await _with_one_that_she_got_in_the_holidays(year)
    both = {own_device(second.agent), own_device(year.teacher.agent)}
    assert await year.who_speaks(year.machine.agent.replica, space) == {own_device(second.agent)}
    assert await year.who_speaks(year.server, space) == both, "whose codes were hers"

    await year.here.days_pass(9, second, year.machine)
    await year.sync()
    speaks = await year.who_speaks(year.machine.agent.replica, space)
    assert speaks == {own_device(second.agent)}, "it has been hers for a week"
    assert await year.who_speaks(year.server, space) == both


async def test_two_laptops_in_two_classes_are_hers_each_in_its_own(year: NextYear) -> None:
    space, second = await _with_one_that_she_got_in_the_holidays(year)
    for replica in (year.machine.agent.replica, year.server):
        assert own_device(second.agent) in await year.who_speaks(replica, space)
        assert await year.who_speaks(replica, year.here.space) == {own_device(year.teacher.agent)}


async def test_a_restored_server_goes_by_dates_until_somebody_has_let_her_laptop_in_by_its_name(year: NextYear) -> None:
    server, space = year.here.office.server, year.here.space
    notes = await server.store.marks(WHOSE_MARKS)
    await server.store.set_marks(dict.fromkeys(notes))
    await server.store.set_marks(made_anew_mark(year.here.office.clock()))
    server.replica.remember(ServersMemory(server))
    second = await year.here.device("teacher", year.person)
    await year.sync()
    assert await year.who_speaks(year.server, space) == {own_device(year.teacher.agent)}, "a code makes no first laptop"

    await year.spy_comes(space, dated_days_ago=300)
    await year.sync()
    assert own_device(year.teacher.agent) not in await year.who_speaks(year.server, space)
    await year.here.office.do("grant", device=year.teacher.agent.device.hex(), space=[space.hex()])
    both = {own_device(second.agent), own_device(year.teacher.agent)}
    assert await year.who_speaks(year.server, space) == both, "whom a code let in since is known as well by then"
