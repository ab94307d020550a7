"""What a machine's zlib reproduces is tested once for each library, not at each start."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from protocol.errors import Code, LocalFailure
from protocol.replica.content.deltas import levels
from protocol.replica.content.deltas.levels import known_levels
from protocol.replica.storage.memory import MemoryStore
from protocol.transfer.deflate_parameters import ALL_LEVELS, NO_LEVELS


class FullDisk(MemoryStore):
    async def set_marks(self, marks: Mapping[str, bytes | None], *, by_kit: bool = False) -> None:
        del marks, by_kit
        raise LocalFailure(Code.DISK_FULL, "the disk is full")


async def test_a_start_takes_what_an_earlier_one_has_found_of_the_same_library(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    assert await known_levels(store) == ALL_LEVELS
    monkeypatch.setattr(levels, "profile", lambda: NO_LEVELS)
    assert await known_levels(store) == ALL_LEVELS
    monkeypatch.setattr(levels, "_library", lambda: b"another one")
    assert await known_levels(store) == NO_LEVELS


async def test_a_full_disk_costs_the_next_start_a_test_and_this_one_nothing() -> None:
    assert await known_levels(FullDisk()) == ALL_LEVELS
