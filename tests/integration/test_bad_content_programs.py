"""Both programs, and between them what spoils content: boxes that rewrite, cut, repeat and hold, and a disk that fills.

A story of one machine: whatever comes, it says what was wrong with a code, shows the lesson as it was, and the next
sync brings the new one (docs/protocol.md, "Packs", "HTTP").
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import ClientSession, web

from tests.harness.edited_lesson import noise
from tests.harness.machines import Done, Machine, School, environment, school

FILM_BYTES = 3_000_000
ROOM_BYTES = 2_000_000
FULL = (
    "import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (%d, %d)); "
    "runpy.run_module('sync_agent.cli', run_name='__main__')"
)

Meddle = Callable[[bytes], bytes]


@dataclass
class Box:
    """A box on the way: passes everything on, each answer whole; bodies of content pass through `meddle`."""

    target: str
    url: str = ""
    meddle: Meddle | None = None
    status: int | None = None
    passed: int = field(default=0)

    async def serve(self, request: web.Request) -> web.Response:
        headers = {name: value for name, value in request.headers.items() if name.lower() != "host"}
        async with (
            ClientSession(auto_decompress=False) as session,
            session.request(
                request.method, self.target + request.path_qs, data=await request.read(), headers=headers
            ) as answer,
        ):
            body, status = await answer.read(), answer.status
        kept = {
            name: value
            for name, value in answer.headers.items()
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server")
        }
        if request.method == "GET" and request.path.startswith("/v1/packs/"):
            if self.meddle is not None:
                body = self.meddle(body)
            status = self.status or status
            self.passed += len(body)
        return web.Response(status=status, body=body, headers=kept)


@contextmanager
def box_before(target: str) -> Iterator[Box]:
    """A box before a server, in a thread with a loop of its own."""
    box, loop, ready, over = Box(target), asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    async def serve() -> None:
        application = web.Application(client_max_size=1 << 30)
        application.router.add_route("*", "/{path:.*}", box.serve)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        box.url = f"http://127.0.0.1:{site.port}"
        ready.set()
        await over.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(60)
        yield box
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


@dataclass
class Here:
    """A teacher beside the server, a machine behind the box, and the lesson that both have."""

    school: School
    box: Box
    teacher: Machine
    machine: Machine
    item: str
    lessons: int = 1

    def edit(self) -> bytes:
        """A new version of the lesson lies at the server; its page."""
        self.lessons += 1
        page = b"version %d" % self.lessons
        folder = write_lesson(self.school.folder / f"lesson-{self.lessons}", page, noise(FILM_BYTES, self.lessons))
        self.teacher.ok("publish", str(folder), "--space", self.school.space, "--item", self.item)
        self.teacher.ok("sync")
        return page

    def shown(self) -> bytes:
        """What a pupil reads on the machine."""
        page: bytes = self.machine.ok("cat", self.item, "page.html", raw=True)
        copy = self.machine.folder / "coursework" / "CM1" / "Film" / "page.html"
        assert copy.read_bytes() == page
        return page

    def shows_the_new_one_after_another_sync(self, page: bytes) -> None:
        self.box.meddle = self.box.status = None
        self.machine.ok("sync")
        assert self.shown() == page


def write_lesson(folder: Path, page: bytes, film: bytes) -> Path:
    folder.mkdir()
    (folder / "page.html").write_bytes(page)
    (folder / "film.mp4").write_bytes(film)
    return folder


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    folder = tmp_path_factory.mktemp("bad-content")
    with ExitStack() as stack:
        made = stack.enter_context(school(folder))
        box = stack.enter_context(box_before(made.url))
        teacher = made.enrol("laptop", "teacher")
        machine = Machine("renard", folder / "renard", "sync-agent")
        machine.ok("enroll", "--server", box.url, "--code", made.invite("machine"), "--name", "renard")
        lesson = write_lesson(folder / "lesson-1", b"version 1", noise(FILM_BYTES, 1))
        item = teacher.ok("publish", str(lesson), "--space", made.space, "--title", "Film")["item"]
        for one in (teacher, machine):
            one.ok("sync")
        yield Here(made, box, teacher, machine, item)


@pytest.mark.parametrize(
    ("meddle", "codes"),
    [
        (lambda body: body[:-1] + bytes([body[-1] ^ 1]), {"bad-hash", "malformed", "unknown-format"}),
        (lambda body: body[: len(body) // 2], {"unreachable", "bad-hash"}),
        (lambda body: body[:70_000] + body, {"bad-hash", "malformed", "unknown-format"}),
        (lambda _: b"<html>This file was removed by the virus scanner</html>", {"unreachable", "bad-hash"}),
    ],
    ids=["one bit at the end", "the first half", "the beginning twice", "a page"],
)
def test_what_a_box_makes_of_content_is_refused_and_changes_nothing(
    here: Here, meddle: Meddle, codes: set[str]
) -> None:
    before = here.shown()
    page = here.edit()
    here.box.meddle = meddle
    done = here.machine.run("sync")
    assert done.status in (1, 3)
    assert done.code in codes
    assert here.shown() == before
    here.shows_the_new_one_after_another_sync(page)


def test_a_box_that_calls_a_part_the_whole_is_not_believed(here: Here) -> None:
    before = here.shown()
    page = here.edit()
    here.box.meddle, here.box.status = (lambda body: body[:1_000_000]), 200
    assert here.machine.run("sync").status in (1, 3)
    assert here.shown() == before
    here.shows_the_new_one_after_another_sync(page)


def test_a_disk_that_fills_in_the_middle_keeps_what_came_and_shows_the_lesson_as_it_was(here: Here) -> None:
    before = here.shown()
    page = here.edit()
    done = with_room_for(here.machine, ROOM_BYTES, "sync")
    assert (done.status, done.code) == (1, "disk-full")
    assert here.shown() == before
    here.box.passed = 0
    here.shows_the_new_one_after_another_sync(page)
    assert 0 < here.box.passed < FILM_BYTES - ROOM_BYTES // 2
    assert here.machine.ok("verify") == {"ok": True, "problems": []}


def with_room_for(machine: Machine, file_bytes: int, *words: str) -> Done:
    """A command on a disk that takes no file beyond this size."""
    argv = [sys.executable, "-c", FULL % (file_bytes, file_bytes), *machine.command(*words)[3:], "--json"]
    done = subprocess.run(argv, capture_output=True, check=False, env=environment(), timeout=300)
    return Done(done.returncode, json.loads(done.stdout), done.stdout, done.stderr.decode(errors="replace"))
