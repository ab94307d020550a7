"""R8 for whole programs: killed at a write, flush or rename, then started again, they end as if nothing had happened.

In a usual run every fifth point of each workload is tried, from another one each day; `EVERY_KILL_POINT=1` tries all.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.harness.forks import Forks
from tests.harness.kill_points import KILL, Outcome, Point, points_of, python_environment, run_to
from tests.harness.machines import Machine, School, environment, school, space_row

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs strace")

STRIDE = 1 if os.environ.get("EVERY_KILL_POINT") else 5

AfterEach = Callable[[Path, Outcome], None]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[School]:
    folder = tmp_path_factory.mktemp("school")
    with school(folder) as found:
        found.enrol("laptop", "teacher")
        found.enrol("renard")
        lesson = folder / "lesson"
        lesson.mkdir()
        for number in range(4):
            (lesson / f"page{number}.html").write_bytes(f"<p>{number}</p>".encode() * 2000)
        (lesson / "image.png").write_bytes(bytes(range(251)) * 800)
        yield found


def kill_along(template: Path, scratch: Path, words: list[str], after_each: AfterEach) -> int:
    """Run a command of the agent in copies of `template`, killed at another point each; how many points were tried."""
    environ = environment(**{name: python_environment()[name] for name in ("PYTHONPATH", "PYTHONHASHSEED")})

    def fresh(label: str) -> Path:
        return Path(shutil.copytree(template, scratch / label))

    def judge(numbered: tuple[int, Point]) -> bool:
        number, point = numbered
        folder = fresh(str(number))
        outcome = run_to(point, killable, folder, KILL)
        after_each(folder, outcome)
        shutil.rmtree(folder)
        return outcome.killed

    with Forks("tests.harness.command_program", "sync-agent", *words, env=environ) as killable:
        points, _ = points_of(killable, fresh("unharmed"))
        tried = points[time.localtime().tm_yday % STRIDE :: STRIDE]
        with ThreadPoolExecutor(2) as pool:
            killed = sum(pool.map(judge, enumerate(tried)))
    # Names that hold chance (a part, a pack of sealed work) are not met again: those runs end unharmed.
    assert killed > len(tried) // 2, (killed, len(tried))
    return len(tried)


def test_a_publication_killed_anywhere_is_whole_or_absent_and_can_be_repeated(here: School, tmp_path: Path) -> None:
    lesson = str(here.folder / "lesson")
    words = ["publish", lesson, "--space", here.space, "--title", "Eau"]

    def after_each(folder: Path, outcome: Outcome) -> None:
        agent = Machine("copy", folder, "sync-agent")
        found = agent.ok("items")
        assert len(found) <= 1
        assert not outcome.lines or len(found) == 1, "what was acknowledged is there"
        assert all(item["complete"] for item in found), "what is there is whole"
        again = agent.ok("publish", lesson, "--space", here.space, "--title", "Eau")["item"]
        agent.ok("checkout", again, str(folder / "out"))
        assert all((folder / "out" / page.name).read_bytes() == page.read_bytes() for page in Path(lesson).iterdir())
        assert agent.ok("verify")["ok"]

    assert kill_along(here.agents["laptop"].folder, tmp_path, words, after_each) >= 3


def test_a_hand_in_killed_anywhere_never_loses_its_key(here: School, tmp_path: Path) -> None:
    teacher, renard = here.agents["laptop"], here.agents["renard"]
    lesson = str(here.folder / "lesson")
    task = teacher.ok("publish", lesson, "--space", here.space, "--title", "Devoir", "--kind", "assignment")["item"]
    teacher.ok("sync")
    renard.ok("sync")
    words = ["hand-in", task, lesson, "--person", here.pupil]

    def after_each(folder: Path, outcome: Outcome) -> None:
        agent = Machine("copy", folder, "sync-agent")
        found = agent.ok("hand-ins")
        assert not outcome.lines or len(found) == 1, "what was acknowledged is there"
        assert all(len(work["files"]) == 5 and work["state"] == "local" for work in found)
        agent.ok("hand-in", task, lesson, "--person", here.pupil)
        assert agent.ok("verify")["ok"]

    assert kill_along(renard.folder, tmp_path, words, after_each) >= 3


def test_a_sync_killed_anywhere_is_taken_up_again_to_the_same_end(here: School, tmp_path: Path) -> None:
    fresh = here.enrol("hibou")
    teacher = here.agents["laptop"]
    item = teacher.ok("publish", str(here.folder / "lesson"), "--space", here.space, "--title", "Mer")["item"]
    teacher.ok("sync")
    expected = here.server_row()["fingerprint"]

    def after_each(folder: Path, _: Outcome) -> None:
        agent = Machine("copy", folder, "sync-agent")
        agent.ok("sync")
        row = space_row(agent, here.space)
        assert (row["fingerprint"], row["complete"]) == (expected, True)
        assert agent.ok("cat", item, "image.png", raw=True) == (here.folder / "lesson" / "image.png").read_bytes()
        assert agent.ok("verify")["ok"]

    assert kill_along(fresh.folder, tmp_path, ["sync"], after_each) >= 3


DRIVER = """
import json, subprocess, sys
folder, agent, url = sys.argv[1:]
server = subprocess.Popen([sys.executable, "-m", "sync_server.cli", "run", "--listen", url, "--data", folder],
                          stderr=subprocess.PIPE, text=True)
for line in server.stderr:
    if "ready" in line:
        break
done = subprocess.run([sys.executable, "-m", "sync_agent.cli", "sync", "--data", agent, "--json"], stdout=-1)
print("synced" if done.returncode == 0 else "cut", flush=True)
server.terminate()
sys.exit(0 if server.wait() == 0 else 137)
"""


def test_a_server_killed_anywhere_in_a_sync_has_what_it_acknowledged_and_takes_the_rest(
    here: School, tmp_path: Path
) -> None:
    """The server dies while a teacher's publication and a hand-in come up; started again, it ends complete."""
    teacher = here.agents["laptop"]
    teacher.ok("publish", str(here.folder / "lesson"), "--space", here.space, "--title", "Nuit")
    here.server.stop()
    address = here.url.removeprefix("http://")
    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER)
    expected = space_row(teacher, here.space)
    copies = tmp_path / "copies"
    copies.mkdir()

    def run(folder: Path, label: str, strace: list[str]) -> subprocess.CompletedProcess[str]:
        agent = shutil.copytree(teacher.folder, tmp_path / f"agent-{label}")
        # its filter in the kernel spares the interpreters the calls that are not asked for, and there are thousands
        options = ["-f", "-qq", "--seccomp-bpf", *strace]
        argv = ["strace", *options, sys.executable, str(driver), str(folder), str(agent), address]
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=240, env=environment())

    class Serving:
        """A program in the sense of the harness: server and agent together, watched in the server's folder."""

        def run(self, folder: Path, strace: Sequence[str]) -> tuple[int, str]:
            done = run(folder, folder.name, list(strace))
            return done.returncode, done.stdout

    unharmed = Path(shutil.copytree(here.server.folder, copies / "unharmed"))
    points, _ = points_of(Serving(), unharmed)
    stride = STRIDE * 2 if STRIDE > 1 else 1
    tried = points[time.localtime().tm_yday % stride :: stride]
    for number, point in enumerate(tried):
        folder = Path(shutil.copytree(here.server.folder, copies / str(number)))
        run_to(point, Serving(), folder, KILL)
        agent = tmp_path / f"agent-{number}"
        again = Machine("server", folder, "sync-server")
        again.start("--listen", address)
        Machine("agent", agent, "sync-agent").ok("sync")
        row = next(row for row in again.ok("space", "list") if row["space"] == here.space)
        assert row["fingerprint"] == expected["fingerprint"], point
        assert again.ok("verify")["ok"], point
        again.stop()
    assert len(tried) >= 3
    here.restart_server()
