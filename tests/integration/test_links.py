"""Live links between neighbours: news is brought both ways, once, and whoever stands alike is left alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from protocol.messages.calls import SyncRequest
from protocol.messages.parts import Wanted
from protocol.replica.answering.listeners import Listener
from protocol.replica.answering.serving import Responder
from protocol.replica.content.holdings import Need
from protocol.trust.envelope import OpenedRequest
from sync_agent.hand_ins.copies import Copies
from sync_agent.lan.exchange.link import Link
from sync_agent.lan.exchange.listener import LanResponder
from sync_agent.lan.exchange.meeting import meet
from sync_agent.lan.exchange.peer_calls import PeerCalls
from sync_agent.lan.exchange.peer_transport import PeerTransport
from sync_agent.sync.peer_news import unsettled
from tests.harness.classroom import SMALL, WORK, Classroom, Device, assignment, work_of
from tests.harness.lan import exchange, listening_device
from tests.harness.patience import PATIENCE_S, until


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, nobody's patience ends."""
    monkeypatch.setattr("sync_agent.lan.exchange.turns.TURN_S", PATIENCE_S)
    monkeypatch.setattr("sync_agent.lan.exchange.link.ANSWER_S", PATIENCE_S)


class Counting(LanResponder):
    """Counts the sync requests that it answers."""

    asked = 0

    async def _sync(self, opened: OpenedRequest) -> bytes:
        self.asked += 1
        return await super()._sync(opened)


class Silent(Counting):
    """As a version that does not know that one can say where one stands."""

    word = Responder.word
    heed = Responder.heed


class Echoing(Counting):
    """Says that it stands wherever the other one stands."""

    said = ""

    async def word(self, listener: Listener) -> str:
        del listener
        return self.said

    async def heed(self, listener: Listener, text: str) -> str | None:
        del listener
        self.said = text
        return text


@asynccontextmanager
async def linked(
    one: Device, other: Device, made: type[Counting] = Counting, *, speaks: bool = True
) -> AsyncIterator[tuple[Link, Counting]]:
    """A link that `one` keeps with `other`, once it stands; and if they speak, once both have said where."""
    here, there = LanResponder(one.agent), made(other.agent)
    async with listening_device(other.agent, there) as address:
        copies = Copies(one.agent, lambda: {other.agent.device})
        link = Link(one.agent, here, address, copies, print, print, draw=min)
        running = asyncio.create_task(link.run())
        try:
            await until(lambda: there.live_callers() and (link._speaks or not speaks))
            yield link, there
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def alike(link: Link, there: Counting) -> None:
    """Return when both stand alike, and nothing is on its way."""

    async def holds() -> bool:
        session = link._session
        if session is None or link._wanted.is_set() or session._turn.locked():
            return False
        own, theirs = await session.standing(), await there._standing_for(link._agent.device)
        return own is not None and theirs is not None and own.likeness == theirs.likeness

    await until(holds)


async def has(device: Device, item: bytes) -> None:
    """Return when a device holds an item with its content."""

    async def holds() -> bool:
        views = [await device.agent.replica.view(space) for space in await device.agent.spaces()]
        return any(item in view.coursework.items for view in views) and not await device.agent.missing()

    await until(holds)


@pytest.mark.parametrize("made", [Counting, Silent])
@pytest.mark.parametrize("speaks", [True, False], ids=["speaks", "says nothing"])
async def test_news_passes_both_ways_whichever_of_the_two_can_say_where_it_stands(
    room: Classroom, monkeypatch: pytest.MonkeyPatch, made: type[Counting], *, speaks: bool
) -> None:
    one, other, teacher = await room.machine(), await room.machine(), await room.teacher()
    if not speaks:

        async def say_nothing(_transport: PeerTransport, _text: str) -> None:
            """As a version from before."""

        monkeypatch.setattr(PeerTransport, "say", say_nothing)
    async with linked(one, other, made, speaks=speaks and made is Counting):
        for brought_to, seen_by in ((one, other), (other, one), (one, other)):
            item = (await room.publish(teacher, SMALL)).item
            await exchange(brought_to.agent, teacher.agent)
            await has(seen_by, item)
            assert await seen_by.files(item) == SMALL


async def test_what_both_have_from_somebody_else_they_do_not_exchange(room: Classroom, patient: None) -> None:
    one, other, teacher = await room.machine(), await room.machine(), await room.teacher()
    async with linked(one, other) as (link, there):
        for _ in range(2):  # who has met says more than lessons
            await room.publish(teacher, SMALL)
            await exchange(one.agent, teacher.agent)
            await exchange(other.agent, teacher.agent)
            await alike(link, there)
        before = there.asked
        for _ in range(3):
            async with there.turns.mine():  # it is about to be brought the same by another neighbour
                await room.publish(teacher, SMALL)
                await exchange(one.agent, teacher.agent)
                await exchange(other.agent, teacher.agent)
            await alike(link, there)
        assert there.asked == before
        item = (await room.publish(teacher, SMALL)).item
        await exchange(other.agent, teacher.agent)
        await has(one, item)
        await alike(link, there)
        assert there.asked == before + 1
        assert link._session is not None
        position = await other.agent.replica.position(room.space)
        assert link._session._cursors[room.space] == position, "and nothing that was there before came again"


async def test_a_neighbour_that_always_says_the_same_is_asked_now_and_then(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_agent.lan.exchange.link.ROUTINE_S", (0.1, 0.1))
    one, other, teacher = await room.machine(), await room.machine(), await room.teacher()
    async with linked(one, other, Echoing):
        for brought_to, seen_by in ((other, one), (one, other)):
            item = (await room.publish(teacher, SMALL)).item
            await exchange(brought_to.agent, teacher.agent)
            await has(seen_by, item)


async def test_nobody_is_alike_who_is_still_to_keep_a_copy_of_work(room: Classroom) -> None:
    one, other, teacher = await room.machine(), await room.machine(), await room.teacher()
    task = await assignment(room, teacher, one, other)
    async with linked(one, other) as (link, there):
        await alike(link, there)
        work = await work_of(one, room, await room.hand_in(one, task, WORK))
        assert link._session is not None
        assert await link._session.standing() is None, "no set shows that there is something to pass"
        need = Need(room.space, work.record.content.stream, sealed=True)
        await until(lambda: other.agent.holdings.is_complete(need))
        await Copies(other.agent, set).tend()
        await alike(link, there)
        assert other.agent.device in (await work_of(one, room, work.id)).copies


async def test_what_is_brought_again_leaves_no_mark(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    await room.publish(teacher, SMALL)
    await teacher.session.sync()
    await machine.session.sync()
    entries = [stored.entry for stored in await teacher.agent.replica.store.scan(room.space)]
    async with listening_device(machine.agent) as address:
        transport = PeerTransport(address)
        calls = PeerCalls(teacher.agent, transport, await meet(teacher.agent, transport))
        await calls.sync(SyncRequest(push=tuple(entries)))
        await transport.close()
    assert not await unsettled(machine.agent.replica.store), "there is nothing to compare with the server's"


async def test_whoever_lacks_content_is_not_alike_who_has_it(room: Classroom) -> None:
    one, other, teacher = await room.machine(), await room.machine(), await room.teacher()
    async with linked(one, other) as (link, there):
        await alike(link, there)
        item = (await room.publish(teacher, SMALL)).item
        stream = (await teacher.agent.replica.view(room.space)).coursework.items[item].shown.record.content.stream
        entries = [stored.entry for stored in await teacher.agent.replica.store.scan(room.space)]
        for device in (one, other):
            await device.agent.replica.admit(entries, source=teacher.agent.device, now_ms=device.agent.now_ms())
        assert link._session is not None
        standing = await link._session.standing()
        assert standing is not None
        assert Wanted(room.space, stream) in standing.lacking
        await exchange(other.agent, teacher.agent)
        await has(one, item)
        assert await one.files(item) == SMALL
