"""A week of a class on three machines over a bad line: nothing is lost, and after enrolment nobody types a command.

The agents run as `sync-agent run --portal` does, in the test's own loop; people drop files, look into folders, and use
the portal. Each day the line is another one, and most of a day's work is done while it is bad.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import ClientSession, DummyCookieJar, TCPConnector
from yarl import URL

from protocol.roles import PersonRole
from sync_agent.app import Agent
from sync_agent.config import RunConfig
from sync_agent.daemon import run
from sync_agent.operations import table
from sync_agent.sync.session import Session
from sync_agent.transport.over_http import HttpTransport
from tests.harness.classroom import Classroom, Device
from tests.harness.http_room import http_room
from tests.harness.patience import until
from tests.harness.portal import Surfer
from tests.harness.weather import CAPTIVE, CLEAR, DOWN, Relay, Weather, impairing_relay

HOUR_MS = 3_600_000
TASK = b"<h1>Raconte</h1>"
WEEK = {
    "lundi": CLEAR,
    "mardi": Weather(latency_s=0.15, bytes_per_s=60_000),
    "mercredi": CAPTIVE,
    "jeudi": DOWN,
    "vendredi": Weather(cut_down=30_000, cut_up=20_000),
}


@dataclass
class Desk:
    """A machine that runs, and somebody at its portal."""

    device: Device
    surfer: Surfer

    @property
    def folder(self) -> Path:
        return self.device.agent.folder


@asynccontextmanager
async def running(room: Classroom, relay: Relay, device: Device, seed: int) -> AsyncIterator[Desk]:
    """The agent of a device with its portal, as `run` has it, over the relay."""
    folder, stop = device.agent.folder, asyncio.Event()
    await device.agent.close()
    said: asyncio.Queue[str] = asyncio.Queue()
    config = RunConfig(portal="127.0.0.1:0", poll_s=(0.3, 0.6))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sync_agent.daemon.say", said.put_nowait)
        task = asyncio.create_task(
            run(
                folder,
                config,
                table,
                now_ms=room.territory.clock,
                entropy=random.Random(seed).randbytes,
                connect=lambda _: HttpTransport(relay.url),
                stopping=stop,
            )
        )
        line = await said.get()
        while "portal is open" not in line:
            line = await said.get()
        await said.get()
    async with ClientSession(connector=TCPConnector(force_close=True), cookie_jar=DummyCookieJar()) as session:
        try:
            yield Desk(device, Surfer(session, URL(line.rpartition(" ")[2])))
        finally:
            stop.set()
            await task


async def comes(path: Path, data: bytes) -> None:
    """Return when a file is there with these bytes."""
    await until(lambda: path.is_file() and path.read_bytes() == data)


async def test_a_week_on_a_bad_line_loses_nothing_and_takes_no_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # nobody waits for the jitter that keeps thousands of agents apart
    monkeypatch.setattr("random.uniform", lambda low, high: min(high, low + 0.2))
    async with http_room(tmp_path) as http, AsyncExitStack() as stack:
        room = http.room
        tom = await room.territory.person("Tom", PersonRole.PUPIL, room.space)
        relay = stack.enter_context(impairing_relay(http.url, tmp_path / "relay"))
        made = [await room.teacher(), await room.machine(), await room.machine()]
        desks = [await stack.enter_async_context(running(room, relay, one, seed)) for seed, one in enumerate(made)]
        teacher, pcs = desks[0], dict(zip((room.pupil_person.hex(), tom.hex()), desks[1:], strict=True))

        asked = {"space": room.space.hex(), "kind": "assignment", "title": "Raconte", "subject": "", "due": ""}
        sent = await teacher.surfer.send("/publish", "/publish", asked, [("consigne.html", TASK)])
        task = sent.headers["Location"].removeprefix("/item/").partition("?")[0]
        published = teacher.folder / "publish" / "CM1"
        (published / "Calcul").mkdir()
        for pc in pcs.values():
            await comes(pc.folder / "coursework" / "CM1" / "Raconte" / "consigne.html", TASK)

        handed_in: dict[str, tuple[Desk, str]] = {}
        for number, (day, weather) in enumerate(WEEK.items()):
            relay.weather = weather
            room.territory.clock.advance(20 * HOUR_MS)
            (published / f"{day}.txt").write_bytes(lesson(day))
            (published / "Calcul" / "fiche.txt").write_text(f"exercices de {day}")
            person, pc = list(pcs.items())[number % 2]
            work = [("récit.txt", story(day))]
            answer = await pc.surfer.send(f"/item/{task}", f"/item/{task}/hand-in", {"person": person}, work)
            handed_in[day] = (pc, answer.headers["Location"].partition("?")[0])
            assert "Ton travail est gardé" in await pc.surfer.page(answer.headers["Location"])
            relay.weather = CLEAR
            room.territory.clock.advance(4 * HOUR_MS)
            for one in pcs.values():
                shown = one.folder / "coursework" / "CM1"
                await comes(shown / day / f"{day}.txt", lesson(day))
                await comes(shown / "Calcul" / "fiche.txt", f"exercices de {day}".encode())

        (published / "lundi.txt").unlink()
        for day, (pc, place) in handed_in.items():
            await teacher.surfer.until(place, "récit.txt")
            opened = await teacher.surfer.send(place, f"{place}/open", {"path": "récit.txt"})
            assert opened.body == story(day)
            await teacher.surfer.send(place, f"{place}/feedback", {"text": f"Bravo pour {day}"}, [])
            await pc.surfer.until(place, f"Bravo pour {day}")
        assert (pcs[tom.hex()].folder / "coursework" / "CM1" / "lundi" / "lundi.txt").read_bytes() == lesson("lundi")
        await stack.aclose()

        for device in made:
            device.agent = await Agent.open(
                device.agent.folder, now_ms=room.territory.clock, entropy=device.agent.entropy
            )
            device.session = Session(device.agent, device.way)
        for device in (*made, *made):
            # who was switched off a moment before the last news catches up
            await device.session.sync()
        assert await room.agree()
        assert (await made[0].agent.replica.store.unsent_totals())[0] == 0


def lesson(day: str) -> bytes:
    return f"leçon de {day} ".encode() * 3_000


def story(day: str) -> bytes:
    return f"récit de {day} ".encode() * 2_000
