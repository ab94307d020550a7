"""Two laptops of one teacher in a new class, of which neither has confirmed the other (docs/adr/0400).

School and PC have known the first for two months. She works on the second; three days later the first is switched on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path

import pytest

from protocol.errors import Refused
from protocol.replica.at_work.replica import Replica
from protocol.rights.vouching import device_id, device_words
from sync_agent.keys.confirming import own_device
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.next_year import NextYear, next_year
from tests.harness.portal import portal

SAID = "Bien raconté"


class TwoLaptops:
    """The class, the laptop that she uses, and a work that she has answered on it."""

    def __init__(self, year: NextYear, space: bytes, second: Device, item: bytes) -> None:
        self.year, self.space, self.second, self.item, self.work = year, space, second, item, b""

    async def hands_in(self) -> bytes:
        work = await self.year.here.work(self.year.machine, self.item, self.year.pupil)
        await self.year.sync(self.year.machine, self.second)
        return work

    async def says(self, device: Device, text: str) -> None:
        await Desk(device.agent).ask("feedback", id=self.work.hex(), text=text, mark=None, redo=False)
        await self.year.sync(device, self.year.machine)

    async def first_is_switched_on(self) -> None:
        await self.year.here.days_pass(3, self.year.machine, self.second)
        await self.year.sync(self.year.teacher, self.year.machine, self.second)

    async def texts(self, replica: Replica) -> list[str]:
        work = (await replica.view(self.space)).coursework.hand_ins[self.work]
        return [note.record.text for note in work.remarks]

    async def confirms(self, one: Device, other: Device) -> None:
        await Desk(one.agent).ask("key-confirm", reader=device_id(own_device(other.agent)).hex(), shown_as="own")
        await self.year.sync(one, other, self.year.machine)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[TwoLaptops]:
    async with next_year(tmp_path, kept_for=__name__) as year:
        space = await year.new_class()
        await year.lets_her_in(space)
        second = await year.here.device("teacher", year.person, space.hex())
        await year.sync(second, year.machine)
        item = await year.here.asks_for_work(second, space)
        await year.sync(second, year.machine)
        found = TwoLaptops(year, space, second, item)
        found.work = await found.hands_in()
        await found.says(second, SAID)
        yield found


async def test_what_she_has_said_goes_on_being_shown_once_her_other_laptop_is_switched_on(here: TwoLaptops) -> None:
    await here.first_is_switched_on()
    pc = here.year.machine.agent.replica
    for replica in (pc, here.year.server):
        assert await here.texts(replica) == [SAID]
    async with portal(here.year.machine.agent) as surfer:
        await surfer.send("/who", "/who", {"person": here.year.pupil, "back": "/"})
        page = unescape(await surfer.page(f"/work/{here.work.hex()}"))
    assert SAID in page
    assert "Mme Petit (sur un ordinateur pas encore confirmé)" in page


async def test_so_is_what_she_says_on_the_one_in_use_during_that_week(here: TwoLaptops) -> None:
    await here.first_is_switched_on()
    await here.says(here.second, "Très bien")
    assert await here.texts(here.year.machine.agent.replica) == ["Très bien"]


async def test_server_and_archive_have_what_she_said_on_both_for_good(here: TwoLaptops) -> None:
    await here.first_is_switched_on()
    await here.says(here.year.teacher, "Très bien")
    await here.year.here.days_pass(9, here.year.teacher, here.year.machine, here.second)
    assert await here.texts(here.year.server) == ["Très bien", SAID]
    page = await here.year.archive()
    assert "Très bien" in page
    assert SAID in page


async def test_once_the_first_one_has_confirmed_it_it_is_shown_for_good_and_opens_what_came_meanwhile(
    here: TwoLaptops,
) -> None:
    await here.first_is_switched_on()
    later = await here.hands_in()
    with pytest.raises(Refused):
        await Desk(here.second.agent).files("open-hand-in", id=later.hex())
    await here.year.here.days_pass(9, here.year.teacher, here.year.machine, here.second)
    pc = here.year.machine.agent.replica
    assert await here.texts(pc) == []
    await here.confirms(here.year.teacher, here.second)
    assert await here.texts(pc) == [SAID]
    assert await Desk(here.second.agent).files("open-hand-in", id=later.hex())
    assert await here.year.who_speaks(pc, here.space) == await here.year.who_speaks(here.year.server, here.space)


async def test_both_ask_at_once_whether_the_other_one_is_hers(here: TwoLaptops) -> None:
    await here.first_is_switched_on()
    for one, other in ((here.year.teacher, here.second), (here.second, here.year.teacher)):
        async with portal(one.agent) as surfer:
            assert "Tant que vous ne l'avez pas dit sur les deux" in unescape(await surfer.page("/"))
        asked = (await Desk(one.agent).ask("status"))["asks"]
        assert [each["words"] for each in asked] == [device_words(own_device(other.agent))]
        await here.confirms(one, other)
        assert (await Desk(one.agent).ask("status"))["asks"] == []
