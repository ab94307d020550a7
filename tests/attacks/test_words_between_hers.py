"""A stolen key writes between two words of somebody's, and has what is between held back (docs/adr/0378)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from random import Random

import pytest

from protocol.clock import DAY_MS
from protocol.folds.coursework import Work
from protocol.folds.remarks import FeedbackNote
from protocol.folds.sign_in import Method
from protocol.limits import MAX_PARENTS
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import PersonKey, PersonRecord, Revocation
from protocol.model.work import EMPTY_PAYLOAD, Feedback
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.office.withdrawals import retire_person
from protocol.roles import PersonRole, Role
from sync_agent.school.office import SchoolOffice
from sync_agent.school.sign_in import SignInBook, Try
from tests.harness.attack import attack
from tests.harness.classroom import Device, classroom, work_of
from tests.harness.commands import Desk
from tests.harness.copied_keys import thief_says
from tests.harness.office_devices import town
from tests.harness.sign_in import signed_class
from tests.harness.spied_class import SpiedClass, spied_class
from tests.harness.territory import new_device

ROW = "what somebody put right is undone by holding back what a thief said between"
SEEN, NEW = "4-8-2", "6-1-11"
A_MINUTE_MS = 61_000


def _what_counts_alone(known: Mapping[bytes, Entry], _passed_over: Iterable[Entry]) -> dict[bytes, Entry]:
    """As if what no longer counts had never been said."""
    return dict(known)


def _as_they_stand(work: Work, _own: object) -> tuple[bytes, ...]:
    return work.remark_ids


FORGOTTEN = {"protocol.model.ancestry._with_passed": _what_counts_alone}


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[SpiedClass]:
    async with spied_class(tmp_path, kept_for=__name__) as made:
        yield made


async def _many_devices(here: SpiedClass) -> AsyncIterator[bytes]:
    """As many as one entry names parents, each let in as somebody whom a stolen key has listed; they speak in turn."""
    for number in range(MAX_PARENTS):
        person = await here.room.territory.person(f"M. X{number}", PersonRole.TEACHER, here.room.space)
        here.spy = new_device(Random(700 + number).randbytes)
        await here.name_the_spy(person)
        yield here.spy.signing.public


async def _cut_off(here: SpiedClass, devices: Iterable[bytes]) -> None:
    for device in devices:
        await here.room.territory.say(here.room.space, Kind.REVOKE, Revocation(device, ()).encode())
    for _ in range(3):
        await here.sync()


async def _says(here: SpiedClass, text: str) -> FeedbackNote:
    here.room.territory.clock.advance(A_MINUTE_MS)
    await Desk(here.teacher.agent).ask("feedback", id=here.work.hex(), text=text, mark=None, redo=False)
    for _ in range(2):
        await here.sync()
    return await _said(here, here.teacher)


async def _said(here: SpiedClass, device: Device) -> FeedbackNote:
    """What she says of the work, as a device has it."""
    remarks = (await work_of(device, here.room, here.work)).remarks
    return next(note for note in remarks if note.voice == here.room.teacher_person)


@attack(ROW, off=FORGOTTEN)
async def test_what_she_put_right_stays_right_though_her_program_named_the_words_of_a_thief_alone(
    here: SpiedClass,
) -> None:
    await _says(here, "À revoir.")
    wrong, pupil, agent = await _says(here, "Copié sur le voisin ?"), here.room.pupil_person, here.teacher.agent
    await here.name_the_spy(await here.room.territory.person("M. X", PersonRole.TEACHER, here.room.space))
    between = [
        await here.say(
            Kind.FEEDBACK, Feedback(f"{n}", None, False, None).encode(), pupil, target=here.work, parents=(wrong.id,)
        )
        for n in range(MAX_PARENTS)
    ]
    for _ in range(3):
        await here.sync()
    here.room.territory.clock.advance(A_MINUTE_MS)
    right = await agent.right(here.room.space, Kind.FEEDBACK)
    names = tuple(sorted((one.id for one in between), reverse=True))
    said = Feedback("Non : c'est bien de toi.", None, False, None).encode()
    # as a program from before names all heads, and has no place left for what she had said herself
    await agent.write(
        Draft(here.room.space, Kind.FEEDBACK, right.grant, said, subject=pupil, target=here.work, parents=names)
    )
    await _cut_off(here, [here.spy.signing.public])
    for device in (here.machine, here.teacher):
        assert (await _said(here, device)).record.text == "Non : c'est bien de toi."


@attack(ROW, off={"sync_agent.hand_ins.handing_in._to_replace": _as_they_stand})
async def test_what_she_put_right_stays_right_where_what_was_said_between_is_kept_from_others(here: SpiedClass) -> None:
    await _says(here, "À revoir.")
    wrong, pupil, clock = await _says(here, "Copié sur le voisin ?"), here.room.pupil_person, here.room.territory.clock
    said = Feedback("…", None, False, None).encode()
    between = [
        compose(
            author=here.spy.signing, space=here.room.space, kind=Kind.FEEDBACK, grant=here.grant, at=clock() << 16,
            payload=said, salt=bytes(16), subject=pupil, target=here.work, parents=(wrong.id,),
        )
        async for _ in _many_devices(here)
    ]  # fmt: skip
    await here.sync()
    admission = await here.teacher.agent.replica.admit(between, source=b"the copy", now_ms=clock())
    assert len(admission.admitted) == MAX_PARENTS
    clock.advance(A_MINUTE_MS)
    await Desk(here.teacher.agent).ask(
        "feedback", id=here.work.hex(), text="Non : c'est bien de toi.", mark=None, redo=False
    )
    hers = (await _said(here, here.teacher)).id
    brought = await here.teacher.agent.replica.store.get([hers])
    await here.machine.agent.replica.admit(list(brought.values()), source=b"the copy", now_ms=clock())
    assert (await _said(here, here.machine)).record.text == "Non : c'est bien de toi."


@attack(ROW, off=FORGOTTEN)
async def test_a_lesson_that_she_withdrew_stays_withdrawn_though_a_thief_showed_it_again_on_many_devices(
    here: SpiedClass,
) -> None:
    desk, clock = Desk(here.teacher.agent), here.room.territory.clock

    async def does(command: str) -> None:
        clock.advance(A_MINUTE_MS)
        await desk.ask(command, item=here.item.hex())
        for _ in range(2):
            await here.sync()

    async def is_withdrawn() -> bool:
        return (await here.machine.agent.replica.view(here.room.space)).coursework.items[here.item].withdrawn

    await does("withdraw")
    await does("restore")
    item = (await here.machine.agent.replica.view(here.room.space)).coursework.items[here.item]
    devices = []
    async for device in _many_devices(here):
        devices.append(device)
        await here.say(Kind.RESTORE, EMPTY_PAYLOAD, None, target=here.item, parents=item.switches[:1])
    for _ in range(2):
        await here.sync()
    await does("withdraw")
    assert await is_withdrawn()
    await _cut_off(here, devices)
    assert await is_withdrawn()


@attack(ROW, off=FORGOTTEN)
async def test_pictures_that_were_seen_prove_no_pupil_again_once_a_thiefs_words_are_held_back(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        school = await signed_class(room)
        territory, space, lea = room.territory, room.space, school.lea
        territory.clock.advance(A_MINUTE_MS)
        await school.book.set(space, {lea: (Method.PICTURES, SEEN)})
        await school.agree()
        seen = (await school.book.of(space)).persons[lea]
        devices = [new_device(Random(700 + number).randbytes) for number in range(MAX_PARENTS)]
        for number, device in enumerate(devices):
            person = await territory.person(f"M. X{number}", PersonRole.TEACHER, space)
            (grant,) = await territory.let_in(device, Role.TEACHER, space, person=person)
            key = PersonKey(device.agreement.public).encode()
            said = [(Kind.PERSON_KEY, key, person, ()), (Kind.SIGN_IN, seen.record.encode(), lea, (seen.entry,))]
            entries = [
                compose(
                    author=device.signing, space=space, kind=kind, grant=grant.id, at=territory.clock() << 16,
                    payload=payload, salt=bytes(16), subject=subject, parents=parents,
                )
                for kind, payload, subject, parents in said
            ]  # fmt: skip
            assert (await territory.replica.admit(entries, source=b"the copy", now_ms=territory.clock())).admitted
        await school.agree()
        territory.clock.advance(A_MINUTE_MS)
        await school.book.set(space, {lea: (Method.PICTURES, NEW)})
        await school.agree()
        for device in devices:
            await territory.say(space, Kind.REVOKE, Revocation(device.signing.public, ()).encode())
        for _ in range(2):
            await school.agree()

        async def how(secret: str) -> Try:
            territory.clock.advance(3_600_000)
            return (await SignInBook(school.pc.agent).attempt(space, lea, secret)).how

        assert await how(NEW) is Try.PROVEN
        assert await how(SEEN) is Try.WRONG


@attack(ROW, off=FORGOTTEN)
async def test_who_was_retired_stays_off_the_list_once_a_stolen_servers_key_is_replaced(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        teacher, machine, *_ = await here.class_in_step()
        office, server = here.office, here.office.server
        adult = await office.add_person("M. Durant", "teacher")
        person = bytes.fromhex(adult)
        await office.do("person rename", person=adult, name="M. Durand")
        head = await here.head_of_the_school()
        for _ in range(2):
            await here.sync()
        await note_arrivals(server.store, office.clock())
        office.clock.advance(2 * DAY_MS)
        renamed = (await server.replica.view(here.space)).roster.persons[person].entry
        same = PersonRecord("M. Durand", PersonRole.TEACHER).encode()
        for _ in range(MAX_PARENTS):
            await thief_says(
                office, Draft(here.space, Kind.PERSON, server.grant, same, subject=person, parents=(renamed,))
            )
        office.clock.advance(A_MINUTE_MS)
        for _ in range(2):
            await here.sync()
        await retire_person(await SchoolOffice.of(head.agent), person)
        for _ in range(3):
            await here.sync()
        assert person not in (await machine.agent.replica.view(here.space)).roster.persons
        await office.with_kit_in("rotate server", tmp_path / "server" / "kit", since="1d")
        for _ in range(4):
            office.clock.advance(A_MINUTE_MS)
            await here.sync(teacher, machine)
        assert person not in (await machine.agent.replica.view(here.space)).roster.persons
