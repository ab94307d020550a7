"""What a human is shown before she says that a former laptop of hers was in her hands (docs/adr/0258)."""

from __future__ import annotations

import html
from pathlib import Path

from protocol.model.entry import Entry, Kind
from protocol.replica.at_work.replica import Draft
from protocol.rights.vouching import Device as VouchedDevice
from protocol.rights.vouching import Vouch, device_words
from protocol.roles import Role
from sync_agent.app import Agent
from tests.harness.attack import attack
from tests.harness.head_at_work import confirmed_head
from tests.harness.lost_laptop import another_laptop, cut_off, let_in_again, report_on_a_heads
from tests.harness.portal import portal
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.spied_class import own_keys, spied_class

ROW = "a server's operator names a device of their own as a teacher's"


async def _stolen_and_let_in_for_a_breath(here: Here) -> None:
    """Her second laptop is stolen and reported; the server lets it in, it calls the thief's device hers, and is out."""
    lost = await another_laptop(here, here.teacher)
    head, _ = await confirmed_head(here)
    await here.sync(lost, head, here.teacher, here.machine)
    await report_on_a_heads(here, head, lost)
    await here.sync(head, here.teacher)
    person, space = here.room.teacher_person, here.room.space
    grant = await let_in_again(here, lost, Role.TEACHER, person)
    await here.name_the_spy(person)
    await here.sync(lost)
    await lost.agent.write(Draft(space, Kind.VOUCH, grant, Vouch().encode(), subject=person, target=here.grant))
    await here.sync(lost)
    await cut_off(here, lost)
    await here.sync(here.teacher, here.machine, here.teacher)


def _nobody(_agent: Agent, _entry: Entry) -> VouchedDevice | None:
    return None


@attack(ROW, off={"sync_agent.keys.former_returns._confirmed_by": _nobody})
async def test_whom_a_stolen_laptop_called_hers_is_shown_before_she_says_that_it_was_she(tmp_path: Path) -> None:
    async with spied_class(tmp_path) as here:
        await _stolen_and_let_in_for_a_breath(here)
        words = device_words(own_keys(here.spy))
        async with portal(here.teacher.agent) as surfer:
            page = html.unescape(await surfer.page("/readers")).partition('id="h-former"')[2].partition("</section>")[0]
        assert "(nommé par le serveur)" in page
        assert words in page
        roster = (await here.machine.agent.replica.view(here.room.space)).roster
        assert own_keys(here.spy) not in roster.speaking[here.room.teacher_person], "and nothing is said by itself"
