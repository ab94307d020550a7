"""A list that calls two people one makes neither of them the other (docs/threat-model.md, docs/adr/0164)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from pathlib import Path

import pytest

from protocol.entry import Entry, Kind
from protocol.replica.office.people import mentioned
from protocol.replica.replica import Replica
from protocol.roles import PersonRole, Role
from protocol.structure import PersonRecord
from tests.harness.attack import attack
from tests.harness.portal import portal
from tests.harness.spied_class import SpiedClass, heading_above, spied_class

ROW = "a list that calls two people one makes one the other"
WORDS = "Viens me voir ce soir."


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[SpiedClass]:
    async with spied_class(tmp_path) as made:
        yield made


def _nothing(*_: object) -> tuple[()]:
    """A list is believed: whoever it calls one is one."""
    return ()


async def _last_names(replica: Replica, persons: Collection[bytes]) -> dict[bytes, str]:
    """What whoever writes the list calls them by now."""
    return {person: each.names[-1] for person, each in (await mentioned(replica, persons)).items() if each.names}


async def _lists(here: SpiedClass, person: bytes, name: str, *, same_as: bytes | None = None) -> Entry:
    """The list says something of somebody anew, and all hear it."""
    persons = await here.room.territory.replica.store.scan_kinds([Kind.PERSON])
    before = tuple(entry.id for entry in persons if entry.header.subject == person)
    record = PersonRecord(name, PersonRole.TEACHER, left=same_as is not None, same_as=same_as)
    said = await here.room.territory.say(
        here.room.space, Kind.PERSON, record.encode(), subject=person, parents=before[-1:]
    )
    for _ in range(2):
        await here.sync()
    return said


async def _stranger(here: SpiedClass) -> bytes:
    """M. X, whom the server lists, and whose device everybody has met as his."""
    other = await here.room.territory.person("M. X", PersonRole.TEACHER, here.room.space)
    await here.name_the_spy(other)
    for _ in range(2):
        await here.sync()
    return other


async def _headings(here: SpiedClass) -> str:
    """What stands above his words on the pupil's page; nothing where they are not shown."""
    return await heading_above(here, WORDS) or ""


@pytest.mark.parametrize("called", ["M. X", "Mme Petit"], ids=["as he was", "by her name from then on"])
@attack(ROW, off={"protocol.roster.by_a_list_alone": _nothing})
async def test_whom_a_list_calls_the_same_as_a_teacher_answers_in_his_own_name(here: SpiedClass, called: str) -> None:
    await _lists(here, await _stranger(here), called, same_as=here.room.teacher_person)
    assert "M. X" in await _headings(here)


@attack(ROW, off={"sync_agent.portal.shelf.first_names": _last_names})
async def test_whom_a_list_calls_somebody_else_is_called_what_he_was_called_first(here: SpiedClass) -> None:
    await _lists(here, await _stranger(here), "Mme Petit", same_as=here.room.teacher_person)
    assert "Mme Petit" not in await _headings(here)


@attack(ROW, off={"protocol.roster.by_a_list_alone": _nothing})
async def test_a_grant_as_hers_beside_the_list_makes_no_more_of_it(here: SpiedClass) -> None:
    petit = here.room.teacher_person
    await _lists(here, await _stranger(here), "M. X", same_as=petit)
    await here.name_the_spy(petit)
    for _ in range(2):
        await here.sync()
    assert "Mme Petit" not in await _headings(here)


@attack(ROW, off={"protocol.roster.by_a_list_alone": _nothing})
async def test_a_teacher_whom_a_list_calls_the_same_as_a_stranger_keeps_her_name(here: SpiedClass) -> None:
    other = await _stranger(here)
    await _lists(here, here.room.teacher_person, "Mme Petit", same_as=other)
    async with portal(here.machine.agent) as surfer:
        page = await surfer.page(f"/item/{here.item.hex()}")
    assert "Publié par Mme Petit" in page


@attack(ROW, off={"sync_agent.portal.shelf.Room.voice_of": lambda room, person: room.name_of(person)})
async def test_a_colleague_is_told_who_reads_by_the_name_that_he_had(here: SpiedClass) -> None:
    durand = await here.room.territory.person("Mme Durand", PersonRole.TEACHER, here.room.space)
    colleague = await here.room.device(Role.TEACHER, person=durand)
    await here.sync(colleague)
    other = await _stranger(here)
    await here.sync(colleague)
    await _lists(here, other, "M. X", same_as=here.room.teacher_person)
    await here.sync(colleague)
    async with portal(colleague.agent) as surfer:
        assert "M. X lit les travaux" in await surfer.page("/")
