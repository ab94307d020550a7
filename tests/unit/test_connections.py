"""Connections to one server: how long they last, and what becomes of what is on them."""

from __future__ import annotations

import asyncio

import aiohttp

from protocol.identity import SigningKey
from protocol.rights.door import Door
from sync_agent.transport.connections import LASTS_S, Connections
from sync_agent.transport.server_chain import KnownServers

ROOT = SigningKey(bytes(32)).public


class Opening:
    """Opens sessions as soon as it may go on."""

    def __init__(self) -> None:
        self.opened: list[aiohttp.ClientSession] = []
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.now_s = 0.0
        self.cut: frozenset[bytes] = frozenset()
        self.judged_by: list[KnownServers | None] = []
        self.connections = Connections(self.open, lambda: self.now_s, self.knows)

    async def knows(self) -> KnownServers:
        return KnownServers(Door(ROOT), ROOT, None, self.cut, frozenset())

    async def open(self, known: KnownServers | None) -> aiohttp.ClientSession:
        self.judged_by.append(known)
        await self.may_go_on.wait()
        self.opened.append(aiohttp.ClientSession())
        return self.opened[-1]


async def test_what_is_on_its_way_goes_on_when_its_connections_are_too_old_for_more() -> None:
    opening = Opening()
    async with opening.connections.for_one_request() as before:
        opening.now_s = LASTS_S
        async with opening.connections.for_one_request() as after:
            assert after is not before
        assert not before.closed
    assert before.closed
    await opening.connections.close()
    assert after.closed


async def test_no_request_begins_on_a_connection_that_was_judged_by_what_was_known_before() -> None:
    opening = Opening()
    async with opening.connections.for_one_request() as before:
        async with opening.connections.for_one_request() as beside:
            assert beside is before, "nothing has become known"
        opening.cut = frozenset({b"a server's key"})
        async with opening.connections.for_one_request() as after:
            assert after is not before
        assert not before.closed, "what is on its way goes on"
    assert before.closed
    assert [known and known.cut for known in opening.judged_by] == [frozenset(), opening.cut]
    await opening.connections.close()


async def test_what_is_on_its_way_ends_when_all_connections_are_let_go() -> None:
    opening = Opening()
    async with opening.connections.for_one_request() as before:
        opening.now_s = LASTS_S
        async with opening.connections.for_one_request():
            await opening.connections.close()
        assert before.closed


async def test_two_that_ask_at_once_share_connections_and_what_was_opened_twice_is_let_go() -> None:
    opening = Opening()
    opening.may_go_on.clear()
    asked: list[aiohttp.ClientSession] = []

    async def ask() -> None:
        async with opening.connections.for_one_request() as session:
            asked.append(session)

    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(ask())
        await asyncio.sleep(0)
        opening.may_go_on.set()
    assert asked[0] is asked[1]
    assert [session.closed for session in opening.opened] == [False, True]
    await opening.connections.close()
    assert all(session.closed for session in opening.opened)
