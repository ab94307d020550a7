"""Whoever may let devices in invents laptops of a teacher's, and cuts them off (docs/attacks.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.limits import MAX_READING_KEYS_AT_ONCE, READING_KEY_PAUSE_MS
from tests.harness.attack import attack
from tests.harness.lost_laptop import invent_and_cut_off, keys_said
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.spied_class import spied_class


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with spied_class(tmp_path, kept_for=__name__) as made:
        yield made


@attack(
    "one laptop makes reading keys without end",
    off={"sync_agent.keys.reading_key.READING_KEY_LONG_PAUSE_MS": READING_KEY_PAUSE_MS},
)
async def test_laptops_that_a_server_invents_and_cuts_off_cost_her_few_keys_a_week(here: Here) -> None:
    for number in range(3 * MAX_READING_KEYS_AT_ONCE):
        await invent_and_cut_off(here, number)
        await here.sync(here.teacher)
        here.room.territory.clock.advance(READING_KEY_PAUSE_MS)
    assert len(await keys_said(here, here.teacher.agent.device)) <= MAX_READING_KEYS_AT_ONCE
