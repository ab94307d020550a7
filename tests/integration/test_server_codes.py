"""Codes and what they open, over a real store but without processes: rules, results, refusals."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput, Code, Refused
from protocol.identity import DeviceKeys, school_id
from protocol.model.entry import Kind
from protocol.model.structure import Invite
from protocol.roles import Role
from protocol.trust.invitation import Invitation
from tests.harness.server_in_process import Member, Office, office, refusal

UNKNOWN_ID = "ab" * 32


async def test_a_teachers_code_needs_a_teacher_of_each_space(desk: Office) -> None:
    other = (await desk.do("space add", name="CM1", school="0180001D", year="none"))["space"]
    teacher = await desk.add_person("Mme Petit", "teacher")
    pupil = await desk.add_person("Léa", "pupil", desk.space, other)
    assert await refusal(desk.invite("teacher", desk.space, other, person=teacher)) is Code.UNKNOWN_PERSON
    assert await refusal(desk.invite("teacher", person=pupil)) is Code.UNKNOWN_PERSON
    assert (await desk.enrol(await desk.invite("teacher", person=teacher))).grants


async def test_who_makes_a_teachers_code_for_a_pupil_reads_that_this_is_one(desk: Office) -> None:
    pupil = await desk.add_person("Léa", "pupil")
    with pytest.raises(BadInput, match="“Léa” is a pupil on the list of “CM2 B”"):
        await desk.invite("teacher", person=pupil)
    other = (await desk.do("space add", name="CM1", school="0180001D", year="none"))["space"]
    with pytest.raises(BadInput, match=f"“CM1” .* has nobody with the id {pupil}; `person add` puts a teacher on it"):
        await desk.invite("teacher", other, person=pupil)


async def test_a_code_opens_all_its_spaces_at_once_with_all_that_is_needed_to_check_them(desk: Office) -> None:
    other = (await desk.do("space add", name="6e", school="0180002E", year="none"))["space"]
    member = await desk.enrol(await desk.invite("machine", desk.space, other), name="Hibou")
    assert {grant.header.space.hex() for grant in member.grants} == {desk.space, other}
    known: set[bytes] = set()
    for entry in member.answer.entries:
        assert entry.header.grant is None or entry.header.grant in known, "an admissible order"
        known.add(entry.id)
    kinds = {entry.header.kind for entry in member.answer.entries}
    assert kinds == {Kind.CERTIFICATE, Kind.SPACE, Kind.INVITE, Kind.GRANT}
    assert member.answer.territory_name == "Cher"
    assert {desk.space, other} < await member.spaces()


async def test_the_same_device_asking_again_gets_the_same_answer_even_when_the_code_has_ended(desk: Office) -> None:
    code = await desk.invite("machine")
    member = await desk.enrol(code)
    desk.clock.advance(2 * DAY_MS)
    before = await desk.counts()
    again = await desk.enrol(code, member.keys)
    assert again.answer.entries == member.answer.entries
    assert await desk.counts() == before


async def test_a_code_lets_in_as_many_devices_as_it_says(desk: Office) -> None:
    code = await desk.invite("machine", uses=2)
    first, second = await desk.enrol(code), await desk.enrol(code)
    assert await refusal(desk.enrol(code)) is Code.CODE_USED
    assert len({first.id, second.id} & {row["device"] for row in await desk.do("devices")}) == 2


async def test_a_head_teachers_code_is_for_a_school(desk: Office) -> None:
    assert await refusal(desk.do("invite", role="head", space=[desk.space])) is Code.USAGE
    head = await desk.enrol(await desk.invite("head", "0180001D"))
    school = school_id(desk.server.replica.territory, "0180001D")
    given = desk.server.replica.door.authorities_of(head.keys.signing.public)[0]
    assert (given.role, given.space, given.until_ms) == (Role.HEAD, school, None)


async def test_what_a_substitutes_code_opens_says_when_it_ends(desk: Office) -> None:
    person = await desk.add_person("M. Roux", "teacher")
    wanted = {"role": "teacher", "space": [desk.space], "person": person, "uses": 1, "ttl": "24h", "for": "15d"}
    substitute = await desk.enrol((await desk.do("invite", **wanted))["code"])
    given = desk.server.replica.door.authorities_of(substitute.keys.signing.public)[0]
    assert given.until_ms == desk.clock() + 15 * DAY_MS


async def test_the_last_use_of_a_code_is_given_once(desk: Office) -> None:
    code = await desk.invite("machine")
    tried = await asyncio.gather(*(desk.enrol(code) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(one, Member) for one in tried) == 1
    assert {one.code for one in tried if isinstance(one, Refused)} == {Code.CODE_USED}


async def test_a_code_ends_by_the_servers_clock(desk: Office) -> None:
    code = await desk.invite("machine", ttl="30m")
    desk.clock.advance(30 * 60_000)
    assert await refusal(desk.enrol(code)) is Code.CODE_EXPIRED
    assert await desk.do("devices") == []


async def test_a_code_of_another_territory_opens_nothing(desk: Office, tmp_path: Path) -> None:
    async with office(tmp_path / "other") as other:
        code = await other.invite("machine")
    assert await refusal(desk.enrol(code)) is Code.CODE_WRONG


@pytest.mark.parametrize(
    ("role", "where", "opens"),
    [
        (Role.MACHINE, "own", True),
        (Role.TEACHER, "own", True),
        (Role.MACHINE, "foreign", False),
        (Role.MACHINE, "unknown", False),
        (Role.MACHINE, "nowhere", False),
        (Role.ADMIN, "own", False),
        (Role.SERVER, "own", False),
        (Role.ROOT, "own", False),
    ],
)
async def test_an_invitation_gives_no_more_than_its_author_has(
    desk: Office, role: Role, where: str, opens: bool
) -> None:
    foreign = (await desk.do("space add", name="6e", school="0180002E", year="none"))["space"]
    admin = await desk.enrol(await desk.invite("admin"))
    spaces = {"own": [desk.space], "foreign": [desk.space, foreign], "unknown": [UNKNOWN_ID], "nowhere": []}[where]
    invitation = Invitation.create(desk.server.replica.territory, os.urandom(10))
    written = Invite(invitation.secret_hash, role, tuple(map(bytes.fromhex, spaces)), None, 9, 2**62)
    await admin.write(Kind.INVITE, written.encode())
    if opens:
        assert (await desk.enrol(invitation.code())).grants
    else:
        assert await refusal(desk.enrol(invitation.code())) is Code.CODE_WRONG


@pytest.mark.parametrize("role", ["teacher", "admin"])
async def test_a_code_makes_nobody_more_than_the_list_says(desk: Office, role: str) -> None:
    for kind in ("pupil", "guardian"):
        person = (await desk.do("person add", name=f"Léa ({kind})", space=[desk.space], role=kind))["person"]
        assert await refusal(desk.invite(role, desk.space, person=person)) is Code.UNKNOWN_PERSON
    person = (await desk.do("person add", name="M. Roy", space=[desk.space], role="teacher"))["person"]
    assert await desk.invite(role, desk.space, person=person)


async def test_an_invitation_of_an_administrator_who_was_cut_off_opens_nothing(desk: Office) -> None:
    admin = await desk.enrol(await desk.invite("admin"))
    await desk.do("revoke", device=admin.id)
    invitation = Invitation.create(desk.server.replica.territory, os.urandom(10))
    written = Invite(invitation.secret_hash, Role.MACHINE, (bytes.fromhex(desk.space),), None, 9, 2**62)
    await admin.write(Kind.INVITE, written.encode())
    assert await refusal(desk.enrol(invitation.code())) is Code.CODE_WRONG


async def test_a_key_that_was_cut_off_does_not_come_back_with_another_code(desk: Office) -> None:
    member = await desk.enrol(await desk.invite("machine"))
    await desk.do("revoke", device=member.id)
    assert await refusal(desk.enrol(await desk.invite("machine"), member.keys)) is Code.REVOKED


async def test_a_weak_key_is_not_let_in(desk: Office) -> None:
    keys = DeviceKeys.create(os.urandom(32), os.urandom(32), os.urandom(32))
    keys.agreement.public = bytes(32)
    assert await refusal(desk.enrol(await desk.invite("machine"), keys)) is Code.WEAK_KEY
    assert await desk.do("devices") == []
