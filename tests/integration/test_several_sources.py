"""The same content from several sources at once: each gives a part of it, none gives what another does (R18)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from random import Random

from protocol.messages.parts import Link
from sync_agent.lan.exchange.meeting import meet
from sync_agent.lan.exchange.peer_session import PeerSession
from sync_agent.lan.exchange.peer_transport import PeerTransport
from sync_agent.lan.exchange.scope import LanScope
from sync_agent.machine.fetching import BEGINS_WITHIN_MS, ENDS_WITHIN_MS, LEFT_MS
from sync_agent.sync.transfer import Transfer
from tests.harness.classroom import Classroom, Device, Files
from tests.harness.lan import listening_device
from tests.harness.wire import Frontage, MemoryTransport, cut

PACKS = 6


class Source(MemoryTransport):
    """A source that gives other tasks their turn after each piece; after `most` pieces it is gone."""

    def __init__(self, frontage: Frontage, most: int = 10_000) -> None:
        super().__init__(frontage)
        self.most = most
        self.came = 0

    async def fetch(self, capability: str, start: int, length: int | None = None) -> AsyncGenerator[bytes, None]:
        async for piece in super().fetch(capability, start, length):
            if self.most <= 0:
                raise cut()
            self.most -= 1
            self.came += len(piece)
            yield piece
            await asyncio.sleep(0)


async def shared(room: Classroom) -> tuple[Device, dict[bytes, Files], list[Link]]:
    """A machine that knows lessons whose content it lacks, and links to all of that."""
    teacher = await room.teacher()
    items: dict[bytes, Files] = {}
    for number in range(PACKS):
        files = {f"{number}.bin": Random(number).randbytes(300_000)}
        items[(await room.publish(teacher, files)).item] = files
    await teacher.session.sync()
    machine = await room.machine()
    await machine.agent.budget.pause(None)
    await machine.session.sync(routine=True)
    responder = room.frontage.responder
    content = room.territory.replica.content
    packs = [await content.pack(pack, room.space) for pack in await content.pack_sizes()]
    links = [responder._link(pack, room.territory.clock(), keyed=True) for pack in packs if pack is not None]
    assert len(links) >= PACKS
    return machine, items, links


async def test_several_sources_share_the_work_and_nothing_comes_twice(room: Classroom) -> None:
    machine, _, links = await shared(room)
    sources = [Source(room.frontage) for _ in range(3)]
    agent = machine.agent
    transfers = [Transfer(agent.replica.content, source, fetching=agent.fetching) for source in sources]
    moved = await asyncio.gather(*[transfer.fetch(links) for transfer in transfers])
    assert sum(result.packs for result in moved) == len(links)
    assert sum(source.came for source in sources) == sum(link.size for link in links)
    assert all(source.came for source in sources)
    for link in links:
        assert await agent.replica.content.pack(link.pack, room.space) is not None


async def test_what_a_source_leaves_half_done_another_finishes_from_there(room: Classroom) -> None:
    machine, _, links = await shared(room)
    agent = machine.agent
    dying, good = Source(room.frontage, most=3), Source(room.frontage)
    transfers = [Transfer(agent.replica.content, source, fetching=agent.fetching) for source in (dying, good)]
    given_up, moved = await asyncio.gather(*[transfer.fetch(links) for transfer in transfers])
    assert given_up.stopped
    assert moved.failure is None
    assert dying.came > 0
    assert dying.came + good.came == sum(link.size for link in links)
    for link in links:
        assert await agent.replica.content.pack(link.pack, room.space) is not None


async def test_a_pack_comes_from_one_neighbour_at_a_time_and_from_another_once_that_one_stops(room: Classroom) -> None:
    machine, one, other = await room.machine(), b"one", b"other"
    scope, pack = LanScope(machine.agent), bytes(32)
    assert await scope.lets_send(pack, one)
    assert not await scope.lets_send(pack, other)
    assert await scope.lets_send(pack, one), "it goes on after a cut"
    await machine.agent.replica.content.append_part(pack, 0, b"some", one)
    room.territory.clock.advance(BEGINS_WITHIN_MS)
    assert not await scope.lets_send(pack, other), "it grows"
    await machine.agent.replica.content.append_part(pack, 4, b"more", one)
    room.territory.clock.advance(ENDS_WITHIN_MS)
    assert await scope.lets_send(pack, other), "who sends little does not keep others away"
    assert not await scope.lets_send(pack, one)


async def test_what_this_device_is_fetching_nobody_is_let_send(room: Classroom) -> None:
    machine = await room.machine()
    with machine.agent.fetching.claim(bytes(32), asyncio.get_running_loop().time()):
        assert not await LanScope(machine.agent).lets_send(bytes(32), b"other")


async def test_what_a_neighbour_is_sending_is_not_fetched_from_another_one_and_not_left_to_it_for_long(
    room: Classroom,
) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    content = machine.agent.replica.content
    for is_sent in (False, True):
        item = (await room.publish(teacher, {"film.bin": Random(is_sent).randbytes(300_000)})).item
        (pack,) = [
            pack
            for pack, size in (await teacher.agent.replica.content.pack_sizes()).items()
            if size > 300_000 and await content.pack(pack) is None
        ]
        async with listening_device(teacher.agent) as address:
            transport = PeerTransport(address)
            session = PeerSession(machine.agent, transport, await meet(machine.agent, transport))
            assert await LanScope(machine.agent).lets_send(pack, b"other")
            assert (await session.exchange()).bytes_in < 16_000
            assert session.leaves_some
            room.territory.clock.advance(BEGINS_WITHIN_MS - 1)
            if is_sent:
                await content.append_part(pack, 0, b"as slowly as it can", b"other")
                assert (await session.exchange()).bytes_in < 16_000
                room.territory.clock.advance(LEFT_MS - BEGINS_WITHIN_MS)
            room.territory.clock.advance(1)
            assert (await session.exchange()).bytes_in > 300_000
            assert not session.leaves_some
            await transport.close()
        assert await machine.files(item) == {"film.bin": Random(is_sent).randbytes(300_000)}
