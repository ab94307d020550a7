"""News wakes whoever listens: over a WebSocket, or by long polling where a proxy blocks it."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from protocol.replica.answering.listeners import Listeners
from protocol.replica.http.connections import listening as serving
from protocol.replica.http.live import Live
from tests.harness.classroom import classroom
from tests.harness.http_room import listening
from tests.harness.machines import Machine, School, school
from tests.harness.patience import eventually, until


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


async def test_a_question_that_waits_makes_room_for_somebody_elses_and_is_remembered_no_more(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        responder, now_ms = room.territory.responder(), room.territory.clock()
        live, app = Live(responder, max_listeners=2), web.Application()
        app.router.add_get("/", live.listen)
        app.on_shutdown.append(live.on_shutdown)
        async with serving(app, "127.0.0.1", 0, grace_s=1) as url, aiohttp.ClientSession() as session:

            async def ask(device: bytes, second: int) -> int:
                async with session.get(url, headers=listening(responder, device, now_ms, second)) as answer:
                    return answer.status

            assert [await ask(b"t" * 32, 0), await ask(b"t" * 32, 1)] == [200, 200]
            waiting = [asyncio.create_task(ask(b"t" * 32, second)) for second in (0, 1)]
            await until(lambda: live._standing_lines == len(waiting))
            line = await session.ws_connect(url, headers=listening(responder, b"h" * 32, now_ms))
            done, (left,) = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            assert {each.result() for each in done} == {204}
            assert live._taken() == 2
            left.cancel()
            await line.close()
