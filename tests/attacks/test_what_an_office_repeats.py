"""What an office says anew of whom lists have is what a copied key had exchanged for an hour (docs/attacks.md)."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput, Code
from protocol.model.entry import Entry
from protocol.model.structure import PersonRecord
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.office.bureau import Office
from protocol.replica.office.further_words import Repeated
from protocol.replica.office.people import Listing
from protocol.replica.office.spaces import uai_of
from protocol.roles import PersonRole
from sync_agent.portal.each_page.visit import Visit
from sync_agent.portal.head.school import Doubted, _doubted
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.copied_keys import thief_holds_back, thief_lists
from tests.harness.office_devices import AtWork, Town, town
from tests.harness.portal import portal

ROW = "two names are exchanged for an hour, and a head puts both into the next class"
MODULE = "protocol.replica.office.further_words"


async def _nothing_asked(*_: object, **__: object) -> None:
    """Who has the name that the list shows is who is meant."""


def _once_asked(
    visit: Visit, found: Repeated | None, form: str, fields: Mapping[str, str], called: str | None
) -> Doubted | None:
    """Whoever has ticked the box means whatever lists say by then."""
    return None if called is not None else _doubted(visit, found, form, fields, None)


async def _as_shown_there(_office: Office, _space: bytes, ever: Iterable[Entry]) -> PersonRole:
    return PersonRecord.parse(list(ever)[-1].payload or b"").role


async def _whoever_holds_it_back(office: Office, spaces: Iterable[bytes]) -> dict[bytes, Collection[bytes]]:
    """As if it did not matter whose word holds another back."""
    return {space: (await office.replica.view(space)).roster.held_back for space in spaces}


async def _whom_the_list_lacks(
    _office: Office, listed: Mapping[bytes, Listing], spaces: Iterable[bytes]
) -> list[bytes]:
    """Who is on a list is there, whoever says so."""
    return [space for space in spaces if space not in listed or listed[space].left]


async def _every_list(_office: Office, listed: Mapping[bytes, Listing]) -> list[Listing]:
    return list(listed.values())


@dataclass
class Scene:
    """A class with Léa and Tom, the head's computer, and somebody who has a copy of the server's key."""

    here: Town
    at_work: AtWork
    head: Device
    desk: Desk
    lea: str
    tom: str
    school: str

    async def exchanged(self, space: bytes | None = None) -> None:
        """The thief exchanges their names, on the class's list or on another."""
        await thief_lists(self.here, self.lea, PersonRecord("Tom", PersonRole.PUPIL), space)
        await thief_lists(self.here, self.tom, PersonRecord("Léa", PersonRole.PUPIL), space)
        await self.here.sync()

    async def next_class(self) -> str:
        """A class that the head makes for the next year."""
        return str((await self.desk.ask("space add", name="CM2", year="2027-2028"))["space"])

    async def named(self, space: str | bytes) -> dict[str, str]:
        """What a list has its pupils as, on the head's computer."""
        where = bytes.fromhex(space) if isinstance(space, str) else space
        persons = (await self.head.agent.replica.view(where)).roster.persons.values()
        return {one.id.hex(): one.name for one in persons if one.role is PersonRole.PUPIL}

    async def refused(self, name: str, /, **params: Any) -> str:
        """A command of the head's is not done, and asks first; what it says."""
        with pytest.raises(BadInput) as fault:
            await self.desk.ask(name, **params)
        assert fault.value.code is Code.NOT_YET
        return str(fault.value)

    async def rotated(self, kits: Path) -> None:
        """The kit replaces the server's key, as of before the theft, and all have heard of it."""
        await self.here.sync()
        await note_arrivals(self.here.office.server.store, self.here.office.clock())
        await self.here.office.with_kit("rotate server", kit_in(kits, None), since="1d")
        for _ in range(3):
            self.here.office.clock.advance(60_000)
            await self.here.sync()


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with town(tmp_path) as here:
        at_work = await here.class_in_step()
        office, tom = here.office, await here.office.add_person("Tom", "pupil")
        head, school = await here.head_of_the_school(), await uai_of(office.server, here.school)
        assert school is not None
        await note_arrivals(office.server.store, office.clock())
        office.clock.advance(2 * DAY_MS)
        await note_arrivals(office.server.store, office.clock())
        office.clock.advance(60_000)
        yield Scene(here, at_work, head, Desk(head.agent), at_work.pupil, tom, school)


@attack(ROW, off={"sync_agent.school.commands.ask_whether_meant": _nothing_asked})
async def test_nobody_comes_into_the_next_class_unasked_by_a_name_of_an_hour(scene: Scene) -> None:
    new = await scene.next_class()
    await scene.exchanged()
    said = await scene.refused("grant", person=scene.lea, space=[new])
    assert "“Tom”" in said
    assert "“Léa”" in said
    assert not await scene.named(new)
    await scene.desk.ask("person rename", person=scene.lea, name="Léa")
    await scene.desk.ask("grant", person=scene.lea, space=[new])
    assert await scene.named(new) == {scene.lea: "Léa"}, "in her own word, by which it was put right"


@attack(ROW, off={"protocol.replica.office.commands.ask_whether_meant": _nothing_asked})
async def test_nor_out_of_a_class_nor_with_a_computer_nor_as_a_class_is_made(scene: Scene) -> None:
    new = await scene.next_class()
    await scene.exchanged()
    assert "“Tom”" in await scene.refused("ungrant", person=scene.lea, space=[scene.here.space.hex()])
    petit, laptop = scene.at_work.person, scene.at_work.teacher.agent.device.hex()
    await thief_lists(scene.here, petit, PersonRecord("Mme Roy", PersonRole.TEACHER))
    await scene.here.sync()
    assert "“Mme Roy”" in await scene.refused("grant", device=laptop, space=[new])
    classes = await scene.desk.ask("space list")
    assert "“Mme Roy”" in await scene.refused("space add", name="CM1", person=[petit])
    assert await scene.desk.ask("space list") == classes, "nor is the class made"


@attack(ROW, off={f"{MODULE}._that_count": _every_list, "sync_agent.school.commands.ask_whether_meant": _nothing_asked})
async def test_what_a_list_of_a_past_year_says_by_now_is_repeated_nowhere(scene: Scene) -> None:
    past = (await scene.here.office.do("space add", name="CP", school=scene.school, year="2019-2020"))["space"]
    for child in (scene.lea, scene.tom):
        await scene.here.office.do("grant", person=child, space=[past])
    await scene.here.sync()
    new = await scene.next_class()
    await scene.desk.ask("person rename", person=scene.lea, name="Léa M.")  # on each list, by her own word
    await scene.here.sync()
    await scene.exchanged(bytes.fromhex(past))
    assert (await scene.named(past))[scene.lea] == "Tom"
    await scene.desk.ask("grant", person=scene.lea, space=[new])
    assert await scene.named(new) == {scene.lea: "Léa M."}, "and nobody is asked, since she has said so herself"
    said = await scene.refused("grant", person=scene.tom, space=[new])
    assert f"{scene.tom}, “Tom”, a pupil" in said, "what is proposed is what this year's list has"


@attack(
    ROW,
    off={
        "sync_agent.portal.head.school.doubted_to_leave": _nothing_asked,
        "sync_agent.portal.head.school.doubted_to_let_in": _nothing_asked,
        "sync_agent.school.commands.ask_whether_meant": _nothing_asked,
        "protocol.replica.office.commands.ask_whether_meant": _nothing_asked,
    },
)
async def test_her_page_asks_before_it_writes_a_name_of_an_hour_in_her_name(scene: Scene) -> None:
    new, petit = await scene.next_class(), scene.at_work.person
    await scene.exchanged()
    await thief_lists(scene.here, petit, PersonRecord("Mme Roy", PersonRole.TEACHER))
    await scene.here.sync()
    old = scene.here.space.hex()
    async with portal(scene.head.agent) as surfer:
        answer = await surfer.send(f"/school/{old}", f"/school/{old}/leave", {"person": scene.lea})
        page = html.unescape(answer.text)
        assert "signer que cette personne est Tom (élève)" in page
        assert "Les listes disent aussi, ou ont dit : Léa." in page
        assert scene.lea in await scene.named(scene.here.space)
        who = {"who": f"person:{petit}"}
        page = html.unescape((await surfer.send(f"/school/{new}", f"/school/{new}/let-in", who)).text)
        assert "signer que cette personne est Mme Roy (enseignant)" in page
        assert not (await scene.head.agent.replica.view(bytes.fromhex(new))).roster.persons
        await surfer.send(f"/school/{new}", f"/school/{new}/let-in", who | {"renamed": "yes", "called": "Mme Roy"})
        left = {"person": scene.lea, "renamed": "yes", "called": "Tom"}
        await surfer.send(f"/school/{old}", f"/school/{old}/leave", left)
    assert (await scene.head.agent.replica.view(bytes.fromhex(new))).roster.persons[bytes.fromhex(petit)]
    assert scene.lea not in await scene.named(scene.here.space)


@attack(
    ROW,
    off={
        "sync_agent.portal.head.school._doubted": _once_asked,
        f"{MODULE}.name_shown": lambda _: "",
    },
)
async def test_her_computer_signs_the_name_that_she_was_shown_or_none(scene: Scene) -> None:
    new, petit = await scene.next_class(), scene.at_work.person
    await thief_lists(scene.here, petit, PersonRecord("Mme Petit-Roux", PersonRole.TEACHER))
    await scene.here.sync()
    async with portal(scene.head.agent) as surfer:
        place = f"/school/{new}"
        page = (await surfer.send(place, f"{place}/let-in", {"who": f"person:{petit}"})).text
        shown = dict(re.findall(r'type="hidden" name="(who|called)" value="([^"]*)"', page.split('id="h-doubted"')[1]))
        assert shown["called"] == "Mme Petit-Roux"
        scene.here.office.clock.advance(60_000)
        await thief_lists(scene.here, petit, PersonRecord("M. Roy", PersonRole.TEACHER))
        await scene.here.sync()
        again = html.unescape((await surfer.send(place, f"{place}/let-in", shown | {"renamed": "yes"})).text)
    assert "ce que cette page montrait a changé depuis" in again
    assert "signer que cette personne est M. Roy" in again
    assert not await scene.named(new)


@attack(ROW, off={f"{MODULE}.name_shown": lambda _: ""})
async def test_so_it_does_at_her_command_line(scene: Scene) -> None:
    new = await scene.next_class()
    await scene.exchanged()
    assert "“Tom”" in await scene.refused("grant", person=scene.lea, space=[new])
    said = await scene.refused("grant", person=scene.lea, space=[new], called="Léa")
    assert "“Tom”, not “Léa”. Look again" in said
    assert "“Tom”, not “Léa”" in await scene.refused(
        "ungrant", person=scene.lea, space=[scene.here.space.hex()], called="Léa"
    )
    assert not await scene.named(new)
    await scene.desk.ask("grant", person=scene.lea, space=[new], called="Tom")
    assert await scene.named(new) == {scene.lea: "Tom"}


@attack(ROW, off={f"{MODULE}._may_repeat": lambda *_, **__: True})
async def test_whom_a_copied_key_freezes_for_an_hour_no_head_freezes(scene: Scene) -> None:
    new, old = await scene.next_class(), scene.here.space.hex()
    await thief_lists(scene.here, scene.lea, PersonRecord("Léa", PersonRole.PUPIL, frozen=True))
    await scene.here.sync()
    assert "frozen" in await scene.refused("grant", person=scene.lea, space=[new])
    assert "frozen" in await scene.refused("person rename", person=scene.lea, name="Léa M.")
    await scene.desk.ask("ungrant", person=scene.lea, space=[old])
    assert any("not taken off" in line for line in scene.desk.told)
    await thief_lists(scene.here, scene.lea, PersonRecord("Léa", PersonRole.PUPIL))
    await scene.here.sync()
    await scene.desk.ask("grant", person=scene.lea, space=[new])
    await scene.desk.ask("ungrant", person=scene.lea, space=[old])
    assert await scene.named(new) == {scene.lea: "Léa"}
    assert scene.lea not in await scene.named(old)


@attack(ROW, off={f"{MODULE}._to_list": _whom_the_list_lacks})
async def test_whom_a_copied_key_lists_beforehand_a_head_lists_all_the_same(scene: Scene, tmp_path: Path) -> None:
    new = await scene.next_class()
    await scene.here.sync()
    await thief_lists(scene.here, scene.lea, PersonRecord("Léa", PersonRole.PUPIL), bytes.fromhex(new))
    await scene.here.sync()
    await scene.desk.ask("grant", person=scene.lea, space=[new])
    await scene.rotated(tmp_path / "server" / "kit")
    assert await scene.named(new) == {scene.lea: "Léa"}


@attack(ROW, off={f"{MODULE}._first_role": _as_shown_there})
async def test_who_is_called_a_teacher_for_an_hour_is_renamed_as_the_pupil_that_they_are(scene: Scene) -> None:
    await thief_lists(scene.here, scene.lea, PersonRecord("Tom", PersonRole.TEACHER))
    await scene.here.sync()
    await scene.desk.ask("person rename", person=scene.lea, name="Léa")
    assert (await scene.named(scene.here.space)).get(scene.lea) == "Léa"


@attack(ROW, off={f"{MODULE}.held_surely": _whoever_holds_it_back})
async def test_nor_is_she_a_teacher_by_the_servers_word_where_the_heads_that_listed_her_is_held_back(
    scene: Scene,
) -> None:
    added = await scene.desk.ask("person add", name="Lea", role="pupil", space=[scene.here.space.hex()])
    await scene.here.sync()
    await thief_holds_back(scene.here, scene.head)
    await thief_lists(scene.here, added["person"], PersonRecord("Lea", PersonRole.TEACHER))
    await scene.here.office.do("person rename", person=added["person"], name="Léa B.")
    roster = (await scene.here.office.server.replica.view(scene.here.space)).roster
    assert roster.persons[bytes.fromhex(added["person"])].role is PersonRole.PUPIL


@attack(ROW, off={"sync_server.operations.table.ask_whether_meant": _nothing_asked})
async def test_nor_does_the_server_take_a_name_of_an_hour_into_another_class(scene: Scene) -> None:
    office = scene.here.office
    new = (await office.do("space add", name="CM2", school=scene.school, year="2027-2028"))["space"]
    await office.do("person rename", person=scene.tom, name="Thomas")
    await office.do("grant", person=scene.tom, space=[new])  # what was corrected here is asked about nowhere
    await scene.exchanged()
    with pytest.raises(BadInput, match="otherwise as well"):
        await office.do("grant", person=scene.lea, space=[new])


@attack(ROW, off={"protocol.replica.office.list_commands.doubted_to_rename": _nothing_asked})
async def test_a_spelling_is_put_right_of_nobody_whose_name_was_anothers_unasked(scene: Scene) -> None:
    await scene.exchanged()
    said = await scene.refused("person rename", person=scene.lea, name="Tôm")
    assert "“Léa”" in said
    assert "--renamed-too" in said
    assert (await scene.named(scene.here.space))[scene.lea] == "Tom"
    await scene.desk.ask("person rename", person=scene.lea, name="Lea")
    assert (await scene.named(scene.here.space))[scene.lea] == "Lea", "what lists called her puts it right, unasked"
    await scene.desk.ask("person rename", person=scene.lea, name="Zoé")
    await scene.desk.ask("person rename", person=scene.tom, name="Léo", renamed_too=True)
    assert await scene.named(scene.here.space) == {scene.lea: "Zoé", scene.tom: "Léo"}


@attack(ROW, off={"sync_agent.portal.head.school.doubted_to_rename": _nothing_asked})
async def test_nor_on_a_heads_page_before_a_box_and_of_the_name_that_stood_there(scene: Scene) -> None:
    place, lea = f"/school/{scene.here.space.hex()}", scene.lea
    async with portal(scene.head.agent) as surfer:
        await surfer.page(place)
        await scene.exchanged()  # while she has the page
        answer = await surfer.send(place, f"{place}/name", {"person": lea, "name": "Léa M.", "was": "Léa"})
        assert "a changé depuis" in html.unescape(answer.text)
        spelt = {"person": lea, "name": "Tôm", "was": "Tom"}
        page = html.unescape((await surfer.send(place, f"{place}/name", spelt)).text)
        assert "Les listes disent aussi, ou ont dit : Léa." in page
        assert (await scene.named(scene.here.space))[lea] == "Tom"
        assert (await surfer.send(place, f"{place}/name", spelt | {"renamed": "yes"})).status == 303
    assert (await scene.named(scene.here.space))[lea] == "Tôm"
