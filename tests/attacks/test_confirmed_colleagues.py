"""Whom a teacher confirmed as a colleague, and whoever has the server calls something else (docs/attacks.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from random import Random

import pytest

from protocol.errors import BadInput
from protocol.model.entry import Kind
from protocol.model.structure import PersonKey, PersonRecord
from protocol.replica.at_work.replica import Draft
from protocol.rights.vouching import Circle, Voices, Vouch, Word, _led_to, device_id
from protocol.rights.vouching import Device as VouchedDevice
from protocol.rights.vouching import _Other as VouchedPlace
from protocol.roles import PersonRole, Role
from sync_agent.keys.confirming import confirm, own_device
from tests.harness.attack import attack
from tests.harness.commands import Desk
from tests.harness.joined_lists import JOINED
from tests.harness.portal import portal
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.spied_class import own_keys, spied_class
from tests.harness.territory import new_device

ROW = "a server's operator names a device of their own as a teacher's"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with spied_class(tmp_path, kept_for=__name__) as made:
        yield made


async def confirmed_colleague(here: Here) -> bytes:
    """Somebody whom the teacher rightly confirmed as a colleague; the spy is his device."""
    colleague = await here.room.territory.person("M. X", PersonRole.TEACHER, here.room.space)
    await here.name_the_spy(colleague)
    await here.sync()
    await confirm(here.teacher.agent, device_id(own_keys(here.spy)))
    await here.sync()
    return colleague


def _by_keys_alone(voices: Voices, person: bytes, start: VouchedDevice) -> Circle:
    """A word about a device is about its keys, whoever they are granted to afterwards."""
    found, pending = {start}, [start]
    while pending:
        for word in voices.words.get(pending.pop(), ()):
            if word.device not in found:
                found.add(word.device)
                pending.append(word.device)
    own = frozenset(device for device in found if (device, person) in voices.standings or device == start)
    return Circle(own, frozenset(found) - own)


@attack(ROW, off={"protocol.rights.vouching.Voices.circle": _by_keys_alone})
async def test_a_colleague_whom_a_teacher_confirmed_becomes_not_herself_by_another_grant(here: Here) -> None:
    await confirmed_colleague(here)
    await here.room.territory.let_in(here.spy, Role.TEACHER, here.room.space, person=here.room.teacher_person)
    for _ in range(3):
        await here.sync()
    assert not await here.sealed_to_the_spy()


async def all_one(here: Here, person: bytes) -> None:
    """The server lists somebody as the same as the teacher."""
    territory = here.room.territory
    listed = await territory.replica.store.scan_kinds([Kind.PERSON])
    (before,) = [entry.id for entry in listed if entry.header.subject == person]
    record = PersonRecord("M. X", PersonRole.TEACHER, same_as=here.room.teacher_person).encode()
    draft = Draft(here.room.space, Kind.PERSON, territory.certificate.id, record, subject=person, parents=(before,))
    await territory.replica.write(
        [draft], author=territory.keys.signing, now_ms=territory.clock(), entropy=territory.entropy, unsent=False
    )


@attack(ROW, off=JOINED)
async def test_a_colleague_whom_a_teacher_confirmed_becomes_not_herself_by_a_list(here: Here) -> None:
    colleague = await confirmed_colleague(here)
    await all_one(here, colleague)
    for _ in range(3):
        await here.sync()
    assert not await here.sealed_to_the_spy()
    async with portal(here.teacher.agent) as surfer:
        assert "Est-ce bien votre nouvel ordinateur" not in await surfer.page("/")


@attack(ROW, off=JOINED)
async def test_a_colleague_whom_a_confirmed_head_let_in_becomes_not_the_teacher_by_a_list(here: Here) -> None:
    room, territory = here.room, here.room.territory
    director = await territory.person("Mme H", PersonRole.TEACHER, room.space)
    head = await room.device(Role.HEAD, room.space, person=director)
    await here.sync(head, here.teacher)
    await confirm(here.teacher.agent, device_id(own_device(head.agent)), shown_as="head")
    colleague = await territory.person("M. X", PersonRole.TEACHER, room.space)
    await here.name_the_spy(colleague)
    await here.sync(here.teacher, head)
    await confirm(head.agent, device_id(own_keys(here.spy)))
    await here.sync(head, here.teacher)
    await all_one(here, colleague)
    for _ in range(3):
        await here.sync(here.teacher, here.machine)
    assert not await here.sealed_to_the_spy()


@attack(ROW, off=JOINED)
async def test_a_colleague_whom_a_teacher_confirmed_becomes_not_herself_by_a_grant_of_her_laptop(here: Here) -> None:
    room, territory = here.room, here.room.territory
    colleague = await confirmed_colleague(here)
    for space in (room.space, *territory.classes[1:]):
        await territory.let_in(here.teacher.agent.keys, Role.TEACHER, space, person=colleague)
    await all_one(here, colleague)
    for _ in range(3):
        await here.sync()
    assert not await here.sealed_to_the_spy()


def _whoever_is_a_head_now(
    word: Word, person: bytes, place: VouchedPlace | None
) -> Iterable[tuple[VouchedDevice, VouchedPlace | None]]:
    """Whoever is granted as a head teacher's speaks as one, as what it ever was confirmed."""
    here = None if place is None else place._replace(is_head=True)
    return _led_to(word, person, here)


@attack(ROW, off={"protocol.rights.vouching._led_to": _whoever_is_a_head_now})
async def test_a_colleague_whom_a_teacher_confirmed_speaks_as_no_head_by_another_grant(here: Here) -> None:
    room, territory = here.room, here.room.territory
    colleague = await confirmed_colleague(here)
    (promoted,) = await territory.let_in(here.spy, Role.HEAD, room.space, person=colleague)
    helper, accomplice = here.spy, new_device(Random(667).randbytes)
    (own,) = await territory.let_in(accomplice, Role.TEACHER, room.space, person=room.teacher_person)
    here.grant = promoted.id
    await here.say(Kind.VOUCH, Vouch().encode(), room.teacher_person, target=own.id)
    here.spy, here.grant = accomplice, own.id
    await here.say(Kind.PERSON_KEY, PersonKey(accomplice.agreement.public).encode(), room.teacher_person)
    for _ in range(3):
        await here.sync()
    assert not await here.sealed_to_the_spy()
    here.spy = helper
    async with portal(here.teacher.agent) as surfer:
        assert "Est-ce bien votre nouvel ordinateur" in await surfer.page("/")
        shown = {"reader": device_id(own_keys(helper)).hex(), "shown_as": "other"}
        assert "Ordinateur de la direction" in await surfer.page("/readers")
        answer = await surfer.send("/readers", "/readers/confirm", shown)
        assert answer.status == 400, "what was shown as a colleague's is not confirmed as a head's"


WITHOUT_A_WORD_MORE = {"sync_agent.keys.confirming._meant": lambda places, *_: places}
WHATEVER_IT_IS_BY_NOW = {**WITHOUT_A_WORD_MORE, "sync_agent.keys.confirming._row_id": lambda theirs: theirs[0].id}


@attack(ROW, off=WHATEVER_IT_IS_BY_NOW)
async def test_who_confirms_at_the_command_line_confirms_no_head_that_was_shown_as_a_colleague(here: Here) -> None:
    colleague = await here.room.territory.person("M. X", PersonRole.TEACHER, here.room.space)
    await here.name_the_spy(colleague)
    await here.sync()
    (seen,) = [row for row in await Desk(here.teacher.agent).ask("key-readers") if row["teacher"] == "M. X"]
    assert seen["shown_as"] == "other"
    await here.room.territory.let_in(here.spy, Role.HEAD, here.room.space, person=colleague)
    await here.sync()
    for way in ({}, {"shown_as": "other"}):
        with pytest.raises(BadInput):
            await Desk(here.teacher.agent).ask("key-confirm", reader=seen["id"], **way)
    roster = (await here.teacher.agent.replica.view(here.room.space)).roster
    assert own_device(here.teacher.agent) not in roster.voices.words


@attack(ROW, off=WITHOUT_A_WORD_MORE)
async def test_who_confirms_at_the_command_line_makes_nobody_her_own_without_saying_so(here: Here) -> None:
    colleague = await here.room.territory.person("M. X", PersonRole.TEACHER, here.room.space)
    await here.name_the_spy(colleague)
    await here.sync()
    (seen,) = [row for row in await Desk(here.teacher.agent).ask("key-readers") if row["teacher"] == "M. X"]
    assert seen["shown_as"] == "other"
    await here.name_the_spy(here.room.teacher_person)
    await here.sync()
    (own,) = [row for row in await Desk(here.teacher.agent).ask("key-readers") if row["state"] == "yours?"]
    with pytest.raises(BadInput):
        await Desk(here.teacher.agent).ask("key-confirm", reader=own["id"])
    await Desk(here.teacher.agent).ask("key-confirm", reader=seen["id"])
    await here.sync()
    assert await here.sealed_to_the_spy() == 0
