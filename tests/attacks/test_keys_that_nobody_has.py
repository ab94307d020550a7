"""Whoever has the server's key says a key of a class that nobody has, where sticks are the way left (ADR 0560)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Collection, Sequence
from pathlib import Path
from typing import cast

import pytest

from protocol.errors import Refused
from protocol.folds.space_keys import SpaceKeyRecord, SpaceSecret, SpaceWraps
from protocol.identity import AgreementKey
from protocol.model.entry import Kind
from protocol.model.structure import Erasure, Revocation
from protocol.replica.at_work.keyring import Keyring
from protocol.replica.at_work.replica import Draft
from sync_agent.app import Agent
from sync_agent.courier.commands import export_to
from sync_agent.courier.watch import CourierWatch, disks_of
from sync_agent.operations import table
from tests.harness.attack import attack
from tests.harness.classroom import WORK, Classroom, Device, assignment
from tests.harness.couriers import bring, bundles, courier_class, know_keys, runner
from tests.harness.portal import portal, said_in
from tests.harness.server_in_process import Office, office
from tests.integration.test_space_keys import line, machine, opens, ring

ROW = "somebody says a key of a class that nobody has"
NOISE = bytes(80)


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Classroom]:
    async with courier_class(tmp_path / "room") as made:
        yield made


async def a_class(room: Classroom) -> tuple[Device, Device, bytes]:
    """A teacher, a pupils' PC that has heard of all there is, and an assignment."""
    teacher, pc = await room.teacher(), await room.machine()
    await know_keys(room, teacher, pc)
    item = await assignment(room, teacher, pc)
    for each in (teacher, pc):
        await each.session.sync()
    return teacher, pc, item


async def say_a_key_of_nobodys(room: Classroom, *noise_for: Device) -> None:
    """By a copy of the server's key: a key of the next epoch, sealed to nobody, or noise to these."""
    made = SpaceSecret(os.urandom(32))
    record = SpaceKeyRecord(2, made.commitment, AgreementKey(os.urandom(32)).public)
    await room.territory.say(room.space, Kind.SPACE_KEY, record.encode())
    if noise_for:
        wraps = tuple((own.public, NOISE) for each in noise_for for own in each.agent.agreements)
        await room.territory.say(room.space, Kind.SPACE_WRAP, SpaceWraps(made.commitment, wraps).encode())


async def left_off(device: Device, stick: Path) -> tuple[str, ...]:
    """What an export says that it could not take along."""
    ended = None
    try:
        await export_to(stick, device.agent.replica.territory, runner(device), lambda _: None)
    except Refused as refused:
        ended = refused
    if ended is None:
        return ()
    assert ended.exit_status == 5
    assert "“CM1”" in ended.message
    return tuple(cast("Sequence[str]", ended.facts["spaces"]))


@pytest.mark.parametrize("is_noise", [False, True], ids=["sealed to nobody", "noise"])
@attack(ROW, off={"protocol.replica.at_work.keyring.Keyring.for_bundles": Keyring.current})
async def test_work_goes_by_stick_though_the_newest_key_of_the_class_was_given_to_nobody(
    room: Classroom, tmp_path: Path, is_noise: bool
) -> None:
    teacher, pc, item = await a_class(room)
    await say_a_key_of_nobodys(room, *((teacher, pc) if is_noise else ()))
    for each in (teacher, pc):
        await each.session.sync()
    work = await room.hand_in(pc, item, WORK)
    assert await left_off(pc, tmp_path / "stick") == ()
    await bring(teacher, tmp_path / "stick")
    assert work in (await teacher.agent.replica.view(room.space)).coursework.hand_ins
    before = bundles(tmp_path / "stick")
    assert await left_off(pc, tmp_path / "stick") == ()
    assert bundles(tmp_path / "stick") == before, "what lies there under that key is there"


async def _nothing(_agent: Agent, _keyless: Collection[bytes]) -> list[bytes]:
    return []


@attack(ROW, off={"sync_agent.courier.exporting.passed_over": _nothing})
async def test_where_nothing_of_a_class_can_be_written_nobody_is_told_that_all_is_on_the_stick(
    room: Classroom, tmp_path: Path
) -> None:
    _, pc, item = await a_class(room)
    lost = await room.machine()
    await room.territory.say(room.space, Kind.REVOKE, Revocation(lost.agent.device, ()).encode())
    await say_a_key_of_nobodys(room)
    await pc.session.sync()
    await room.hand_in(pc, item, WORK)
    assert await left_off(pc, tmp_path / "stick") == ("CM1",)
    assert bundles(tmp_path / "stick"), "the school's are there"
    (tmp_path / "media" / "usb" / "Relais").mkdir(parents=True)
    said: list[str] = []
    disks, agent = disks_of(str(tmp_path / "media")), pc.agent
    watch = CourierWatch(agent, table(agent), disks, monotonic=lambda: 0.0, say=said.append)
    await watch.look()
    assert agent.stick == "keyless"
    assert "“CM1”" in said[0]
    async with portal(agent) as surfer:
        page = said_in((await surfer.get("/?register=adult")).body)
        assert "Rien n'a pu y être mis de : CM1." in page


async def _nobody_is_out(*_: object) -> bool:
    return True


@attack(ROW, off={"protocol.replica.at_work.keyring.Keyring._is_for_those_in": _nobody_is_out})
async def test_nothing_is_written_again_under_a_key_that_a_lost_pc_has(room: Classroom, tmp_path: Path) -> None:
    _, pc, item = await a_class(room)
    lost = await room.machine()
    await know_keys(room, lost)
    await room.territory.say(room.space, Kind.REVOKE, Revocation(lost.agent.device, ()).encode())
    await say_a_key_of_nobodys(room)
    await pc.session.sync()
    work = await room.hand_in(pc, item, WORK)
    await left_off(pc, tmp_path / "stick")
    await bring(lost, tmp_path / "stick")
    assert work not in (await lost.agent.replica.view(room.space)).coursework.hand_ins


@pytest.mark.parametrize("by_kit", [True, False], ids=["the kit", "a copied key"])
async def test_of_a_class_that_was_closed_nothing_is_told_and_of_one_that_is_hidden_it_is(
    room: Classroom, tmp_path: Path, by_kit: bool
) -> None:
    _, pc, _ = await a_class(room)
    say = room.territory.kit_says if by_kit else room.territory.say
    await say(room.territory.id, Kind.ERASE, Erasure(room.space).encode())
    await pc.session.sync()
    assert await left_off(pc, tmp_path / "stick") == (() if by_kit else ("Cher", "École", "CM1"))


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Office]:
    async with office(tmp_path / "server") as made:
        yield made


async def _never(*_: object) -> bool:
    return False


@pytest.mark.parametrize("is_noise", [False, True], ids=["sealed to nobody", "noise"])
@attack(ROW, off={"protocol.replica.office.space_keeper.SpaceKeeper._is_a_lie": _never})
async def test_a_server_makes_another_key_where_a_copy_of_its_own_has_said_one_that_does_not_open(
    here: Office, is_noise: bool
) -> None:
    member, server, space = await machine(here), here.server, line(here)[0]
    keys = await ring(here, server.keys.agreement).keys(space)
    assert keys.current is not None
    made = SpaceSecret(os.urandom(32))
    drafts = [Draft(space, Kind.SPACE_KEY, server.grant, made.record(keys.next_epoch, keys.current.cuts).encode())]
    if is_noise:
        wraps = tuple((own, NOISE) for own in (server.keys.agreement.public, member.keys.agreement.public))
        drafts.append(Draft(space, Kind.SPACE_WRAP, server.grant, SpaceWraps(made.commitment, wraps).encode()))
    await server.replica.write(drafts, author=server.keys.signing, now_ms=here.clock(), entropy=os.urandom)
    assert (await opens(here, member.keys.agreement))[0] is False
    for _ in range(2):
        await server.space_keeper.tend_grown()
    assert await opens(here, member.keys.agreement) == [True, True, True]
    assert (await ring(here, server.keys.agreement).keys(space)).next_epoch == keys.next_epoch + 2, "one, and no more"
