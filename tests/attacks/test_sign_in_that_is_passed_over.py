"""Sign-in is on by a word of a teacher's who speaks for nobody on this PC (docs/attacks.md, docs/adr/0423)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from protocol.clock import DAY_MS
from protocol.folds.sign_in import Method
from protocol.model.entry import Entry
from protocol.model.work import ItemKind
from protocol.replica.office.spaces import uai_of
from protocol.rights.roster import Roster
from sync_agent.school.sign_in import SignInBook
from tests.harness.attack import attack
from tests.harness.classroom import SMALL, WORK, Classroom, Device
from tests.harness.commands import Desk
from tests.harness.office_devices import Town, town
from tests.harness.portal import portal
from tests.harness.sign_in import PICTURES, SignedClass, answers_unasked, sign_in

ROW = "sign-in is off where who switched it on speaks for nobody"
NOT_CONFIRMED = "ou dont aucun autre n&#39;a confirmé"
REMARK = "viens me voir"


def _held_back_alone(switches: Iterable[Entry], roster: Roster) -> list[Entry]:
    """What is passed over counts for nothing."""
    return [one for one in switches if one.id in roster.held_back and not roster.is_erased(one)]


def _anybodys_last_word(switches: Iterable[Entry], roster: Roster) -> list[Entry]:
    """Whoever speaks for nobody takes back what somebody else said who does not."""
    said = [one for one in switches if one.header.grant in roster.unconfirmed]
    return sorted(said, key=lambda one: one.header.at)[-1:]


def _asked_of_none(entries: Iterable[Entry], counting: Iterable[Entry], roster: Roster) -> list[Entry]:
    """No word settles anything that is said by devices which came in later."""
    led_to = {parent for word in counting for parent in word.header.parents}
    return [one for one in entries if one.header.grant in roster.unconfirmed and one.id not in led_to]


async def school_without(room: Classroom) -> SignedClass:
    """A class that has not switched sign-in on; its teacher speaks."""
    school = SignedClass(room, await room.teacher(), await room.machine(), bytes(16))
    await school.agree()
    return school


async def says(device: Device, school: SignedClass, *, on: bool) -> None:
    """How it is to be, on this device; everybody hears of it."""
    room = school.room
    room.territory.clock.advance(1_000)
    await SignInBook(device.agent).switch(room.space, on=on)
    await device.session.sync()
    await school.agree()


async def is_on(school: SignedClass) -> bool:
    return (await school.fold_of(school.pc).of(school.room.space)).on


@attack(ROW, off={"protocol.folds.sign_in._doubted": _held_back_alone})
async def test_what_a_laptop_switched_on_that_waits_to_be_confirmed_is_asked_for_at_once(room: Classroom) -> None:
    school = await school_without(room)
    item = (await room.publish(school.teacher, SMALL, kind=ItemKind.ASSIGNMENT)).item
    await school.agree()
    hers = (await room.hand_in(school.pc, item, WORK)).hex()
    await says(await room.teacher(), school, on=True)
    assert await answers_unasked(school, hers, item.hex()) == (404, 403)


@attack(ROW, off={"protocol.folds.sign_in._unsettled": _asked_of_none})
async def test_a_teacher_is_told_and_switches_off_for_good_what_invented_devices_switch_on(room: Classroom) -> None:
    school = await school_without(room)
    invented = await room.teacher()
    await says(invented, school, on=True)
    page = f"/sign-ins/{room.space.hex()}"
    async with portal(school.teacher.agent) as surfer:
        assert "La connexion des élèves de la classe CM1 a été changée" in await surfer.page("/")
        assert NOT_CONFIRMED in await surfer.page(page)
        await surfer.send(page, f"{page}/switch", {"on": ""})
        assert NOT_CONFIRMED not in await surfer.page(page)
    await school.agree()
    assert not await is_on(school)
    await says(invented, school, on=True)
    await says(await room.teacher(), school, on=True)
    assert not await is_on(school)


@attack(ROW, off={"protocol.folds.sign_in._doubted": _anybodys_last_word})
async def test_an_invented_device_takes_back_nobodys_word(room: Classroom) -> None:
    school = await school_without(room)
    second, invented = await room.teacher(), await room.teacher()
    await says(second, school, on=True)
    await invented.session.sync()
    await says(invented, school, on=False)
    assert await is_on(school)


async def test_who_switched_it_on_there_switches_it_off_there_too(room: Classroom) -> None:
    school = await school_without(room)
    second = await room.teacher()
    await says(second, school, on=True)
    assert await is_on(school)
    await says(second, school, on=False)
    assert not await is_on(school)


async def test_what_a_laptop_switched_off_that_speaks_for_nobody_settles_nothing_but_passes_on_what_it_replaced(
    room: Classroom,
) -> None:
    school = await school_without(room)
    second, third = await room.teacher(), await room.teacher()
    await says(second, school, on=True)
    await third.session.sync()
    await says(third, school, on=False)
    assert await is_on(school)
    await says(school.teacher, school, on=False)
    assert not await is_on(school)


async def _all(here: Town, *, but: Device | None = None) -> None:
    for _ in range(3):
        await here.sync(*(device for device in here.devices if device is not but))
        here.office.clock.advance(60_000)


async def test_a_pc_that_comes_into_a_class_once_its_teachers_laptop_was_lost_asks_who_somebody_is(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        office = here.office
        first, pc, petit, lea, _ = await here.class_in_step()
        office.clock.advance(30 * DAY_MS)
        await _all(here)
        school = await uai_of(office.server, here.school)
        cm2 = (await office.do("space add", name="CM2", school=school, person=[petit]))["space"]
        space, pupil = bytes.fromhex(cm2), bytes.fromhex(lea)
        await office.do("grant", device=None, person=lea, space=[cm2])
        of_the_class = await here.device("machine", None, cm2)
        await _all(here)
        await SignInBook(first.agent).switch(space, on=True)
        await SignInBook(first.agent).set(space, {pupil: (Method.PICTURES, "1-1-2")})
        await _all(here)
        office.clock.advance(60 * DAY_MS)
        await _all(here)
        await office.do("lost", device=first.agent.device.hex())
        second = await here.device("teacher", petit, cm2)
        await office.do("grant", device=second.agent.device.hex(), space=[here.space.hex()])
        await _all(here, but=first)
        office.clock.advance(9 * DAY_MS)
        await _all(here, but=first)
        item = await here.asks_for_work(second, space)
        await office.do("grant", device=pc.agent.device.hex(), space=[cm2])
        await _all(here, but=first)
        work = await here.work(of_the_class, item, lea)
        await _all(here, but=first)
        await Desk(second.agent).ask("feedback", id=work.hex(), text=REMARK, mark="7/20", redo=False)
        await _all(here, but=first)
        async with portal(pc.agent) as surfer:
            await surfer.send("/who", "/who", {"person": lea, "back": "/"})
            assert REMARK not in (await surfer.get(f"/work/{work.hex()}")).text
            at = f"/item/{item.hex()}"
            sent = await surfer.send(at, f"{at}/hand-in", {"person": lea}, [("a.txt", b"x")])
            assert sent.status == 403
        await SignInBook(second.agent).set(space, {pupil: (Method.PICTURES, PICTURES)})
        await _all(here, but=first)
        async with portal(pc.agent) as surfer:
            assert (await sign_in(surfer, pupil, PICTURES)).status == 303
            assert REMARK in await surfer.page(f"/work/{work.hex()}")
