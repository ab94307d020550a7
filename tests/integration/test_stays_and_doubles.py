"""What an office does about access with an end, and about people who were added twice."""

from __future__ import annotations

import asyncio
import os

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput, Code, Refused
from protocol.identity import DeviceKeys
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Grant, PersonRecord, Revocation, Successor
from protocol.replica.at_work.replica import Draft
from protocol.replica.console.sole_runner import own
from protocol.replica.office.further_words import merge_persons
from protocol.replica.office.people import (
    add_person,
    list_draft,
    list_persons,
    probable_duplicates,
    spoken,
)
from protocol.replica.office.stays import end_stays, stays_of
from protocol.roles import PersonRole, Role
from sync_server.opened.app import Server
from sync_server.service import Service, Stop
from tests.harness.server_in_process import Member, Office

# --- stays ------------------------------------------------------------------------------------------------------------


async def substitute(desk: Office, stay: str = "15d") -> Member:
    person = await desk.add_person("M. Roux", "teacher")
    wanted = {"role": "teacher", "space": [desk.space], "person": person, "uses": 2, "ttl": "40d", "for": stay}
    return await desk.enrol((await desk.do("invite", **wanted))["code"])


async def test_a_substitutes_access_ends_by_a_revocation_when_its_time_has_come(desk: Office) -> None:
    roux, space = await substitute(desk), bytes.fromhex(desk.space)
    (stay,) = await stays_of(desk.server)
    assert (stay.key, stay.until_ms) == (roux.keys.signing.public, desk.clock() + 15 * DAY_MS)
    desk.clock.advance(15 * DAY_MS - 1)
    assert await end_stays(desk.server) == 0
    assert desk.space in await roux.spaces()
    desk.clock.advance(1)
    assert await end_stays(desk.server) == 1
    assert desk.space not in await roux.spaces()
    roster = (await desk.server.replica.view(space)).roster
    assert roux.keys.signing.public in roster.cut
    assert roux.grants[0].id in {entry.id for entry in roux.answer.entries}
    assert await end_stays(desk.server) == 0


async def test_a_stay_is_made_longer_by_another_code_and_taken_up_again_by_a_grant(desk: Office) -> None:
    roux = await substitute(desk)
    person = (await stays_of(desk.server))[0].person
    assert person is not None
    wanted = {"role": "teacher", "space": [desk.space], "person": person.hex(), "uses": 1, "ttl": "40d", "for": "30d"}
    await desk.enrol((await desk.do("invite", **wanted))["code"], keys=roux.keys)
    desk.clock.advance(16 * DAY_MS)
    assert await end_stays(desk.server) == 0
    desk.clock.advance(15 * DAY_MS)
    assert await end_stays(desk.server) == 1
    await desk.do("grant", device=roux.id, space=[desk.space])
    assert desk.space in await roux.spaces()


async def test_who_has_a_grant_for_good_beside_one_with_an_end_stays_and_is_listed(desk: Office) -> None:
    roux = await substitute(desk)
    person = (await stays_of(desk.server))[0].person
    assert person is not None
    await desk.enrol(await desk.invite("teacher", person=person.hex()), keys=roux.keys)
    desk.clock.advance(16 * DAY_MS)
    assert [stay.for_good for stay in await stays_of(desk.server)] == [True]
    assert await end_stays(desk.server) == 0
    assert desk.space in await roux.spaces()
    await desk.do("grant", device=roux.id, space=[desk.space])
    assert await stays_of(desk.server) == []
    assert desk.space in await roux.spaces()


async def test_who_is_let_in_for_good_before_anybody_has_ended_the_stay_is_there_for_good_alone(desk: Office) -> None:
    roux = await substitute(desk)
    desk.clock.advance(15 * DAY_MS)
    await desk.do("grant", device=roux.id, space=[desk.space])
    assert await stays_of(desk.server) == []
    assert await end_stays(desk.server) == 0
    assert desk.space in await roux.spaces()


@pytest.mark.parametrize("by", ["person", "device"])
async def test_a_substitute_who_is_granted_another_class_leaves_both_when_the_stay_ends(desk: Office, by: str) -> None:
    roux = await substitute(desk)
    other = (await desk.do("space add", name="CM1", school="0180001D", year="none"))["space"]
    (stay,) = await stays_of(desk.server)
    assert stay.person is not None
    await desk.do("grant", **{by: stay.person.hex() if by == "person" else roux.id, "space": [other]})
    assert other in await roux.spaces()
    assert {each.until_ms for each in await stays_of(desk.server)} == {stay.until_ms}
    desk.clock.advance(15 * DAY_MS)
    assert await end_stays(desk.server) == 2
    assert await roux.spaces() == set()


async def test_who_has_a_class_for_good_is_granted_another_for_good_beside_a_stay(desk: Office) -> None:
    other = (await desk.do("space add", name="CM1", school="0180001D", year="none"))["space"]
    third = (await desk.do("space add", name="CP", school="0180001D", year="none"))["space"]
    person = await desk.add_person("Mme Petit", "teacher", desk.space, other)
    petit = await desk.enrol(await desk.invite("teacher", person=person))
    wanted = {"role": "teacher", "space": [other], "person": person, "uses": 1, "ttl": "40d", "for": "15d"}
    await desk.enrol((await desk.do("invite", **wanted))["code"], keys=petit.keys)
    await desk.do("grant", person=person, space=[third])
    desk.clock.advance(15 * DAY_MS)
    assert await end_stays(desk.server) == 1
    assert other not in await petit.spaces()
    assert {desk.space, third} <= await petit.spaces()


async def test_a_device_granted_another_class_after_its_stay_has_it_for_good(desk: Office) -> None:
    roux = await substitute(desk)
    other = (await desk.do("space add", name="CM1", school="0180001D", year="none"))["space"]
    desk.clock.advance(15 * DAY_MS)
    await desk.do("grant", device=roux.id, space=[other])
    assert await end_stays(desk.server) == 1
    assert other in await roux.spaces()


async def clone_of(desk: Office, member: Member, grant: Entry) -> Entry:
    """The successor with which a copy of the member's disk lets itself in."""
    keys = DeviceKeys.create(os.urandom(32), os.urandom(32), os.urandom(32))
    payload = Successor.agreed(
        keys.signing, keys.agreement.public, keys.tls.fingerprint, grant.header.space, member.keys.signing.public
    ).encode()
    draft = Draft(grant.header.space, Kind.SUCCESSOR, grant.id, payload)
    (entry,) = await desk.server.replica.write(
        [draft], author=member.keys.signing, now_ms=desk.clock(), entropy=os.urandom
    )
    return entry


@pytest.mark.parametrize("confirmed", [None, "machine", "teacher"])
async def test_the_copy_of_a_substitutes_laptop_leaves_with_the_substitute(desk: Office, confirmed: str | None) -> None:
    roux = await substitute(desk)
    first = await clone_of(desk, roux, roux.grants[0])
    key = Successor.parse(first.payload or b"").signing
    if confirmed is not None:
        await desk.do("confirm", device=key.hex(), restore=confirmed == "teacher")
    assert desk.space in {space.hex() for space in await desk.server.replica.readable(key)}
    assert {stay.key for stay in await stays_of(desk.server)} == {roux.keys.signing.public, key}
    desk.clock.advance(15 * DAY_MS)
    assert await end_stays(desk.server) == 2
    assert await desk.server.replica.readable(key) == {}


async def test_the_copy_of_a_laptop_that_is_there_for_good_stays(desk: Office) -> None:
    petit = await desk.enrol(await desk.invite("teacher", person=await desk.add_person("Mme Petit", "teacher")))
    await clone_of(desk, petit, petit.grants[0])
    assert await stays_of(desk.server) == []


# --- people added twice -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("Léa Martin", "MARTIN  Lea", True),
        ("Jean-Luc", "Jean Luc", True),
        ("Léa", "Léo", False),
        ("Mme Petit", "M. Petit", False),
    ],
)
def test_names_that_people_say_alike_are_probable_doubles(one: str, other: str, *, alike: bool) -> None:
    assert (spoken(one) == spoken(other)) is alike


async def test_a_pupil_added_twice_is_shown_and_merged_and_nothing_is_lost(desk: Office) -> None:
    space = bytes.fromhex(desk.space)
    lea = await add_person(desk.server, "Léa Martin", PersonRole.PUPIL, [space])
    double = await add_person(desk.server, "Lea MARTIN", PersonRole.PUPIL, [space])
    teacher = await add_person(desk.server, "Léa Martin", PersonRole.TEACHER, [space])
    (group,) = probable_duplicates(await list_persons(desk.server, space))
    assert {person.id for person in group} == {lea, double}
    assert await merge_persons(desk.server, double, lea) == 1
    roster = (await desk.server.replica.view(space)).roster
    assert set(roster.persons) == {lea, teacher}
    assert roster.who(double) == roster.who(lea) == lea
    assert probable_duplicates(roster.persons.values()) == []
    for person, into, code in (
        (lea, lea, Code.USAGE),
        (teacher, lea, Code.USAGE),
        (b"?" * 16, lea, Code.UNKNOWN_PERSON),
    ):
        with pytest.raises(BadInput) as refused:
            await merge_persons(desk.server, person, into)
        assert refused.value.code is code


async def test_two_people_who_merge_both_ways_leave_one_listed(desk: Office) -> None:
    space = bytes.fromhex(desk.space)
    lea = await add_person(desk.server, "Léa", PersonRole.PUPIL, [space])
    double = await add_person(desk.server, "Lea", PersonRole.PUPIL, [space])
    listed = {person.id: person for person in await list_persons(desk.server, space)}
    ring = ((lea, double), (double, lea))
    drafts = [
        list_draft(one, PersonRecord("Léa", PersonRole.PUPIL, left=True, same_as=other), space, [listed[one].entry])
        for one, other in ring  # neither had heard of the other
    ]
    await desk.server.say(drafts)
    roster = (await desk.server.replica.view(space)).roster
    assert list(roster.persons) == [min(lea, double)]
    assert roster.who(max(lea, double)) == min(lea, double)


async def test_the_last_word_counts_of_one_who_merges_both_ways(desk: Office) -> None:
    space = bytes.fromhex(desk.space)
    lea = await add_person(desk.server, "Léa", PersonRole.PUPIL, [space])
    double = await add_person(desk.server, "Lea", PersonRole.PUPIL, [space])
    await merge_persons(desk.server, double, lea)
    await merge_persons(desk.server, lea, double)
    roster = (await desk.server.replica.view(space)).roster
    assert list(roster.persons) == [double]
    assert roster.who(lea) == double


# --- while the server runs --------------------------------------------------------------------------------------------


async def test_a_stay_that_cannot_be_ended_does_not_end_the_care_for_keys(
    desk: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    again = asyncio.Event()

    async def refused_at_first(server: Server) -> int:
        looked.append(1)
        if len(looked) == 1:
            raise Refused(Code.NO_RIGHT, "this cannot be ended")
        again.set()
        return await end_stays(server)

    monkeypatch.setattr("sync_server.service.end_stays", refused_at_first)
    monkeypatch.setattr("sync_server.service.SPACE_KEYS_INTERVAL_S", 0.0)
    with await own(desk.server.folder, asyncio.Event()) as owner:
        tending = asyncio.create_task(Service(desk.server, owner, Stop())._tend_space_keys())
        asked = asyncio.create_task(again.wait())
        await asyncio.wait({tending, asked}, return_when=asyncio.FIRST_COMPLETED)
        for task in (tending, asked):
            task.cancel()
    assert again.is_set()


async def roles_in_another_class(desk: Office, member: Member) -> set[Role]:
    """As what a device comes in that is granted one more."""
    other = (await desk.do("space add", name="CM1", school="0180001D", year="none"))["space"]
    await desk.do("grant", device=member.id, space=[other])
    authorities = (await desk.server.replica.view(bytes.fromhex(other))).roster.authorities
    return {each.role for each in authorities if each.key == member.keys.signing.public}


async def test_who_was_a_head_for_a_time_comes_into_another_class_as_the_teacher_that_is_left(desk: Office) -> None:
    school = desk.server.replica.door.parent(bytes.fromhex(desk.space))
    assert school is not None
    teaches = {"name": "Mme Roux", "role": "teacher", "space": [desk.space, school.hex()]}
    person = (await desk.do("person add", **teaches))["person"]
    roux = await desk.enrol(await desk.invite("teacher", person=person))
    wanted = {"role": "head", "space": [school.hex()], "person": person, "uses": 1, "ttl": "40d", "for": "15d"}
    await desk.enrol((await desk.do("invite", **wanted))["code"], keys=roux.keys)
    desk.clock.advance(15 * DAY_MS)
    assert await end_stays(desk.server) == 1
    assert await roles_in_another_class(desk, roux) == {Role.TEACHER}


async def test_whom_a_thief_made_a_head_comes_in_after_the_end_as_the_teacher_that_was_left(desk: Office) -> None:
    school = desk.server.replica.door.parent(bytes.fromhex(desk.space))
    assert school is not None
    roux = await substitute(desk)
    stolen = await desk.enrol(await desk.invite("admin", school.hex()))
    pair = roux.keys.signing.public, roux.keys.agreement.public
    await stolen.write(Kind.GRANT, Grant(*pair, roux.keys.tls.fingerprint, Role.HEAD, None, None, None).encode())
    cut = Revocation(stolen.keys.signing.public, ()).encode()
    await desk.server.say([Draft(school, Kind.REVOKE, None, cut)])
    desk.clock.advance(16 * DAY_MS)
    assert await end_stays(desk.server) == 1
    assert await roles_in_another_class(desk, roux) == {Role.TEACHER}
