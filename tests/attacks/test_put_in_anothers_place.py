"""A copied key takes Léa off the list, and lists another id by her name: what goes by it is asked about (ADR 0530)."""

from __future__ import annotations

import html
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import BadInput, Code
from protocol.model.entry import Kind
from protocol.model.structure import PersonRecord
from protocol.replica.office import erasures
from protocol.replica.office.people import mentions
from protocol.roles import PersonRole
from sync_server.handlers.by_kit.territory import kit_in
from sync_server.kit.desk import KitDesk
from sync_server.kit.errands import errand_of
from tests.attacks.test_whose_a_device_is_at_a_server import Thieving
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk, Received
from tests.harness.copied_keys import thief_hides, thief_lists
from tests.harness.kept_town import town_at_work
from tests.harness.portal import portal
from tests.harness.year_at_work import Year

ROW = "a child is taken off a list, and another is put in their place"
ASKED = "had another by that name, and has them so no more"
LISTED_AS_ONE = (
    "others are listed as the same person, and nobody has been forgotten yet|lists call others the same as who is named"
)
LEA = PersonRecord("Léa", PersonRole.PUPIL)
LEFT = PersonRecord("Léa", PersonRole.PUPIL, left=True)


async def _nobody(*_: object, **__: object) -> list[Any]:
    """As if who was always called so had nobody's place."""
    return []


AS_LISTED: dict[str, object] = {"protocol.replica.office.replaced.replaced_of": _nobody}


@dataclass
class Scene:
    """A class with a work of Léa's; somebody has a copy of its server's key."""

    year: Year
    head: Device
    other: str
    """The id that is put in her place."""

    @property
    def lea(self) -> str:
        return self.year.pupil

    @property
    def place(self) -> str:
        return f"/school/{self.year.here.space.hex()}"

    async def says(self, person: str, said: PersonRecord, space: bytes | None = None) -> None:
        """One word of the copied key, which all hear of."""
        await thief_lists(self.year.here, person, said, space)
        await self.agree()

    async def agree(self) -> None:
        for _ in range(2):
            await self.year.here.sync()

    async def forgotten(self, device: Device | None = None) -> set[str]:
        """Whom somebody has ordered to be forgotten, as the server, or a device, knows it."""
        replica = self.year.here.office.server.replica if device is None else device.agent.replica
        return {covers.hex() for _, covers in await erasures.ever_said(replica)}

    async def archive(self, *, by_kit: bool, **params: Any) -> Received:
        """The archive of whoever is called Léa by now, at the server with its kit, or at the teacher's laptop."""
        out, office, asked = Received(), self.year.here.office, {"person": self.other, **params}
        if by_kit:
            asked |= await office.named_for("export-person", asked)
            kit = kit_in(self.year.folder / "server" / "kit", None)
            desk = KitDesk(errand_of("export-person", kit, asked, None, bytes), out, office.clock)
            await office.table["export-person"]({**asked, "kit": desk.keys}, desk, desk)
        else:
            laptop = Desk(self.year.teacher.agent)
            out.files = await laptop.files("export-person", **asked)
        return out


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        year = Year(here, *at_work, tmp_path)
        head = await here.head_of_the_school()
        await year.work()
        yield Scene(year, head, os.urandom(16).hex())


@pytest.fixture
async def replaced(scene: Scene) -> Scene:
    """By two words: each list has one Léa, as it had before."""
    await scene.says(scene.lea, LEFT)
    await scene.says(scene.other, LEA)
    return scene


@pytest.mark.parametrize("by_kit", [True, False])
@attack(ROW, off=AS_LISTED)
async def test_nobody_is_forgotten_at_the_server_in_anothers_place(replaced: Scene, *, by_kit: bool) -> None:
    erase, said = replaced.year.with_kit if by_kit else replaced.year.do, replaced.year.here.office.said
    with pytest.raises(BadInput, match=f"nobody has been forgotten yet, since a list {ASKED}") as refused:
        await erase("erase", person=[replaced.other])
    assert refused.value.code is Code.NOT_YET
    if not by_kit:
        (told,) = [line for line in said.lines if line.startswith("warning: ")]
        assert replaced.lea in told
        assert "has them no more, by a server's key, by no command that this server has noted" in told
        assert "1 in “CM2 B”" in told
        assert any("`grant --person ID --space ID` lists them again" in line for line in said.lines)
    assert not await replaced.forgotten()
    await erase("erase", person=[replaced.other, replaced.lea])
    assert await replaced.forgotten() == {replaced.other, replaced.lea}


@attack(ROW, off=AS_LISTED)
async def test_nobody_is_forgotten_at_a_heads_command_line_in_anothers_place(replaced: Scene) -> None:
    desk = Desk(replaced.head.agent)
    with pytest.raises(BadInput, match=ASKED):
        await desk.ask("erase", person=[replaced.other])
    assert any(replaced.lea in line and "has them no more, by the server" in line for line in desk.told)
    assert not await replaced.forgotten(replaced.head)
    await desk.ask("erase", person=[replaced.other], renamed_too=True)
    assert await replaced.forgotten(replaced.head) == {replaced.other}


@attack(ROW, off={"sync_agent.portal.head.gone.replaced_of": _nobody})
async def test_a_head_who_forgets_a_pupil_on_her_page_reads_who_had_that_place(replaced: Scene) -> None:
    async with portal(replaced.head.agent) as surfer:
        answer = {"person": replaced.other, "meant": "yes"}
        page = html.unescape((await surfer.send(replaced.place, f"{replaced.place}/erase", answer)).text)
        assert "Quelqu'un d'autre s'appelait aussi Léa sur une même liste, et n'y est plus ainsi." in page
        assert "N'est plus sur la liste de CM2 B depuis " in page
        assert ", selon le serveur.<br>CM2 B · 1 travail rendu" in page
        assert 'name="renamed"' in page
        assert "j'efface la personne de cette page, et qui est coché ci-dessus" in page
        assert f'name="also-{replaced.lea}"' in page
        both = answer | {"asked": "yes", "renamed": "yes", f"also-{replaced.lea}": "yes"}
        await surfer.send(replaced.place, f"{replaced.place}/erase", both)
    assert await replaced.forgotten(replaced.head) == {replaced.other, replaced.lea}


@attack(ROW, off=AS_LISTED)
async def test_nor_is_one_forgotten_there_unless_she_ticks_that(replaced: Scene) -> None:
    answer = {"person": replaced.other, "meant": "yes", "asked": "yes"}
    async with portal(replaced.head.agent) as surfer:
        assert (await surfer.send(replaced.place, f"{replaced.place}/erase", answer)).status != 303
        assert not await replaced.forgotten(replaced.head)
        await surfer.send(replaced.place, f"{replaced.place}/erase", answer | {"renamed": "yes"})
    assert await replaced.forgotten(replaced.head) == {replaced.other}


@pytest.mark.parametrize("by_kit", [True, False])
@attack(ROW, off=AS_LISTED)
async def test_no_archive_is_made_of_who_is_in_anothers_place(replaced: Scene, *, by_kit: bool) -> None:
    with pytest.raises(BadInput, match=f"nothing has been written yet, since a list {ASKED}"):
        await replaced.archive(by_kit=by_kit)
    assert "index.html" in (await replaced.archive(by_kit=by_kit, renamed_too=True)).files


@attack(ROW, off=AS_LISTED)
async def test_no_portfolio_is_made_of_who_is_in_anothers_place(replaced: Scene) -> None:
    desk, asked = Desk(replaced.year.teacher.agent), {"space": replaced.year.here.space.hex()}
    with pytest.raises(BadInput, match=f"nothing has been written yet, since a list {ASKED}"):
        await desk.files("portfolio", **asked, person=replaced.other, as_it_is_here=True)
    await desk.files("portfolio", **asked, person=replaced.other, as_it_is_here=True, renamed_too=True)


@attack(ROW, off={"sync_agent.hand_ins.year_end.replaced_of": _nobody})
async def test_nor_is_one_among_those_of_the_class(replaced: Scene) -> None:
    here, since = replaced.year.here, replaced.other
    await here.work(replaced.year.machine, replaced.year.item, since)
    await replaced.agree()
    desk = Desk(replaced.year.teacher.agent)
    files = await desk.files("portfolio", space=here.space.hex(), as_it_is_here=True)
    assert {name.partition("/")[0] for name in files} == {f"Léa (plus sur la liste) ({replaced.lea[:8]})"}
    (line,) = [line for line in desk.told if line.startswith("not written: ")]
    assert since in line
    assert replaced.lea in line


@pytest.mark.parametrize("order", ["person freeze", "person retire"])
@attack(ROW, off=AS_LISTED)
async def test_nobody_is_frozen_or_taken_off_in_anothers_place(replaced: Scene, order: str) -> None:
    with pytest.raises(BadInput, match=f"yet, since a list {ASKED}"):
        await replaced.year.do(order, person=replaced.other)
    replica = replaced.year.here.office.server.replica
    assert bytes.fromhex(replaced.other) in (await replica.view(replaced.year.here.space)).roster.persons
    await replaced.year.do(order, person=replaced.other, renamed_too=True)
    assert bytes.fromhex(replaced.other) not in (await replica.view(replaced.year.here.space)).roster.persons


@attack(ROW, off={"sync_agent.school.whose_sign_in.replaced_of": _nobody})
async def test_no_card_is_printed_for_who_is_in_anothers_place_before_her_teacher_ticks_that(replaced: Scene) -> None:
    page = f"/sign-ins/{replaced.year.here.space.hex()}"
    async with portal(replaced.year.teacher.agent) as surfer:
        assert "Quelqu'un d'autre s'appelait aussi Léa sur cette liste" in html.unescape(await surfer.page(page))
        for asked in ({"person": replaced.other}, {}):
            assert "sign-card" not in (await surfer.send(page, f"{page}/draw", asked)).text
        meant = {"person": replaced.other, "meant": '["Léa", "Léa"]'}
        assert "sign-card" in (await surfer.send(page, f"{page}/draw", meant)).text


@attack(ROW, off=AS_LISTED)
async def test_nor_is_any_secret_set_at_the_command_line(replaced: Scene) -> None:
    desk = Desk(replaced.year.teacher.agent)
    asked = {"space": replaced.year.here.space.hex(), "person": replaced.other, "method": "pictures", "secret": None}
    with pytest.raises(BadInput, match=f"nothing has been given to sign in with yet, since a list {ASKED}"):
        await desk.ask("sign-in-set", **asked)


# --- each way to have her gone ----------------------------------------------------------------------------------------


async def _taken_off_as_the_same_and_kept_elsewhere(scene: Scene) -> None:
    """By a school of the key's own, in which no machine of ours is: to these, all lists have them as one."""
    made = await scene.year.do("space add", name="Z", school="0180009M", year="2026-2027")
    await scene.says(scene.lea, PersonRecord("Léa", PersonRole.PUPIL, left=True, same_as=bytes.fromhex(scene.other)))
    await scene.says(scene.lea, LEA, bytes.fromhex(made["space"]))


async def _taken_off_as_the_same(scene: Scene) -> None:
    await scene.says(scene.lea, PersonRecord("Léa", PersonRole.PUPIL, left=True, same_as=bytes.fromhex(scene.other)))


async def _kept_by_the_school(scene: Scene) -> None:
    await scene.says(scene.lea, LEFT)
    await scene.says(scene.lea, LEA, scene.year.here.school)


async def _hidden(scene: Scene) -> None:
    await thief_hides(scene.year.here, bytes.fromhex(scene.lea))


async def _frozen(scene: Scene) -> None:
    await scene.says(scene.lea, PersonRecord("Léa", PersonRole.PUPIL, frozen=True))


async def _called_like_a_classmate(scene: Scene) -> None:
    """Who was taken off in her turn: the list has the names that it had."""
    tom = await scene.year.here.office.add_person("Tom", "pupil")
    await scene.agree()
    await scene.says(tom, PersonRecord("Tom", PersonRole.PUPIL, left=True))
    await scene.says(scene.lea, PersonRecord("Tom", PersonRole.PUPIL))


async def _made_a_parent(scene: Scene) -> None:
    await scene.says(scene.lea, PersonRecord("Léa", PersonRole.GUARDIAN))


@pytest.mark.parametrize(
    "is_gone",
    [
        _taken_off_as_the_same,
        _taken_off_as_the_same_and_kept_elsewhere,
        _kept_by_the_school,
        _hidden,
        _frozen,
        _called_like_a_classmate,
        _made_a_parent,
    ],
)
@pytest.mark.parametrize("name", ["Léa", "Léa Martin"])
@attack(ROW, off=AS_LISTED)
async def test_however_the_list_has_lost_her(scene: Scene, is_gone: Callable[[Scene], Any], name: str) -> None:
    await is_gone(scene)
    await scene.says(scene.other, PersonRecord(name, PersonRole.PUPIL))
    with pytest.raises(BadInput, match=f"{ASKED}: “Léa”, {scene.lea}"):
        await scene.year.do("person freeze", person=scene.other)
    for do, whom in ((Desk(scene.head.agent).ask, scene.head), (scene.year.do, None)):
        before = await scene.forgotten(whom)
        with pytest.raises(BadInput, match=f"{ASKED}: “Léa”, {scene.lea}|{LISTED_AS_ONE}"):
            await do("erase", person=[scene.other])
        assert await scene.forgotten(whom) == before


@attack(ROW, off=AS_LISTED)
async def test_a_child_of_another_class_is_not_forgotten_for_a_namesake_whose_place_she_was_put_in(
    scene: Scene,
) -> None:
    cm1 = (await scene.year.do("space add", name="CM1", school="0180001D", year="2026-2027"))["space"]
    other = (await scene.year.do("person add", name="Léa", role="pupil", space=[cm1]))["person"]
    await scene.says(scene.lea, LEFT)
    await scene.says(other, LEA)
    with pytest.raises(BadInput, match=ASKED):
        await scene.year.do("erase", person=[other])
    assert not await scene.forgotten()


@attack(ROW, off=AS_LISTED)
async def test_nor_a_child_of_the_class_once_her_namesake_was_taken_off_and_the_numbers_are_gone(scene: Scene) -> None:
    second = await scene.year.here.office.add_person("Léa", "pupil")
    await scene.agree()
    await scene.says(scene.lea, LEFT)
    with pytest.raises(BadInput, match=ASKED):
        await scene.year.do("erase", person=[second])
    assert not await scene.forgotten()


# --- beside the list --------------------------------------------------------------------------------------------------


@attack(ROW, off={"sync_agent.portal.head.gone.off_in_doubt": _nobody})
async def test_a_heads_page_of_the_class_has_whom_its_list_lost_and_puts_them_back(replaced: Scene) -> None:
    async with portal(replaced.head.agent) as surfer:
        shown = html.unescape(await surfer.page(replaced.place))
        assert "Ne sont plus sur la liste</h2>" in shown
        assert "N'est plus sur la liste de CM2 B depuis " in shown
        back = await surfer.send(replaced.place, f"{replaced.place}/let-in", {"who": f"person:{replaced.lea}"})
        assert back.status == 303
        assert "Ne sont plus sur la liste</h2>" not in html.unescape(await surfer.page(replaced.place))
    await replaced.agree()
    rows = await replaced.year.do("person list", space=replaced.year.here.space.hex())
    assert {row["called"]: row["person"] for row in rows if row["role"] == "pupil"} == {
        "Léa (1)": replaced.lea,
        "Léa (2)": replaced.other,
    }


# --- who is not asked about -------------------------------------------------------------------------------------------


async def test_once_a_head_says_on_her_page_that_who_was_lost_has_left_nothing_is_asked_there_or_at_the_server(
    replaced: Scene,
) -> None:
    async with portal(replaced.head.agent) as surfer:
        left = await surfer.send(replaced.place, f"{replaced.place}/leave", {"person": replaced.lea})
        assert left.status == 303
        assert "Ne sont plus sur la liste</h2>" not in html.unescape(await surfer.page(replaced.place))
    await replaced.agree()
    await replaced.year.do("erase", person=[replaced.other])
    assert await replaced.forgotten() == {replaced.other}


async def test_nor_is_it_on_the_heads_computer_before_pictures_an_archive_or_a_portfolio_but_on_a_teachers_it_is(
    replaced: Scene,
) -> None:
    desk, teachers = Desk(replaced.head.agent), Desk(replaced.year.teacher.agent)
    space = replaced.year.here.space.hex()
    page, place = f"/sign-ins/{space}", {"space": space, "person": replaced.other}
    pictures = {**place, "method": "pictures", "secret": None}
    with pytest.raises(BadInput, match=ASKED):
        await desk.ask("sign-in-set", **pictures)
    await desk.ask("ungrant", person=replaced.lea, space=[space])
    assert (await desk.ask("sign-in-set", **pictures))["secret"]
    assert "index.html" in await desk.files("export-person", person=replaced.other)
    await desk.files("portfolio", **place, as_it_is_here=True)
    async with portal(replaced.head.agent) as surfer:
        assert "Quelqu'un d'autre s'appelait aussi Léa" not in html.unescape(await surfer.page(page))
    await replaced.agree()
    with pytest.raises(BadInput, match=ASKED):
        await teachers.ask("sign-in-set", **pictures)


@pytest.mark.parametrize("order", ["person retire", "ungrant", "person rename"])
async def test_whom_this_server_has_taken_off_or_renamed_by_its_own_command_is_not_asked_about(
    scene: Scene, order: str
) -> None:
    second = await scene.year.here.office.add_person("Léa", "pupil")
    more: dict[str, Any] = {"ungrant": {"space": [scene.year.here.space.hex()]}, "person rename": {"name": "Emma"}}
    await scene.year.do(order, person=scene.lea, **more.get(order, {}))
    await scene.year.do("erase", person=[second])
    assert await scene.forgotten() == {second}


async def test_at_the_server_a_word_of_its_own_ends_the_question(replaced: Scene) -> None:
    listed = {"person": replaced.lea, "space": [replaced.year.here.space.hex()]}
    await replaced.year.do("ungrant", **listed)
    await replaced.year.do("erase", person=[replaced.other])
    assert await replaced.forgotten() == {replaced.other}


async def test_once_the_keys_are_replaced_both_ids_are_listed_and_made_one(scene: Scene) -> None:
    """What she handed in under the other id meanwhile is hers again."""
    thief, year = Thieving(scene.year), scene.year
    await thief.is_stolen()
    entries = (await mentions(year.here.office.server.replica, [bytes.fromhex(scene.lea)])).popitem()[1]
    line = [entry.id for entry in entries[year.here.space]]
    await thief.brings(Kind.PERSON, LEFT.encode(), subject=bytes.fromhex(scene.lea), parents=line)
    await thief.brings(Kind.PERSON, LEA.encode(), subject=bytes.fromhex(scene.other))
    await scene.agree()
    since = await year.here.work(year.machine, year.item, scene.other)
    await scene.agree()
    await thief.new_keys(since=True)
    (row,) = [row for row in await year.do("waiting") if row["person"] == scene.other and not row["leaves"]]
    await year.do("accept", named=[row["id"]])
    await scene.agree()
    both = {"person": scene.other, "into": scene.lea, "space": [year.here.space.hex()]}
    await Desk(scene.head.agent).ask("person merge", **both)
    await scene.agree()
    view = await year.teacher.agent.replica.view(year.here.space)
    named = view.roster.named(view.coursework.hand_ins[since].person)
    assert named is not None
    assert (named.id.hex(), named.name) == (scene.lea, "Léa")
