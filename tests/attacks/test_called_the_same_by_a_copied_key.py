"""A copied key calls one child, or colleague, the same as another; then an honest hand does something to the other.

What is done to somebody reaches nobody who was not named, or made one with them by somebody who is known (ADR 0451).
"""

from __future__ import annotations

import html
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import BadInput
from protocol.model.structure import PersonRecord
from protocol.replica.office import erasures
from protocol.replica.office.bureau import Office
from protocol.replica.office.list_words import Whose
from protocol.roles import PersonRole
from tests.harness.attack import attack
from tests.harness.commands import Desk
from tests.harness.copied_keys import thief_holds_back, thief_lists
from tests.harness.kept_town import town_at_work
from tests.harness.office_devices import AtWork, Town
from tests.harness.portal import portal

ROW = "whom a copied key calls the same goes along with somebody"
LEFT = "a pupil who is there seems to have left"
WHOEVER_SAYS_SO: dict[str, object] = {"protocol.replica.office.doubles.SURE": frozenset(Whose)}
WHATEVER_IS_LEFT: dict[str, object] = {
    "protocol.replica.office.people.Listing.leaves": property(lambda listed: listed.left)
}


async def _whoever_holds_it_back(office: Office, spaces: Iterable[bytes]) -> dict[bytes, Collection[bytes]]:
    """As if it did not matter whose word holds another back."""
    return {space: (await office.replica.view(space)).roster.held_back for space in spaces}


@dataclass
class Scene:
    """A class whose server's key somebody has as well; Léa is in it, and Tom."""

    here: Town
    at_work: AtWork
    tom: str

    @property
    def lea(self) -> str:
        return self.at_work.pupil

    async def do(self, command: str, **params: Any) -> Any:
        self.here.office.said.lines.clear()
        return await self.here.office.do(command, **params)

    def told(self, person: str) -> list[str]:
        return [line for line in self.here.office.said.lines if person in line]

    async def of_status(self, key: str) -> Collection[str]:
        return [row["person"] for row in (await self.here.office.do("status"))[key]]

    async def thief_says_that_tom_is_lea(self) -> None:
        self.here.office.clock.advance(60_000)
        same = PersonRecord("Tom", PersonRole.PUPIL, left=True, same_as=bytes.fromhex(self.lea))
        await thief_lists(self.here, self.tom, same)

    async def added(self, name: str) -> str:
        person: str = (await self.do("person add", name=name, role="pupil", space=[self.here.office.space]))["person"]
        return person

    async def a_head_merges(self, person: str, into: str, **params: Any) -> None:
        """On a computer that this server knows."""
        head = await self.here.head_of_the_school()
        await self.here.sync()
        await Desk(head.agent).ask("person merge", person=person, into=into, **params)
        await self.here.sync()

    async def forgotten(self) -> set[str]:
        return {covers.hex() for _, covers in await erasures.ever_said(self.here.office.server.replica)}


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with town_at_work(tmp_path, kept_for=__name__, in_step=True) as (here, at_work):
        yield Scene(here, at_work, await here.office.add_person("Tom", "pupil"))


@pytest.mark.parametrize("command", ["person retire", "ungrant"])
async def test_who_is_called_the_same_as_one_who_leaves_has_left_nowhere(scene: Scene, command: str) -> None:
    await scene.thief_says_that_tom_is_lea()
    spaces = {"space": [scene.here.office.space]} if command == "ungrant" else {}
    assert await scene.do(command, person=scene.lea, **spaces) == {"others": [scene.tom]}
    (line,) = scene.told(scene.tom)
    assert line.startswith(f"not “Tom”, {scene.tom}: all lists say that this is the same person")
    assert await scene.of_status("left_pupils") == [scene.lea]
    assert await scene.of_status("left_in_doubt") == []


@attack(ROW, off=WHOEVER_SAYS_SO)
async def test_nor_is_the_laptop_cut_off_of_a_teacher_who_is_called_the_same_as_one_who_leaves(scene: Scene) -> None:
    petit, gris = [await scene.here.office.add_person(name, "teacher") for name in ("Mme Petit", "M. Gris")]
    laptop = await scene.here.device("teacher", gris)
    same = PersonRecord("M. Gris", PersonRole.TEACHER, left=True, same_as=bytes.fromhex(petit))
    await thief_lists(scene.here, gris, same)
    await scene.do("person retire", person=petit)
    roster = (await scene.here.office.server.replica.view(scene.here.space)).roster
    assert roster.may_read(laptop.agent.device)


@attack(ROW, off=WHOEVER_SAYS_SO)
async def test_who_is_called_the_same_as_one_who_is_frozen_is_frozen_by_no_word_of_the_office(scene: Scene) -> None:
    await scene.thief_says_that_tom_is_lea()
    assert (await scene.do("person freeze", person=scene.lea))["lists"] == 1
    assert await scene.of_status("frozen_persons") == [scene.lea]
    assert scene.told(scene.tom)[0].startswith("to be frozen: not “Tom”")


@attack(ROW, off=WHOEVER_SAYS_SO)
async def test_who_is_called_the_same_as_one_who_is_frozen_no_more_stays_frozen(scene: Scene) -> None:
    await scene.do("person freeze", person=scene.tom)  # what there is about him is in dispute
    scene.here.office.clock.advance(60_000)
    await thief_lists(scene.here, scene.lea, PersonRecord("Léa", PersonRole.PUPIL, frozen=True))
    await scene.thief_says_that_tom_is_lea()
    await scene.do("person unfreeze", person=scene.lea)  # nobody has frozen her
    assert await scene.of_status("frozen_persons") == [scene.tom]
    assert scene.told(scene.tom), "the operator is told of him"


@attack(ROW, off=WHOEVER_SAYS_SO)
async def test_of_two_who_were_always_called_alike_one_is_not_forgotten_along(scene: Scene) -> None:
    other = await scene.added("Tom")
    same = PersonRecord("Tom", PersonRole.PUPIL, left=True, same_as=bytes.fromhex(scene.tom))
    await thief_lists(scene.here, other, same)
    with suppress(BadInput):
        await scene.do("erase", person=[scene.tom])
    assert other not in await scene.forgotten()
    await scene.do("erase", person=[scene.tom], alone=True)
    assert await scene.forgotten() == {scene.tom}


async def _ring(scene: Scene) -> tuple[str, str]:
    """Tom was really added twice, and made one; by a copied key's word the one is the other again, and they the one."""
    twice, tom = sorted([scene.tom, await scene.added("Tom")])
    await scene.a_head_merges(twice, tom)
    assert await scene.of_status("left_pupils") == await scene.of_status("left_in_doubt") == []
    await thief_lists(scene.here, tom, PersonRecord("Tom", PersonRole.PUPIL, same_as=bytes.fromhex(twice)))
    return twice, tom


@attack(LEFT, off=WHATEVER_IS_LEFT)
async def test_nor_has_who_was_really_added_twice_and_is_made_the_other_once_more(scene: Scene) -> None:
    await _ring(scene)
    assert await scene.of_status("left_pupils") == []
    assert await scene.of_status("left_in_doubt") == []


@attack(ROW, off=WHOEVER_SAYS_SO)
async def test_the_one_who_is_there_is_not_forgotten_with_the_id_that_was_added_twice(scene: Scene) -> None:
    twice, tom = await _ring(scene)
    with suppress(BadInput):
        await scene.do("erase", person=[twice])
    assert tom not in await scene.forgotten()


async def test_whom_a_head_who_is_known_made_one_is_frozen_lifted_and_forgotten_as_one(scene: Scene) -> None:
    twice = await scene.added("Tom")
    await scene.a_head_merges(twice, scene.tom)
    for command, left in (("person freeze", {twice, scene.tom}), ("person unfreeze", set())):
        assert (await scene.do(command, person=scene.tom))["lists"] == 2
        assert any(line.endswith("the same person, added twice") for line in scene.told(twice))
        assert set(await scene.of_status("frozen_persons")) == left
    assert await scene.do("person retire", person=scene.tom) == {}
    assert await scene.of_status("left_pupils") == [scene.tom]
    await scene.do("erase", person=[scene.tom])
    assert await scene.forgotten() == {scene.tom, twice}


@attack(ROW, off=WHOEVER_SAYS_SO)
async def test_whom_a_head_made_one_with_her_goes_along_with_nobody_else(scene: Scene) -> None:
    twice = await scene.added("Léa")
    await scene.a_head_merges(twice, scene.lea)
    same = PersonRecord("Léa", PersonRole.PUPIL, left=True, same_as=bytes.fromhex(scene.tom))
    await thief_lists(scene.here, twice, same)
    assert (await scene.do("person freeze", person=scene.tom))["lists"] == 1


@attack(ROW, off={"protocol.replica.office.doubles.held_surely": _whoever_holds_it_back})
async def test_who_was_made_one_by_mistake_and_put_back_is_not_forgotten_along_once_that_is_held_back(
    scene: Scene,
) -> None:
    other, second = await scene.added("Léa"), await scene.here.head_of_the_school()
    await scene.a_head_merges(other, scene.lea)
    scene.here.office.clock.advance(60_000)
    await scene.here.sync()
    await Desk(second.agent).ask("grant", person=other, space=[scene.here.office.space])
    await scene.here.sync()
    await thief_holds_back(scene.here, second)
    with suppress(BadInput):
        await scene.do("erase", person=[scene.lea])
    assert other not in await scene.forgotten()
    await scene.do("erase", person=[scene.lea], alone=True)
    assert await scene.forgotten() == {scene.lea}


async def test_a_head_reads_on_her_page_that_whom_the_list_calls_the_same_stays(scene: Scene) -> None:
    head = await scene.here.head_of_the_school()
    await scene.thief_says_that_tom_is_lea()
    await scene.here.sync()
    place = f"/school/{scene.here.office.space}"
    async with portal(head.agent) as surfer:
        await surfer.page(place)
        answer = await surfer.send(place, f"{place}/leave", {"person": scene.lea})
        assert answer.headers["Location"] == (told := f"{place}?done=left_others")
        assert "appelle aussi quelqu'un d'autre la même personne" in html.unescape(await surfer.page(told))
