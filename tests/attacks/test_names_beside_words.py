"""What somebody, or something, calls itself says the words that people look for (docs/attacks.md).

Six words, or a fingerprint, are compared by eye: what stands beside them must not be a stranger's.
"""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from protocol.identity import territory_id
from protocol.messages.enrollment import EnrollAnswer
from protocol.model.entry import Kind
from protocol.model.structure import PersonKey
from protocol.replica.console.frame import Notices
from protocol.replica.console.operation import JSON, Outgoing, Params
from protocol.replica.console.text import readable
from protocol.rights.vouching import device_words
from protocol.roles import PersonRole, Role
from protocol.trust.invitation import SECRET_BYTES, Invitation, territory_fingerprint
from sync_agent.console.machine import READER_COLUMNS
from sync_server.cli import PROGRAM
from sync_server.opened.app import Server
from sync_server.operations import table
from tests.harness.attack import attack
from tests.harness.classroom import Classroom, classroom
from tests.harness.commands import Desk
from tests.harness.portal import portal
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.spied_class import own_keys, spied_class
from tests.harness.territory import new_device

ROW = "a name that says what people compare"
OURS = "K2X-8AC2-ARRW-Z1XA"
"""Of the school's kit; the territory of these tests is the thief's."""
AS_IT_IS = {"protocol.beside_words.unlike_words": lambda text: text}
HERS = device_words(own_keys(new_device(Random(7).randbytes)))
"""What the teacher's new laptop shows, which has not come in yet."""


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with spied_class(tmp_path, kept_for=__name__) as made:
        yield made


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Classroom]:
    async with classroom(tmp_path) as made:
        yield made


def _first_of_hers(many: int = 3) -> str:
    return " ".join(HERS.split()[:many])


async def _the_spy_calls_itself(here: Here, name: str) -> str:
    """It is let in as hers under this name; the six words that it cannot choose."""
    teacher = here.room.teacher_person
    (grant,) = await here.room.territory.let_in(here.spy, Role.TEACHER, here.room.space, person=teacher)
    here.grant = grant.id
    await here.say(Kind.PERSON_KEY, PersonKey(here.spy.agreement.public, name).encode(), teacher)
    await here.sync(here.teacher, here.teacher)
    return device_words(own_keys(here.spy))


@attack(ROW, off=AS_IT_IS)
async def test_no_page_of_hers_shows_the_words_of_her_new_laptop_for_a_device_that_calls_itself_by_them(
    here: Here,
) -> None:
    its_own = await _the_spy_calls_itself(here, f"Six mots : {_first_of_hers()}")
    async with portal(here.teacher.agent) as surfer:
        home, page = html.unescape(await surfer.page("/")), html.unescape(await surfer.page("/readers"))
    assert "Un ordinateur de plus est à votre nom. Est-ce bien votre nouvel ordinateur ?" in home
    assert "Six mots" not in home
    assert f"<h3>Six mots : <strong>{its_own}</strong></h3>" in page.replace("\N{NO-BREAK SPACE}", " ")
    assert _first_of_hers() not in page
    assert HERS.split()[0] not in page


@attack(ROW, off=AS_IT_IS)
async def test_what_a_device_calls_itself_stands_last_in_its_row_and_is_cut(here: Here) -> None:
    its_own = await _the_spy_calls_itself(here, f"Portable » neuf (Six mots {HERS}) confirmé, dit la direction")
    async with portal(here.teacher.agent) as surfer:
        page = html.unescape(await surfer.page("/readers")).replace("\N{NO-BREAK SPACE}", " ")
    (row,) = (row for row in page.split("<li>") if its_own in row)
    assert row.index(its_own) < row.index("s'il montre les mêmes six mots") < row.index("Il se nomme lui-même")
    assert "« Portable neuf (Six mots …) confirmé, di… »" in row


@attack(ROW, off={"protocol.replica.console.text.unlike_words": lambda text: text})
async def test_no_line_of_a_command_shows_them_either(here: Here) -> None:
    its_own = await _the_spy_calls_itself(here, HERS)
    told = readable(await Desk(here.teacher.agent).ask("key-readers"), 300, READER_COLUMNS)
    (line,) = (line for line in told.splitlines() if its_own in line)
    assert _first_of_hers() not in line
    assert line.rstrip().endswith("…")


@attack(ROW, off=AS_IT_IS)
async def test_a_head_teachers_page_shows_the_words_of_the_device_above_what_it_is_called(here: Here) -> None:
    person = await here.room.territory.person(f"M. {_first_of_hers()}", PersonRole.TEACHER, here.room.space)
    await here.name_the_spy(person)
    head = await here.room.head(person=await here.room.territory.person("Mme H", PersonRole.TEACHER, here.room.space))
    spy = here.spy.signing.public
    here.room.frontage.responder.name_of = lambda each: f"Six mots : {_first_of_hers()}" if each == spy else None
    await here.sync(here.teacher, head)
    space = (await Desk(head.agent).ask("space add", name="CE2", year="2026-2027"))["space"]
    async with portal(head.agent) as surfer:
        place = f"/school/{space}"
        page = html.unescape((await surfer.send(place, f"{place}/let-in", {"who": f"device:{spy.hex()}"})).text)
    panel = page.partition('id="h-looked"')[2].partition("</section>")[0]
    assert panel.index(device_words(own_keys(here.spy))) < panel.index("Il se nomme, ou est nommé ici")
    assert _first_of_hers() not in panel


@attack(ROW, off=AS_IT_IS)
async def test_the_page_of_a_pc_that_was_led_away_shows_one_fingerprint_however_its_territory_and_classes_are_called(
    room: Classroom,
) -> None:
    name = f"Écoles du Cher » : {OURS} – empreinte abrégée de « Écoles du Cher"
    room.space = await room.territory.classroom(f"Empreinte {OURS}")
    pc = await room.machine()
    await pc.session.sync()
    said = EnrollAnswer.parse(EnrollAnswer(1, name, ()).encode())
    pc.agent.enrolment = replace(pc.agent.enrolment, territory_name=said.territory_name)
    async with portal(pc.agent) as surfer:
        page = html.unescape(await surfer.page("/state"))
    shown = re.findall(r"[0-9A-Z]{3}(?:-[0-9A-Z]{4}){3}", page)
    assert shown == [territory_fingerprint(territory_id(room.territory.replica.door.root_now))]


@attack(ROW, off={"sync_server.cli.Unheard": Notices})
async def test_what_a_service_says_while_it_makes_a_code_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def invite(_server: Server, _params: Params, outgoing: Outgoing) -> JSON:
        await outgoing.progress(f"this code is of the territory {OURS}: so must the kit's paper say")
        return {"code": Invitation.create(bytes(32), bytes(SECRET_BYTES)).code(), "expires": "2026-12-01T00:00:00Z"}

    data = ["--data", str(tmp_path / "data")]
    assert await asyncio.to_thread(PROGRAM.main, ["init", "--name", "Cher", *data]) == 0
    monkeypatch.setitem(table._COMMANDS, "invite", invite)
    capsys.readouterr()
    assert await asyncio.to_thread(PROGRAM.main, ["invite", "--role", "admin", "--space", "00" * 32, *data]) == 0
    told = capsys.readouterr().err
    assert "this code is of the territory 000-0000-0000-0000" in told
    assert OURS not in told
