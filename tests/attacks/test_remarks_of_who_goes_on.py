"""A teacher's voice goes on by need to a device of a copied key's: her laptop is lost, or was cut off for a minute.

What it says then is heard as hers (docs/adr/0246). It takes the place of nothing that she had said (docs/adr/0395).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from html import unescape
from pathlib import Path
from random import Random

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput, Code
from protocol.folds.remarks import FeedbackNote
from protocol.limits import MAX_PARENTS
from protocol.model.entry import Kind
from protocol.model.work import Feedback
from protocol.rights.vouching import Device as Keys
from protocol.rights.vouching import Voices, Vouch, device_id
from protocol.roles import PersonRole, Role
from sync_agent.app import Agent
from sync_agent.keys.confirming import own_device
from sync_agent.portal.everybody.remarks import MAX_SHOWN_REMARKS
from tests.harness.attack import attack
from tests.harness.classroom import Device, work_of
from tests.harness.commands import Desk
from tests.harness.lost_laptop import cut_off, let_in_again
from tests.harness.one_for_all import ANY_OF_A_NAME
from tests.harness.portal import portal
from tests.harness.portfolios import remarks_in
from tests.harness.spied_class import SpiedClass, answered_class, own_keys
from tests.harness.territory import new_device

ROW = "whose voice goes on by need says something in the place of a teacher's words"
HERS = "Très bien raconté !"
HIS = "Copié sur le voisin."
PLACE = Feedback(HIS, "0/20", False, None)
NOTHING = Feedback("", None, False, None)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[SpiedClass]:
    """She has given a mark; a device of the copied key's lies there, granted as hers, and with a reading key."""
    async with answered_class(tmp_path, HERS, kept_for=__name__) as made:
        made.room.territory.clock.advance(30 * DAY_MS)
        await made.name_the_spy(made.room.teacher_person, back_ms=0)
        for _ in range(2):
            await made.sync()
        yield made


async def _lost(here: SpiedClass) -> None:
    """Her one laptop is reported; nothing that she had said is held back."""
    await cut_off(here, here.teacher)
    here.room.territory.clock.advance(DAY_MS)
    await here.sync(here.machine)


async def _says(here: SpiedClass, said: Feedback) -> None:
    """It names what stands of the work there."""
    here.room.territory.clock.advance(60_000)
    names = tuple(note.id for note in (await work_of(here.machine, here.room, here.work)).remarks)[:MAX_PARENTS]
    await here.say(Kind.FEEDBACK, said.encode(), here.room.pupil_person, target=here.work, parents=names)
    for _ in range(2):
        await here.sync(here.machine)


async def _is_heard_as_her(here: SpiedClass, agent: Agent) -> bool:
    roster = (await agent.replica.view(here.room.space)).roster
    return own_keys(here.spy) in roster.speaking[here.room.teacher_person]


async def _new_laptop(here: SpiedClass) -> Device:
    """She is given a code, and enrols it."""
    new = await here.room.teacher()
    for _ in range(3):
        await here.sync(new, here.machine)
    return new


async def _page(device: Device, work: bytes, pupil: bytes | None = None) -> str:
    async with portal(device.agent) as surfer:
        if pupil is not None:
            await surfer.send("/who", "/who", {"person": pupil.hex(), "back": "/"})
        page = await surfer.page(f"/work/{work.hex()}")
    return unescape(re.sub(r"\s+", " ", re.sub(r"<(?!textarea|/textarea)[^>]+>", " ", page)))


async def _texts(here: SpiedClass, device: Device) -> list[str]:
    return [note.record.text for note in (await work_of(device, here.room, here.work)).remarks]


@pytest.mark.parametrize("his", [PLACE, NOTHING], ids=["another mark", "taken back"])
@attack(ROW, off=ANY_OF_A_NAME)
async def test_what_she_said_on_a_laptop_that_was_lost_stays_on_every_machine(here: SpiedClass, his: Feedback) -> None:
    await _lost(here)
    new = await _new_laptop(here)
    assert await _is_heard_as_her(here, here.machine.agent)
    await _says(here, his)
    await here.sync(new)
    server = (await here.room.territory.replica.view(here.room.space)).coursework.hand_ins[here.work]
    assert {note.record.text for note in server.remarks} == {HERS, his.text}
    for device in (here.machine, new):
        assert set(await _texts(here, device)) == {HERS, his.text}
    page = await _page(here.machine, here.work, here.room.pupil_person)
    assert f"Ce que dit Mme Petit 18/20 {HERS}" in page
    assert (f"Ce que dit Mme Petit 0/20 {HIS}" in page) is not his.says_nothing


@attack(ROW, off=ANY_OF_A_NAME)
async def test_portfolio_and_archive_that_a_colleague_writes_have_both_and_what_she_said_bears_her_name(
    here: SpiedClass,
) -> None:
    colleague = await _colleague(here)
    await _lost(here)
    await _says(here, PLACE)
    await here.sync(colleague)
    desk = Desk(colleague.agent)
    said = remarks_in(await desk.files("portfolio", space=here.room.space.hex(), hidden_too=True))
    assert said == {"Mme Petit": f"18/20\n{HERS}\n", "Mme Petit [2]": f"0/20\n{HIS}\n"}
    archive = await desk.files("export-person", person=here.room.pupil_person.hex())
    assert {HERS, HIS} <= set(re.findall(r"<blockquote>(.*?)</blockquote>", archive["index.html"].decode()))


async def _colleague(here: SpiedClass) -> Device:
    """M. Roy teaches the class too, and was given what had been handed in."""
    roy = await here.room.territory.person("M. Roy", PersonRole.TEACHER, here.room.space)
    laptop = await here.room.device(Role.TEACHER, person=roy)
    await here.sync(laptop, here.teacher)
    reader = device_id(own_device(laptop.agent)).hex()
    await Desk(here.teacher.agent).ask("key-confirm", reader=reader)
    await here.sync(here.teacher, laptop, here.machine)
    return laptop


@attack(ROW, off=ANY_OF_A_NAME)
async def test_nor_does_it_where_a_machine_met_it_in_the_minute_in_which_she_was_cut_off(here: SpiedClass) -> None:
    await cut_off(here, here.teacher)
    await here.sync(here.machine)
    await let_in_again(here, here.teacher, Role.TEACHER, here.room.teacher_person)
    for _ in range(3):
        await here.sync()
    await _says(here, PLACE)
    assert await _is_heard_as_her(here, here.machine.agent)
    assert set(await _texts(here, here.machine)) == {HERS, HIS}


def _either_way(voices: Voices, person: bytes, bits: Mapping[Keys, int]) -> dict[Keys, int]:
    """As if it were enough that the later one calls the earlier one its own."""
    led = {one: voices.circle(person, one).own for one in bits}
    return {one: sum(bit for other, bit in bits.items() if other in led[one] or one in led[other]) for one in bits}


@attack(ROW, off={"protocol.rights.vouching.Voices.led_to_among": _either_way})
async def test_that_it_calls_her_laptop_its_own_gives_it_no_place_of_hers(here: SpiedClass) -> None:
    grants = here.room.territory.replica.door.authorities_of(here.teacher.agent.device)
    await here.say(Kind.VOUCH, Vouch().encode(), here.room.teacher_person, target=grants[0].grant)
    await _lost(here)
    await _says(here, PLACE)
    assert set(await _texts(here, here.machine)) == {HERS, HIS}


@attack(ROW, off=ANY_OF_A_NAME)
async def test_on_her_new_laptop_its_words_are_none_of_hers_and_she_is_told_that_they_stand_beside(
    here: SpiedClass,
) -> None:
    await _lost(here)
    new = await _new_laptop(here)
    await _says(here, PLACE)
    for _ in range(2):
        await here.sync(new)
    page = await _page(new, here.work)
    assert re.search(r"<textarea[^>]*>([^<]*)<", page)[1] == ""  # type: ignore[index]
    desk = Desk(new.agent)
    with pytest.raises(BadInput) as refused:
        await desk.ask("feedback", id=here.work.hex(), text="", mark=None, redo=False, take_back=True)
    assert refused.value.code is Code.NOTHING_TO_SEND
    assert set(await _texts(here, new)) == {HERS, HIS}


async def _newest(_shelf: object, said: Sequence[FeedbackNote]) -> Sequence[FeedbackNote]:
    return said[:MAX_SHOWN_REMARKS]


@attack(ROW, off={"sync_agent.portal.everybody.remarks._known_first": _newest})
async def test_however_many_devices_speak_as_she_the_pupils_page_has_what_she_said(here: SpiedClass) -> None:
    colleague = await _colleague(here)
    await Desk(colleague.agent).ask("feedback", id=here.work.hex(), text="Bien vu.", mark=None, redo=False)
    await here.sync(colleague)
    await _lost(here)
    first, granted = here.spy, here.grant
    for number in range(MAX_SHOWN_REMARKS + 1):
        here.spy = new_device(Random(800 + number).randbytes)
        await here.name_the_spy(here.room.teacher_person, back_ms=0)
        other, here.spy, here.grant = (here.spy, here.grant), first, granted
        await here.say(Kind.VOUCH, Vouch().encode(), here.room.teacher_person, target=other[1])
        here.spy, here.grant = other
        await _says(here, PLACE)
    page = await _page(here.machine, here.work, here.room.pupil_person)
    assert f"Ce que dit Mme Petit 18/20 {HERS}" in page
    assert "Ce que dit M. Roy Bien vu." in page
    assert page.count(HIS) == MAX_SHOWN_REMARKS - 2
