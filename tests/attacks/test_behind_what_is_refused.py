"""A neighbour has hundreds of thousands of a thief's words, which others refuse, and among them somebody's word.

Numbers are small: 100 stand for the 250,000 ids that a dialogue may lack, 5 for what others carry of a device.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from protocol.clock import at_from
from protocol.limits import MIN_RECONCILE_FRAME_BYTES
from protocol.reconcile import negentropy
from protocol.reconcile.negentropy import BEGINNING, INFINITY, Bound, Splitting
from protocol.roles import Role
from sync_agent.lan.exchange.meeting import meet
from sync_agent.lan.exchange.peer_session import PeerSession
from sync_agent.lan.exchange.peer_transport import PeerTransport
from tests.harness.attack import attack
from tests.harness.classroom import SMALL, Device, classroom, receipts_said
from tests.harness.lan import exchange, listening_device

ROW = "a stolen laptop says words without end"
MOST_LACKED = 100
EARLY, LATE = 1_000_000, 4_000_000_000_000
FRAME = Splitting(branching=4, id_list_below=8, frame_limit_bytes=MIN_RECONCILE_FRAME_BYTES)


@pytest.fixture(autouse=True)
def small_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(negentropy, "MAX_RECONCILE_IDS", MOST_LACKED)
    monkeypatch.setattr("protocol.replica.at_work.quotas.MAX_ENTRIES_PER_KEY", 5)
    monkeypatch.setattr(negentropy.respond, "__defaults__", (FRAME,))


@dataclass(frozen=True, slots=True)
class Neighbours:
    """A PC that has met no server since, and one that has all: the thief's words, and what was published."""

    machine: Device
    other: Device
    published: bytes

    async def is_heard(self) -> bool:
        """Whether the PC has what was published."""
        return bool(await self.machine.agent.replica.store.present([self.published]))


@asynccontextmanager
async def _neighbours(folder: Path, words: int) -> AsyncIterator[Neighbours]:
    async with classroom(folder) as room:
        teacher, machine, other = await room.teacher(), await room.machine(), await room.machine()
        thief = await room.device(Role.MACHINE, room.space)
        for device in (teacher, thief, machine, other):
            await device.session.sync()
        times_ms = [*range(EARLY, EARLY + words), *range(LATE, LATE + MOST_LACKED)]
        said = await receipts_said(thief, room.space, map(at_from, times_ms))
        published = (await room.publish(teacher, SMALL)).revision
        for device in (teacher, other):
            await device.session.sync()
        server = room.territory.keys.signing.public
        came = await other.agent.replica.admit(said, source=server, now_ms=room.territory.clock())
        assert len(came.admitted) == len(said), "a server in wrong hands brings them, and no quota is asked"
        yield Neighbours(machine, other, published)


def _from_the_beginning(left: Any, _dialogue: object, reached: Bound) -> object:
    return replace(left, start=reached if reached == INFINITY else BEGINNING)


@attack(ROW, off={"sync_agent.sync.reconciling._Left.after": _from_the_beginning})
async def test_what_lies_behind_words_that_a_quota_refuses_is_heard_from_a_neighbour(tmp_path: Path) -> None:
    async with _neighbours(tmp_path, 3 * MOST_LACKED) as here:
        await exchange(here.machine.agent, here.other.agent)
        assert await here.is_heard()


@attack(ROW, off={"sync_agent.sync.reconciling._Left.after": _from_the_beginning})
async def test_the_next_exchange_goes_on_behind_what_the_last_one_was_refused(tmp_path: Path) -> None:
    async with _neighbours(tmp_path, 11 * MOST_LACKED) as here, listening_device(here.other.agent) as address:
        transport = PeerTransport(address)
        session = PeerSession(here.machine.agent, transport, await meet(here.machine.agent, transport))
        await session.exchange()
        assert not await here.is_heard(), "eight dialogues come so far, and no further"
        for _ in range(2):
            await session.exchange()
        await transport.close()
        assert await here.is_heard()
