"""A copied key makes a class of the honest one's name, for a head teacher to choose on « Mon école » (ADR 0533)."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.model.entry import Kind
from protocol.model.structure import PersonRecord, Revocation, SpaceChange, SpaceRecord
from protocol.replica.at_work.replica import Replica
from protocol.replica.at_work.space_names import changed_names
from protocol.replica.office.space_namesakes import NamedClass, spaces_ever_named
from protocol.replica.office.spaces import is_hidden
from protocol.roles import PersonRole
from sync_server.handlers.by_kit.territory import kit_in
from tests.attacks.test_names_of_an_hour import Stolen
from tests.attacks.test_whose_a_device_is_at_a_server import Thieving
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.kept_town import town_at_work
from tests.harness.portal import Surfer, portal
from tests.harness.year_at_work import Year

ROW = "a class on a page has the name of another"
MEANT = re.compile(r'name="class_meant" value="([0-9a-f]{32})"')


async def _none(*_: object) -> dict[bytes, object]:
    return {}


async def _shown_alone(replica: Replica) -> list[NamedClass]:
    """As if a class that is hidden for a moment had never been."""
    return [each for each in await spaces_ever_named(replica) if not await is_hidden(replica, each.id)]


def _nowhere(_: object) -> set[bytes]:
    """As if she had had a right nowhere but in what is shown."""
    return set()


async def _never(*_: object) -> bool:
    return False


NOT_TOLD: dict[str, object] = {"sync_agent.portal.head.school.told_of_names": _none}
NOT_ASKED: dict[str, object] = {"sync_agent.portal.head.school._is_asked": _never}


@pytest.fixture
async def stolen(tmp_path: Path) -> AsyncIterator[Stolen]:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        yield Stolen(Year(here, *at_work, tmp_path))


async def _false_class(stolen: Stolen, name: str = "CM2 B") -> bytes:
    """One of the thief's, with her pupils' and her own id; the honest one is called otherwise."""
    here, year = stolen.here, stolen.year
    false = await stolen.says(here.school, Kind.SPACE, SpaceRecord(name).encode())
    for person, record in (
        (year.person, PersonRecord("Mme Petit", PersonRole.TEACHER)),
        (year.pupil, PersonRecord("Léa", PersonRole.PUPIL)),
    ):
        await stolen.says(false, Kind.PERSON, record.encode(), bytes.fromhex(person))
    await stolen.says(here.space, Kind.SPACE_CHANGE, SpaceChange("CM1 C").encode())
    return false


async def _head(stolen: Stolen) -> Device:
    head = await stolen.here.head_of_the_school()
    await stolen.here.sync()
    return head


def _text(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html.unescape(page)))


async def _code(surfer: Surfer, space: bytes, **more: str) -> str:
    place = f"/school/{space.hex()}"
    return (await surfer.send(place, f"{place}/code", {"person": "", "uses": "28", **more})).text


@pytest.mark.parametrize("name", ["CM2 B", "cm2b"])
@attack(ROW, off=NOT_TOLD)
async def test_which_class_of_this_name_was_here_first_and_by_whose_word_stands_on_the_heads_pages(
    stolen: Stolen, name: str
) -> None:
    head = await _head(stolen)
    false = await _false_class(stolen, name)
    async with portal(head.agent) as surfer:
        for page in ("/school", f"/school/{false.hex()}"):
            shown = _text(await surfer.page(page))
            assert f"Une autre s'appelle, ou s'est appelée, {name}." in shown
            assert re.search(r"Celle-ci · faite [^·]*, par le serveur", shown)
            assert re.search(r"L'autre : CM1 C · connue ici en premier · .* autre nom ici, auparavant : CM2 B", shown)


@attack(ROW, off=NOT_ASKED)
async def test_a_heads_page_makes_no_code_for_a_class_of_anothers_name_before_she_says_that_it_is_meant(
    stolen: Stolen,
) -> None:
    head = await _head(stolen)
    async with portal(head.agent) as surfer:
        assert 'class="proof-code"' in await _code(surfer, stolen.here.space), "there is one CM2 B"
        false = await _false_class(stolen)  # while she has the page
        answer = await _code(surfer, false)
        assert 'class="proof-code"' not in answer
        assert "une autre classe a, ou avait, ce nom" in answer
        seen = MEANT.findall(answer)[0]
        assert 'class="proof-code"' in await _code(surfer, false, class_meant=seen)
        await stolen.says(false, Kind.SPACE_CHANGE, SpaceChange("CM2-B").encode())
        assert 'class="proof-code"' not in await _code(surfer, false, class_meant=seen), "it is told otherwise by now"


@attack(ROW, off=NOT_ASKED)
async def test_nor_lets_it_a_computer_in_there(stolen: Stolen) -> None:
    head, false = await _head(stolen), await _false_class(stolen)
    pc, place = stolen.year.machine.agent.device, f"/school/{false.hex()}"
    async with portal(head.agent) as surfer:
        answer = await surfer.send(place, f"{place}/let-in", {"who": f"device:{pc.hex()}"})
        assert answer.status == 200
        door = head.agent.replica.door
        assert pc not in {each.key for each in door.authorities_in(false)}
        meant = {"who": f"device:{pc.hex()}", "class_meant": MEANT.findall(answer.text)[0]}
        assert (await surfer.send(place, f"{place}/let-in", meant)).status == 303
        assert pc in {each.key for each in door.authorities_in(false)}


@attack(ROW, off=NOT_ASKED)
async def test_nor_is_it_called_otherwise_there(stolen: Stolen) -> None:
    head, false = await _head(stolen), await _false_class(stolen)
    place = f"/school/{false.hex()}"
    async with portal(head.agent) as surfer:
        answer = await surfer.send(place, f"{place}/rename", {"name": "CM2-B"})
        assert answer.status == 200
        assert (await changed_names(head.agent.replica)).get(false) is None
        meant = {"name": "CM2 D", "class_meant": MEANT.findall(answer.text)[0]}
        assert (await surfer.send(place, f"{place}/rename", meant)).status == 303


@attack(ROW, off={"sync_agent.portal.teacher.teaching.told_of_names": _none})
async def test_where_a_teacher_publishes_two_classes_of_one_name_are_told_apart(stolen: Stolen) -> None:
    false, laptop = await _false_class(stolen), stolen.year.teacher
    right = Thieving(stolen.year).let_in(laptop.agent.keys)
    await stolen.says(false, Kind.GRANT, right)
    await stolen.here.sync()
    async with portal(laptop.agent) as surfer:
        shown = _text(await surfer.page("/publish"))
    assert "Celle-ci · faite" in shown
    assert "L'autre : CM1 C · connue ici en premier" in shown


@attack(ROW, off={"protocol.replica.office.space_namesakes.spaces_ever_named": _shown_alone})
async def test_nor_makes_it_a_code_or_lets_anybody_in_while_the_key_hides_the_class_that_had_the_name(
    stolen: Stolen,
) -> None:
    head = await _head(stolen)
    await stolen.erases(stolen.here.space)
    false = await _false_class(stolen)
    pc, place = stolen.year.machine.agent.device, f"/school/{false.hex()}"
    async with portal(head.agent) as surfer:
        answer = await _code(surfer, false)
        assert 'class="proof-code"' not in answer
        assert "connue ici en premier" in _text(answer)
        assert "cachée en ce moment" in _text(answer)
        assert (await surfer.send(place, f"{place}/let-in", {"who": f"device:{pc.hex()}"})).status == 200
        assert pc not in {each.key for each in head.agent.replica.door.authorities_in(false)}


@attack(ROW, off={"sync_agent.portal.teacher.teaching.Teaching._ever_hers": _nowhere})
async def test_where_a_teacher_publishes_the_class_is_told_too_in_which_her_right_is_away(stolen: Stolen) -> None:
    false, laptop = await _false_class(stolen), stolen.year.teacher
    right = Thieving(stolen.year).let_in(laptop.agent.keys)
    await stolen.says(false, Kind.GRANT, right)
    door, device = laptop.agent.replica.door, laptop.agent.device
    hers = next(each.grant for each in door.authorities_of(device) if each.space == stolen.here.space)
    await stolen.says(stolen.here.space, Kind.REVOKE, Revocation(device, ()).encode(), target=hers)
    await stolen.here.sync()
    async with portal(laptop.agent) as surfer:
        shown = _text(await surfer.page("/publish"))
    assert re.search(r"Classe ou groupe (CM2 B )?Est-ce bien", shown), "there is one that she may choose"
    assert "L'autre : CM1 C · connue ici en premier" in shown


@attack(ROW, off={"protocol.replica.office.made_classes.spaces_ever_named": _shown_alone})
async def test_of_a_class_that_is_hidden_the_name_is_told_to_who_makes_another_of_it(stolen: Stolen) -> None:
    head = await _head(stolen)
    await stolen.erases(stolen.here.space)
    desk = Desk(head.agent)
    await desk.ask("space add", name="CM2 B", year="none")
    assert any(f"has a class “CM2 B” already ({stolen.here.space.hex()})" in line for line in desk.told)


async def test_a_class_that_the_kit_has_closed_has_given_its_name_to_the_next_one(
    stolen: Stolen, tmp_path: Path
) -> None:
    head, here = await _head(stolen), stolen.here
    kit = kit_in(tmp_path / "server" / "kit", None)
    await here.office.with_kit("space close", kit, space=here.space.hex(), unheard_too=True)
    made = await stolen.says(here.school, Kind.SPACE, SpaceRecord("CM2 B").encode())
    async with portal(head.agent) as surfer:
        assert "Une autre s'appelle" not in _text(await surfer.page(f"/school/{made.hex()}"))
        assert 'class="proof-code"' in await _code(surfer, made)


async def test_of_a_class_that_she_has_named_herself_nothing_is_asked(stolen: Stolen) -> None:
    head = await _head(stolen)
    made = bytes.fromhex((await Desk(head.agent).ask("space add", name="CE1", year="2026-2027"))["space"])
    await stolen.here.sync()
    await stolen.says(stolen.here.school, Kind.SPACE, SpaceRecord("CE1").encode())
    async with portal(head.agent) as surfer:
        assert "Une autre s'appelle" in _text(await surfer.page(f"/school/{made.hex()}"))
        assert 'class="proof-code"' in await _code(surfer, made)


async def test_the_class_of_last_year_has_given_its_name_to_the_next_one(stolen: Stolen) -> None:
    head = await _head(stolen)
    await stolen.says(stolen.here.school, Kind.SPACE, SpaceRecord("CE1", None, "2020-2021").encode())
    made = await stolen.says(stolen.here.school, Kind.SPACE, SpaceRecord("CE1", None, "2026-2027").encode())
    async with portal(head.agent) as surfer:
        assert "Une autre s'appelle" not in _text(await surfer.page(f"/school/{made.hex()}"))
        assert 'class="proof-code"' in await _code(surfer, made)
