"""Letting in, letting go and cutting off, over a real store but without processes: rules, results, refusals."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import BadInput, Code
from protocol.identity import DeviceKeys
from protocol.limits import MAX_PARENTS, MAX_REVOKED_HEADS
from protocol.model.entry import Kind, compose
from protocol.model.structure import Revocation, Successor
from protocol.model.work import ContentRef, HandIn
from protocol.replica.at_work.replica import Draft
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.server_in_process import Member, Office, refusal


async def test_a_device_is_let_into_more_spaces_in_its_own_role(desk: Office) -> None:
    other = (await desk.do("space add", name="CM1", school="0180001D", year="none"))["space"]
    member = await desk.enrol(await desk.invite("machine"))
    await desk.do("grant", device=member.id, space=[other])
    assert {desk.space, other} < await member.spaces()
    before = await desk.counts()
    await desk.do("grant", device=member.id, space=[other, desk.space])
    assert await desk.counts() == before, "what it has already is not granted again"


async def test_a_teacher_comes_into_a_space_with_their_devices(desk: Office) -> None:
    other = (await desk.do("space add", name="CM1", school="0180001D", year="none"))["space"]
    person = await desk.add_person("Mme Petit", "teacher")
    laptop = await desk.enrol(await desk.invite("teacher", person=person))
    await desk.do("grant", person=person, space=[other])
    assert await desk.do("person list", space=other) == [
        {"person": person, "name": "Mme Petit", "role": "teacher", "called": "Mme Petit", "also_in": ""}
    ]
    assert other in await laptop.spaces()


async def test_a_teachers_device_brings_its_teacher_along(desk: Office) -> None:
    other = (await desk.do("space add", name="CM1", school="0180001D", year="none"))["space"]
    person = await desk.add_person("Mme Petit", "teacher")
    laptop = await desk.enrol(await desk.invite("teacher", person=person))
    await desk.do("grant", device=laptop.id, space=[other])
    assert [row["person"] for row in await desk.do("person list", space=other)] == [person]
    assert other in await laptop.spaces()


async def test_of_a_teacher_whose_last_class_was_closed_it_is_said_what_lets_her_computer_in(
    desk: Office, tmp_path: Path
) -> None:
    other = (await desk.do("space add", name="CM1", school="0180001D", year="none"))["space"]
    laptop = await desk.enrol(await desk.invite("teacher", person=await desk.add_person("Mme Petit", "teacher")))
    await desk.with_kit("space close", kit_in(tmp_path / "server" / "kit", None), space=desk.space, unheard_too=True)
    with pytest.raises(BadInput, match=r"no list names any more.*`person add`.*`invite`") as refused:
        await desk.do("grant", device=laptop.id, space=[other])
    assert refused.value.code is Code.UNKNOWN_PERSON


async def test_a_device_let_go_from_a_space_keeps_the_others_and_can_come_back(desk: Office) -> None:
    other = (await desk.do("space add", name="CM1", school="0180001D", year="none"))["space"]
    member = await desk.enrol(await desk.invite("machine", desk.space, other))
    await desk.do("ungrant", device=member.id, space=[other])
    assert desk.space in await member.spaces()
    assert other not in await member.spaces()
    before = await desk.counts()
    await desk.do("ungrant", device=member.id, space=[other])
    assert await desk.counts() == before, "it has been let go already"
    assert (await desk.device(member))["state"] != "retired"
    await desk.do("grant", device=member.id, space=[other])
    assert other in await member.spaces()
    await desk.do("ungrant", device=member.id, space=[other])
    assert other not in await member.spaces()
    await desk.do("grant", device=member.id, space=[other])
    assert other in await member.spaces(), "as often as it takes"


async def test_a_relay_let_go_from_one_class_keeps_the_rest_of_its_school(desk: Office) -> None:
    other = (await desk.do("space add", name="CM1", school="0180001D", year="none"))["space"]
    relay = await desk.enrol(await desk.invite("relay", "0180001D"))
    assert {desk.space, other} < await relay.spaces()
    await desk.do("ungrant", device=relay.id, space=[other])
    assert desk.space in await relay.spaces()
    assert other not in await relay.spaces()
    await desk.do("grant", device=relay.id, space=[other])
    assert other in await relay.spaces()


async def test_somebody_who_leaves_a_class_is_off_its_list_and_their_devices_with_them(desk: Office) -> None:
    other = (await desk.do("space add", name="CM1", school="0180001D", year="none"))["space"]
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
    other = (await desk.do("space add", name="CM1", school="0180001D", year="none"))["space"]
    person = await desk.add_person("Mme Petit", "teacher")
    stolen, kept = [await desk.enrol(await desk.invite("teacher", person=person)) for _ in range(2)]
    await desk.do("revoke", device=stolen.id)
    await desk.do("grant", person=person, space=[other, desk.space])
    assert other in await kept.spaces()
    assert await stolen.spaces() == set()
    (told,) = desk.said.lines
    assert f"the device {stolen.id} stays out" in told
    assert "grant --device" in told, "whoever did not mean that learns what to do"
    await desk.do("ungrant", person=person, space=[desk.space, other])
    await desk.do("grant", person=person, space=[desk.space, other])
    assert await stolen.spaces() == set()
    await desk.do("grant", device=stolen.id, space=[desk.space])
    assert desk.space in await stolen.spaces(), "who grants the device itself means it"


async def test_a_laptop_cut_off_in_one_class_alone_comes_into_no_other_with_its_teacher(desk: Office) -> None:
    other = (await desk.do("space add", name="CM1", school="0180001D", year="none"))["space"]
    third = (await desk.do("space add", name="CP", school="0180001D", year="none"))["space"]
    person = await desk.add_person("Mme Petit", "teacher", desk.space, other)
    laptop = await desk.enrol(await desk.invite("teacher", desk.space, other, person=person))
    await desk.do("ungrant", device=laptop.id, space=[other])
    await desk.do("grant", person=person, space=[other, third])
    assert desk.said.lines[-1] == "they are on the list there, and no device of theirs is let in"
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
    entries = await desk.counts()
    await desk.do("revoke", device=member.id)
    assert await desk.counts() == entries, "it has been cut off already"


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
    entries = await desk.counts()
    await desk.do("grant", device=member.id, space=[desk.space])
    assert desk.space in await member.spaces()
    assert sum((await desk.counts()).values()) - sum(entries.values()) < 10


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
