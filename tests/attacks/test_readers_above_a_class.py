"""Whoever has the server lists pupils in a whole school, and names somebody who reads there (docs/adr/0283)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from protocol.folds.hand_in_keys import content_key_of
from protocol.model.entry import Kind
from protocol.model.structure import Erasure, PersonRecord
from protocol.model.work import ItemKind
from protocol.replica.at_work.views import SpaceView
from protocol.roles import PersonRole, Role
from sync_agent.app import Agent
from sync_agent.keys.confirming import ReadHere, list_readers, own_grant, own_grants
from sync_agent.keys.past_readers import list_past_readers
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.portal import portal
from tests.harness.spied_class import SpiedClass, spied_class

ROW = "a reader above the class"


async def _her_classes_alone(agent: Agent) -> list[ReadHere]:
    grants = await own_grants(agent)
    mine = [(space, await own_grant(agent, grants, space)) for space in await agent.spaces()]
    return [ReadHere(space, grant.person or b"") for space, grant in mine if grant is not None]


async def _shows_work(_: Agent, view: SpaceView) -> bool:
    kinds = (item.shown.record.kind for item in view.coursework.items.values())
    return bool(view.coursework.hand_ins) or ItemKind.ASSIGNMENT in kinds


async def _names_a_reader(here: SpiedClass, space: bytes, *, heard_by: Sequence[Device] = ()) -> bytes:
    """M. X teaches in this space above the class, in which Léa is listed and there is an assignment; its id."""
    room, territory = here.room, here.room.territory
    (first,) = (await territory.replica.store.get([here.item])).values()
    lea = PersonRecord("Léa", PersonRole.PUPIL).encode()
    await territory.say(space, Kind.PERSON, lea, subject=room.pupil_person)
    x = await territory.person("M. X", PersonRole.TEACHER, space)
    await here.name_the_spy(x, space=space)
    item = await territory.say(space, Kind.REVISION, first.payload or b"")
    await territory.let_in(here.machine.agent.keys, Role.MACHINE, space)
    for _ in range(2):
        await here.sync(*heard_by)
    return item.id


@pytest.mark.parametrize("above", ["the school", "the territory"])
@attack(
    ROW,
    off={
        "sync_agent.keys.confirming.read_here": _her_classes_alone,
        "sync_agent.keys.past_readers.read_here": _her_classes_alone,
    },
)
async def test_who_reads_what_is_handed_in_above_her_class_is_told_on_her_first_page(
    tmp_path: Path, above: str
) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        space = here.room.school if above == "the school" else here.room.territory.replica.territory
        item = await _names_a_reader(here, space)
        work = await here.room.hand_in(here.machine, item, {"journal.odt": b"mine"})
        await here.sync(here.machine, here.teacher)
        made = (await here.room.territory.replica.view(space)).coursework.hand_ins[work]
        assert content_key_of(made, {here.spy.agreement.public: here.spy.agreement}) is not None
        teacher = here.teacher.agent
        assert "M. X" in [each.called for each in await list_past_readers(teacher, [])]
        assert space in [each.space for each in await list_readers(teacher) if each.is_news]
        async with portal(teacher) as surfer:
            assert "M. X" in await surfer.page("/")


@pytest.mark.parametrize("hides", ["the assignment", "the assignment and the work"])
@pytest.mark.parametrize("above", ["the school", "the territory"])
@attack(ROW, off={"sync_agent.keys.confirming._takes_work": _shows_work})
async def test_also_where_the_assignment_is_erased_before_her_laptop_hears_of_any_of_it(
    tmp_path: Path, above: str, hides: str
) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        room, territory, teacher = here.room, here.room.territory, here.teacher.agent
        space = room.school if above == "the school" else territory.replica.territory
        item = await _names_a_reader(here, space, heard_by=[here.machine])
        work = await room.hand_in(here.machine, item, {"journal.odt": b"mine"})
        await here.sync(here.machine)
        for covers in [item] if hides == "the assignment" else [item, work]:
            await territory.say(space, Kind.ERASE, Erasure(covers).encode())
        await here.sync(here.machine, here.teacher)
        assert not await _shows_work(teacher, await teacher.replica.view(space))
        assert "M. X" in [each.called for each in await list_past_readers(teacher, [])]
        assert space in [each.space for each in await list_readers(teacher) if each.is_news]
        async with portal(teacher) as surfer:
            assert "M. X" in await surfer.page("/")


async def test_a_school_without_work_of_its_own_adds_nobody_to_her_readers(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        await here.room.head()
        await here.sync()
        assert {each.space for each in await list_readers(here.teacher.agent)} == {here.room.space}
