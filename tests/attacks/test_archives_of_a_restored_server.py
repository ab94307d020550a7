"""A copied key's device was Mme Petit, then a server was restored and took other keys: a family asks for its archive.

That device is gone by then, and a class as if nothing of it were hidden is one in which it is not (docs/adr/0409).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from protocol.rights.speaking import Starts
from sync_agent.keys.confirming import own_device
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.attack import attack
from tests.harness.classroom import Given
from tests.harness.commands import Desk
from tests.harness.copied_keys import back_up, burnt_and_restored
from tests.harness.next_year import NextYear
from tests.harness.portal import words_in

ROW = "the server takes a device of a copied key's for the teacher"
HERS = "Correction de Mme Petit : 18/20 Très bien raconté"


def _as_if_it_had_never_counted(alone: Starts, _: Starts) -> Starts:
    return alone


OFF = {"protocol.replica.at_work.views._begun": _as_if_it_had_never_counted}


@asynccontextmanager
async def _after_a_theft(year: NextYear, work: bytes) -> AsyncIterator[None]:
    """What is documented was done: a backup of the day before it, all machines have called, and the kit's word."""
    await back_up(year.here)
    year.pass_days(1)
    await year.spy_comes(year.here.space, dated_days_ago=300)
    await year.spy_answers(year.here.space, work)
    async with burnt_and_restored(year.here) as office:
        year.here.office = office
        await office.with_kit("rotate server", kit_in(year.here.folder / "server" / "kit", None), since="36h")
        await year.sync()
        yield


async def _page(year: NextYear) -> str:
    """What an archive that the server writes for her pupil's family says."""
    return words_in(await year.archive())


@attack(ROW, off=OFF)
async def test_what_a_copied_keys_device_said_before_a_restore_takes_her_name_from_nothing(year: NextYear) -> None:
    work = await year.hand_in(year.here.space)
    await year.answers(work)
    async with _after_a_theft(year, work):
        assert await year.who_speaks(year.server, year.here.space) == {own_device(year.teacher.agent)}
        page = await _page(year)
    assert HERS in page
    assert "Correction de Mme Petit : 0/20" not in page


@attack(ROW, off=OFF)
async def test_nor_does_a_family_get_what_she_had_said_anew_on_her_other_laptop(year: NextYear) -> None:
    work = await year.hand_in(year.here.space)
    await year.answers(work)
    year.teacher = await year.second_laptop()
    desk = Desk(year.teacher.agent)
    await desk.ask("feedback", Given({}), id=work.hex(), text="Relis la fin", mark="16/20", redo=False)
    await year.sync()
    async with _after_a_theft(year, work):
        page = await _page(year)
    assert "Correction de Mme Petit : 16/20 Relis la fin" in page
    assert "18/20" not in page


@attack(ROW, off=OFF)
async def test_nor_are_a_new_laptops_words_nobodys_where_a_lost_one_would_be_hers_again(year: NextYear) -> None:
    """At a restored server, which knows neither."""
    lost, work = year.teacher, await year.hand_in(year.here.space)
    await year.here.office.do("lost", device=lost.agent.device.hex())
    year.teacher = await year.here.device("teacher", year.person)
    year.here.devices.remove(lost)
    await lost.close()
    await year.answers(work)
    await back_up(year.here)
    async with burnt_and_restored(year.here) as office:
        year.here.office = office
        page = await _page(year)
    assert HERS in page
