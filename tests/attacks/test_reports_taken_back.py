"""Whoever has the server takes a head teacher's report of a lost laptop back (docs/attacks.md, docs/adr/0178)."""

from __future__ import annotations

import html
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from protocol.folds.hand_in_keys import content_key_of
from protocol.identity import three_words
from protocol.model.entry import Kind
from protocol.model.structure import Grant, Revocation
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.device_cuts import TakenBack
from protocol.rights.door import Authority
from protocol.roles import Role
from sync_agent.keys.key_wraps import reading_keys
from sync_agent.school.office import SchoolOffice
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.head_at_work import confirmed_head, take_back
from tests.harness.lost_laptop import another_laptop, teach_too
from tests.harness.portal import portal
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.spied_class import spied_class
from tests.harness.territory import new_device

ROW = "a server takes back what was reported lost"
TAKEN_BACK = "Ce signalement a été annulé depuis"
Way = Callable[[Here, Device, Device], Awaitable[None]]


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with spied_class(tmp_path, kept_for=__name__) as made:
        yield made


async def _hold_it_back(here: Here, reporting: Device, _second: Device) -> None:
    await take_back(here.room.territory, reporting)


async def _let_all_of_hers_back(here: Here, _reporting: Device, second: Device) -> None:
    """The laptop, by a grant that names the report; and, cut off in the same moment, the one that would have to confirm
    it."""
    territory, space = here.room.territory, here.room.space
    reports = tuple((await territory.replica.view(space)).roster.revocations)
    said = tuple(await territory.replica.tips(space, second.agent.device))
    cut = await territory.say(space, Kind.REVOKE, Revocation(second.agent.device, said).encode())
    for device, names in ((here.teacher, reports), (second, (cut.id,))):
        keys = device.agent.keys
        pair = keys.signing.public, keys.agreement.public
        again = Grant(*pair, keys.tls.fingerprint, Role.TEACHER, here.room.teacher_person, None).encode()
        await territory.say(space, Kind.GRANT, again, parents=names)


async def _nothing_is_told(*_: object) -> dict[bytes, TakenBack]:
    return {}


async def _none_by_rank(*_: object) -> set[bytes]:
    return set()


async def _readers_by_rights_of_the_school(office: SchoolOffice) -> dict[bytes, dict[bytes, list[Authority]]]:
    """As if nobody read a class by a right from above it."""
    own = set(office.replica.door.below(office.home))
    found: dict[bytes, dict[bytes, list[Authority]]] = {}
    for space in own:
        roster = (await office.replica.view(space)).roster
        for right in roster.authorities:
            if right.space in own and roster.may_read(right.key):
                found.setdefault(right.key, {}).setdefault(space, []).append(right)
    return found


def _none_elsewhere(*_: object) -> dict[bytes, list[Authority]]:
    return {}


@pytest.mark.parametrize("way", [_hold_it_back, _let_all_of_hers_back])
@pytest.mark.parametrize("teller", ["the-one-that-reported", "another-head"])
@attack(
    ROW,
    off={
        "sync_agent.school.devices.reports_taken_back": _nothing_is_told,
        "sync_agent.portal.head.losses.counted_again": _nothing_is_told,
    },
)
async def test_a_report_that_a_server_takes_back_is_told_on_every_heads_computer_and_is_made_again(
    here: Here, teller: str, way: Way
) -> None:
    second = await another_laptop(here, here.teacher)
    reporting, _ = await confirmed_head(here)
    other, _ = await confirmed_head(here)
    everybody = (reporting, other, second, here.machine)
    await here.sync(*everybody)
    laptop, stolen = here.teacher.agent.device, dict(reading_keys(here.teacher.agent))
    await Desk(reporting.agent).ask("lost", device=laptop.hex())
    await here.sync(*everybody, *everybody)
    await way(here, reporting, second)
    await here.sync(*everybody, *everybody)
    in_use = (await here.machine.agent.replica.view(here.room.space)).roster.reading_keys[here.room.teacher_person]
    assert stolen.keys() & set(in_use), "until somebody has read what is told"
    head = reporting if teller == "the-one-that-reported" else other
    desk = Desk(head.agent)
    await desk.ask("devices")
    assert f"lost {laptop.hex()}" in "".join(desk.told)
    async with portal(head.agent) as surfer:
        assert "Un poste signalé perdu compte de nouveau" in html.unescape(await surfer.page("/school"))
        page = html.unescape(await surfer.page("/lost"))
        row = _first_row(page)
        assert three_words(laptop) in row, "it stands first"
        assert TAKEN_BACK in row
        assert page.count(TAKEN_BACK) == 1
        assert (await surfer.send("/lost", "/lost", {"device": laptop.hex(), "meant": "yes"})).status == 200
        assert TAKEN_BACK not in html.unescape(await surfer.page("/lost"))
    await here.sync(head, *everybody, *everybody)
    work = await here.room.hand_in(here.machine, here.item, {"b.odt": b"neu"})
    await here.sync(here.machine, second)
    handed_in = (await second.agent.replica.view(here.room.space)).coursework.hand_ins[work]
    assert content_key_of(handed_in, stolen) is None
    assert content_key_of(handed_in, reading_keys(second.agent)) is not None


@pytest.mark.parametrize("where", ["class", "school"])
@pytest.mark.parametrize("teller", ["the-one-that-reported", "another-head"])
@attack(
    ROW,
    off={
        "protocol.replica.office.device_cuts._outranked": _none_by_rank,
        "protocol.replica.office.device_cuts._let_in_elsewhere": _none_elsewhere,
    },
)
async def test_a_reported_laptop_that_a_server_makes_a_heads_is_told_with_who_can_take_that_right(
    here: Here, teller: str, where: str
) -> None:
    reporting, _ = await confirmed_head(here)
    other, _ = await confirmed_head(here)
    laptop, territory = here.teacher.agent.device, here.room.territory
    await Desk(reporting.agent).ask("lost", device=laptop.hex())
    await here.sync(reporting, other)
    school = territory.replica.door.parent(here.room.space)
    assert school is not None
    space = here.room.space if where == "class" else school
    await territory.let_in(here.teacher.agent.keys, Role.HEAD, space, person=here.room.teacher_person)
    await here.sync(reporting, other)
    head = reporting if teller == "the-one-that-reported" else other
    desk = Desk(head.agent)
    await desk.ask("devices")
    assert f"revoke --kit {laptop.hex()}" in "".join(desk.told)
    async with portal(head.agent) as surfer:
        assert "Un poste signalé perdu compte de nouveau" in html.unescape(await surfer.page("/school"))
        assert "que votre signalement ne retire pas" in html.unescape(await surfer.page("/lost"))


@attack(ROW, off={"protocol.replica.office.device_cuts._came_before": lambda *_: False})
async def test_that_a_stolen_heads_laptop_reports_another_heads_is_told_nobody(here: Here) -> None:
    stolen, _ = await confirmed_head(here)
    other, _ = await confirmed_head(here)
    await here.sync(stolen, other)
    office = await SchoolOffice.of(stolen.agent)
    keys, space = other.agent.keys, here.room.space
    as_a_teachers = Grant(
        keys.signing.public, keys.agreement.public, None, Role.TEACHER, here.room.teacher_person, None
    )
    await office.say([Draft(space, Kind.GRANT, None, as_a_teachers.encode())])
    await office.say([Draft(space, Kind.REVOKE, None, Revocation(other.agent.device, ()).encode())])
    await here.sync(stolen, other)
    desk = Desk(other.agent)
    await desk.ask("devices")
    assert "was reported" not in "".join(desk.told)


@pytest.mark.parametrize("role", [Role.TEACHER, Role.HEAD])
@pytest.mark.parametrize("teller", ["the-one-that-reported", "another-head"])
@attack(ROW, off={"protocol.replica.office.device_cuts._let_in_elsewhere": _none_elsewhere})
async def test_a_reported_laptop_that_a_server_lets_into_another_class_of_the_school_is_told_and_reported_again(
    here: Here, teller: str, role: Role
) -> None:
    territory, laptop = here.room.territory, here.teacher.agent.device
    other_class = await territory.classroom("CM2", here.room.school)
    reporting, _ = await confirmed_head(here)
    other, _ = await confirmed_head(here)
    await Desk(reporting.agent).ask("lost", device=laptop.hex())
    await here.sync(reporting, other)
    head = reporting if teller == "the-one-that-reported" else other
    desk = Desk(head.agent)
    await desk.ask("devices")
    assert "was reported" not in "".join(desk.told)
    await territory.let_in(here.teacher.agent.keys, role, other_class, person=here.room.teacher_person)
    await here.sync(reporting, other)
    assert (await head.agent.replica.view(other_class)).roster.may_read(laptop)
    desk = Desk(head.agent)
    await desk.ask("devices")
    told = "".join(desk.told)
    assert "reads “CM2”, into which it was let since" in told
    assert (f"revoke --kit {laptop.hex()}" in told) == (role is Role.HEAD), "who alone can take a head's right"
    assert ("agrees" in told) == (role is Role.TEACHER), "no command of hers agrees to a head's right"
    async with portal(head.agent) as surfer:
        assert "Un poste signalé perdu compte de nouveau" in html.unescape(await surfer.page("/school"))
        row = _first_row(await surfer.page("/lost"))
        assert three_words(laptop) in row, "it stands first"
        assert "Quelqu'un l'a fait entrer depuis ici : CM2" in row
        assert ("que votre signalement ne retire pas" in row) == (role is Role.HEAD)
    if role is Role.TEACHER:
        await desk.ask("lost", device=laptop.hex())
        assert not (await head.agent.replica.view(other_class)).roster.may_read(laptop)
        desk = Desk(head.agent)
        await desk.ask("devices")
        assert "was reported" not in "".join(desk.told)


@attack(ROW, off={"sync_agent.portal.head.losses._kept": _none_elsewhere})
async def test_a_reported_laptop_that_reads_on_by_a_heads_right_of_before_is_called_cut_off_nowhere(here: Here) -> None:
    territory, laptop = here.room.territory, here.teacher.agent.device
    other_class = await territory.classroom("CM2", here.room.school)
    head, _ = await confirmed_head(here)
    await territory.let_in(here.teacher.agent.keys, Role.HEAD, other_class, person=here.room.teacher_person)
    await here.sync(head)
    await Desk(head.agent).ask("lost", device=laptop.hex())
    assert await _is_read(head, other_class, laptop)
    assert not await _is_read(head, here.room.space, laptop)
    async with portal(head.agent) as surfer:
        row = _first_row(await surfer.page("/lost"))
    assert "Il lit encore : CM2, par un droit de direction" in row
    assert f"sync-server revoke {laptop.hex()}" in row


@pytest.mark.parametrize("first", [Role.HEAD, Role.ADMIN, Role.SERVER])
async def test_the_page_of_losses_opens_whatever_a_copied_key_made_of_a_device_first(here: Here, first: Role) -> None:
    territory, spy = here.room.territory, new_device(here.room.territory.entropy)
    head, _ = await confirmed_head(here)
    if first is not Role.SERVER:
        await territory.let_in(spy, first, await territory.classroom("CM2", here.room.school))
    signing = territory.keys.signing if first is Role.SERVER else spy.signing
    as_a_teachers = Grant(signing.public, spy.agreement.public, None, Role.TEACHER, None, None)
    await territory.say(here.room.space, Kind.GRANT, as_a_teachers.encode())
    await here.sync(head)
    async with portal(head.agent) as surfer:
        assert three_words(signing.public) in await surfer.page("/lost")


@pytest.mark.parametrize("names", ["the report", "nothing"])
@pytest.mark.parametrize("teller", ["the-one-that-reported", "another-head"])
@attack(ROW, off={"sync_agent.school.devices._readers": _readers_by_rights_of_the_school})
async def test_a_reported_laptop_that_a_server_lets_in_above_the_school_is_told_and_reported_again(
    here: Here, teller: str, names: str
) -> None:
    territory, room, laptop = here.room.territory, here.room, here.teacher.agent.device
    other_class = await territory.classroom("CM2", room.school)
    reporting, _ = await confirmed_head(here)
    other, _ = await confirmed_head(here)
    await Desk(reporting.agent).ask("lost", device=laptop.hex())
    await here.sync(reporting, other)
    top, keys = territory.replica.territory, here.teacher.agent.keys
    spaces = (room.space, room.school, top) if names == "the report" else ()
    reports = tuple([cut for each in spaces for cut in (await territory.replica.view(each)).roster.revocations])
    pair = keys.signing.public, keys.agreement.public
    again = Grant(*pair, keys.tls.fingerprint, Role.TEACHER, room.teacher_person, None).encode()
    await territory.say(top, Kind.GRANT, again, parents=reports)
    await here.sync(reporting, other)
    head = reporting if teller == "the-one-that-reported" else other
    assert await _is_read(head, other_class, laptop)
    assert await _is_read(head, room.space, laptop) == (names == "the report")
    desk = Desk(head.agent)
    listed = {row["device"]: row["spaces"] for row in await desk.ask("devices")}
    assert other_class.hex() in listed.get(laptop.hex(), ())
    assert f"lost {laptop.hex()}" in "".join(desk.told)
    async with portal(head.agent) as surfer:
        assert "Un poste signalé perdu compte de nouveau" in html.unescape(await surfer.page("/school"))
        page = html.unescape(await surfer.page("/lost"))
        assert (TAKEN_BACK if names == "the report" else "Quelqu'un l'a fait entrer depuis ici : École") in page
    await desk.ask("lost", device=laptop.hex())
    assert not any([await _is_read(head, space, laptop) for space in (room.space, other_class)])
    desk = Desk(head.agent)
    assert laptop.hex() not in {row["device"] for row in await desk.ask("devices")}
    assert "was reported" not in "".join(desk.told)


def _first_row(page: str) -> str:
    return html.unescape(page).partition('<ul class="works-list">')[2].partition("</li>")[0]


async def _is_read(head: Device, space: bytes, device: bytes) -> bool:
    return (await head.agent.replica.view(space)).roster.may_read(device)


async def test_who_runs_the_school_agrees_that_a_reported_laptop_was_let_in_above_it(here: Here) -> None:
    territory, laptop = here.room.territory, here.teacher.agent.device
    other_class = await territory.classroom("CM2", here.room.school)
    head, _ = await confirmed_head(here)
    await Desk(head.agent).ask("lost", device=laptop.hex())
    await here.sync(head)
    top, person = territory.replica.territory, here.room.teacher_person
    await territory.let_in(here.teacher.agent.keys, Role.TEACHER, top, person=person)
    await here.sync(head)
    desk = Desk(head.agent)
    await desk.ask("devices")
    agreeing = f"`grant --device {laptop.hex()} --space {here.room.school.hex()}` agrees"
    assert agreeing in "".join(desk.told), "by a line that this computer takes"
    await desk.ask("grant", device=laptop.hex(), space=[here.room.school.hex()])
    desk = Desk(head.agent)
    await desk.ask("devices")
    assert "was reported" not in "".join(desk.told)
    assert await _is_read(head, other_class, laptop)


async def test_who_runs_the_school_agrees_that_a_reported_laptop_is_in_another_class(here: Here) -> None:
    territory, laptop = here.room.territory, here.teacher.agent.device
    other_class = await territory.classroom("CM2", here.room.school)
    head, _ = await confirmed_head(here)
    await Desk(head.agent).ask("lost", device=laptop.hex())
    await here.sync(head)
    await teach_too(here, other_class, here.teacher)
    await here.sync(head)
    await Desk(head.agent).ask("grant", device=laptop.hex(), space=[other_class.hex()])
    desk = Desk(head.agent)
    await desk.ask("devices")
    assert "was reported" not in "".join(desk.told)
    assert (await head.agent.replica.view(other_class)).roster.may_read(laptop)


@attack(ROW, off={"protocol.replica.office.device_cuts._came_before": lambda *_: False})
async def test_a_laptop_that_was_in_another_class_before_it_left_one_is_told_nobody(here: Here) -> None:
    territory = here.room.territory
    other_class = await territory.classroom("CM2", here.room.school)
    await teach_too(here, other_class, here.teacher)
    head, _ = await confirmed_head(here)
    await Desk(head.agent).ask("ungrant", device=here.teacher.agent.device.hex(), space=[here.room.space.hex()])
    await here.sync(head)
    desk = Desk(head.agent)
    await desk.ask("devices")
    assert "was reported" not in "".join(desk.told)


async def test_the_laptop_of_a_teacher_who_changes_classes_is_told_nobody(here: Here) -> None:
    territory, person = here.room.territory, here.room.teacher_person
    other_class = await territory.classroom("CM2", here.room.school)
    head, _ = await confirmed_head(here)
    await Desk(head.agent).ask("ungrant", person=person.hex(), space=[here.room.space.hex()])
    await here.sync(head)
    await teach_too(here, other_class, here.teacher)
    await here.sync(head)
    desk = Desk(head.agent)
    await desk.ask("devices")
    assert "was reported" not in "".join(desk.told)
