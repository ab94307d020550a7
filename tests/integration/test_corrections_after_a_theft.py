"""What a teacher puts right that a thief said on her stolen laptop stands, also once the thief's word is held back."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.model.entry import Kind
from protocol.model.structure import Revocation
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.lost_laptop import another_laptop
from tests.harness.spied_class import spied_class


@pytest.mark.parametrize("thefts", [1, 5])
async def test_her_correction_is_shown_before_and_after_what_it_replaced_is_held_back(
    tmp_path: Path, thefts: int
) -> None:
    async with spied_class(tmp_path) as here:
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
