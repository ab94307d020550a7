"""The story that Relais is made for, played on this machine by real processes, in under a minute.

A server, a teacher's laptop and two pupils' PCs, each with a folder of its own, talk over loopback. A course is
published and arrives; the server is killed; the teacher publishes an assignment all the same and a pupil hands work
in; the server returns, everything arrives where it belongs, and all four hold the same set. Only the operator's
commands are used.

usage: demo.py [COURSE]     COURSE is a folder of your own to publish instead of the sample
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
PATIENCE_S = 60.0
BOLD, DIM, GREEN, RED, PLAIN = (
    ("\033[1m", "\033[2m", "\033[32m", "\033[31m", "\033[0m") if sys.stdout.isatty() else ("",) * 5
)


class DemoFailed(Exception):
    """The story did not go as told."""


class Stage:
    """Where the story plays: a folder for every machine, and the processes that were started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[str, subprocess.Popen[str]] = {}
        self.began = time.monotonic()

    def run(self, program: str, machine: str, *words: str) -> Any:
        """One command of the contract at one machine; its JSON."""
        command = [str(BIN / program), *words, "--data", str(self.folder / machine), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise DemoFailed(f"{' '.join(words[:2])} at {machine}: {done.stdout.strip() or done.stderr.strip()}")
        return json.loads(done.stdout)

    def start(self, name: str, program: str, *words: str) -> str:
        """A daemon; returns the line with which it says that it is ready."""
        log = self.folder / f"{name}.log"
        log.touch()
        with log.open("w") as file:
            process = subprocess.Popen(
                [str(BIN / program), "run", *words, "--data", str(self.folder / name)],
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
            )
        self.running[name] = process

        def ready() -> str:
            if process.poll() is not None:
                raise DemoFailed(f"{name} stopped: {log.read_text()}")
            lines = [line for line in log.read_text().splitlines() if "ready" in line]
            return lines[-1] if lines else ""

        return str(self.wait(f"{name} to be ready", ready))

    def kill(self, name: str) -> None:
        """Pull the plug."""
        process = self.running.pop(name)
        process.kill()
        process.wait()

    def wait(self, what: str, done: Callable[[], Any]) -> Any:
        """Ask again until there is an answer that is true."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := done()):
            if time.monotonic() > deadline:
                raise DemoFailed(f"waited {PATIENCE_S:.0f} s for {what}")
            time.sleep(0.1)
        return found

    def say(self, text: str) -> None:
        """A step of the story, with the time since it began."""
        print(f"{DIM}{time.monotonic() - self.began:5.1f} s{PLAIN}  {text}", flush=True)

    def close(self) -> None:
        """End what is still running."""
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        for process in self.running.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def stage() -> Iterator[Stage]:
    """A stage in a temporary folder, cleared away afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="relais-demo-"))
    here = Stage(folder)
    try:
        yield here
    finally:
        here.close()
        shutil.rmtree(folder, ignore_errors=True)


AGENTS = {"teacher": "Mme Petit's laptop", "renard": "PC Renard", "hibou": "PC Hibou"}


def title_of(course: Path) -> str:
    """What the course is published as."""
    return "Le cycle de l'eau" if course == HERE / "course" else course.name


def play(here: Stage, course: Path) -> None:
    """The story from beginning to end."""
    url, space, pupil = open_school(here)
    lesson, assignment = publish_course(here, course, space)
    here.kill("server")
    here.say(f"{RED}The server is killed{PLAIN} (kill -9). The school has no server now.")
    work, note = learn_on(here, space, pupil, assignment)
    here.start("server", "sync-server", "--listen", url.removeprefix("http://"))
    here.say(f"{GREEN}The server is back{PLAIN}, at the same address.")
    converge(here, space, note, work)
    show(here, space, lesson, work, course)


def open_school(here: Stage) -> tuple[str, str, str]:
    """A territory with a school, a class, a teacher, a pupil and three machines."""
    made = here.run("sync-server", "server", "init", "--name", "Cher (demo)")
    # The kit belongs in a safe, not beside the server.
    Path(made["kit"]).replace(here.folder / "kit-in-the-safe")
    space = here.run("sync-server", "server", "space", "add", "CM1 Rue Verte", "--school", "0180001X")["space"]
    adult, pupil = (
        here.run("sync-server", "server", "person", "add", name, "--role", role, "--space", space)["person"]
        for name, role in (("Mme Petit", "teacher"), ("Léa", "pupil"))
    )
    line = here.start("server", "sync-server", "--listen", "127.0.0.1:0")
    url = next(word.rstrip(".,/") for word in line.split() if word.startswith("http://"))
    here.say(f"A server for the territory {BOLD}Cher (demo){PLAIN}, fingerprint {made['fingerprint']}, at {url}.")
    teacher_code = here.run(
        "sync-server", "server", "invite", "--role", "teacher", "--space", space, "--person", adult
    )["code"]
    machine_code = here.run("sync-server", "server", "invite", "--role", "machine", "--space", space, "--uses", "2")
    for agent, name in AGENTS.items():
        code = teacher_code if agent == "teacher" else machine_code["code"]
        here.run("sync-agent", agent, "enroll", "--server", url, "--code", code, "--name", name)
        here.start(agent, "sync-agent")
        here.say(f"{name} is enrolled and running.")
    return url, space, pupil


def publish_course(here: Stage, course: Path, space: str) -> tuple[str, str]:
    """The teacher publishes the course and an assignment, and both PCs have them."""
    found = [path for path in course.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in found)
    title = title_of(course)
    lesson = here.run("sync-agent", "teacher", "publish", str(course), "--space", space, "--title", title)["item"]
    here.say(f"Mme Petit publishes {BOLD}{title}{PLAIN}: {len(found)} files, {size / 1e6:.1f} MB.")
    assignment = here.run(
        "sync-agent", "teacher", "publish", str(HERE / "devoir"), "--space", space,
        "--title", "Schéma à compléter", "--kind", "assignment", "--due", "2027-06-30",
    )["item"]  # fmt: skip
    here.say(f"Mme Petit publishes the assignment {BOLD}Schéma à compléter{PLAIN}.")
    for agent in ("renard", "hibou"):
        for item in (lesson, assignment):
            wait_for_item(here, agent, item)
        here.say(f"  … both complete and verified on {AGENTS[agent]}.")
    return lesson, assignment


def learn_on(here: Stage, space: str, pupil: str, assignment: str) -> tuple[str, str]:
    """Without a server: the teacher publishes, a pupil hands in; both are kept where they were made."""
    note = here.folder / "à lire.txt"
    note.write_text("Pas d'Internet aujourd'hui : continuez la fiche, je la relèverai demain.\n", encoding="utf-8")
    extra = here.run(
        "sync-agent", "teacher", "publish", str(note), "--space", space, "--title", "Mot du jour",
        "--kind", "announcement",
    )["item"]  # fmt: skip
    here.say("Mme Petit publishes a note with no server: saved, waiting to leave.")
    done = here.run("sync-agent", "renard", "hand-in", assignment, str(HERE / "copie-eleve"), "--person", pupil)
    here.say(f"Léa hands her work in on PC Renard: state {BOLD}{done['state']}{PLAIN}, sealed for Mme Petit.")
    backlog = here.run("sync-agent", "renard", "status")["backlog"]
    here.say(f"  … PC Renard keeps {backlog['entries']} entries that the server has not seen; nothing is lost.")
    return str(done["id"]), extra


def wait_for_item(here: Stage, agent: str, item: str) -> None:
    """Until an item is complete at a machine."""
    here.wait(f"an item at {AGENTS[agent]}", lambda: item_at(here, agent, item).get("complete"))


def item_at(here: Stage, agent: str, item: str) -> dict[str, Any]:
    """How one machine sees an item; empty if it does not."""
    return next((found for found in here.run("sync-agent", agent, "items") if found["item"] == item), {})


def state_of(here: Stage, agent: str, work: str) -> str:
    """How one machine sees a hand-in."""
    return next((found["state"] for found in here.run("sync-agent", agent, "hand-ins") if found["id"] == work), "")


def converge(here: Stage, space: str, note: str, work: str) -> None:
    """Everything arrives: the note on the PCs, the work at the server and the teacher, feedback at the PC."""
    for agent in ("renard", "hibou"):
        wait_for_item(here, agent, note)
    here.say("The note that was published during the outage is on both PCs.")
    here.wait("the server's receipt", lambda: state_of(here, "renard", work) in {"server", "teacher"})
    here.say(f"PC Renard has the server's signed receipt: state {BOLD}server{PLAIN}.")
    opened = here.folder / "opened"

    def open_work() -> bool:
        if not state_of(here, "teacher", work):
            return False
        try:
            here.run("sync-agent", "teacher", "open-hand-in", work, str(opened))
        except DemoFailed:
            return False
        return True

    here.wait("the hand-in at the teacher's", open_work)
    same = all(
        (opened / path.relative_to(HERE / "copie-eleve")).read_bytes() == path.read_bytes()
        for path in (HERE / "copie-eleve").rglob("*")
        if path.is_file()
    )
    if not same:
        raise DemoFailed("the teacher did not get the very bytes that were handed in")
    here.say("Mme Petit opens Léa's work: identical, byte for byte; only her key and the kit can.")
    here.run("sync-agent", "teacher", "feedback", work, "--text", "Très bien expliqué !", "--mark", "A")
    here.wait("feedback at PC Renard", lambda: state_of(here, "renard", work) == "marked")
    here.say(f"Léa reads the feedback on PC Renard: state {BOLD}marked{PLAIN}.")

    def equal() -> bool:
        prints = {row["fingerprint"] for row in rows(here, space).values()}
        return len(prints) == 1

    here.wait("equal fingerprints", equal)


def rows(here: Stage, space: str) -> dict[str, dict[str, Any]]:
    """The class's space as each machine sees it."""
    found = {"server": next(row for row in here.run("sync-server", "server", "space", "list") if row["space"] == space)}
    for agent in AGENTS:
        status = here.run("sync-agent", agent, "status")
        found[agent] = next(row for row in status["spaces"] if row["space"] == space)
    return found


def show(here: Stage, space: str, lesson: str, work: str, course: Path) -> None:
    """Who holds what, at the end."""
    expected = {path.relative_to(course).as_posix(): path.read_bytes() for path in course.rglob("*") if path.is_file()}
    table = [("machine", "entries", "fingerprint", "course", "hand-in")]
    for machine, row in rows(here, space).items():
        if machine == "server":
            table.append(("server", str(row["entries"]), row["fingerprint"][:12], "packs", "sealed"))
            continue
        target = here.folder / f"checkout-{machine}"
        here.run("sync-agent", machine, "checkout", lesson, str(target))
        copies = {
            path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*") if path.is_file()
        }
        held = f"{len(copies)} files, identical" if copies == expected else "DIFFERENT"
        if copies != expected:
            raise DemoFailed(f"the course at {AGENTS[machine]} is not what was published")
        state = state_of(here, machine, work) or "not its business"
        table.append((AGENTS[machine], str(row["entries"]), row["fingerprint"][:12], held, state))
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    print()
    for number, line in enumerate(table):
        text = "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print(f"   {BOLD}{text}{PLAIN}" if number == 0 else f"   {text}")
    print(f"\n   All four hold the same set of entries. {GREEN}Nothing was lost.{PLAIN}")


def main() -> int:
    """Play; 0 if the story came out as told."""
    course = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else HERE / "course"
    if not course.is_dir():
        print(f"{course} is not a folder", file=sys.stderr)
        return 2
    if not any(path.is_file() for path in course.rglob("*")):
        print(f"{course} holds no file to publish", file=sys.stderr)
        return 2
    # asked to end, the demo clears away as it does at its own end
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with stage() as here:
        try:
            play(here, course)
        except DemoFailed as failure:
            print(f"\n{RED}The demo failed:{PLAIN} {failure}", file=sys.stderr)
            for log in sorted(here.folder.glob("*.log")):
                print(f"--- {log.name}\n{log.read_text()[-2000:]}", file=sys.stderr)
            return 1
        here.say("Done.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
