"""Sign-in is on by a word of a laptop, and that word is held back (docs/attacks.md, docs/adr/0285)."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from protocol.folds.sign_in import Method, SignInRecord
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Revocation
from protocol.model.work import ItemKind
from protocol.rights.roster import Roster
from protocol.roles import Role
from sync_agent.school.sign_in import SignInBook
from tests.harness.attack import attack
from tests.harness.classroom import SMALL, WORK, Classroom, Device
from tests.harness.portal import portal
from tests.harness.sign_in import PICTURES, SignedClass, answers_unasked, sign_in, signed_class

ROW = "a report switches sign-in off"


def _passed_over(*_: object) -> list[Entry]:
    """What is held back counts for nothing."""
    return []


def _never_settled(entries: Iterable[Entry], _: object, roster: Roster) -> list[Entry]:
    """Whatever was said goes on counting."""
    return [
        one
        for one in entries
        if one.id in roster.held_back and one.header.kind == Kind.SIGN_IN and one.header.subject is None
    ]


async def reported(school: SignedClass) -> Device:
    """The laptop is reported with all that it ever said; another one of its teacher's is there."""
    room = school.room
    await room.territory.say(room.space, Kind.REVOKE, Revocation(school.teacher.agent.device, ()).encode())
    second = await room.teacher()
    await synced(second, school.pc)
    return second


async def synced(*devices: Device) -> None:
    for device in (*devices, *devices):
        await device.session.sync()


@attack(ROW, off={"protocol.folds.sign_in._unsettled": _passed_over})
async def test_a_report_of_all_that_a_laptop_said_shows_nobody_what_was_handed_in(room: Classroom) -> None:
    school = await signed_class(room)
    item = (await room.publish(school.teacher, SMALL, kind=ItemKind.ASSIGNMENT)).item
    await school.agree()
    hers = (await room.hand_in(school.pc, item, WORK)).hex()
    await school.agree()
    second = await reported(school)
    async with portal(second.agent) as surfer:
        assert "La connexion des élèves de la classe CM1 a été changée" in await surfer.page("/")
    new = (await room.publish(second, SMALL, kind=ItemKind.ASSIGNMENT)).item.hex()
    await synced(second, school.pc)
    assert await answers_unasked(school, hers, new) == (404, 403)


@attack(ROW, off={"protocol.folds.sign_in._unsettled": _never_settled})
@pytest.mark.parametrize("on", [True, False])
async def test_nobody_is_shut_out_for_good_once_her_next_laptop_has_said_how_it_is(
    room: Classroom, *, on: bool
) -> None:
    school = await signed_class(room)
    second = await reported(school)
    book = SignInBook(second.agent)
    assert (await book.of(room.space)).unsettled
    await book.set(room.space, {school.lea: (Method.PICTURES, PICTURES)})
    await book.switch(room.space, on=on)
    await synced(second, school.pc)
    assert (await school.fold_of(school.pc).of(room.space)).on is on
    assert not (await school.fold_of(school.pc).of(room.space)).unsettled
    async with portal(school.pc.agent) as surfer:
        if on:
            assert (await sign_in(surfer, school.lea, PICTURES)).status == 303


@attack(ROW, off={"protocol.folds.sign_in._unsettled": _never_settled})
async def test_neither_the_thief_nor_the_server_switches_it_on_again_once_a_teacher_has_switched_it_off(
    room: Classroom,
) -> None:
    school = await signed_class(room)
    second = await reported(school)
    await SignInBook(second.agent).switch(room.space, on=False)
    await synced(second, school.pc)
    off = (await school.fold_of(school.pc).of(room.space)).switch
    thief = school.teacher.agent
    right = await thief.right(room.space, Kind.SIGN_IN)
    invented = await room.device(Role.TEACHER, person=room.teacher_person)
    his = await invented.agent.right(room.space, Kind.SIGN_IN)
    said = [
        compose(
            author=signing,
            space=room.space,
            kind=Kind.SIGN_IN,
            grant=grant,
            at=room.territory.clock(),
            payload=SignInRecord(on=True).encode(),
            salt=bytes(16),
            parents=sorted(off)[:2],
        )
        for signing, grant in ((thief.keys.signing, right.grant), (invented.agent.keys.signing, his.grant))
    ]
    for device in (second, school.pc):
        await device.agent.replica.admit(said, source=b"a stick", now_ms=room.territory.clock())
    await room.territory.say(room.space, Kind.REVOKE, Revocation(invented.agent.device, ()).encode())
    await synced(second, school.pc)
    sign_ins = await school.fold_of(school.pc).of(room.space)
    assert not sign_ins.on


async def test_her_page_of_sign_ins_says_that_the_word_is_held_back_until_she_has_said_how_it_is(
    room: Classroom,
) -> None:
    school = await signed_class(room)
    page, held_back = f"/sign-ins/{room.space.hex()}", "Elle a été activée sur un ordinateur dont l&#39;accès"
    async with portal((await reported(school)).agent) as surfer:
        assert held_back in await surfer.page(page)
        kept = await surfer.send(page, f"{page}/switch", {"on": "yes"})
        assert "Cartes à imprimer" in kept.text
        assert held_back not in await surfer.page(page)
