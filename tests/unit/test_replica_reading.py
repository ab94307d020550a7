"""What a replica shows: views, who may read what, credentials for strangers (R7, R8)."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from protocol.errors import Code
from protocol.model.entry import Kind
from protocol.model.structure import Grant, Revocation, SpaceRecord
from protocol.rights.door import Door
from protocol.roles import Role
from tests.harness.entries import SOME_WORK
from tests.harness.history import World
from tests.harness.small_replica import admit, at_work, ids, members, opened, say, successors


@pytest.fixture
def world() -> World:
    return World(Random(21))


# --- views ------------------------------------------------------------------------------------------------------------


async def test_a_view_is_kept_until_its_set_or_one_above_it_grows(world: World) -> None:
    replica, teacher = await at_work(world)
    room, other = world.classes
    view, elsewhere = await replica.view(room), await replica.view(other)
    assert await replica.view(room) is view
    await say(replica, teacher, "nouveau")
    renewed = await replica.view(room)
    assert len(renewed.coursework.items) == len(view.coursework.items) + 1
    assert await replica.view(other) is elsewhere
    await admit(replica, world.say(world.server, world.school, Kind.PERSON, b"\x80"))
    assert await replica.view(room) is renewed
    world.enrol(Role.RELAY, world.school)
    await admit(replica, *world.entries)
    assert await replica.view(room) is not renewed
    assert await replica.view(other) is not elsewhere


async def test_only_so_many_views_are_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol.replica.at_work.views.KEPT_BYTES", 1)
    replica, _ = await at_work(world)
    view = await replica.view(world.classes[0])
    await replica.view(world.classes[1])
    assert await replica.view(world.classes[0]) is not view


async def test_a_view_that_takes_more_room_than_all_others_may_stays_beside_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica, teacher = await at_work(world)
    await say(replica, teacher, *map(str, range(40)))
    line = [await replica.view(space) for space in (world.territory, world.school)]
    large = await replica.view(teacher.space)
    room = sum(view.weight_bytes for view in line)
    assert large.weight_bytes > room
    monkeypatch.setattr("protocol.replica.at_work.views.KEPT_BYTES", room)
    await replica.reload()
    spaces = (world.school, teacher.space)
    kept = [await replica.view(space) for space in spaces]
    for view, space in zip(kept, spaces, strict=True):
        assert await replica.view(space) is view


async def test_the_fingerprint_follows_the_set_and_nothing_else(world: World) -> None:
    replica, teacher = await at_work(world)
    await replica.fingerprint(teacher.space)
    await say(replica, teacher, "un", "deux")
    other = await opened(world)
    entries = [stored.entry for space in await replica.store.spaces() for stored in await replica.store.scan(space)]
    await admit(other, *reversed(entries))
    assert await other.fingerprint(teacher.space) == await replica.fingerprint(teacher.space)
    assert len(await replica.records(teacher.space)) == (await replica.position(teacher.space)).count
    await replica.reload()
    assert await other.fingerprint(teacher.space) == await replica.fingerprint(teacher.space)


# --- who may read -----------------------------------------------------------------------------------------------------


async def test_a_grant_opens_its_space_those_below_and_those_above(world: World) -> None:
    relay, machine = world.enrol(Role.RELAY, world.school), world.enrol(Role.MACHINE, world.classes[1])
    replica = await opened(world)
    await admit(replica, *world.entries)
    everything = [world.territory, world.school, *sorted(world.classes)]
    assert list(await replica.readable(relay.key.public)) == everything
    assert list(await replica.readable(machine.key.public)) == [*everything[:2], world.classes[1]]
    assert list(await replica.readable(world.server.key.public)) == everything
    assert await replica.readable(world.new_key().public) == {}


async def test_of_several_grants_the_highest_that_holds_in_a_space_opens_it(world: World) -> None:
    teacher = world.enrol(Role.TEACHER, world.classes[0])
    key = Grant(teacher.key.public, bytes(32), None, Role.MACHINE, None, None)
    below = world.say(world.server, world.school, Kind.GRANT, key.encode())
    replica = await opened(world)
    await admit(replica, *world.entries)
    readable = await replica.readable(teacher.key.public)
    assert readable[world.classes[0]].grant == teacher.grant
    assert {readable[space].grant for space in (world.classes[1], world.school, world.territory)} == {
        below.id,
        teacher.grant,
    }
    assert readable[world.classes[1]].grant == readable[world.school].grant == below.id


async def test_a_key_cut_off_in_a_class_reads_the_others_of_its_school(world: World) -> None:
    relay = world.enrol(Role.RELAY, world.school)
    cut = Revocation(relay.key.public, ()).encode()
    world.say(world.server, world.classes[0], Kind.REVOKE, cut)
    replica = await opened(world)
    await admit(replica, *world.entries)
    assert list(await replica.readable(relay.key.public)) == [world.territory, world.school, world.classes[1]]


async def test_a_grant_that_is_held_back_in_a_class_does_not_open_it_from_above(world: World) -> None:
    admin = world.enrol(Role.ADMIN, world.school)
    relay = world.enrol(Role.RELAY, world.school, by=admin)
    cut = Revocation(admin.key.public, ()).encode()
    world.say(world.server, world.classes[0], Kind.REVOKE, cut)
    replica = await opened(world)
    await admit(replica, *world.entries)
    assert relay.grant in (await replica.view(world.classes[0])).roster.held_back
    assert list(await replica.readable(relay.key.public)) == [world.territory, world.school, world.classes[1]]


async def test_what_a_key_may_read_costs_nothing_for_spaces_that_are_not_its_own(world: World) -> None:
    machine = world.enrol(Role.MACHINE, world.classes[0])
    for number in range(300):
        world.say(world.server, world.school, Kind.SPACE, SpaceRecord(f"CE{number}").encode())
    replica = await opened(world)
    await admit(replica, *world.entries)
    asked: list[bytes] = []
    lineage = replica.door.lineage

    def counted(space: bytes) -> tuple[bytes, ...]:
        asked.append(space)
        return lineage(space)

    replica.door.lineage = counted  # type: ignore[method-assign]
    await replica.readable(machine.key.public)
    assert len(asked) < 60


# --- credentials ------------------------------------------------------------------------------------------------------


async def test_credentials_are_all_that_a_stranger_needs_in_an_admissible_order(world: World) -> None:
    admin = world.enrol(Role.ADMIN, world.school)
    machine = world.enrol(Role.MACHINE, world.classes[0], by=admin)
    replica = await opened(world)
    await admit(replica, *world.entries)
    assert machine.grant is not None
    shown = await replica.credentials([machine.grant, bytes(32), machine.grant])
    door = Door(world.root.key.public)
    for entry in shown:
        assert door.examine(entry).outcome == "admit"
        door.learn(entry)
    assert shown[-1].id == machine.grant
    assert len(shown) == 5, "certificate, school, class, the admin's grant, the machine's"


async def test_a_device_that_was_cloned_a_thousand_times_still_has_credentials(world: World) -> None:
    machine = world.enrol(Role.MACHINE, world.classes[0])
    line = successors(world, machine, 1_000)
    replica = await opened(world)
    await admit(replica, *world.entries)
    shown = await replica.credentials([line[-1].id])
    assert len(shown) == len(line) + 4
    assert ids(shown)[-1] == line[-1].id


async def test_a_forged_copy_of_what_waits_takes_nobodys_place(world: World) -> None:
    machine = world.enrol(Role.MACHINE, world.classes[0])
    grant = world.entries[-1]
    work = world.say(machine, machine.space, Kind.HAND_IN, SOME_WORK)
    forged = replace(work, signature=bytes(64))
    replica = await opened(world)
    await admit(replica, *[entry for entry in world.entries if entry not in (grant, work)])
    admission = await admit(replica, forged, source=b"forger")
    assert [refusal.code for refusal in admission.refused] == [Code.BAD_SIGNATURE]
    await admit(replica, work)
    await admit(replica, forged, grant, source=b"forger")
    assert work.id in await members(replica)
