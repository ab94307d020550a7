"""A teacher draws new pictures, and whoever has the server has the old ones in force again (docs/adr/0312)."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path

from protocol.folds.sign_in import Method, SignInKey, SignIns
from protocol.model.entry import Entry
from protocol.rights.roster import Roster
from protocol.rights.vouching import device_id
from protocol.roles import PersonRole, Role
from sync_agent.keys.confirming import confirm, own_device
from sync_agent.school.held_back import TOPICS
from sync_agent.school.sign_in import SignInBook, Try
from tests.harness.attack import attack
from tests.harness.classroom import Classroom, Device
from tests.harness.commands import Desk
from tests.harness.head_at_work import take_back
from tests.harness.last_word import NOTICE
from tests.harness.portal import Surfer, portal
from tests.harness.sign_in import PICTURES, SignedClass, signed_class
from tests.harness.spied_class import spied_class

ROW = "new pictures are undone"
NEW = "4-5-6"


def _for_nobody(_roster: Roster) -> Callable[[Entry], bool]:
    return lambda _entry: False


def _for_everybody(_roster: Roster) -> Callable[[Entry], bool]:
    return lambda _entry: True


def _what_counts(sign_ins: SignIns, person: bytes) -> tuple[bytes, ...]:
    counting = sign_ins.persons.get(person)
    return () if counting is None else counting.line


async def tried(school: SignedClass, secret: str, device: Device | None = None) -> Try:
    """How it ends on a shared PC."""
    return (await school.fold_of(device or school.pc).attempt(school.room.space, school.lea, secret)).how


async def drawn_anew(school: SignedClass) -> tuple[bytes, ...]:
    """New pictures for Léa, twice; what the teacher's device had said before."""
    before = await school.tips()
    for pictures in ("8-8-8", NEW):
        await school.book.set(school.room.space, {school.lea: (Method.PICTURES, pictures)})
    await school.agree()
    assert await tried(school, NEW) is Try.PROVEN
    return before


async def undone(school: SignedClass) -> None:
    """… and her laptop is cut off as of a moment before, and let in again in the same breath."""
    await school.let_in_again(await school.cut_off(await drawn_anew(school)))


async def notice(school: SignedClass, surfer: Surfer) -> str:
    """What the class's page says of what is held back; empty for nothing."""
    page = html.unescape(await surfer.page(f"/sign-ins/{school.room.space.hex()}"))
    return page.partition('id="h-undone"')[2].partition("</section>")[0]


async def colleague(room: Classroom) -> Device:
    """The computer of another teacher of the class."""
    person = await room.territory.person("M. Durand", PersonRole.TEACHER, room.space)
    return await room.device(Role.TEACHER, person=person)


@attack(ROW, off={"protocol.folds.sign_in._let_in": _for_nobody})
async def test_the_old_pictures_prove_nobody_while_the_new_ones_are_held_back(room: Classroom) -> None:
    school = await signed_class(room)
    await undone(school)
    assert await tried(school, PICTURES) is Try.UNSET
    assert (await school.fold_of(school.pc).attempt(room.space, school.tom, "4711")).how is Try.PROVEN


@attack(ROW, off={"protocol.folds.sign_in._let_in": _for_nobody})
async def test_nor_where_her_other_laptop_has_to_confirm_the_one_that_was_let_in_again(room: Classroom) -> None:
    school = await signed_class(room)
    second = await room.teacher()
    for one, other in ((school.teacher, second), (second, school.teacher)):
        for _ in range(2):
            await second.session.sync()
            await school.agree()
        await confirm(one.agent, device_id(own_device(other.agent)), shown_as="own")
    await school.agree()
    await undone(school)
    assert await tried(school, PICTURES) is Try.UNSET


OFF = {"sync_agent.school.held_back.TOPICS": {kind: topic for kind, topic in TOPICS.items() if topic != "sign_in"}}


@attack(ROW, off=OFF)
async def test_her_page_and_status_say_that_by_what_a_pupil_signs_in_is_held_back_until_she_says_it_again(
    room: Classroom,
) -> None:
    school = await signed_class(room)
    await undone(school)
    desk, page = Desk(school.teacher.agent), f"/sign-ins/{room.space.hex()}"
    told = (await desk.ask("status"))["held_back"]
    assert told["kinds"] == {"sign-in": 2}
    rows = (await desk.ask("sign-in-list", space=room.space.hex()))["people"]
    assert {row["name"] for row in rows if row["held_back"]} == {"Léa"}
    async with portal(school.teacher.agent) as surfer:
        first = html.unescape(await surfer.page("/"))
        assert NOTICE in first
        assert "1 élève de la classe CM1 ne se connecte plus" in first
        assert page in (await surfer.page("/held-back")).partition("<main")[2]
        assert "<strong>Léa</strong>" in await notice(school, surfer)
        await surfer.send(page, f"{page}/again", {})
        first = html.unescape(await surfer.page("/"))
        assert NOTICE not in first
        assert "ne se connecte plus" not in first
        assert await notice(school, surfer) == ""
    await school.agree()
    assert (await desk.ask("status"))["held_back"]["count"] == 0
    assert [await tried(school, each) for each in (PICTURES, NEW)] == [Try.WRONG, Try.PROVEN]


@attack(ROW, off={"protocol.folds.sign_in.SignIns.line": _what_counts})
async def test_once_a_colleague_has_drawn_others_nobody_is_shut_out_any_more(room: Classroom) -> None:
    school = await signed_class(room)
    other = await colleague(room)
    await undone(school)
    await other.session.sync()
    async with portal(other.agent) as surfer:
        said = await notice(school, surfer)
        assert "L'ordinateur où ils ont été donnés peut les redire" in said
        page = f"/sign-ins/{room.space.hex()}"
        assert "Cartes à imprimer" in (await surfer.send(page, f"{page}/draw", {"undone": "yes"})).text
        assert await notice(school, surfer) == ""
    await other.session.sync()
    await school.agree()
    assert await tried(school, PICTURES) is Try.WRONG


async def _only_what_counts(self: SignInBook, space: bytes, name: bytes) -> SignInKey | None:
    return await self.key(space, name)


@attack(ROW, off={"sync_agent.school.sign_in.SignInBook._own_key": _only_what_counts})
async def test_one_press_says_again_all_that_she_had_set_though_the_key_is_held_back_with_it(room: Classroom) -> None:
    school = await signed_class(room)
    await drawn_anew(school)
    await school.let_in_again(await school.cut_off(()))
    assert await tried(school, NEW) is Try.UNSET
    page = f"/sign-ins/{room.space.hex()}"
    async with portal(school.teacher.agent) as surfer:
        assert "<strong>Léa, Tom</strong>" in await notice(school, surfer)
        await surfer.send(page, f"{page}/again", {})
    await school.agree()
    assert [await tried(school, each) for each in (PICTURES, NEW)] == [Try.WRONG, Try.PROVEN]
    assert (await school.fold_of(school.pc).attempt(room.space, school.tom, "4711")).how is Try.PROVEN


# --- and no thief shuts anybody out -----------------------------------------------------------------------------------


@attack(ROW, off={"protocol.folds.sign_in._let_in": _for_everybody})
async def test_a_stolen_laptop_shuts_out_no_pupil_by_verifiers_that_a_report_holds_back(room: Classroom) -> None:
    school = await signed_class(room)
    await school.cut_off(await drawn_anew(school))
    thief = SignInBook(school.teacher.agent)
    await thief.set(room.space, {school.lea: (Method.PICTURES, "7-7-7"), school.tom: (Method.PICTURES, "7-7-7")})
    said = [one.entry for one in await school.teacher.agent.replica.store.scan(room.space)]
    await school.pc.agent.replica.admit(said, source=b"a stick", now_ms=room.territory.clock())
    await school.pc.session.sync()
    assert await tried(school, PICTURES) is Try.PROVEN
    assert (await school.fold_of(school.pc).attempt(room.space, school.tom, "4711")).how is Try.PROVEN


@attack(ROW, off={"protocol.folds.sign_in.SignIns.line": _what_counts})
async def test_nor_once_it_is_found_and_let_in_again_where_others_were_drawn_since(room: Classroom) -> None:
    school = await signed_class(room)
    other = await colleague(room)
    cut = await school.cut_off(await drawn_anew(school))
    await other.session.sync()
    await SignInBook(other.agent).set(room.space, {school.lea: (Method.PICTURES, "1-2-3")})
    await other.session.sync()
    await school.let_in_again(cut)
    assert await tried(school, "1-2-3") is Try.PROVEN


# --- a quarantine -----------------------------------------------------------------------------------------------------


WITHOUT = {
    "sync_agent.school.held_back.TOPICS": {kind: topic for kind, topic in TOPICS.items() if topic != "quarantine"}
}


@attack(ROW, off=WITHOUT)
async def test_that_a_quarantine_is_held_back_is_told_on_the_computer_that_ordered_it(tmp_path: Path) -> None:
    async with spied_class(tmp_path) as here:
        head = await here.room.head()
        desk = Desk(head.agent)
        await here.sync(head)
        await desk.ask("quarantine start")
        await here.sync(head)
        await take_back(here.room.territory, head)
        await here.sync(head)
        assert (await desk.ask("status"))["held_back"]["kinds"] == {"quarantine": 1}
        await desk.ask("quarantine start")
        assert (await desk.ask("status"))["held_back"]["count"] == 0
