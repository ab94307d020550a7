r"""A service of Windows: what its service manager is told, and the process that it starts.

The manager starts `sync-… service host`, which answers its controls and runs the program in the same process.

Rules:
- an account of its own (`NT SERVICE\<name>`), which may read Windows and write DIR, and nothing else; no privilege but
  the one that every process needs to walk through folders;
- it starts with Windows, without waiting for the network, and again after a failure;
- start, end and failure are in Windows' event log; all else is in DIR\logs, bounded.

The pywin32 calls are at the end; what they are given is pure and above. They have run before a service manager that a
test holds (tests/harness/windows.py), never on Windows.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any, Final

from protocol.errors import Code, LocalFailure, Refused
from protocol.replica.service.definition import RESTART_S, STOP_S, ServiceDefinition
from protocol.replica.service.hosting import HOST, Host

# winnt.h, winsvc.h, winerror.h
OWN_PROCESS: Final = 0x10
AUTO_START: Final = 2
ERROR_NORMAL: Final = 1
ACTION_RESTART: Final = 1
MAY_DO_EVERYTHING: Final = 0xF01FF
MAY_READ_CONFIG: Final = 0x0001
MANAGER_MAY_CONNECT: Final = 0x0001
MANAGER_MAY_CREATE: Final = 0x0003
CONFIG_DESCRIPTION: Final = 1
CONFIG_FAILURE_ACTIONS: Final = 2
CONFIG_FAILURE_FLAG: Final = 4
CONFIG_SERVICE_SID: Final = 5
CONFIG_PRIVILEGES: Final = 6
CONFIG_PRESHUTDOWN: Final = 7
SID_UNRESTRICTED: Final = 1
ACCEPT_PRESHUTDOWN: Final = 0x100
CONTROL_PRESHUTDOWN: Final = 15
STATE_STOPPING: Final = 3
STATE_RUNNING: Final = 4
NO_SUCH_SERVICE: Final = 1060
ACCESS_DENIED: Final = 5
WALK_FOLDERS: Final = "SeChangeNotifyPrivilege"
_DAY_S: Final = 24 * 3600
_USUAL_SYSTEM_FOLDER: Final = r"C:\Windows\System32"
_MAX_PATH_CHARS: Final = 260
_SYSTEM: Final = "S-1-5-18"
_ADMINISTRATORS: Final = "S-1-5-32-544"


@dataclass(frozen=True, slots=True)
class Registration:
    """What the service manager keeps of a service."""

    name: str
    shown_name: str
    description: str
    command_line: str
    account: str
    restart_after_ms: tuple[int, ...]
    failures_forgotten_after_s: int


def registration_of(service: ServiceDefinition) -> Registration:
    """The service in the manager's words."""
    host = [*service.command, "service", "host", "--name", service.name, "--data", str(service.data_dir)]
    return Registration(
        service.name,
        service.nature.summary,
        f"{service.nature.summary}. {service.marker}",
        subprocess.list2cmdline(host),
        account_of(service.name),
        tuple(1000 * RESTART_S * factor for factor in (1, 3, 6)),
        _DAY_S,
    )


def account_of(name: str) -> str:
    """The virtual account that Windows makes for a service."""
    return f"NT SERVICE\\{name}"


def rights_commands(service: ServiceDefinition) -> list[list[str]]:
    """How DIR is given, with all below it, to the service's account, the system and administrators, and to nobody else.

    Folders under ProgramData are readable by every account of the PC until inheritance ends, and may be made by every
    one beforehand: whoever did owns it, and has rights of their choice. So administrators become the owners, what was
    granted before goes, then these are. Keys lie in DIR. Groups are named by their SIDs, which no language of Windows
    translates. The program is named by its place: a bare name is looked for in the current folder first, and who
    installs a service may do everything.
    """
    accounts = (f"{account_of(service.name)}:(OI)(CI)M", *(f"*{sid}:(OI)(CI)F" for sid in (_SYSTEM, _ADMINISTRATORS)))
    steps = (["/setowner", f"*{_ADMINISTRATORS}"], ["/reset"], ["/inheritance:r", "/grant:r", *accounts])
    program = str(PureWindowsPath(system_folder(), "icacls.exe"))
    return [[program, str(service.data_dir), *step, "/T", "/Q"] for step in steps]


def system_folder() -> str:
    """Where Windows keeps its own programs, as it says itself: no variable that somebody may have set."""
    if sys.platform != "win32":
        return _USUAL_SYSTEM_FOLDER
    buffer = ctypes.create_unicode_buffer(_MAX_PATH_CHARS)
    ctypes.windll.kernel32.GetSystemDirectoryW(buffer, len(buffer))
    return buffer.value or _USUAL_SYSTEM_FOLDER


def log_file(data_dir: PureWindowsPath | Path, name: str) -> str:
    """Where the program writes its log."""
    return str(data_dir / "logs" / f"{name}.log")


# --- pywin32 ----------------------------------------------------------------------------------------------------------


def _library(name: str) -> Any:
    """A module of pywin32. Raises `LocalFailure(INTERNAL)` where it is not there."""
    try:
        return importlib.import_module(name)
    except ImportError as reason:
        raise LocalFailure(Code.INTERNAL, f"pywin32 is not installed ({name}); install Relais again") from reason


def install(service: ServiceDefinition, give_rights: Callable[[], object]) -> None:
    """Register the service, let `give_rights` give DIR to the account that this makes, and start it.

    Raises `Refused(NO_RIGHT)`, `LocalFailure(SERVICE_FAILED)`.
    """
    with _named():
        _install(service, give_rights)


def _install(service: ServiceDefinition, give_rights: Callable[[], object]) -> None:
    api = _library("win32service")
    known = registration_of(service)
    manager = api.OpenSCManager(None, None, MANAGER_MAY_CREATE)
    try:
        handle = api.CreateService(
            manager, known.name, known.shown_name, MAY_DO_EVERYTHING, OWN_PROCESS, AUTO_START, ERROR_NORMAL,
            known.command_line, None, 0, None, known.account, None,
        )  # fmt: skip
        try:
            _configure(api, handle, known)
            give_rights()
            api.StartService(handle, None)
        except BaseException:
            # half a service would start with Windows, and fail for ever
            api.DeleteService(handle)
            raise
        finally:
            api.CloseServiceHandle(handle)
    finally:
        api.CloseServiceHandle(manager)


def _configure(api: Any, handle: Any, known: Registration) -> None:
    actions = [(ACTION_RESTART, delay_ms) for delay_ms in known.restart_after_ms]
    failure = {"ResetPeriod": known.failures_forgotten_after_s, "RebootMsg": "", "Command": "", "Actions": actions}
    for level, value in (
        (CONFIG_DESCRIPTION, known.description),
        (CONFIG_FAILURE_ACTIONS, failure),
        (CONFIG_FAILURE_FLAG, True),
        (CONFIG_SERVICE_SID, SID_UNRESTRICTED),
        (CONFIG_PRIVILEGES, [WALK_FOLDERS]),
        (CONFIG_PRESHUTDOWN, 1000 * STOP_S),
    ):
        api.ChangeServiceConfig2(handle, level, value)


@contextlib.contextmanager
def _named() -> Iterator[None]:
    """What the manager refuses, in our words."""
    errors = _library("pywintypes")
    try:
        yield
    except errors.error as reason:
        if reason.winerror == ACCESS_DENIED:
            raise Refused(Code.NO_RIGHT, "open the console with “Run as administrator”") from reason
        raise LocalFailure(Code.SERVICE_FAILED, f"Windows' service manager refuses: {reason.strerror}") from reason


def remove(name: str) -> None:
    """Stop the service and forget it. Raises as `install` does."""
    with _named():
        _remove(name)


def _remove(name: str) -> None:
    api, tools = _library("win32service"), _library("win32serviceutil")
    if state_of(name) == STATE_RUNNING:
        tools.StopServiceWithDeps(name, waitSecs=STOP_S)
    manager = api.OpenSCManager(None, None, MANAGER_MAY_CREATE)
    try:
        handle = api.OpenService(manager, name, MAY_DO_EVERYTHING)
        try:
            api.DeleteService(handle)
        finally:
            api.CloseServiceHandle(handle)
    finally:
        api.CloseServiceHandle(manager)


def state_of(name: str) -> int | None:
    """The state of a service in the manager's numbers; None if there is none. Raises as `install` does."""
    tools, errors = _library("win32serviceutil"), _library("pywintypes")
    with _named():
        try:
            return int(tools.QueryServiceStatus(name)[1])
        except errors.error as reason:
            if reason.winerror == NO_SUCH_SERVICE:
                return None
            raise


def description_of(name: str) -> str:
    """The description that the manager keeps, which ends with our marker. Raises as `install` does."""
    with _named():
        return _description_of(name)


def _description_of(name: str) -> str:
    api = _library("win32service")
    manager = api.OpenSCManager(None, None, MANAGER_MAY_CONNECT)
    try:
        handle = api.OpenService(manager, name, MAY_READ_CONFIG)
        try:
            return str(api.QueryServiceConfig2(handle, CONFIG_DESCRIPTION) or "")
        finally:
            api.CloseServiceHandle(handle)
    finally:
        api.CloseServiceHandle(manager)


def host(name: str, program: Callable[[], int]) -> None:
    """Answer the service manager in this process, and run `program`, which gives its exit status, until it ends."""
    dispatcher = _library("servicemanager")
    framework = _library("win32serviceutil").ServiceFramework
    stopper = Host()

    def run(_service: Any) -> None:
        HOST.set(stopper)
        dispatcher.LogInfoMsg(f"{name} has started.")
        status = program()
        if status:
            # an exception tells the manager that this was no ordinary end: it starts the service again
            dispatcher.LogErrorMsg(f"{name} has failed ({status}); its log tells more.")
            raise SystemError(status)
        dispatcher.LogInfoMsg(f"{name} has stopped.")

    def stop(service: Any) -> None:
        service.ReportServiceStatus(STATE_STOPPING, waitHint=1000 * STOP_S)
        stopper.ask_to_stop()

    def accepted(service: Any) -> int:
        # the framework knows of no notice before a shutdown, which gives the time that was asked for, not five seconds
        return int(framework.GetAcceptedControls(service)) | ACCEPT_PRESHUTDOWN

    def other(service: Any, control: int, _kind: int, _data: Any) -> None:
        if control == CONTROL_PRESHUTDOWN:
            stop(service)

    told = {"SvcDoRun": run, "SvcStop": stop, "SvcShutdown": stop, "SvcOtherEx": other, "GetAcceptedControls": accepted}
    hosted = type("Hosted", (framework,), {"_svc_name_": name, "_svc_display_name_": name, **told})
    dispatcher.Initialize(name, None)
    dispatcher.PrepareToHostSingle(hosted)
    dispatcher.StartServiceCtrlDispatcher()
