"""What several attacks begin with: a class at one server, or next year's. A module that begins with another says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.replica.storage import database
from tests.harness.classroom import Classroom, classroom
from tests.harness.in_this_thread import ConnectionInThisThread
from tests.harness.next_year import NextYear, next_year


@pytest.fixture(autouse=True)
def answers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that is about who waits for whom has a fixture of this name that does nothing."""
    monkeypatch.setattr(database, "_Connection", ConnectionInThisThread)


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Classroom]:
    async with classroom(tmp_path) as made:
        yield made


@pytest.fixture
async def year(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[NextYear]:
    async with next_year(tmp_path, kept_for=request.module.__name__) as made:
        yield made
