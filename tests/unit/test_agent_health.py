from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from protocol.model.register import Health, parse_register
from sync_agent.health import LastSync, last_health, note_taken, own_report, worth_saying
from sync_agent.machine.marks import HEALTH_MARK
from tests.harness.classroom import classroom

LAST = Health("Renard", "0.1.0", "Linux", None, 0, 0, 80_000_000_000)
MINUTE_MS = 60_000


def test_the_same_again_is_not_worth_saying() -> None:
    assert worth_saying(LAST, None) == LAST
    assert worth_saying(LAST, LAST) is None


@pytest.mark.parametrize(
    ("before_ms", "now_ms"), [(None, MINUTE_MS), (5 * MINUTE_MS, 7 * MINUTE_MS), (MINUTE_MS, None)]
)
def test_a_clock_that_moves_a_little_is_not_worth_saying(before_ms: int | None, now_ms: int | None) -> None:
    assert worth_saying(replace(LAST, skew_ms=now_ms), replace(LAST, skew_ms=before_ms)) is None


@pytest.mark.parametrize(
    ("before_ms", "now_ms"), [(None, 3 * MINUTE_MS), (9 * MINUTE_MS, None), (2 * MINUTE_MS, -2 * MINUTE_MS)]
)
def test_a_clock_that_was_set_is_worth_saying_and_what_else_is_new_goes_with_it(
    before_ms: int | None, now_ms: int | None
) -> None:
    said = worth_saying(replace(LAST, skew_ms=now_ms), replace(LAST, skew_ms=before_ms))
    assert said is not None
    assert said.skew_ms == now_ms


def test_work_that_waits_is_worth_saying() -> None:
    assert worth_saying(replace(LAST, backlog_entries=2, oldest_ms=1), LAST) is not None


async def test_what_an_earlier_version_noted_of_the_clock_beyond_all_bounds_keeps_no_report_back(
    tmp_path: Path,
) -> None:
    async with classroom(tmp_path) as room:
        agent = (await room.machine()).agent
        await agent.replica.store.set_marks(LastSync(None, reachable=False, skew_ms=-(2**63)).marks())
        assert parse_register((await own_report(agent)).data).device == agent.device


async def test_what_went_to_a_neighbour_while_the_server_was_being_told_is_not_taken_for_what_the_server_shows(
    tmp_path: Path,
) -> None:
    async with classroom(tmp_path) as room:
        agent = (await room.machine()).agent
        store = agent.replica.store
        await store.set_marks({HEALTH_MARK: LAST.encode()})
        before = await store.mark(HEALTH_MARK)
        await own_report(agent)
        await note_taken(store, LAST, before)
        assert await last_health(store) is None
        await note_taken(store, LAST, await store.mark(HEALTH_MARK))
        assert await last_health(store) == LAST
