"""Small files that only their owner reads: keys, kits, what a replica must know before it opens its store (R8).

A file appears whole or not at all: it is written under a passing name, flushed, renamed, its folder flushed. Everything
here blocks; callers do it before they serve anybody, or in a thread.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from protocol.errors import NO_ROOM, Code, LocalFailure

_PASSING: Final = ".new"
_EXCLUSIVE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)


def write_private(path: Path, data: bytes) -> None:
    """Write `data` to `path` (0600), durably, in a folder of its own (0700) if there is none yet.

    Raises `LocalFailure` (DISK_FULL, READ_ONLY, STORAGE_FAILED).
    """
    passing = path.with_name(path.name + _PASSING)
    with _named(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with os.fdopen(create_private(passing), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            passing.replace(path)
        except OSError:
            with suppress(OSError):  # half of a key would lie under a name that nobody looks for
                passing.unlink(missing_ok=True)
            raise
        _flush_folder(path.parent)


def create_private(path: Path) -> int:
    """An empty file at `path` that is this account's alone (0600), open for writing; what lay there is gone.

    For folders in which other accounts may write, too: a file that one of them laid there would stay theirs to read,
    and a link would lead elsewhere. Raises `OSError`.
    """
    path.unlink(missing_ok=True)
    return os.open(path, _EXCLUSIVE, 0o600)


def read_private(path: Path) -> bytes:
    """What lies at `path`. Raises `OSError`, but `LocalFailure(STORAGE_FAILED)` where only another account may read it.

    Whoever is told that a file is damaged gives it up, and this one is in order.
    """
    try:
        return path.read_bytes()
    except PermissionError as reason:
        raise LocalFailure(
            Code.STORAGE_FAILED, f"this account may not read {path}: {reason.strerror}", path=str(path)
        ) from reason


def remove_private(path: Path) -> None:
    """Remove a file, durably; again is no error. Raises `LocalFailure`."""
    with _named(path):
        path.unlink(missing_ok=True)
        _flush_folder(path.parent)


def make_private_folder(path: Path) -> None:
    """Make a folder that only its owner enters (0700), or make one that is there so. Raises `LocalFailure`."""
    with _named(path):
        path.mkdir(mode=0o700, exist_ok=True)
        if os.name == "posix":
            path.chmod(0o700)
        _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as reason:
        if reason.errno in NO_ROOM:
            raise LocalFailure(Code.DISK_FULL, f"the disk is full: {path} could not be written") from reason
        if reason.errno == errno.EROFS:
            raise LocalFailure(Code.READ_ONLY, f"the disk may only be read: {path} could not be written") from reason
        raise LocalFailure(
            Code.STORAGE_FAILED, f"{path} cannot be written: {reason.strerror}", path=str(path)
        ) from reason
