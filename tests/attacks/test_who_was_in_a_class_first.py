"""A copy of the server's key lists a teacher in a new class before her laptop has met it, and waits until June.

docs/adr/0388.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import BadInput, Code
from protocol.folds.coursework import Item
from protocol.model.entry import Kind
from protocol.model.work import ItemKind
from protocol.replica.at_work.views import SpaceView
from protocol.replica.console.frame import Notices
from protocol.replica.office.not_shown import switched_by
from protocol.rights.vouching import device_id
from protocol.roles import PersonRole, Role
from sync_agent.app import Agent
from sync_agent.coursework import own_versions
from sync_agent.coursework.own_versions import OwnVoice
from sync_agent.coursework.publisher import Wish, publish
from sync_agent.keys.acquaintances import known_in
from sync_agent.keys.confirming import own_device
from sync_server.opened.app import Server
from tests.harness.attack import attack
from tests.harness.classroom import Device, Given
from tests.harness.commands import Desk
from tests.harness.kept_town import town_at_work
from tests.harness.spied_class import SpiedClass, spied_class
from tests.harness.year_at_work import Year

CARRIED = "who was in a class before her laptop is heeded there"
CLOSING = "work is hidden, so that nobody counts it"
HIS = "Apportez 50 euros"


async def _with_who_was_there(agent: Agent, space: bytes) -> OwnVoice:
    """Whom this device met first in the class, and whom those have confirmed, as well."""
    roster, first = (await agent.replica.view(space)).roster, known_in(agent, space).first
    circles = [
        roster.voices.with_over().circle(person, start)
        for person, starts in roster.starts.items()
        for start in starts
        if device_id(start) in first
    ]
    voice = await own_versions.own_voice(agent, space)
    return replace(voice, confirmed=frozenset(voice.confirmed).union(*(each.own | each.others for each in circles)))


@dataclass
class September:
    """A new class, in which the spy was listed as a teacher before hers came; and the one that follows it."""

    here: SpiedClass
    space: bytes
    following: bytes

    async def lesson(self, title: str) -> Item:
        wish = Wish(self.space, None, ItemKind.LESSON, title)
        made = await publish(self.here.teacher.agent, wish, Given({"cours.txt": title.encode() * 50}), Notices())
        await self.here.sync(self.here.teacher)
        return (await self.here.teacher.agent.replica.view(self.space)).coursework.items[made.item]

    async def sync(self) -> None:
        for _ in range(2):
            await self.here.sync(self.here.teacher)

    async def carry(self, desk: Desk, **params: Any) -> Any:
        return await desk.ask("carry-over", **{"from": self.space.hex(), "to": self.following.hex()}, **params)

    async def carried(self) -> set[str]:
        view = await self.here.teacher.agent.replica.view(self.following)
        return {item.shown.record.title for item in view.coursework.items.values()}


@pytest.fixture
async def september(tmp_path: Path) -> AsyncIterator[September]:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        territory, teacher = here.room.territory, here.teacher
        space, following = await territory.classroom("CM2"), await territory.classroom("CM2, l'an prochain")
        await here.name_the_spy(await territory.person("M. X", PersonRole.TEACHER, space), space=space)
        territory.clock.advance(60_000)
        for each in (space, following):
            await territory.let_in(teacher.agent.keys, Role.TEACHER, each, person=here.room.teacher_person)
        made = September(here, space, following)
        await made.sync()
        yield made


OFF = {"sync_agent.coursework.carrying_over.own_voice": _with_who_was_there}


@attack(CARRIED, off=OFF)
async def test_what_they_withdraw_and_what_they_say_of_her_lessons_is_asked_about_before_she_carries_over(
    september: September,
) -> None:
    water, volcano = await september.lesson("L'eau"), await september.lesson("Volcans")
    record = replace(water.shown.record, title=HIS)
    here, space = september.here, september.space
    await here.say(Kind.REVISION, record.encode(), None, target=water.id, parents=(water.id,), space=space)
    await here.say(Kind.WITHDRAW, b"\x80", None, target=volcano.id, space=space)
    await september.sync()
    desk = Desk(here.teacher.agent)
    with pytest.raises(BadInput, match="nothing has been carried over yet: 2 ") as caught:
        await september.carry(desk)
    assert caught.value.code is Code.NOT_YET
    assert not await september.carried()
    assert (await september.carry(desk, also=[water.id.hex(), volcano.id.hex()]))["lessons"] == 2
    assert await september.carried() == {"L'eau", "Volcans"}


@attack(CARRIED, off=OFF)
async def test_a_lesson_of_theirs_goes_on_in_her_name_by_the_version_that_she_has_looked_at_alone(
    september: September,
) -> None:
    here, space = september.here, september.space
    theirs = (await september.lesson("L'eau")).shown
    made = await here.say(Kind.REVISION, theirs.record.encode(), None, space=space)
    await Desk(here.teacher.agent).ask("withdraw", item=theirs.id.hex())
    await september.sync()
    desk = Desk(here.teacher.agent)
    done = await september.carry(desk)
    assert (done["lessons"], done["unconfirmed"], len(done["left"])) == (0, ["L'eau"], 1)
    assert any(f"left, {made.id.hex()[:12]}, " in line and "by “M. X”, " in line for line in desk.told)
    later = replace(theirs.record, title=HIS).encode()
    await here.say(Kind.REVISION, later, None, target=made.id, parents=(made.id,), space=space)
    await september.sync()
    with pytest.raises(BadInput, match="as it is shown by now"):
        await september.carry(desk, also=[made.id.hex()])
    assert not await september.carried()


async def test_what_she_wrote_on_a_laptop_that_was_lost_goes_on_once_she_names_that(september: September) -> None:
    here, room = september.here, september.here.room
    lost = here.teacher
    september.space = room.space
    await september.lesson("L'eau")
    new = await room.teacher()
    await room.territory.let_in(new.agent.keys, Role.TEACHER, september.following, person=room.teacher_person)
    await here.sync(new)
    here.teacher = new
    desk = Desk(new.agent)
    assert (await september.carry(desk))["lessons"] == 0
    assert [line for line in desk.told if f"1 of these was written on the computer {lost.agent.device.hex()}" in line]
    assert (await september.carry(desk, also=[lost.agent.device.hex()]))["lessons"] == 1
    assert await september.carried() == {"L'eau"}
    with pytest.raises(BadInput, match="names no lesson"):
        await september.carry(desk, also=[here.spy.signing.public.hex()])


# --- closing ----------------------------------------------------------------------------------------------------------


@dataclass
class June(Year):
    """The same, with a lesson of the teacher's and a colleague's laptop."""

    colleague: Device | None = None

    async def the_colleague_withdraws(self, title: str) -> str:
        space = self.here.office.space
        await self.lesson()
        person = (await self.do("person add", name="M. Roy", role="teacher", space=[space]))["person"]
        self.colleague = await self.here.device("teacher", person)
        await self.here.sync()
        (lesson,) = (row["item"] for row in await Desk(self.colleague.agent).ask("items") if row["title"] == title)
        await Desk(self.colleague.agent).ask("withdraw", item=lesson)
        await self.here.sync()
        return space


@pytest.fixture
async def june(tmp_path: Path) -> AsyncIterator[June]:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        yield June(here, *at_work, tmp_path)


async def _by_nobody_who_teaches(server: Server, view: SpaceView, _: object) -> tuple[int, Mapping[str | None, int]]:
    items = [item for item in view.coursework.items.values() if item.withdrawn]
    words = [word for item in items if (word := await switched_by(server.replica, item)) is not None]
    spoken = [view.roster.spoken_as(server.replica.door.authority(word.header.grant)) for word in words]
    return spoken.count(None), {}


@attack(CLOSING, off={"sync_server.handlers.by_kit.closing._withdrawn": _by_nobody_who_teaches})
async def test_a_class_is_not_closed_with_lessons_that_a_teacher_withdrew_whom_their_author_never_confirmed(
    june: June,
) -> None:
    space = await june.the_colleague_withdraws("L'eau")
    with pytest.raises(BadInput, match="1 were withdrawn by somebody whom no computer of their author's has confirmed"):
        await june.with_kit("space close", space=space)
    assert (await june.do("space close", space=space))["withdrawn_by"] == [{"name": "M. Roy", "items": 1}]


async def test_of_an_assignment_that_a_colleague_withdrew_nothing_is_asked(june: June) -> None:
    space = await june.the_colleague_withdraws("Racontez")
    assert (await june.do("space close", space=space))["withdrawn_by"] == [{"name": "M. Roy", "items": 1}]
    assert (await june.with_kit("space close", space=space))["closed"] is True


async def test_of_a_lesson_that_its_teacher_made_an_announcement_nothing_is_asked(june: June) -> None:
    await june.lesson()
    desk = Desk(june.teacher.agent)
    (lesson,) = (row["item"] for row in await desk.ask("items") if row["title"] == "L'eau")
    await desk.ask("publish", item=lesson, kind="announcement")
    for _ in range(2):
        await june.here.sync()
    assert (await june.with_kit("space close", space=june.here.office.space))["closed"] is True


async def test_once_a_teacher_has_confirmed_a_colleague_what_he_withdraws_of_hers_is_asked_about_nowhere(
    june: June,
) -> None:
    space = await june.the_colleague_withdraws("L'eau")
    assert june.colleague is not None
    reader = device_id(own_device(june.colleague.agent)).hex()
    await Desk(june.teacher.agent).ask("key-confirm", reader=reader, shown_as="other")
    await june.here.sync()
    assert (await june.with_kit("space close", space=space))["closed"] is True
