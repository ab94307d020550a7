"""What a service is, before any system's words for it: which program, over which DIR, for whom, under whose account."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePath
from typing import Final

from protocol.errors import BadInput, Code

RESTART_S: Final = 10
WATCHDOG_S: Final = 90
START_S: Final = 300
"""A start may have to wait for a command that holds the store, and to check what a power cut left."""
STOP_S: Final = 20
UMASK: Final = 0o077
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,47}")


class Scope(StrEnum):
    """For whom it runs: the machine, from boot on, or one person, while they are signed in."""

    SYSTEM = "system"
    USER = "user"


@dataclass(frozen=True, slots=True)
class Nature:
    """What the two programs differ in."""

    program: str
    summary: str
    nice: int
    weight: int
    """Its share of CPU and disk under load; 100 is what every other service has."""
    open_files: int


AGENT: Final = Nature("sync-agent", "Relais: coursework on this machine", nice=5, weight=30, open_files=4096)
SERVER: Final = Nature("sync-server", "Relais: the server of a territory", nice=0, weight=100, open_files=65536)


@dataclass(frozen=True, slots=True)
class ServiceDefinition:
    """One service to install.

    `command` starts the program up to its subcommand. `account` is whose processes they are: None for one that the
    system makes for this service alone.
    """

    nature: Nature
    name: str
    scope: Scope
    command: Sequence[str]
    data_dir: PurePath
    account: str | None

    @property
    def argv(self) -> tuple[str, ...]:
        """The whole command line."""
        return (*self.command, "run", "--data", str(self.data_dir))

    @property
    def marker(self) -> str:
        """One line by which the definition is known again as ours, and as this DIR's."""
        return f"{self.nature.program} service, {self.data_dir}"


def service_name(name: str) -> str:
    """A name that every system takes. Raises `BadInput(USAGE)`."""
    if not _NAME.fullmatch(name):
        raise BadInput(
            Code.USAGE,
            f"“{name}” is no name for a service: small letters, digits and hyphens, at most 48, as in relais-2",
        )
    return name
