"""What a teacher's computer answered stays hers: once its right is over, whatever a list calls its id.

docs/adr/0161, docs/adr/0461.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.model.entry import Kind
from protocol.model.structure import PersonRecord, Revocation
from protocol.model.work import Feedback
from protocol.rights.vouching import device_id
from protocol.roles import PersonRole
from sync_agent.keys.confirming import confirm
from tests.harness.classroom import Device
from tests.harness.portal import portal
from tests.harness.spied_class import SpiedClass, own_keys, spied_class


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[SpiedClass]:
    async with spied_class(tmp_path, kept_for=__name__) as made:
        yield made


async def answers(here: SpiedClass) -> None:
    """The computer that is let in here (an honest one, for once) answers the pupil."""
    words = Feedback("Bien vu.", None, redo=False, content=None).encode()
    await here.say(Kind.FEEDBACK, words, here.room.pupil_person, target=here.work)


async def ends(here: SpiedClass) -> None:
    """Its right is over, all that it has said so far named."""
    territory, space, key = here.room.territory, here.room.space, here.spy.signing.public
    said = tuple(each.id for each in await territory.replica.store.authored(space, key))
    await territory.say(space, Kind.REVOKE, Revocation(key, said).encode(), target=here.grant)
    for _ in range(2):
        await here.sync()


async def named(here: SpiedClass) -> bytes | None:
    """Whose word the answer is, on the pupil's PC."""
    for _ in range(2):
        await here.sync()
    replica = here.machine.agent.replica
    view = await replica.view(here.room.space)
    note = view.coursework.hand_ins[here.work].feedback
    return None if note is None else view.roster.spoken_as(replica.door.authority(note.grant))


async def test_what_a_substitute_answered_stays_hers_after_the_last_day(here: SpiedClass) -> None:
    substitute = await here.room.territory.person("Mme R", PersonRole.TEACHER, here.room.space)
    await here.name_the_spy(substitute)
    await answers(here)
    assert await named(here) == substitute
    await ends(here)
    assert await named(here) == substitute


async def test_what_a_teachers_second_laptop_answered_stays_hers_once_that_is_out_of_use(here: SpiedClass) -> None:
    petit = here.room.teacher_person
    await here.name_the_spy(petit)
    await answers(here)
    assert await named(here) is None
    await confirm(here.teacher.agent, device_id(own_keys(here.spy)), shown_as="own")
    assert await named(here) == petit
    await ends(here)
    assert await named(here) == petit


async def merged(here: SpiedClass, person: bytes, name: str, into: bytes) -> None:
    """The office says that who was added twice is one."""
    territory, space = here.room.territory, here.room.space
    (listed,) = [
        each.id for each in await territory.replica.store.scan_kinds([Kind.PERSON]) if each.header.subject == person
    ]
    record = PersonRecord(name, PersonRole.TEACHER, left=True, same_as=into).encode()
    await territory.say(space, Kind.PERSON, record, subject=person, parents=(listed,))
    for _ in range(2):
        await here.sync()


async def note_on(device: Device, here: SpiedClass) -> str:
    """Above and in the answer, as the pupil sees it at this machine."""
    async with portal(device.agent) as surfer:
        await surfer.send("/who", "/who", {"person": here.room.pupil_person.hex(), "back": "/"})
        page = await surfer.page(f"/work/{here.work.hex()}")
    return page.partition('id="h-note">')[2].partition("</section>")[0]


async def added_twice(here: SpiedClass) -> bytes:
    """Mme Petit, once more on the list by an import, answers from the laptop that she has by that id."""
    twice = await here.room.territory.person("PETIT Claire", PersonRole.TEACHER, here.room.space)
    await here.name_the_spy(twice)
    await answers(here)
    assert await named(here) == twice
    return twice


async def test_what_somebody_answered_who_was_added_twice_stays_under_the_name_that_she_had_by_that_id(
    here: SpiedClass,
) -> None:
    petit, twice = here.room.teacher_person, await added_twice(here)
    await merged(here, twice, "PETIT Claire", petit)
    assert await named(here) == twice
    note = await note_on(here.machine, here)
    assert "PETIT Claire" in note
    assert "Bien vu." in note
    async with portal(here.teacher.agent) as surfer:
        assert "Est-ce bien votre nouvel ordinateur" not in await surfer.page("/"), "nobody is asked about it by a list"


async def test_what_somebody_answered_who_was_added_twice_stands_on_a_pc_that_came_afterwards(here: SpiedClass) -> None:
    twice = await added_twice(here)
    await merged(here, twice, "PETIT Claire", here.room.teacher_person)
    later = await here.room.machine()
    await later.session.sync()
    async with portal(later.agent) as surfer:
        assert "Publié par Mme Petit" in await surfer.page(f"/item/{here.item.hex()}")
    assert "PETIT Claire" in await note_on(later, here)


async def test_once_that_laptop_is_out_of_use_its_answer_is_whose_it_was(here: SpiedClass) -> None:
    twice = await added_twice(here)
    await merged(here, twice, "PETIT Claire", here.room.teacher_person)
    await ends(here)
    assert await named(here) == twice


async def test_who_was_added_anew_under_an_id_without_a_computer_keeps_the_name_that_she_had(here: SpiedClass) -> None:
    anew = await here.room.territory.person("PETIT Claire", PersonRole.TEACHER, here.room.space)
    await merged(here, here.room.teacher_person, "Mme Petit", anew)
    async with portal(here.machine.agent) as surfer:
        assert "Publié par Mme Petit" in await surfer.page(f"/item/{here.item.hex()}")
