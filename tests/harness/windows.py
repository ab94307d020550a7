"""Windows' service manager, as far as pywin32's modules show it: services that are kept, started, asked and forgotten.

It stands where pywin32 would be (`installed`), so that everything of ours down to its calls is run on any machine. What
it keeps is what was said to the real one's functions, argument by argument (learn.microsoft.com, "winsvc.h").
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest

ACCESS_DENIED = 5
SERVICE_EXISTS = 1073
NO_SUCH_SERVICE = 1060
STOPPED, STOPPING, RUNNING = 1, 3, 4


class Win32Error(Exception):
    """`pywintypes.error`: a number, the function that failed, and Windows' sentence."""

    def __init__(self, winerror: int, funcname: str, strerror: str) -> None:
        super().__init__(winerror, funcname, strerror)
        self.winerror, self.funcname, self.strerror = winerror, funcname, strerror


@dataclass
class Service:
    """What the manager keeps of one service."""

    created_with: tuple[Any, ...]
    config: dict[int, Any] = field(default_factory=dict)
    state: int = STOPPED


@dataclass
class ServiceManager:
    """The manager. `refuses` has every opening denied; `open_handles` counts what was not given back."""

    services: dict[str, Service] = field(default_factory=dict)
    refuses: Win32Error | None = None
    open_handles: int = 0
    events: list[str] = field(default_factory=list)
    stop_after: Callable[[Any], None] | None = None
    ended_with: BaseException | None = None
    told_states: list[int] = field(default_factory=list)
    rights: dict[str, int] = field(default_factory=dict)
    """What the handle of each service that was opened last is good for."""

    # win32service

    def open_manager(self, _machine: None, _database: None, _access: int) -> str:
        if self.refuses is not None:
            raise self.refuses
        self.open_handles += 1
        return "manager"

    def create(self, manager: str, name: str, *rest: Any) -> str:
        assert manager == "manager"
        if name in self.services:
            raise Win32Error(SERVICE_EXISTS, "CreateService", "The specified service already exists.")
        self.services[name] = Service(rest)
        self.rights[name] = rest[1]
        self.open_handles += 1
        return name

    def open(self, manager: str, name: str, access: int) -> str:
        assert manager == "manager"
        self.rights[name] = access
        self._of(name, "OpenService")
        self.open_handles += 1
        return name

    def close(self, _handle: str) -> None:
        self.open_handles -= 1

    def configure(self, name: str, level: int, value: Any) -> None:
        self.services[name].config[level] = value

    def config_of(self, name: str, level: int) -> Any:
        # the right to read the configuration, which the one to ask for the state does not bring
        if not self.rights[name] & 1:
            raise Win32Error(ACCESS_DENIED, "QueryServiceConfig2", "Access is denied.")
        return self.services[name].config.get(level)

    def start(self, name: str, _arguments: None) -> None:
        self.services[name].state = RUNNING

    def delete(self, name: str) -> None:
        del self.services[name]

    # win32serviceutil

    def status(self, name: str) -> tuple[int, int]:
        if self.refuses is not None:
            raise self.refuses
        return (0x10, self._of(name, "OpenService").state)

    def stop(self, name: str, **_how: Any) -> None:
        self._of(name, "OpenService").state = STOPPED

    def _of(self, name: str, function: str) -> Service:
        if name not in self.services:
            raise Win32Error(NO_SUCH_SERVICE, function, "The specified service does not exist as an installed service.")
        return self.services[name]

    # servicemanager: the dispatcher makes the service's object, runs it, and hears what it ends with

    def dispatch(self) -> None:
        service = self._hosted()
        if self.stop_after is not None:
            self.stop_after(service)
        try:
            service.SvcDoRun()
        except SystemError as error:
            self.ended_with = error

    def prepare(self, hosted: Callable[[], Any]) -> None:
        self._hosted = hosted

    def installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have `import win32service` and its kin give this manager, for one test."""
        told = self.told_states

        class ServiceFramework:
            def ReportServiceStatus(self, state: int, **_how: Any) -> None:  # noqa: N802  (pywin32's name)
                told.append(state)

            def GetAcceptedControls(self) -> int:  # noqa: N802  (pywin32's name)
                # winsvc.h: STOP and SHUTDOWN, as pywin32 finds them by the methods that there are
                return 1 | 4

        parts: dict[str, dict[str, Any]] = {
            "pywintypes": {"error": Win32Error},
            "win32service": {
                "OpenSCManager": self.open_manager,
                "CreateService": self.create,
                "OpenService": self.open,
                "CloseServiceHandle": self.close,
                "ChangeServiceConfig2": self.configure,
                "QueryServiceConfig2": self.config_of,
                "StartService": self.start,
                "DeleteService": self.delete,
            },
            "win32serviceutil": {
                "QueryServiceStatus": self.status,
                "StopServiceWithDeps": self.stop,
                "ServiceFramework": ServiceFramework,
            },
            "servicemanager": {
                "Initialize": lambda _name, _file: None,
                "PrepareToHostSingle": self.prepare,
                "StartServiceCtrlDispatcher": self.dispatch,
                "LogInfoMsg": self.events.append,
                "LogErrorMsg": self.events.append,
            },
        }
        for name, members in parts.items():
            module = ModuleType(name)
            vars(module).update(members)
            monkeypatch.setitem(sys.modules, name, module)
