"""A server in wrong hands that tells its PCs of a twin again and again, until their grant has no successors left."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

import pytest

from protocol.clock import DAY_MS
from protocol.errors import Code, LocalFailure, Refused
from protocol.folds.coursework import Work
from protocol.limits import MAX_CREDENTIALS, MAX_SUCCESSORS_BY_WORDS
from protocol.messages.lives import Twin
from protocol.model.entry import Kind
from protocol.model.structure import Grant, Revocation
from protocol.roles import Role
from sync_agent.app import Agent
from sync_agent.hand_ins.copies import Copies
from sync_agent.keys.binding import Hardware, Part
from sync_agent.keys.succession import BETWEEN_NEW_KEYS_MS, TELLINGS, Place, bind
from sync_agent.machine.marks import NEW_KEYS_MARK
from sync_agent.sync.session import Session
from sync_agent.upkeep.erasing import destroy_erased
from tests.harness.attack import attack
from tests.harness.classroom import WORK, Classroom, Device, assignment, classroom
from tests.harness.couriers import bring, courier_class, export, know_keys, make
from tests.harness.territory import NOW_MS
from tests.harness.wire import MemoryTransport
from tests.integration.test_clones import pc, stopped

ROW = "a server tells PCs of twins until they have no keys left"
A_PC: Hardware = {part: frozenset({f"{part} of this PC"}) for part in Part}


def _never(*_: object) -> bool:
    return False


def _at_once(*_: object) -> bool:
    return True


async def _always(*_: object) -> bool:
    return True


def _ends(*_: object) -> None:
    raise LocalFailure(Code.INTERNAL, "new keys would open nothing")


async def _a_pc_with_work(room: Classroom) -> Path:
    """The folder of a PC on which work waits that the server does not have."""
    teacher, machine = await room.teacher(), await room.machine()
    await room.hand_in(machine, await assignment(room, teacher, machine), WORK)
    room.devices.remove(machine)
    await machine.close()
    bind(machine.agent.folder, A_PC, Random(9).randbytes)
    return machine.agent.folder


async def _told_again_and_again(room: Classroom, starts: int, ahead_ms: int = 0) -> tuple[Agent, int]:
    """The agent of a PC with work that waits there, after so many starts, and how many keys it has had.

    Before each the network says a time that is so much later.
    """
    folder, entropy, keys = await _a_pc_with_work(room), Random(9).randbytes, set()
    place = Place(A_PC)
    for _ in range(starts):
        room.territory.clock.advance(ahead_ms)
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


async def _by_the_own_clock(agent: Agent) -> int | None:
    mark = await agent.replica.store.mark(NEW_KEYS_MARK)
    return None if mark is None else int.from_bytes(mark) - (agent.now_ms() - NOW_MS)


@attack(ROW, off={"sync_agent.keys.succession._gave_way_at": _by_the_own_clock})
async def test_a_clock_that_the_network_sets_brings_no_word_of_a_twin_a_week_nearer(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        agent, keys = await _told_again_and_again(room, 6, ahead_ms=8 * DAY_MS)
        await agent.close()
        assert keys == 2


@attack(ROW, off={"sync_agent.keys.succession._gave_way_lately": _never})
async def test_a_word_that_comes_within_the_week_opens_no_agent_anew(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        folder, place, opened = await _a_pc_with_work(room), Place(A_PC), []
        for _ in range(3):
            agent = await place.open(folder, room.territory.clock, Random(9).randbytes)
            for _ in range(TELLINGS):
                agent.on_twin(Twin.LATER)
            opened.append(place.gives_way.is_set())
            await agent.close()
        assert opened == [True, False, False]


async def test_a_program_that_has_run_for_the_week_gives_way_to_the_next_word(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        folder, place = await _a_pc_with_work(room), Place(A_PC)
        for _ in range(2):
            agent = await place.open(folder, room.territory.clock, Random(9).randbytes)
            for _ in range(TELLINGS):
                agent.on_twin(Twin.LATER)
            await agent.close()
        assert not place.gives_way.is_set()
        began_ms = place._watched_ms()
        place._watched_ms = lambda: began_ms + BETWEEN_NEW_KEYS_MS + 60_000
        place._hear(Twin.LATER)
        assert place.gives_way.is_set()


async def _told_for_weeks(room: Classroom, folder: Path, weeks: int) -> tuple[Agent, int]:
    """The agent of a PC that a server has told of a twin in each of so many weeks, and how many keys it has had."""
    place, keys, entropy = Place(A_PC), set(), Random(9).randbytes
    for _ in range(weeks * 3):
        agent = await place.open(folder, room.territory.clock, entropy)
        keys.add(agent.device)
        for _ in range(TELLINGS):
            agent.on_twin(Twin.LATER)
        await destroy_erased(agent)
        await agent.close()
        room.territory.clock.advance(3 * DAY_MS)
    agent = await place.open(folder, room.territory.clock, entropy)
    return agent, len(keys | {agent.device})


@attack(ROW, off={"sync_agent.keys.succession.has_room_since_confirmed": _at_once})
async def test_a_pc_that_is_told_of_a_twin_for_months_can_still_show_who_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.replica.steady._beginning", bytes)
    monkeypatch.setattr("sync_agent.transport.sealed_calls.MAX_CREDENTIALS", MAX_SUCCESSORS_BY_WORDS + 4)
    async with classroom(tmp_path) as room:
        agent, keys = await _told_for_weeks(room, await _a_pc_with_work(room), MAX_SUCCESSORS_BY_WORDS + 6)
        (work,) = (await agent.replica.view(room.space)).coursework.hand_ins
        try:
            await Session(agent, MemoryTransport(room.frontage)).sync()
        except Refused as refused:
            raise AssertionError("it is a stranger to the honest server") from refused
        finally:
            await agent.close()
        assert work in (await room.territory.replica.view(room.space)).coursework.hand_ins
        assert keys == 1 + MAX_SUCCESSORS_BY_WORDS


@attack(ROW, off={"sync_agent.keys.succession._has_room_in_line": _at_once})
async def test_nor_is_one_a_stranger_once_what_that_server_has_confirmed_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.replica.steady._beginning", bytes)
    monkeypatch.setattr("sync_agent.keys.succession.MAX_FORMER_KEYS", 4)
    # as if that server had let in each of its keys: none is one that nobody has confirmed
    monkeypatch.setattr("sync_agent.keys.succession.line_since_confirmed", lambda *_: 0)
    async with classroom(tmp_path) as room:
        agent, keys = await _told_for_weeks(room, await _a_pc_with_work(room), 7)
        shown = await agent.replica.credentials([one.grant for one in await agent.replica.authorities(agent.device)])
        await agent.close()
        assert keys == 5
        assert len(shown) < MAX_CREDENTIALS


async def test_one_whose_line_an_earlier_version_made_too_long_is_known_once_a_stick_has_brought_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.replica.steady._beginning", bytes)
    monkeypatch.setattr("sync_agent.transport.sealed_calls.MAX_CREDENTIALS", 6)
    async with courier_class(tmp_path) as room:
        teacher, machine = await room.teacher(), await room.machine()
        item = await assignment(room, teacher, machine)
        await know_keys(room, machine, teacher)
        work = await room.hand_in(machine, item, WORK)
        room.devices.remove(machine)
        await machine.close()
        bind(machine.agent.folder, A_PC, Random(9).randbytes)
        agent, _ = await _told_for_weeks(room, machine.agent.folder, 5)
        way = MemoryTransport(room.frontage)
        machine = Device(agent, Session(agent, way), way)
        with pytest.raises(Refused, match="not known here"):
            await machine.session.sync()
        make(tmp_path / "stick")
        await export(machine, tmp_path / "stick")
        await bring(teacher, tmp_path / "stick")
        await teacher.session.sync()
        await machine.session.sync()
        await agent.close()
        assert work in (await room.territory.replica.view(room.space)).coursework.hand_ins


def _by_the_keys_that_it_knows(agent: Agent, work: Work) -> bool:
    return work.author in agent.own_keys


@attack(ROW, off={"sync_agent.app.Agent.made": _by_the_keys_that_it_knows})
async def test_what_was_handed_in_on_a_pc_is_its_own_whichever_key_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.replica.steady._beginning", bytes)
    # as an earlier version, which kept the first and fifteen later ones
    monkeypatch.setattr("sync_agent.machine.former.MAX_FORMER_KEYS", 2)
    async with classroom(tmp_path) as room:
        folder = await _a_pc_with_work(room)
        agent, _ = await _told_for_weeks(room, folder, 1)
        item = next(iter((await agent.replica.view(room.space)).coursework.items))
        work = await room.hand_in(Device(agent, Session(agent, way := MemoryTransport(room.frontage)), way), item, WORK)
        await agent.close()
        agent, keys = await _told_for_weeks(room, folder, 3)
        found = (await agent.replica.view(room.space)).coursework.hand_ins[work]
        said = await Copies(agent, set).tend()
        is_made_here = agent.made(found)
        await agent.close()
        assert keys > 2
        assert is_made_here
        assert not said, "it signs for its own work as for a second copy"


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
