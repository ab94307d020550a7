"""What a teacher puts right that a thief said on her stolen laptop stands, also once the thief's word is held back."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.model.entry import Kind
from protocol.model.structure import Revocation
from protocol.replica.console.frame import Notices
from protocol.replica.office.arrivals import note_arrivals
from sync_agent.coursework.publisher import Wish, publish
from tests.harness.classroom import SMALL, Device, Given
from tests.harness.commands import Desk
from tests.harness.lost_laptop import another_laptop
from tests.harness.office_devices import town
from tests.harness.spied_class import spied_class


@pytest.mark.parametrize("thefts", [1, 5])
async def test_her_correction_is_shown_before_and_after_what_it_replaced_is_held_back(
    tmp_path: Path, thefts: int
) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        room, machine, stolen = here.room, here.machine, here.teacher
        second = await another_laptop(here, stolen)

        async def say(laptop: Device, words: str) -> None:
            await Desk(laptop.agent).ask("feedback", id=here.work.hex(), text=words)
            await here.sync(laptop, stolen, second, machine)

        async def shown() -> str:
            feedback = (await machine.agent.replica.view(room.space)).coursework.hand_ins[here.work].feedback
            assert feedback is not None
            return feedback.record.text

        await say(stolen, "Recommence.")
        await say(stolen, "C'est bien, presque.")
        before = tuple(await room.territory.replica.tips(room.space, stolen.agent.device))
        for number in range(thefts):
            await say(stolen, f"Nul {number}.")
        await say(second, "C'est très bien.")
        assert await shown() == "C'est très bien."
        await room.territory.say(room.space, Kind.REVOKE, Revocation(stolen.agent.device, before).encode())
        await here.sync(second, machine)
        assert await shown() == "C'est très bien."


@pytest.mark.parametrize("thefts", [1, 5])
async def test_her_lesson_is_as_she_put_it_right_with_no_second_version_to_choose(tmp_path: Path, thefts: int) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        room, machine, stolen = here.room, here.machine, here.teacher
        second = await another_laptop(here, stolen)
        item = (await room.publish(stolen, SMALL)).item

        async def revise(laptop: Device, title: str) -> None:
            await here.sync(laptop)
            await publish(laptop.agent, Wish(room.space, item, None, title), Given(SMALL), Notices())
            await here.sync(laptop)

        await revise(stolen, "L'eau, suite")
        before = tuple(await room.territory.replica.tips(room.space, stolen.agent.device))
        for number in range(thefts):
            await revise(stolen, f"Nul {number}")
        await revise(second, "L'eau, la suite")
        await room.territory.say(room.space, Kind.REVOKE, Revocation(stolen.agent.device, before).encode())
        await here.sync(second, machine)
        found = (await machine.agent.replica.view(room.space)).coursework.items[item]
        assert (found.shown.record.title, found.conflict) == ("L'eau, la suite", False)


async def test_a_lesson_that_she_took_out_of_sight_again_stays_so(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        room, machine, stolen = here.room, here.machine, here.teacher
        second = await another_laptop(here, stolen)

        async def switch(laptop: Device, *commands: str) -> None:
            await here.sync(laptop)
            for command in commands:
                await Desk(laptop.agent).ask(command, item=here.item.hex())
            await here.sync(laptop)

        await switch(stolen, "withdraw", "restore", "withdraw", "restore")
        before = tuple(await room.territory.replica.tips(room.space, stolen.agent.device))
        await switch(stolen, "withdraw", "restore")
        await switch(second, "withdraw")
        await room.territory.say(room.space, Kind.REVOKE, Revocation(stolen.agent.device, before).encode())
        await here.sync(second, machine)
        assert (await machine.agent.replica.view(room.space)).coursework.items[here.item].withdrawn


@pytest.mark.parametrize("thefts", [1, 20])
async def test_a_pupil_whom_an_administrator_took_off_the_list_stays_off(tmp_path: Path, thefts: int) -> None:
    async with town(tmp_path) as here:
        office, replica = here.office, here.office.server.replica
        head = await here.head_of_the_school()
        lea = await office.add_person("Léa", "pupil")
        for name in ("Léa M.", "Léa Martin"):
            await office.do("person rename", person=lea, name=name)
        await here.sync(head)
        await note_arrivals(office.server.store, office.clock())
        office.clock.advance(DAY_MS)
        for number in range(thefts):
            await Desk(head.agent).ask("person rename", person=lea, name=f"Zoé {number}", renamed_too=True)
        await here.sync(head)
        await office.do("person retire", person=lea)
        await office.do("lost", device=head.agent.device.hex(), since="12h")
        assert bytes.fromhex(lea) not in (await replica.view(here.space)).roster.persons
