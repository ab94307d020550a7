"""A service as a unit of systemd (systemd.service(5), systemd.exec(5)): pure text.

Rules:
- it starts before the network is up, and without one: nothing here waits for a target;
- a program that ends in failure, or gives no sign of life, starts again, for ever: nobody looks at a school's PC. Bad
  usage (exit 2) alone is left to a person;
- it may write its DIR and nothing else, has no capability, no device, and the calls of a plain service. Threads of an
  agent lower their own priority, which `@resources` of the filter's group allows;
- a unit of one person gets what needs no privilege of the manager: on many machines a user's manager cannot make
  namespaces, and a unit that asked for them would not start.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Final

from protocol.replica.service.definition import (
    RESTART_S,
    START_S,
    STOP_S,
    UMASK,
    WATCHDOG_S,
    Scope,
    ServiceDefinition,
)

SYSTEM_UNITS: Final = "/etc/systemd/system"
USER_UNITS: Final = ".config/systemd/user"
OTHERS_UNITS: Final = {
    Scope.SYSTEM: tuple(f"{each}/systemd/system" for each in ("/run", "/usr/local/lib", "/usr/lib", "/lib")),
    Scope.USER: tuple(f"{each}/systemd/user" for each in ("/etc", "/run", "/usr/local/lib", "/usr/lib")),
}
"""Where units lie that ours would be taken instead of (systemd.unit(5))."""
STATE: Final = PurePath("/var/lib")
_HOMES: Final = (PurePath("/home"), PurePath("/root"), PurePath("/run/user"))

_WITHOUT_PRIVILEGE: Final = (
    "NoNewPrivileges=yes",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "SystemCallArchitectures=native",
    "SystemCallErrorNumber=EPERM",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged",
)
_CONFINED: Final = (
    "CapabilityBoundingSet=",
    "AmbientCapabilities=",
    "DevicePolicy=closed",
    "KeyringMode=private",
    "PrivateDevices=yes",
    "PrivateTmp=yes",
    "PrivateUsers=yes",
    "ProcSubset=pid",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectProc=invisible",
    "ProtectSystem=strict",
    "RemoveIPC=yes",
)


def unit_name(name: str) -> str:
    """The unit of a service."""
    return f"{name}.service"


def unit_text(service: ServiceDefinition) -> str:
    """The unit. Its first line is the service's marker."""
    return "\n".join([f"# {service.marker}", *_unit(service), "", *_service(service), "", *_install(service), ""])


def state_name(data_dir: PurePath) -> str | None:
    """What `StateDirectory=` calls DIR if it lies right below /var/lib, where systemd keeps it for a service."""
    return data_dir.name if data_dir.parent in (STATE, STATE / "private") else None


def quoted(word: str) -> str:
    """One word of a setting, with nothing that systemd would replace."""
    plain = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("%", "%%")
    return f'"{plain}"' if not plain or any(mark in plain for mark in " \t'\"\\;") else plain


def _unit(service: ServiceDefinition) -> Iterator[str]:
    yield "[Unit]"
    yield f"Description={service.nature.summary.replace('%', '%%')}"
    yield "StartLimitIntervalSec=0"
    yield from _mounts(service)


def _mounts(service: ServiceDefinition) -> Iterator[str]:
    if service.scope is Scope.SYSTEM:
        yield f"RequiresMountsFor={quoted(str(service.data_dir))}"


def _service(service: ServiceDefinition) -> Iterator[str]:
    nature = service.nature
    # a dollar would be a variable, which only a command line knows
    command = " ".join(quoted(word).replace("$", "$$") for word in service.argv)
    yield "[Service]"
    yield "Type=notify"
    yield f"ExecStart={command}"
    yield "Restart=on-failure"
    yield f"RestartSec={RESTART_S}"
    yield "RestartPreventExitStatus=2"
    yield f"TimeoutStartSec={START_S}"
    yield f"TimeoutStopSec={STOP_S}"
    yield f"WatchdogSec={WATCHDOG_S}"
    yield f"UMask={UMASK:04o}"
    yield f"LimitNOFILE={nature.open_files}"
    if nature.nice:
        yield f"Nice={nature.nice}"
        yield "IOSchedulingClass=best-effort"
        yield "IOSchedulingPriority=7"
        yield f"CPUWeight={nature.weight}"
        yield f"IOWeight={nature.weight}"
    yield from _WITHOUT_PRIVILEGE
    if service.scope is Scope.SYSTEM:
        yield from _CONFINED
        yield from _place(service)


def _place(service: ServiceDefinition) -> Iterator[str]:
    """Whose account, and where it may write."""
    state = state_name(service.data_dir)
    if service.account is None:
        yield "DynamicUser=yes"
    else:
        yield f"User={service.account}"
    if state is not None:
        yield f"StateDirectory={quoted(state)}"
        yield "StateDirectoryMode=0700"
    else:
        yield f"ReadWritePaths={quoted(str(service.data_dir))}"
    yield f"ProtectHome={'read-only' if _under_homes([*service.argv[:1], str(service.data_dir)]) else 'yes'}"


def _under_homes(paths: Sequence[str]) -> bool:
    return any(PurePath(path).is_relative_to(home) for path in paths for home in _HOMES)


def _install(service: ServiceDefinition) -> Iterator[str]:
    yield "[Install]"
    yield f"WantedBy={'multi-user' if service.scope is Scope.SYSTEM else 'default'}.target"
