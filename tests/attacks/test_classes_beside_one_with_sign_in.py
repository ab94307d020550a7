"""What whoever has the server does to be shown, on a shared PC, what is behind a sign-in (docs/adr/0287, 0288).

They make up another class there, and list in it who signs in; or they call the PC a teacher's.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

import pytest

from protocol.errors import Refused
from protocol.limits import MAX_SIGN_IN_TRIES
from protocol.model.entry import Kind
from protocol.model.work import ItemKind
from protocol.replica.console.frame import Notices
from protocol.roles import PersonRole, Role
from sync_agent.app import Agent
from sync_agent.coursework.publisher import Wish, publish
from sync_agent.hand_ins.drafts import Drafts
from sync_agent.hand_ins.handing_in import give_feedback, hand_in
from sync_agent.school.sign_in import TRIES_MARKS, SignInBook, Try
from tests.harness.attack import attack
from tests.harness.classroom import SMALL, WORK, Classroom, Given
from tests.harness.commands import Desk
from tests.harness.portal import Surfer, portal
from tests.harness.sign_in import PICTURES, WRONG, SignedClass, class_beside, leaves, sign_in, signed_class

ROW = "a pupil acts as another on a shared PC"
OFF = {"sync_agent.portal.each_page.visit._own": lambda rooms, *_: rooms}
WORDS = "Viens me voir ce soir."
OTHERS = "1-2-3"


@dataclass
class Hers:
    """What there is of Léa's in her class: an answered work, and something begun for another assignment."""

    school: SignedClass
    work: str
    item: str
    begun: str

    async def shown(self, surfer: Surfer) -> set[str]:
        """The pages that show whoever sits here something of it."""
        works = [f"/work/{self.work}{part}" for part in ("", "/receipt", "/note/mot.txt")]
        found = {path for path in works if (await surfer.get(path)).status != 404}
        hers = (self.work, "recit.odt", "Regarde ta correction")
        for path in ("/", "/work", f"/item/{self.item}", f"/item/{self.begun}"):
            page = await surfer.page(path)
            found |= {path} if any(each in page for each in hers) else set()
        return found

    async def hand_in(self, surfer: Surfer, back: str, files: list[tuple[str, bytes]], **fields: str) -> int:
        """Hand in in her name, or something else with that form; the status."""
        action = f"/item/{self.begun}/hand-in"
        return (await surfer.send(back, action, {"person": self.school.lea.hex(), **fields}, files)).status

    async def is_begun(self) -> bool:
        """Whether what she has begun is still there, as she left it."""
        drafts = Drafts(self.school.pc.agent)
        kept = await drafts.find(self.school.lea, bytes.fromhex(self.begun))
        return kept is not None and [path for path, _ in await drafts.files_of(kept)] == ["recit.odt"]


@pytest.fixture
async def hers(room: Classroom) -> Hers:
    school = await signed_class(room)
    item = (await room.publish(school.teacher, SMALL, kind=ItemKind.ASSIGNMENT)).item
    begun = (await room.publish(school.teacher, {"b.html": b"<p>b"}, kind=ItemKind.ASSIGNMENT)).item
    await school.agree()
    work = await room.hand_in(school.pc, item, WORK)
    await school.agree()
    given = Given({"mot.txt": b"secret"})
    await give_feedback(school.teacher.agent, work, WORDS, "4/20", redo=False, incoming=given)
    for _ in range(2):
        await school.agree()
    await Drafts(school.pc.agent).keep(school.lea, begun, [("recit.odt", 5)], Given({"recit.odt": b"begun"}))
    room.territory.clock.advance(60_000)
    return Hers(school, work.hex(), item.hex(), begun.hex())


@attack(ROW, off=OFF)
async def test_whom_a_class_without_sign_in_lists_is_shown_nothing_of_one_with_it_and_drops_nothing_there(
    hers: Hers,
) -> None:
    school = hers.school
    await class_beside(school, "CM1 ", "M. X", pictures=None)
    await leaves(school)
    async with portal(school.pc.agent) as surfer:
        chosen = await surfer.send("/who", "/who", {"person": school.lea.hex()})
        assert chosen.headers["Location"] == "/", "that list asks nobody who they are"
        assert await hers.shown(surfer) == set()
        assert await hers.hand_in(surfer, "/who", [], drop="yes", later="yes") == 403
        assert await hers.hand_in(surfer, "/who", [("a.txt", b"x")], later="yes") == 403
    assert await hers.is_begun()


@attack(ROW, off=OFF)
async def test_by_what_another_class_has_somebody_sign_in_nobody_is_her_in_hers(hers: Hers) -> None:
    school = hers.school
    made_up = await class_beside(school, "Soutien", "M. X", pictures=OTHERS, first=True)
    async with portal(school.pc.agent) as surfer:
        assert (await sign_in(surfer, school.lea, OTHERS, made_up)).status == 303
        assert await hers.shown(surfer) == set()
        assert await hers.hand_in(surfer, "/", [("a.txt", b"x")]) == 403
        assert await hers.hand_in(surfer, "/", [], drop="yes", later="yes") == 403
    assert await hers.is_begun()


@attack(ROW, off={"protocol.folds.coursework._begins_here": lambda *_: True})
async def test_nor_is_what_she_has_begun_shown_in_a_class_that_says_her_assignment_again(hers: Hers) -> None:
    school, begun = hers.school, bytes.fromhex(hers.begun)
    made_up = await class_beside(school, "Soutien", "M. X", pictures=OTHERS, first=True)
    territory = school.room.territory
    said = (await territory.replica.view(school.room.space)).coursework.items[begun].shown.record
    await territory.say(made_up, Kind.REVISION, said.encode(), target=begun)
    await school.pc.session.sync()
    async with portal(school.pc.agent) as surfer:
        assert (await sign_in(surfer, school.lea, OTHERS, made_up)).status == 303
        assert await hers.shown(surfer) == set()
        assert await hers.hand_in(surfer, f"/item/{hers.begun}", []) == 403
    assert await hers.is_begun()


async def test_what_another_class_has_set_keeps_nobody_out_of_hers(hers: Hers) -> None:
    school = hers.school
    await class_beside(school, "Soutien", "M. X", pictures=OTHERS, first=True)
    async with portal(school.pc.agent) as surfer:
        asked = await surfer.page(f"/sign-in/{school.lea.hex()}")
        assert "Dans quelle classe ?" in asked
        assert f"space={school.room.space.hex()}" in asked
        assert (await sign_in(surfer, school.lea, PICTURES, school.room.space)).status == 303
        assert len(await hers.shown(surfer)) == 7
        assert await hers.hand_in(surfer, f"/item/{hers.begun}", [("a.txt", b"x")]) == 303


@dataclass
class Choir:
    """A class without sign-in that lists Léa too, and an answered work of hers there."""

    space: bytes
    item: str
    work: str

    async def is_hers_here(self, surfer: Surfer, lea: bytes) -> set[int]:
        """How the pages of her work, and handing in in her name, answer whoever sits here."""
        pages = [f"/work/{self.work}", f"/work/{self.work}/note/mot.txt"]
        found = {(await surfer.get(path)).status for path in pages}
        sent = await surfer.send("/who", f"/item/{self.item}/hand-in", {"person": lea.hex()}, [("a.txt", b"x")])
        return found | {sent.status}


@pytest.fixture
async def choir(hers: Hers) -> Choir:
    school = hers.school
    space = await class_beside(school, "Chorale", "Mme Roy", pictures=None)
    roy, pc = school.room.devices[-1], school.pc
    wish = Wish(space, None, ItemKind.ASSIGNMENT, "Chantez")
    item = (await publish(roy.agent, wish, Given(SMALL), Notices())).item
    for device in (roy, pc, roy, pc):
        await device.session.sync()
    sizes = [(path, len(content)) for path, content in sorted(WORK.items())]
    work = await hand_in(pc.agent, item, school.lea, sizes, Given(WORK), Notices())
    for device in (pc, roy, pc):
        await device.session.sync()
    await give_feedback(roy.agent, work, WORDS, "4/20", redo=False, incoming=Given({"mot.txt": b"secret"}))
    for device in (roy, pc, roy, pc):
        await device.session.sync()
    return Choir(space, item.hex(), work.hex())


@pytest.mark.parametrize("is_on_its_list", [True, False], ids=["on its list", "taken off it again"])
@attack(ROW, off={"sync_agent.school.sign_in.Guards.counts_beside": lambda *_: True})
async def test_nor_is_she_in_a_class_without_sign_in_before_she_signs_in_where_she_was_listed_first(
    hers: Hers, choir: Choir, *, is_on_its_list: bool
) -> None:
    school = hers.school
    made_up = await class_beside(school, "Soutien", "M. X", pictures=OTHERS, first=True)
    if not is_on_its_list:
        await leaves(school, made_up)
    async with portal(school.pc.agent) as surfer:
        assert (await sign_in(surfer, school.lea, OTHERS, made_up)).status == 303
        assert await choir.is_hers_here(surfer, school.lea) == {404, 403}
        page = await surfer.page(f"/item/{choir.item}")
        (way,) = set(re.findall(rf'"(/sign-in/{school.lea.hex()}[^"]*)"', page))
        assert "Classe : CM1" in await surfer.page(html.unescape(way)), "the page asks in the class that counts"
        assert (await sign_in(surfer, school.lea, PICTURES, school.room.space)).status == 303
        assert await choir.is_hers_here(surfer, school.lea) == {200, 303}


def _of_a_person(_: bytes, person: bytes) -> str:
    return f"{TRIES_MARKS}{person.hex()}"


@attack("brute force of PINs and picture passwords", off={"sync_agent.school.sign_in._mark": _of_a_person})
async def test_who_signs_in_in_another_class_in_between_has_no_more_tries_in_hers(hers: Hers) -> None:
    school, hers_alone = hers.school, hers.school.room.space
    made_up = await class_beside(school, "Soutien", "M. X", pictures=OTHERS)
    book = SignInBook(school.pc.agent)
    for _ in range(MAX_SIGN_IN_TRIES):
        await book.attempt(hers_alone, school.lea, WRONG)
        assert (await book.attempt(made_up, school.lea, OTHERS)).how is Try.PROVEN
        school.room.territory.clock.advance(3_600_000)
    assert (await book.attempt(hers_alone, school.lea, PICTURES)).how is Try.LOCKED


def _never(_: Agent) -> bool:
    return False


NO_TEACHERS = "a server grants a pupils' PC a teacher's right, as hers"


async def _called_a_teachers(hers: Hers, role: Role, where: str, *, named: bool) -> None:
    """The PC has another right: in a class that is made up, in Léa's or above it, by a name or by none."""
    school, territory = hers.school, hers.school.room.territory
    spaces = {"hers": school.room.space, "above": territory.replica.door.parent(school.room.space)}
    space = spaces.get(where) or await territory.classroom("Soutien")
    person = await territory.person("M. X", PersonRole.TEACHER, space) if named else None
    await territory.let_in(school.pc.agent.keys, role, space, person=person)
    for _ in range(2):
        await school.agree()


@pytest.mark.parametrize("where", ["made up", "hers", "above"])
@pytest.mark.parametrize(("role", "named"), [(Role.TEACHER, True), (Role.HEAD, False), (Role.ADMIN, False)])
@attack(NO_TEACHERS, off={"sync_agent.app.Agent.is_shared": property(_never)})
async def test_a_shared_pc_that_a_server_calls_a_teachers_shows_what_it_showed(
    hers: Hers, role: Role, where: str, named: bool
) -> None:
    await _called_a_teachers(hers, role, where, named=named)
    agent = hers.school.pc.agent
    async with portal(agent) as surfer:
        assert await hers.shown(surfer) == set()
        assert (await surfer.send("/", f"/work/{hers.work}/open", {"path": ""})).status == 404
        assert {(await surfer.get(page)).status for page in ("/publish", "/readers", "/school", "/drill")} == {404}
        assert (await sign_in(surfer, hers.school.lea, PICTURES)).status == 303
        assert len(await hers.shown(surfer)) == 7, "pupils use it as before"
    with pytest.raises(Refused):
        await Desk(agent).ask("export-person", person=hers.school.lea.hex())
