"""`service install|uninstall|status` as people type them, on machines that the tests hold: nothing here is started."""

from __future__ import annotations

import json
import os
import pwd
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import BadInput, Code, LocalFailure, Refused
from protocol.replica.console.frame import Program
from protocol.replica.service import installation, priority
from protocol.replica.service.commands import add_service_commands
from protocol.replica.service.definition import AGENT, SERVER, Scope
from protocol.replica.service.installation import Ran, System, command_of, defined, marker_in, this_system
from tests.harness.windows import ServiceManager

ROOT = 0
NOBODY = 65_534


@dataclass
class Machine:
    """A machine on which commands are noted instead of run; `answers` is what some of them say, by a part of theirs."""

    root: Path
    platform: str = "linux"
    booted: bool = True
    answers: dict[str, Ran] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)

    @property
    def system(self) -> System:
        return System(self.platform, self.root, self.root / "home", 1000, self._run, self.booted, self.pauses.append)

    def _run(self, words: Sequence[str]) -> Ran:
        line = " ".join(words)
        self.ran.append(line)
        return next((ran for part, ran in self.answers.items() if part in line), Ran(0, "", ""))


@dataclass
class Console:
    """One of our programs with its service commands, on a machine."""

    machine: Machine
    data_dir: Path
    capture: pytest.CaptureFixture[str]
    program: Program

    def run(self, *argv: str) -> tuple[int, Any, str]:
        """Exit status, what is on stdout, what is on stderr."""
        self.capture.readouterr()
        status = self.program.main([*argv, "--data", str(self.data_dir), "--json"])
        out, err = self.capture.readouterr()
        return status, json.loads(out), err


@pytest.fixture
def console(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Console:
    machine = Machine(tmp_path / "root")
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    # the folder's owner in a test is root, for whom no service runs
    monkeypatch.setattr(installation, "account_for", lambda _place, _owner: "relais")
    monkeypatch.setattr(installation, "this_system", lambda: machine.system)
    monkeypatch.setattr(installation, "command_of", lambda _program: ("/bin/true",))
    program = Program("sync-agent", "A program.", lambda: "1")

    def ready(folder: Path) -> None:
        if not folder.is_dir():
            raise BadInput(Code.NOT_INITIALISED, f"{folder} is not enrolled")

    add_service_commands(program, AGENT, "relais-agent", ready)
    return Console(machine, data_dir, capsys, program)


def test_a_service_is_installed_asked_and_taken_away_again(console: Console) -> None:
    console.machine.answers["show"] = Ran(0, "ActiveState=active\nUnitFileState=enabled\nStatusText=in step\n", "")
    status, made, _ = console.run("service", "install")
    assert (status, made["service"]) == (0, "relais-agent")
    assert Path(made["file"]).read_text(encoding="utf-8").count(str(console.data_dir)) >= 2
    assert console.run("service", "status")[1] == {
        "service": "relais-agent",
        "installed": True,
        "running": True,
        "starts_at_boot": True,
        "status": "in step",
        "file": made["file"],
    }
    assert console.run("service", "uninstall")[:2] == (0, {"service": "relais-agent"})
    assert not Path(made["file"]).exists()
    assert console.data_dir.is_dir()
    assert console.run("service", "status")[1]["installed"] is False
    status, failed, _ = console.run("service", "uninstall")
    assert (status, failed["error"]["code"]) == (2, "not-installed")


def test_a_second_service_has_a_name_of_its_own_and_a_person_may_have_theirs(console: Console) -> None:
    assert console.run("service", "install", "--name", "relais-2", "--user")[0] == 0
    assert (console.machine.root / "home/.config/systemd/user/relais-2.service").is_file()
    assert console.run("service", "install", "--name", "Relais!")[0] == 2


def test_a_folder_that_is_not_enrolled_is_not_served(console: Console) -> None:
    console.data_dir.rmdir()
    status, failed, _ = console.run("service", "install")
    assert (status, failed["error"]["code"]) == (2, "not-initialised")
    assert console.machine.ran == []


def test_a_person_is_told_how_their_own_service_can_run_from_boot_on(console: Console) -> None:
    assert "enable-linger" in console.run("service", "install", "--user")[2]


def test_before_the_first_boot_status_says_what_will_happen(console: Console) -> None:
    console.machine.booted = False
    console.run("service", "install")
    found = console.run("service", "status")[1]
    assert (found["installed"], found["running"], found["starts_at_boot"]) == (True, False, False)
    wanted = Path(found["file"]).parent / "multi-user.target.wants"
    wanted.mkdir()
    (wanted / "relais-agent.service").symlink_to(found["file"])
    assert console.run("service", "status")[1]["starts_at_boot"] is True
    assert console.run("service", "uninstall")[0] == 0
    assert console.machine.ran[-1] == "systemctl disable relais-agent.service", "and nothing that needs a boot"


def test_a_service_that_failed_is_told_in_systemds_words(console: Console) -> None:
    told = "ActiveState=activating\nSubState=auto-restart\nResult=watchdog\nUnitFileState=enabled\nStatusText=\n"
    console.machine.answers["show"] = Ran(0, told, "")
    console.run("service", "install")
    found = console.run("service", "status")[1]
    assert (found["running"], found["status"]) == (False, "activating (auto-restart): watchdog")


def test_on_a_mac_a_service_that_ended_says_with_what(console: Console) -> None:
    console.machine.platform = "darwin"
    console.machine.answers["print"] = Ran(0, "state = waiting\nlast exit code = 78\n", "")
    _, made, _ = console.run("service", "install", "--user")
    assert made["file"].endswith("home/Library/LaunchAgents/fr.relais.relais-agent.plist")
    found = console.run("service", "status", "--user")[1]
    assert (found["running"], found["status"]) == (False, "it ended with 78")
    assert console.run("service", "uninstall", "--user")[0] == 0
    assert "launchctl bootout gui/1000/fr.relais.relais-agent" in console.machine.ran[-100:]
    assert len(console.machine.pauses) < 100, "it does not wait for ever for one that does not go"


def test_on_a_mac_a_service_is_begun_anew_once_launchd_has_let_go_of_it(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    going = [Ran(0, "state = running\n", ""), Ran(0, "state = running\n", ""), Ran(113, "", "Could not find service")]

    def ran(words: Sequence[str]) -> Ran:
        console.machine.ran.append(" ".join(words[:2]))
        if words[1] == "bootstrap" and going:
            return Ran(5, "", "Bootstrap failed: 5: Input/output error")
        return going.pop(0) if words[1] == "print" else Ran(0, "", "")

    console.machine.platform = "darwin"
    monkeypatch.setattr(console.machine, "_run", ran)
    assert console.run("service", "install")[0] == 0
    assert console.machine.ran == ["launchctl bootout", *["launchctl print"] * 3, "launchctl bootstrap"]
    assert len(console.machine.pauses) == 2


def test_on_windows_the_manager_is_asked_and_it_starts_our_host(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = ServiceManager()
    manager.installed(monkeypatch)
    console.machine.platform = "win32"
    assert console.run("service", "install")[:2] == (0, {"service": "relais-agent", "file": None})
    assert console.run("service", "status")[1]["running"] is True
    assert console.run("service", "uninstall")[0] == 0
    assert manager.services == {}

    # what the manager starts: the program itself, in this process, with a log in its folder
    asked: list[str] = []
    hosted = Program("sync-agent", "A program.", lambda: "1")

    @hosted.command("run")
    def run(call: Any, *, log_file: str = "") -> Any:
        """Note what is asked."""
        asked.extend([str(call.data_dir), log_file])
        return {}

    add_service_commands(hosted, AGENT, "relais-agent", lambda _folder: None, on_windows=True)
    assert hosted.main(["service", "host", "--data", str(console.data_dir)]) == 0
    assert asked == [str(console.data_dir), str(console.data_dir / "logs" / "relais-agent.log")]
    assert manager.events == ["relais-agent has started.", "relais-agent has stopped."]


# --- this machine -----------------------------------------------------------------------------------------------------


def test_this_machine_is_described_and_its_commands_are_run() -> None:
    found = this_system()
    assert (found.platform, found.root) == (sys.platform, Path("/"))
    assert found.run([sys.executable, "-c", "print('é'); import sys; sys.exit(3)"]).status == 3
    with pytest.raises(LocalFailure) as raised:
        found.run(["/there/is/no/systemctl"])
    assert raised.value.code is Code.SERVICE_FAILED


def test_a_manager_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "_COMMAND_PATIENCE_S", 0.05)
    with pytest.raises(LocalFailure) as raised:
        this_system().run([sys.executable, "-c", "import time; time.sleep(60)"])
    assert "does not come to an end" in raised.value.message


def test_a_program_is_started_by_its_script_or_else_as_a_module() -> None:
    assert command_of("sync-agent") == (str(Path(sys.executable).parent / "sync-agent"),)
    assert command_of("sync-other") == (sys.executable, "-P", "-m", "sync_other.cli"), (
        "whatever lies in the folder it is started in"
    )


def given_away(*places: Path) -> str:
    """Who has these places, and is not root: whoever runs the tests, or nobody."""
    for place in places:
        if os.geteuid() == ROOT:
            os.chown(place, NOBODY, -1)
    return pwd.getpwuid(places[0].stat().st_uid).pw_name


def test_a_persons_own_service_needs_no_account_and_a_machines_has_the_folders_owner(tmp_path: Path) -> None:
    assert defined(AGENT, "relais-agent", Scope.USER, ["/bin/true"], tmp_path).account is None
    owner = given_away(tmp_path)
    made = defined(SERVER, "relais-server", Scope.SYSTEM, ["/bin/true"], tmp_path / "x" / "..")
    assert (made.account, made.data_dir) == (owner, tmp_path.resolve())


def test_an_account_without_a_name_is_named_by_its_number(tmp_path: Path) -> None:
    assert installation.account_for(tmp_path, 54_321) == "54321"


def test_a_program_in_the_accounts_own_home_is_reached(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    program = home / "sync-agent"
    program.write_text("", encoding="utf-8")
    given_away(program, tmp_path)
    service = defined(AGENT, "relais-agent", Scope.SYSTEM, [str(program)], tmp_path)
    installation.check_reachable(str(program), service)
    with pytest.raises(BadInput):
        installation.check_reachable(str(home / "gone"), service)


def test_a_definition_that_cannot_be_read_written_or_removed_names_its_file(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = defined(AGENT, "relais-agent", Scope.SYSTEM, ["/bin/true"], console.data_dir)
    units = console.machine.root / "etc/systemd/system"
    (units / "relais-agent.service").mkdir(parents=True)
    with pytest.raises(LocalFailure) as unreadable:
        installation.install(service, console.machine.system, print)
    assert "relais-agent.service" in unreadable.value.message
    with pytest.raises(LocalFailure) as unremovable:
        installation._remove(units)
    assert unremovable.value.code is Code.STORAGE_FAILED

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_bytes", denied)
    with pytest.raises(Refused) as refused:
        installation._write(units / "other.service", b"")
    assert "--user" in refused.value.message


def test_a_folder_of_any_name_is_known_again_in_its_definition() -> None:
    assert marker_in("<string>sync-agent service, /srv/A &amp; B</string>") == "sync-agent service, /srv/A & B"
    assert marker_in("[Unit]\nDescription=somebody's own") is None


# --- stepping aside ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("platform", ["win32", "darwin", "linux", "sunos5"])
def test_a_thread_steps_aside_in_each_systems_own_way(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[object, ...]] = []

    class Library:
        def __getattr__(self, name: str) -> Any:
            def call(*arguments: object) -> int:
                said.append((name, *arguments))
                return 7

            return call

    class Libraries:
        kernel32 = Library()

    monkeypatch.setattr("protocol.replica.service.priority.sys.platform", platform)
    monkeypatch.setattr("protocol.replica.service.priority.ctypes.windll", Libraries(), raising=False)
    monkeypatch.setattr("protocol.replica.service.priority.ctypes.CDLL", lambda _name: Library())
    monkeypatch.setattr("protocol.replica.service.priority.os.getpriority", lambda _which, _who: 0)
    monkeypatch.setattr(
        "protocol.replica.service.priority.os.setpriority", lambda _which, _who, level: said.append(("nice", level))
    )
    monkeypatch.setattr("protocol.replica.service.priority.platform.machine", lambda: "x86_64")
    priority.step_aside()
    assert said == {
        "win32": [("GetCurrentThread",), ("SetThreadPriority", 7, -1)],
        "darwin": [("setiopolicy_np", 0, 1, 4)],
        "linux": [("nice", 10), ("syscall", 251, 1, 0, (2 << 13) | 7)],
    }.get(platform, [])


def test_what_the_system_refuses_stops_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("protocol.replica.service.priority.os.setpriority", refused)
    priority.step_aside()
