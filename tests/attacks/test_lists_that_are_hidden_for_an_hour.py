"""Somebody is frozen, renamed or retired in the hour in which a copied key hides one of their classes (ADR 0574)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from protocol.model.entry import Entry, Kind
from protocol.model.structure import Ruling
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.bureau import Office
from tests.harness.attack import attack
from tests.harness.commands import Desk
from tests.harness.copied_keys import thief_hides, thief_says
from tests.harness.office_devices import Town, town

ROW = "a list is hidden for the hour in which somebody is frozen, renamed or retired"


@dataclass
class Scene:
    """Tim is in two classes of the school, of which whoever copied the server's key has hidden the second one."""

    here: Town
    tim: str
    second: bytes
    hidden: bytes

    async def shown_again(self) -> None:
        server = self.here.office.server
        ruling = Ruling((), (self.hidden,)).encode()
        await thief_says(self.here.office, Draft(self.here.school, Kind.RULING, server.grant, ruling))
        listed = (await server.replica.view(self.second)).roster.persons
        assert [each.name for each in listed.values()] == ["Tim"], "nothing was said there"


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with town(tmp_path) as here:
        made = await here.office.do("space add", name="CM2 Z", school="0180001D", year="2026-2027")
        tim = await here.office.add_person("Tim", "pupil", here.office.space, made["space"])
        here.office.clock.advance(60_000)
        second = bytes.fromhex(made["space"])
        yield Scene(here, tim, second, (await thief_hides(here, second)).id)


async def _none(_office: Office, _persons: Iterable[bytes]) -> dict[bytes, list[Entry]]:
    return {}


UNTOLD: dict[str, object] = {"protocol.replica.office.leaving.hidden_lists": _none}
ASKED: list[tuple[str, dict[str, Any]]] = [
    ("person freeze", {}),
    ("person unfreeze", {}),
    ("person retire", {"called": None, "renamed_too": True}),
    ("person rename", {"name": "Léo", "called": None, "renamed_too": True}),
]


@attack(ROW, off=UNTOLD)
@pytest.mark.parametrize(("command", "params"), ASKED, ids=[command for command, _ in ASKED])
async def test_who_says_something_on_all_lists_of_somebody_is_told_of_the_one_that_is_hidden(
    scene: Scene, command: str, params: dict[str, Any]
) -> None:
    office = scene.here.office
    told = await office.do(command, person=scene.tim, **params)
    assert told.get("hidden_lists") == [scene.second.hex()]
    assert any("“CM2 Z”, which is hidden (erased" in line for line in office.said.lines)
    await scene.shown_again()
    assert "hidden_lists" not in await office.do(command, person=scene.tim, **params), "said again, it is said there"


@attack(ROW, off=UNTOLD)
async def test_so_is_a_head_who_renames_somebody(scene: Scene) -> None:
    head = await scene.here.head_of_the_school()
    params = {"person": scene.tim, "name": "Tim Durand", "called": None, "renamed_too": True}
    assert (await Desk(head.agent).ask("person rename", **params)).get("hidden_lists") == [scene.second.hex()]


async def test_status_has_the_list_that_shows_who_is_frozen_since_it_was_hidden_then(scene: Scene) -> None:
    office = scene.here.office
    await office.do("person freeze", person=scene.tim)
    await scene.shown_again()
    (row,) = (await office.do("status"))["frozen_persons"]
    assert [each["space"] for each in row["lifted"]] == [scene.second.hex()]
    await office.do("person freeze", person=scene.tim)
    (row,) = (await office.do("status"))["frozen_persons"]
    assert row["lifted"] == []
