"""Whose turn it is to bring news: one neighbour after the other, and nobody for long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from sync_agent.lan.exchange.turns import Turns
from tests.harness.patience import PATIENCE_S


async def test_what_several_tell_of_is_brought_by_one_after_the_other() -> None:
    turns, at_work, most = Turns(), 0, 0

    async def bring() -> None:
        nonlocal at_work, most
        async with turns.mine():
            at_work += 1
            most = max(most, at_work)
            for _ in range(5):
                await asyncio.sleep(0)
            at_work -= 1

    await asyncio.gather(*[bring() for _ in range(5)])
    assert most == 1


async def test_a_turn_that_takes_long_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync_agent.lan.exchange.turns.TURN_S", 0.01)
    turns = Turns()
    async with asyncio.timeout(PATIENCE_S), turns.mine(), turns.mine(), turns.mine():
        pass


@pytest.mark.parametrize("ending", [Turns.moved, lambda turns: turns.came(b"one")], ids=["moved", "came"])
async def test_who_asks_a_neighbour_to_come_waits_until_it_has_or_something_has_moved(
    ending: Callable[[Turns], None],
) -> None:
    turns = Turns()
    turns.ask(b"one")
    waiting = asyncio.create_task(turns.free())
    await asyncio.sleep(0)
    turns.came(b"another")
    await asyncio.sleep(0)
    assert not waiting.done()
    ending(turns)
    async with asyncio.timeout(PATIENCE_S):
        await waiting


async def test_news_by_others_end_nobodys_turn_to_bring() -> None:
    turns = Turns()
    async with turns.mine():
        turns.moved()
        waiting = asyncio.create_task(turns.free())
        await asyncio.sleep(0)
        assert not waiting.done()
    async with asyncio.timeout(PATIENCE_S):
        await waiting
