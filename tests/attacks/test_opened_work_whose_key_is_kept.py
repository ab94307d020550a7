"""Whoever has the server's key has a PC keep the keys of opened work, and names readers later (docs/adr/0270, 0449)."""

from __future__ import annotations

from pathlib import Path

from protocol.clock import DAY_MS
from protocol.folds.hand_in_keys import content_key_of
from protocol.identity import AgreementKey
from protocol.limits import ACQUAINTANCE_MS
from protocol.model.entry import Kind
from protocol.model.structure import Grant, PersonKey, RecoveryKey, Revocation
from protocol.model.work import ItemKind
from protocol.replica.at_work.keyring import recovery_keys
from protocol.replica.at_work.replica import Replica
from protocol.replica.console.frame import Notices
from protocol.replica.office.opened import is_opened_by_the_listed
from protocol.rights.door import Authority
from protocol.roles import PersonRole, Role
from sync_agent.coursework.publisher import Wish, publish
from sync_agent.hand_ins.handing_in import hand_in
from sync_agent.hand_ins.wraps import _late_wraps
from sync_agent.keys.key_wraps import reading_keys
from tests.harness.attack import attack
from tests.harness.before_her import somebody, who_says_her_key
from tests.harness.classroom import (
    SMALL,
    Classroom,
    Device,
    Given,
    assignment,
    classroom,
    keeps_key_of,
    takes_for_opened,
)
from tests.harness.commands import Desk
from tests.harness.copied_keys import granted
from tests.harness.lan import exchange
from tests.harness.next_year import NextYear
from tests.harness.passing_days import pass_days
from tests.harness.spied_class import spied_class

ROW = "a PC is to keep the keys of work that was opened"


async def _nothing(*_: object) -> int:
    return 0


def _given(was: Authority, role: Role, *, until_ms: int | None = None) -> bytes:
    person = was.person if role is Role.TEACHER else None
    return Grant(was.key, was.agreement, was.tls_sha256 or b"", role, person, None, until_ms).encode()


async def _cut(room: Classroom, device: Device) -> bytes:
    """In good order: nothing that it has said is held back."""
    heads = tuple(await room.territory.replica.tips(room.space, device.agent.device))
    return (await room.territory.say(room.space, Kind.REVOKE, Revocation(device.agent.device, heads).encode())).id


async def _opens(teacher: Device, work: bytes) -> None:
    await Desk(teacher.agent).files("open-hand-in", id=work.hex())
    await Desk(teacher.agent).ask("confirm-opened", id=work.hex())


HEARS_OF_NOTHING: dict[str, object] = {"sync_agent.hand_ins.wraps.has_heard_opened": _nothing}


@attack(ROW, off=HEARS_OF_NOTHING)
async def test_the_key_of_what_she_has_opened_is_gone_at_once_whoever_says_her_key_as_his(year: NextYear) -> None:
    work = await year.opened_work(await who_says_her_key(year))
    assert not await keeps_key_of(year.machine, work)


@attack(ROW, off=HEARS_OF_NOTHING)
async def test_who_was_there_for_an_hour_before_her_and_is_back_months_later_is_given_nothing_that_she_opened(
    year: NextYear,
) -> None:
    named, space = somebody(1), await who_says_her_key(year)
    key = named.keys.signing.public
    cut = Revocation(key, tuple(await year.server.tips(space, key))).encode()
    gone = await year.thief_says(space, Kind.REVOKE, cut)
    await year.sync()
    works = [await year.opened_work(space) for _ in range(2)]
    await year.here.days_pass(60, year.machine)
    again = granted(named.keys, Role.TEACHER, named.person)
    year.grants[space] = (await year.thief_says(space, Kind.GRANT, again, parents=(gone.id,))).id
    await year.spy_says(space, Kind.PERSON_KEY, PersonKey(named.keys.agreement.public).encode(), named.person)
    await year.sync(year.machine)
    assert not [work for work in works if await year.is_given(space, work, named.keys)]


@attack(ROW, off=HEARS_OF_NOTHING)
async def test_who_is_named_before_a_pc_hears_that_she_has_opened_it_is_given_nothing_in_that_look(
    tmp_path: Path,
) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        room, machine, petit = here.room, here.machine, here.teacher
        work = await room.hand_in(machine, here.item, {"r.odt": b"the work of a pupil"})
        await here.sync(machine, petit)
        await _opens(petit, work)
        await here.sync(petit)
        await here.name_the_spy(await room.territory.person("M. X", PersonRole.TEACHER, room.space))
        await here.sync(machine)
        assert not await here.opens(work)
        assert not await keeps_key_of(machine, work)


@attack(ROW, off={"sync_agent.lan.exchange.after_news.tend_after_news": _nothing})
async def test_the_key_of_what_a_neighbour_says_was_opened_is_gone_before_the_next_look_at_the_server(
    tmp_path: Path,
) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        room, machine, petit = here.room, here.machine, here.teacher
        work = await room.hand_in(machine, here.item, {"r.odt": b"the work of a pupil"})
        await here.sync(machine, petit)
        await _opens(petit, work)
        await exchange(machine.agent, petit.agent)
        assert not await keeps_key_of(machine, work)
        await here.sync(petit)
        (hers,) = room.territory.replica.door.authorities_of(petit.agent.device)
        cut = await _cut(room, petit)
        await room.territory.say(room.space, Kind.GRANT, _given(hers, Role.MACHINE), parents=(cut,))
        await here.name_the_spy(await room.territory.person("M. X", PersonRole.TEACHER, room.space))
        await here.sync(machine)
        assert not await here.opens(work)


@attack(ROW, off={"protocol.folds.hand_in_keys._was_before": lambda *_: False})
async def test_her_receipt_of_before_counts_where_a_pc_hears_with_it_that_her_laptop_is_none(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        room, machine, petit = here.room, here.machine, here.teacher
        work = await room.hand_in(machine, here.item, {"r.odt": b"the work of a pupil"})
        await here.sync(machine, petit)
        await _opens(petit, work)
        await here.sync(petit)
        (hers,) = room.territory.replica.door.authorities_of(petit.agent.device)
        cut = await _cut(room, petit)
        await room.territory.say(room.space, Kind.GRANT, _given(hers, Role.MACHINE), parents=(cut,))
        await here.name_the_spy(await room.territory.person("M. X", PersonRole.TEACHER, room.space))
        await here.sync(petit)
        await exchange(machine.agent, petit.agent)
        await here.sync(machine)
        assert await takes_for_opened(machine, room.space, work)
        assert not await here.opens(work)
        assert not await keeps_key_of(machine, work), "she has opened it"


@attack(ROW, off={"sync_agent.hand_ins.wraps._late_wraps_there": _late_wraps})
async def test_a_class_in_which_a_pc_may_write_no_more_keeps_no_other_from_being_looked_after(tmp_path: Path) -> None:
    async with classroom(tmp_path, spaces=2) as room:
        territory, one = room.territory, room.space
        two = territory.classes[1]
        tom = await territory.person("Tom", PersonRole.PUPIL, two)
        dupont = await territory.person("M. Dupont", PersonRole.TEACHER, two)
        petit, other = await room.teacher(), await room.device(Role.TEACHER, two, person=dupont)
        machine = await room.device(Role.MACHINE, one, two)
        for device in (petit, other, machine):
            await device.session.sync()
        items = [await _published(petit, one), await _published(other, two)]
        for device in (petit, other, machine):
            await device.session.sync()
        await _handed_in(machine, items[1], tom)  # nobody opens it
        opened, waiting = [await _handed_in(machine, items[0], room.pupil_person) for _ in range(2)]
        for device in (machine, petit, other):
            await device.session.sync()
        # the server calls it an administrator's there: it reads, and writes no wrap; and names somebody
        (was,) = [each for each in territory.replica.door.authorities_of(machine.agent.device) if each.space == two]
        tips = tuple(await territory.replica.tips(two, machine.agent.device))
        await territory.say(two, Kind.REVOKE, Revocation(machine.agent.device, tips).encode(), target=was.grant)
        await territory.say(two, Kind.GRANT, _given(was, Role.ADMIN))
        anybody = await territory.person("Mme Roy", PersonRole.TEACHER, two)
        await (await room.device(Role.TEACHER, two, person=anybody)).session.sync()
        await machine.session.sync()
        await _opens(petit, opened)
        for _ in range(2):
            await petit.session.sync()
            await machine.session.sync()
        assert not await keeps_key_of(machine, opened)
        late = await room.device(Role.TEACHER, person=await territory.person("Mme Tard", PersonRole.TEACHER, one))
        for device in (late, machine, late):
            await device.session.sync()
        found = (await late.agent.replica.view(one)).coursework.hand_ins[waiting]
        assert content_key_of(found, reading_keys(late.agent)) is not None


async def _for_nobody_yet(room: Classroom) -> tuple[Device, bytes]:
    """A PC with work for which there was no teacher; the kit was replaced since, and who came has opened it."""
    territory, head, machine = room.territory, await room.head(), await room.machine()
    await head.session.sync()
    work = await room.hand_in(machine, await assignment(room, head, machine), {"r.odt": b"the work of a pupil"})
    await machine.session.sync()
    teacher = await room.teacher()
    for device in (teacher, machine, teacher):
        await device.session.sync()
    await pass_days(territory, ACQUAINTANCE_MS // DAY_MS + 1, machine)
    new = RecoveryKey(AgreementKey(territory.entropy(32)).public).encode()
    await territory.kit_says(territory.id, Kind.RECOVERY_KEY, new)
    for device in (machine, teacher):
        await device.session.sync()
    await _opens(teacher, work)
    for device in (teacher, machine, machine):
        await device.session.sync()
    return machine, work


async def _of_the_kit_in_force(replica: Replica) -> frozenset[bytes]:
    return frozenset(await recovery_keys(replica))


@attack(ROW, off={"sync_agent.hand_ins.for_good.recovery_keys_ever": _of_the_kit_in_force})
async def test_what_was_sealed_to_an_earlier_kit_alone_who_came_has_opened(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        machine, work = await _for_nobody_yet(room)
        assert await takes_for_opened(machine, room.space, work)
        assert not await keeps_key_of(machine, work)


@attack(ROW, off={"protocol.replica.office.opened.recovery_keys_ever": _of_the_kit_in_force})
async def test_what_was_sealed_to_an_earlier_kit_alone_counts_as_opened_where_its_class_is_closed(
    tmp_path: Path,
) -> None:
    async with classroom(tmp_path) as room:
        _, work = await _for_nobody_yet(room)
        view = await room.territory.replica.view(room.space)
        is_opened = await is_opened_by_the_listed(room.territory.replica, view.roster)
        assert is_opened(view.coursework.hand_ins[work])


async def _published(device: Device, space: bytes) -> bytes:
    return (await publish(device.agent, Wish(space, None, ItemKind.ASSIGNMENT, "Devoir"), Given(SMALL), Notices())).item


async def _handed_in(device: Device, item: bytes, person: bytes) -> bytes:
    return await hand_in(device.agent, item, person, [("a.odt", 5)], Given({"a.odt": b"hello"}), Notices())
