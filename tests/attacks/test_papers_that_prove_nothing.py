"""A teacher types her phrase on her next laptop, and what a made-up one has said keeps that from proving it."""

from __future__ import annotations

from pathlib import Path

from protocol.model.entry import Kind
from protocol.rights.vouching import Device, Vouch
from protocol.trust.kit import Argon2Cost
from sync_agent.keys.confirming import own_device
from sync_agent.keys.phrases import new_phrase, open_with_phrase
from sync_agent.keys.places import Place
from tests.harness.attack import attack
from tests.harness.spied_class import spied_class

ROW = "a made-up laptop calls her next one hers, and her paper proves nothing"


def _to_anybody(place: Place, _drawers: object, mine: Device) -> bool:
    voices = place.roster.voices
    theirs = voices.firsts.get(place.person, ())
    return any(word.device == mine and word.is_own for each in theirs for word in voices.words.get(each, ()))


@attack(ROW, off={"sync_agent.keys.phrases._is_known_to": _to_anybody})
async def test_her_paper_proves_her_next_laptop_though_a_made_up_one_has_called_it_hers(tmp_path: Path) -> None:
    async with spied_class(tmp_path) as here:
        hers, space = here.room.teacher_person, here.room.space
        phrase = await new_phrase(here.teacher.agent, Argon2Cost(8, 1, 1))
        await here.sync()
        await here.name_the_spy(hers)
        new = await here.room.teacher()
        (given,) = here.room.territory.replica.door.authorities_of(new.agent.device)
        await here.say(Kind.VOUCH, Vouch().encode(), hers, target=given.grant)
        await here.sync(new)
        await open_with_phrase(new.agent, phrase)
        await here.sync(new, here.machine)
        roster = (await here.machine.agent.replica.view(space)).roster
        assert own_device(new.agent) in roster.speaking[hers]
