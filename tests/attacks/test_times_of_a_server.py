"""A server in wrong hands that says once what time it is, and is silent from then on (docs/attacks.md)."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.errors import Code, PeerFault, RelaisError
from protocol.messages.calls import SyncAnswer
from protocol.replica.answering.serving import Responder
from sync_agent.coursework.past_years import past_spaces
from sync_agent.health import own_report
from tests.harness.attack import attack
from tests.harness.classroom import Classroom, Device, classroom

ROW = "a server says what time it is once, and is silent"


async def _nothing_to_compare(*_: object) -> bytes:
    raise PeerFault(Code.MALFORMED, "the thief answers nothing more")


async def _told(room: Classroom, machine: Device, ahead_ms: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine has heard such an answer, which proves no space."""
    spaces = tuple(await machine.agent.spaces())
    real = SyncAnswer

    def late(**said: object) -> SyncAnswer:
        return real(**{**said, "time_ms": room.territory.clock() + ahead_ms, "stale": spaces, "unlike": False})  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr("protocol.replica.answering.serving.SyncAnswer", late)
        patch.setattr(Responder, "_reconcile", _nothing_to_compare)
        try:
            await machine.session.sync()
        except ValueError as broken:
            raise AssertionError("what was heard breaks the program itself") from broken
        except RelaisError:
            return


def _the_later(own_ms: int, proven_ms: int) -> int:
    return max(own_ms, proven_ms)


@attack(ROW, off={"sync_agent.coursework.past_years.day_ms": _the_later})
async def test_a_server_that_says_a_late_year_once_hides_no_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with classroom(tmp_path) as room:
        machine = await room.machine()
        await machine.session.sync()
        await _told(room, machine, 3 * 365 * DAY_MS, monkeypatch)
        assert machine.agent.replica.proven_ms is not None
        assert machine.agent.replica.proven_ms > room.territory.clock() + 365 * DAY_MS
        assert not await past_spaces(machine.agent)


@attack(ROW, off={"protocol.messages.calls.MAX_TIME_MS": 2**64 - 1})
async def test_a_server_that_says_a_time_that_no_clock_says_is_not_heeded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with classroom(tmp_path) as room:
        machine = await room.machine()
        await machine.session.sync()
        before = machine.agent.replica.proven_ms
        await _told(room, machine, 2**63, monkeypatch)
        assert machine.agent.replica.proven_ms == before
        assert await own_report(machine.agent)
