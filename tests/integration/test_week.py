"""A week of a class on three machines, over every weather that a school's line has; nobody types a command.

The teacher saves files in the folder that is watched and uses the portal; pupils use theirs and read the folder
`coursework`; machines are switched off at night, the server dies, and on Friday evening nothing is missing anywhere.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
from aiohttp import ClientSession, DummyCookieJar, TCPConnector
from yarl import URL

from tests.harness.machines import Machine, School, eventually, school, space_row
from tests.harness.portal import Surfer
from tests.harness.weather import CAPTIVE, CLEAR, DOWN, SATELLITE, Relay, Sockets, Weather, impairing_relay

T = TypeVar("T")

CLASS = "CM1"
PATIENCE_S = 90.0
VILLAGE = Weather(latency_s=0.05, bytes_per_s=125_000)


class Week:
    """Three machines of one class, each with its portal, and the line between them and the server."""

    def __init__(self, here: School, relay: Relay, folder: Path) -> None:
        self.here, self.relay, self.folder = here, relay, folder
        self.url = here.url
        here.url = relay.url
        self.teacher = here.enrol("petit", "teacher")
        self.renard, self.hibou = here.enrol("renard"), here.enrol("hibou")
        self.machines = (self.teacher, self.renard, self.hibou)
        self.portals: dict[str, URL] = {}
        self.handed_in: set[str] = set()

    def morning(self, *machines: Machine) -> None:
        """Machines are switched on."""
        for machine in machines or self.machines:
            machine.start("--portal", "127.0.0.1:0")
            said = machine.log.read_text(encoding="utf-8").splitlines()
            (line,) = [line for line in said if "portal is open" in line]
            self.portals[machine.name] = URL(line.split()[-1])

    def evening(self, *machines: Machine) -> None:
        """Machines are switched off at the plug."""
        for machine in machines or self.machines:
            machine.kill()

    def drop(self, title: str, files: dict[str, bytes]) -> None:
        """The teacher puts a folder where it is published."""
        aside = self.folder / "aside" / title
        for name, data in files.items():
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            (aside / name).write_bytes(data)
        shutil.copytree(aside, self.teacher.folder / "publish" / CLASS / title, dirs_exist_ok=True)

    def sees(self, machine: Machine, title: str, name: str, data: bytes) -> None:
        """A pupil opens a file in the folder `coursework`."""
        file = machine.folder / "coursework" / CLASS / title / name
        eventually(f"{file} on {machine.name}", lambda: file.is_file() and file.read_bytes() == data, PATIENCE_S)

    def all_see(self, title: str, name: str, data: bytes) -> None:
        for machine in (self.renard, self.hibou):
            self.sees(machine, title, name, data)

    def assigns(self, title: str, text: bytes) -> str:
        """The teacher gives an assignment on the portal; its item."""
        fields = {"title": title, "kind": "assignment", "space": self.here.space}
        place = self._at(self.teacher, "/publish", "/publish", fields, [("consigne.txt", text)])
        return place.removeprefix("/item/").split("?")[0]

    def hands_in(self, machine: Machine, item: str, name: str, data: bytes) -> str:
        """A pupil hands in on the portal, as soon as the assignment is there; the hand-in."""
        eventually(f"{item} at {machine.name}", lambda: self._page(machine, f"/item/{item}"), PATIENCE_S)
        place = self._at(machine, f"/item/{item}", f"/item/{item}/hand-in", {"person": self.here.pupil}, [(name, data)])
        work = place.removeprefix("/work/").split("?")[0]
        self.handed_in.add(work)
        return work

    def answers(self, work: str, text: str) -> None:
        """The teacher opens a work, once it has come, and says something of it."""
        eventually(f"{work} at the teacher's", lambda: "complete" in self._work(work), PATIENCE_S)
        self._at(self.teacher, f"/work/{work}", f"/work/{work}/feedback", {"text": text}, [])

    def reads(self, machine: Machine, work: str, words: str) -> None:
        """A pupil finds words on the page of a work."""
        eventually(
            f"{words} on {machine.name}", lambda: words in (self._page(machine, f"/work/{work}") or ""), PATIENCE_S
        )

    def _work(self, work: str) -> str:
        page = self._page(self.teacher, f"/work/{work}") or ""
        return "complete" if f"/work/{work}/open" in page else ""

    def _page(self, machine: Machine, path: str) -> str | None:
        async def ask(surfer: Surfer) -> str | None:
            await surfer.send("/who", "/who", {"person": self.here.pupil, "back": "/"})
            answer = await surfer.get(path)
            return answer.text if answer.status == 200 else None

        return self._surf(machine, ask)

    def _at(
        self, machine: Machine, page: str, action: str, fields: dict[str, str], files: list[tuple[str, bytes]]
    ) -> str:
        async def send(surfer: Surfer) -> str:
            answer = await surfer.send(page, action, fields, files)
            assert answer.status == 303, (action, answer.status, answer.text[-1500:])
            return answer.headers["Location"]

        return self._surf(machine, send)

    def _surf(self, machine: Machine, act: Callable[[Surfer], Awaitable[T]]) -> T:
        async def visit() -> T:
            connector = TCPConnector(force_close=True)
            async with ClientSession(connector=connector, cookie_jar=DummyCookieJar()) as session:
                return await act(Surfer(session, self.portals[machine.name]))

        return asyncio.run(visit())


@pytest.fixture
def week(tmp_path: Path) -> Iterator[Week]:
    with school(tmp_path) as here, impairing_relay(here.url, tmp_path) as relay:
        yield Week(here, relay, tmp_path)


def test_a_week_of_a_class_loses_nothing_and_nobody_types_a_command(week: Week) -> None:
    # Monday: the village line, as on most days.
    week.relay.weather = VILLAGE
    week.morning()
    week.drop("Les volcans", {"index.html": b"<h1>Volcans</h1>" * 50, "images/etna.png": bytes(range(256)) * 200})
    week.all_see("Les volcans", "images/etna.png", bytes(range(256)) * 200)
    essay = week.assigns("Raconte tes vacances", b"Dix lignes.")
    first = week.hands_in(week.renard, essay, "texte.txt", b"La mer.")
    week.answers(first, "Joli !")
    week.reads(week.renard, first, "Joli !")
    week.evening()

    # Tuesday: the line is cut all day; work goes on, and a laptop is switched off before the line is back.
    week.relay.weather = DOWN
    week.morning()
    week.drop("Les fleuves", {"leçon.txt": b"La Loire"})
    second = week.hands_in(week.hibou, essay, "texte.txt", b"La montagne.")
    cut_off = week.assigns("Les tables", b"7 x 8 = ?")
    week.evening()

    # Wednesday: a satellite dish stands in; the server is killed while it serves, and comes back.
    week.relay.weather = SATELLITE
    week.morning()
    week.all_see("Les fleuves", "leçon.txt", b"La Loire")
    week.here.server.kill()
    week.drop("Les fleuves", {"leçon.txt": b"La Loire et le Cher"})
    third = week.hands_in(week.renard, cut_off, "tables.txt", b"56")
    week.here.server.start("--listen", week.url.removeprefix("http://"))
    week.all_see("Les fleuves", "leçon.txt", b"La Loire et le Cher")

    # Thursday: a new Wi-Fi wants a sign-in; then a proxy refuses sockets and holds answers back; then the line stalls.
    week.relay.weather = CAPTIVE
    fourth = week.hands_in(week.hibou, cut_off, "tables.txt", b"54")
    week.drop("Les tables de 7", {"affiche.txt": b"7, 14, 21"})
    week.relay.weather = Weather(sockets=Sockets.REFUSED, holds=True)
    week.all_see("Les tables de 7", "affiche.txt", b"7, 14, 21")
    week.relay.weather = replace(VILLAGE, stalls=True)
    week.answers(third, "Juste.")
    week.evening(week.renard)

    # Friday: everything is as on Monday again.
    week.relay.weather = CLEAR
    week.morning(week.renard)
    for work in (second, fourth):
        week.answers(work, "Vu.")
    for machine, work, words in (
        (week.hibou, second, "Vu."),
        (week.renard, third, "Juste."),
        (week.hibou, fourth, "Vu."),
    ):
        week.reads(machine, work, words)

    # What an inspector finds: equal sets, every file, every work, nothing left to send.
    server = eventually("equal sets", lambda: agreed(week), PATIENCE_S)
    assert {row["id"] for row in week.here.server.ok("hand-ins", "--space", week.here.space)} == week.handed_in
    assert all(row["state"] == "marked" for row in week.teacher.ok("hand-ins"))
    for machine in week.machines:
        assert space_row(machine, week.here.space)["fingerprint"] == server
        assert all(item["complete"] and not item["conflict"] for item in machine.ok("items"))
        assert machine.ok("status")["backlog"]["entries"] == 0
        assert machine.ok("verify")["ok"]


def agreed(week: Week) -> str | None:
    """The fingerprint of the class, once all have the same."""
    found = {space_row(machine, week.here.space)["fingerprint"] for machine in week.machines}
    found.add(week.here.server_row()["fingerprint"])
    return found.pop() if len(found) == 1 else None
