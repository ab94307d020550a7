"""What the operating system tells of watched folders: that something below one was touched, never more (watchdog).

Rules:
- a thread of the library reduces each event to the first steps of its path and wakes the loop once; the loop takes all
  that came meanwhile, so that ten thousand files copied at once are a handful of names;
- events may be lost (full queues, folders on a network): whoever uses this looks at everything now and then as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch

_EVENTS: Final[list[type[FileSystemEvent]]] = [
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    # Linux tells when a file that was written is closed: one event instead of one for each piece that is written
    FileClosedEvent if sys.platform == "linux" else FileModifiedEvent,
]
# threads of the library wait so long where it does not know how to be woken; stopping does not wait for it
_TIMEOUT_S: Final = 60.0
_NETWORK_SYSTEMS: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ncpfs", "9p", "ceph", "glusterfs", "davfs", "fuse.sshfs",
     "fuse.davfs2", "fuse.rclone", "fuse.gvfsd-fuse", "fuse.glusterfs", "drvfs", "vboxsf", "vmhgfs", "virtiofs"}
)  # fmt: skip
_DRIVE_REMOTE: Final = 4
_OCTAL: Final = re.compile(r"\\([0-7]{3})")

_log = logging.getLogger(__name__)

Touched: TypeAlias = "tuple[Path, tuple[str, ...]]"
"""A watched top, and the first steps of a path below it, as many as were asked for or fewer."""


class FolderEvents:
    """Events of some folders and all below them. `touched` is called in the loop when there is something to `take`."""

    def __init__(self, touched: Callable[[], None]) -> None:
        # the library's own messages name files, which may name pupils
        logging.getLogger("watchdog").setLevel(logging.CRITICAL)
        warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"watchdog\.")
        self._loop = asyncio.get_running_loop()
        self._notify = touched
        self._lock = threading.Lock()
        self._paths: set[Touched] = set()
        self._observer: BaseObserver | None = None
        self._watches: dict[Path, tuple[ObservedWatch, tuple[int, int]]] = {}

    def watch(self, top: Path, steps: int) -> bool:
        """See to it that events of this folder come; False if the system sends none. Blocks.

        A folder that was replaced by another since it was last asked for is watched anew.
        """
        try:
            state = top.stat()
        except OSError:
            self.unwatch(top)
            return False
        there = (state.st_dev, state.st_ino)
        known = self._watches.get(top)
        if known is not None and known[1] == there:
            return True
        self.unwatch(top)
        if is_on_network(top):
            return False
        try:
            watch = self._started().schedule(
                _Handler(top, steps, self._put), str(top), recursive=True, event_filter=_EVENTS
            )
        except OSError as reason:
            _log.warning("no events for a watched folder: %s; it is looked at every minute", reason.strerror)
            return False
        self._watches[top] = (watch, there)
        return True

    def unwatch(self, top: Path) -> None:
        """Let no more events of this folder come. Blocks."""
        known = self._watches.pop(top, None)
        if known is not None and self._observer is not None:
            with contextlib.suppress(KeyError):
                self._observer.unschedule(known[0])

    def take(self) -> set[Touched]:
        """What was touched since the last time."""
        with self._lock:
            taken, self._paths = self._paths, set()
        return taken

    def close(self) -> None:
        """End the threads. Blocks for a moment."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join(1.0)
            self._observer = None

    def _started(self) -> BaseObserver:
        if self._observer is None:
            self._observer = Observer(timeout=_TIMEOUT_S)
            self._observer.start()
        return self._observer

    def _put(self, touched: Touched) -> None:
        with self._lock:
            first = not self._paths
            self._paths.add(touched)
        if first:
            with contextlib.suppress(RuntimeError):  # the loop is over
                self._loop.call_soon_threadsafe(self._notify)


class _Handler(FileSystemEventHandler):
    def __init__(self, top: Path, steps: int, put: Callable[[Touched], None]) -> None:
        self._top = top
        self._prefix = f"{str(top).rstrip(os.sep)}{os.sep}"
        self._steps = steps
        self._put = put

    def dispatch(self, event: FileSystemEvent) -> None:
        """Called in a thread of the library."""
        for path in (event.src_path, event.dest_path):
            if path:
                text = os.fsdecode(path)
                below = text[len(self._prefix) :] if text.startswith(self._prefix) else ""
                self._put((self._top, tuple(below.split(os.sep, self._steps)[: self._steps]) if below else ()))


def is_on_network(place: Path) -> bool:
    """Whether a folder lies on another machine, whose changes make no events here. Unknown is no."""
    if sys.platform == "win32":
        import ctypes  # noqa: PLC0415  (not needed elsewhere)

        anchor = place.absolute().anchor
        return anchor.startswith("\\\\") or ctypes.windll.kernel32.GetDriveTypeW(anchor) == _DRIVE_REMOTE
    if sys.platform != "linux":
        return False
    try:
        table = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return False
    return file_system_of(str(place.absolute()), table) in _NETWORK_SYSTEMS


def file_system_of(place: str, mountinfo: str) -> str | None:
    """The type of the file system that holds an absolute path, by Linux's table of mounts (proc(5))."""
    best = ""
    kind = None
    for line in mountinfo.splitlines():
        before, separator, after = line.partition(" - ")
        fields = before.split(" ")
        if not separator or len(fields) < 5:  # noqa: PLR2004  (the fifth is where it is mounted)
            continue
        mounted = _OCTAL.sub(lambda found: chr(int(found[1], 8)), fields[4])
        inside = mounted in ("/", place) or place.startswith(f"{mounted}/")
        if inside and len(mounted) >= len(best):
            best, kind = mounted, after.split(" ")[0]
    return kind
