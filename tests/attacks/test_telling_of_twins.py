"""A server in wrong hands that tells its PCs of a twin again and again, until their grant has no successors left."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

import pytest

from protocol.errors import Code, LocalFailure, Refused
from protocol.messages.lives import Twin
from protocol.model.entry import Kind
from protocol.model.structure import Grant, Revocation
from protocol.roles import Role
from sync_agent.app import Agent
from sync_agent.keys.binding import Hardware, Part
from sync_agent.keys.succession import TELLINGS, Place, bind
from sync_agent.sync.session import Session
from tests.harness.attack import attack
from tests.harness.classroom import WORK, Classroom, assignment, classroom
from tests.harness.wire import MemoryTransport
from tests.integration.test_clones import pc, stopped

ROW = "a server tells PCs of twins until they have no keys left"
A_PC: Hardware = {part: frozenset({f"{part} of this PC"}) for part in Part}


async def _never(*_: object) -> bool:
    return False


async def _always(*_: object) -> bool:
    return True


def _ends(*_: object) -> None:
    raise LocalFailure(Code.INTERNAL, "new keys would open nothing")


async def _told_again_and_again(room: Classroom, starts: int) -> tuple[Agent, int]:
    """The agent of a PC with work that waits there, after so many starts, and how many keys it has had."""
    teacher, machine = await room.teacher(), await room.machine()
    await room.hand_in(machine, await assignment(room, teacher, machine), WORK)
    room.devices.remove(machine)
    await machine.close()
    folder, entropy = machine.agent.folder, Random(9).randbytes
    bind(folder, A_PC, entropy)
    place, keys = Place(A_PC), {machine.agent.device}
    for _ in range(starts):
        agent = await place.open(folder, room.territory.clock, entropy)
        keys.add(agent.device)
        for _ in range(TELLINGS):
            agent.on_twin(Twin.LATER)
        await agent.close()
    return await place.open(folder, room.territory.clock, entropy), len(keys)


@attack(ROW, off={"sync_agent.keys.succession._gave_way_lately": _never})
async def test_a_pc_that_is_told_of_a_twin_all_day_takes_new_keys_once(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        agent, keys = await _told_again_and_again(room, 4)
        await agent.close()
        assert keys == 2


@attack(
    ROW,
    off={"sync_agent.keys.succession._without_new_ones": _ends, "sync_agent.keys.succession._gave_way_lately": _never},
)
async def test_a_pc_whose_grant_has_no_successor_left_starts_and_keeps_its_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.rights.successions.MAX_SUCCESSORS", 0)
    async with classroom(tmp_path) as room:
        try:
            agent, keys = await _told_again_and_again(room, 3)
        except LocalFailure as failure:
            raise AssertionError("the agent does not start any more") from failure
        (work,) = (await agent.replica.view(room.space)).coursework.hand_ins.values()
        await agent.close()
        assert not work.at_server
        assert keys == 1


@attack(ROW, off={"sync_agent.keys.succession._has_room_for_words": _always})
async def test_words_leave_the_copies_of_an_image_their_half_of_the_successors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.rights.successions.MAX_SUCCESSORS", 2)
    async with classroom(tmp_path) as room:
        image = await stopped(room, await room.machine())
        entropy, clock = Random(9).randbytes, room.territory.clock
        bind(image, pc(1), entropy)
        folders = [tmp_path / name for name in ("a", "b")]
        for folder in folders:
            shutil.copytree(image, folder)
        first = Place(pc(2))
        for _ in range(2):
            agent = await first.open(folders[0], clock, entropy)
            await Session(agent, MemoryTransport(room.frontage)).sync()
            for _ in range(TELLINGS):
                agent.on_twin(Twin.LATER)
            await agent.close()
        agent, other = await first.open(folders[0], clock, entropy), await Place(pc(3)).open(folders[1], clock, entropy)
        try:
            for each in (other, agent):
                await Session(each, MemoryTransport(room.frontage)).sync()
        except Refused as refused:
            raise AssertionError("who was told came after the next copy, and is out") from refused
        finally:
            await agent.close()
            await other.close()


async def _as_it_is_called(agent: Agent) -> Role | None:
    return await agent.role()


@attack("a hostile or broken peer", off={"sync_agent.keys.succession._role": _as_it_is_called})
async def test_no_laptop_that_a_server_calls_a_pc_for_an_hour_gives_its_keys_up_to_that_servers_word(
    tmp_path: Path,
) -> None:
    async with classroom(tmp_path) as room:
        territory, teacher = room.territory, await room.teacher()
        await assignment(room, teacher)
        folder, entropy, key = teacher.agent.folder, Random(9).randbytes, teacher.agent.device
        room.devices.remove(teacher)
        await teacher.close()
        hers: Hardware = {part: frozenset({f"{part} of her laptop"}) for part in Part}
        bind(folder, hers, entropy)
        place, way = Place(hers), MemoryTransport(room.frontage)
        agent = await place.open(folder, territory.clock, entropy)
        await Session(agent, way).sync()
        (given,) = territory.replica.door.authorities_of(key)
        heads = tuple(await territory.replica.tips(room.space, key))
        await territory.say(room.space, Kind.REVOKE, Revocation(key, heads).encode(), target=given.grant)
        as_a_pc = Grant(key, given.agreement, given.tls_sha256, Role.MACHINE, None, None)
        await territory.say(room.space, Kind.GRANT, as_a_pc.encode())
        await Session(agent, way).sync()
        await agent.close()
        agent = await place.open(folder, territory.clock, entropy)
        assert await agent.role() is Role.MACHINE
        for _ in range(TELLINGS):
            agent.on_twin(Twin.LATER)
        await agent.close()
        agent = await place.open(folder, territory.clock, entropy)
        is_hers = agent.device == key
        await agent.close()
        assert is_hers
