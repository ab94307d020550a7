"""Who is frozen (GDPR, article 18): kept, used by nobody, destroyed by nothing, and all as it was afterwards."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import BadInput, Code
from protocol.limits import ERASURE_DELAY_MS
from protocol.model.entry import Kind
from protocol.model.structure import PersonRecord, Revocation
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.further_words import merge_persons
from protocol.replica.office.people import list_draft, listings
from protocol.roles import PersonRole
from protocol.trust.kit import Kit
from sync_agent.school.office import SchoolOffice
from sync_agent.upkeep.erasing import destroy_erased
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.classroom import WORK, Given
from tests.harness.commands import Desk
from tests.harness.kept_town import town_at_work
from tests.harness.office_devices import AtWork, Town
from tests.harness.portal import portal
from tests.harness.server_in_process import Office


@dataclass
class Scene:
    """A class in step: Léa has handed in, and Mme Petit has answered; the server's kit lies beside."""

    here: Town
    at_work: AtWork
    kit: Kit
    teacher: Desk
    work: str = ""

    @property
    def office(self) -> Office:
        return self.here.office

    @property
    def pupil(self) -> str:
        return self.at_work.pupil

    async def agree(self) -> None:
        """Whatever one of them has said, all have heard."""
        for _ in range(2):
            await self.here.sync()

    async def freeze(self, command: str = "person freeze") -> Any:
        done = await self.office.do(command, person=self.pupil)
        await self.agree()
        return done

    async def works(self) -> list[str]:
        """What the teacher's computer shows of work handed in."""
        return [row["id"] for row in await self.teacher.ask("hand-ins")]

    async def listed(self) -> set[str]:
        return {row["name"] for row in await self.office.do("person list", space=self.office.space)}

    async def opens(self) -> bool:
        return await self.teacher.files("open-hand-in", id=self.work) == WORK


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with town_at_work(tmp_path, kept_for=__name__, in_step=True) as (here, at_work):
        kit = kit_in(tmp_path / "server" / "kit", None)
        made = Scene(here, at_work, kit, Desk(at_work.teacher.agent))
        made.work = (await here.work(at_work.machine, at_work.item, at_work.pupil)).hex()
        await made.agree()
        await made.teacher.files("open-hand-in", id=made.work)
        await made.teacher.ask("feedback", Given({}), id=made.work, text="Bravo Léa", mark=None, redo=False)
        await made.agree()
        yield made


async def refusal(scene: Scene, command: str, **params: Any) -> BadInput:
    with pytest.raises(BadInput) as caught:
        await scene.office.do(command, **params)
    return caught.value


async def test_who_is_frozen_is_on_no_list_and_their_work_is_shown_to_nobody(scene: Scene) -> None:
    assert (await scene.works(), await scene.listed()) == ([scene.work], {"Mme Petit", "Léa"})
    assert await scene.freeze() == {"person": scene.pupil, "lists": 1}
    assert (await scene.works(), await scene.listed()) == ([], {"Mme Petit"})
    with pytest.raises(BadInput):
        await scene.opens()
    async with portal(scene.at_work.teacher.agent) as surfer:
        for path in ("/", "/work", f"/item/{scene.at_work.item.hex()}"):
            assert "Léa" not in await surfer.page(path)
        assert (await surfer.get(f"/work/{scene.work}")).status == 404
    async with portal(scene.at_work.machine.agent) as surfer:
        assert "Léa" not in await surfer.page("/who")
    assert await scene.office.do("hand-ins", space=scene.office.space) == []


async def test_all_is_as_it_was_once_that_is_lifted(scene: Scene) -> None:
    before = {row["id"]: row for row in await scene.teacher.ask("hand-ins")}
    await scene.freeze()
    assert await scene.freeze("person unfreeze") == {"person": scene.pupil, "lists": 1}
    assert {row["id"]: row for row in await scene.teacher.ask("hand-ins")} == before
    assert await scene.listed() == {"Mme Petit", "Léa"}
    assert await scene.opens()
    async with portal(scene.at_work.teacher.agent) as surfer:
        assert "Bravo Léa" in await surfer.page(f"/work/{scene.work}")
    assert await scene.freeze("person unfreeze") == {"person": scene.pupil, "lists": 0}, "said once"


async def test_nothing_of_who_is_frozen_is_erased_before_that_is_lifted(scene: Scene) -> None:
    head = await scene.here.head_of_the_school()
    await scene.freeze()
    found = await refusal(scene, "erase", person=[scene.pupil])
    assert found.code is Code.NOT_YET
    assert "frozen" in found.message
    with pytest.raises(BadInput, match="frozen"):
        await scene.office.with_kit("erase", scene.kit, person=[scene.pupil])
    with pytest.raises(BadInput, match="frozen"):
        await Desk(head.agent).ask("erase", person=[scene.pupil])
    with pytest.raises(BadInput, match="frozen"):
        await scene.office.with_kit("space close", scene.kit, space=scene.office.space, unheard_too=True)
    assert await scene.office.do("erasures") == []
    scene.office.clock.advance(2 * ERASURE_DELAY_MS)
    await scene.here.sync()
    await scene.office.server.pace.look()
    for device in scene.here.devices:
        await destroy_erased(device.agent)
    await scene.freeze("person unfreeze")
    assert await scene.opens()
    await scene.office.do("erase", person=[scene.pupil])
    assert await scene.listed() == {"Mme Petit"}


async def test_a_word_about_who_is_frozen_does_not_lift_that(scene: Scene) -> None:
    await scene.freeze()
    await scene.office.do("person rename", person=scene.pupil, name="Léo")
    await scene.here.sync()
    assert (await scene.works(), await scene.listed()) == ([], {"Mme Petit"})
    await scene.office.do("person retire", person=scene.pupil)
    await scene.here.sync()
    assert await scene.works() == []
    status = await scene.office.do("status")
    assert [row["person"] for row in status["frozen_persons"]] == [scene.pupil]
    assert status["left_pupils"] == [], "nobody is told to erase them"
    await scene.freeze("person unfreeze")
    assert [row["person"] for row in (await scene.office.do("status"))["left_pupils"]] == [scene.pupil]
    (listed,) = (await listings(scene.office.server.replica, bytes.fromhex(scene.pupil))).values()
    assert (listed.name, listed.left) == ("Léo", True)


async def test_what_families_get_leaves_out_who_is_frozen_and_their_own_archive_has_it(scene: Scene) -> None:
    whole = await scene.teacher.files("portfolio", space=scene.office.space, person=None)
    assert any("Léa" in path for path in whole)
    await scene.freeze()
    space = scene.office.space
    with pytest.raises(BadInput, match="nothing has been written yet: 1 hand-in"):
        await scene.teacher.files("portfolio", space=space, person=None)
    assert await scene.teacher.files("portfolio", space=space, hidden_too=True, person=None) == {}
    assert any(scene.pupil in line and "frozen" in line for line in scene.teacher.told)
    with pytest.raises(BadInput, match="frozen"):
        await scene.teacher.files("portfolio", space=space, hidden_too=True, person=scene.pupil)
    archive = await scene.teacher.files("export-person", person=scene.pupil)
    assert any(path.startswith("travaux/") for path in archive), "who asks for it gets it, restriction or not"
    data = json.loads(archive["donnees.json"])
    assert {entry["hidden"] for entry in data["entries"] if entry["kind"] in {"hand-in", "feedback"}} == {True}
    assert any(row.get("frozen") for row in data["names"])


async def test_only_pupils_and_guardians_are_frozen_and_nobody_who_is_being_forgotten(scene: Scene) -> None:
    assert (await refusal(scene, "person freeze", person=scene.at_work.person)).code is Code.USAGE
    assert (await refusal(scene, "person freeze", person=bytes(16).hex())).code is Code.UNKNOWN_PERSON
    await scene.office.do("erase", person=[scene.pupil])
    await scene.here.sync()
    found = await refusal(scene, "person freeze", person=scene.pupil)
    assert found.code in {Code.NOT_YET, Code.UNKNOWN_PERSON}


async def test_the_trail_names_who_was_frozen_by_an_id(scene: Scene) -> None:
    await scene.freeze()
    lines = [row for row in await scene.office.do("audit") if row["what"] == "sync-server person freeze"]
    assert [row["about"] for row in lines] == [scene.pupil]


async def test_who_was_added_twice_is_frozen_under_both_ids(scene: Scene) -> None:
    twice = await scene.office.add_person("Léa M.", "pupil")
    await scene.agree()
    await scene.here.work(scene.at_work.machine, scene.at_work.item, twice)
    await merge_persons(scene.office.server, bytes.fromhex(twice), bytes.fromhex(scene.pupil))
    await scene.agree()
    before = await scene.works()
    assert len(before) == 2
    assert await scene.office.do("person freeze", person=scene.pupil) == {"person": scene.pupil, "lists": 2}
    await scene.agree()
    assert (await scene.works(), await scene.listed()) == ([], {"Mme Petit"})
    for person in (twice, scene.pupil):
        assert (await refusal(scene, "erase", person=[person], alone=True)).code is Code.NOT_YET
    await scene.freeze("person unfreeze")
    assert await scene.works() == before
    assert await scene.listed() == {"Mme Petit", "Léa"}, "and they are one as before"


@pytest.mark.parametrize(("language", "words"), [("fr", "1 dossier d&#39;élève gelé"), ("en", "1 pupil frozen")])
async def test_the_head_teacher_reads_that_somebody_is_frozen_and_no_name(
    scene: Scene, language: str, words: str
) -> None:
    head = await scene.here.head_of_the_school()
    async with portal(head.agent) as surfer:
        assert words not in (await surfer.page(f"/school?lang={language}")).replace("\N{NO-BREAK SPACE}", " ")
        await scene.freeze()
        page = (await surfer.page("/school")).replace("\N{NO-BREAK SPACE}", " ")
    assert words in page
    assert "Léa" not in page


async def test_a_freeze_that_a_stolen_key_said_ends_with_it(scene: Scene) -> None:
    admin = await scene.here.device("admin", None, scene.office.server.replica.territory.hex())
    said = PersonRecord("Léa", PersonRole.PUPIL, frozen=True)
    (listed,) = (await listings(scene.office.server.replica, bytes.fromhex(scene.pupil))).values()
    draft = list_draft(bytes.fromhex(scene.pupil), said, scene.here.space, listed.line)
    await (await SchoolOffice.of(admin.agent)).say([draft])
    await scene.agree()
    assert await scene.works() == []
    territory, cut = scene.office.server.replica.territory, Revocation(admin.agent.device, ())
    await scene.office.server.say([Draft(territory, Kind.REVOKE, None, cut.encode())])
    await scene.here.sync(scene.at_work.teacher)
    assert await scene.works() == [scene.work]


async def test_a_teachers_archive_has_nothing_of_who_is_frozen(scene: Scene) -> None:
    teacher = scene.at_work.person
    assert b"Bravo" in b"".join((await scene.teacher.files("export-person", person=teacher)).values())
    await scene.freeze()
    assert b"Bravo" not in b"".join((await scene.teacher.files("export-person", person=teacher)).values())


async def test_work_that_came_while_its_pupil_was_frozen_gets_its_receipt_once_that_is_lifted(scene: Scene) -> None:
    late = (await scene.here.work(scene.at_work.machine, scene.at_work.item, scene.pupil)).hex()
    await scene.freeze()
    await scene.freeze("person unfreeze")
    state = {row["id"]: row["state"] for row in await scene.teacher.ask("hand-ins")}
    assert state[late] in {"server", "teacher"}
