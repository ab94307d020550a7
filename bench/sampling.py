"""What a process and all that it starts cost: CPU seconds, peak and present memory, read from /proc every 20 ms.

New descendants are searched for every tenth look, because that reads all of /proc.

Memory is resident memory. For a single process the peak is the kernel's own high-water mark; for several it is the
largest sum that was seen, in which shared pages count once per process.
"""

from __future__ import annotations

import contextlib
import os
import resource
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PERIOD_S: Final = 0.02
_LOOKS_PER_SEARCH: Final = 10
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Cost:
    """What a tree of processes cost meanwhile: CPU seconds, peak bytes of memory."""

    cpu_s: float
    peak_bytes: int


@dataclass(slots=True)
class _Seen:
    """One process as last seen."""

    parent: int
    cpu_s: float
    rss_bytes: int


class Tree:
    """The processes `roots` and their descendants, followed while they live."""

    def __init__(self, roots: Sequence[int]) -> None:
        self.roots = tuple(roots)
        self.peak_bytes = 0
        self._last: dict[int, float] = {}
        self._high_water: dict[int, int] = {}
        self._most_at_once = 0
        self._base_s: float | None = None
        self._members: set[int] = set()
        self._looks = 0

    def forget_peaks(self) -> None:
        """Let the kernel's high-water marks begin anew: what a long-lived process needed before is not counted."""
        for pid in _descendants(self.roots):
            with contextlib.suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")

    def sample(self) -> None:
        """Look once."""
        alive = self._alive()
        self._most_at_once = max(self._most_at_once, len(alive))
        self.peak_bytes = max(self.peak_bytes, sum(seen.rss_bytes for seen in alive.values()))
        for pid, seen in alive.items():
            self._last[pid] = max(seen.cpu_s, self._last.get(pid, 0.0))
            self._high_water[pid] = max(_high_water(pid), self._high_water.get(pid, 0))
        if self._base_s is None:
            self._base_s = self.cpu_s()

    def cpu_s(self) -> float:
        """CPU seconds of all that were seen, dead ones as last seen."""
        return sum(self._last.values())

    def rss_bytes(self) -> int:
        """Resident memory now."""
        return sum(seen.rss_bytes for seen in self._alive().values())

    def cost(self) -> Cost:
        """Since the first sample."""
        peak = self.peak_bytes
        if self._most_at_once == 1:
            peak = max(peak, *self._high_water.values())
        return Cost(self.cpu_s() - (self._base_s or 0.0), peak)

    def _alive(self) -> dict[int, _Seen]:
        if self._looks % _LOOKS_PER_SEARCH == 0:
            self._members = _descendants(self.roots)
        self._looks += 1
        return {pid: seen for pid in self._members if (seen := _look(pid)) is not None}


@contextmanager
def watched(*trees: Tree, period_s: float = PERIOD_S) -> Iterator[None]:
    """Sample `trees` every `period_s` seconds while the context lasts."""
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(period_s):
            for tree in trees:
                tree.sample()

    for tree in trees:
        tree.sample()
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        for tree in trees:
            tree.sample()


def reaped_cpu_s() -> float:
    """CPU seconds of all children that have ended and been waited for, exactly."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _look(pid: int) -> _Seen | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # the name, in parentheses, may hold anything; fields count from the state after it
    fields = text[text.rindex(")") + 2 :].split()
    cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    return _Seen(int(fields[1]), cpu_s, int(fields[21]) * _PAGE_BYTES)


def _descendants(roots: Sequence[int]) -> set[int]:
    children: dict[int, list[int]] = {}
    for pid in (int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()):
        seen = _look(pid)
        if seen is not None:
            children.setdefault(seen.parent, []).append(pid)
    found: set[int] = set()
    pending = list(roots)
    while pending:
        pid = pending.pop()
        found.add(pid)
        pending += children.get(pid, [])
    return found


def _high_water(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
