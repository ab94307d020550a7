"""Which of a teacher's computers come along when a head teacher's lets the teacher into a class (docs/adr/0163)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from protocol.model.entry import Kind
from protocol.model.structure import Grant, PersonRecord, Revocation
from protocol.rights.vouching import device_id, device_words
from protocol.roles import PersonRole, Role
from sync_agent.keys.confirming import confirm, own_device
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.head_at_work import confirmed_head, let_into_another_class
from tests.harness.lost_laptop import another_laptop, confirm_each_other, report_by_head
from tests.harness.passing_days import pass_days
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.spied_class import own_keys, spied_class
from tests.harness.territory import new_device


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with spied_class(tmp_path, kept_for=__name__) as made:
        yield made


async def test_the_only_device_of_somebody_new_comes_along_and_is_told_with_its_words(here: Here) -> None:
    head, _ = await confirmed_head(here)
    new = await here.room.territory.person("Mme Neuve", PersonRole.TEACHER, here.room.space)
    hers = new_device(Random(5).randbytes)
    await here.room.territory.let_in(hers, Role.TEACHER, here.room.space, person=new)
    await here.sync(head)
    inside, told = await let_into_another_class(head, new)
    assert hers.signing.public in inside
    assert device_words(own_keys(hers)) in told


async def test_who_has_lost_a_laptop_comes_along_with_the_next_which_is_told_with_its_words(here: Here) -> None:
    head, _ = await confirmed_head(here)
    await Desk(head.agent).ask("lost", device=here.teacher.agent.device.hex())
    following = await here.room.device(Role.TEACHER, here.room.space, person=here.room.teacher_person)
    await here.sync(head, following, head)
    inside, told = await let_into_another_class(head, here.room.teacher_person)
    assert following.agent.device in inside
    assert here.teacher.agent.device not in inside
    assert device_words(own_device(following.agent)) in told


async def test_who_has_left_a_class_and_teaches_on_comes_along_into_the_next_one(here: Here) -> None:
    head, _ = await confirmed_head(here)
    await pass_days(here.room.territory, 7, head)
    desk, person = Desk(head.agent), here.room.teacher_person
    for name in ("CE1", "CM2"):
        made = (await desk.ask("space add", name=name, year="2026-2027"))["space"]
        await desk.ask("grant", person=person.hex(), space=[made])
    await desk.ask("ungrant", person=person.hex(), space=[made])
    inside, told = await let_into_another_class(head, person)
    assert here.teacher.agent.device in inside
    assert not told


@pytest.mark.parametrize("of_another", [False, True], ids=["here", "by-another-head"])
async def test_a_laptop_that_was_called_lost_by_mistake_comes_along_once_it_has_been_let_in_again(
    here: Here, of_another: bool
) -> None:
    head, _ = await confirmed_head(here)
    reporting = (await confirmed_head(here))[0] if of_another else head
    await pass_days(here.room.territory, 7, head)
    desk, device, person = Desk(head.agent), here.teacher.agent.device, here.room.teacher_person
    await here.sync(reporting)
    await Desk(reporting.agent).ask("lost", device=device.hex())
    await here.sync(reporting, head)
    keys = here.teacher.agent.keys
    again = Grant(device, keys.agreement.public, keys.tls.fingerprint, Role.TEACHER, person, None, None).encode()
    cuts = (await head.agent.replica.view(here.room.space)).roster.revocations
    await here.sync(head)
    await here.room.territory.say(here.room.space, Kind.GRANT, again, parents=tuple(cuts))
    await here.sync(head)
    inside, told = await let_into_another_class(head, person)
    assert device not in inside
    assert device.hex() in told, "the server alone has let it in"
    assert f"lost {device.hex()}" in await _told_of_devices(head)
    await desk.ask("grant", device=device.hex(), space=[here.room.space.hex()])
    assert not await _told_of_devices(head)
    await here.sync(head, here.teacher, head)
    inside, told = await let_into_another_class(head, person)
    assert device in inside
    assert not told


async def _everybody_is_in_again(here: Here, *, by_the_kit: bool) -> Device:
    """A stolen head teacher's laptop has cut the teacher off wherever she is, and was cut off with all that it said."""
    head, _ = await confirmed_head(here)
    stolen, _ = await confirmed_head(here)
    await pass_days(here.room.territory, 7, head)
    await let_into_another_class(head, here.room.teacher_person, "CE1")
    await here.sync(head, stolen)
    await Desk(stolen.agent).ask("revoke", device=here.teacher.agent.device.hex())
    await here.sync(stolen)
    territory = here.room.territory
    (held,) = territory.replica.door.authorities_of(stolen.agent.device)
    says = territory.kit_says if by_the_kit else territory.say
    await says(held.space, Kind.REVOKE, Revocation(stolen.agent.device, ()).encode())
    await here.sync(head)
    return head


async def test_whom_a_stolen_heads_laptop_cut_off_is_named_once_where_the_server_took_that_back(here: Here) -> None:
    head = await _everybody_is_in_again(here, by_the_kit=False)
    device, person = here.teacher.agent.device, here.room.teacher_person
    for space in head.agent.replica.door.spaces():
        assert device not in (await head.agent.replica.view(space)).roster.cut
    inside, told = await let_into_another_class(head, person, "CE2")
    assert device not in inside
    assert device.hex() in told, "it may have been lost, and the server in wrong hands"
    assert f"lost {device.hex()}" in await _told_of_devices(head)
    await Desk(head.agent).ask("grant", device=device.hex(), space=["CE2"])
    assert not await _told_of_devices(head)
    inside, told = await let_into_another_class(head, person, "CM2")
    assert device in inside, "one word is enough, in whatever classes it had been cut off"
    assert not told


async def test_whom_a_stolen_heads_laptop_cut_off_comes_along_where_the_kit_took_that_back(here: Here) -> None:
    head = await _everybody_is_in_again(here, by_the_kit=True)
    assert not await _told_of_devices(head)
    inside, told = await let_into_another_class(head, here.room.teacher_person, "CE2")
    assert here.teacher.agent.device in inside
    assert not told


async def _told_of_devices(head: Device) -> str:
    desk = Desk(head.agent)
    await desk.ask("devices")
    return "".join(desk.told)


async def test_who_leaves_a_class_at_the_server_and_teaches_on_comes_along_at_the_heads_computer(here: Here) -> None:
    head, _ = await confirmed_head(here)
    await pass_days(here.room.territory, 7, head)
    desk, territory, person = Desk(head.agent), here.room.territory, here.room.teacher_person
    made = (await desk.ask("space add", name="CE1", year="2026-2027"))["space"]
    await desk.ask("grant", person=person.hex(), space=[made])
    await here.sync(head)
    left = PersonRecord("Mme Petit", PersonRole.TEACHER, left=True).encode()
    await territory.say(here.room.space, Kind.PERSON, left, subject=person)
    await territory.say(here.room.space, Kind.REVOKE, Revocation(here.teacher.agent.device, ()).encode())
    await here.sync(head)
    inside, told = await let_into_another_class(head, person)
    assert here.teacher.agent.device in inside
    assert not told


async def _head_who_was_told_of_her(here: Here) -> Device:
    """She has come along with the laptop that she has: it was told once."""
    head, _ = await confirmed_head(here)
    await pass_days(here.room.territory, 7, head)
    _, told = await let_into_another_class(head, here.room.teacher_person, "CE1")
    assert device_words(own_device(here.teacher.agent)) in told
    return head


async def test_a_second_laptop_that_the_first_has_confirmed_comes_along_and_is_told_once(here: Here) -> None:
    head = await _head_who_was_told_of_her(here)
    second = await here.room.device(Role.TEACHER, here.room.space, person=here.room.teacher_person)
    await here.sync(second, here.teacher)
    await confirm(here.teacher.agent, device_id(own_device(second.agent)), shown_as="own")
    await here.sync(here.teacher, head)
    inside, told = await let_into_another_class(head, here.room.teacher_person)
    assert {here.teacher.agent.device, second.agent.device} <= inside
    assert device_words(own_device(second.agent)) in told
    assert here.teacher.agent.device.hex() not in told
    _, told = await let_into_another_class(head, here.room.teacher_person, "CM2")
    assert not told


async def test_a_laptop_that_was_confirmed_on_the_heads_own_computer_comes_along(here: Here) -> None:
    head = await _head_who_was_told_of_her(here)
    second = await here.room.device(Role.TEACHER, here.room.space, person=here.room.teacher_person)
    await here.sync(second, head)
    await confirm(head.agent, device_id(own_device(second.agent)), shown_as="other")
    inside, told = await let_into_another_class(head, here.room.teacher_person)
    assert second.agent.device in inside
    assert not told


async def _head_of_today(here: Here) -> Device:
    """A head teacher's computer that came after all others, and has run for a week."""
    person = await here.room.territory.person("Mme Heller", PersonRole.TEACHER, here.room.space)
    head = await here.room.head(person=person)
    await here.sync(head, head)
    await pass_days(here.room.territory, 7, head)
    return head


async def test_on_a_heads_computer_of_today_who_has_one_laptop_comes_along_with_it_and_is_told_once(here: Here) -> None:
    head, person = await _head_of_today(here), here.room.teacher_person
    inside, told = await let_into_another_class(head, person)
    assert here.teacher.agent.device in inside
    assert device_words(own_device(here.teacher.agent)) in told
    inside, told = await let_into_another_class(head, person, "CM2")
    assert here.teacher.agent.device in inside
    assert not told


@pytest.mark.parametrize("confirmed", ["each other", "the new one", "neither"])
async def test_on_a_heads_computer_of_today_of_several_laptops_those_come_along_to_which_all_others_lead(
    here: Here, confirmed: str
) -> None:
    first, second = here.teacher, await here.room.teacher()
    await here.sync(second, first)
    if confirmed == "each other":
        await confirm_each_other(here, first, second)
    elif confirmed == "the new one":  # as most do: she types the words of the new one on the old
        await confirm(first.agent, device_id(own_device(second.agent)), shown_as="own")
    await here.sync(first, second, first)
    head, person = await _head_of_today(here), here.room.teacher_person
    inside, told = await let_into_another_class(head, person)
    assert (first.agent.device in inside) is (confirmed == "each other")
    assert (second.agent.device in inside) is (confirmed != "neither")
    for laptop in (first, second):
        assert device_words(own_device(laptop.agent)) in told
        if laptop.agent.device not in inside:
            await Desk(head.agent).ask("grant", device=laptop.agent.device.hex(), space=["CE2"])
    inside, told = await let_into_another_class(head, person, "CM2")
    assert {first.agent.device, second.agent.device} <= inside, "whom somebody has let in by name is known from then on"
    assert not told


async def test_a_heads_computer_takes_nobody_along_whom_it_met_in_a_class_of_the_servers_own_with_her_new_laptop(
    here: Here,
) -> None:
    head, _ = await confirmed_head(here)
    await pass_days(here.room.territory, 30, head)
    territory, person, own_class = here.room.territory, here.room.teacher_person, here.room.space
    second = await another_laptop(here, here.teacher)
    await here.sync(second, here.teacher, second, here.machine)
    here.room.space = await territory.classroom("CX")
    listed = PersonRecord("Mme Petit", PersonRole.TEACHER).encode()
    await territory.say(here.room.space, Kind.PERSON, listed, subject=person)
    await here.name_the_spy(person, back_ms=0)
    here.room.space = own_class
    await here.sync(head, head)
    await report_by_head(here, head)
    await here.sync(head, second, head)
    await pass_days(territory, 30, head)
    inside, told = await let_into_another_class(head, person)
    assert here.spy.signing.public not in inside
    assert device_words(own_device(second.agent)) in told
