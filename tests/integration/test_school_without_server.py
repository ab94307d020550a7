"""A school that runs itself: what a head teacher's device does with no server in reach, and what agrees later."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput, Code, NoAnswer, Refused
from protocol.folds.sign_in import Method
from protocol.identity import school_id, three_words
from protocol.messages.enrollment import parse_chain
from protocol.messages.introduction import knock
from protocol.messages.wire import ENROLL_PATH
from protocol.model.entry import Kind
from protocol.model.structure import Grant, Revocation
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.office.losses import NEW_KEYS
from protocol.replica.office.people import duplicates_in
from protocol.roles import PersonRole, Role
from protocol.trust.invitation import parse_code
from sync_agent.app import Agent
from sync_agent.enrollment.by_code import Enrolled
from sync_agent.enrollment.by_peer import enroll_by_peer
from sync_agent.lan.exchange.peer_transport import PeerTransport
from sync_agent.machine.addresses import Address
from sync_agent.school.office import SchoolOffice, end_what_is_over
from sync_agent.school.sign_in import SignInBook, Try
from tests.harness.classroom import SMALL, Classroom, Device
from tests.harness.commands import Desk
from tests.harness.lan import exchange, listening_device
from tests.harness.portal import portal
from tests.harness.territory import new_device
from tests.harness.wire import URL

UAI = "0180001X"


async def head_of(room: Classroom) -> Device:
    """The head teacher's device, which knows her school; from here on no server answers anybody."""
    head = await room.head()
    await head.session.sync()
    return head


async def enrol(folder: Path, address: Address, code: str, room: Classroom, name: str = "Renard") -> Enrolled:
    async def tell(_line: str) -> None:
        pass

    seed = Random(name).randbytes
    return await enroll_by_peer(folder, address, code, name, tell, now_ms=room.territory.clock, entropy=seed)


async def opened(folder: Path, room: Classroom) -> Agent:
    return await Agent.open(folder, now_ms=room.territory.clock, entropy=Random(str(folder)).randbytes)


async def code_for(desk: Desk, role: str, *spaces: str, **more: str) -> str:
    wanted = {"role": role, "space": list(spaces), "uses": 1, "ttl": "24h", **more}
    return str((await desk.ask("invite", **wanted))["code"])  # type: ignore[arg-type]


# --- a school of its own ----------------------------------------------------------------------------------------------


async def test_a_class_its_pupils_its_teacher_and_its_pc_come_to_be_without_any_server(
    room: Classroom, tmp_path: Path
) -> None:
    head = await head_of(room)
    desk = Desk(head.agent)
    space = (await desk.ask("space add", name="CE2", year="2026-2027"))["space"]
    zoe = (await desk.ask("person add", name="Zoé", role="pupil", space=[space]))["person"]
    petit = (await desk.ask("person add", name="Mme Petit", role="teacher", space=[space]))["person"]
    async with listening_device(head.agent) as address:
        code = await code_for(desk, "teacher", space, person=petit)
        made = await enrol(tmp_path / "laptop", address, code, room, "Portable")
        assert [each.hex() for each in made.spaces] == [space]
        assert await enrol(tmp_path / "laptop", address, code, room, "Portable") == made
        await enrol(tmp_path / "pc", address, await code_for(desk, "machine", space), room)
    laptop, pc = await opened(tmp_path / "laptop", room), await opened(tmp_path / "pc", room)
    try:
        assert laptop.enrolment.server_url == URL
        item = (await Desk(laptop).publish(SMALL, space=space, title="Eau", kind="assignment"))["item"]
        await exchange(laptop, pc)
        work = await Desk(pc).hand_in(item, zoe, {"a.txt": b"mon travail"})
        await exchange(pc, laptop)
        assert await Desk(laptop).files("open-hand-in", id=work) == {"a.txt": b"mon travail"}
        assert await pc.keyring.current(bytes.fromhex(space)) is not None  # sticks can be sealed
    finally:
        await laptop.close()
        await pc.close()
    # the server returns, and agrees
    await head.session.sync()
    assert bytes.fromhex(space) in set(room.territory.replica.door.spaces())
    roster = (await room.territory.replica.view(bytes.fromhex(space))).roster
    assert {person.name for person in roster.persons.values()} == {"Zoé", "Mme Petit"}
    for each in room.territory.replica.door.lineage(bytes.fromhex(space)):
        assert await room.territory.replica.fingerprint(each) == await head.agent.replica.fingerprint(each)


@pytest.mark.parametrize("who_calls", ["the head teacher's device", "the other one"])
async def test_a_machine_of_the_school_is_let_into_a_new_class_over_the_schools_network(
    room: Classroom, who_calls: str
) -> None:
    head, pc = await head_of(room), await room.device(Role.MACHINE)
    await pc.session.sync()
    space = await room.territory.classroom("CE2", room.territory.replica.door.parent(room.space))
    await room.territory.person("zoe", PersonRole.PUPIL, space)
    await room.territory.let_in(pc.agent.keys, Role.MACHINE, space)
    await head.session.sync()
    # from here on the PC reaches the head teacher's device only
    pair = (head.agent, pc.agent) if who_calls.startswith("the head") else (pc.agent, head.agent)
    await exchange(*pair)
    assert space in await pc.agent.spaces()
    for each in pc.agent.replica.door.lineage(space):
        assert await pc.agent.replica.fingerprint(each) == await head.agent.replica.fingerprint(each)


async def test_a_teachers_laptop_hears_from_another_of_hers_of_a_class_in_another_school(room: Classroom) -> None:
    territory, old = room.territory, await room.teacher()
    await old.session.sync()
    space = await territory.classroom("CE2", await territory.school("École Jules Ferry", "0180002Y"))
    await territory.let_in(old.agent.keys, Role.TEACHER, space, person=room.teacher_person)
    new = await room.device(Role.TEACHER, room.space, space, person=room.teacher_person)
    await new.session.sync()
    # from here on no server answers
    await exchange(new.agent, old.agent)
    assert space in await old.agent.spaces()
    for each in (*territory.replica.door.lineage(space), *territory.replica.door.lineage(room.space)):
        assert await old.agent.replica.fingerprint(each) == await new.agent.replica.fingerprint(each)


async def test_a_school_that_two_people_began_offline_is_one_and_both_their_classes_are_in_it(room: Classroom) -> None:
    one, other = [await room.device(Role.ADMIN, room.territory.replica.territory) for _ in range(2)]
    for admin in (one, other):
        await admin.session.sync()
        await Desk(admin.agent).ask("space add", name="CP", school="0180999Z")
    for admin in (one, other, one):
        await admin.session.sync()
    rows = [row for row in await Desk(one.agent).ask("space list") if row["school"] == "0180999Z"]
    assert len(rows) == 2
    school = school_id(room.territory.id, "0180999Z")
    assert len(room.territory.replica.door.children(school)) == 2


@pytest.mark.parametrize("which", [0, 1])
async def test_of_a_teacher_who_was_added_twice_the_one_is_kept_who_has_a_computer(room: Classroom, which: int) -> None:
    territory, names = room.territory, ("M. Roux", "ROUX M.")
    ids = sorted([await territory.person(name, PersonRole.TEACHER, room.space) for name in names])
    await room.device(Role.TEACHER, person=ids[which])
    (group,) = await duplicates_in(territory.replica, room.space)
    assert [person.id for person in group] == [ids[which], ids[1 - which]]


async def test_a_pupil_who_was_added_twice_by_two_people_is_shown_and_merged(room: Classroom) -> None:
    head = await head_of(room)
    desk, space = Desk(head.agent), room.space.hex()
    mine = (await desk.ask("person add", name="Noé", role="pupil", space=[space]))["person"]
    assert desk.told == []
    room.territory.clock.advance(1_000)
    theirs = (await room.territory.person("noe", PersonRole.PUPIL, room.space)).hex()
    await head.session.sync()
    rows = await desk.ask("person doubles", space=space)
    assert {row["person"] for row in rows} == {mine, theirs}
    assert len({row["like"] for row in rows}) == 1
    assert [(row["called"], row["keep"]) for row in rows] == [("Noé (1)", True), ("noe (2)", False)]
    await desk.ask("person merge", person=theirs, into=mine)
    assert await desk.ask("person doubles", space=space) == []
    await head.session.sync()
    assert (await room.territory.replica.view(room.space)).roster.who(bytes.fromhex(theirs)).hex() == mine
    await desk.ask("person add", name="Noé", role="pupil", space=[space])
    (warned,) = desk.told
    assert "`person merge` makes them one" in warned
    assert "shown as “Noé (3)”: better give each a last initial" in warned


async def test_a_substitute_is_let_in_for_fifteen_days_and_the_head_teachers_device_ends_it(
    room: Classroom, tmp_path: Path
) -> None:
    head = await head_of(room)
    desk, space = Desk(head.agent), room.space.hex()
    roux = (await desk.ask("person add", name="M. Roux", role="teacher", space=[space]))["person"]
    async with listening_device(head.agent) as address:
        code = await code_for(desk, "teacher", space, person=roux, **{"for": "15d"})
        made = await enrol(tmp_path / "roux", address, code, room, "Roux")
    (stay,) = await desk.ask("stays")
    assert (stay["device"], stay["person"], stay["over"]) == (made.device.hex(), roux, False)
    (listed,) = (row for row in await desk.ask("space list") if row["space"] == space)
    assert (stay["name"], stay["device_name"], stay["class"]) == ("M. Roux", "Roux", listed["name"])
    async with portal(head.agent) as surfer:
        (line,) = (each for each in (await surfer.page(f"/school/{space}")).splitlines() if " · fin le " in each)
        assert "M. Roux" in line
    room.territory.clock.advance(15 * DAY_MS + 1)
    assert (await desk.ask("stays"))[0]["over"] is True
    assert await end_what_is_over(head.agent) == 1
    assert await desk.ask("stays") == []
    assert made.device in (await head.agent.replica.view(room.space)).roster.cut
    teacher = await room.teacher()
    assert await end_what_is_over(teacher.agent) == 0


async def test_her_device_leaves_a_stay_of_her_own_rank_to_those_above_and_says_nothing(room: Classroom) -> None:
    head, territory = await head_of(room), room.territory
    school = room.school
    keys = new_device(Random(77).randbytes)
    public = (keys.signing.public, keys.agreement.public, keys.tls.fingerprint)
    for space, role in ((school, Role.HEAD), (room.space, Role.TEACHER)):
        grant = Grant(*public, role, room.teacher_person, None, territory.clock() + DAY_MS)
        await territory.say(space, Kind.GRANT, grant.encode())
    await head.session.sync()
    territory.clock.advance(DAY_MS)
    before = await head.agent.replica.store.spaces()
    assert await end_what_is_over(head.agent) == 0
    assert await head.agent.replica.store.spaces() == before
    admin = await room.device(Role.ADMIN, territory.replica.territory)
    await admin.session.sync()
    assert await end_what_is_over(admin.agent) == 2
    assert keys.signing.public in (await admin.agent.replica.view(room.space)).roster.cut


async def test_she_resets_a_pupils_pictures_and_forgets_a_pupil_in_her_school(room: Classroom) -> None:
    head, pc = await head_of(room), await room.machine()
    await pc.session.sync()
    book = SignInBook(head.agent)
    await book.set(room.space, {room.pupil_person: (Method.PICTURES, "1-2-3")})
    await book.switch(room.space, on=True)
    await exchange(head.agent, pc.agent)
    assert (await SignInBook(pc.agent).attempt(room.space, room.pupil_person, "1-2-3")).how is Try.PROVEN
    await Desk(head.agent).ask("erase", person=[room.pupil_person.hex()])
    await exchange(head.agent, pc.agent)
    assert room.pupil_person not in (await pc.agent.replica.view(room.space)).roster.persons
    await head.session.sync()
    assert room.pupil_person not in (await room.territory.replica.view(room.space)).roster.persons


async def test_a_head_teachers_computer_forgets_no_colleague(room: Classroom) -> None:
    head, wanted = await head_of(room), [room.pupil_person.hex(), room.teacher_person.hex()]
    for dry_run in (True, False):
        with pytest.raises(Refused, match="nobody has been forgotten: “Mme Petit”, teacher, ") as refused:
            await Desk(head.agent).ask("erase", person=wanted, dry_run=dry_run)
        assert (refused.value.code, refused.value.exit_status) == (Code.NO_RIGHT, 5)
    assert {room.pupil_person, room.teacher_person} <= (await head.agent.replica.view(room.space)).roster.persons.keys()


async def test_a_stolen_laptop_is_reported_at_the_head_teachers_computer_without_any_server(room: Classroom) -> None:
    head, teacher = await head_of(room), await room.teacher()
    await teacher.session.sync()
    before = (await room.publish(teacher, SMALL)).item
    await exchange(teacher.agent, head.agent)
    clock, desk, device = room.territory.clock, Desk(head.agent), teacher.agent.device.hex()
    await note_arrivals(head.agent.replica.store, clock())
    clock.advance(DAY_MS)
    false = (await room.publish(teacher, SMALL)).item
    await exchange(teacher.agent, head.agent)
    await note_arrivals(head.agent.replica.store, clock())
    told = await desk.ask("lost", device=device, dry_run=True)
    (held,) = told["held"]
    assert (told["role"], told["person"], told["revoked"]) == ("teacher", "Mme Petit", False)
    assert (held["space"], held["people"], held["items"]) == (room.space.hex(), 2, 2)
    assert (await head.agent.replica.view(room.space)).roster.may_read(teacher.agent.device)
    assert (await desk.ask("lost", device=device, since="12h"))["revoked"] is True
    assert NEW_KEYS in desk.told
    for _ in range(2):
        view = await head.agent.replica.view(room.space)
        assert not view.roster.may_read(teacher.agent.device)
        assert before in view.coursework.items
        assert false not in view.coursework.items
        # the server hears of it, and comes to the same
        await head.session.sync()
        assert (await room.territory.replica.view(room.space)).coursework == view.coursework


async def test_of_a_time_before_her_computer_noted_anything_she_is_told_so_and_nothing_is_taken(
    room: Classroom,
) -> None:
    head, teacher = await head_of(room), await room.teacher()
    await teacher.session.sync()
    lesson = (await room.publish(teacher, SMALL)).item
    await exchange(teacher.agent, head.agent)
    await note_arrivals(head.agent.replica.store, room.territory.clock())
    desk, device = Desk(head.agent), teacher.agent.device.hex()
    with pytest.raises(BadInput) as refused:
        await desk.ask("lost", device=device, since="12h")
    assert refused.value.code is Code.BAD_DATE
    view = await head.agent.replica.view(room.space)
    assert view.roster.may_read(teacher.agent.device)
    assert lesson in view.coursework.items
    assert (await desk.ask("lost", device=device, since="12h", anyway=True))["revoked"] is True
    assert lesson not in (await head.agent.replica.view(room.space)).coursework.items


async def test_what_a_device_has_said_to_others_stands_in_the_report(room: Classroom) -> None:
    head, machine = await head_of(room), await room.machine()
    await machine.session.sync()
    await head.session.sync()
    told = await Desk(head.agent).ask("lost", device=machine.agent.device.hex(), since=None)
    assert told["said"] == []
    assert told["last_seen"] is None, "no report of it has come here"
    with pytest.raises(BadInput) as unknown:
        await Desk(head.agent).ask("lost", device="ab" * 32)
    assert unknown.value.code is Code.UNKNOWN_DEVICE
    with pytest.raises(BadInput) as never:
        await Desk(head.agent).ask("lost", device=machine.agent.device.hex(), since="2099-01-01")
    assert never.value.code is Code.BAD_DATE


async def test_she_reports_no_device_of_her_own_rank_or_above_and_cuts_off_none(room: Classroom) -> None:
    head = await head_of(room)
    other, admin = await head_of(room), await room.device(Role.ADMIN, room.territory.replica.territory)
    await admin.session.sync()
    await head.session.sync()
    for device in (head, other, admin):
        counts = await head.agent.replica.store.spaces()
        with pytest.raises(Refused) as refused:
            await Desk(head.agent).ask("lost", device=device.agent.device.hex())
        assert refused.value.code is Code.NO_RIGHT
        assert await head.agent.replica.store.spaces() == counts
        assert (await Desk(head.agent).ask("lost", device=device.agent.device.hex(), dry_run=True))["held"]


# --- what she may not -------------------------------------------------------------------------------------------------


async def test_her_rights_end_at_her_school_and_below_her_rank(room: Classroom) -> None:
    head = await head_of(room)
    desk, space = Desk(head.agent), room.space.hex()
    for role in ("head", "admin"):
        with pytest.raises(Refused) as refused:
            await code_for(desk, role, space)
        assert refused.value.code is Code.NO_RIGHT
    with pytest.raises(Refused):
        await desk.ask("space add", name="CP", school="0180999Z")
    with pytest.raises(BadInput):
        await code_for(desk, "machine", "ab" * 32)
    for device in (await room.teacher(), await room.machine()):
        await device.session.sync()
        with pytest.raises(Refused) as refused:
            await Desk(device.agent).ask("person add", name="Zoé", role="pupil", space=[space])
        assert refused.value.code is Code.NO_RIGHT


async def test_a_listener_says_nothing_to_who_has_no_code_of_its_school(room: Classroom, tmp_path: Path) -> None:
    head, teacher = await head_of(room), await room.teacher()
    await teacher.session.sync()
    code = await code_for(Desk(head.agent), "machine", room.space.hex())
    wrong = await room.territory.invite(Role.MACHINE, room.space)
    async with listening_device(head.agent) as address, listening_device(teacher.agent) as other:
        for where, tried in ((address, wrong), (other, code)):
            with pytest.raises(NoAnswer):
                await enrol(tmp_path / "stranger", where, tried, room)
        transport = PeerTransport(address)
        certificate = await transport.certificate()
        for body in (b"", knock(bytes(32), certificate, bytes(16)), knock(bytes(32), bytes(32), bytes(16))):
            answer = await transport.post(ENROLL_PATH, body)
            assert parse_chain(answer.body) == ()
        known = knock(parse_code(code).secret_hash, bytes(32), bytes(16))  # passed on from another certificate
        assert parse_chain((await transport.post(ENROLL_PATH, known)).body) == ()
        await transport.close()
        await enrol(tmp_path / "pc", address, code, room)
        with pytest.raises(Refused) as used:
            await enrol(tmp_path / "second", address, code, room, "Hibou")
    assert used.value.code is Code.CODE_USED


async def test_a_device_that_is_no_head_teachers_any_more_lets_nobody_in(room: Classroom) -> None:
    head = await head_of(room)
    office = await SchoolOffice.of(head.agent)
    assert not office.governs(room.territory.replica.territory)
    with pytest.raises(Refused):
        await SchoolOffice.of((await room.machine()).agent)


# --- another class ----------------------------------------------------------------------------------------------------


async def test_a_known_pc_and_a_teacher_with_her_laptop_are_let_into_another_class_without_any_server(
    room: Classroom,
) -> None:
    head, teacher, pc = await head_of(room), await room.teacher(), await room.machine()
    for device in (teacher, pc, head):
        await device.session.sync()
    desk = Desk(head.agent)
    space = (await desk.ask("space add", name="CE2", year="2026-2027"))["space"]
    rows = {row["device"]: row for row in await desk.ask("devices")}
    assert rows[pc.agent.device.hex()]["spaces"] == [room.space.hex()]
    assert rows[pc.agent.device.hex()]["words"] == three_words(pc.agent.device), "it may have told no name here"
    assert (rows[teacher.agent.device.hex()]["role"], rows[teacher.agent.device.hex()]["person"]) == (
        "teacher",
        room.teacher_person.hex(),
    )
    await desk.ask("grant", device=pc.agent.device.hex()[:12], space=[space])
    await desk.ask("grant", person=room.teacher_person.hex(), space=[space])
    await exchange(pc.agent, head.agent)
    await exchange(teacher.agent, head.agent)
    wanted = bytes.fromhex(space)
    assert wanted in await pc.agent.spaces()
    assert wanted in await teacher.agent.spaces()
    item = (await Desk(teacher.agent).publish(SMALL, space=space, title="Eau", kind="lesson"))["item"]
    await exchange(pc.agent, teacher.agent)
    assert await pc.files(bytes.fromhex(item)) == SMALL
    rows = {row["device"]: row for row in await desk.ask("devices")}
    assert set(rows[pc.agent.device.hex()]["spaces"]) == {room.space.hex(), space}


async def test_she_lets_in_neither_her_equals_nor_who_was_cut_off_by_who_runs_the_system(room: Classroom) -> None:
    head, other, pc = await head_of(room), await head_of(room), await room.machine()
    for device in (pc, other):
        await device.session.sync()
    cut = Revocation(pc.agent.device, ()).encode()
    await room.territory.say(room.space, Kind.REVOKE, cut)
    await head.session.sync()
    desk = Desk(head.agent)
    space = (await desk.ask("space add", name="CE2", year="2026-2027"))["space"]
    for refused in (pc, other):
        with pytest.raises(Refused) as raised:
            await desk.ask("grant", device=refused.agent.device.hex(), space=[room.space.hex()])
        assert raised.value.code is Code.NO_RIGHT
    with pytest.raises(BadInput):
        await desk.ask("grant", device=pc.agent.device.hex(), person=room.teacher_person.hex(), space=[space])
