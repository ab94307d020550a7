"""What was a device let in as, where its database is lost, or whoever lets it in says something else (docs/adr/0464).

An id is a hash that its author draws: of further rights that a copied key says, theirs sort before the honest one's.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from protocol.messages.enrollment import EnrollAnswer, EnrollRequest
from protocol.messages.wire import Call
from protocol.model.entry import Kind, compose
from protocol.model.structure import Grant, Revocation
from protocol.replica.at_work.credentials import credentials_of
from protocol.replica.at_work.replica import Draft, Replica
from protocol.replica.storage.sqlite import DATABASE
from protocol.roles import PersonRole, Role
from protocol.trust.envelope import OpenedRequest
from sync_agent.app import Agent
from sync_agent.enrollment.by_code import enroll
from sync_agent.machine.enrolled import ENROLMENT_FILE, INTRODUCTION_FILE, OUTBOX_FILE, Enrolment, LetIn
from tests.attacks.test_classes_beside_one_with_sign_in import Hers, hers
from tests.harness.attack import attack
from tests.harness.classroom import SMALL, Device, above
from tests.harness.copied_keys import AS_WHOEVER_IT_IS_CALLED
from tests.harness.office_devices import town
from tests.harness.portal import portal
from tests.harness.wire import URL, MemoryTransport

__all__ = ["hers"]

PCS = "a server grants a pupils' PC a teacher's right, as hers"
LAPTOPS = "a server gives a laptop or a PC a further right, and takes its words with it"
_READ = Enrolment.read
FILES = (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm")
WITH_COPIES = (*FILES, INTRODUCTION_FILE, OUTBOX_FILE)


async def _by_ids(replica: Replica, ids: list[bytes]) -> object:
    return await credentials_of(replica.store, replica.door, replica.territory, sorted(ids))


AS_BEFORE: dict[str, object] = {
    "sync_agent.app.Enrolment.read": lambda folder: replace(_READ(folder), let_in=None),
    "protocol.replica.at_work.replica.Replica.credentials": _by_ids,
}


async def _thief_lets_in(hers: Hers, device: Device, role: Role, space: bytes, person: bytes | None = None) -> None:
    """Months after it was let in; everybody hears of it."""
    territory, keys = hers.school.room.territory, device.agent.keys
    right = Grant(keys.signing.public, keys.agreement.public, keys.tls.fingerprint, role, person, None)
    first = territory.replica.door.authorities_of(device.agent.device)[0].grant
    while True:
        said = compose(
            author=territory.keys.signing,
            space=space,
            kind=Kind.GRANT,
            grant=territory.certificate.id,
            at=territory.clock() << 16,
            payload=right.encode(),
            salt=os.urandom(16),
        )
        if said.id < first:
            break
    assert (await territory.replica.admit([said], source=bytes(32), now_ms=territory.clock())).admitted
    for _ in range(2):
        await hers.school.agree()


async def _loses(hers: Hers, device: Device, *files: str) -> Agent:
    """These files are deleted, or, if none, a page of its database is bad; the honest server goes on."""
    await device.agent.close()
    folder = device.agent.folder
    for file in files:
        (folder / file).unlink(missing_ok=True)
    if not files:
        (folder / DATABASE).write_bytes(bytes(4096) + (folder / DATABASE).read_bytes()[4096:])
    await device.starts_again()
    for _ in range(3):
        await hers.school.agree()
    return device.agent


@pytest.mark.parametrize("role", [Role.TEACHER, Role.HEAD])
@pytest.mark.parametrize(
    ("files", "where"),
    [((), "made up"), (FILES, "hers"), (WITH_COPIES, "above")],
    ids=["a bad page", "no database", "no second copies"],
)
@attack(PCS, off=AS_BEFORE)
async def test_a_pc_that_has_lost_its_database_is_a_pc_whatever_right_a_server_gave_it_since(
    hers: Hers, files: tuple[str, ...], where: str, role: Role
) -> None:
    school, territory = hers.school, hers.school.room.territory
    spaces = {"hers": school.room.space, "above": above(territory.replica, school.room.space)}
    space = spaces.get(where) or await territory.classroom("Soutien")
    person = await territory.person("M. X", PersonRole.TEACHER, space) if role is Role.TEACHER else None
    await _thief_lets_in(hers, school.pc, role, space, person)
    agent = await _loses(hers, school.pc, *files)
    async with portal(agent) as surfer:
        assert await hers.shown(surfer) == set()
        assert {(await surfer.get(page)).status for page in ("/publish", "/readers", "/school", "/drill")} == {404}


@attack(PCS, off=AS_BEFORE)
async def test_nor_does_one_bad_row_make_it_a_teachers(hers: Hers) -> None:
    pc, space = hers.school.pc, hers.school.room.space
    first = pc.agent.replica.door.authorities_of(pc.agent.device)[0].grant
    await _thief_lets_in(hers, pc, Role.HEAD, space)
    await pc.agent.close()
    with closing(sqlite3.connect(pc.agent.folder / DATABASE)) as connection, connection:
        connection.execute("UPDATE entry SET header = x'00' WHERE id = ?", (first,))
    await pc.starts_again()
    for _ in range(3):
        await hers.school.agree()
    async with portal(pc.agent) as surfer:
        assert await hers.shown(surfer) == set()


@attack(PCS, off={"sync_agent.enrollment.by_code._let_in_as": lambda rights, _: LetIn.of(rights[0])})
async def test_a_pc_that_comes_new_to_a_server_in_wrong_hands_is_what_its_code_says(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        clock, server = here.office.clock, here.office.server
        code = await here.office.invite("machine")

        async def lets_in(opened: OpenedRequest) -> bytes:
            asked = EnrollRequest.parse(opened.payload)
            given = Grant(opened.device, asked.agreement, asked.tls_sha256, Role.HEAD, None, None).encode()
            said = [*await server.write([Draft(here.space, Kind.GRANT, None, given)])]
            said += await server.store.scan_kinds([Kind.INVITE])
            return EnrollAnswer(clock(), "Cher", await server.replica.credentials([one.id for one in said])).encode()

        server.responder.add_handler(Call.ENROLL, lets_in)
        way = MemoryTransport(here.frontage)
        folder = tmp_path / "new-pc"
        await enroll(folder, URL, code, "Merle", now_ms=clock, entropy=os.urandom, connect=lambda _: way)
        agent = await Agent.open(folder, now_ms=clock, entropy=os.urandom)
        role = await agent.role()
        await agent.close()
        assert role is Role.MACHINE


@attack(LAPTOPS, off=AS_BEFORE)
async def test_a_laptop_that_has_lost_its_database_is_no_pc_whatever_a_server_called_it_since(hers: Hers) -> None:
    laptop = hers.school.teacher
    await _thief_lets_in(hers, laptop, Role.MACHINE, hers.school.room.space)
    agent = await _loses(hers, laptop)
    assert await agent.role() is Role.TEACHER
    async with portal(agent) as surfer:
        assert {(await surfer.get(page)).status for page in ("/publish", "/readers")} == {200}


@pytest.mark.parametrize("called", ["Mme Petit", "M. X"])
@attack(LAPTOPS, off=AS_BEFORE)
async def test_a_laptop_that_has_lost_its_database_speaks_under_the_right_that_came_first(
    hers: Hers, called: str
) -> None:
    laptop, room = hers.school.teacher, hers.school.room
    first = laptop.agent.replica.door.authorities_of(laptop.agent.device)[0].grant
    is_hers = called == "Mme Petit"
    person = room.teacher_person if is_hers else await room.territory.person(called, PersonRole.TEACHER, room.space)
    await _thief_lets_in(hers, laptop, Role.TEACHER, room.space, person)
    agent = await _loses(hers, laptop, *FILES)
    revision = (await room.publish(laptop, SMALL)).revision
    assert (await agent.replica.store.get([revision]))[revision].header.grant == first


@attack(LAPTOPS, off={"sync_agent.machine.enrolled.LetIn.fits": lambda *_: True, **AS_WHOEVER_IT_IS_CALLED})
async def test_nor_does_it_speak_as_somebody_else_where_the_class_into_which_it_was_let_first_is_over(
    hers: Hers,
) -> None:
    laptop, room = hers.school.teacher, hers.school.room
    territory, device = room.territory, laptop.agent.device
    (first,) = territory.replica.door.authorities_of(device)
    present, made_up = sorted([await territory.classroom("CM2"), await territory.classroom("Soutien")], reverse=True)
    stranger = await territory.person("M. X", PersonRole.TEACHER, made_up)
    await territory.let_in(laptop.agent.keys, Role.TEACHER, present, person=room.teacher_person)
    heads = tuple(await territory.replica.tips(room.space, device))
    await territory.say(room.space, Kind.REVOKE, Revocation(device, heads).encode(), target=first.grant)
    for space in (made_up, present):
        await _thief_lets_in(hers, laptop, Role.TEACHER, space, stranger)
    agent = await _loses(hers, laptop, *WITH_COPIES)
    assert agent.replica.door.authority(first.grant) is None
    assert (await agent.right(present, Kind.FEEDBACK)).person == room.teacher_person


async def test_a_folder_of_before_notes_what_it_was_let_in_as_when_it_is_opened(hers: Hers) -> None:
    pc = hers.school.pc
    folder, noted = pc.agent.folder, pc.agent.enrolment
    replace(noted, let_in=None).write(folder)
    await _thief_lets_in(hers, pc, Role.HEAD, hers.school.room.space)
    await pc.starts_again()
    assert Enrolment.read(folder) == noted
    text = (folder / ENROLMENT_FILE).read_text(encoding="utf-8")
    (folder / ENROLMENT_FILE).write_text(text.replace('"person"', '"of a later version"'), encoding="utf-8")
    assert Enrolment.read(folder) == noted
    pc.agent.rename("PC du fond")
    assert Enrolment.read(folder).let_in == noted.let_in
