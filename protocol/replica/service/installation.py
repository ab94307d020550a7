"""`service install|uninstall|status`: the definition goes where the system looks for it, and the system is told.

Rules:
- a file, or a registration, that is not ours is never written over, never removed and never hidden by one of its name;
  ours says whose DIR it serves, and is taken away for that DIR, or for any once that one is gone;
- a system that has not been booted (an image that is being made, a container) is prepared all the same: the service
  starts with it;
- no service runs as root: DIR belongs to an account of its own, or lies where systemd makes one (/var/lib).
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias
from xml.sax.saxutils import unescape

from protocol.errors import BadInput, Code, LocalFailure, Refused, disk_fault
from protocol.replica.console.operation import JSON
from protocol.replica.service import launchd, systemd, windows
from protocol.replica.service.definition import STOP_S, Nature, Scope, ServiceDefinition

Tell: TypeAlias = Callable[[str], None]

_BOOTED: Final = Path("/run/systemd/system")
_SHOWN: Final = (
    "ActiveState",
    "SubState",
    "UnitFileState",
    "StatusText",
    "ActiveEnterTimestamp",
    "NRestarts",
    "Result",
)
_COMMAND_PATIENCE_S: Final = 60.0
_LOOK_AGAIN_S: Final = 0.5
_FOLDER_MODE: Final = 0o755
_FILE_MODE: Final = 0o644


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command of the system left."""

    status: int
    out: str
    err: str


Run: TypeAlias = Callable[[Sequence[str]], Ran]


@dataclass(frozen=True, slots=True)
class System:
    """The machine as `install` meets it: which one, under which root folder, for whom, and how its commands are run."""

    platform: str
    root: Path
    home: Path
    user: int
    run: Run
    booted: bool
    pause: Callable[[float], None] = time.sleep


def this_system() -> System:
    """This machine."""
    user = -1 if sys.platform == "win32" else os.geteuid()
    return System(sys.platform, Path("/"), Path.home(), user, _run, sys.platform != "linux" or _BOOTED.is_dir())


def command_of(program: str) -> tuple[str, ...]:
    """How to start this installation's program from anywhere, whoever starts it."""
    script = Path(sys.executable).parent / (f"{program}.exe" if sys.platform == "win32" else program)
    if script.is_file():
        return (str(script),)
    return (sys.executable, "-P", "-m", f"{program.replace('-', '_')}.cli")


def defined(nature: Nature, name: str, scope: Scope, command: Sequence[str], data_dir: Path) -> ServiceDefinition:
    """The service over DIR. Raises `BadInput` where it would have to run as root."""
    place = data_dir.resolve()
    account = None
    if sys.platform != "win32" and scope is Scope.SYSTEM:
        account = account_for(place, place.stat().st_uid)
    return ServiceDefinition(nature, name, scope, command, place, account)


def account_for(data_dir: Path, owner: int) -> str | None:
    """Whose processes a system's service over DIR are: its owner's; None where systemd makes an account.

    Raises `BadInput(USAGE)` where that would be root.
    """
    if systemd.state_name(data_dir) is not None and sys.platform == "linux" and _is_nobodys(owner):
        return None
    if owner == 0:
        raise BadInput(
            Code.USAGE,
            f"{data_dir} belongs to root, and no service runs as root: move it to {systemd.STATE}, where an account is "
            f"made for it, or give it to an account of its own (chown -R)",
        )
    return _account_name(owner)


def _is_nobodys(owner: int) -> bool:
    """Whether no lasting account stands behind a number: root before the first start, one that systemd made after."""
    return owner == 0 or _account_name(owner) == str(owner) or _DYNAMIC_USERS[0] <= owner <= _DYNAMIC_USERS[1]


_DYNAMIC_USERS: Final = (61184, 65519)  # systemd: "Users, Groups, UIDs and GIDs on systemd Systems"


def _account_name(owner: int) -> str:
    if sys.platform == "win32":
        return str(owner)
    import pwd  # noqa: PLC0415  (not on every platform)

    try:
        return pwd.getpwuid(owner).pw_name
    except KeyError:
        return str(owner)


def install(service: ServiceDefinition, system: System, tell: Tell) -> JSON:
    """Write the definition, and have the service start now and at every boot.

    Raises `BadInput` for a name that is taken, `Refused(NO_RIGHT)` without the right to, `LocalFailure`.
    """
    check_reachable(service.command[0], service)
    if system.platform == "win32":
        return _install_windows(service, system)
    file = definition_file(service.name, service.scope, system)
    is_linux = system.platform == "linux"
    _check_ours(file, service.marker, service.name)
    if is_linux:
        _check_hides_nothing(service, system)
    content = systemd.unit_text(service).encode() if is_linux else launchd.plist_bytes(service)
    _write(file, content)
    if is_linux:
        _start_systemd(service, system, tell)
    else:
        _start_launchd(service, system, file)
    return {"service": service.name, "file": str(file)}


def uninstall(nature: Nature, name: str, scope: Scope, data_dir: Path, system: System) -> JSON:
    """Stop the service over DIR and take its definition away; DIR stays as it is. Raises as `install` does."""
    if system.platform == "win32":
        _check_ours_windows(nature, name)
        _check_serves(windows.description_of(name), data_dir, name)
        windows.remove(name)
        return {"service": name}
    file = definition_file(name, scope, system)
    if not file.exists():
        raise BadInput(Code.NOT_INSTALLED, f"there is no service {name}: {file} is not there")
    _check_ours(file, f"{nature.program} service", name)
    _check_serves(file.read_text(encoding="utf-8", errors="replace"), data_dir, name)
    if system.platform == "linux":
        _systemctl(system, scope, *(("disable", "--now") if system.booted else ("disable",)), systemd.unit_name(name))
    else:
        _leave_launchd(f"{launchd.domain(scope, system.user)}/{launchd.label(name)}", system)
    _remove(file)
    if system.platform == "linux" and system.booted:
        _systemctl(system, scope, "daemon-reload")
    return {"service": name}


def status(name: str, scope: Scope, system: System) -> dict[str, JSON]:
    """How the service is: {"service","installed","running","starts_at_boot","status","file"}."""
    if system.platform == "win32":
        state = windows.state_of(name)
        return _status(name, state is not None, state == windows.STATE_RUNNING, state is not None, None, None)
    file = definition_file(name, scope, system)
    if not file.exists():
        return _status(name, False, False, False, None, None)
    if system.platform == "linux":
        return _status_systemd(name, scope, system, file)
    printed = system.run(["launchctl", "print", f"{launchd.domain(scope, system.user)}/{launchd.label(name)}"])
    running, last = launchd.running_of(printed.out)
    return _status(name, True, running, True, None if last in (None, 0) else f"it ended with {last}", str(file))


def definition_file(name: str, scope: Scope, system: System) -> Path:
    """Where the system looks for the definition."""
    if system.platform == "linux":
        unit = systemd.unit_name(name)
        if scope is Scope.USER:
            return system.home / systemd.USER_UNITS / unit
        return system.root / systemd.SYSTEM_UNITS.lstrip("/") / unit
    plist = launchd.plist_name(name)
    return system.home / launchd.AGENTS / plist if scope is Scope.USER else system.root / launchd.DAEMONS[1:] / plist


def check_reachable(program: str, service: ServiceDefinition) -> None:
    """Raise `BadInput(USAGE)` if the program lies where the service's account cannot go (/root, a private home)."""
    if service.scope is Scope.USER or os.name != "posix":
        return
    if service.account is not None and _owns_a_home_of(service.account, program):
        return
    for folder in Path(program).parents:
        if folder.exists() and not folder.stat().st_mode & 0o001:
            raise BadInput(
                Code.USAGE,
                f"{program} lies in {folder}, which others may not enter, the service's account included: install "
                "Relais for the whole machine, as in /opt/relais",
            )


def _owns_a_home_of(account: str, program: str) -> bool:
    return _account_name(Path(program).stat().st_uid) == account if Path(program).exists() else False


def _check_ours(file: Path, marker: str, name: str) -> None:
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    except OSError as reason:
        raise _no_right(file, reason) from reason
    found = marker_in(text)
    if found is None or (found != marker and not found.startswith(f"{marker}, ")):
        raise BadInput(
            Code.ALREADY_INSTALLED,
            f"{file} is a service {name} for another folder or of another program; choose another with --name",
        )


def _check_hides_nothing(service: ServiceDefinition, system: System) -> None:
    """Raise `BadInput(ALREADY_INSTALLED)` where a unit of this name came with the system: ours would be run instead."""
    unit = systemd.unit_name(service.name)
    for folder in systemd.OTHERS_UNITS[service.scope]:
        if (other := system.root / folder.lstrip("/") / unit).exists():
            raise BadInput(
                Code.ALREADY_INSTALLED,
                f"{other} is a service {service.name} of another program; choose another with --name",
            )


def _check_serves(definition: str, data_dir: Path, name: str) -> None:
    """Raise `BadInput(ALREADY_INSTALLED)` where a definition of ours is of another DIR, which is still there."""
    served = (marker_in(definition) or "").partition(", ")[2]
    if served and Path(served) != data_dir.resolve() and Path(served).exists():
        raise BadInput(
            Code.ALREADY_INSTALLED,
            f"the service {name} serves {served}, not {data_dir}: give the name of the one that does with --name, or "
            "that folder with --data",
        )


def marker_in(definition: str) -> str | None:
    """The marker in the text of a definition of ours; None in any other."""
    found = re.search(r"(sync-(?:agent|server) service, .*?)(?:</string>)?$", definition, re.MULTILINE)
    return None if found is None else unescape(found[1])


def _write(file: Path, content: bytes) -> None:
    passing = file.with_name(f".{file.name}.new")
    try:
        file.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        passing.write_bytes(content)
        passing.chmod(_FILE_MODE)
        passing.replace(file)
    except OSError as reason:
        with contextlib.suppress(OSError):
            passing.unlink(missing_ok=True)
        raise _no_right(file, reason) from reason


def _remove(file: Path) -> None:
    try:
        file.unlink()
    except OSError as reason:
        raise _no_right(file, reason) from reason


def _no_right(file: Path, reason: OSError) -> Refused | LocalFailure:
    if isinstance(reason, PermissionError):
        return Refused(
            Code.NO_RIGHT, f"{file} may not be written by you: use sudo, or --user for a service of your own account"
        )
    code = disk_fault(reason)
    return LocalFailure(code, f"{file} cannot be written: {reason.strerror}")


def _start_systemd(service: ServiceDefinition, system: System, tell: Tell) -> None:
    unit = systemd.unit_name(service.name)
    if not system.booted:
        _systemctl(system, service.scope, "enable", unit)
        tell("this system is not running under systemd now; the service starts when it is booted")
        return
    _systemctl(system, service.scope, "daemon-reload")
    _systemctl(system, service.scope, "enable", unit)
    _systemctl(system, service.scope, "restart", unit)
    if service.scope is Scope.USER:
        tell("it runs while you are signed in; `loginctl enable-linger` lets it run from boot on")


def _start_launchd(service: ServiceDefinition, system: System, file: Path) -> None:
    domain = launchd.domain(service.scope, system.user)
    _leave_launchd(f"{domain}/{launchd.label(service.name)}", system)
    _checked(system.run(["launchctl", "bootstrap", domain, str(file)]), "launchctl bootstrap")


def _leave_launchd(target: str, system: System) -> None:
    """Have launchd let go of a service, and wait until it has: it takes none of that name before (error 5)."""
    system.run(["launchctl", "bootout", target])
    for _ in range(round((STOP_S + 1) / _LOOK_AGAIN_S)):
        if system.run(["launchctl", "print", target]).status:
            return
        system.pause(_LOOK_AGAIN_S)


def _status_systemd(name: str, scope: Scope, system: System, file: Path) -> dict[str, JSON]:
    unit = systemd.unit_name(name)
    if not system.booted:
        wanted = file.parent / f"{'multi-user' if scope is Scope.SYSTEM else 'default'}.target.wants" / unit
        return _status(name, True, False, wanted.is_symlink(), "the system is not running under systemd", str(file))
    shown = _systemctl(system, scope, "show", unit, f"--property={','.join(_SHOWN)}").out
    facts = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    running = facts.get("ActiveState") == "active"
    told = facts.get("StatusText") or f"{facts.get('ActiveState')} ({facts.get('SubState')}): {facts.get('Result')}"
    return _status(name, True, running, facts.get("UnitFileState") == "enabled", told, str(file))


def _status(
    name: str, installed: bool, running: bool, at_boot: bool, told: str | None, file: str | None
) -> dict[str, JSON]:
    return {
        "service": name,
        "installed": installed,
        "running": running,
        "starts_at_boot": at_boot,
        "status": told,
        "file": file,
    }


def _install_windows(service: ServiceDefinition, system: System) -> JSON:
    if windows.state_of(service.name) is not None:
        _check_ours_windows(service.nature, service.name, service.marker)
        windows.remove(service.name)

    def give_folder() -> None:
        for command in windows.rights_commands(service):
            _checked(system.run(command), "icacls")

    windows.install(service, give_folder)
    return {"service": service.name, "file": None}


def _check_ours_windows(nature: Nature, name: str, marker: str = "") -> None:
    if windows.state_of(name) is None:
        raise BadInput(Code.NOT_INSTALLED, f"there is no service {name}")
    if (marker or f"{nature.program} service") not in windows.description_of(name):
        raise BadInput(
            Code.ALREADY_INSTALLED, f"{name} is a service of another folder or program; choose another with --name"
        )


def _systemctl(system: System, scope: Scope, *words: str) -> Ran:
    own = ["--user"] if scope is Scope.USER else []
    return _checked(system.run(["systemctl", *own, *words]), f"systemctl {words[0]}")


def _checked(ran: Ran, what: str) -> Ran:
    if ran.status:
        said = " ".join((ran.err or ran.out).split())
        raise LocalFailure(Code.SERVICE_FAILED, f"{what} failed ({ran.status}): {said}")
    return ran


def _run(words: Sequence[str]) -> Ran:
    try:
        done = subprocess.run(  # noqa: S603  (the system's own commands, named here)
            list(words), capture_output=True, text=True, check=False, timeout=_COMMAND_PATIENCE_S, errors="replace"
        )
    except FileNotFoundError as reason:
        raise LocalFailure(
            Code.SERVICE_FAILED, f"{words[0]} is not there: this system has no such services"
        ) from reason
    except subprocess.TimeoutExpired as reason:
        raise LocalFailure(Code.SERVICE_FAILED, f"{words[0]} does not come to an end") from reason
    return Ran(done.returncode, done.stdout, done.stderr)
