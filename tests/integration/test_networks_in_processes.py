"""Both programs as processes, a school's network between them: it goes on by itself, and says what was in the way."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

import pytest

from tests.harness.machines import Machine, School, school, space_row
from tests.harness.patience import eventually
from tests.harness.weather import CAPTIVE, DOWN, STALLED, Relay, Sockets, Weather, impairing_relay

LOGIN = "ecole:mot de passe"


@dataclass
class Place:
    """A school behind an inspecting proxy that asks for a password, a teacher at home, and a machine of the class."""

    school: School
    relay: Relay
    teacher: Machine
    machine: Machine
    published: int = 0

    def publish(self) -> str:
        """The teacher publishes; the item."""
        self.published += 1
        text = self.school.folder / f"{self.published}.txt"
        text.write_text(f"lesson {self.published}")
        item: str = self.teacher.ok(
            "publish", str(text), "--space", self.school.space, "--title", f"Lesson {self.published}"
        )["item"]
        self.teacher.ok("sync")
        return item

    def has(self, item: str) -> bool:
        """Whether the machine shows an item, complete."""
        return any(row["item"] == item and row["complete"] for row in self.machine.ok("items"))

    def arrives(self) -> None:
        """News reaches the machine with no command given."""
        item = self.publish()
        eventually(f"{item} on the machine", lambda: self.has(item))

    def problem(self) -> str | None:
        """What the machine says is in the way."""
        found = self.machine.ok("status")["server"]["problem"]
        return None if found is None else str(found["code"])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("networks")
    with ExitStack() as stack:
        made = stack.enter_context(school(folder))
        relay = stack.enter_context(impairing_relay(made.url, folder / "relay"))
        teacher = made.enrol("teacher", "teacher")
        machine = Machine("machine", folder / "machine", "sync-agent")
        made.agents["machine"] = machine
        proxy = relay.proxy_url.replace("//", "//ecole:mot%20de%20passe@")
        relay.weather = Weather(login=LOGIN, inspects=True)
        code = made.invite("machine")
        done = machine.run("enroll", "--server", relay.named_secure_url, "--code", code, "--proxy", proxy)
        assert done.status == 3
        assert "Inspection du rectorat" in done.err
        assert "--ca FILE" in done.err, "who is not enrolled has no doctor to ask"
        assert "mot" not in done.err
        machine.ok(
            "enroll", "--server", relay.named_secure_url, "--code", code, "--proxy", proxy,
            "--ca", str(relay.inspector_file),
        )  # fmt: skip
        kept = folder / "machine/network.json"
        assert kept.stat().st_mode & 0o077 == 0
        machine.start()
        yield Place(made, relay, teacher, machine)


def test_a_class_behind_an_inspecting_proxy_with_a_password_gets_its_lessons(place: Place) -> None:
    place.arrives()


def test_news_arrives_where_websockets_do_not(place: Place) -> None:
    before = place.relay.weather
    place.relay.weather = DOWN
    place.relay.weather = replace(before, sockets=Sockets.REFUSED)
    place.arrives()
    place.relay.weather = before


def test_a_sign_in_page_is_named_while_it_stands_and_forgotten_after(place: Place) -> None:
    before = place.relay.weather
    place.relay.weather = DOWN
    place.relay.weather = replace(before, portal=CAPTIVE.portal)
    eventually("the page is named", lambda: place.problem() == "sign-in-page")
    (problem,) = [row for row in place.machine.run("doctor").json["problems"] if row["code"] == "unreachable"]
    assert "wifi.ecole.test" in problem["message"]
    assert "browser" in problem["remedy"]
    place.relay.weather = before
    eventually("the page is forgotten", lambda: place.problem() is None)
    place.arrives()
    eventually("that is said", lambda: "reached again" in place.machine.log.read_text(encoding="utf-8"))


def test_a_stopped_process_and_a_line_that_stood_still_go_on_where_they_were(place: Place) -> None:
    before = place.relay.weather
    assert place.machine.daemon is not None
    os.kill(place.machine.daemon.pid, signal.SIGSTOP)
    item = place.publish()
    place.relay.weather = STALLED
    os.kill(place.machine.daemon.pid, signal.SIGCONT)
    place.relay.weather = DOWN
    place.relay.weather = before
    eventually("news after all that", lambda: place.has(item))
    eventually("all of it", lambda: space_row(place.machine, place.school.space)["complete"])
