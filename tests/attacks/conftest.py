"""What several attacks begin with: a class at one server. A module that begins with another one says so itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.replica.storage import database
from tests.harness.classroom import Classroom, classroom
from tests.harness.in_this_thread import ConnectionInThisThread


@pytest.fixture(autouse=True)
def answers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that is about who waits for whom has a fixture of this name that does nothing."""
    monkeypatch.setattr(database, "_Connection", ConnectionInThisThread)


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Classroom]:
    async with classroom(tmp_path) as made:
        yield made
