"""What was measured, its figures with units in their names, the goals beside them; and the conditions."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias

from bench import peers

Figure: TypeAlias = float | str


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Coursework to measure with, and the items as which it is published: titles and folders."""

    name: str
    folder: Path
    items: tuple[tuple[str, Path], ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """What a row gets: a folder to work in, the catalogues, and how long at rest is long enough."""

    work: Path
    catalogues: tuple[Catalogue, ...]
    rest_s: float


@dataclass(frozen=True, slots=True)
class Result:
    """One line of a table. `goals` bound figures of the same name: at most, or at least where more is better."""

    table: str
    what: str
    figures: Mapping[str, Figure]
    goals: Mapping[str, float] = field(default_factory=dict)
    note: str = ""

    def missed(self) -> list[str]:
        """The names of the figures that miss their goal."""
        return [name for name, goal in self.goals.items() if not meets(name, self.figures[name], goal)]


Row: TypeAlias = Callable[[Setting], Iterator[Result]]


def meets(name: str, figure: Figure, goal: float) -> bool:
    """Whether a figure reaches its goal."""
    if isinstance(figure, str):
        return False
    return figure >= goal if more_is_better(name) else figure <= goal


def more_is_better(name: str) -> bool:
    """Whether a goal for a figure of this name means "at least"."""
    return name.endswith(("_per_s", "_percent"))


def conditions() -> dict[str, Figure]:
    """The machine, the versions, the date."""
    packages = ("aiohttp", "aiosqlite", "blake3", "cryptography", "pyfastcdc", "zstandard")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {_memory_bytes() / 1e9:.0f} GB",
        "system": f"{_system()}, Linux {platform.release()}",
        "load at the start": f"{os.getloadavg()[0]:.2f}",
        "Python": f"{platform.python_version()}, SQLite {sqlite3.sqlite_version}",
        "packages": ", ".join(f"{name} {version(name)}" for name in packages),
        "peers": ", ".join(f"{name} {number}" for name, number in peers.versions().items()) or "none installed",
        "Relais": _revision(),
    }


def append(file: Path, kind: str, value: Result | Mapping[str, Figure]) -> None:
    """One more line of JSON."""
    body = asdict(value) if isinstance(value, Result) else dict(value)
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps({"kind": kind, **body}, ensure_ascii=False) + "\n")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _system() -> str:
    return platform.freedesktop_os_release().get("PRETTY_NAME", sys.platform)


def _revision() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return done.stdout.strip() or f"version {version('relais')}"
