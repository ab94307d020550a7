"""“Est-ce bien votre nouvel ordinateur ?”: the question, its answer, and what follows from it."""

from __future__ import annotations

import html
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import BadInput, Code, Refused
from protocol.limits import MAX_PHRASES_PER_DEVICE
from protocol.model.entry import Kind
from protocol.model.structure import PersonRecord
from protocol.replica.at_work.replica import Draft
from protocol.rights.vouching import Vouch, device_id, device_words, prove
from protocol.roles import PersonRole, Role
from protocol.trust.kit import Argon2Cost
from sync_agent.keys.acquaintances import known_in
from sync_agent.keys.confirming import list_readers, own_device, rows
from sync_agent.keys.key_wraps import reading_keys
from sync_agent.keys.phrases import new_phrase, open_with_phrase
from sync_agent.machine.marks import FIRST_MARKS, MET_MARKS, met_in, remembered_in
from tests.harness.classroom import WORK, Classroom, Device, assignment, classroom
from tests.harness.commands import Desk
from tests.harness.portal import portal


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Classroom]:
    async with classroom(tmp_path, spaces=2) as made:
        yield made


async def sync(*devices: Device) -> None:
    for device in devices:
        await device.session.sync()


async def state_of(device: Device, other: Device) -> set[object]:
    rows = await Desk(device.agent).ask("key-readers")
    return {row["state"] for row in rows if row["device"] == other.agent.device.hex()}


async def test_a_teacher_with_one_laptop_is_asked_nothing(room: Classroom) -> None:
    laptop = await room.teacher()
    await sync(laptop)
    assert await state_of(laptop, laptop) == {"this"}
    async with portal(laptop.agent) as surfer:
        assert "/readers" in await surfer.page("/")
        assert 'class="notice' not in (await surfer.page("/")).partition('id="live-home"')[2].partition("</section>")[0]


async def test_a_second_laptop_is_asked_about_once_and_the_same_words_stand_on_both(room: Classroom) -> None:
    old = await room.device(Role.TEACHER, *room.territory.classes, person=room.teacher_person)
    await sync(old)
    new = await room.device(Role.TEACHER, *room.territory.classes, person=room.teacher_person)
    await sync(new, old)
    seen = [
        {row["words"] for row in await Desk(device.agent).ask("key-readers") if row["device"] == new.agent.device.hex()}
        for device in (old, new)
    ]
    assert seen[0] == seen[1]
    assert len(seen[0]) == 1
    async with portal(old.agent) as surfer:
        assert "Est-ce bien votre nouvel ordinateur" in await surfer.page("/")
        (asked,) = {row["id"] for row in await Desk(old.agent).ask("key-readers") if row["state"] == "yours?"}
        page = await surfer.send("/readers", "/readers/confirm", {"reader": asked, "shown_as": "own"})
        assert page.status == 303
        assert "Est-ce bien votre nouvel ordinateur" not in await surfer.page("/")
        assert "Confirmé" in await surfer.page("/readers")
    assert await state_of(old, new) == {"confirmed"}, "in both classes at once"
    assert await state_of(new, old) == {"yours?"}


async def listed_again(room: Classroom, name: str) -> bytes:
    """A further teacher of the list."""
    return await room.territory.person(name, PersonRole.TEACHER, room.space)


async def say_same(room: Classroom, person: bytes, other: bytes) -> None:
    territory = room.territory
    listed = await territory.replica.store.scan_kinds([Kind.PERSON])
    parents = tuple(entry.id for entry in listed if entry.header.subject == person)
    record = PersonRecord("Mme Petit", PersonRole.TEACHER, same_as=other).encode()
    await territory.replica.write(
        [Draft(room.space, Kind.PERSON, territory.certificate.id, record, subject=person, parents=parents)],
        author=territory.keys.signing,
        now_ms=territory.clock(),
        entropy=territory.entropy,
        unsent=False,
    )


async def _opened(room: Classroom, teacher: Device, machine: Device) -> str:
    """A pupil's work in the class, which a teacher has opened on one laptop."""
    item = await assignment(room, teacher, machine)
    work = (await room.hand_in(machine, item, WORK)).hex()
    await sync(machine, teacher)
    await Desk(teacher.agent).ask("confirm-opened", id=work)
    await sync(teacher, machine)
    return work


async def _confirms(one: Device, other: Device, *, shown_as: str) -> None:
    await Desk(one.agent).ask("key-confirm", reader=device_id(own_device(other.agent)).hex(), shown_as=shown_as)


@pytest.mark.parametrize("is_known_first", [True, False])
async def test_who_was_added_twice_is_two_teachers_who_both_read_until_her_laptops_are_let_in_under_one_id(
    room: Classroom, *, is_known_first: bool
) -> None:
    """And then both open all that either has opened; what each had said stands as it stood (docs/adr/0461)."""
    territory, classes = room.territory, room.territory.classes
    old, machine = await room.teacher(), await room.device(Role.MACHINE, *classes)
    earlier = await _opened(room, old, machine)
    twice = await territory.person("Mme Petit", PersonRole.TEACHER, *classes)
    if is_known_first:
        await say_same(room, twice, room.teacher_person)
    second = await room.device(Role.TEACHER, *classes, person=twice)
    await sync(second, old, machine)
    if not is_known_first:
        await say_same(room, twice, room.teacher_person)
        await sync(second, old, machine)
    together = await room.hand_in(machine, await assignment(room, old, machine), WORK)
    room.space, room.pupil_person = classes[1], await territory.person("Tom", PersonRole.PUPIL, classes[1])
    hers = await _opened(room, second, machine)
    await sync(machine, second, old)
    assert await state_of(old, second) == {"reads new work"}, "her other id is a colleague, whatever the list says"
    for laptop in (old, second):
        assert await Desk(laptop.agent).files("open-hand-in", id=together.hex()) == WORK
    with pytest.raises(Refused):
        await Desk(second.agent).files("open-hand-in", id=earlier)

    anew = await room.device(Role.TEACHER, *classes, person=room.teacher_person)  # the second, in another folder
    await sync(anew, old, second)
    await _confirms(old, anew, shown_as="own")
    await _confirms(anew, old, shown_as="own")
    await _confirms(second, anew, shown_as="other")
    await sync(old, second, anew, old, second, anew)
    assert await state_of(old, anew) == await state_of(anew, old) == {"confirmed"}
    assert reading_keys(old.agent).keys() <= reading_keys(anew.agent).keys()
    for work in (earlier, hers, together.hex()):
        assert await Desk(anew.agent).files("open-hand-in", id=work) == WORK


async def test_what_lists_say_meanwhile_makes_a_colleague_who_was_shown_nobody_else(room: Classroom) -> None:
    laptop = await room.teacher()
    await sync(laptop)
    person = await listed_again(room, "M. Durand")
    colleague = await room.device(Role.TEACHER, person=person)
    await sync(colleague, laptop)
    async with portal(laptop.agent) as surfer:
        assert 'value="other"' in await surfer.page("/readers")
        (seen,) = [row for row, (one, *_) in rows(await list_readers(laptop.agent)).items() if not one.mine]
        await say_same(room, person, room.teacher_person)
        await sync(laptop)
        shown = {"reader": seen.hex(), "shown_as": "other"}
        assert (await surfer.send("/readers", "/readers/confirm", shown)).status == 303
    await sync(laptop, colleague)
    assert await state_of(laptop, colleague) == {"confirmed"}
    assert not reading_keys(laptop.agent).keys() & reading_keys(colleague.agent).keys(), "and is given no keys of hers"


async def test_a_device_that_classes_show_differently_is_confirmed_where_it_is_shown_so_and_the_rest_is_named(
    room: Classroom,
) -> None:
    territory, classes = room.territory, room.territory.classes
    laptop = await room.device(Role.TEACHER, *classes, person=room.teacher_person)
    person = await territory.person("M. Durand", PersonRole.TEACHER, *classes)
    colleague = await room.device(Role.TEACHER, *classes[:1], person=person)
    await territory.let_in(colleague.agent.keys, Role.HEAD, classes[1], person=person)
    await sync(colleague, laptop)
    reader = device_id(own_device(colleague.agent)).hex()
    listed = await Desk(laptop.agent).ask("key-readers")
    seen = {row["shown_as"]: row["id"] for row in listed if row["device"] == colleague.agent.device.hex()}
    assert list(seen) == ["other", "head"]
    async with portal(laptop.agent) as surfer:
        shown = {"reader": seen["other"], "shown_as": "other"}
        assert (await surfer.send("/readers", "/readers/confirm", shown)).status == 303
        assert 'value="head"' in await surfer.page("/readers"), "it is still to be confirmed as that"
    assert await state_of(laptop, colleague) == {"confirmed", "reads new work"}
    done = await Desk(laptop.agent).ask("key-confirm", reader=reader, shown_as="other")
    assert done["spaces"] == 0
    assert [left["shown_as"] for left in done["remains"]] == ["head"]
    assert await Desk(laptop.agent).ask("key-confirm", reader=seen["head"], shown_as="head")
    assert await state_of(laptop, colleague) == {"confirmed"}


async def test_a_device_that_is_granted_as_another_persons_too_is_confirmed_as_whose_it_was_shown(
    room: Classroom,
) -> None:
    laptop = await room.teacher()
    durand, other = await listed_again(room, "M. Durand"), await listed_again(room, "M. Y")
    colleague = await room.device(Role.TEACHER, person=durand)
    await room.territory.let_in(colleague.agent.keys, Role.TEACHER, room.space, person=other)
    await sync(colleague, laptop)
    reader = device_id(own_device(colleague.agent)).hex()
    with pytest.raises(BadInput, match="several people's"):
        await Desk(laptop.agent).ask("key-confirm", reader=reader)
    await Desk(laptop.agent).ask("key-confirm", reader=reader, person=durand.hex())
    words = (await laptop.agent.replica.view(room.space)).roster.voices.words[own_device(laptop.agent)]
    assert [word.person for word in words] == [durand]


async def test_a_class_that_comes_later_asks_nothing_again(room: Classroom) -> None:
    old, new = await room.teacher(), await room.teacher()
    await sync(old, new, old)
    await Desk(old.agent).ask("key-confirm", reader=(await list_readers(old.agent))[-1].id.hex(), shown_as="own")
    other = room.territory.classes[1]
    for device in (old, new):
        await room.territory.let_in(device.agent.keys, Role.TEACHER, other, person=room.teacher_person)
    await sync(old, new, old)
    assert await state_of(old, new) == {"confirmed"}
    assert len([row for row in await list_readers(old.agent) if row.device == new.agent.device]) == 2


async def test_who_knows_the_phrase_is_asked_nothing_on_any_machine(room: Classroom) -> None:
    old, machine = await room.teacher(), await room.machine()
    phrase = await new_phrase(old.agent, Argon2Cost(8, 1, 1))
    await sync(old, machine)
    item = await assignment(room, old, machine)
    new = await room.teacher()
    await sync(new)
    await open_with_phrase(new.agent, phrase)
    await sync(new, machine)
    work = (await room.hand_in(machine, item, WORK)).hex()
    await sync(machine, new, old)
    own = new.agent.reading_keys.newest_of(room.space)
    assert own is not None
    assert own.public in (await machine.agent.replica.view(room.space)).coursework.hand_ins[bytes.fromhex(work)].readers
    assert await Desk(new.agent).files("open-hand-in", id=work) == WORK
    assert await state_of(old, new) == {"confirmed"}
    assert await state_of(new, old) == {"confirmed"}
    await Desk(new.agent).ask("feedback", id=work, text="Très bien")
    await sync(new, machine)
    (row,) = await Desk(machine.agent).ask("hand-ins")
    assert row["feedback"]["text"] == "Très bien"


async def test_a_laptop_that_came_by_a_paper_still_speaks_when_many_were_drawn_since(room: Classroom) -> None:
    old, machine = await room.teacher(), await room.machine()
    phrase = await new_phrase(old.agent, Argon2Cost(8, 1, 1))
    await sync(old)
    new = await room.teacher()
    await sync(new)
    await open_with_phrase(new.agent, phrase)
    await sync(new, old)
    for _ in range(MAX_PHRASES_PER_DEVICE):
        room.territory.clock.advance(1000)
        await new_phrase(old.agent, Argon2Cost(8, 1, 1))
    await sync(old, new, old, machine)
    roster = (await machine.agent.replica.view(room.space)).roster
    assert own_device(new.agent) in roster.speaking[room.teacher_person]
    words = await old.agent.replica.store.scan_kinds([Kind.VOUCH])
    assert len([each for each in words if each.header.author == old.agent.device]) == 1, "it says so once"


async def test_a_paper_typed_with_a_program_from_before_confirms_a_laptop_all_the_same(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    def names_no_key(*of: Any) -> Vouch:
        return Vouch(prove(*of).proof)

    monkeypatch.setattr("sync_agent.keys.phrases.prove", names_no_key)
    old, machine = await room.teacher(), await room.machine()
    phrase = await new_phrase(old.agent, Argon2Cost(8, 1, 1))
    await sync(old)
    new = await room.teacher()
    await sync(new)
    await open_with_phrase(new.agent, phrase)
    await sync(new, machine)
    roster = (await machine.agent.replica.view(room.space)).roster
    assert own_device(new.agent) in roster.speaking[room.teacher_person]


async def test_feedback_of_an_unconfirmed_laptop_waits_and_is_there_once_it_is_confirmed(room: Classroom) -> None:
    old, machine = await room.teacher(), await room.machine()
    item = await assignment(room, old, machine)
    work = (await room.hand_in(machine, item, WORK)).hex()
    new = await room.teacher()
    await sync(machine, new, old)
    await Desk(new.agent).ask("feedback", id=work, text="Très bien")
    await sync(new, machine, old)

    async def said(device: Device) -> object:
        (row,) = await Desk(device.agent).ask("hand-ins")
        return row["feedback"]

    assert await said(machine) is None
    assert await said(new) is not None
    (asked,) = [row for row in await list_readers(old.agent) if row.device == new.agent.device]
    await Desk(old.agent).ask("key-confirm", reader=asked.id.hex(), shown_as="own")
    await sync(old, machine)
    assert await said(machine) is not None


async def test_a_colleague_is_news_until_somebody_has_looked(room: Classroom) -> None:
    laptop = await room.teacher()
    await sync(laptop)
    person = await room.territory.person("M. Durand", PersonRole.TEACHER, room.space)
    colleague = await room.device(Role.TEACHER, person=person)
    await sync(colleague, laptop)
    assert await state_of(laptop, colleague) == {"reads new work"}
    async with portal(laptop.agent) as surfer:
        assert "M. Durand lit les travaux de cette classe" in await surfer.page("/")
        (row,) = [row for row in await list_readers(laptop.agent) if row.device == colleague.agent.device]
        assert "nommé par le serveur" in await surfer.page("/readers")
        await surfer.send("/readers", "/readers/seen", {"rows": ",".join(row.hex() for row in rows([row]))})
        assert "lit les travaux de cette classe" not in await surfer.page("/")
        wrong = await surfer.send("/readers", "/readers/seen", {"rows": "00" * 16})
        assert wrong.status >= 400
    async with portal(colleague.agent) as surfer:
        assert "lit les travaux de cette classe" not in await surfer.page("/"), "who was there before is no news"


async def test_what_was_seen_first_is_believed_after_a_restart(room: Classroom) -> None:
    laptop, machine = await room.teacher(), await room.machine()
    await sync(laptop, machine)
    kept = remembered_in(await machine.agent.replica.store.marks(FIRST_MARKS))
    assert kept == {room.space: {room.teacher_person: (own_device(laptop.agent),)}}
    assert kept == {space: persons for space, persons in machine.agent.acquainted.first.items() if persons}
    assert met_in(await machine.agent.replica.store.marks(MET_MARKS)) == {
        room.space: {device_id(own_device(laptop.agent)): room.territory.clock()}
    }


async def test_whom_a_version_remembered_that_noted_no_time_is_known_here_before_whoever_comes_now(
    room: Classroom,
) -> None:
    laptop, machine = await room.teacher(), await room.machine()
    await sync(laptop, machine)
    store = machine.agent.replica.store
    await store.set_marks(dict.fromkeys(await store.marks(MET_MARKS)))
    machine.agent.acquainted.met.clear()
    person = await room.territory.person("M. Durand", PersonRole.TEACHER, room.space)
    colleague = await room.device(Role.TEACHER, person=person)
    await sync(colleague, machine)
    assert known_in(machine.agent, room.space).first == {device_id(own_device(laptop.agent))}
    assert known_in(machine.agent, room.space).long == {device_id(own_device(laptop.agent))}


async def test_a_device_is_looked_at_by_its_name_or_id_and_confirmed_by_that_of_its_row_alone(
    room: Classroom,
) -> None:
    old, new = await room.teacher(), await room.teacher()
    await sync(old, new, old)
    desk, device = Desk(old.agent), new.agent.device.hex()
    (row,) = [row for row in await desk.ask("key-readers") if row["device"] == device]
    for named in (device, device[:8], new.agent.enrolment.device_name):
        assert await desk.ask("key-readers", reader=named) == [row]
    for named in (device, device[:8], new.agent.enrolment.device_name, row["id"][:12]):
        with pytest.raises(BadInput) as caught:
            await desk.ask("key-confirm", reader=named, shown_as="own")
        assert caught.value.code is Code.UNKNOWN_DEVICE
        assert named != device or f"{row['id']} ({row['words']})" in caught.value.message
    assert await desk.ask("key-confirm", reader=row["id"], shown_as="own")


async def test_key_readers_says_the_whole_line_that_confirms_and_said_twice_that_is_no_mistake(room: Classroom) -> None:
    old = await room.teacher()
    await sync(old)
    new = await room.teacher()
    await sync(new, old)
    desk = Desk(old.agent)
    (row,) = [row for row in await desk.ask("key-readers") if row["state"] == "yours?"]
    (told,) = [line for line in desk.told if f"“{row['words']}”" in line]
    assert f"`key confirm {row['id']} --as own`" in told
    assert await desk.ask("key-confirm", reader=row["id"], shown_as="own") == {"spaces": 1}
    assert desk.told == []
    assert await desk.ask("key-confirm", reader=row["id"], shown_as="own") == {"spaces": 0}
    assert desk.told == ["confirmed already: it was said before, and holds"]
    await desk.ask("key-readers")
    assert not [line for line in desk.told if "key confirm" in line]


async def test_of_a_colleagues_computer_the_line_that_confirms_is_said_to_who_asks_for_it(room: Classroom) -> None:
    laptop, person = await room.teacher(), await room.territory.person("M. Roy", PersonRole.TEACHER, room.space)
    other = await room.device(Role.TEACHER, person=person)
    await sync(other, laptop)
    desk = Desk(laptop.agent)
    rows_now = await desk.ask("key-readers")
    (row,) = [row for row in rows_now if row["device"] == other.agent.device.hex()]
    assert desk.told == ["`key readers --device ID` says the line that confirms one of the others"]
    await desk.ask("key-readers", reader=row["id"][:12])
    assert [f"`key confirm {row['id']} --as other`" in line and row["words"] in line for line in desk.told] == [True]


async def test_a_machine_confirms_nobody_and_nobody_confirms_a_machine(room: Classroom) -> None:
    laptop, machine = await room.teacher(), await room.machine()
    await sync(laptop, machine)
    with pytest.raises(Refused):
        await Desk(machine.agent).ask("key-confirm", reader="00" * 32)
    with pytest.raises(BadInput) as caught:
        await Desk(laptop.agent).ask("key-confirm", reader=machine.agent.device.hex())
    assert caught.value.code is Code.UNKNOWN_DEVICE
    assert await Desk(machine.agent).ask("key-readers") == []


async def test_a_head_teachers_computer_that_is_nobodys_says_so_and_not_that_nobody_reads(room: Classroom) -> None:
    teacher = await room.teacher()
    head = await room.head()
    await sync(teacher, head)
    async with portal(head.agent) as surfer:
        page = await surfer.page("/readers")
    assert "Personne d'autre ne lit" not in html.unescape(page)
    assert "n'est celui d'aucun enseignant" in html.unescape(page)


async def test_a_head_teachers_computer_that_is_nobodys_shows_the_six_words_by_which_a_restored_server_lets_it_in(
    room: Classroom,
) -> None:
    head = await room.head()
    words = device_words(own_device(head.agent))
    async with portal(head.agent) as surfer:
        assert words in html.unescape(await surfer.page("/readers"))
    (row,) = await Desk(head.agent).ask("key-readers")
    assert (row["state"], row["device"], row["words"]) == ("this", head.agent.device.hex(), words)


async def test_whom_a_running_program_notes_counts_there_at_once(room: Classroom) -> None:
    laptop, other, machine = await room.teacher(), await room.teacher(), await room.machine()
    await sync(laptop, machine)
    person, agent = room.teacher_person, machine.agent
    known = (await agent.replica.view(room.space)).roster.starts[person]
    assert known == (own_device(laptop.agent),)
    agent.acquainted.first[room.space][person] = (*known, own_device(other.agent))
    agent.bear_in_mind()
    shown = (await agent.replica.view(room.space)).roster.starts[person]
    assert shown == (own_device(laptop.agent), own_device(other.agent))
