"""Who is let in, or has work opened to them, by a name that a copied key has exchanged (docs/attacks.md)."""

from __future__ import annotations

import html
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import BadInput, Code
from protocol.model.entry import Kind
from protocol.model.structure import PersonRecord
from protocol.rights.vouching import device_words
from protocol.roles import PersonRole
from sync_agent.keys.confirming import own_device
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.copied_keys import thief_lists
from tests.harness.office_devices import AtWork, Town, town
from tests.harness.portal import portal

ROW = "two teachers' names are exchanged, and one of them is let in"


async def _nothing_asked(*_: object, **__: object) -> None:
    """Who has the name that the list shows is who is meant."""


@dataclass
class Scene:
    """Mme Petit, with a laptop, and M. Roy teach a class, which the head's computer has on her page too."""

    here: Town
    at_work: AtWork
    head: Device
    roy: str
    folder: Path

    @property
    def wanted(self) -> dict[str, Any]:
        """A code for M. Roy's laptop."""
        return {"role": "teacher", "space": [self.here.office.space], "person": self.roy, "uses": 1, "ttl": "24h"}

    async def exchanged(self) -> None:
        """By two words of a copied key, which everybody has heard."""
        await thief_lists(self.here, self.roy, PersonRecord("Mme Petit", PersonRole.TEACHER))
        await thief_lists(self.here, self.at_work.person, PersonRecord("M. Roy", PersonRole.TEACHER))
        await self.here.sync()

    async def ask(self, office: str, name: str, /, **params: Any) -> Any:
        """A command of the server's, or of the head's computer's."""
        return await (self.here.office.do if office == "server" else Desk(self.head.agent).ask)(name, **params)

    async def refused(self, office: str, name: str, /, **params: Any) -> str:
        """Such a command is not done, and asks first; what it says."""
        with pytest.raises(BadInput) as fault:
            await self.ask(office, name, **params)
        assert fault.value.code is Code.NOT_YET
        return str(fault.value)

    async def codes(self) -> int:
        """How many codes there are."""
        await self.here.sync()
        return len(await self.here.office.server.store.scan_kinds([Kind.INVITE]))


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with town(tmp_path) as here:
        at_work = await here.class_in_step()
        roy, head = await here.office.add_person("M. Roy", "teacher"), await here.head_of_the_school()
        await here.sync()
        yield Scene(here, at_work, head, roy, tmp_path)


@pytest.mark.parametrize("office", ["server", "head"])
@attack(ROW, off={"protocol.replica.office.commands.ask_who_is_let_in": _nothing_asked})
async def test_no_code_is_made_for_whom_a_copied_key_calls_otherwise_before_their_id_is_meant(
    scene: Scene, office: str
) -> None:
    await scene.ask(office, "invite", **scene.wanted)
    await scene.exchanged()
    before = await scene.codes()
    said = await scene.refused(office, "invite", **scene.wanted)
    assert f"no code has been made yet, since lists have, or had, {scene.roy}, “Mme Petit”, a teacher" in said
    assert "otherwise as well: “M. Roy”. --renamed-too" in said
    assert await scene.codes() == before
    await scene.ask(office, "invite", **scene.wanted, renamed_too=True)
    assert await scene.codes() == before + 1


@attack(ROW, off={"sync_agent.portal.head.school.doubted_to_let_in": _nothing_asked})
async def test_nor_on_a_heads_page_before_a_box_that_has_both_names(scene: Scene) -> None:
    await scene.exchanged()
    place, before = f"/school/{scene.here.office.space}", await scene.codes()
    wanted = {"person": scene.roy, "for": "15d", "uses": "1"}
    async with portal(scene.head.agent) as surfer:
        page = html.unescape((await surfer.send(place, f"{place}/code", wanted)).text)
        assert "Ce code fera entrer un ordinateur au nom de Mme Petit (enseignant)." in page
        assert "Les listes disent aussi, ou ont dit : M. Roy." in page
        assert 'name="for" value="15d"' in page
        assert await scene.codes() == before
        meant = wanted | {"renamed": "yes", "called": "M. Roy"}
        again = html.unescape((await surfer.send(place, f"{place}/code", meant)).text)
        assert "ce que cette page montrait a changé depuis" in again
        assert await scene.codes() == before
        meant["called"] = "Mme Petit"
        assert "sync-agent enroll" in (await surfer.send(place, f"{place}/code", meant)).text
    assert await scene.codes() == before + 1


@pytest.mark.parametrize("office", ["server", "head"])
@attack(
    ROW,
    off={
        "sync_server.operations.table.doubted_to_let_in": _nothing_asked,
        "sync_agent.school.commands.doubted_to_let_in": _nothing_asked,
    },
)
async def test_nor_is_anybody_let_in_where_the_list_has_them_so(scene: Scene, office: str) -> None:
    await scene.exchanged()
    asked = {"person": scene.roy, "space": [scene.here.office.space]}
    said = await scene.refused(office, "grant", **asked)
    assert f"{scene.roy}, “Mme Petit”, a teacher, otherwise as well: “M. Roy”" in said
    await scene.ask(office, "grant", **asked, called="Mme Petit")


@attack(ROW, off={"sync_server.operations.lifecycle.ask_who_is_let_in": _nothing_asked})
async def test_nor_does_the_kit_open_work_to_whom_a_copied_key_calls_otherwise(scene: Scene) -> None:
    here, kit = scene.here, kit_in(scene.folder / "server" / "kit", None)
    await here.work(scene.at_work.machine, scene.at_work.item, scene.at_work.pupil)
    laptop = await here.device("teacher", scene.roy)
    for _ in range(2):
        await here.sync()
    await scene.exchanged()
    words = device_words(own_device(laptop.agent))
    asked: dict[str, Any] = {"person": scene.roy, "words": words, "space": [here.office.space]}
    with pytest.raises(BadInput, match="nothing has been opened yet") as fault:
        await here.office.with_kit("rewrap", kit, **asked)
    assert fault.value.code is Code.NOT_YET
    assert "“Mme Petit”, a teacher, otherwise as well: “M. Roy”. --renamed-too" in str(fault.value)
    assert (await here.office.with_kit("rewrap", kit, **asked, renamed_too=True))["hand_ins"] == 1


@pytest.mark.parametrize("office", ["server", "head"])
async def test_nobody_is_asked_about_whom_this_very_office_has_called_otherwise(scene: Scene, office: str) -> None:
    await scene.ask(office, "person rename", person=scene.roy, name="M. Roy-Blanc")
    await scene.here.sync()
    await scene.ask(office, "invite", **scene.wanted)
    await scene.ask(office, "grant", person=scene.roy, space=[scene.here.office.space])


@pytest.mark.parametrize("office", ["server", "head"])
async def test_a_name_that_stands_is_this_offices_own_once_it_has_said_it(scene: Scene, office: str) -> None:
    await thief_lists(scene.here, scene.roy, PersonRecord("M. Roy-Blanc", PersonRole.TEACHER))
    await scene.here.sync()
    await scene.refused(office, "invite", **scene.wanted)
    await scene.ask(office, "person rename", person=scene.roy, name="M. Roy-Blanc", renamed_too=True)
    await scene.ask(office, "invite", **scene.wanted)
