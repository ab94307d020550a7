"""The content stores that every contract about them is asked of: in memory, and in a folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.replica.content.kept.memory_packs import MemoryPacks
from protocol.replica.interfaces import ContentStore
from tests.harness.content_stores import opened


@pytest.fixture(params=["memory", "folder"])
async def content(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ContentStore]:
    """One that holds nothing yet."""
    if request.param == "memory":
        yield MemoryPacks()
    else:
        async with opened(tmp_path) as packs:
            yield packs
