"""Signing in at a shared PC: who sees what, from the teacher's switch to the pupil who goes away."""

from __future__ import annotations

import asyncio
import html
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from protocol.errors import BadInput, Code, Refused
from protocol.folds.sign_in import Method, SignInWraps
from protocol.model.entry import Kind
from protocol.model.structure import Revocation
from protocol.model.work import ItemKind
from protocol.replica.at_work.replica import Draft
from protocol.roles import PersonRole, Role
from sync_agent.portal.each_page.sessions import IDLE_S
from sync_agent.school.sign_in import Guards, SignInBook, Try, tend_sign_in
from tests.harness.classroom import WORK, Device, Given, classroom
from tests.harness.commands import Desk
from tests.harness.portal import portal
from tests.harness.raw_device import http_call
from tests.harness.sign_in import PICTURES, WRONG, SignedClass, class_beside, leaves, sign_in, signed_class


@pytest.fixture
async def school(tmp_path: Path) -> AsyncIterator[SignedClass]:
    async with classroom(tmp_path) as room:
        yield await signed_class(room)


async def handed_in(school: SignedClass) -> tuple[str, str]:
    """Léa has handed in and got feedback: the item and the hand-in."""
    item = (await school.room.publish(school.teacher, {"a.html": b"<p>a"}, kind=ItemKind.ASSIGNMENT)).item
    await school.agree()
    work = await school.room.hand_in(school.pc, item, WORK)
    for device in (school.pc, school.teacher):
        await device.session.sync()
    await Desk(school.teacher.agent).ask("feedback", Given({}), id=work.hex(), text="Bravo Léa", mark=None, redo=False)
    await school.agree()
    return item.hex(), work.hex()


class Hand:
    """A clock that goes forward when told."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


async def test_who_switches_it_on_is_told_how_many_have_nothing_to_sign_in_with(school: SignedClass) -> None:
    desk, space = Desk(school.teacher.agent), school.room.space.hex()
    await desk.ask("sign-in-switch", space=space, on=False)
    newcomer = await school.room.territory.person("Zoé", PersonRole.PUPIL, school.room.space)
    await school.agree()
    assert await desk.ask("sign-in-switch", space=space, on=True) == {"without": 1}
    assert "1 pupil has nothing to sign in with yet, and cannot hand in on the pages of shared" in desk.told[-1]
    await desk.ask("sign-in-set", space=space, person=newcomer.hex(), method="pictures", secret=None)
    assert await desk.ask("sign-in-switch", space=space, on=True) == {"without": 0}
    assert await desk.ask("sign-in-switch", space=space, on=False) == {}


# --- the pupil --------------------------------------------------------------------------------------------------------


async def test_a_pupil_signs_in_with_three_pictures_and_only_then_sees_their_own_things(school: SignedClass) -> None:
    item, work = await handed_in(school)
    async with portal(school.pc.agent) as surfer:
        for path in ("/work", f"/item/{item}"):
            assert work not in await surfer.page(path)
        assert (await surfer.get(f"/work/{work}")).status == 404
        place = (await surfer.send("/who", "/who", {"person": school.lea.hex(), "back": "/work"})).headers["Location"]
        assert place.startswith(f"/sign-in/{school.lea.hex()}")
        page = await surfer.page(place)
        assert "Tu es Léa ?" in page
        assert "bateau" in page
        assert (await sign_in(surfer, school.lea, PICTURES)).status == 303
        assert work in await surfer.page("/work")
        assert "Bravo Léa" in await surfer.page(f"/work/{work}")
        assert "J&#39;ai fini" in await surfer.page("/")
        assert (await surfer.send("/", "/sign-out", {})).status == 303
        assert (await surfer.get(f"/work/{work}")).status == 404


async def test_a_wrong_picture_or_code_shows_nothing_and_says_so(school: SignedClass) -> None:
    _, work = await handed_in(school)
    async with portal(school.pc.agent) as surfer:
        assert "Ce ne sont pas tes images" in (await sign_in(surfer, school.lea, WRONG)).text
        assert "Ce n&#39;est pas le bon code" in (await sign_in(surfer, school.tom, "4712")).text
        assert (await surfer.get(f"/work/{work}")).status == 404
        assert (await surfer.get(f"/sign-in/{'ab' * 16}")).status == 400
        assert (await sign_in(surfer, school.tom, "4711")).status == 303
        assert "4711" not in await surfer.page("/")


async def test_who_goes_away_is_signed_out_and_what_a_page_fetches_by_itself_is_no_use(school: SignedClass) -> None:
    _, work = await handed_in(school)
    clock = Hand()
    async with portal(school.pc.agent, clock_s=clock) as surfer:
        await sign_in(surfer, school.lea, PICTURES)
        clock.now_s += IDLE_S - 1
        assert (await surfer.get(f"/work/{work}")).status == 200
        clock.now_s += IDLE_S - 1
        assert school.lea.hex() in (await surfer.get("/live")).text
        assert (await surfer.get("/", Sec_Fetch_Dest="empty")).status == 200
        clock.now_s += 1
        assert school.lea.hex() not in (await surfer.get("/live")).text
        assert (await surfer.get(f"/work/{work}")).status == 404


async def test_a_session_ends_when_the_teacher_sets_something_else(school: SignedClass) -> None:
    _, work = await handed_in(school)
    async with portal(school.pc.agent) as surfer:
        await sign_in(surfer, school.lea, PICTURES)
        assert (await surfer.get(f"/work/{work}")).status == 200
        await school.book.set(school.room.space, {school.lea: (Method.PICTURES, "1-2-3")})
        await school.agree()
        assert (await surfer.get(f"/work/{work}")).status == 404
        assert (await sign_in(surfer, school.lea, "1-2-3")).status == 303


async def test_a_class_whose_teacher_has_not_switched_it_on_works_as_before(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        teacher, pc = await room.teacher(), await room.machine()
        item = (await room.publish(teacher, {"a.html": b"<p>a"}, kind=ItemKind.ASSIGNMENT)).item
        for device in (teacher, pc):
            await device.session.sync()
        async with portal(pc.agent) as surfer:
            answer = await surfer.send("/who", "/who", {"person": room.pupil_person.hex()})
            assert answer.headers["Location"] == "/"
            sent = await surfer.send(
                f"/item/{item.hex()}",
                f"/item/{item.hex()}/hand-in",
                {"person": room.pupil_person.hex()},
                [("a.txt", b"a")],
            )
            assert sent.status == 303
            assert (await surfer.get(sent.headers["Location"])).status == 200


async def test_handing_in_at_the_portal_takes_the_one_who_is_signed_in(school: SignedClass) -> None:
    item, _ = await handed_in(school)
    page, action = f"/item/{item}", f"/item/{item}/hand-in"
    async with portal(school.pc.agent) as surfer:
        assert "Dis d&#39;abord qui tu es" in await surfer.page(page)
        await sign_in(surfer, school.lea, PICTURES)
        assert "Tu rends ton travail : Léa" in await surfer.page(page)
        sent = await surfer.send(page, action, {"person": school.lea.hex()}, [("a.txt", b"a")])
        assert sent.status == 303
        assert "Ton travail est gardé" in await surfer.page(sent.headers["Location"])


async def test_a_pupil_without_pictures_and_a_machine_without_the_key_say_whom_to_see(school: SignedClass) -> None:
    zoe = await school.room.territory.person("Zoé", PersonRole.PUPIL, school.room.space)
    await school.agree()
    newcomer = await school.room.machine()
    await newcomer.session.sync()
    async with portal(school.pc.agent) as surfer:
        assert "Va voir Mme Petit" in await surfer.page(f"/sign-in/{zoe.hex()}")
    async with portal(newcomer.agent) as surfer:
        assert "ne connaît pas encore tes images" in await surfer.page(f"/sign-in/{school.lea.hex()}")
    # whoever holds the key wraps it for the newcomer
    for device in (school.pc, newcomer):
        await device.session.sync()
    async with portal(newcomer.agent) as surfer:
        assert (await sign_in(surfer, school.lea, PICTURES)).status == 303


async def _teacher_of(school: SignedClass, name: str, space: bytes) -> Device:
    person = await school.room.territory.person(name, PersonRole.TEACHER, space)
    device = await school.room.device(Role.TEACHER, space, person=person)
    await device.session.sync()
    return device


async def test_a_key_that_a_pc_was_given_where_it_may_say_nothing_keeps_no_newcomer_waiting_for_the_classs(
    school: SignedClass,
) -> None:
    room, above, pc = school.room, school.room.school, school.pc.agent
    zoe = await room.territory.person("Zoé", PersonRole.PUPIL, above)
    giver = await _teacher_of(school, "M. X", above)
    book = SignInBook(giver.agent)
    await book.set(above, {zoe: (Method.PIN, "4711")})
    name, mine = (await book.of(above)).persons[zoe].record.key, pc.keys.agreement.public
    assert name is not None
    key, right = await book.key(above, name), await giver.agent.right(above, Kind.SIGN_IN_WRAP)
    assert key is not None
    wraps = SignInWraps(name, ((mine, key.wrap(above, mine, bytes(range(32)))),))
    await giver.agent.write(Draft(above, Kind.SIGN_IN_WRAP, right.grant, wraps.encode()))
    await giver.session.sync()
    await _teacher_of(school, "Mme Roche", above)  # to whom nobody has given it
    newcomer = await room.machine()
    for device in (school.pc, newcomer, school.pc, newcomer):
        await device.session.sync()
    assert await school.fold_of(school.pc).key(above, name) is not None
    async with portal(newcomer.agent) as surfer:
        assert (await sign_in(surfer, school.lea, PICTURES)).status == 303


async def test_a_pupil_of_two_classes_signs_in_in_each_and_is_shown_what_is_hers_there(school: SignedClass) -> None:
    item, work = await handed_in(school)
    support = await class_beside(school, "Soutien", "M. Roche", pictures="1-2-3")
    async with portal(school.pc.agent) as surfer:
        assert (await sign_in(surfer, school.lea, "1-2-3", support)).status == 303
        assert work not in await surfer.page("/work")
        page = f"/item/{item}"
        asked = await surfer.page(page)
        assert "Dis d&#39;abord qui tu es" in asked
        assert "Dire qui je suis (CM1)" in asked
        assert "rien rendu" not in await surfer.page("/work"), "what she handed in elsewhere is not shown yet"
        there = f"/sign-in/{school.lea.hex()}?back=%2Fwork&amp;space={school.room.space.hex()}"
        assert there in await surfer.page("/work"), "the way to it is shown"
        assert "Classe : CM1" in await surfer.page(html.unescape(there))
        assert (await sign_in(surfer, school.lea, PICTURES, school.room.space)).status == 303
        assert work in await surfer.page("/work")
        assert "Tu rends ton travail : Léa" in await surfer.page(page)
        await school.book.set(school.room.space, {school.lea: (Method.PICTURES, "4-4-4")})
        await school.agree()
        assert (await surfer.get(f"/work/{work}")).status == 404
        assert school.lea.hex() in (await surfer.get("/live")).text, "in the other class she is still signed in"


async def test_a_pupil_who_has_moved_to_a_class_without_sign_in_still_signs_in_for_what_was_before(
    school: SignedClass,
) -> None:
    _, work = await handed_in(school)
    await class_beside(school, "CM2", "M. Roche", pictures=None)
    await leaves(school)
    async with portal(school.pc.agent) as surfer:
        assert (await surfer.send("/who", "/who", {"person": school.lea.hex()})).headers["Location"] == "/"
        page = await surfer.page("/work")
        assert (work in page, "Dire qui je suis (CM1)" in page) == (False, True)
        assert (await sign_in(surfer, school.lea, PICTURES, school.room.space)).status == 303
        assert work in await surfer.page("/work")
        assert "Bravo Léa" in await surfer.page(f"/work/{work}")


async def test_once_it_is_switched_on_what_was_handed_in_before_is_shown_to_who_signs_in(school: SignedClass) -> None:
    space, lea = school.room.space, school.lea.hex()
    await school.book.switch(space, on=False)
    await school.agree()
    item, work = await handed_in(school)
    async with portal(school.pc.agent) as surfer:
        await surfer.send("/who", "/who", {"person": lea})
        begun = {"person": lea, "later": "yes"}
        await surfer.send(f"/item/{item}", f"/item/{item}/hand-in", begun, [("recit.odt", b"begun")])
        assert "Bravo Léa" in await surfer.page(f"/work/{work}")
        await school.book.switch(space, on=True)
        await school.agree()
        assert (await surfer.get(f"/work/{work}")).status == 404
        assert "recit.odt" not in await surfer.page(f"/item/{item}")
        assert (await sign_in(surfer, school.lea, PICTURES)).status == 303
        assert "recit.odt" in await surfer.page(f"/item/{item}")
        assert "Bravo Léa" in await surfer.page(f"/work/{work}")


# --- the teacher ------------------------------------------------------------------------------------------------------


async def test_a_teacher_switches_it_on_prints_cards_and_the_cards_open(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        teacher, pc = await room.teacher(), await room.machine()
        for device in (teacher, pc):
            await device.session.sync()
        page = f"/sign-ins/{room.space.hex()}"
        async with portal(teacher.agent) as surfer:
            assert page in await surfer.page("/")
            assert "n&#39;est pas activée" in await surfer.page(page)
            cards = (await surfer.send(page, f"{page}/switch", {"on": "yes"})).text
            assert "Cartes à imprimer" in cards
            assert "picture-" not in await surfer.page(page)  # shown once
            pictures = "-".join(part.split('"')[0] for part in cards.split("picture-")[1:4])
        for device in (teacher, pc):
            await device.session.sync()
        async with portal(pc.agent) as surfer:
            assert (await sign_in(surfer, room.pupil_person, pictures)).status == 303
            assert (await surfer.get(page)).status == 404


async def test_a_teacher_gives_a_password_and_new_pictures_and_unlocks(school: SignedClass) -> None:
    page = f"/sign-ins/{school.room.space.hex()}"
    tom = school.tom.hex()
    async with portal(school.teacher.agent) as surfer:
        weak = await surfer.send(page, f"{page}/set", {"person": tom, "method": "password", "secret": "x"})
        assert weak.status == 400
        good = {"person": tom, "method": "password", "secret": "chou-fleur"}
        assert (await surfer.send(page, f"{page}/set", good)).status == 303
        assert "mot de passe" in await surfer.page(page)
        assert "Tom" in (await surfer.send(page, f"{page}/draw", {"person": tom})).text
        assert (await surfer.send(page, f"{page}/draw", {"person": "ab" * 16})).status == 400
        assert (await surfer.send(page, f"{page}/unlock", {"person": tom})).status == 303
        assert (await surfer.get(f"/sign-ins/{'ab' * 32}")).status == 400
    assert (await school.book.attempt(school.room.space, school.tom, "4711")).how is Try.WRONG


async def test_what_may_not_be_set_is_refused(school: SignedClass) -> None:
    space = school.room.space
    pupil = school.fold_of(school.pc)
    with pytest.raises(Refused):
        await pupil.set(space, {school.lea: (Method.PICTURES, "1-2-3")})
    with pytest.raises(Refused):
        await pupil.switch(space, on=False)
    with pytest.raises(BadInput) as unknown:
        await school.book.set(space, {b"?" * 16: (Method.PIN, "4711")})
    assert unknown.value.code is Code.UNKNOWN_PERSON
    with pytest.raises(BadInput):
        await school.book.unlock(space, b"?" * 16)


async def test_after_a_device_was_let_go_what_is_set_is_not_for_it(school: SignedClass) -> None:
    lost = await school.room.machine()
    for device in (lost, school.teacher, lost):
        await device.session.sync()
    assert (await school.fold_of(lost).standing(school.room.space, school.lea))[1] is Method.PICTURES
    cut = Revocation(lost.agent.device, ()).encode()
    await school.room.territory.say(school.room.space, Kind.REVOKE, cut)
    await school.agree()
    await school.book.set(school.room.space, {school.lea: (Method.PICTURES, "5-5-5")})
    await school.agree()
    sign_ins = await school.book.of(school.room.space)
    name = sign_ins.persons[school.lea].record.key
    assert name is not None
    assert lost.agent.keys.agreement.public not in sign_ins.given.of(name)
    assert school.pc.agent.keys.agreement.public in sign_ins.given.of(name)
    assert await tend_sign_in(school.teacher.agent) == 0


async def test_a_cookie_of_any_bytes_is_nobodys(school: SignedClass) -> None:
    async with portal(school.pc.agent) as surfer:
        await sign_in(surfer, school.lea, PICTURES)
        for method, cookie, status in (
            ("GET", "relais-signed-in", 200),
            ("POST", "relais-visit", 403),
        ):
            named = f"{surfer.cookie(cookie)}=\xff"
            given = {"Cookie": named, "Origin": surfer.origin, "Content-Type": "application/x-www-form-urlencoded"}
            path = "/" if method == "GET" else "/sign-out"
            answer = await asyncio.to_thread(http_call, surfer.origin, method, path, None, given)
            assert answer.status == status


class SwitchedOff(SignInBook):
    """Sign-in that somebody switches off right after the first look."""

    looks = 0

    async def guards(self, among: Iterable[bytes] | None = None) -> Guards:
        self.looks += 1
        return await super().guards(among) if self.looks == 1 else Guards()


async def test_who_tries_while_sign_in_is_switched_off_is_told_so(school: SignedClass) -> None:
    assert (await SwitchedOff(school.pc.agent).attempt(school.room.space, school.tom, "4711")).how is Try.UNSET
