"""Files of packs, made durable: the only place that touches them (R8).

A file becomes what it is in four steps: written under a passing name, flushed, renamed, its folder flushed. A crash
before the rename leaves a passing file, which is removed at the next start; after it, a whole file.

Rules:
- everything here blocks: callers use a thread;
- every `OSError` becomes a `LocalFailure`: DISK_FULL, READ_ONLY, or STORAGE_FAILED for all else;
- after a failed write or flush this disk refuses to write until it is opened again: the kernel may have dropped the
  pages and forgotten the failure, so that a second flush would succeed and mean nothing (Rebello et al., "Can
  Applications Recover from fsync Failures?", USENIX ATC 2020);
- a full disk, or one that may only be read, is no such failure: what was begun is thrown away, and it may work later.

On Windows a folder cannot be flushed; a flush of the renamed file writes the journal, and the rename with it. On macOS
a flush reaches the platter only through `F_FULLFSYNC`.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from protocol.errors import NO_ROOM, Code, LocalFailure
from protocol.limits import MiB

_OWN: Final = 0o700


class Disk:
    """A folder and what is written below it. Paths are relative to it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._failed = False

    def make_folder(self, name: str) -> None:
        """Make a folder that no other account enters, durably, unless it is there."""
        with self._writing():
            make_folder(self.root / name, mode=_OWN)

    def create(self, name: str) -> BinaryIO:
        """A new empty file for `write`, instead of what may have this name."""
        with self._writing():
            return (self.root / name).open("wb", buffering=0)

    def append_to(self, name: str) -> BinaryIO:
        """The file of this name, or a new one, for `write` at its end."""
        with self._writing():
            return (self.root / name).open("ab", buffering=0)

    def write(self, file: BinaryIO, data: bytes | memoryview) -> None:
        """Write all of `data` at the place of the file."""
        with self._writing():
            rest = memoryview(data)
            while rest:
                rest = rest[_write_some(file, rest) :]

    def replace(self, name: str, offset: int, data: bytes) -> None:
        """Write over bytes inside a file."""
        with self._writing(), (self.root / name).open("r+b", buffering=0) as file:
            file.seek(offset)
            self.write(file, data)

    def write_over(self, name: str, pieces: Mapping[int, bytes]) -> None:
        """Write over bytes of a file, or at its end, where they lie; return when all of it is durable."""
        with self._writing(flushing=True), (self.root / name).open("r+b", buffering=0) as file:
            for offset, data in pieces.items():
                file.seek(offset)
                self.write(file, data)
            _flush(file.fileno())

    def flush(self, file: BinaryIO) -> None:
        """Return when all that was written to the file is durable."""
        with self._writing(flushing=True):
            _flush(file.fileno())

    def flush_by_name(self, name: str) -> None:
        """Return when the content of a file that is not open any more is durable."""
        with self._writing(flushing=True), (self.root / name).open("r+b") as file:
            _flush(file.fileno())

    def rename_all(self, names: Iterable[tuple[str, str]]) -> None:
        """Rename files whose content is durable, each over what may be there; return when that is durable."""
        folders = set()
        for old, new in names:
            source, target = self.root / old, self.root / new
            with self._writing():
                make_folder(target.parent, mode=_OWN)
                source.replace(target)
            if sys.platform == "win32":
                self.flush_by_name(new)
            folders |= {source.parent, target.parent}
        with self._writing(flushing=True):
            for folder in folders:
                _flush_folder(folder)

    def flush_folders(self, names: Iterable[str]) -> None:
        """Return when the names in these folders are durable."""
        with self._writing(flushing=True):
            for name in names:
                _flush_folder(self.root / name)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there; that it is gone may not survive a power cut."""
        with self._writing():
            (self.root / name).unlink(missing_ok=True)

    def facts(self, name: str) -> os.stat_result | None:
        """What the system says of a file, or None if there is none."""
        try:
            return (self.root / name).stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _failure(error) from error

    def size(self, name: str) -> int | None:
        """The size of a file, or None if there is none."""
        facts = self.facts(name)
        return None if facts is None else facts.st_size

    def read(self, name: str, start: int, length: int) -> bytes:
        """Bytes of a file, fewer at its end; nothing if there is no file.

        Raises `LocalFailure(DAMAGED)` for what the disk cannot read any more.
        """
        try:
            with (self.root / name).open("rb", buffering=0) as file:
                file.seek(start)
                parts = []
                while length > 0 and (part := file.read(length)):
                    parts.append(part)
                    length -= len(part)
                return b"".join(parts)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise _unreadable(name, error) from error

    def read_into(self, name: str, start: int, memory: memoryview) -> int:
        """As `read`, into memory that the caller has; how much of it was filled."""
        have = 0
        try:
            with (self.root / name).open("rb", buffering=0) as file:
                file.seek(start)
                while have < len(memory) and (more := file.readinto(memory[have:])):
                    have += more
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise _unreadable(name, error) from error
        return have

    @contextmanager
    def reader(self, name: str) -> Iterator[Callable[[int, int], memoryview]]:
        """As `read`, piece by piece and each into the same memory: a piece is good until the next is read.

        New memory for each piece costs three times as much as to read it.
        """
        memory = memoryview(bytearray(MiB))

        def read(start: int, length: int) -> memoryview:
            nonlocal memory
            if length > len(memory):
                memory = memoryview(bytearray(length))
            try:
                file.seek(start)
                have = 0
                while have < length and (more := file.readinto(memory[have:length])):
                    have += more
            except OSError as error:
                raise _unreadable(name, error) from error
            return memory[:have]

        try:
            file = (self.root / name).open("rb", buffering=0)
        except FileNotFoundError:
            yield lambda _start, _length: memory[:0]
            return
        except OSError as error:
            raise _unreadable(name, error) from error
        with file:
            yield read

    def files(self, folder: str) -> Iterator[tuple[str, os.stat_result]]:
        """Name (relative to the root) and facts of every file in a folder and in the folders in it.

        What goes away meanwhile is left out.
        """
        try:
            for path, _, names in os.walk(self.root / folder):
                for name in sorted(names):
                    file = Path(path, name)
                    if (facts := _facts(file)) is not None:
                        yield file.relative_to(self.root).as_posix(), facts
        except OSError as error:
            raise _failure(error) from error

    def free_bytes(self) -> int:
        """Room left for this program on the disk."""
        try:
            return shutil.disk_usage(self.root).free
        except OSError as error:
            raise _failure(error) from error

    def total_bytes(self) -> int:
        """The size of the disk."""
        try:
            return shutil.disk_usage(self.root).total
        except OSError as error:
            raise _failure(error) from error

    @contextmanager
    def _writing(self, *, flushing: bool = False) -> Iterator[None]:
        if self._failed:
            raise LocalFailure(Code.STORAGE_FAILED, "the store must be opened again after a failed write")
        try:
            yield
        except OSError as error:
            failure = _failure(error)
            if flushing or failure.code is Code.STORAGE_FAILED:
                self._failed = True
            raise failure from error


def make_folder(path: Path, *, mode: int = 0o777) -> None:
    """Make a folder and those above it, durably, unless they are there. Raises `OSError`."""
    if path.is_dir():
        return
    make_folder(path.parent, mode=mode)
    path.mkdir(mode=mode, exist_ok=True)
    _flush_folder(path.parent)


def _facts(file: Path) -> os.stat_result | None:
    try:
        return file.stat()
    except FileNotFoundError:
        return None


def _failure(error: OSError) -> LocalFailure:
    if error.errno in NO_ROOM:
        return LocalFailure(Code.DISK_FULL, "the disk is full", errno=error.errno)
    if error.errno == errno.EROFS:
        return LocalFailure(Code.READ_ONLY, "the disk may only be read", errno=error.errno)
    if error.errno in (errno.EACCES, errno.EPERM):
        return LocalFailure(
            Code.STORAGE_FAILED, f"this account may not use {error.filename or 'the data folder'}", errno=error.errno
        )
    reason = error.strerror or str(error) or type(error).__name__
    return LocalFailure(Code.STORAGE_FAILED, f"the disk could not be read or written: {reason}", errno=error.errno)


def _unreadable(name: str, error: OSError) -> LocalFailure:
    if error.errno == errno.EIO:
        return LocalFailure(Code.DAMAGED, "the disk cannot read a file any more", file=name)
    return _failure(error)


def _write_some(file: BinaryIO, data: memoryview) -> int:
    return file.write(data)


def _flush(descriptor: int) -> None:
    if sys.platform == "darwin":
        import fcntl  # noqa: PLC0415  (not on every platform)

        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def _flush_folder(path: Path) -> None:
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        _flush(descriptor)
    finally:
        os.close(descriptor)
