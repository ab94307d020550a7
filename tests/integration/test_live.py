"""News wakes whoever listens: over a WebSocket, or by long polling where a proxy blocks it."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from protocol.replica.answering.listeners import Listeners
from tests.harness.machines import Machine, School, school
from tests.harness.patience import eventually


@pytest.fixture
def here(tmp_path: Path) -> Iterator[School]:
    with school(tmp_path) as found:
        yield found


def shows(agent: Machine, revision: str) -> bool:
    return bool(agent.ok("items")[0]["revision"] == revision)


def syncs(here: School) -> int:
    """How many sync calls the server has answered."""
    with urllib.request.urlopen(f"{here.url}/metrics") as page:  # noqa: S310  (our own address)
        text = page.read().decode()
    line = next(row for row in text.splitlines() if row.startswith('relais_sync_sessions_total{result="ok"}'))
    return int(float(line.rsplit(" ", 1)[1]))


def test_a_lesson_wakes_the_machines_that_listen_and_they_poll_no_more(here: School, tmp_path: Path) -> None:
    teacher, renard = here.enrol("laptop", "teacher"), here.enrol("renard")
    renard.start()
    page = tmp_path / "page.html"
    page.write_text("v1")
    item = teacher.ok("publish", str(page), "--space", here.space, "--title", "Eau")["item"]
    teacher.ok("sync")
    eventually("the lesson", lambda: [found for found in renard.ok("items") if found["complete"]])
    before = syncs(here)
    for number in range(3):
        page.write_text(f"v{number + 2}")
        revision = teacher.ok("publish", str(page), "--space", here.space, "--item", item, "--title", "Eau")["revision"]
        teacher.ok("sync")
        eventually("the edit", partial(shows, renard, revision))
    assert syncs(here) - before <= 3 * 4, "a few syncs a lesson, the sender's own among them, and no polls between"


async def test_a_listener_is_told_once_of_news_by_others_and_never_of_its_own() -> None:
    listeners = Listeners()
    mine = listeners.add(b"me")
    listeners.tell(frozenset([b"a"]), b"me")
    listeners.tell(frozenset([b"b"]), b"you")
    listeners.tell(frozenset([b"c"]), b"you")
    assert await mine.news() == {b"b", b"c"}
    listeners.tell(frozenset([b"d"]), b"you")
    assert await mine.news() == {b"d"}
    del mine
    assert len(listeners) == 0
