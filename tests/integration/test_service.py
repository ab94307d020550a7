"""Agent and server as services: what they tell the manager that started them, and what is installed where."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from protocol.errors import BadInput, Code, LocalFailure, Refused
from protocol.replica.service.definition import AGENT, SERVER, Scope, ServiceDefinition
from protocol.replica.service.installation import Ran, System, account_for, install, status, uninstall
from tests.harness.machines import Machine, School, environment, school
from tests.harness.patience import PATIENCE_S, eventually
from tests.harness.service_manager import ServiceManager

WATCHDOG_US = 300_000


@contextmanager
def managed(machine: Machine, *options: str) -> Iterator[tuple[ServiceManager, subprocess.Popen[bytes]]]:
    """A program started as a service manager starts it, with a watchdog."""
    with ServiceManager() as manager:
        asked = environment(**manager.asks, WATCHDOG_USEC=str(WATCHDOG_US))
        process = subprocess.Popen(machine.command("run", *options), env=asked, stderr=subprocess.DEVNULL)
        try:
            yield manager, process
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def cm1(tmp_path: Path) -> Iterator[School]:
    with school(tmp_path) as found:
        yield found


def test_an_agent_tells_its_manager_ready_how_it_goes_signs_of_life_and_its_end(cm1: School) -> None:
    with managed(cm1.enrol("Renard")) as (manager, process):
        manager.waits_for("READY", lambda value: value == "1")
        manager.waits_for("STATUS", lambda value: value == "in step with the server")
        assert manager.waits_for("WATCHDOG") == "1"
        cm1.server.kill()
        manager.waits_for("STATUS", lambda value: "cannot be reached" in value)
        process.send_signal(signal.SIGTERM)
        manager.waits_for("STOPPING", lambda value: value == "1")
        assert process.wait(PATIENCE_S) == 0


def test_what_works_behind_peoples_backs_steps_aside_and_what_answers_them_does_not(cm1: School) -> None:
    with managed(cm1.enrol("Renard")) as (manager, process):
        manager.waits_for("STATUS", lambda value: value == "in step with the server")
        own = os.getpriority(os.PRIO_PROCESS, 0)
        threads = Path(f"/proc/{process.pid}/task").iterdir()
        nice = {
            int(thread.name): int((thread / "stat").read_text().rpartition(")")[2].split()[16]) for thread in threads
        }
        assert nice[process.pid] == own
        assert max(10, own) in nice.values()


def test_an_agent_whose_loop_hangs_gives_no_sign_of_life(cm1: School) -> None:
    with managed(cm1.enrol("Renard")) as (manager, process):
        manager.waits_for("WATCHDOG")
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(TimeoutError):
            manager.waits_for("WATCHDOG", lambda _: False, patience_s=3 * WATCHDOG_US / 1_000_000)
        process.send_signal(signal.SIGCONT)
        assert manager.waits_for("WATCHDOG") == "1"


def test_a_server_tells_its_manager_ready_signs_of_life_and_its_end(cm1: School) -> None:
    cm1.server.stop()
    with managed(cm1.server, "--listen", "127.0.0.1:0") as (manager, process):
        assert re.fullmatch(r"serves on http://127\.0\.0\.1:\d+", manager.told()["STATUS"])
        assert manager.waits_for("WATCHDOG") == "1"
        process.send_signal(signal.SIGTERM)
        manager.waits_for("STOPPING")
        assert process.wait(PATIENCE_S) == 0


def test_a_log_file_tells_when_trouble_began_and_that_it_is_over(cm1: School) -> None:
    renard = cm1.enrol("Renard")
    log = cm1.folder / "agent.log"
    renard.start("--log-file", str(log))
    cm1.server.kill()
    eventually("trouble in the log", lambda: "cannot be reached" in log.read_text(encoding="utf-8"))
    cm1.restart_server()
    eventually("its end in the log", lambda: "the server is reached again" in log.read_text(encoding="utf-8"))
    assert renard.stop() == 0
    first = log.read_text(encoding="utf-8").splitlines()[0]
    assert re.match(r'time=\S+Z level=info from=sync_agent\.daemon message="ready: ', first)


SECRETS = ("Léa", "Petit", "volcan", "Exposé", "réponse", "secret", "passphrase")


def test_no_log_names_a_pupil_a_title_a_file_or_a_secret(cm1: School, tmp_path: Path) -> None:
    cm1.server.stop()
    (tmp_path / "anne.txt").write_text("passphrase very secret", encoding="utf-8")
    cm1.server.ok("administrator", "add", "anne", "--passphrase-file", str(tmp_path / "anne.txt"))
    cm1.restart_server()
    code = cm1.invite("machine")
    teacher, renard = cm1.enrol("laptop", "teacher"), Machine("renard", cm1.folder / "renard", "sync-agent")
    cm1.agents["renard"] = renard
    renard.ok("enroll", "--server", cm1.url, "--code", code, "--name", "Renard")
    teacher.start()
    renard.start("--portal", "127.0.0.1:0")

    # a week of a class, with what goes wrong in one: names that cannot be, content that rots, a server that is gone
    folder = eventually("the class's folder", lambda: next(iter((teacher.folder / "publish").glob("CM1")), None))
    (folder / "Le secret du volcan").mkdir()
    (folder / "Le secret du volcan" / "Exposé de Léa.odt").write_bytes(b"x" * 200_000)
    (folder / "Léa et le volcan").mkdir()
    (folder / "Léa et le volcan" / "Léa et moi?.txt").write_bytes(b"a name that Windows cannot have")
    eventually("the lesson arrives", lambda: [row for row in renard.ok("items") if row["complete"]])
    eventually("the refusal is known", lambda: teacher.ok("status")["watch"]["problems"])
    task = teacher.ok(
        "publish",
        str(folder / "Le secret du volcan"),
        "--space",
        cm1.space,
        "--title",
        "volcan",
        "--kind",
        "assignment",
    )["item"]
    eventually("the assignment arrives", lambda: task in {row["item"] for row in renard.ok("items") if row["complete"]})
    (tmp_path / "réponse de Léa.txt").write_text("ma réponse", encoding="utf-8")
    work = renard.ok("hand-in", task, str(tmp_path / "réponse de Léa.txt"), "--person", cm1.pupil)["id"]
    eventually("the work arrives", lambda: [row for row in teacher.ok("hand-ins") if row["files"]])
    teacher.ok("feedback", work, "--text", "Bravo Léa")
    assert renard.run("cat", task, "Exposé de quelqu'un").status == 2
    for pack in renard.folder.glob("packs/*/*.pack"):
        pack.write_bytes(b"rotten" + pack.read_bytes()[6:])
    renard.run("cat", task, "Exposé de Léa.odt", raw=True)
    renard.run("checkout", task, str(tmp_path / "out"))
    cm1.server.kill()
    served = cm1.server.log.read_text(encoding="utf-8")
    eventually("trouble is logged", lambda: "cannot be reached" in renard.log.read_text(encoding="utf-8"))
    assert (teacher.stop(), renard.stop()) == (0, 0)
    logs = served + teacher.log.read_text(encoding="utf-8") + renard.log.read_text(encoding="utf-8")
    assert "ready" in logs
    for word in (*SECRETS, code, code[:8]):
        assert word.casefold() not in logs.casefold(), word


# --- installation -----------------------------------------------------------------------------------------------------


class Commands:
    """A system's commands, noted instead of run: no test may start services on the machine that runs it."""

    def __init__(self, answers: dict[str, Ran] | None = None) -> None:
        self.run: list[str] = []
        self._answers = answers or {}

    def __call__(self, words: Sequence[str]) -> Ran:
        line = " ".join(words)
        self.run.append(line)
        return next((ran for part, ran in self._answers.items() if part in line), Ran(0, "", ""))


class Launchd(Commands):
    """A Mac's service manager: it knows a service between `bootstrap` and `bootout`."""

    def __init__(self) -> None:
        super().__init__({"print": Ran(0, "state = running\n", "")})
        self._knows = False

    def __call__(self, words: Sequence[str]) -> Ran:
        ran = super().__call__(words)
        if words[1] != "print":
            self._knows = words[1] == "bootstrap"
        elif not self._knows:
            return Ran(113, "", "Could not find service")
        return ran


def system_at(folder: Path, commands: Commands, platform: str = "linux", *, booted: bool = True) -> System:
    return System(platform, folder, folder / "home", 1000, commands, booted)


def agent_service(folder: Path, scope: Scope = Scope.SYSTEM, data: str = "data") -> ServiceDefinition:
    (folder / data).mkdir(exist_ok=True)
    return ServiceDefinition(AGENT, "relais-agent", scope, ("/bin/true",), folder / data, "nobody")


def test_installing_writes_the_unit_starts_it_now_and_at_boot_and_uninstalling_leaves_nothing(tmp_path: Path) -> None:
    commands = Commands({"show": Ran(0, "ActiveState=active\nUnitFileState=enabled\nStatusText=in step\n", "")})
    system = system_at(tmp_path, commands)
    service = agent_service(tmp_path)
    install(service, system, print)
    unit = tmp_path / "etc/systemd/system/relais-agent.service"
    assert unit.read_text(encoding="utf-8").startswith(f"# sync-agent service, {tmp_path}/data\n")
    assert commands.run == [
        "systemctl daemon-reload", "systemctl enable relais-agent.service", "systemctl restart relais-agent.service",
    ]  # fmt: skip
    found = status("relais-agent", Scope.SYSTEM, system)
    assert (found["running"], found["starts_at_boot"], found["status"]) == (True, True, "in step")
    uninstall(AGENT, "relais-agent", Scope.SYSTEM, tmp_path / "data", system)
    assert not unit.exists()
    assert status("relais-agent", Scope.SYSTEM, system)["installed"] is False
    assert (tmp_path / "data").is_dir()


def test_installing_twice_is_an_update_and_a_foreign_service_is_never_touched(tmp_path: Path) -> None:
    system = system_at(tmp_path, Commands())
    install(agent_service(tmp_path), system, print)
    install(agent_service(tmp_path), system, print)
    with pytest.raises(BadInput) as raised:
        install(agent_service(tmp_path, data="other"), system, print)
    assert raised.value.code is Code.ALREADY_INSTALLED
    with pytest.raises(BadInput):
        uninstall(SERVER, "relais-agent", Scope.SYSTEM, tmp_path / "data", system)
    assert (tmp_path / "etc/systemd/system/relais-agent.service").exists()


def test_the_service_of_another_folder_is_not_taken_away_while_that_folder_is_there(tmp_path: Path) -> None:
    system = system_at(tmp_path, Commands())
    install(agent_service(tmp_path), system, print)
    (tmp_path / "other").mkdir()
    with pytest.raises(BadInput, match=r"serves .*/data, not .*/other"):
        uninstall(AGENT, "relais-agent", Scope.SYSTEM, tmp_path / "other", system)
    (tmp_path / "data").rename(tmp_path / "moved")
    uninstall(AGENT, "relais-agent", Scope.SYSTEM, tmp_path / "other", system)
    assert not (tmp_path / "etc/systemd/system/relais-agent.service").exists()


@pytest.mark.parametrize(
    ("folder", "scope"), [("usr/lib/systemd/system", Scope.SYSTEM), ("usr/lib/systemd/user", Scope.USER)]
)
def test_a_unit_that_came_with_the_system_is_not_hidden_by_one_of_its_name(
    tmp_path: Path, folder: str, scope: Scope
) -> None:
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "relais-agent.service").write_text("[Unit]\n", encoding="utf-8")
    commands = Commands()
    with pytest.raises(BadInput) as raised:
        install(agent_service(tmp_path, scope), system_at(tmp_path, commands), print)
    assert raised.value.code is Code.ALREADY_INSTALLED
    assert commands.run == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_disk_without_room_for_the_definition_is_said_and_keeps_no_part_of_it(tmp_path: Path) -> None:
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    (units / ".relais-agent.service.new").symlink_to("/dev/full")
    with pytest.raises(LocalFailure) as raised:
        install(agent_service(tmp_path), system_at(tmp_path, Commands()), print)
    assert raised.value.code is Code.DISK_FULL
    assert list(units.iterdir()) == []


def test_an_image_that_is_not_booted_is_prepared_for_its_first_boot(tmp_path: Path) -> None:
    commands, said = Commands(), list[str]()
    install(agent_service(tmp_path), system_at(tmp_path, commands, booted=False), said.append)
    assert commands.run == ["systemctl enable relais-agent.service"]
    assert "when it is booted" in said[0]


def test_a_person_installs_a_service_of_their_own_without_the_systems_rights(tmp_path: Path) -> None:
    commands = Commands()
    install(agent_service(tmp_path, Scope.USER), system_at(tmp_path, commands), print)
    assert (tmp_path / "home/.config/systemd/user/relais-agent.service").exists()
    assert commands.run[0] == "systemctl --user daemon-reload"


def test_on_a_mac_launchd_is_told(tmp_path: Path) -> None:
    commands = Launchd()
    system = system_at(tmp_path, commands, "darwin")
    install(agent_service(tmp_path), system, print)
    plist = tmp_path / "Library/LaunchDaemons/fr.relais.relais-agent.plist"
    assert plist.exists()
    assert commands.run[-1] == f"launchctl bootstrap system {plist}"
    assert status("relais-agent", Scope.SYSTEM, system)["running"] is True
    uninstall(AGENT, "relais-agent", Scope.SYSTEM, tmp_path / "data", system)
    assert not plist.exists()


def test_a_manager_that_refuses_is_quoted(tmp_path: Path) -> None:
    commands = Commands({"restart": Ran(1, "", "Job for relais-agent.service failed.\n")})
    with pytest.raises(LocalFailure) as raised:
        install(agent_service(tmp_path), system_at(tmp_path, commands), print)
    assert raised.value.code is Code.SERVICE_FAILED
    assert "Job for relais-agent.service failed." in raised.value.message


def test_a_program_that_the_services_account_cannot_reach_is_not_installed(tmp_path: Path) -> None:
    program = tmp_path / "private" / "sync-agent"
    program.parent.mkdir(mode=0o700)
    program.write_text("", encoding="utf-8")
    service = ServiceDefinition(AGENT, "relais-agent", Scope.SYSTEM, (str(program),), Path("/var/lib/relais"), None)
    with pytest.raises(BadInput) as raised:
        install(service, system_at(tmp_path, Commands()), print)
    assert "/opt/relais" in raised.value.message


def test_no_service_runs_as_root(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as raised:
        account_for(tmp_path, 0)
    assert "root" in raised.value.message
    assert account_for(tmp_path, 65534) == "nobody"
    assert account_for(Path("/var/lib/relais"), 0) is None, "systemd makes an account for it"
    assert account_for(Path("/var/lib/private/relais"), 61_500) is None, "and keeps it"


def test_without_the_right_a_person_is_told_of_both_ways(tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("not a folder", encoding="utf-8")
    with pytest.raises((Refused, LocalFailure)) as raised:
        install(agent_service(tmp_path), system_at(tmp_path, Commands()), print)
    assert raised.value.code in (Code.NO_RIGHT, Code.STORAGE_FAILED)
