"""The administrators' pages over many devices: what a page costs the server, the survey under it taken anew each time.

The devices stand in schools of 50, two classes each; they have been let in by entries, and their calls and health
reports are as a server holds them. Each page is asked for over loopback, on a connection that stays open; its time is
what passes from the request to the last byte of the answer, 50 rows of HTML, compressed; its CPU time is that of the
server and of who asks. Figures of their own: a page
while the survey is kept, as it is in use; the survey alone; all rows as CSV; and after a start the store, the first
page, and until every class has been looked at.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import shutil
import statistics
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from bench.results import Result, Setting
from protocol.canonical import encode
from protocol.identity import school_id
from protocol.model.entry import Kind
from protocol.model.register import Health, RegisterKind
from protocol.model.structure import Grant, SpaceRecord
from protocol.replica.answering.station import Contact
from protocol.replica.at_work.replica import Draft
from protocol.replica.http.connections import listening
from protocol.replica.interfaces import RegisterRow
from protocol.roles import Role
from sync_server.config import RunConfig
from sync_server.handlers.accounts.administrators import add_administrator, verifier_of
from sync_server.handlers.by_kit.territory import begin_territory, new_kit
from sync_server.handlers.overview.survey import Survey
from sync_server.opened.app import Server, opened
from sync_server.web.pages import Pages

GOAL_MS: Final = 100.0
PAGES: Final = (
    "/admin/",
    "/admin/devices",
    "/admin/devices?sort=lag&dir=desc&page=3",
    "/admin/devices?sort=school&state=late",
    "/admin/devices?q=poste+12",
    "/admin/devices?needing=1",
    "/admin/schools",
)
_TABLE: Final = "health page"
_ROUNDS: Final = 7
_SCHOOL_DEVICES: Final = 50
_BATCH: Final = 5_000
_HOUR_MS: Final = 3_600_000
_NAME: Final = "bench"
_PASSPHRASE: Final = "a passphrase for a bench"  # noqa: S105  (of a folder that is thrown away)
_TROUBLED: Final = 0.02
_TROUBLES: Final = ("disk-full", "damaged", "bad-seal", "unknown-format")


def measure(setting: Setting) -> Iterator[Result]:
    """Two lines: 5,000 devices, for which there is a goal, and 100,000."""
    goals_of_5000 = {"page_p95_ms": GOAL_MS, "page_cpu_ms": GOAL_MS}
    for count, goals in ((5_000, goals_of_5000), (100_000, {})):
        figures = asyncio.run(_measure(setting.work / f"health-{count}", count))
        yield Result(_TABLE, f"Relais, {count:,} devices in {count // _SCHOOL_DEVICES:,} schools", figures, goals)


async def _measure(folder: Path, count: int) -> dict[str, float | str]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)  # noqa: ASYNC240  (nothing else runs yet)
    entropy = Random(1).randbytes
    await begin_territory(
        folder, new_kit("Bench", entropy), kit_file=None, passphrase=None, now_ms=_now_ms, entropy=entropy
    )
    async with opened(folder, now_ms=_now_ms, entropy=entropy) as server:
        await _populate(server, count)
        await add_administrator(server, _NAME, verifier_of(_PASSPHRASE, entropy(16)))
    begun = time.perf_counter()
    async with opened(folder, now_ms=_now_ms, entropy=os.urandom) as server:
        opened_s = time.perf_counter() - begun
        anew = await _look(server, Survey(server, time.monotonic, kept_for=0))
        kept = await _look(server, Survey(server, time.monotonic))
        return {"open_s": opened_s, **anew, "kept_page_ms": kept["page_ms"]}


async def _look(server: Server, survey: Survey) -> dict[str, float | str]:
    config = RunConfig(server.folder, "127.0.0.1", 0, behind_proxy=False)
    pages = Pages(survey, config, entropy=os.urandom, clock_s=time.monotonic, on_failure=print)
    app = web.Application()
    pages.add_to(app)
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(listening(app, "127.0.0.1", 0, grace_s=1.0))
        stack.push_async_callback(pages.close)
        client = Client(url)
        await asyncio.to_thread(client.sign_in)
        first_s = (await asyncio.to_thread(client.get, "/admin/")).seconds
        begun = time.perf_counter()
        await survey.snapshot(whole=True)
        looked_s = time.perf_counter() - begun
        surveys = []
        for _ in range(_ROUNDS):
            begun = time.perf_counter()
            await survey.snapshot()
            surveys.append((time.perf_counter() - begun) * 1000)
        taken = [await asyncio.to_thread(client.get, page) for _ in range(_ROUNDS) for page in PAGES]
        every_row = await asyncio.to_thread(client.get, "/admin/devices.csv")
        times = sorted(answer.seconds * 1000 for answer in taken)
        return {
            "page_ms": statistics.median(times),
            "page_p95_ms": times[int(len(times) * 0.95)],
            "page_cpu_ms": statistics.mean(answer.cpu_s for answer in taken) * 1000,
            "page_bytes": max(answer.size for answer in taken),
            "survey_ms": statistics.median(surveys),
            "first_page_s": first_s,
            "every_class_s": looked_s,
            "csv_s": every_row.seconds,
            "csv_bytes": every_row.size,
        }


async def _populate(server: Server, count: int) -> None:
    """Schools, classes, grants, calls and reports."""
    random = Random(2)
    now_ms = _now_ms()
    territory = server.replica.territory
    codes = [f"{number:07}X" for number in range(count // _SCHOOL_DEVICES)]
    for start in range(0, len(codes), _BATCH):
        await server.write(
            [
                Draft(territory, Kind.SPACE, server.grant, SpaceRecord(f"École {code}", uai=code).encode())
                for code in codes[start : start + _BATCH]
            ]
        )
    classes: list[bytes] = []
    for start in range(0, len(codes), _BATCH // 2):
        drafts = [
            Draft(school_id(territory, code), Kind.SPACE, server.grant, SpaceRecord(name, year="2026-2027").encode())
            for code in codes[start : start + _BATCH // 2]
            for name in ("CE2", "CM1-CM2")
        ]
        classes += [entry.id for entry in await server.write(drafts)]
    for start in range(0, count, _BATCH):
        keys = [random.randbytes(32) for _ in range(min(_BATCH, count - start))]
        drafts = []
        for number, key in enumerate(keys, start):
            grant = Grant(key, random.randbytes(32), random.randbytes(32), Role.MACHINE, None, None)
            drafts.append(Draft(classes[number % len(classes)], Kind.GRANT, server.grant, grant.encode()))
        await server.write(drafts)
        rows = []
        for number, key in enumerate(keys, start):
            server.contacts.note_enrolment(key, f"Poste {number}", now_ms - 30 * 24 * _HOUR_MS)
            silent_ms = random.choice([5_000] * 8 + [2 * _HOUR_MS, 9 * 24 * _HOUR_MS])
            behind_ms = random.choice([0] * 9 + [3 * _HOUR_MS])
            seen_ms = now_ms - silent_ms
            server.contacts.note(Contact(key, seen_ms - behind_ms, current=True), 0)
            server.contacts.note(Contact(key, seen_ms, current=not behind_ms), 0)
            rows.append(_report(key, number, seen_ms, random))
        await server.store.put_registers(rows)
        await server.contacts.flush()


def _report(key: bytes, number: int, at_ms: int, random: Random) -> RegisterRow:
    """As it lies in the store, where signatures are not looked at again."""
    trouble = random.choice(_TROUBLES) if random.random() < _TROUBLED else None
    version = random.choice(["0.1.0", "0.1.0", "0.1.1"])
    body = Health(f"Poste {number}", version, "Windows 10", trouble, 0, 0, random.randrange(10**12)).encode()
    data = encode([encode([0, int(RegisterKind.HEALTH), key, key, at_ms, body]), bytes(64)])
    return RegisterRow(RegisterKind.HEALTH, key, key, at_ms, data)


@dataclass(frozen=True, slots=True)
class Answer:
    """How long an answer took, what it cost this process, and its bytes as they came."""

    seconds: float
    cpu_s: float
    size: int


class Client:
    """A browser's connection."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._origin = url
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
        self._cookie = ""

    def sign_in(self) -> None:
        """Keep the cookies of a session."""
        form = f"name={_NAME}&passphrase={_PASSPHRASE.replace(' ', '+')}"
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": self._origin}
        self._connection.request("POST", "/admin/sign-in", form, headers)
        response = self._connection.getresponse()
        response.read()
        given = response.headers.get_all("Set-Cookie") or ()
        self._cookie = "; ".join(cookie.partition(";")[0] for cookie in given)

    def get(self, path: str) -> Answer:
        """Fetch a page, all of it."""
        begun, spent_s = time.perf_counter(), time.process_time()
        self._connection.request("GET", path, headers={"Cookie": self._cookie, "Accept-Encoding": "gzip"})
        response = self._connection.getresponse()
        body = response.read()
        seconds = time.perf_counter() - begun
        if response.status != http.client.OK:
            raise AssertionError(f"{path}: {response.status}")
        return Answer(seconds, time.process_time() - spent_s, len(body))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
