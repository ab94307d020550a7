"""What whoever has a stolen device does before it is missed (docs/threat-model.md)."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

from protocol.entry import Kind
from protocol.errors import Refused
from protocol.identity import territory_id
from protocol.invitation import Invitation
from protocol.replica.memory import MemoryPacks, MemoryStore
from protocol.replica.replica import Draft, Replica
from protocol.roles import Role
from protocol.structure import Invite, Revocation, Successor
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.history import NOW_MS, World, Writer
from tests.harness.office_devices import Town, town
from tests.harness.territory import DAY_MS


@pytest.fixture
def world() -> World:
    return World(Random(11))


async def held(world: World) -> Replica:
    replica = await Replica.open(world.root.key.public, MemoryStore(), MemoryPacks())
    await replica.admit(world.entries, source=b"a carrier", now_ms=NOW_MS)
    return replica


def passed_on(world: World, by: Writer) -> Writer:
    """Keys of a device's own making, which its keys sign."""
    key = world.new_key()
    payload = Successor(key.public, world.random.randbytes(32), None).encode()
    grant = world.say(by, by.space, Kind.SUCCESSOR, payload).id
    return Writer(key, Role.MACHINE, by.space, grant)


@attack("a device is lost", off={"protocol.roster.voided": lambda *_: {}})
async def test_keys_that_a_thief_made_before_the_report_open_nothing_after_it(world: World) -> None:
    room = world.classes[0]
    laptop = world.enrol(Role.TEACHER, room, person=bytes(16))
    first = passed_on(world, laptop)
    second = passed_on(world, first)
    tips = (world.tips[room, laptop.key.public][0], first.grant, second.grant)
    heads = tuple(head for head in tips if head)
    world.say(world.server, room, Kind.REVOKE, Revocation(laptop.key.public, heads).encode())
    roster = (await (await held(world)).view(room)).roster
    assert not [writer for writer in (laptop, first, second) if roster.may_read(writer.key.public)]


@attack("a device is lost", off={"protocol.roster.surplus": lambda *_: set()})
async def test_one_machine_makes_itself_no_crowd(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol.successions.MAX_SUCCESSORS", 3)
    machine = world.enrol(Role.MACHINE, world.classes[0])
    machine.skew_ms = 0
    crowd = [machine]
    for _ in range(7):
        crowd.append(passed_on(world, world.random.choice(crowd)))
    roster = (await (await held(world)).view(world.classes[0])).roster
    assert [roster.may_read(writer.key.public) for writer in crowd] == [True] * 4 + [False] * 4


async def _never(*_: object) -> bool:
    return False


@attack("a device is lost", off={"protocol.replica.office.enrolment.Enrolment._is_void": _never})
async def test_codes_of_a_device_that_was_cut_off_let_nobody_in(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        school, head = await head_of(here)
        agent, server = head.agent, here.office.server
        code = Invitation.create(territory_id(server.replica.door.root_now), os.urandom(10))
        forever = Invite(code.secret_hash, Role.MACHINE, (here.space,), None, 10_000, 2**62)
        grant = max(await agent.replica.authorities(agent.device), key=lambda each: each.rank).grant
        await agent.replica.write(
            [Draft(school, Kind.INVITE, grant, forever.encode())],
            author=agent.keys.signing,
            now_ms=here.office.clock(),
            entropy=os.urandom,
        )
        await here.sync(head)
        await here.office.do("lost", device=agent.device.hex())
        here.office.clock.advance(200 * DAY_MS)
        with pytest.raises(Refused):
            await here.office.enrol(code.code())


async def head_of(here: Town) -> tuple[bytes, Device]:
    """The school, and its head teacher's device."""
    school = here.office.server.replica.door.parent(here.space)
    assert school is not None
    return school, await here.device("head", None, school.hex())
