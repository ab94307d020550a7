"""What an operator can do, over a real store but without processes: rules, results, refusals."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from protocol.checkpoint import Cursor
from protocol.entry import Entry, Kind, compose
from protocol.errors import BadInput, Code, Refused, RelaisError
from protocol.identity import DeviceKeys, school_id
from protocol.invitation import Invitation
from protocol.limits import MAX_PARENTS, MAX_REVOKED_HEADS
from protocol.messages import SyncRequest
from protocol.register import Health, RegisterKind, compose_register
from protocol.replica.office.enrolment import OpenCodes
from protocol.replica.replica import Draft
from protocol.replica.sqlite import SqliteStore
from protocol.roles import Role
from protocol.structure import Grant, Invite, Revocation, Successor
from protocol.work import ContentRef, HandIn
from sync_server.app import opened
from tests.harness.server_in_process import Member, Office, office
from tests.harness.territory import SimClock

DAY_MS = 24 * 3600 * 1000
UNKNOWN_ID = "ab" * 32
UNKNOWN_PERSON = "ab" * 16


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Office]:
    async with office(tmp_path / "server") as found:
        yield found


async def refusal(awaitable: Any) -> Code:
    with pytest.raises(RelaisError) as raised:
        await awaitable
    return raised.value.code


async def counts(desk: Office) -> dict[bytes, int]:
    return await desk.server.store.spaces()


# --- spaces and people ------------------------------------------------------------------------------------------------


async def test_a_class_makes_its_school_once(desk: Office) -> None:
    other = await desk.do("space add", name="CM1", school=" 0180001d", year="2026-2027")
    rows = await desk.do("space list")
    assert [(row["name"], row["school"], row["entries"]) for row in rows] == [
        ("CM1", "0180001D", 2),
        ("CM2 B", "0180001D", 2),
    ]
    assert {row["space"] for row in rows} == {desk.space, other["space"]}
    assert all(len(row["fingerprint"]) == 32 for row in rows)
    assert desk.said.lines == []
    made = await desk.server.store.scan_kinds([Kind.SPACE])
    assert len(made) == 3, "two classes and one school"


async def test_two_classes_may_have_the_same_name(desk: Office) -> None:
    twin = await desk.do("space add", name="CM2 B", school="0180001D", year=None)
    assert twin["space"] != desk.space
    assert [row["name"] for row in await desk.do("space list")] == ["CM2 B", "CM2 B"]


async def test_a_wrong_check_letter_is_told_and_not_refused(desk: Office) -> None:
    await desk.do("space add", name="CP", school="0180001A", year=None)
    assert any("0180001" in line and "D" in line for line in desk.said.lines)
    assert {row["school"] for row in await desk.do("space list")} == {"0180001A", "0180001D"}


async def test_somebody_on_several_lists_is_one_person(desk: Office) -> None:
    other = (await desk.do("space add", name="CM1", school="0180001D", year=None))["space"]
    person = await desk.add_person("Mme Petit", "teacher", desk.space, other, desk.space)
    await desk.add_person("Léa", "pupil")
    assert await desk.do("person list", space=other) == [{"person": person, "name": "Mme Petit", "role": "teacher"}]
    assert [row["name"] for row in await desk.do("person list", space=desk.space)] == ["Léa", "Mme Petit"]


async def test_a_school_is_named_by_its_code_wherever_a_space_is_asked_for(desk: Office) -> None:
    person = await desk.add_person("M. Blanc", "admin", "0180001d")
    assert (await desk.do("person list", space="0180001D"))[0]["person"] == person
    school = school_id(desk.server.replica.territory, "0180001D").hex()
    assert (await desk.do("person list", space=school))[0]["person"] == person


@pytest.mark.parametrize(
    ("command", "params", "code"),
    [
        ("space add", {"name": "", "school": "0180001D"}, Code.BAD_NAME),
        ("space add", {"name": "\udcff", "school": "0180001D"}, Code.BAD_NAME),
        ("space add", {"name": "x" * 201, "school": "0180001D"}, Code.BAD_NAME),
        ("space add", {"name": "CM1", "school": ""}, Code.BAD_NAME),
        ("space add", {"name": "CM1", "school": "0" * 17}, Code.USAGE),
        ("space add", {"name": "CM1", "school": "0180001D", "year": "2026"}, Code.BAD_DATE),
        ("space add", {"school": "0180001D"}, Code.USAGE),
        ("person add", {"name": "Léa", "role": "pupil", "space": [UNKNOWN_ID]}, Code.UNKNOWN_SPACE),
        ("person add", {"name": "Léa", "role": "pupil", "space": []}, Code.UNKNOWN_SPACE),
        ("person add", {"name": "Léa", "role": "machine", "space": ["0180001D"]}, Code.UNKNOWN_ROLE),
        ("person add", {"name": " ", "role": "pupil", "space": ["0180001D"]}, Code.BAD_NAME),
        ("person list", {"space": "nonsense"}, Code.UNKNOWN_SPACE),
        ("person list", {"space": ""}, Code.UNKNOWN_SPACE),
        ("hand-ins", {"space": UNKNOWN_ID}, Code.UNKNOWN_SPACE),
        ("revoke", {"device": UNKNOWN_ID}, Code.UNKNOWN_DEVICE),
        ("revoke", {"device": "Renard"}, Code.UNKNOWN_DEVICE),
        ("grant", {"space": ["0180001D"]}, Code.USAGE),
        ("grant", {"device": UNKNOWN_ID, "person": UNKNOWN_PERSON, "space": ["0180001D"]}, Code.USAGE),
        ("grant", {"device": UNKNOWN_ID, "space": ["0180001D"]}, Code.UNKNOWN_DEVICE),
        ("grant", {"person": UNKNOWN_PERSON, "space": ["0180001D"]}, Code.UNKNOWN_PERSON),
        ("ungrant", {"person": "Léa", "space": ["0180001D"]}, Code.UNKNOWN_PERSON),
        ("ungrant", {"device": UNKNOWN_ID, "space": ["0180001D"]}, Code.UNKNOWN_DEVICE),
        ("invite", {"role": "server", "space": ["0180001D"], "uses": 1, "ttl": "1h"}, Code.UNKNOWN_ROLE),
        ("invite", {"role": "machine", "space": [UNKNOWN_ID], "uses": 1, "ttl": "1h"}, Code.UNKNOWN_SPACE),
        ("invite", {"role": "machine", "space": ["0180001D"], "uses": 0, "ttl": "1h"}, Code.USAGE),
        ("invite", {"role": "machine", "space": ["0180001D"], "uses": 1, "ttl": "tomorrow"}, Code.BAD_DATE),
        ("invite", {"role": "teacher", "space": ["0180001D"], "uses": 1, "ttl": "1h"}, Code.USAGE),
        (
            "invite",
            {"role": "teacher", "space": ["0180001D"], "uses": 1, "ttl": "1h", "person": UNKNOWN_PERSON},
            Code.UNKNOWN_PERSON,
        ),
        (
            "invite",
            {"role": "machine", "space": ["0180001D"], "uses": 1, "ttl": "1h", "person": UNKNOWN_PERSON},
            Code.USAGE,
        ),
    ],
)
async def test_what_cannot_be_is_refused_with_its_code_and_changes_nothing(
    desk: Office, command: str, params: dict[str, Any], code: Code
) -> None:
    before = await counts(desk)
    with pytest.raises(BadInput) as raised:
        await desk.do(command, **params)
    assert raised.value.code is code
    assert await counts(desk) == before


# --- codes and enrolment ----------------------------------------------------------------------------------------------


async def test_a_teachers_code_needs_a_teacher_of_each_space(desk: Office) -> None:
    other = (await desk.do("space add", name="CM1", school="0180001D", year=None))["space"]
    teacher = await desk.add_person("Mme Petit", "teacher")
    pupil = await desk.add_person("Léa", "pupil", desk.space, other)
    assert await refusal(desk.invite("teacher", desk.space, other, person=teacher)) is Code.UNKNOWN_PERSON
    assert await refusal(desk.invite("teacher", person=pupil)) is Code.UNKNOWN_PERSON
    assert (await desk.enrol(await desk.invite("teacher", person=teacher))).grants


async def test_a_code_opens_all_its_spaces_at_once_with_all_that_is_needed_to_check_them(desk: Office) -> None:
    other = (await desk.do("space add", name="6e", school="0180002E", year=None))["space"]
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
    before = await counts(desk)
    again = await desk.enrol(code, member.keys)
    assert again.answer.entries == member.answer.entries
    assert await counts(desk) == before


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


async def write_as(desk: Office, member: Member, kind: Kind, payload: bytes) -> None:
    grant = member.grants[0]
    await desk.server.replica.write(
        [Draft(grant.header.space, kind, grant.id, payload)],
        author=member.keys.signing,
        now_ms=desk.clock(),
        entropy=os.urandom,
        unsent=False,
    )


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
    foreign = (await desk.do("space add", name="6e", school="0180002E", year=None))["space"]
    admin = await desk.enrol(await desk.invite("admin"))
    spaces = {"own": [desk.space], "foreign": [desk.space, foreign], "unknown": [UNKNOWN_ID], "nowhere": []}[where]
    invitation = Invitation.create(desk.server.replica.territory, os.urandom(10))
    written = Invite(invitation.secret_hash, role, tuple(map(bytes.fromhex, spaces)), None, 9, 2**62)
    await write_as(desk, admin, Kind.INVITE, written.encode())
    if opens:
        assert (await desk.enrol(invitation.code())).grants
    else:
        assert await refusal(desk.enrol(invitation.code())) is Code.CODE_WRONG


async def test_an_invitation_of_an_administrator_who_was_cut_off_opens_nothing(desk: Office) -> None:
    admin = await desk.enrol(await desk.invite("admin"))
    await desk.do("revoke", device=admin.id)
    invitation = Invitation.create(desk.server.replica.territory, os.urandom(10))
    written = Invite(invitation.secret_hash, Role.MACHINE, (bytes.fromhex(desk.space),), None, 9, 2**62)
    await write_as(desk, admin, Kind.INVITE, written.encode())
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


# --- granting, letting go, cutting off --------------------------------------------------------------------------------


async def test_a_device_is_let_into_more_spaces_in_its_own_role(desk: Office) -> None:
    other = (await desk.do("space add", name="CM1", school="0180001D", year=None))["space"]
    member = await desk.enrol(await desk.invite("machine"))
    await desk.do("grant", device=member.id, space=[other])
    assert {desk.space, other} < await member.spaces()
    before = await counts(desk)
    await desk.do("grant", device=member.id, space=[other, desk.space])
    assert await counts(desk) == before, "what it has already is not granted again"


async def test_a_teacher_comes_into_a_space_with_their_devices(desk: Office) -> None:
    other = (await desk.do("space add", name="CM1", school="0180001D", year=None))["space"]
    person = await desk.add_person("Mme Petit", "teacher")
    laptop = await desk.enrol(await desk.invite("teacher", person=person))
    await desk.do("grant", person=person, space=[other])
    assert await desk.do("person list", space=other) == [{"person": person, "name": "Mme Petit", "role": "teacher"}]
    assert other in await laptop.spaces()


async def test_a_teachers_device_brings_its_teacher_along(desk: Office) -> None:
    other = (await desk.do("space add", name="CM1", school="0180001D", year=None))["space"]
    person = await desk.add_person("Mme Petit", "teacher")
    laptop = await desk.enrol(await desk.invite("teacher", person=person))
    await desk.do("grant", device=laptop.id, space=[other])
    assert [row["person"] for row in await desk.do("person list", space=other)] == [person]
    assert other in await laptop.spaces()


async def test_a_device_let_go_from_a_space_keeps_the_others_and_can_come_back(desk: Office) -> None:
    other = (await desk.do("space add", name="CM1", school="0180001D", year=None))["space"]
    member = await desk.enrol(await desk.invite("machine", desk.space, other))
    await desk.do("ungrant", device=member.id, space=[other])
    assert desk.space in await member.spaces()
    assert other not in await member.spaces()
    before = await counts(desk)
    await desk.do("ungrant", device=member.id, space=[other])
    assert await counts(desk) == before, "it has been let go already"
    assert (await desk.device(member))["state"] != "retired"
    await desk.do("grant", device=member.id, space=[other])
    assert other in await member.spaces()
    await desk.do("ungrant", device=member.id, space=[other])
    assert other not in await member.spaces()
    await desk.do("grant", device=member.id, space=[other])
    assert other in await member.spaces(), "as often as it takes"


async def test_a_relay_let_go_from_one_class_keeps_the_rest_of_its_school(desk: Office) -> None:
    other = (await desk.do("space add", name="CM1", school="0180001D", year=None))["space"]
    relay = await desk.enrol(await desk.invite("relay", "0180001D"))
    assert {desk.space, other} < await relay.spaces()
    await desk.do("ungrant", device=relay.id, space=[other])
    assert desk.space in await relay.spaces()
    assert other not in await relay.spaces()
    await desk.do("grant", device=relay.id, space=[other])
    assert other in await relay.spaces()


async def test_somebody_who_leaves_a_class_is_off_its_list_and_their_devices_with_them(desk: Office) -> None:
    other = (await desk.do("space add", name="CM1", school="0180001D", year=None))["space"]
    person = await desk.add_person("M. Blanc", "teacher", desk.space, other)
    laptop = await desk.enrol(await desk.invite("teacher", desk.space, other, person=person))
    bystander = await desk.enrol(await desk.invite("machine", desk.space, other))
    await desk.do("ungrant", person=person, space=[other])
    assert await desk.do("person list", space=other) == []
    assert [row["person"] for row in await desk.do("person list", space=desk.space)] == [person]
    assert other not in await laptop.spaces()
    assert desk.space in await laptop.spaces()
    assert other in await bystander.spaces()
    await desk.do("ungrant", person=person, space=[other])
    await desk.do("grant", person=person, space=[other])
    assert [row["name"] for row in await desk.do("person list", space=other)] == ["M. Blanc"]
    assert other in await laptop.spaces()


async def test_granting_a_person_lets_no_stolen_laptop_back_in(desk: Office) -> None:
    other = (await desk.do("space add", name="CM1", school="0180001D", year=None))["space"]
    person = await desk.add_person("Mme Petit", "teacher")
    stolen, kept = [await desk.enrol(await desk.invite("teacher", person=person)) for _ in range(2)]
    await desk.do("revoke", device=stolen.id)
    await desk.do("grant", person=person, space=[other, desk.space])
    assert other in await kept.spaces()
    assert await stolen.spaces() == set()
    (told,) = desk.said.lines
    assert f"grant --device {stolen.id}" in told, "whoever did not mean that learns what to do"
    await desk.do("ungrant", person=person, space=[desk.space, other])
    await desk.do("grant", person=person, space=[desk.space, other])
    assert await stolen.spaces() == set()
    await desk.do("grant", device=stolen.id, space=[desk.space])
    assert desk.space in await stolen.spaces(), "who grants the device itself means it"


async def test_a_laptop_cut_off_in_one_class_alone_comes_into_no_other_with_its_teacher(desk: Office) -> None:
    other = (await desk.do("space add", name="CM1", school="0180001D", year=None))["space"]
    third = (await desk.do("space add", name="CP", school="0180001D", year=None))["space"]
    person = await desk.add_person("Mme Petit", "teacher", desk.space, other)
    laptop = await desk.enrol(await desk.invite("teacher", desk.space, other, person=person))
    await desk.do("ungrant", device=laptop.id, space=[other])
    await desk.do("grant", person=person, space=[other, third])
    assert desk.space in await laptop.spaces()
    assert {other, third}.isdisjoint(await laptop.spaces())


async def hand_in(desk: Office, member: Member, person: str, item: bytes) -> str:
    grant = member.grants[0]
    payload = HandIn(ContentRef(os.urandom(32), 4096, 0), None).encode()
    draft = Draft(grant.header.space, Kind.HAND_IN, grant.id, payload, subject=bytes.fromhex(person), target=item)
    (entry,) = await desk.server.replica.write(
        [draft], author=member.keys.signing, now_ms=desk.clock(), entropy=os.urandom, unsent=False
    )
    return entry.id.hex()


async def test_revoking_keeps_what_the_device_had_brought_and_holds_back_what_turns_up_later(desk: Office) -> None:
    pupil = await desk.add_person("Léa", "pupil")
    member = await desk.enrol(await desk.invite("machine"))
    item = os.urandom(32)
    before = await hand_in(desk, member, pupil, item)
    await desk.do("revoke", device=member.id)
    await hand_in(desk, member, pupil, item)
    rows = await desk.do("hand-ins", space=desk.space)
    assert [(row["id"], row["item"], row["person"], row["name"], row["title"], row["state"]) for row in rows] == [
        (before, item.hex(), pupil, "Léa", None, "local")
    ]
    assert await member.spaces() == set()
    assert await refusal(member.sync()) is Code.REVOKED
    assert (await desk.device(member))["state"] == "retired"
    entries = await counts(desk)
    await desk.do("revoke", device=member.id)
    assert await counts(desk) == entries, "it has been cut off already"


async def test_a_device_comes_back_however_often_it_was_let_go(desk: Office) -> None:
    member, space = await desk.enrol(await desk.invite("machine")), bytes.fromhex(desk.space)
    for _ in range(MAX_PARENTS + 2):
        await desk.do("ungrant", device=member.id, space=[desk.space])
        await desk.do("grant", device=member.id, space=[desk.space])
    assert desk.space in await member.spaces()
    # somebody who was let go says so over and over: that counts for nothing, and keeps nobody out
    head = await desk.enrol(await desk.invite("head", "0180001D"))
    await desk.do("revoke", device=head.id)
    draft = Draft(space, Kind.REVOKE, head.grants[0].id, Revocation(member.keys.signing.public, ()).encode())
    await desk.server.replica.write(
        [draft] * (2 * MAX_PARENTS), author=head.keys.signing, now_ms=desk.clock(), entropy=os.urandom
    )
    await desk.do("ungrant", device=member.id, space=[desk.space])
    entries = await counts(desk)
    await desk.do("grant", device=member.id, space=[desk.space])
    assert desk.space in await member.spaces()
    assert sum((await counts(desk)).values()) - sum(entries.values()) < 10


async def test_a_device_with_more_heads_than_a_revocation_names_is_cut_off_too(desk: Office) -> None:
    member, space = await desk.enrol(await desk.invite("machine")), bytes.fromhex(desk.space)
    pupil = await desk.add_person("Léa", "pupil")
    await hand_in(desk, member, pupil, bytes(32))
    first = await hand_in(desk, member, pupil, bytes(32))
    (kept,) = (await desk.server.store.get([bytes.fromhex(first)])).values()
    forks = [
        compose(
            author=member.keys.signing,
            space=space,
            kind=Kind.HAND_IN,
            grant=member.grants[0].id,
            at=kept.header.at + number + 1,
            payload=kept.payload or b"",
            salt=os.urandom(16),
            subject=bytes.fromhex(pupil),
            target=bytes(32),
        )
        for number in range(MAX_REVOKED_HEADS + 1)
    ]
    await desk.server.replica.admit(forks, source=b"x", now_ms=desk.clock())
    await desk.do("revoke", device=member.id)
    assert await member.spaces() == set()
    roster = (await desk.server.replica.view(space)).roster
    assert bytes.fromhex(first) not in roster.held_back, "what most leads to stays"
    assert len(roster.held_back) == 2, "and what has no room among the heads waits for somebody"


async def clone_of(desk: Office, member: Member) -> str:
    """A device that `member`'s keys have let in, as a clone lets itself in."""
    keys = DeviceKeys.create(os.urandom(32), os.urandom(32), os.urandom(32))
    (grant,) = member.grants
    payload = Successor.agreed(
        keys.signing, keys.agreement.public, keys.tls.fingerprint, grant.header.space, member.keys.signing.public
    ).encode()
    entry = compose(
        author=member.keys.signing,
        space=grant.header.space,
        kind=Kind.SUCCESSOR,
        grant=grant.id,
        at=grant.header.at + 1,
        payload=payload,
        salt=os.urandom(16),
    )
    await desk.server.replica.admit([entry], source=member.keys.signing.public, now_ms=desk.clock())
    return keys.signing.public.hex()


@pytest.mark.parametrize("restore", [False, True])
async def test_a_clone_is_shown_with_what_it_is_a_copy_of_until_somebody_confirms_it(
    desk: Office, *, restore: bool
) -> None:
    person = await desk.add_person("Mme Petit", "teacher")
    laptop = await desk.enrol(await desk.invite("teacher", desk.space, person=person))
    clone = await clone_of(desk, laptop)

    async def row() -> Any:
        return next(row for row in await desk.do("devices") if row["device"] == clone)

    before = await row()
    assert (before["role"], before["clone_of"], before["confirmed"]) == ("machine", laptop.id, False)
    await desk.do("confirm", device=clone, restore=restore)
    after = await row()
    assert (after["role"], after["confirmed"]) == ("teacher" if restore else "machine", True)
    with pytest.raises(BadInput, match="no clone"):
        await desk.do("confirm", device=laptop.id)


async def test_a_relay_that_is_revoked_keeps_what_it_wrote_in_every_class(desk: Office) -> None:
    pupil = await desk.add_person("Léa", "pupil")
    relay = await desk.enrol(await desk.invite("relay", "0180001D"))
    grant = relay.grants[0]
    payload = HandIn(ContentRef(os.urandom(32), 4096, 0), None).encode()
    draft = Draft(
        bytes.fromhex(desk.space), Kind.HAND_IN, grant.id, payload, subject=bytes.fromhex(pupil), target=bytes(32)
    )
    await desk.server.replica.write(
        [draft], author=relay.keys.signing, now_ms=desk.clock(), entropy=os.urandom, unsent=False
    )
    await desk.do("revoke", device=relay.id)
    assert len(await desk.do("hand-ins", space=desk.space)) == 1
    assert await relay.spaces() == set()


# --- devices, status, upkeep ------------------------------------------------------------------------------------------


async def caught_up(desk: Office, member: Member) -> None:
    """Two calls: everything, then cursors that say so."""
    answer = await member.sync()
    cursors = tuple(
        Cursor(page.checkpoint.space, page.checkpoint.count, page.checkpoint.chain, complete=True)
        for page in answer.pages
    )
    await member.sync(SyncRequest(generation=answer.generation, cursors=cursors))


async def test_a_device_is_followed_from_its_enrolment_on(desk: Office) -> None:
    member = await desk.enrol(await desk.invite("machine"), name="Renard")
    row = await desk.device(member)
    assert row == {
        "device": member.id,
        "name": "Renard",
        "role": "machine",
        "state": "syncing",
        "last_seen": "2026-11-18T11:06:40.000Z",
        "last_full_sync": None,
        "via": "direct",
        "backlog": {"entries": None, "bytes": None},
        "version": None,
        "clone_of": None,
        "confirmed": True,
    }
    desk.clock.advance(1_000)
    await caught_up(desk, member)
    row = await desk.device(member)
    assert (row["state"], row["last_seen"], row["last_full_sync"]) == (
        "up-to-date",
        "2026-11-18T11:06:41.000Z",
        "2026-11-18T11:06:41.000Z",
    )
    desk.clock.advance(16 * 60_000)
    assert (await desk.device(member))["state"] == "offline"
    desk.clock.advance(7 * DAY_MS)
    assert (await desk.device(member))["state"] == "silent"


async def test_what_a_device_reports_of_itself_is_shown(desk: Office) -> None:
    member = await desk.enrol(await desk.invite("machine"))
    health = Health("Hibou", "0.1.0", "Linux", "disk-full", 3, 4_000, 0)
    register = compose_register(
        member.keys.signing, RegisterKind.HEALTH, member.keys.signing.public, desk.clock(), health.encode()
    )
    await member.sync(SyncRequest(registers=(register.data,)))
    row = await desk.device(member)
    assert (row["name"], row["state"], row["backlog"], row["version"]) == (
        "Hibou",
        "disk-full",
        {"entries": 3, "bytes": 4_000},
        "0.1.0",
    )


async def test_who_called_is_remembered_over_a_restart_and_a_quiet_call_writes_nothing(tmp_path: Path) -> None:
    clock = SimClock()
    async with office(tmp_path / "server", clock) as desk:
        member = await desk.enrol(await desk.invite("machine"))
        await caught_up(desk, member)
        assert not await desk.server.store.marks("device/")
    async with opened(tmp_path / "server", now_ms=clock, entropy=os.urandom) as server:
        again = Office(server, clock, desk.space)
        assert (await again.device(member))["state"] == "up-to-date"


async def test_the_status_adds_up(desk: Office) -> None:
    await desk.add_person("Léa", "pupil")
    member = await desk.enrol(await desk.invite("machine"))
    status = await desk.do("status")
    assert set(status) == {
        "territory",
        "fingerprint",
        "generation",
        "spaces",
        "devices",
        "entries",
        "chunks",
        "bytes",
        "version",
        "unforeseen",
    }
    assert status["territory"] == desk.server.replica.territory.hex()
    assert status["spaces"] == await desk.do("space list")
    assert status["entries"] == sum((await counts(desk)).values())
    assert status["spaces"][0]["entries"] == 6, "its key and who has it, a pupil, an invitation, a grant, its key"
    assert (status["devices"], status["chunks"], status["bytes"]) == (1, 0, 0)
    assert member.id not in str(status)


async def test_a_whole_store_verifies_and_a_damaged_one_says_what_is_bad(desk: Office) -> None:
    assert await desk.do("verify") == {"ok": True, "problems": []}
    build = await desk.server.replica.content.build(bytes.fromhex(desk.space), unsent=False)
    await build.chunk(os.urandom(20_000))
    (pack,) = await build.finish()
    (path,) = (desk.server.folder / "packs").rglob("*.pack")
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    found = await desk.do("verify")
    assert not found["ok"]
    assert [problem["id"] for problem in found["problems"]] == [pack.hash.hex()]
    assert await desk.do("verify") == {"ok": True, "problems": []}, "it has been moved aside"
    assert await desk.do("repair") == {}


async def test_a_grant_from_outside_the_servers_hand_is_listed_too(desk: Office) -> None:
    admin = await desk.enrol(await desk.invite("admin"))
    keys = DeviceKeys.create(os.urandom(32), os.urandom(32), os.urandom(32))
    grant = Grant(keys.signing.public, keys.agreement.public, None, Role.MACHINE, None, None)
    await write_as(desk, admin, Kind.GRANT, grant.encode())
    row = next(row for row in await desk.do("devices") if row["device"] == keys.signing.public.hex())
    assert (row["state"], row["last_seen"], row["name"]) == ("never-seen", None, None)


async def test_codes_are_read_again_only_when_the_set_has_grown(desk: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    codes, reads = OpenCodes(), []
    scan = SqliteStore.scan_kinds

    async def counted(self: SqliteStore, kinds: Sequence[int]) -> list[Entry]:
        reads.append(kinds)
        return await scan(self, kinds)

    monkeypatch.setattr(SqliteStore, "scan_kinds", counted)
    await desk.invite("machine")
    for _ in range(50):
        assert len(await codes.of(desk.server)) == 1
    assert len(reads) == 1
    await desk.invite("relay", "0180001D")
    assert len(await codes.of(desk.server)) == 2, "a new one counts at once"
    desk.clock.advance(3 * 24 * 3600 * 1000)
    assert await codes.of(desk.server) == [], "and those that are long over no more"
