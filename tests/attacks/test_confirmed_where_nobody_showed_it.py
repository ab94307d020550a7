"""A teacher confirms a colleague of one of her classes, and a copied key lets him into another one (docs/attacks.md).

He is in league with the thief, or somebody uses his laptop; he knows when she looks, since she compares six words with
him.
"""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from protocol.errors import BadInput, RelaisError
from protocol.model.entry import Kind
from protocol.model.structure import Erasure, PersonRecord, Ruling
from protocol.rights.door import Authority
from protocol.roles import PersonRole, Role
from sync_agent.app import Agent
from sync_agent.keys.confirming import Reader, _Place, own_grant, speakers
from tests.harness.attack import attack
from tests.harness.classroom import WORK, Device
from tests.harness.commands import Desk
from tests.harness.portal import Surfer, portal, words_in
from tests.harness.spied_class import SpiedClass, spied_class

ROW = "a reader who was looked at as something else"
OF_ROY = re.compile(r'action="/readers/confirm">.*?name="reader" value="([0-9a-f]+)"', re.DOTALL)


@dataclass
class Here:
    """Mme Petit has opened a work in CM1; in CE1, which she teaches too, nobody has confirmed M. Roy yet."""

    made: SpiedClass
    laptop: Device
    roy: bytes

    async def sync(self, *devices: Device) -> None:
        for _ in range(3):
            await self.made.sync(*(devices or (self.laptop, self.made.teacher, self.made.machine)))

    async def let_into_the_other_class(self) -> None:
        """By one word of the copied key."""
        room = self.made.room
        await room.territory.let_in(self.laptop.agent.keys, Role.TEACHER, room.space, person=self.roy)

    async def opens_what_was_opened(self) -> bool:
        try:
            return await Desk(self.laptop.agent).files("open-hand-in", id=self.made.work.hex()) == WORK
        except RelaisError:
            return False

    async def shown(self, surfer: Surfer) -> tuple[str, str]:
        """What her page says of colleagues, and what the button beside M. Roy sends."""
        page = (await surfer.page("/readers")).partition("h-others")[2]
        (sent,) = OF_ROY.findall(page)
        return html.unescape(words_in(page)), sent


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with spied_class(tmp_path) as made:
        room, territory = made.room, made.room.territory
        ce1 = await territory.classroom("CE1", room.school)
        petit = room.teacher_person
        await territory.let_in(made.teacher.agent.keys, Role.TEACHER, ce1, person=petit)
        await territory.say(ce1, Kind.PERSON, PersonRecord("Mme Petit", PersonRole.TEACHER).encode(), subject=petit)
        roy = await territory.person("M. Roy", PersonRole.TEACHER, ce1)
        found = Here(made, await room.device(Role.TEACHER, ce1, person=roy), roy)
        await found.sync()
        yield found


def _by_device(theirs: Sequence[Reader]) -> bytes:
    return theirs[0].id


@attack(ROW, off={"sync_agent.keys.confirming._row_id": _by_device})
@pytest.mark.parametrize("by", ["the page", "the command line"])
async def test_a_yes_is_about_no_class_into_which_he_came_while_she_compared_the_words(here: Here, by: str) -> None:
    desk = Desk(here.made.teacher.agent)
    async with portal(here.made.teacher.agent) as surfer:
        page, sent = await here.shown(surfer)
        assert "CM1" not in page
        assert sent in {row["id"] for row in await desk.ask("key-readers")}
        await here.let_into_the_other_class()
        await here.sync()
        if by == "the page":
            answer = await surfer.send("/readers", "/readers/confirm", {"reader": sent, "shown_as": "other"})
            assert answer.status == 400
            assert "a changé entre-temps" in answer.text
        else:
            with pytest.raises(BadInput, match="look again"):
                await desk.ask("key-confirm", reader=sent)
        await here.sync()
        assert not await here.opens_what_was_opened()
        page, sent = await here.shown(surfer)
        assert "CM1" in page, "as somebody of both classes she may confirm him"
        assert (await surfer.send("/readers", "/readers/confirm", {"reader": sent, "shown_as": "other"})).status == 303
    await here.sync()
    assert await here.opens_what_was_opened()


async def _wherever_it_is_let_in(
    agent: Agent, grants: Sequence[Authority], shown: Sequence[Reader]
) -> AsyncIterator[_Place]:
    for space in await agent.spaces():
        mine, roster = await own_grant(agent, grants, space), (await agent.replica.view(space)).roster
        for named, grant in speakers(roster):
            if mine is not None and named == shown[0].pair:
                yield _Place(space, roster, mine, named, grant)


@attack(ROW, off={"sync_agent.keys.confirming._places": _wherever_it_is_let_in})
@pytest.mark.parametrize("hidden", [False, True], ids=["his laptop has said no key there", "it is hidden"])
async def test_nor_about_one_in_which_her_page_cannot_show_him_yet_and_he_is_news_there_afterwards(
    here: Here, *, hidden: bool
) -> None:
    teacher, room, territory = here.made.teacher, here.made.room, here.made.room.territory
    await here.let_into_the_other_class()
    await (here.sync() if hidden else here.sync(teacher, here.made.machine))
    if hidden:
        erasure = await territory.say(room.school, Kind.ERASE, Erasure(room.space).encode())
        await here.sync()
    async with portal(teacher.agent) as surfer:
        page, sent = await here.shown(surfer)
        assert "· CE1 ·" in page
        assert (await surfer.send("/readers", "/readers/confirm", {"reader": sent, "shown_as": "other"})).status == 303
        if hidden:
            await territory.say(room.school, Kind.RULING, Ruling((), (erasure.id,)).encode())
        await here.sync()
        assert not await here.opens_what_was_opened()
        assert "M. Roy" in await surfer.page("/")
