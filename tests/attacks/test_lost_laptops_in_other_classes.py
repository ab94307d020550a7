"""A lost laptop that was reported in one class is given a teacher's new keys in another one (docs/attacks.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from random import Random

import pytest

from protocol.identity import AgreementKey
from protocol.model.entry import Kind
from protocol.model.structure import PersonKey, Revocation
from protocol.replica.at_work.replica import Draft
from protocol.rights.vouching import device_id
from protocol.roles import Role
from protocol.trust import person_keys
from protocol.trust.person_keys import KeyWraps
from sync_agent.app import Agent
from sync_agent.keys.confirming import confirm, list_readers, own_device, rows
from sync_agent.keys.key_wraps import reading_keys
from sync_agent.keys.reading_key import tend_reading_keys
from sync_agent.machine.enrolled import PERSON_KEY_FILE
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.head_at_work import confirmed_head
from tests.harness.lost_laptop import (
    another_laptop,
    confirm_each_other,
    keys_that_open,
    opens_what_is_handed_in_now,
    report_by_head,
    report_by_kit,
    teach_too,
)
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.spied_class import spied_class
from tests.harness.territory import new_device

ROW = "a lost laptop reads on in another class"
_info = person_keys._info


def _of_no_space(_space: bytes | None, person: bytes, agreement: bytes) -> bytes:
    return _info(None, person, agreement)


Way = Callable[[Here, Device], Awaitable[None]]


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with spied_class(tmp_path, kept_for=__name__) as made:
        yield made


def _those_of_all_classes(agent: Agent, _place: object) -> dict[bytes, AgreementKey]:
    return reading_keys(agent)


async def _nobody(_agent: object) -> frozenset[bytes]:
    return frozenset()


WORDS_GO_ON: dict[str, object] = {"sync_agent.keys.reading_key.reported": _nobody}
"""What a human said of a laptop in one class is said by itself in another, whatever was reported meanwhile."""
SAME_IN_ALL: dict[str, object] = {**WORDS_GO_ON, "sync_agent.keys.reading_key.keys_to_pass_on": _those_of_all_classes}
"""A teacher's keys are sealed in every class, whichever they were made for."""


async def _reported_in_one_of_two_schools(here: Here) -> tuple[Device, Device, bytes]:
    """The teacher's other laptop, the computer of the head who reported the first, and a class of the other school."""
    territory = here.room.territory
    second = await another_laptop(here, here.teacher)
    elsewhere = await territory.classroom("CB", await territory.school("École B", uai="0180002Y"))
    await teach_too(here, elsewhere, here.teacher, second)
    await here.sync(here.teacher, second, here.teacher, second)
    head, _ = await confirmed_head(here)
    await here.sync(head, second, here.machine)
    await report_by_head(here, head)
    return second, head, elsewhere


@pytest.mark.parametrize("reported", [report_by_head, report_by_kit])
@attack(ROW, off=SAME_IN_ALL)
async def test_a_class_that_a_server_makes_for_a_lost_laptop_gives_it_no_key(here: Here, reported: Way) -> None:
    second = await another_laptop(here, here.teacher)
    head, _ = await confirmed_head(here)
    await here.sync(head, second, here.machine)
    await reported(here, head)
    await here.sync(head, second, here.machine)
    made = await here.room.territory.classroom("CX")
    await teach_too(here, made, here.teacher, second)
    assert not await opens_what_is_handed_in_now(here, here.teacher, second, head)


@attack(ROW, off=SAME_IN_ALL)
async def test_a_laptop_that_one_school_reported_lost_gets_no_new_key_through_another_school(here: Here) -> None:
    second, head, _ = await _reported_in_one_of_two_schools(here)
    await here.sync(head, second, second, here.teacher, here.teacher)
    assert not await opens_what_is_handed_in_now(here, here.teacher, second, head)


@attack(ROW, off=SAME_IN_ALL)
async def test_a_laptop_that_one_school_reported_lost_lets_nobody_in_to_her_keys_in_another(here: Here) -> None:
    second, head, elsewhere = await _reported_in_one_of_two_schools(here)
    await here.sync(head, second)
    thief = await here.room.device(Role.TEACHER, elsewhere, person=here.room.teacher_person)
    await here.sync(thief, here.teacher)
    await confirm(here.teacher.agent, device_id(own_device(thief.agent)), shown_as="own")
    await here.sync(here.teacher, second, thief)
    assert not await opens_what_is_handed_in_now(here, thief, second, head)


@attack(ROW, off=SAME_IN_ALL)
async def test_a_third_laptop_that_never_heard_of_the_report_passes_no_key_of_that_class_on(here: Here) -> None:
    territory, lost = here.room.territory, here.teacher
    second = await another_laptop(here, lost)
    elsewhere = await territory.classroom("CB", await territory.school("École B", uai="0180002Y"))
    await teach_too(here, elsewhere, lost, second)
    third = await here.room.device(Role.TEACHER, elsewhere, person=here.room.teacher_person)
    await here.sync(lost, second, third, lost, second, third)
    await confirm_each_other(here, second, third)
    await confirm_each_other(here, third, lost)
    head, _ = await confirmed_head(here)
    await here.sync(head, second, here.machine, third)
    await report_by_head(here, head)
    await here.sync(head, second, third, lost, second, third, lost)
    assert not await opens_what_is_handed_in_now(here, lost, second, head, third)


@attack(ROW, off={**WORDS_GO_ON, "protocol.trust.person_keys._info": _of_no_space})
async def test_what_was_sealed_in_one_class_is_opened_and_passed_on_in_no_other_that_holds_a_copy(here: Here) -> None:
    lost, territory = here.teacher, here.room.territory
    second = await another_laptop(here, lost)
    third = await here.room.teacher()
    await here.sync(third, second)
    await confirm_each_other(here, second, third)
    head, _ = await confirmed_head(here)
    await here.sync(head, second, third, here.machine)
    await report_by_head(here, head)
    await here.sync(head, second, third, here.machine, second, third, second, third)
    made = await territory.classroom("CX")
    await teach_too(here, made, lost, second, third)
    await here.sync(second, third, lost, second, third)
    grant = (await lost.agent.right(made, Kind.KEY_WRAP)).grant
    sealed = await territory.replica.store.scan_kinds([Kind.KEY_WRAP])
    copies = [entry.payload or b"" for entry in sealed if entry.header.space == here.room.space]
    person = here.room.teacher_person
    await lost.agent.write(*(Draft(made, Kind.KEY_WRAP, grant, copy, subject=person) for copy in copies))
    await here.sync(lost, second, third, second, third)
    assert not await opens_what_is_handed_in_now(here, lost, second, head, third)


@attack(ROW, off=WORDS_GO_ON)
async def test_a_class_of_hers_that_a_server_opens_to_a_laptop_after_the_report_gives_it_no_key(here: Here) -> None:
    lost, room, territory = here.teacher, here.room, here.room.territory
    second = await another_laptop(here, lost)
    never_its = await territory.classroom("CM2", room.school)
    await teach_too(here, never_its, second)
    head, _ = await confirmed_head(here)
    await here.sync(head, second, here.machine)
    await report_by_head(here, head)
    await here.sync(head, second, second)
    await teach_too(here, never_its, lost)
    await here.sync(second, lost, second)
    key = second.agent.reading_keys.newest_of(never_its)
    assert key is not None
    assert key.public not in await keys_that_open(here, lost.agent)


async def _a_computer_of_the_keys(here: Here) -> None:
    """Whoever has a copy of the server's key lets a computer in, as an administrator's."""
    here.spy = new_device(Random(4).randbytes)
    (right,) = await here.room.territory.let_in(here.spy, Role.ADMIN, here.room.school)
    here.grant = right.id


async def _that_computer_is_cut_off(here: Here) -> None:
    await here.room.territory.say(here.room.school, Kind.REVOKE, Revocation(here.spy.signing.public, ()).encode())


async def _as_what(agent: Agent, laptop: Device) -> dict[bytes, str]:
    """How another laptop of hers stands in each class that lists it."""
    return {each.space: each.state for each in await list_readers(agent) if each.pair == own_device(laptop.agent)}


def _as_if_never_said(*_: object) -> set[bytes]:
    return set()


@attack(ROW, off={"sync_agent.keys.reported._not_in_force": _as_if_never_said})
async def test_nor_where_the_report_was_held_back_for_one_look_of_her_other_laptops(here: Here) -> None:
    lost, room, territory = here.teacher, here.room, here.room.territory
    second = await another_laptop(here, lost)
    never_its = await territory.classroom("CM2", room.school)
    await teach_too(here, never_its, second)
    head, _ = await confirmed_head(here)
    await here.sync(head, second, here.machine)
    tips = territory.replica.tips
    before = (*await tips(room.school, head.agent.device), *await tips(room.space, head.agent.device))
    await report_by_head(here, head)
    await here.sync(head, second, here.machine)
    await teach_too(here, never_its, lost)
    await _a_computer_of_the_keys(here)
    await here.say(Kind.REVOKE, Revocation(head.agent.device, before).encode(), None, space=room.school)
    await here.sync(lost, second)
    await _that_computer_is_cut_off(here)
    await here.sync(second, lost, second)
    key = second.agent.reading_keys.newest_of(never_its)
    assert key is not None
    assert key.public not in await keys_that_open(here, lost.agent)
    assert await _as_what(second.agent, lost) == {never_its: "yours?"}


async def test_after_a_yes_despite_a_report_that_counts_no_more_her_program_says_so_in_further_classes(
    here: Here,
) -> None:
    first, territory, school = here.teacher, here.room.territory, here.room.school
    second = await another_laptop(here, first)
    await _a_computer_of_the_keys(here)
    await here.say(Kind.REVOKE, Revocation(second.agent.device, ()).encode(), None)
    await here.sync(first)
    await _that_computer_is_cut_off(here)
    further = await territory.classroom("CM2", school)
    await teach_too(here, further, first, second)
    await here.sync(first, second, first)
    assert await _as_what(first.agent, second) == {here.room.space: "confirmed", further: "yours?"}
    listed = rows(await list_readers(first.agent))
    (row,) = (name for name, theirs in listed.items() if theirs[0].pair == own_device(second.agent))
    assert (await confirm(first.agent, row, shown_as="own")).new == 1
    later = await territory.classroom("CE2", school)
    await teach_too(here, later, first, second)
    await here.sync(first, second, first)
    assert set((await _as_what(first.agent, second)).values()) == {"confirmed"}


@pytest.mark.parametrize("said", ["what-it-made", "what-it-was-given"])
async def test_keys_of_an_earlier_version_are_not_sealed_anew_to_a_laptop_that_was_reported_where_they_are_in_use(
    here: Here, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    second, head, elsewhere = await _reported_in_one_of_two_schools(here)
    agent, old = second.agent, AgreementKey(b"\7" * 32)
    await here.sync(head)
    with monkeypatch.context() as before_the_update:
        before_the_update.setattr("sync_agent.sync.after_news.tend_reading_keys", _nothing_due)
        await here.sync(second)
        (agent.folder / PERSON_KEY_FILE).write_bytes(old.seed)
        for space in (here.room.space, elsewhere):
            grant = (await agent.right(space, Kind.PERSON_KEY)).grant
            key = PersonKey(old.public).encode()
            await agent.write(Draft(space, Kind.PERSON_KEY, grant, key, subject=here.room.teacher_person))
        if said == "what-it-was-given":
            (agent.folder / PERSON_KEY_FILE).unlink()
            agent.reading_keys.given_before[old.public] = old
        await here.sync(second)
    await tend_reading_keys(agent)
    await here.sync(second, here.teacher)
    third = await here.room.teacher()
    await teach_too(here, elsewhere, third)
    await here.sync(third, second, here.teacher)
    await confirm_each_other(here, second, third)
    await here.sync(second, third, here.teacher, third, second, third)
    if said == "what-it-made":
        assert old.public in reading_keys(third.agent), "a laptop of hers opens earlier work"
    for entry in await here.room.territory.replica.store.scan_kinds([Kind.KEY_WRAP]):
        wrapped = KeyWraps.parse(entry.payload or b"")
        if wrapped.agreement == old.public:
            assert here.teacher.agent.keys.agreement.public not in {to for to, _ in wrapped.wraps}


async def _nothing_due(_agent: object) -> int:
    return 0
