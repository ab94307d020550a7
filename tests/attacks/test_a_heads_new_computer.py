"""A head teacher's computer comes after a copy of the server's key has named a device as Mme Petit's (ADR 0396).

It has seen nobody before anybody: dates are the thief's to choose, and he has her laptop hidden while it looks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.model.entry import Kind
from protocol.model.structure import Grant, Revocation
from protocol.replica.office.bureau import Office
from protocol.replica.office.known_here import How
from protocol.rights.vouching import Device as Pair
from protocol.rights.vouching import device_words
from protocol.roles import PersonRole, Role
from sync_agent.keys.confirming import own_device
from sync_agent.machine.marks import BESIDE_MARKS, beside_in
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.head_at_work import let_into_another_class
from tests.harness.passing_days import pass_days
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.spied_class import own_keys, spied_class

ROW = "a head teacher's computer lets a server's device in as a teacher's"
BEFORE_HERS_MS = 1_000 * DAY_MS
BY_DATE: dict[str, object] = {"sync_agent.keys.first_met._called_theirs": lambda *_: {}}


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with spied_class(tmp_path, kept_for=__name__) as made:
        yield made


async def _new_computer(here: Here) -> Device:
    """A new head teacher's, which looks once."""
    person = await here.room.territory.person("Mme Heller", PersonRole.TEACHER, here.room.space)
    head = await here.room.head(person=person)
    await here.sync(head, head)
    return head


async def _a_week_later(here: Here, head: Device) -> None:
    """Its program was started anew meanwhile."""
    await here.sync(here.teacher, here.machine, head)
    await pass_days(here.room.territory, 8, head)
    await here.sync(here.teacher, here.machine, head)
    head.agent.acquainted.beside = beside_in(await head.agent.replica.store.marks(BESIDE_MARKS))


@attack(ROW, off=BY_DATE)
async def test_on_a_heads_new_computer_no_date_makes_a_copied_keys_device_come_along_as_a_teachers(here: Here) -> None:
    await here.name_the_spy(here.room.teacher_person, back_ms=BEFORE_HERS_MS)
    await here.sync()
    head = await _new_computer(here)
    await _a_week_later(here, head)
    inside, told = await let_into_another_class(head, here.room.teacher_person)
    assert here.spy.signing.public not in inside
    for device in (own_keys(here.spy), own_device(here.teacher.agent)):
        assert device_words(device) in told, "which of them is hers people see by these"


@attack(ROW, off=BY_DATE)
async def test_nor_does_that_hers_is_hidden_while_the_computer_looks_first(here: Here) -> None:
    territory, space, keys = here.room.territory, here.room.space, here.teacher.agent.keys
    await here.name_the_spy(here.room.teacher_person, back_ms=0)
    pair = keys.signing.public, keys.agreement.public
    cut = await territory.say(space, Kind.REVOKE, Revocation(pair[0], ()).encode())
    head = await _new_computer(here)
    again = Grant(*pair, keys.tls.fingerprint, Role.TEACHER, here.room.teacher_person, None, None).encode()
    await territory.say(space, Kind.GRANT, again, parents=(cut.id,))
    await _a_week_later(here, head)
    inside, _ = await let_into_another_class(head, here.room.teacher_person)
    assert here.spy.signing.public not in inside


async def _all_are_told_of(office: Office, person: bytes, how: How) -> set[Pair]:
    """A week without a word is as good as one that somebody was told."""
    given = office.replica.door.authorities()
    return {each.pair for each in given if each.person == person} if how is How.TOLD else set()


@attack(ROW, off={"protocol.replica.office.acquaintance.noted_of": _all_are_told_of})
async def test_of_a_teacher_who_has_no_computer_whatever_a_copied_key_calls_theirs_is_told_once(here: Here) -> None:
    none = await here.room.territory.person("M. Sicard", PersonRole.TEACHER, here.room.space)
    await here.name_the_spy(none)
    head = await _new_computer(here)
    await _a_week_later(here, head)
    _, told = await let_into_another_class(head, none)
    assert device_words(own_keys(here.spy)) in told
