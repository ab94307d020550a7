"""A service as a property list of launchd (launchd.plist(5)): pure bytes.

It starts at boot (or when the person signs in), again after a failure, and gives way to people: launchd's "background"
processes are throttled for CPU and disk. A log file takes what systemd's journal would.
"""

from __future__ import annotations

import plistlib
from pathlib import PurePosixPath
from typing import Any, Final

from protocol.replica.service.definition import RESTART_S, STOP_S, UMASK, Scope, ServiceDefinition

DAEMONS: Final = "/Library/LaunchDaemons"
AGENTS: Final = "Library/LaunchAgents"
_PREFIX: Final = "fr.relais"


def label(name: str) -> str:
    """What launchd calls a service."""
    return f"{_PREFIX}.{name}"


def plist_name(name: str) -> str:
    """The file of a service's property list."""
    return f"{label(name)}.plist"


def log_file(service: ServiceDefinition) -> str:
    """Where the program writes its log."""
    return str(PurePosixPath(service.data_dir) / "logs" / f"{service.name}.log")


def plist_bytes(service: ServiceDefinition) -> bytes:
    """The property list; its marker stands in `RelaisService`, a key that launchd leaves alone."""
    nature = service.nature
    document: dict[str, Any] = {
        "Label": label(service.name),
        "RelaisService": service.marker,
        "ProgramArguments": [*service.argv, "--log-file", log_file(service)],
        "WorkingDirectory": str(service.data_dir),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": RESTART_S,
        "ExitTimeOut": STOP_S,
        "Umask": UMASK,
        "SoftResourceLimits": {"NumberOfFiles": nature.open_files},
        "StandardOutPath": "/dev/null",
        "StandardErrorPath": "/dev/null",
    }
    if nature.nice:
        document |= {"ProcessType": "Background", "Nice": nature.nice, "LowPriorityIO": True}
    if service.scope is Scope.SYSTEM and service.account is not None:
        document["UserName"] = service.account
    return plistlib.dumps(document, sort_keys=False)


def domain(scope: Scope, user: int) -> str:
    """Where launchd keeps a service: the machine's domain, or a person's while they are signed in."""
    return "system" if scope is Scope.SYSTEM else f"gui/{user}"


def running_of(printed: str) -> tuple[bool, int | None]:
    """What `launchctl print` says: whether the service runs, and how its last process ended."""
    running, last = False, None
    for line in printed.splitlines():
        key, _, value = (part.strip() for part in line.partition("="))
        if key == "state":
            running = value == "running"
        elif key == "last exit code" and value.lstrip("-").isdecimal():
            last = int(value)
    return running, last
