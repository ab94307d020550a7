"""A neighbour that lies, floods, stalls or sends what it may not: refused, put aside, and others go on."""

from __future__ import annotations

import asyncio
import contextlib
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random

import pytest
from aiohttp import web

from protocol.errors import NoAnswer, PeerFault, RelaisError
from protocol.limits import MAX_ANSWER_BYTES
from protocol.messages.calls import SyncAnswer
from protocol.messages.parts import InlinePack, SpacePage
from protocol.messages.wire import CONTENT_TYPE, SYNC_PATH, Capability
from protocol.model.entry import Entry, Kind, compose
from protocol.model.work import ContentRef, ItemKind, Revision
from protocol.reconcile.checkpoint import Checkpoint
from protocol.replica.byte_range import Span
from protocol.replica.http.content import Packs
from protocol.transfer.crossing import crossing
from protocol.trust.envelope import OpenedRequest
from sync_agent.app import Agent
from sync_agent.hand_ins.copies import Copies
from sync_agent.lan.exchange.link import VAIN_AT_ONCE, VAIN_PER_S, Link, LinkState, Vain, state_after
from sync_agent.lan.exchange.listener import LanResponder
from sync_agent.lan.exchange.peer_sync import exchange_once
from sync_agent.lan.exchange.peer_transport import PeerTransport
from sync_agent.lan.exchange.tls import listener_context
from sync_agent.machine.addresses import Address
from tests.harness.classroom import SMALL, Classroom
from tests.harness.lan import exchange, listening_device
from tests.harness.patience import PATIENCE_S, until

Twist = Callable[[SyncAnswer], SyncAnswer]


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
    monkeypatch.setattr("sync_agent.lan.exchange.peer_session.MAX_REQUESTS", 12)
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
    monkeypatch.setattr("sync_agent.lan.exchange.peer_transport.READ_IDLE_S", 0.2)
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
        async with asyncio.timeout(PATIENCE_S):
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


def test_exchanges_in_vain_are_free_at_first_and_few_in_the_long_run() -> None:
    vain, now_s, pauses = Vain(), 1_000.0, []
    for _ in range(VAIN_AT_ONCE + 100):
        vain, pause = vain.again(now_s)
        now_s += pause
        pauses.append(pause)
    assert pauses[:VAIN_AT_ONCE] == [0.0] * VAIN_AT_ONCE
    assert pauses[VAIN_AT_ONCE:] == pytest.approx([1 / VAIN_PER_S] * 100)
    assert Vain(-3, now_s).again(now_s + 3_600)[1] == 0.0


async def test_a_neighbour_that_always_tells_of_news_and_has_none_is_asked_seldom(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_agent.lan.exchange.link.VAIN_PER_S", 0.001)
    monkeypatch.setattr(
        "sync_agent.lan.exchange.link.ROUTINE_S", (0.01, 0.02)
    )  # news that are known are no reason to ask
    one, hostile, teacher = await room.machine(), await room.machine(), await room.teacher()
    await exchange(one.agent, teacher.agent)
    await exchange(hostile.agent, teacher.agent)
    asked, tireless = 0, asyncio.Event()

    def news_again(answer: SyncAnswer) -> SyncAnswer:
        nonlocal asked
        asked += 1
        responder.listeners.tell(frozenset([room.space]), teacher.agent.device)
        if asked > 20:
            tireless.set()
        return answer

    responder = Twisting(hostile.agent, news_again)
    async with listening_device(hostile.agent, responder) as address:
        link = Link(one.agent, LanResponder(one.agent), address, Copies(one.agent, set), print, print, draw=min)
        link._vain = Vain(5.0, asyncio.get_running_loop().time())
        running = asyncio.create_task(link.run())
        try:
            await until(lambda: asked > 5 and link.state is LinkState.LIVE)  # its word still comes
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await tireless.wait()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


class Raw:
    """A device with its own certificate that answers the first calls as it should, and then as `misbehave` says."""

    def __init__(self, hostile: Agent, misbehave: Callable[[asyncio.StreamWriter], AsyncIterator[bytes]]) -> None:
        self._hostile = hostile
        self._misbehave = misbehave

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Address]:
        tls = listener_context(self._hostile.keys.tls, self._hostile.folder)
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0, ssl=tls)
        async with server:
            yield Address("127.0.0.1", server.sockets[0].getsockname()[1])

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            async for piece in self._misbehave(writer):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
                if writer.is_closing():
                    break
        writer.close()


async def endless(_writer: asyncio.StreamWriter) -> AsyncIterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nContent-Type: " + CONTENT_TYPE.encode() + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
    while True:
        yield b"10000\r\n" + bytes(65_536) + b"\r\n"


async def endless_head(_writer: asyncio.StreamWriter) -> AsyncIterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n"
    while True:
        yield b"X-Noise: " + b"x" * 4_000 + b"\r\n"


@pytest.mark.parametrize("misbehave", [endless, endless_head])
async def test_an_answer_without_end_is_left_at_its_bound_and_costs_little_memory(
    room: Classroom, misbehave: Callable[[asyncio.StreamWriter], AsyncIterator[bytes]]
) -> None:
    machine, hostile, teacher = await room.machine(), await room.machine(), await room.teacher()
    item = (await room.publish(teacher, SMALL)).item
    async with Raw(hostile.agent, misbehave).open() as address:
        transport = PeerTransport(address)
        tracemalloc.start()
        with pytest.raises(RelaisError):
            await transport.post(SYNC_PATH, b"x")
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        await transport.close()
        with pytest.raises(RelaisError):
            await exchange_once(machine.agent, address)
    assert most < 4 * MAX_ANSWER_BYTES
    await exchange(machine.agent, teacher.agent)
    assert await machine.files(item) == SMALL


async def test_a_neighbour_that_stops_in_the_middle_of_content_is_left_and_another_goes_on_from_there(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, machine, hostile = await room.teacher(), await room.machine(), await room.machine()
    item = (await room.publish(teacher, film := {"film.bin": Random(5).randbytes(3_000_000)})).item
    await exchange(hostile.agent, teacher.agent)
    responder = LanResponder(hostile.agent)
    send, never = Packs._send, asyncio.Event()

    async def stops(
        packs: Packs, request: web.Request, answer: web.StreamResponse, may: Capability, span: Span
    ) -> web.StreamResponse:
        if packs._responder is not responder:
            return await send(packs, request, answer, may, span)
        answer.content_length = span.length
        await answer.prepare(request)
        half = await hostile.agent.replica.content.read_pack(may.pack, span.start, span.length // 2)
        await answer.write(crossing(may.link_key, span.start)(half))
        await never.wait()
        return answer

    monkeypatch.setattr(Packs, "_send", stops)
    async with listening_device(hostile.agent, responder) as address:
        with pytest.MonkeyPatch.context() as impatient:
            impatient.setattr("sync_agent.lan.exchange.peer_transport.READ_IDLE_S", 1.0)
            with pytest.raises(NoAnswer) as raised:
                await exchange_once(machine.agent, address)
        assert state_after(raised.value) is LinkState.AWAY
        done = await exchange(machine.agent, teacher.agent)
        never.set()
    assert 0 < done.bytes_in < len(film["film.bin"]) // 2
    assert await machine.files(item) == film
