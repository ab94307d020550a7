"""A teacher's first laptop is gone, her second one works: who takes away what led to it makes nobody else her voice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable
from pathlib import Path
from random import Random

import pytest

from protocol.clock import DAY_MS
from protocol.folds.hand_in_keys import content_key_of
from protocol.limits import MAX_MET_OF_ONE
from protocol.model.entry import Kind
from protocol.model.structure import Grant, PersonKey, PersonRecord, Revocation
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.bureau import Met
from protocol.rights.circles import Circles
from protocol.rights.speaking import Remembered, _until_one_is_in_use
from protocol.rights.vouching import Device as VouchedDevice
from protocol.rights.vouching import Voices
from protocol.roles import PersonRole, Role
from sync_agent.app import Agent
from sync_agent.keys.acquaintances import met_first
from sync_agent.keys.confirming import own_device
from sync_agent.keys.key_wraps import reading_keys
from sync_agent.machine.marks import HEARD_MARKS, heard_in
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.head_at_work import confirmed_head, let_into_another_class
from tests.harness.lost_laptop import another_laptop, report_by_head
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.spied_class import heading_above, spied_class
from tests.harness.territory import new_device

ROW = "a server's operator names a device of their own as a teacher's"
AT_A_HEADS = "a head teacher's computer lets a server's device in as a teacher's"
LONG_AGO_MS = 1_000 * DAY_MS


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with spied_class(tmp_path, kept_for=__name__) as made:
        yield made


def _by_date(
    apart: Voices, cut: frozenset[bytes], alone: Circles, person: bytes, _: object, *, before: int
) -> Iterable[VouchedDevice]:
    """Of who speaks next dates decide, whenever somebody was met."""
    del before
    return _until_one_is_in_use(apart, cut, alone, person, Remembered(), before=1 << 66)


BY_DATE: dict[str, object] = {"protocol.rights.speaking._until_one_is_in_use": _by_date}
NOT_AT_ALL: dict[str, object] = {"protocol.rights.speaking._until_one_is_in_use": lambda *_, **__: ()}


async def _replaced(here: Here) -> tuple[Device, Device]:
    """She has a second laptop, and the first one is let go with all that it had said; and a head teacher's computer."""
    second = await another_laptop(here, here.teacher)
    head, _ = await confirmed_head(here)
    await here.sync(second, here.teacher, second, here.machine, head)
    await report_by_head(here, head)
    for _ in range(3):
        await here.sync(head, second, here.machine)
    return second, head


async def _up_to_the_word(here: Here, second: Device) -> bytes:
    """A further revocation of her first laptop, which keeps all that it had said before it led to the second one."""
    territory, first = here.room.territory, here.teacher.agent.device
    said = await territory.replica.store.authored(here.room.space, first)
    (word,) = [
        entry
        for entry in said
        if entry.header.kind == Kind.VOUCH
        and (named := territory.replica.door.authority(entry.header.target)) is not None
        and named.key == second.agent.device
    ]
    return Revocation(first, word.header.prev).encode()


async def _is_led_to_nobody(here: Here, second: Device) -> None:
    """Her first laptop is cut off once more; a device of the thief's says a key as hers, dated before all."""
    await here.room.territory.say(here.room.space, Kind.REVOKE, await _up_to_the_word(here, second))
    await here.name_the_spy(here.room.teacher_person, back_ms=LONG_AGO_MS)


async def _goes_on_by_herself(here: Here, second: Device, *machines: Device) -> None:
    for _ in range(3):
        await here.sync(second, here.machine, *machines)
    roster = (await here.machine.agent.replica.view(here.room.space)).roster
    assert own_device(second.agent) in roster.speaking[here.room.teacher_person]
    work = await here.room.hand_in(here.machine, here.item, {"b.odt": b"neu"})
    await here.sync(here.machine, second)
    assert await Desk(second.agent).files("open-hand-in", id=work.hex()) == {"b.odt": b"neu"}
    assert not await here.opens(work)
    here.teacher = second
    assert await heading_above(here, "Bravo, refais tout") is None


async def _reads_what_is_handed_in_now(here: Here, hers: Device) -> bool:
    work = await here.room.hand_in(here.machine, here.item, {"b.odt": b"neu"})
    await here.sync(here.machine, hers)
    made = (await hers.agent.replica.view(here.room.space)).coursework.hand_ins[work]
    return content_key_of(made, reading_keys(hers.agent)) is not None


@attack(ROW, off=BY_DATE)
async def test_who_takes_back_what_led_to_her_laptop_in_use_makes_no_other_device_her_voice(here: Here) -> None:
    second, _ = await _replaced(here)
    here.room.territory.clock.advance(90 * DAY_MS)
    await here.sync(second, here.machine)
    await _is_led_to_nobody(here, second)
    await _goes_on_by_herself(here, second)


@attack(ROW, off=BY_DATE)
async def test_nor_does_a_stolen_head_teachers_laptop(here: Here) -> None:
    stolen, _ = await confirmed_head(here)
    second, _ = await _replaced(here)
    await here.sync(stolen)
    right = await stolen.agent.right(here.room.space, Kind.GRANT)
    spy = here.spy
    pair = spy.signing.public, spy.agreement.public
    hers = Grant(*pair, spy.tls.fingerprint, Role.TEACHER, here.room.teacher_person, None, None).encode()
    _, granted = await stolen.agent.write(
        Draft(here.room.space, Kind.REVOKE, right.grant, await _up_to_the_word(here, second)),
        Draft(here.room.space, Kind.GRANT, right.grant, hers),
    )
    await here.sync(stolen)
    here.grant = granted.id
    key = PersonKey(spy.agreement.public).encode()
    await here.say(Kind.PERSON_KEY, key, here.room.teacher_person, back_ms=LONG_AGO_MS)
    await _goes_on_by_herself(here, second)


@attack(ROW, off=BY_DATE)
async def test_nor_who_cuts_her_laptop_in_use_off_with_all_that_it_said_and_lets_it_in_in_the_same_breath(
    here: Here,
) -> None:
    second, _ = await _replaced(here)
    territory, keys = here.room.territory, second.agent.keys
    cut = await territory.say(here.room.space, Kind.REVOKE, Revocation(second.agent.device, ()).encode())
    pair = keys.signing.public, keys.agreement.public
    again = Grant(*pair, keys.tls.fingerprint, Role.TEACHER, here.room.teacher_person, None, None).encode()
    await territory.say(here.room.space, Kind.GRANT, again, parents=(cut.id,))
    await _is_led_to_nobody(here, second)
    await here.sync(here.machine)
    await _goes_on_by_herself(here, second)


@attack(ROW, off=BY_DATE)
async def test_after_a_restart_a_machine_knows_whom_it_met_next(here: Here) -> None:
    second, _ = await _replaced(here)
    agent = here.machine.agent
    agent.acquainted.heard = heard_in(await agent.replica.store.marks(HEARD_MARKS))
    agent.bear_in_mind()
    await _is_led_to_nobody(here, second)
    await _goes_on_by_herself(here, second)


@attack(ROW, off={"sync_agent.keys.first_met.hear": lambda *_: {}})
async def test_of_whom_an_earlier_version_met_a_machine_takes_note_at_its_first_look(here: Here) -> None:
    second, _ = await _replaced(here)
    agent = here.machine.agent
    agent.acquainted.heard.clear()
    await agent.replica.store.set_marks(dict.fromkeys(await agent.replica.store.marks(HEARD_MARKS)))
    agent.bear_in_mind()
    await here.room.hand_in(here.machine, here.item, {"a.odt": b"alt"})
    await here.sync(here.machine)
    await _is_led_to_nobody(here, second)
    await _goes_on_by_herself(here, second)


WHOEVER_SAYS_A_KEY: dict[str, object] = {"sync_agent.keys.acquaintances._speaks": lambda *_: True}


@attack(ROW, off=WHOEVER_SAYS_A_KEY)
async def test_laptops_that_were_invented_before_hers_take_no_place_of_whom_a_machine_notes(here: Here) -> None:
    for number in range(MAX_MET_OF_ONE):
        here.spy = new_device(Random(number).randbytes)
        await here.name_the_spy(here.room.teacher_person, back_ms=0)
    await here.sync(here.teacher, here.machine)
    second, _ = await _replaced(here)
    assert own_device(second.agent) in here.machine.agent.acquainted.heard[here.room.space][here.room.teacher_person]
    here.spy = new_device(Random(999).randbytes)
    await _is_led_to_nobody(here, second)
    await _goes_on_by_herself(here, second)


@attack(ROW, off=NOT_AT_ALL)
@pytest.mark.parametrize("is_hers_the_listed", [True, False])
async def test_nor_does_a_list_by_which_a_device_in_use_is_hers_make_her_silent(
    here: Here, *, is_hers_the_listed: bool
) -> None:
    second, head = await _replaced(here)
    territory, space, hers = here.room.territory, here.room.space, here.room.teacher_person
    territory.clock.advance(90 * DAY_MS)
    await here.sync(second, here.machine)
    other = await territory.person("M. X", PersonRole.TEACHER, space)
    await here.name_the_spy(other, back_ms=0)
    await here.sync(second, here.machine, head)
    await territory.say(space, Kind.REVOKE, await _up_to_the_word(here, second))
    one, same = (hers, other) if is_hers_the_listed else (other, hers)
    listed = PersonRecord("Mme Petit", PersonRole.TEACHER, same_as=one).encode()
    await territory.say(space, Kind.PERSON, listed, subject=same)
    for _ in range(3):
        await here.sync(second, here.machine, head)
    assert await _reads_what_is_handed_in_now(here, second)


@attack(ROW, off=NOT_AT_ALL)
async def test_nor_does_who_lets_her_second_laptop_in_again_from_a_drawer_make_her_third_one_silent(here: Here) -> None:
    second, head = await _replaced(here)
    territory, space, keys = here.room.territory, here.room.space, second.agent.keys
    third = await another_laptop(here, second)
    territory.clock.advance(30 * DAY_MS)
    await here.sync(second, third, second, third, here.machine, head)
    cut = await territory.say(space, Kind.REVOKE, Revocation(second.agent.device, ()).encode())
    pair = keys.signing.public, keys.agreement.public
    again = Grant(*pair, keys.tls.fingerprint, Role.TEACHER, here.room.teacher_person, None, None).encode()
    await territory.say(space, Kind.GRANT, again, parents=(cut.id,))
    for _ in range(2):
        await here.sync(third, here.machine, head)
    assert await _reads_what_is_handed_in_now(here, third)


def _starts_alone(agent: Agent, person: bytes, without: Collection[bytes]) -> Met:
    """Who was met, and is led to by the words of who was there before, is met by nobody."""
    agent.acquainted.heard.clear()
    return met_first(agent, person, without)


@attack(AT_A_HEADS, off={"sync_agent.school.office.met_first": _starts_alone})
async def test_once_her_first_laptop_is_gone_a_device_of_a_class_of_the_servers_own_does_not_come_along_for_it(
    here: Here,
) -> None:
    second, head = await _replaced(here)
    territory, person = here.room.territory, here.room.teacher_person
    here.room.space = await territory.classroom("CX")
    await territory.say(
        here.room.space, Kind.PERSON, PersonRecord("Mme Petit", PersonRole.TEACHER).encode(), subject=person
    )
    await here.name_the_spy(person, back_ms=LONG_AGO_MS)
    for _ in range(2):
        await here.sync(head)
    inside, _ = await let_into_another_class(head, person)
    assert here.spy.signing.public not in inside
    assert second.agent.device in inside
