"""Attacks: whoever has the server writes a head teacher's computer further grants, which end with the server's key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from random import Random

import pytest

from protocol.errors import Refused
from protocol.model.entry import Kind
from protocol.model.structure import Grant, Revocation
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.spaces import uai_of
from protocol.rights.door import Authority
from protocol.roles import RANK, Role
from sync_agent.app import Agent
from sync_agent.courier.survey import keeps_reports
from sync_agent.school.office import SchoolOffice, end_what_is_over
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.head_at_work import confirmed_head
from tests.harness.portal import portal
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.spied_class import spied_class

ROW = "a server gives a head's computer a further right, and takes its words with it"
Way = Callable[[Here, Device], Awaitable[list[bytes]]]


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with spied_class(tmp_path, kept_for=__name__) as made:
        yield made


async def _the_same_again(here: Here, head: Device) -> list[bytes]:
    """So many that the least of their ids is one of theirs."""
    return [
        entry.id
        for _ in range(40)
        for entry in await here.room.territory.let_in(head.agent.keys, Role.HEAD, here.room.school)
    ]


async def _with_a_thiefs_key(here: Here, head: Device) -> list[bytes]:
    """The key that signs is the head's; what is sealed to the other one, the thief opens."""
    keys, thief = head.agent.keys, here.spy.agreement.public
    false = Grant(keys.signing.public, thief, keys.tls.fingerprint, Role.HEAD, None, None).encode()
    return [(await here.room.territory.say(here.room.territory.id, Kind.GRANT, false)).id]


async def _as_an_administrators(here: Here, head: Device) -> list[bytes]:
    territory = here.room.territory
    return [entry.id for entry in await territory.let_in(head.agent.keys, Role.ADMIN, territory.id)]


async def _under_the_widest(office: SchoolOffice, draft: Draft, rights: Sequence[Authority]) -> Draft:
    door = office.replica.door
    widest = min(rights, key=lambda right: (len(door.lineage(right.space)), -right.rank, right.grant))
    return Draft(draft.space, draft.kind, widest.grant, draft.payload, draft.subject, draft.target, draft.parents)


async def _all_that_name_it(agent: Agent) -> list[Authority]:
    return await agent.replica.authorities(agent.device)


WITHOUT: dict[str, object] = {
    "sync_agent.school.office.SchoolOffice._under_its_right": _under_the_widest,
    "sync_agent.app.Agent.own_rights": _all_that_name_it,
}


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
@pytest.mark.parametrize("way", [_the_same_again, _with_a_thiefs_key, _as_an_administrators])
@attack(ROW, off=WITHOUT)
async def test_what_a_heads_computer_says_outlives_the_further_rights_that_a_server_gave_it(
    here: Here, way: Way, restarted: bool
) -> None:
    head, _ = await confirmed_head(here)
    territory, laptop = here.room.territory, here.teacher.agent.device
    further = await way(here, head)
    await here.sync(head, head)
    if restarted:
        await head.agent.close()
        head.agent = await Agent.open(head.agent.folder, now_ms=territory.clock, entropy=Random(7).randbytes)
    try:
        before = {entry.id for entry in await head.agent.replica.store.scan_kinds(list(Kind))}
        await Desk(head.agent).ask("lost", device=laptop.hex())
        uai = await uai_of(await SchoolOffice.of(head.agent), here.room.school)
        await Desk(head.agent).ask("space add", name="CM2", year="2026-2027", school=uai)
        school, in_school = head.agent.replica, {*head.agent.replica.door.below(here.room.school)}
        fresh = [entry for entry in await school.store.scan_kinds(list(Kind)) if entry.id not in before]
        said = [entry for entry in fresh if entry.header.space in in_school]
        assert {Kind.REVOKE, Kind.SPACE, Kind.SPACE_KEY} <= {entry.header.kind for entry in said}
        own = {entry.header.kind for entry in said if entry.header.grant not in further}
        assert {entry.header.kind for entry in said if entry.header.grant in further} <= {Kind.REVOKE} & own
        root = territory.keys.root
        where = {each.grant: each.space for each in school.door.authorities_of(head.agent.device)}
        end = Revocation(head.agent.device, ()).encode()
        ends = [Draft(where[name], Kind.REVOKE, None, end, target=name) for name in further]
        await school.write(ends, author=root, now_ms=territory.clock(), entropy=territory.entropy, unsent=False)
        assert not (await school.view(here.room.space)).roster.may_read(laptop), "the report stands"
    finally:
        if restarted:
            await head.agent.close()


async def _nothing(_office: SchoolOffice, _drafts: Sequence[Draft], _rights: Sequence[Authority]) -> list[Draft]:
    return []


@attack(ROW, off={"sync_agent.school.office.SchoolOffice._besides": _nothing})
async def test_a_report_of_a_laptop_that_a_server_raised_outlives_the_right_that_it_took(here: Here) -> None:
    head, _ = await confirmed_head(here)
    territory, laptop = here.room.territory, here.teacher.agent
    raised = [entry.id for entry in await territory.let_in(laptop.keys, Role.HEAD, here.room.space)]
    widened = await _as_an_administrators(here, head)
    await here.sync(head)
    await Desk(head.agent).ask("lost", device=laptop.device.hex())
    school = head.agent.replica
    for keys, further in ((laptop.keys, raised), (head.agent.keys, widened)):
        where = {each.grant: each.space for each in school.door.authorities_of(keys.signing.public)}
        end = Revocation(keys.signing.public, ()).encode()
        ends = [Draft(where[name], Kind.REVOKE, None, end, target=name) for name in further]
        root = territory.keys.root
        await school.write(ends, author=root, now_ms=territory.clock(), entropy=territory.entropy, unsent=False)
    assert not (await school.view(here.room.space)).roster.may_read(laptop.device), "the report stands"


async def test_a_laptop_that_was_raised_and_reported_is_let_in_again_with_one_word(here: Here) -> None:
    head, _ = await confirmed_head(here)
    territory, laptop = here.room.territory, here.teacher.agent
    await territory.let_in(laptop.keys, Role.HEAD, here.room.space)
    await _as_an_administrators(here, head)
    await here.sync(head)
    await Desk(head.agent).ask("lost", device=laptop.device.hex())
    assert not (await head.agent.replica.view(here.room.space)).roster.may_read(laptop.device)
    await Desk(head.agent).ask("grant", device=laptop.device.hex(), space=[here.room.space.hex()])
    assert (await head.agent.replica.view(here.room.space)).roster.may_read(laptop.device)


async def test_an_administrators_right_cuts_a_heads_computer_off_and_lets_another_in(here: Here) -> None:
    territory = here.room.territory
    promoted, _ = await confirmed_head(here)
    other, _ = await confirmed_head(here)
    (admin,) = await territory.let_in(promoted.agent.keys, Role.ADMIN, territory.id)
    await here.sync(promoted, other)
    office = await SchoolOffice.of(promoted.agent)
    assert (office.authority.space, office.rank) == (territory.id, RANK[Role.ADMIN]), "it reaches what it has"
    desk = Desk(promoted.agent)
    await desk.ask("lost", device=other.agent.device.hex())
    (cut,) = await promoted.agent.replica.store.scan_kinds([Kind.REVOKE])
    assert cut.header.grant == admin.id
    assert other.agent.device in (await promoted.agent.replica.view(here.room.school)).roster.cut
    await desk.ask("lost", device=here.teacher.agent.device.hex())
    cuts = await promoted.agent.replica.store.scan_kinds([Kind.REVOKE])
    under = [each.header.grant for each in cuts if each.header.author == promoted.agent.device][1:]
    assert under[0] != admin.id, "a teacher's goes under the head's right"
    assert under[1:] == [admin.id], "and under the other as well"
    await desk.ask("grant", device=other.agent.device.hex(), space=[here.room.school.hex()])
    assert other.agent.device not in (await promoted.agent.replica.view(here.room.school)).roster.cut


async def test_a_laptop_that_a_heads_right_names_with_a_thiefs_key_runs_no_school_and_fails_at_nothing(
    here: Here,
) -> None:
    await _with_a_thiefs_key(here, here.teacher)
    await here.sync()
    assert await end_what_is_over(here.teacher.agent) == 0
    with pytest.raises(Refused):
        await SchoolOffice.of(here.teacher.agent)


async def _the_highest_alone(agent: Agent) -> frozenset[Role]:
    grants = await agent.replica.authorities(agent.device)
    return frozenset({max(grants, key=lambda grant: grant.rank).role})


@attack(ROW, off={"sync_agent.app.Agent.roles": _the_highest_alone})
async def test_a_heads_computer_leads_drills_and_keeps_reports_whatever_higher_right_a_server_gives_it(
    here: Here,
) -> None:
    head, _ = await confirmed_head(here)
    elsewhere = await here.room.territory.school("Inventée", "0999999Z")
    await here.room.territory.let_in(head.agent.keys, Role.ADMIN, elsewhere)
    for _ in range(2):
        await here.sync(head)
    assert await head.agent.role() is Role.ADMIN
    assert await keeps_reports(head.agent)
    async with portal(head.agent) as surfer:
        assert (await surfer.get("/drill")).status == 200
