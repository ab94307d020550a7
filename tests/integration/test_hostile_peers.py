"""A neighbour that lies, floods, stalls or sends what it may not: refused, put aside, and others go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from protocol.checkpoint import Checkpoint
from protocol.entry import Entry, Kind, compose
from protocol.envelope import OpenedRequest
from protocol.errors import NoAnswer, PeerFault, RelaisError
from protocol.message_parts import InlinePack, SpacePage
from protocol.messages import SyncAnswer
from protocol.work import ContentRef, ItemKind, Revision
from sync_agent.addresses import Address
from sync_agent.app import Agent
from sync_agent.copies import Copies
from sync_agent.lan_listener import LanResponder
from sync_agent.lan_tls import listener_context
from sync_agent.link import Link, LinkState, state_after
from sync_agent.peer_sync import exchange_once
from tests.harness.classroom import SMALL, Classroom, classroom
from tests.harness.lan import exchange, listening_device

Twist = Callable[[SyncAnswer], SyncAnswer]


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Classroom]:
    async with classroom(tmp_path) as made:
        yield made


class Twisting(LanResponder):
    """Answers as any device, and then changes its answer."""

    def __init__(self, agent: Agent, twist: Twist) -> None:
        super().__init__(agent)
        self._twist = twist

    async def _sync(self, opened: OpenedRequest) -> bytes:
        return self._twist(SyncAnswer.parse(await super()._sync(opened))).encode()


async def fails_with(caller: Agent, hostile: Agent, twist: Twist) -> RelaisError:
    async with listening_device(hostile, Twisting(hostile, twist)) as address:
        with pytest.raises(RelaisError) as raised:
            await exchange_once(caller, address)
    return raised.value


async def test_content_that_was_changed_is_refused_and_another_neighbour_brings_it(room: Classroom) -> None:
    teacher, machine, other = await room.teacher(), await room.machine(), await room.machine()
    item = (await room.publish(teacher, SMALL)).item

    def lie(answer: SyncAnswer) -> SyncAnswer:
        return replace(answer, packs=tuple(InlinePack(p.space, p.data[:-40] + bytes(40)) for p in answer.packs))

    await exchange(other.agent, teacher.agent)
    error = await fails_with(machine.agent, teacher.agent, lie)
    assert isinstance(error, PeerFault)
    assert state_after(error) is LinkState.ASIDE
    assert await machine.agent.missing()
    await exchange(machine.agent, other.agent)
    assert await machine.files(item) == SMALL


async def test_a_neighbour_that_always_has_more_is_ended(room: Classroom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync_agent.peer_session.MAX_REQUESTS", 12)
    teacher, machine = await room.teacher(), await room.machine()
    error = await fails_with(machine.agent, teacher.agent, lambda answer: replace(answer, more=True))
    assert state_after(error) is LinkState.ASIDE
    await exchange(machine.agent, teacher.agent)


async def test_entries_that_a_neighbour_may_not_write_or_pass_on_are_not_taken(room: Classroom) -> None:
    machine, hostile = await room.machine(), await room.machine()
    await exchange(machine.agent, hostile.agent)
    grant = next(iter(await hostile.agent.replica.authorities(hostile.agent.device)))
    held = await machine.agent.replica.store.spaces()

    def lesson(space: bytes) -> Entry:
        record = Revision(ItemKind.LESSON, "Fausse leçon", None, None, ContentRef(bytes(32), 1, 1))
        return compose(
            author=hostile.agent.keys.signing,
            space=space,
            kind=Kind.REVISION,
            grant=grant.grant,
            at=1 << 60,
            payload=record.encode(),
            salt=bytes(16),
        )

    position = await hostile.agent.replica.position(room.space)
    here = Checkpoint(room.space, position.count, position.chain, await hostile.agent.replica.fingerprint(room.space))
    pages = [
        SpacePage(replace(here, space=space), (lesson(space),), (), more=False) for space in (room.space, bytes(32))
    ]

    def smuggle(answer: SyncAnswer) -> SyncAnswer:
        return replace(answer, pages=tuple(pages))

    async with listening_device(hostile.agent, Twisting(hostile.agent, smuggle)) as address:
        await exchange_once(machine.agent, address)
    assert await machine.agent.replica.store.spaces() == held
    assert not (await machine.agent.replica.view(room.space)).coursework.items


async def test_a_neighbour_that_stalls_is_left_after_a_while(room: Classroom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync_agent.peer_transport.READ_IDLE_S", 0.2)
    machine, hostile = await room.machine(), await room.machine()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    tls = listener_context(hostile.agent.keys.tls, hostile.agent.folder)
    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0, ssl=tls)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(NoAnswer) as raised:
            await exchange_once(machine.agent, Address("127.0.0.1", port))
    assert state_after(raised.value) is LinkState.AWAY


class Watched(Link):
    """A link that remembers its states, and whether the neighbour was thought gone."""

    seen: list[tuple[LinkState, bool]]
    changed: asyncio.Event

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == "state" and hasattr(self, "seen"):
            self.seen.append((self.state, self.is_gone))
            self.changed.set()

    async def sees(self, state: LinkState, *, gone: bool) -> None:
        async with asyncio.timeout(20):
            while (state, gone) not in self.seen:
                self.changed.clear()
                await self.changed.wait()


async def test_a_line_that_fell_is_no_reason_to_think_a_neighbour_gone_until_it_does_not_answer(
    room: Classroom,
) -> None:
    one, other = await room.machine(), await room.machine()
    async with listening_device(other.agent) as address:
        link = Watched(one.agent, LanResponder(one.agent), address, Copies(one.agent, set), print, print, draw=min)
        link.seen, link.changed = [], asyncio.Event()
        running = asyncio.create_task(link.run())
        await link.sees(LinkState.LIVE, gone=False)
    await link.sees(LinkState.AWAY, gone=True)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert link.seen.index((LinkState.AWAY, False)) < link.seen.index((LinkState.AWAY, True))
