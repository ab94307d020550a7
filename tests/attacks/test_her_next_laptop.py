"""A computer of a copied key's is granted as a teacher's, with a reading key dated before hers; then she gets a laptop.

Her new laptop met nobody before: that device is the first by date. She compares six words on both of hers, and says on
each that the other is hers (docs/adr/0387).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from html import unescape
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput, Code
from protocol.model.entry import Kind
from protocol.model.work import Feedback, Receipt
from protocol.rights.roster import Roster
from protocol.rights.vouching import Circle, device_id
from sync_agent.app import Agent
from sync_agent.coursework.reading import find_item, find_work
from sync_agent.keys.confirming import own_device
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.one_for_all import ANY_OF_A_NAME
from tests.harness.portal import portal
from tests.harness.spied_class import SpiedClass, own_keys, spied_class

ROW = "her next laptop takes a device of a copied key's for her own"
HIS = "Copié sur le voisin"


def _from_the_first_by_date(agent: Agent, roster: Roster, person: bytes) -> Circle:
    starts = roster.starts.get(person, ())
    return roster.voices.with_over().circle(person, own_device(agent), *starts)


OFF = {
    "sync_agent.coursework.own_versions.circle_ever": _from_the_first_by_date,
    "sync_agent.hand_ins.looked_at.circle_ever": _from_the_first_by_date,
    "sync_agent.hand_ins.own_words.circle_ever": _from_the_first_by_date,
    **ANY_OF_A_NAME,
}


@dataclass
class Next:
    """Her class, with the laptop that she had, the new one, and the spy's, which no word of hers leads to."""

    here: SpiedClass
    new: Device

    async def sync(self) -> None:
        for _ in range(2):
            await self.here.sync(self.here.teacher, self.new, self.here.machine)


async def _confirm(device: Device, other: Device) -> None:
    reader = device_id(own_device(other.agent)).hex()
    await Desk(device.agent).ask("key-confirm", reader=reader, shown_as="own")


@pytest.fixture
async def hers(tmp_path: Path) -> AsyncIterator[Next]:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        await here.name_the_spy(here.room.teacher_person, back_ms=100 * DAY_MS)
        await here.sync()
        made = Next(here, await here.room.teacher())
        await made.sync()
        for device, other in ((here.teacher, made.new), (made.new, here.teacher)):
            await _confirm(device, other)
        await made.sync()
        roster = (await made.new.agent.replica.view(here.room.space)).roster
        assert own_keys(here.spy) in roster.starts[here.room.teacher_person], "it is the first by date there"
        yield made


@attack(ROW, off=OFF)
async def test_its_version_of_her_lesson_is_signed_on_neither_of_hers_unasked(hers: Next) -> None:
    here, item = hers.here, hers.here.item.hex()
    shown = (await find_item(here.teacher.agent, here.item)).shown
    record = replace(shown.record, title=HIS)
    await here.say(Kind.REVISION, record.encode(), None, target=here.item, parents=(shown.id,))
    await hers.sync()
    for device in (here.teacher, hers.new):
        with pytest.raises(BadInput) as asked:
            await Desk(device.agent).publish(None, item=item, due_ms=1_800_000_000_000)
        assert asked.value.code is Code.NOT_YET
        assert shown.id.hex()[:12] in asked.value.message, "the last one that is hers is named"


@attack(ROW, off=OFF)
async def test_what_it_says_was_opened_stays_to_be_opened_on_hers(hers: Next) -> None:
    here = hers.here
    here.room.territory.clock.advance(60_000)
    work = await here.room.hand_in(here.machine, here.item, {"autre.odt": b"encore" * 50})
    await hers.sync()
    stream = (await find_work(here.machine.agent, work)).record.content.stream
    await here.say(Kind.RECEIPT_TEACHER, Receipt(stream).encode(), here.room.pupil_person, target=work)
    await hers.sync()
    for device in (here.teacher, hers.new):
        rows = await Desk(device.agent).ask("hand-ins")
        assert {row["id"]: row["to_open"] for row in rows} == {here.work.hex(): False, work.hex(): True}


@attack(ROW, off=OFF)
async def test_her_form_does_not_begin_with_what_it_answered(hers: Next) -> None:
    here = hers.here
    said = Feedback(HIS, "0/20", False, None).encode()
    await here.say(Kind.FEEDBACK, said, here.room.pupil_person, target=here.work)
    await hers.sync()
    async with portal(hers.new.agent) as surfer:
        page = unescape(await surfer.page(f"/work/{here.work.hex()}"))
    assert HIS in page
    assert HIS not in page.partition("<textarea")[2].partition("</textarea>")[0]
