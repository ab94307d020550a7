"""What `doctor` looks at from outside the store: who may enter DIR, whose its files are, the service, why it fails.

The command line does this itself, as the person who asks: what the running agent may do says nothing of what they may.
Each problem has a code, a sentence and what to do about it, as those of `care` have.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, TypeAlias

from protocol.errors import Code, LocalFailure, RelaisError
from protocol.replica.console.operation import JSON
from protocol.replica.service import installation
from protocol.replica.service.definition import Scope
from protocol.replica.storage.sqlite import DATABASE

Problem: TypeAlias = Mapping[str, str]

SERVICE: Final = "relais-agent"
_LOOKED_AT: Final = (".", DATABASE, f"{DATABASE}-wal", "keys", "run", "packs", "parts")
_REMEDIES: Final[Mapping[Code, str]] = {
    Code.DAMAGED: "try `sync-agent repair`; if that does not help, keep a copy of the folder, ask for a new code and "
    "enrol in an empty one: the server and the other machines hold what was handed in",
    Code.DISK_FULL: "make room on this disk: delete what is not needed, then try again",
    Code.READ_ONLY: "start this machine again; if the disk stays locked, have it checked: systems lock one that they "
    "no longer trust",
    Code.STORE_LOCKED: "another agent works in this folder: see `sync-agent service status`, end one of the two, or "
    "give each a folder of its own (--data)",
    Code.STORAGE_FAILED: "look whose files these are (ls -l) and run the command as that account, or with sudo; if the "
    "rights are right, have the disk checked",
    Code.UNKNOWN_FORMAT: "install the newest version of Relais again: an older one cannot read this folder",
}
_OTHERWISE: Final = "show this to whoever looks after the devices"


def why_not_opened(failure: LocalFailure) -> Problem:
    """The problem that a store which cannot be opened is."""
    return _problem(failure.code, failure.message, _REMEDIES.get(failure.code, _OTHERWISE))


def with_more(verdict: JSON, more: list[Problem]) -> dict[str, JSON]:
    """A verdict that knows of more problems."""
    known = verdict.get("problems") if isinstance(verdict, Mapping) else None
    problems = [*(known if isinstance(known, list) else ()), *more]
    return {"ok": not problems, "problems": problems}


def problems_around(folder: Path) -> list[Problem]:
    """All that is wrong with DIR as a folder."""
    return [*_rights(folder), *_owners(folder)] if os.name == "posix" else []


def problems_of_service(folder: Path, system: installation.System) -> list[Problem]:
    """A service over this DIR that is installed and does not run. Where it cannot be asked, nothing is said."""
    return [problem for scope in Scope for problem in _service(folder, scope, system)]


def has_service(system: installation.System) -> bool:
    """Whether the usual service is installed, for the machine or for this person."""
    return any(
        installation.definition_file(SERVICE, scope, system).exists() for scope in Scope if system.platform != "win32"
    )


def _rights(folder: Path) -> Iterator[Problem]:
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield _problem(
            Code.NO_RIGHT,
            f"others on this machine may change what lies in {folder} (mode {mode:o})",
            f"take that right away: chmod go-w {folder}",
        )
    database = folder / DATABASE
    if mode & stat.S_IXOTH and database.exists() and database.stat().st_mode & stat.S_IROTH:
        yield _problem(
            Code.NO_RIGHT,
            f"everybody on this machine may read {database}, in which pupils' names stand",
            f"take that right away: chmod go-rwx {database}",
        )


def _owners(folder: Path) -> Iterator[Problem]:
    owner = folder.stat().st_uid
    strange = sorted({name for name in _LOOKED_AT if _owner(folder / name) not in (None, owner)})
    if strange:
        yield _problem(
            Code.NO_RIGHT,
            f"{', '.join(strange)} in {folder} belong to another account than the folder: the agent may fail to write",
            f"give all of it to one account: chown -R --reference={folder} {folder}",
        )


def _owner(path: Path) -> int | None:
    try:
        return path.lstat().st_uid
    except OSError:
        return None


def _service(folder: Path, scope: Scope, system: installation.System) -> Iterator[Problem]:
    if system.platform == "win32" or not system.booted:
        return
    file = installation.definition_file(SERVICE, scope, system)
    try:
        marker = installation.marker_in(file.read_text(encoding="utf-8", errors="replace"))
        if marker is None or not marker.endswith(f", {folder.resolve()}"):
            return
        found = installation.status(SERVICE, scope, system)
    except (OSError, RelaisError):
        return
    option = " --user" if scope is Scope.USER else ""
    if not found["running"]:
        yield _problem(
            Code.SERVICE_FAILED,
            f"the service {SERVICE} is installed and does not run: {found['status']}",
            f"see its log (journalctl -u {SERVICE}), then `sync-agent service install{option}` starts it again",
        )
    elif not found["starts_at_boot"]:
        yield _problem(
            Code.SERVICE_FAILED,
            f"the service {SERVICE} runs, and will not after the next start of this machine",
            f"`sync-agent service install{option}` puts that right",
        )


def _problem(code: Code, message: str, remedy: str) -> Problem:
    return {"code": code.value, "message": message, "remedy": remedy}
