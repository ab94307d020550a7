"""Connections to one server: how long they last, and what becomes of what is on them."""

from __future__ import annotations

import asyncio

import aiohttp

from sync_agent.transport.connections import LASTS_S, Connections


class Opening:
    """Opens sessions as soon as it may go on."""

    def __init__(self) -> None:
        self.opened: list[aiohttp.ClientSession] = []
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.now_s = 0.0
        self.connections = Connections(self.open, lambda: self.now_s)

    async def open(self) -> aiohttp.ClientSession:
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
