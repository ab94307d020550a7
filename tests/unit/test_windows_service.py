"""A service of Windows, from `service install` down to pywin32's calls, before a manager that keeps what it is told."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

import pytest

from protocol.errors import BadInput, Code, LocalFailure, Refused
from protocol.replica.console.operation import JSON
from protocol.replica.service import windows
from protocol.replica.service.definition import AGENT, SERVER, Scope, ServiceDefinition
from protocol.replica.service.hosting import asked_by_host
from protocol.replica.service.installation import Ran, System, install, status, uninstall
from tests.harness.patience import PATIENCE_S
from tests.harness.windows import ACCESS_DENIED, RUNNING, STOPPING, ServiceManager, Win32Error

DIR = r"C:\ProgramData\Relais"


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> ServiceManager:
    made = ServiceManager()
    made.installed(monkeypatch)
    return made


class Machine:
    """A PC with Windows: what was run on it, and what its commands answer."""

    def __init__(self, icacls: Ran = Ran(0, "", "")) -> None:  # noqa: B008  (frozen)
        self.ran: list[str] = []
        self._icacls = icacls
        self.system = System("win32", Path("/"), Path("/home"), -1, self._run, booted=True)

    def _run(self, words: Sequence[str]) -> Ran:
        self.ran.append(" ".join(words))
        return self._icacls


def agent(data_dir: str = DIR) -> ServiceDefinition:
    program = r"C:\Program Files\Relais\Scripts\sync-agent.exe"
    return ServiceDefinition(AGENT, "relais-agent", Scope.SYSTEM, (program,), PureWindowsPath(data_dir), None)


def test_it_is_registered_given_its_folder_and_started(manager: ServiceManager) -> None:
    pc = Machine()
    assert install(agent(), pc.system, print) == {"service": "relais-agent", "file": None}
    kept = manager.services["relais-agent"]
    assert kept.state == RUNNING
    shown, access, kind, start, _error, command = kept.created_with[:6]
    assert (shown, kind, start) == ("Relais: coursework on this machine", windows.OWN_PROCESS, windows.AUTO_START)
    assert access == windows.MAY_DO_EVERYTHING
    assert command.endswith(rf"service host --name relais-agent --data {DIR}")
    assert r"NT SERVICE\relais-agent" in kept.created_with, "never as LocalSystem"
    assert kept.config[windows.CONFIG_PRIVILEGES] == ["SeChangeNotifyPrivilege"]
    assert kept.config[windows.CONFIG_FAILURE_ACTIONS]["Actions"] == [(1, 10_000), (1, 30_000), (1, 60_000)]
    assert kept.config[windows.CONFIG_FAILURE_FLAG] is True, "a program that ends in failure starts again too"
    accounts = r"NT SERVICE\relais-agent:(OI)(CI)M *S-1-5-18:(OI)(CI)F *S-1-5-32-544:(OI)(CI)F"
    assert pc.ran == [
        rf"C:\Windows\System32\icacls.exe {DIR} {step} /T /Q"
        for step in ("/setowner *S-1-5-32-544", "/reset", f"/inheritance:r /grant:r {accounts}")
    ], "no other account of the PC reads the keys in it, whoever had made the folder before"
    assert manager.open_handles == 0


def test_status_tells_whether_it_is_there_and_runs(manager: ServiceManager) -> None:
    system = Machine().system
    assert status("relais-agent", Scope.SYSTEM, system)["installed"] is False
    install(agent(), system, print)
    found = status("relais-agent", Scope.SYSTEM, system)
    assert (found["installed"], found["running"], found["starts_at_boot"]) == (True, True, True)
    manager.stop("relais-agent")
    assert status("relais-agent", Scope.SYSTEM, system)["running"] is False


def test_installing_again_is_an_update_and_removing_leaves_nothing(manager: ServiceManager) -> None:
    system = Machine().system
    install(agent(), system, print)
    install(agent(), system, print)
    assert list(manager.services) == ["relais-agent"]
    assert uninstall(AGENT, "relais-agent", Scope.SYSTEM, Path(DIR), system) == {"service": "relais-agent"}
    assert manager.services == {}
    assert manager.open_handles == 0


def test_a_service_of_another_folder_or_program_is_never_touched(manager: ServiceManager) -> None:
    system = Machine().system
    install(agent(), system, print)
    attempts: list[Callable[[], JSON]] = [
        lambda: install(agent(r"D:\other"), system, print),
        lambda: uninstall(SERVER, "relais-agent", Scope.SYSTEM, Path(DIR), system),
    ]
    for attempt in attempts:
        with pytest.raises(BadInput) as raised:
            attempt()
        assert raised.value.code is Code.ALREADY_INSTALLED
    assert manager.services["relais-agent"].state == RUNNING


def test_removing_what_is_not_there_is_said(manager: ServiceManager) -> None:
    with pytest.raises(BadInput) as raised:
        uninstall(AGENT, "relais-agent", Scope.SYSTEM, Path(DIR), Machine().system)
    assert raised.value.code is Code.NOT_INSTALLED


def test_without_an_administrators_console_one_is_told_to_open_one(manager: ServiceManager) -> None:
    manager.refuses = Win32Error(ACCESS_DENIED, "OpenSCManager", "Access is denied.")
    with pytest.raises(Refused) as raised:
        install(agent(), Machine().system, print)
    assert raised.value.code is Code.NO_RIGHT
    assert "administrator" in raised.value.message


def test_what_the_manager_refuses_is_quoted(manager: ServiceManager) -> None:
    manager.refuses = Win32Error(1115, "OpenSCManager", "A system shutdown is in progress.")
    with pytest.raises(LocalFailure) as raised:
        windows.remove("relais-agent")
    assert raised.value.code is Code.SERVICE_FAILED
    assert "A system shutdown is in progress." in raised.value.message


def test_who_may_not_ask_is_told_so_and_not_that_there_is_no_service(manager: ServiceManager) -> None:
    system = Machine().system
    install(agent(), system, print)
    manager.refuses = Win32Error(ACCESS_DENIED, "OpenService", "Access is denied.")
    with pytest.raises(Refused):
        status("relais-agent", Scope.SYSTEM, system)
    with pytest.raises(Refused):
        windows.description_of("relais-agent")


def test_a_folder_that_cannot_be_given_to_it_starts_nothing(manager: ServiceManager) -> None:
    pc = Machine(Ran(5, "", "Access is denied.\r\n"))
    with pytest.raises(LocalFailure) as raised:
        install(agent(), pc.system, print)
    assert raised.value.message == "icacls failed (5): Access is denied."
    assert manager.services == {}, "nothing half installed stays, so that the next try begins anew"
    assert manager.open_handles == 0


def test_a_pc_without_pywin32_is_told_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "win32service", None)
    with pytest.raises(LocalFailure) as raised:
        windows._library("win32service")
    assert "pywin32" in raised.value.message


# --- the process that the manager starts ------------------------------------------------------------------------------


async def _runs_until_it_is_asked_to_stop() -> int:
    await asyncio.wait_for(asked_by_host().wait(), PATIENCE_S)
    return 0


@pytest.mark.parametrize("when", ["SvcStop", "SvcShutdown"])
def test_asked_to_stop_the_program_ends_as_from_a_signal(manager: ServiceManager, when: str) -> None:
    manager.stop_after = lambda service: getattr(service, when)()
    windows.host("relais-agent", lambda: asyncio.run(_runs_until_it_is_asked_to_stop()))
    assert manager.told_states == [STOPPING]
    assert manager.ended_with is None
    assert manager.events == ["relais-agent has started.", "relais-agent has stopped."]


def test_it_is_told_of_a_shutdown_early_enough_to_end_in_good_order(manager: ServiceManager) -> None:
    def shut_down(service: Any) -> None:
        assert service.GetAcceptedControls() == 1 | 4 | windows.ACCEPT_PRESHUTDOWN, "Windows asks only who listens"
        service.SvcOtherEx(windows.CONTROL_PRESHUTDOWN, 0, None)

    manager.stop_after = shut_down
    windows.host("relais-agent", lambda: asyncio.run(_runs_until_it_is_asked_to_stop()))
    assert manager.told_states == [STOPPING]
    assert manager.events[-1] == "relais-agent has stopped."


def test_a_stop_from_another_thread_reaches_a_program_that_waits(manager: ServiceManager) -> None:
    stop: list[object] = []

    async def program() -> int:
        waiting = asyncio.create_task(_runs_until_it_is_asked_to_stop())
        await asyncio.sleep(0)
        await asyncio.to_thread(stop[0].SvcStop)  # type: ignore[attr-defined]
        return await waiting

    manager.stop_after = stop.append
    windows.host("relais-agent", lambda: asyncio.run(program()))
    assert manager.events[-1] == "relais-agent has stopped."


def test_a_program_that_fails_is_no_ordinary_end_so_that_windows_starts_it_again(manager: ServiceManager) -> None:
    windows.host("relais-agent", lambda: 1)
    assert isinstance(manager.ended_with, SystemError)
    assert manager.events[-1] == "relais-agent has failed (1); its log tells more."


async def test_a_program_without_a_host_waits_for_signals_alone() -> None:
    assert not asked_by_host().is_set()


def test_its_log_lies_in_its_folder() -> None:
    assert windows.log_file(PureWindowsPath(DIR), "relais-agent") == rf"{DIR}\logs\relais-agent.log"
