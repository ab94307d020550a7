"""Somebody changes class, or their name, or both: what the next list says of them (ADR 0489)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from protocol.errors import BadInput, Code
from protocol.replica.office.spaces import uai_of
from tests.harness.commands import Desk
from tests.harness.office_devices import Town, town


@dataclass
class Scene:
    """A school with a pupil, Léa, and two classes more; and the computer of its head, which has heard of them."""

    here: Town
    desk: Desk
    child: str
    second: str
    third: str

    async def named(self, space: str) -> list[str]:
        """What a list calls her at the server."""
        rows = await self.here.office.do("person list", space=space)
        return [row["name"] for row in rows if row["person"] == self.child]


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with town(tmp_path) as here:
        office, school = here.office, await uai_of(here.office.server, here.school)
        child = await office.add_person("Léa", "pupil")
        made = [
            (await office.do("space add", name=name, school=school, year=year))["space"]
            for name, year in (("CM1 bis", "2027-2028"), ("CM2", "2028-2029"))
        ]
        head = await here.head_of_the_school()
        yield Scene(here, Desk(head.agent), child, *made)


async def test_a_name_that_was_put_right_comes_back_on_no_next_list(scene: Scene) -> None:
    office = scene.here.office
    await office.do("grant", person=scene.child, space=[scene.second])
    await office.do("ungrant", person=scene.child, space=[office.space])
    await office.do("person rename", person=scene.child, name="Léo")
    await office.do("grant", person=scene.child, space=[scene.third])
    assert await scene.named(scene.third) == ["Léo"]


async def test_a_head_is_asked_once_about_whom_the_server_has_renamed(scene: Scene) -> None:
    await scene.here.office.do("person rename", person=scene.child, name="Léo")
    await scene.here.sync()
    with pytest.raises(BadInput, match="“Léa”") as asked:
        await scene.desk.ask("grant", person=scene.child, space=[scene.second])
    assert asked.value.code is Code.NOT_YET
    await scene.desk.ask("grant", person=scene.child, space=[scene.second], called="Léo")
    await scene.desk.ask("grant", person=scene.child, space=[scene.third])
    await scene.desk.ask("ungrant", person=scene.child, space=[scene.here.office.space])
    await scene.here.sync()
    assert [await scene.named(space) for space in (scene.second, scene.third)] == [["Léo"], ["Léo"]]


async def test_a_head_is_not_asked_about_whom_she_has_renamed(scene: Scene) -> None:
    await scene.desk.ask("person rename", person=scene.child, name="Léo")
    await scene.desk.ask("grant", person=scene.child, space=[scene.second])
    await scene.here.sync()
    await scene.here.office.do("grant", person=scene.child, space=[scene.third])  # nor is who knows her computer
    assert [await scene.named(space) for space in (scene.second, scene.third)] == [["Léo"], ["Léo"]]


async def test_who_is_frozen_is_so_in_the_next_class_and_is_let_in_at_the_server_alone(scene: Scene) -> None:
    office = scene.here.office
    await office.do("person freeze", person=scene.child)
    await scene.here.sync()
    for command in ("grant", "person rename"):
        with pytest.raises(BadInput, match="frozen") as refused:
            await scene.desk.ask(command, person=scene.child, space=[scene.second], name="Léo")
        assert refused.value.code is Code.NOT_YET
    await office.do("grant", person=scene.child, space=[scene.second])
    assert await scene.named(scene.second) == []
    await office.do("person unfreeze", person=scene.child)
    assert await scene.named(scene.second) == ["Léa"]
