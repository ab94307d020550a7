"""Cards and codes under names that a copied key has exchanged: whose they are is asked about (docs/adr/0528)."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput, Code
from protocol.folds.sign_in import Method
from protocol.model.entry import Kind, compose
from protocol.model.structure import PersonRecord, Revocation
from protocol.roles import PersonRole, Role
from sync_agent.school.sign_in import tend_sign_in
from tests.harness.attack import attack
from tests.harness.classroom import classroom
from tests.harness.commands import Desk
from tests.harness.portal import portal
from tests.harness.sign_in import SignedClass, signed_class
from tests.harness.territory import new_device

ROW = "two pupils' names are exchanged, and their teacher gives them new pictures"
ON_THE_PAGE = "sync_agent.portal.teacher.sign_ins.asked_about"


async def _nobody(*_: object) -> Mapping[bytes, list[str]]:
    """Who has a name by now always had it."""
    return {}


async def _nothing_asked(*_: object, **__: object) -> None:
    """Who goes by the name that the list shows is who is meant."""


@dataclass
class Exchanged:
    """A class that signs in, in which Léa's id is called “Tom” by now, and Tom's “Léa”; Max was always called so."""

    school: SignedClass
    max: bytes

    @property
    def page(self) -> str:
        return f"/sign-ins/{self.school.room.space.hex()}"

    async def call(self, person: bytes, name: str) -> None:
        """One word of the list, with the server's key."""
        room = self.school.room
        shown = (await room.territory.replica.view(room.space)).roster.persons[person].entry
        record = PersonRecord(name, PersonRole.PUPIL).encode()
        await room.territory.say(room.space, Kind.PERSON, record, subject=person, parents=(shown,))

    async def opens(self) -> None:
        """A computer of the copied key's is in the class until it is given the key of its sign-ins."""
        room = self.school.room
        spy = new_device(room.territory.entropy)
        await room.territory.let_in(spy, Role.MACHINE, room.space)
        for _ in range(2):
            await self.school.agree()
            await tend_sign_in(self.school.teacher.agent)
        await self.school.agree()
        await room.territory.say(room.space, Kind.REVOKE, Revocation(spy.signing.public, ()).encode())
        await self.school.agree()

    async def given(self) -> dict[str, bytes]:
        """What each signs in by now, by whose it is."""
        persons = (await self.school.book.of(self.school.room.space)).persons
        ids = {"lea": self.school.lea, "tom": self.school.tom, "max": self.max}
        return {who: persons[person].entry for who, person in ids.items() if person in persons}


@pytest.fixture
async def exchanged(tmp_path: Path) -> AsyncIterator[Exchanged]:
    async with classroom(tmp_path) as room:
        school = await signed_class(room)
        here = Exchanged(school, await room.territory.person("Max", PersonRole.PUPIL, room.space))
        await school.agree()
        await here.call(school.tom, "Léa")
        await here.call(school.lea, "Tom")
        await school.agree()
        yield here


def _yes(page: str, person: bytes) -> str:
    """What the box says in the row of somebody."""
    before = page.partition(f'name="person" value="{person.hex()}"')[0]
    return html.unescape(re.findall(r'name="meant" value="([^"]*)"', before)[-1])


def _cards(page: str) -> list[str]:
    return [html.unescape(name) for name in re.findall(r"<li><h3>([^<]+)</h3>", page)]


@attack(ROW, off={ON_THE_PAGE: _nobody})
async def test_a_teacher_reads_what_a_pupil_was_called_first_before_new_pictures_are_theirs(
    exchanged: Exchanged,
) -> None:
    tom, before = exchanged.school.tom, await exchanged.given()
    async with portal(exchanged.school.teacher.agent) as surfer:
        page = await surfer.page(exchanged.page)
        refused = await surfer.send(exchanged.page, f"{exchanged.page}/draw", {"person": tom.hex()})
        assert not _cards(refused.text)
        assert await exchanged.given() == before
        row = html.unescape(page).partition("<h3>Léa</h3>")[2].partition("<h3>")[0]
        assert "Ici, cette personne était d'abord Tom (ensuite : Léa)" in row
        assert "Oui, je parle bien de Léa, la personne appelée d'abord Tom" in row
        meant = {"person": tom.hex(), "meant": _yes(page, tom)}
        drawn = await surfer.send(exchanged.page, f"{exchanged.page}/draw", meant)
    assert _cards(drawn.text) == ["Léa"]
    assert {who for who, entry in (await exchanged.given()).items() if entry != before[who]} == {"tom"}


@attack(ROW, off={ON_THE_PAGE: _nobody})
async def test_nor_is_a_code_theirs_before_that(exchanged: Exchanged) -> None:
    tom, before = exchanged.school.tom, await exchanged.given()
    code = {"person": tom.hex(), "method": "pin", "secret": "0815"}
    async with portal(exchanged.school.teacher.agent) as surfer:
        await surfer.send(exchanged.page, f"{exchanged.page}/set", code)
        assert await exchanged.given() == before
        page = await surfer.page(exchanged.page)
        await surfer.send(exchanged.page, f"{exchanged.page}/set", code | {"meant": _yes(page, tom)})
    assert (await exchanged.given())["tom"] != before["tom"]


@attack(ROW, off={ON_THE_PAGE: _nobody})
async def test_new_pictures_for_all_whom_a_computer_could_open_leave_out_whose_names_were_anothers(
    exchanged: Exchanged,
) -> None:
    space = exchanged.school.room.space
    await exchanged.school.book.set(space, {exchanged.max: (Method.PIN, "1234")})
    await exchanged.opens()
    assert {*await exchanged.school.book.opened_by_gone(space)} == {
        exchanged.max, exchanged.school.lea, exchanged.school.tom,
    }  # fmt: skip
    async with portal(exchanged.school.teacher.agent) as surfer:
        assert "Tirer de nouvelles images pour cet élève" in await surfer.page(exchanged.page)
        drawn = await surfer.send(exchanged.page, f"{exchanged.page}/draw", {"opened": "yes"})
    assert _cards(drawn.text) == ["Max"]


@attack(ROW, off={ON_THE_PAGE: _nobody})
async def test_nor_does_switching_it_on_give_them_cards(exchanged: Exchanged) -> None:
    room = exchanged.school.room
    ida = await room.territory.person("Ida", PersonRole.PUPIL, room.space)
    await exchanged.call(ida, "Max")
    await exchanged.school.agree()
    async with portal(exchanged.school.teacher.agent) as surfer:
        drawn = await surfer.send(exchanged.page, f"{exchanged.page}/switch", {"on": "yes"})
    assert _cards(drawn.text) == ["Max (1)"]
    assert ida not in (await exchanged.school.book.of(room.space)).persons


async def _is_meant(*_: object) -> bool:
    return True


@attack(ROW, off={"sync_agent.portal.teacher.sign_ins.ClassSignIns._is_meant": _is_meant})
async def test_her_yes_is_about_the_names_that_she_was_shown(exchanged: Exchanged) -> None:
    tom, before = exchanged.school.tom, await exchanged.given()
    async with portal(exchanged.school.teacher.agent) as surfer:
        shown = await surfer.page(exchanged.page)
        await exchanged.call(tom, "Max")
        await exchanged.school.agree()
        meant = {"person": tom.hex(), "meant": _yes(shown, tom)}
        drawn = await surfer.send(exchanged.page, f"{exchanged.page}/draw", meant)
    assert not _cards(drawn.text)
    assert await exchanged.given() == before


@attack(ROW, off={"sync_agent.school.sign_in_commands.ask_about_names": _nothing_asked})
async def test_at_the_command_line_an_id_is_meant_that_is_said_to_be(exchanged: Exchanged) -> None:
    tom, before = exchanged.school.tom, await exchanged.given()
    desk, space = Desk(exchanged.school.teacher.agent), exchanged.school.room.space.hex()
    rows = (await desk.ask("sign-in-list", space=space))["people"]
    assert {row["name"]: row["once"] for row in rows if row["once"]} == {"Léa": "Tom, Léa", "Tom": "Léa, Tom"}
    asked = {"space": space, "person": tom.hex(), "method": "pictures", "secret": None}
    with pytest.raises(BadInput, match="nothing has been given to sign in with yet") as refused:
        await desk.ask("sign-in-set", **asked)
    assert refused.value.code is Code.NOT_YET
    assert await exchanged.given() == before
    await desk.ask("sign-in-set", **asked, renamed_too=True)
    assert (await exchanged.given())["tom"] != before["tom"]


@attack(ROW, off={ON_THE_PAGE: _nobody})
async def test_nor_does_a_number_that_was_anothers_give_pictures(exchanged: Exchanged) -> None:
    room, territory = exchanged.school.room, exchanged.school.room.territory
    territory.clock.advance(DAY_MS)
    second = await territory.person("Max", PersonRole.PUPIL, room.space)
    await exchanged.school.agree()
    line = (await territory.replica.view(room.space)).roster.persons[second].entry
    dated_back = compose(
        author=territory.keys.signing, space=room.space, kind=Kind.PERSON, grant=territory.certificate.id,
        at=(territory.clock() - 300 * DAY_MS) << 16, payload=PersonRecord("Max", PersonRole.PUPIL).encode(),
        salt=bytes(16), subject=second, parents=(line,),
    )  # fmt: skip
    await territory.replica.admit([dated_back], source=b"a PC", now_ms=territory.clock())
    await exchanged.school.agree()
    async with portal(exchanged.school.teacher.agent) as surfer:
        row = html.unescape(await surfer.page(exchanged.page)).partition("<h3>Max (2)</h3>")[2].partition("<h3>")[0]
        asked = await surfer.send(exchanged.page, f"{exchanged.page}/draw", {"person": exchanged.max.hex()})
    assert "Ici, cette personne était d'abord Max (1) (ensuite : Max (2))" in row
    assert not _cards(asked.text)


async def test_nobody_is_asked_about_who_was_always_called_so(exchanged: Exchanged) -> None:
    async with portal(exchanged.school.teacher.agent) as surfer:
        drawn = await surfer.send(exchanged.page, f"{exchanged.page}/draw", {"person": exchanged.max.hex()})
    assert _cards(drawn.text) == ["Max"]
