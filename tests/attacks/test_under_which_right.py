"""Whoever copied the server's key writes devices further rights, which end with it: nothing is said under these."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from random import Random

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput, RelaisError
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Grant, Revocation, SpaceRecord
from protocol.replica.at_work.replica import Draft
from protocol.replica.at_work.views import SpaceView
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.office.bureau import Office as AnyOffice
from protocol.replica.office.spaces import uai_of
from protocol.rights.door import Authority, Door
from protocol.roles import PersonRole, Role
from sync_agent.app import Agent
from sync_agent.keys.succession import Place, bind
from sync_agent.school.office import SchoolOffice
from sync_agent.sync.session import Session
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.attack import attack
from tests.harness.classroom import Device, above
from tests.harness.commands import Desk
from tests.harness.copied_keys import AS_WHOEVER_IT_IS_CALLED, thief_says
from tests.harness.kept_town import keep_town, town_in_step
from tests.harness.office_devices import Town, town
from tests.integration.test_clones import pc

HEADS = "a server gives a head's computer a further right, and takes its words with it"
ROW = "a server gives a laptop or a PC a further right, and takes its words with it"


@pytest.fixture(autouse=True)
async def kept() -> None:
    """What most of these begin with."""
    await keep_town(__name__)


def _as_they_came(rights: Iterable[Authority], _first: Authority | None, _door: Door) -> list[Authority]:
    return list(rights)


def _innermost(rights: Iterable[Authority], _first: Authority | None, door: Door) -> list[Authority]:
    return sorted(rights, key=lambda right: -len(door.lineage(right.space)))


IN_A_CLASS_AS_WELL: dict[str, object] = {"protocol.rights.precedence._is_no_schools": lambda *_: False}
"""As if a right to run a school was as good in a class."""


def _widest(office: SchoolOffice) -> bytes:
    return office.authority.space


async def _days_go_by(here: Town, days: int = 3) -> None:
    office = here.office
    for _ in range(days):
        office.clock.advance(DAY_MS)
        await here.sync()
        await note_arrivals(office.server.store, office.clock())
    office.clock.advance(DAY_MS)


async def _thief_lets_in(here: Town, device: Device, role: Role, space: bytes, person: bytes | None = None) -> None:
    """The copied key writes it a right, and the machine hears of it."""
    keys, server = device.agent.keys, here.office.server
    given = Grant(keys.signing.public, keys.agreement.public, keys.tls.fingerprint, role, person, None).encode()
    await thief_says(here.office, Draft(space, Kind.GRANT, server.grant, given))
    await here.sync(device)


async def _new_keys(here: Town, folder: Path, *devices: Device, since: str | None) -> None:
    """The server is given other keys, with the kit, `since` the theft if somebody knows of it; devices hear of it."""
    kit = kit_in(folder / "server" / "kit", None)
    here.office.clock.advance(3_600_000)
    await here.office.with_kit("rotate server", kit, **({} if since is None else {"since": since}))
    here.office.clock.advance(61_000)
    for _ in range(3):
        await here.sync(*devices)
    await note_arrivals(here.office.server.store, here.office.clock())


async def _second_school(here: Town, head: Device) -> tuple[str, str]:
    """A class of another school, which this computer runs as well, and a pupil of it."""
    office = here.office
    space = (await office.do("space add", name="CP", school="0999999Z"))["space"]
    school = above(office.server.replica, bytes.fromhex(space))
    await office.do("grant", device=head.agent.device.hex(), space=[school.hex()])
    person = (await office.do("person add", name="Tom", role="pupil", space=[space]))["person"]
    await here.sync(head)
    return space, person


def _in_the_widest(office: AnyOffice, persons: Iterable[bytes]) -> dict[bytes, list[bytes]]:
    widest = min(office.reach, key=lambda space: len(office.replica.door.lineage(space)))
    return {space: list(persons) for space in (office.home, widest)}


def _at_home(office: AnyOffice, persons: Iterable[bytes]) -> dict[bytes, list[bytes]]:
    return {office.home: list(persons)}


HOME_ALONE: dict[str, object] = {
    "sync_agent.school.office.SchoolOffice.home": property(_widest),
    "protocol.replica.office.erasures._where": _at_home,
}


def _at_home_and_outside_it(office: AnyOffice, persons: Iterable[bytes]) -> dict[bytes, list[bytes]]:
    lineage = office.replica.door.lineage
    outside = [one for one in office.reach if one not in lineage(office.home) and office.home not in lineage(one)]
    return {place: list(persons) for place in (office.home, *outside)}


async def _under_one(_office: SchoolOffice, _drafts: Iterable[Draft], _rights: Iterable[Authority]) -> list[Draft]:
    return []


def _in_the_last_alone(office: SchoolOffice, space: bytes) -> bool:
    return office.reach[-1] in office.replica.door.lineage(space)


def _names(view: SpaceView) -> set[str]:
    return {person.name for person in view.roster.persons.values()}


async def _next_class_of(here: Town) -> str:
    """A class that the server makes in the school."""
    made = await here.office.do("space add", name="CE2", school=await uai_of(here.office.server, here.school))
    return str(made["space"])


async def _views(here: Town) -> list[SpaceView]:
    replicas = [here.office.server.replica, *(device.agent.replica for device in here.devices)]
    return [await replica.view(here.space) for replica in replicas]


@pytest.mark.parametrize("raised", [Role.HEAD, Role.ADMIN])
@attack(HEADS, off=HOME_ALONE)
async def test_who_a_head_has_forgotten_stays_so_whatever_right_around_her_school_a_server_gave_her_computer(
    tmp_path: Path, raised: Role
) -> None:
    async with town_in_step(tmp_path, __name__) as (here, (_, _, _, pupil, _)):
        head = await here.head_of_the_school()
        await _days_go_by(here)
        await _thief_lets_in(here, head, raised, here.office.server.replica.territory)
        await Desk(head.agent).ask("erase", person=[pupil])
        for _ in range(3):
            await here.sync()
        await _new_keys(here, tmp_path, since="6h")
        assert all("Léa" not in _names(view) for view in await _views(here))


@attack(HEADS, off={"sync_agent.school.office.SchoolOffice.home": property(_widest)})
async def test_a_report_of_a_laptop_of_the_whole_territory_outlives_a_right_in_it_that_a_server_gave(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        territory = here.office.server.replica.territory
        laptop = await here.device("machine", space=territory.hex())
        head = await here.head_of_the_school()
        await _days_go_by(here)
        await _thief_lets_in(here, head, Role.ADMIN, territory)
        await Desk(head.agent).ask("lost", device=laptop.agent.device.hex())
        await here.sync()
        await _new_keys(here, tmp_path, since="6h")
        assert all(laptop.agent.device in view.roster.cut for view in await _views(here))


async def test_who_is_known_outside_a_heads_school_is_forgotten_as_far_as_her_computer_reaches(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        head = await here.head_of_the_school()
        elsewhere = (await here.office.do("space add", name="CE1", school="0999999Z"))["space"]
        max_ = (await here.office.do("person add", name="Max", role="pupil", space=[elsewhere]))["person"]
        await _thief_lets_in(here, head, Role.HEAD, here.office.server.replica.territory)
        for _ in range(2):
            await Desk(head.agent).ask("erase", person=[max_])
        await here.sync()
        assert not (await here.office.server.replica.view(bytes.fromhex(elsewhere))).roster.persons
        said = await here.office.server.store.scan_kinds([Kind.ERASE])
        assert [entry.header.space for entry in said] == [here.school, here.office.server.replica.territory]


@attack(HEADS, off={"protocol.replica.office.erasures._where": _in_the_widest})
async def test_who_is_forgotten_in_the_second_school_of_a_head_stays_so_whatever_right_around_both_a_server_gave(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        head = await here.head_of_the_school()
        space, pupil = await _second_school(here, head)
        server = here.office.server.replica
        await _days_go_by(here)
        await _thief_lets_in(here, head, Role.ADMIN, server.territory)
        await Desk(head.agent).ask("erase", person=[pupil])
        await here.sync()
        await _new_keys(here, tmp_path, since="6h")
        assert "Tom" not in _names(await server.view(bytes.fromhex(space)))


async def test_a_head_of_two_schools_forgets_a_pupil_of_either(tmp_path: Path) -> None:
    async with town_in_step(tmp_path, __name__) as (here, (_, _, _, pupil, _)):
        head = await here.head_of_the_school()
        space, other = await _second_school(here, head)
        desk, server = Desk(head.agent), here.office.server.replica
        for person in (pupil, other):
            await desk.ask("erase", person=[person], alone=True)
        await here.sync()
        assert _names(await server.view(bytes.fromhex(space))) == set()
        assert _names(await server.view(here.space)) == {"Mme Petit"}


async def test_a_head_is_told_whom_her_computer_forgets_in_no_space_or_not_in_all(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        head = await here.head_of_the_school()
        office, server = here.office, here.office.server.replica
        space, elsewhere = await _second_school(here, head)
        both = (await office.do("person add", name="Zoé", role="pupil", space=[office.space, space]))["person"]
        second = above(server, bytes.fromhex(space))
        for _ in range(2):
            await here.sync()
        await office.do("ungrant", device=head.agent.device.hex(), space=[second.hex()])
        await here.sync()
        desk = Desk(head.agent)
        with pytest.raises(BadInput):
            await desk.ask("erase", person=[elsewhere], alone=True)
        await desk.ask("erase", person=[both], alone=True)
        assert any(both in line and "has no say" in line for line in desk.told)
        await here.sync()
        assert not _names(await server.view(here.space))
        assert _names(await server.view(bytes.fromhex(space))) == {"Tom", "Zoé"}


async def _head_of_another_school_first(here: Town, *, stays: bool) -> Device:
    """A head's computer that was let into another school, then into the class's; who `stays` runs both."""
    office = here.office
    elsewhere = (await office.do("space add", name="CP", school="0999999Z"))["space"]
    before = above(office.server.replica, bytes.fromhex(elsewhere))
    head = await here.device("head", None, before.hex())
    await office.do("grant", device=head.agent.device.hex(), space=[here.school.hex()])
    if not stays:
        await office.do("ungrant", device=head.agent.device.hex(), space=[before.hex()])
    await _days_go_by(here)
    return head


@attack(HEADS, off={"protocol.replica.office.erasures._where": _at_home_and_outside_it, **IN_A_CLASS_AS_WELL})
async def test_whom_a_head_who_changed_schools_has_forgotten_stays_so_whatever_right_in_the_class_a_server_gave(
    tmp_path: Path,
) -> None:
    async with town_in_step(tmp_path, __name__) as (here, (_, _, _, pupil, _)):
        head = await _head_of_another_school_first(here, stays=False)
        await _thief_lets_in(here, head, Role.HEAD, here.space)
        await Desk(head.agent).ask("erase", person=[pupil], alone=True)
        for _ in range(3):
            await here.sync()
        await _new_keys(here, tmp_path, since="6h")
        assert all("Léa" not in _names(view) for view in await _views(here))
        assert not [each for each in await here.office.do("waiting") if each["kind"] == "erase"]


@attack(HEADS, off={"sync_agent.school.office.SchoolOffice._besides": _under_one})
async def test_whom_a_head_has_forgotten_stays_so_whatever_higher_role_that_was_hers_once_a_server_gave_in_her_school(
    tmp_path: Path,
) -> None:
    async with town_in_step(tmp_path, __name__) as (here, (_, _, _, pupil, _)):
        office, territory = here.office, here.office.server.replica.territory
        head = await here.device("admin", None, territory.hex())
        keys = head.agent.keys
        given = Grant(keys.signing.public, keys.agreement.public, keys.tls.fingerprint, Role.HEAD, None, None).encode()
        first = head.agent.first_right
        assert first is not None
        end = Revocation(keys.signing.public, ()).encode()
        await office.server.write(
            [
                Draft(here.school, Kind.GRANT, office.server.grant, given),
                Draft(territory, Kind.REVOKE, office.server.grant, end, target=first.grant),
            ]
        )
        await _days_go_by(here)
        await _thief_lets_in(here, head, Role.ADMIN, here.school)
        await Desk(head.agent).ask("erase", person=[pupil], alone=True)
        for _ in range(3):
            await here.sync()
        await _new_keys(here, tmp_path, since="6h")
        assert all("Léa" not in _names(view) for view in await _views(here))


@pytest.mark.parametrize("stays", [False, True], ids=["changed schools", "has both"])
@attack(HEADS, off={"sync_agent.school.office.SchoolOffice._besides": _under_one, **IN_A_CLASS_AS_WELL})
async def test_what_a_head_of_two_schools_cut_off_stays_so_whatever_right_in_the_class_a_server_gave(
    tmp_path: Path, stays: bool
) -> None:
    async with town_in_step(tmp_path, __name__) as (here, (teacher, machine, *_)):
        head = await _head_of_another_school_first(here, stays=stays)
        await _thief_lets_in(here, head, Role.HEAD, here.space)
        desk, gone = Desk(head.agent), [teacher.agent.device, machine.agent.device]
        await desk.ask("lost", device=gone[0].hex())
        await desk.ask("ungrant", device=gone[1].hex(), space=[here.space.hex()])
        await here.sync(head)
        for device in (teacher, machine):  # which the server refuses from now on
            here.devices.remove(device)
            await device.agent.close()
        told = len(here.office.said.lines)
        await _new_keys(here, tmp_path, since="6h")
        roster = (await here.office.server.replica.view(here.space)).roster
        assert not [device for device in gone if roster.may_read(device)]
        assert not [line for line in here.office.said.lines[told:] if "reads again" in line]
        assert not [each for each in await here.office.do("waiting") if each["kind"] == "revoke"]


def _each_by_itself(entry: Entry, _topic: object) -> bytes:
    return entry.id


async def _whoever_is_out(_self: object, _entry: Entry) -> bool:
    """As if of whom something else cuts off people were asked all the same."""
    return False


@attack(
    HEADS,
    off={
        "protocol.replica.office.words_of_office._moment": _each_by_itself,
        "sync_server.handlers.by_kit.waiting._Out.__call__": _whoever_is_out,
    },
)
async def test_nobody_is_asked_about_a_heads_report_under_a_right_that_a_server_gave_while_it_counts_by_another(
    tmp_path: Path,
) -> None:
    async with town_in_step(tmp_path, __name__) as (here, (teacher, *_)):
        head = await here.head_of_the_school()
        await _days_go_by(here)
        await _thief_lets_in(here, head, Role.HEAD, here.space)
        await Desk(head.agent).ask("lost", device=teacher.agent.device.hex())
        await here.sync(head)
        here.devices.remove(teacher)  # the server refuses it from now on
        await teacher.agent.close()
        told = len(here.office.said.lines)
        await _new_keys(here, tmp_path, since="6h")
        assert not [line for line in here.office.said.lines[told:] if "reads again" in line]
        assert not [each for each in await here.office.do("waiting") if each["kind"] == "revoke"]


async def test_however_many_rights_a_server_gave_a_head_she_says_one_report_for_each_role_in_each_space(
    tmp_path: Path,
) -> None:
    async with town_in_step(tmp_path, __name__) as (here, (teacher, *_)):
        head = await here.head_of_the_school()
        for _ in range(5):
            await _thief_lets_in(here, head, Role.HEAD, here.space)
        await Desk(head.agent).ask("lost", device=teacher.agent.device.hex())
        said = await head.agent.replica.store.scan_kinds([Kind.REVOKE])
        assert len(said) == len({entry.header.grant for entry in said}) == 2


@attack(HEADS, off={"sync_agent.school.office.SchoolOffice.governs": _in_the_last_alone})
async def test_a_right_in_a_school_that_a_server_made_up_takes_nothing_of_hers_from_a_head(tmp_path: Path) -> None:
    async with town_in_step(tmp_path, __name__) as (here, (_, machine, _, pupil, _)):
        head = await here.head_of_the_school()
        server = here.office.server.replica
        (made_up,) = await thief_says(
            here.office,
            Draft(server.territory, Kind.SPACE, here.office.server.grant, SpaceRecord("École", "0999999Z").encode()),
        )
        elsewhere = SpaceRecord("École", "0999999Z").space_of(made_up, server.territory)
        await _thief_lets_in(here, head, Role.ADMIN, elsewhere)
        desk = Desk(head.agent)
        with contextlib.suppress(RelaisError):
            await desk.ask("erase", person=[pupil], alone=True)
        with contextlib.suppress(RelaisError):
            await desk.ask("lost", device=machine.agent.device.hex())
        await here.sync()
        view = await server.view(here.space)
        assert "Léa" not in _names(view)
        assert machine.agent.device in view.roster.cut


@pytest.mark.parametrize("role", [Role.HEAD, Role.ADMIN])
@attack(HEADS, off={"sync_agent.app.in_order": _innermost})
async def test_what_a_heads_computer_says_in_a_class_outlives_the_right_in_it_that_a_server_gave(
    tmp_path: Path, role: Role
) -> None:
    async with town_in_step(tmp_path, __name__) as (here, _):
        head = await here.head_of_the_school()
        await _days_go_by(here)
        await _thief_lets_in(here, head, role, here.space)
        await Desk(head.agent).ask("person add", name="Zoé", role="pupil", space=[here.office.space])
        await here.sync()
        await _new_keys(here, tmp_path, since="6h")
        assert all("Zoé" in _names(view) for view in await _views(here))


async def _lets_in_who_stays_so(here: Town, folder: Path, head: Device, pc: Device, since: str) -> None:
    """The head lets a PC into the class, lists a pupil and makes a code; then the server takes other keys."""
    desk, office = Desk(head.agent), here.office
    view = await office.server.replica.view(here.space)
    (item,) = view.coursework.items
    (pupil,) = [person for person, listed in view.roster.persons.items() if listed.role is PersonRole.PUPIL]
    await desk.ask("grant", device=pc.agent.device.hex(), space=[office.space])
    await desk.ask("person add", name="Zoé", role="pupil", space=[office.space])
    await desk.ask("invite", role="machine", space=[office.space], uses=1, ttl="96h", person=None)
    for _ in range(3):
        await here.sync()
    work = await here.work(pc, item, pupil.hex())
    await here.sync()
    await _new_keys(here, folder, since=since)
    for shown in await _views(here):
        assert work in shown.coursework.hand_ins
        assert "Zoé" in _names(shown)
    made = await office.server.store.scan_kinds([Kind.INVITE])
    codes = {entry.id for entry in made if entry.header.author == head.agent.device}
    assert codes
    assert not codes & (await office.server.replica.view(here.space)).roster.held_back
    assert not [each for each in await office.do("waiting") if each["device"] == head.agent.device.hex()]


@pytest.mark.parametrize("stays", [False, True], ids=["changed schools", "has both"])
@attack(HEADS, off=IN_A_CLASS_AS_WELL)
async def test_whom_a_head_of_two_schools_lets_into_a_class_stays_in_it_whatever_right_in_it_a_server_gave_her(
    tmp_path: Path, stays: bool
) -> None:
    async with town_in_step(tmp_path, __name__) as (here, _):
        head = await _head_of_another_school_first(here, stays=stays)
        second = await here.device("machine", space=await _next_class_of(here))
        await _days_go_by(here)
        await _thief_lets_in(here, head, Role.HEAD, here.space)
        await _lets_in_who_stays_so(here, tmp_path, head, second, "6h")


@attack(HEADS, off={"sync_agent.app.in_order": _as_they_came})
async def test_nor_does_one_around_all_schools_take_that_which_a_server_gave_her_before_she_changed(
    tmp_path: Path,
) -> None:
    async with town_in_step(tmp_path, __name__) as (here, _):
        office, server = here.office, here.office.server.replica
        before = above(server, bytes.fromhex((await office.do("space add", name="CP", school="0999999Z"))["space"]))
        head = await here.device("head", None, before.hex())
        second = await here.device("machine", space=await _next_class_of(here))
        await _days_go_by(here)
        await _thief_lets_in(here, head, Role.HEAD, server.territory)
        office.clock.advance(DAY_MS)
        await _new_keys(here, tmp_path, since=None)
        office.clock.advance(DAY_MS)
        await office.do("grant", device=head.agent.device.hex(), space=[here.school.hex()])
        await office.do("ungrant", device=head.agent.device.hex(), space=[before.hex()])
        await here.sync()
        await _lets_in_who_stays_so(here, tmp_path, head, second, "60h")


@attack(ROW, off={"sync_agent.app.in_order": _as_they_came})
async def test_a_year_of_a_class_outlives_rights_in_its_school_that_a_server_gave_before_there_was_the_class(
    tmp_path: Path,
) -> None:
    async with town_in_step(tmp_path, __name__) as (here, (teacher, machine, person, _, _)):
        office = here.office
        await _days_go_by(here)
        await _thief_lets_in(here, teacher, Role.TEACHER, here.school, bytes.fromhex(person))
        await _thief_lets_in(here, machine, Role.MACHINE, here.school)
        office.clock.advance(DAY_MS)
        await _new_keys(here, tmp_path, since=None)
        office.clock.advance(DAY_MS)
        office.space = await _next_class_of(here)
        await office.do("grant", person=person, space=[office.space])
        await office.do("grant", device=machine.agent.device.hex(), space=[office.space])
        pupil = await office.add_person("Zoé", "pupil")
        for _ in range(3):
            await here.sync()
        item = await here.assignment(teacher)
        await here.sync(machine)
        work = await here.work(machine, item, pupil)
        await here.sync(machine, teacher)
        desk = Desk(teacher.agent)
        await desk.ask("confirm-opened", id=work.hex())
        await desk.ask("feedback", id=work.hex(), text="Bien", mark=None, redo=False)
        await here.sync()
        await _new_keys(here, tmp_path, since="60h")
        for view in await _views(here):
            shown = view.coursework.hand_ins.get(work)
            assert shown is not None
            assert shown.feedback is not None
            assert item in view.coursework.items


@attack(ROW, off={"sync_agent.app.in_order": _innermost})
async def test_work_of_a_pc_of_the_whole_school_outlives_the_right_in_a_class_that_a_server_gave(
    tmp_path: Path,
) -> None:
    async with town_in_step(tmp_path, __name__) as (here, (_, _, _, pupil, item)):
        machine = await here.device("machine", space=here.school.hex())
        await _days_go_by(here)
        await _thief_lets_in(here, machine, Role.MACHINE, here.space)
        work = await here.work(machine, item, pupil)
        await here.sync()
        await _new_keys(here, tmp_path, since="6h")
        assert all(work in view.coursework.hand_ins for view in await _views(here))


@attack(ROW, off={"sync_agent.app.in_order": _innermost, **AS_WHOEVER_IT_IS_CALLED})
async def test_a_laptop_that_was_let_into_its_school_speaks_in_a_class_as_whose_it_is_whatever_a_server_calls_it(
    tmp_path: Path,
) -> None:
    async with town_in_step(tmp_path, __name__) as (here, (teacher, machine, person, _, _)):
        office = here.office
        await office.do("grant", device=teacher.agent.device.hex(), space=[here.school.hex()])
        office.space = await _next_class_of(here)
        await office.do("grant", device=machine.agent.device.hex(), space=[office.space])
        stranger = bytes.fromhex(await office.add_person("M. X", "teacher"))
        await here.sync()
        await _days_go_by(here)
        await _thief_lets_in(here, teacher, Role.TEACHER, here.space, stranger)
        item = await here.assignment(teacher)
        right = await teacher.agent.right(here.space, Kind.FEEDBACK)
        assert (right.person, right.space) == (bytes.fromhex(person), here.school)
        await here.sync()
        await _new_keys(here, tmp_path, since="6h")
        assert all(item in view.coursework.items for view in await _views(here))


def _the_last_that_came(_agent: Agent, rights: Iterable[Authority]) -> list[Authority]:
    return list(rights)[::-1]


@attack(ROW, off={"sync_agent.app.Agent.in_order": _the_last_that_came})
async def test_a_copied_pc_takes_keys_of_its_own_under_the_right_that_it_had_before_a_server_gave_another(
    tmp_path: Path,
) -> None:
    async with town_in_step(tmp_path, __name__) as (here, (teacher, machine, _, pupil, item)):
        await _days_go_by(here)
        await _thief_lets_in(here, machine, Role.MACHINE, here.space)
        bind(machine.agent.folder, pc(1), Random(1).randbytes)
        before = machine.agent.device
        await machine.agent.close()
        agent = await Place(pc(2)).open(machine.agent.folder, here.office.clock, Random(2).randbytes)
        machine.agent, machine.session = agent, Session(agent, machine.way)
        assert agent.device != before
        work = await here.work(machine, item, pupil)
        await here.sync()
        await _new_keys(here, tmp_path, teacher, since="6h")
        assert all(view.roster.may_read(agent.device) for view in await _views(here))
        assert all(work in view.coursework.hand_ins for view in await _views(here))
