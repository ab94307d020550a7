"""A service in each system's own words, and what the systems' tools say of them."""

from __future__ import annotations

import plistlib
import re
import subprocess
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest

from protocol.errors import BadInput, Code
from protocol.replica.service import launchd, systemd, windows
from protocol.replica.service.definition import AGENT, SERVER, Nature, Scope, ServiceDefinition, service_name

NAMES = {AGENT: "relais-agent", SERVER: "relais-server"}
WORST_EXPOSURE = 1.5


def service(
    nature: Nature = AGENT,
    scope: Scope = Scope.SYSTEM,
    data_dir: str = "/var/lib/relais",
    account: str | None = None,
    command: tuple[str, ...] = ("/bin/true",),
) -> ServiceDefinition:
    return ServiceDefinition(nature, NAMES[nature], scope, command, PurePosixPath(data_dir), account)


def settings(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^([A-Za-z]+)=(.*)$", text, re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize("nature", [AGENT, SERVER])
@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize(("data_dir", "account"), [("/var/lib/relais", None), ("/srv/relais d'été", "daemon")])
def test_systemd_understands_the_whole_unit_and_finds_it_hardened(
    tmp_path: Path, nature: Nature, scope: Scope, data_dir: str, account: str | None
) -> None:
    unit = tmp_path / f"{NAMES[nature]}.service"
    unit.write_text(systemd.unit_text(service(nature, scope, data_dir, account)), encoding="utf-8")
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
    if scope is Scope.SYSTEM:
        judged = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--no-pager", unit],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        exposure = re.search(r"exposure level for \S+: ([0-9.]+)", judged.stdout)
        assert exposure is not None
        assert float(exposure[1]) <= WORST_EXPOSURE


def test_the_unit_starts_before_the_network_and_again_after_every_failure() -> None:
    unit = settings(systemd.unit_text(service()))
    assert not {"After", "Wants", "Requires", "BindsTo"} & unit.keys()
    assert unit["Restart"] == ["on-failure"]
    assert unit["StartLimitIntervalSec"] == ["0"], "it never gives up"
    assert unit["Type"] == ["notify"]
    assert unit["WatchdogSec"] == ["90"]


def test_only_the_data_folder_can_be_written_and_root_is_never_needed() -> None:
    state = settings(systemd.unit_text(service()))
    assert (state["DynamicUser"], state["StateDirectory"], state["ProtectSystem"]) == (["yes"], ["relais"], ["strict"])
    assert "ReadWritePaths" not in state
    owned = settings(systemd.unit_text(service(data_dir="/srv/relais", account="relais")))
    assert (owned["User"], owned["ReadWritePaths"]) == (["relais"], ["/srv/relais"])
    assert owned["CapabilityBoundingSet"] == [""]


def test_an_agent_gives_way_to_people_and_a_server_does_not() -> None:
    agent, server = settings(systemd.unit_text(service())), settings(systemd.unit_text(service(SERVER)))
    assert (agent["Nice"], agent["CPUWeight"], agent["IOSchedulingPriority"]) == (["5"], ["30"], ["7"])
    assert "Nice" not in server


def test_a_home_is_shut_off_unless_the_data_lies_in_one() -> None:
    assert settings(systemd.unit_text(service()))["ProtectHome"] == ["yes"]
    at_home = service(data_dir="/home/petit/relais", account="petit")
    assert settings(systemd.unit_text(at_home))["ProtectHome"] == ["read-only"]


def test_what_systemd_would_replace_in_a_path_stays_as_it_is() -> None:
    text = systemd.unit_text(service(scope=Scope.USER, data_dir='/home/é l/100%/$x/"y"'))
    assert 'ExecStart=/bin/true run --data "/home/é l/100%%/$$x/\\"y\\""' in text


def test_a_persons_unit_asks_for_nothing_that_their_manager_may_not_give() -> None:
    unit = settings(systemd.unit_text(service(scope=Scope.USER)))
    assert not {"User", "DynamicUser", "PrivateTmp", "ProtectSystem", "PrivateDevices", "StateDirectory"} & unit.keys()
    assert unit["NoNewPrivileges"] == ["yes"]


def test_launchd_starts_it_at_boot_again_after_a_failure_and_in_the_background() -> None:
    plist = plistlib.loads(launchd.plist_bytes(service(account="relais", command=("/opt/relais/bin/sync-agent",))))
    assert plist["Label"] == "fr.relais.relais-agent"
    assert plist["ProgramArguments"][:4] == ["/opt/relais/bin/sync-agent", "run", "--data", "/var/lib/relais"]
    assert (plist["RunAtLoad"], plist["KeepAlive"]) == (True, {"SuccessfulExit": False})
    assert (plist["ProcessType"], plist["LowPriorityIO"], plist["UserName"]) == ("Background", True, "relais")
    assert plist["ProgramArguments"][4:] == ["--log-file", "/var/lib/relais/logs/relais-agent.log"]
    assert plist["Umask"] == 0o077
    own = plistlib.loads(launchd.plist_bytes(service(SERVER, Scope.USER)))
    assert not {"UserName", "ProcessType"} & own.keys()


def test_launchds_own_words_tell_whether_the_service_runs() -> None:
    assert launchd.running_of("x = {\n\tstate = running\n\tlast exit code = (never exited)\n}") == (True, None)
    assert launchd.running_of("x = {\n\tstate = waiting\n\tlast exit code = 78\n}") == (False, 78)


def test_windows_gets_one_command_line_an_account_of_its_own_and_restarts() -> None:
    program = r"C:\Program Files\Relais\Scripts\sync-agent.exe"
    known = windows.registration_of(
        ServiceDefinition(AGENT, "relais-agent", Scope.SYSTEM, (program,), PureWindowsPath(r"C:\École\relais"), None)
    )
    assert known.command_line == rf'"{program}" service host --name relais-agent --data C:\École\relais'
    assert known.account == r"NT SERVICE\relais-agent"
    assert known.restart_after_ms == (10_000, 30_000, 60_000)


@pytest.mark.parametrize("name", ["", "Relais", "../x", "a b", "é", "x" * 49, "-x"])
def test_a_name_that_some_system_would_not_take_is_refused(name: str) -> None:
    with pytest.raises(BadInput) as raised:
        service_name(name)
    assert raised.value.code is Code.USAGE
