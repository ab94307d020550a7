"""One word of a copied key puts a child of one class on the list of another, as if added twice (ADR 0522)."""

from __future__ import annotations

import html
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from pathlib import Path

import pytest

from protocol.model.entry import Kind
from protocol.model.structure import Erasure, PersonRecord
from protocol.replica.at_work.replica import Draft, Replica
from protocol.replica.office import erasures
from protocol.roles import PersonRole
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.copied_keys import thief_says
from tests.harness.head_at_work import confirmed_head
from tests.harness.portal import portal, words_in
from tests.harness.server_in_process import office
from tests.harness.spied_class import SpiedClass, spied_class

ROW = "a child of another class is put on a class's list"


async def _nowhere(_: Replica, persons: Collection[bytes]) -> dict[bytes, dict[bytes, int]]:
    return {person: {} for person in persons}


async def _the_id(_: Replica, person: bytes) -> str:
    return person.hex()


@dataclass
class Astray:
    """A head teacher's computer, to which the key shows Léa, who works in CM1, on the list of CE1 as well."""

    here: SpiedClass
    head: Device
    ce1: bytes

    @property
    def lea(self) -> bytes:
        return self.here.room.pupil_person

    async def is_hidden(self) -> None:
        """CM1, for an hour."""
        room = self.here.room
        await room.territory.say(room.school, Kind.ERASE, Erasure(room.space).encode())
        await self.head.session.sync()


@pytest.fixture
async def astray(tmp_path: Path) -> AsyncIterator[Astray]:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        head, _ = await confirmed_head(here)
        ce1 = await here.room.territory.classroom("CE1", here.room.school)
        record = PersonRecord("Léa", PersonRole.PUPIL).encode()
        await here.room.territory.say(ce1, Kind.PERSON, record, subject=here.room.pupil_person)
        await head.session.sync()
        yield Astray(here, head, ce1)


@pytest.mark.parametrize("hidden", [False, True])
@attack(ROW, off={"sync_agent.portal.head.forgetting.classes_of": _nowhere})
async def test_a_head_who_forgets_a_pupil_on_a_classs_page_reads_in_which_others_they_are_with_how_much_work(
    astray: Astray, hidden: bool
) -> None:
    if hidden:
        await astray.is_hidden()
    place = f"/school/{astray.ce1.hex()}"
    async with portal(astray.head.agent) as surfer:
        asked = await surfer.send(place, f"{place}/erase", {"person": astray.lea.hex(), "meant": "yes"})
    page = words_in(html.unescape(asked.text))
    assert "CM1 · 1 travail rendu CE1 · 0 travail rendu" in page
    assert "CE1 n'est pas sa seule classe : cette personne disparaît aussi des autres" in page
    assert astray.lea not in {covers for _, covers in await erasures.ever_said(astray.head.agent.replica)}


@attack(ROW, off={"sync_agent.portal.head.forgetting.classes_of": _nowhere})
async def test_nor_is_she_told_of_others_of_a_pupil_who_is_in_this_class_alone(astray: Astray) -> None:
    place = f"/school/{astray.ce1.hex()}"
    tom = await astray.here.room.territory.person("Tom", PersonRole.PUPIL, astray.ce1)
    await astray.head.session.sync()
    async with portal(astray.head.agent) as surfer:
        asked = await surfer.send(place, f"{place}/erase", {"person": tom.hex(), "meant": "yes"})
    page = words_in(html.unescape(asked.text))
    assert "et ses travaux : CE1 · 0 travail rendu" in page
    assert "n'est pas sa seule classe" not in page


@pytest.mark.parametrize("hidden", [False, True])
@attack(ROW, off={"protocol.replica.office.who_that_is.classes_of": _nowhere})
async def test_so_does_she_at_the_command_line(astray: Astray, hidden: bool) -> None:
    if hidden:
        await astray.is_hidden()
    desk = Desk(astray.head.agent)
    await desk.ask("erase", person=[astray.lea.hex()], dry_run=True)
    (told,) = (line for line in desk.told if line.startswith("to be forgotten: “Léa”, pupil, "))
    assert told.endswith("; hand-ins, shown or not: 1 in “CM1”, 0 in “CE1”")


@attack(ROW, off={"protocol.replica.office.commands.who_that_is": _the_id})
async def test_whoever_is_taken_off_a_list_is_named_first_with_all_of_their_classes(astray: Astray) -> None:
    desk = Desk(astray.head.agent)
    await desk.ask("ungrant", person=astray.lea.hex(), space=[astray.ce1.hex()])
    assert desk.told[0].startswith(f"to be taken off: “Léa”, pupil, CE1, CM1, {astray.lea.hex()}; ")
    assert desk.told[0].endswith("; hand-ins, shown or not: 1 in “CM1”, 0 in “CE1”")


@attack(ROW, off={"sync_server.operations.lifecycle.who_that_is": _the_id})
async def test_so_is_who_is_taken_off_every_list_at_the_server(tmp_path: Path) -> None:
    async with office(tmp_path) as here:
        ce1 = (await here.do("space add", name="CE1", school="0180001D"))["space"]
        lea, space = await here.add_person("Léa", "pupil"), bytes.fromhex(ce1)
        record = PersonRecord("Léa", PersonRole.PUPIL).encode()
        await thief_says(here, Draft(space, Kind.PERSON, here.server.grant, record, subject=bytes.fromhex(lea)))
        here.said.lines.clear()
        await here.do("person retire", person=lea)
    assert here.said.lines[0].startswith("to be taken off every list: “Léa”, pupil, CE1, ")
    assert here.said.lines[0].endswith(", 0 in “CE1”")


@attack(ROW, off={"protocol.replica.office.who_that_is.classes_of": _nowhere})
async def test_so_is_who_is_to_be_forgotten_at_the_server(tmp_path: Path) -> None:
    async with office(tmp_path) as here:
        ce1 = (await here.do("space add", name="CE1", school="0180001D"))["space"]
        lea, space = await here.add_person("Léa", "pupil"), bytes.fromhex(ce1)
        record = PersonRecord("Léa", PersonRole.PUPIL).encode()
        await thief_says(here, Draft(space, Kind.PERSON, here.server.grant, record, subject=bytes.fromhex(lea)))
        await here.do("erase", person=[lea], dry_run=True)
    (told,) = (line for line in here.said.lines if line.startswith("to be forgotten: “Léa”, pupil, "))
    assert told.endswith(", 0 in “CE1”")
