"""What an earlier version of the format left on disks is opened by this one: the archives of `tests/vectors/stored`.

docs/protocol.md, "Versions".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sync_agent.machine.enrolled import Enrolment
from tests.harness.kept_formats import hashes, set_held, unpack
from tests.harness.machines import Machine
from tests.harness.patience import eventually

STORED = sorted((Path(__file__).parents[1] / "vectors" / "stored").glob("*.tar.xz"))


@dataclass(frozen=True)
class Found:
    """The disks of an archive, unpacked, and what they should hold."""

    folder: Path
    expected: dict[str, Any]
    server: Machine
    laptop: Machine
    renard: Machine

    def at(self, url: str) -> None:
        """Tell the agents where the server is now."""
        for agent in (self.laptop, self.renard):
            replace(Enrolment.read(agent.folder), server_url=url).write(agent.folder)


@pytest.fixture(params=STORED, ids=lambda path: f"format {path.name.partition('.')[0]}")
def found(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Found]:
    expected = unpack(request.param, tmp_path)
    server = Machine("server", tmp_path / "server", "sync-server")
    agents = [Machine(name, tmp_path / name, "sync-agent") for name in ("laptop", "renard")]
    made = Found(tmp_path, expected, server, agents[0], agents[1])
    yield made
    if server.daemon is not None:
        server.kill()


def started(server: Machine) -> str:
    line = server.start("--listen", "127.0.0.1:0")
    return next(word.rstrip(".,/") for word in line.split() if word.startswith("http://"))


def print_of(server: Machine, space: str) -> str:
    prints: dict[str, str] = {row["space"]: row["fingerprint"] for row in server.ok("space", "list")}
    return prints[space]


def agree(found: Found, server: Machine) -> bool:
    for agent in (found.renard, found.laptop):
        agent.ok("sync")
    rows = [row for agent in (found.renard, found.laptop) for row in agent.ok("status")["spaces"]]
    space = found.expected["space"]
    return {row["fingerprint"] for row in rows if row["space"] == space} == {print_of(server, space)}


def test_there_is_an_archive_of_each_version() -> None:
    assert [path.name for path in STORED] == ["1.tar.xz"]


def test_disks_of_an_earlier_version_are_whole_and_show_what_they_showed(found: Found, tmp_path: Path) -> None:
    for machine in (found.server, found.laptop, found.renard):
        assert machine.ok("verify") == {"ok": True, "problems": []}
    assert set_held(found.server.folder, found.expected["space"]) == found.expected["fingerprint"]
    people = found.laptop.ok("people", "--space", found.expected["space"])
    assert sorted(row["name"] for row in people) == ["Léa", "Mme Petit"], "whoever was erased stays so"
    for agent in (found.laptop, found.renard):
        agent.ok("checkout", found.expected["item"], str(tmp_path / "out" / agent.name))
        assert hashes(tmp_path / "out" / agent.name) == found.expected["lesson"]
    states = {row["id"]: row["state"] for row in found.renard.ok("hand-ins")}
    assert states == {found.expected["opened"]: "marked", found.expected["waiting"]: "carried"}
    found.laptop.ok("open-hand-in", found.expected["opened"], str(tmp_path / "opened"))
    assert hashes(tmp_path / "opened") == found.expected["work"]


def test_programs_of_an_earlier_version_go_on_together_where_they_stopped(found: Found, tmp_path: Path) -> None:
    found.at(started(found.server))
    eventually("all agree", partial(agree, found, found.server))
    found.laptop.ok("open-hand-in", found.expected["waiting"], str(tmp_path / "waiting"))
    assert hashes(tmp_path / "waiting") == found.expected["work"]
    note = tmp_path / "note.txt"
    note.write_text("Et après ?", encoding="utf-8")
    item = found.expected["item"]
    found.laptop.ok("publish", str(note), "--space", found.expected["space"], "--title", "Eau", "--item", item)
    eventually("all agree", partial(agree, found, found.server))
    assert found.renard.ok("cat", item, "note.txt", raw=True).decode() == "Et après ?"


def test_a_courier_disk_of_an_earlier_version_brings_its_work(found: Found, tmp_path: Path) -> None:
    assert found.laptop.ok("courier", "import", str(found.folder / "stick"))["entries"] > 0
    found.laptop.ok("open-hand-in", found.expected["waiting"], str(tmp_path / "waiting"))
    assert hashes(tmp_path / "waiting") == found.expected["work"]


@pytest.mark.parametrize("way", ["backup", "kit"])
def test_a_server_is_made_from_what_an_earlier_version_kept(found: Found, way: str) -> None:
    again = Machine("again", found.folder / "again", "sync-server")
    kit = str(found.folder / "kit")
    if way == "backup":
        again.ok("restore", str(found.folder / "relais.tar"), "--kit", kit)
    else:
        again.ok("init", "--recover", kit, "--kit", str(found.folder / "kit-2"))
    try:
        found.at(started(again))
        eventually("the server is filled", partial(agree, found, again))
        fresh = Machine("fresh", found.folder / "fresh", "sync-agent")
        space = ("--space", found.expected["space"])
        code = again.ok("invite", "--role", "machine", *space)["code"]
        url = Enrolment.read(found.laptop.folder).server_url
        fresh.ok("enroll", "--server", url, "--code", code, "--name", "Hibou")
        fresh.ok("checkout", found.expected["item"], str(found.folder / "out"))
        assert hashes(found.folder / "out") == found.expected["lesson"]
    finally:
        if again.daemon is not None:
            again.kill()
