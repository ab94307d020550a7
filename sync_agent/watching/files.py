"""The files of one title of a watched folder: looking at them, and reading those that have changed.

Rules:
- no link is followed and nothing but files is opened: a link in a watched folder could lead anywhere on the machine.
  So it is of one that was laid since the look: what is read is opened below the folder in which the title lies;
- a look reads nothing but folders; it costs a few ms for a thousand files;
- files are read many at a time, each with the check that it is still what the look found. When all are read, one more
  look must find the same as the first: what is published is the title as it was at one moment.

Everything but `TitleFiles` blocks: callers use a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
import sys
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from blake3 import blake3

from protocol.errors import Code, LocalFailure
from protocol.limits import FILE_PIECE_BYTES, MAX_FILE_BYTES, MAX_FILES_PER_REVISION, MAX_FOLDERS_PER_REVISION, MiB
from protocol.portable_names import check_portable, displayable, portable_form
from protocol.replica.console.operation import Complete, FileData, FileEnd, FileEvent, FileStart
from sync_agent.coursework.file_notes import FileNote
from sync_agent.machine.enclosed import Enclosure
from sync_agent.machine.plain_files import READ, is_link, is_plain_folder
from sync_agent.watching.brake import HEAD_BYTES, Change
from sync_agent.watching.rules import Glimpse, Standing, standing

if sys.platform == "linux":
    import fcntl

_AT_ONCE_BYTES: Final = MiB
_AT_ONCE_FILES: Final = 256
_COARSE_NS: Final = 1_000_000_000
_LIKENESS_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Found:
    """A file of a title: where it lies, its path below the title in portable form, and what it is like."""

    place: str
    path: str
    size: int
    changed_ns: int
    inode: int

    def is_like(self, note: FileNote | None) -> bool:
        """Whether it is as it was noted."""
        return note is not None and (self.size, self.changed_ns, self.inode) == (
            note.size,
            note.changed_ns,
            note.inode,
        )


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a title cannot be published as it is: a code, the path below the title, a sentence for a teacher."""

    code: Code
    path: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at a title found: its files, in the order of their paths, and what stands in the way.

    `inode` is the number of the title's own folder or file on its disk.
    """

    likeness: bytes
    files: tuple[Found, ...]
    inode: int
    is_file: bool
    unfinished: bool
    obstacle: Obstacle | None

    def glimpse(self, notes: Mapping[str, FileNote]) -> Glimpse:
        """What the rules want to know, against what was published."""
        changed = [file for file in self.files if not file.is_like(notes.get(file.path))]
        paths = {file.path for file in self.files}
        return Glimpse(
            self.likeness,
            changed_bytes=sum(file.size for file in changed),
            lost=any(path not in paths for path in notes),
            coarse=any(file.changed_ns % _COARSE_NS == 0 for file in changed),
            empty=any(not file.size and file.path not in notes for file in changed),
            unfinished=self.unfinished,
        )

    def is_as_noted(self, notes: Mapping[str, FileNote]) -> bool:
        """Whether every file is as it was noted, and no noted file is missing."""
        return len(self.files) == len(notes) and all(file.is_like(notes.get(file.path)) for file in self.files)


# --- looking ----------------------------------------------------------------------------------------------------------


def look_at(place: Path) -> Look | None:
    """Look at the title at `place`; None if nothing is there, or nothing that is ever published."""
    try:
        state = place.lstat()
    except (OSError, ValueError):
        return None
    walk = _Walk()
    if is_plain_folder(state):
        walk.folder(place)
    else:
        walk.take(str(place), place.name, state)
    files = sorted(walk.files, key=lambda file: file.path.encode(errors="surrogatepass"))
    return Look(
        walk.digest.digest(_LIKENESS_BYTES),
        tuple(files),
        state.st_ino,
        not is_plain_folder(state),
        walk.unfinished,
        walk.obstacle,
    )


def name_obstacle(files: Iterable[Found]) -> Obstacle | None:
    """The first name that not every system would keep, if there is one."""
    for problem in check_portable(file.path for file in files):
        return Obstacle(Code.BAD_NAME, problem.path, problem.sentence)
    return None


class _Walk:
    """What was found so far."""

    def __init__(self) -> None:
        self.files: list[Found] = []
        self.digest = blake3()
        self.unfinished = False
        self.obstacle: Obstacle | None = None

    def folder(self, top: Path) -> None:
        """Everything below a folder."""
        pending = [(str(top), "")]
        folders = 0
        while pending:
            place, path = pending.pop()
            folders += 1
            if folders > MAX_FOLDERS_PER_REVISION or len(self.files) > MAX_FILES_PER_REVISION:
                self._stop(Code.TOO_MANY_FILES, path, f"there are more than {MAX_FILES_PER_REVISION} files")
                return
            for entry in self._entries(place, path):
                below = self._entry(entry, path + entry.name)
                if below is not None:
                    pending.append(below)

    def _entries(self, place: str, path: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(place) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except FileNotFoundError:
            self.digest.update(b"gone")
        except OSError as reason:
            self._stop(Code.UNREADABLE_FILE, path, f"this folder cannot be read: {reason.strerror}")
        return []

    def _entry(self, entry: os.DirEntry[str], path: str) -> tuple[str, str] | None:
        """Take a file; the folder to look into next if it is one."""
        kind = standing(entry.name)
        if kind is Standing.ASIDE:
            return None
        try:
            # the entry's own answer lacks the file's number on Windows
            state = os.lstat(entry.path) if os.name == "nt" else entry.stat(follow_symlinks=False)
        except OSError:
            self.digest.update(b"gone")
            return None
        if is_plain_folder(state):
            self.digest.update(b"/" + path.encode(errors="surrogatepass"))
            return (entry.path, f"{path}/") if kind is Standing.CONTENT else None
        self.take(entry.path, path, state, kind)
        return None

    def take(self, place: str, path: str, state: os.stat_result, kind: Standing = Standing.CONTENT) -> None:
        """Take what is no folder."""
        seen = f"{path}\0{state.st_size}\0{state.st_mtime_ns}\0{state.st_ino}\0{state.st_mode}\n"
        self.digest.update(seen.encode(errors="surrogatepass"))
        if kind is not Standing.CONTENT:
            self.unfinished |= kind is Standing.UNFINISHED
        elif is_link(state):
            self._stop(Code.UNREADABLE_FILE, path, "this is a link; put the file itself here")
        elif not stat.S_ISREG(state.st_mode):
            self._stop(Code.UNREADABLE_FILE, path, "this is neither a file nor a folder")
        elif state.st_size > MAX_FILE_BYTES:
            self._stop(Code.FILE_TOO_LARGE, path, "this file is larger than 4 GiB")
        elif not os.access(place, os.R_OK):
            self.digest.update(b"unreadable")
            self._stop(Code.UNREADABLE_FILE, path, "this file may not be read by the account of the agent")
        else:
            self.files.append(
                Found(place, portable_form(path), state.st_size, state.st_mtime_ns, state.st_ino & (2**64 - 1))
            )

    def _stop(self, code: Code, path: str, sentence: str) -> None:
        if self.obstacle is None:
            self.obstacle = Obstacle(code, displayable(path.rstrip("/")), sentence)


# --- asking about files -----------------------------------------------------------------------------------------------


def is_being_written(files: Iterable[Found]) -> bool:
    """Whether a program has one of the files open for writing, or lets nobody read it, as far as the system tells."""
    return any(_is_busy(file.place) for file in files)


def _is_busy(place: str) -> bool:
    try:
        descriptor = os.open(place, READ)
    except FileNotFoundError:
        return True
    except OSError:
        return os.name == "nt"  # shared with nobody: elsewhere it is a right that is missing, which a look tells
    try:
        return _has_writer(descriptor)
    finally:
        os.close(descriptor)


def _has_writer(descriptor: int) -> bool:
    """Linux grants a read lease only on a file that nobody has open for writing (fcntl(2)); others do not tell."""
    if sys.platform != "linux":
        return False
    try:
        # whoever opens the file for writing in between waits for us, and we get a signal that means nothing to us
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:  # another's file, or a file system without leases
        return False
    with contextlib.suppress(OSError):
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def head_of(place: str) -> bytes:
    """The first bytes of a file; nothing if it cannot be read."""
    try:
        with os.fdopen(os.open(place, READ), "rb", buffering=0) as file:
            return file.read(HEAD_BYTES)
    except OSError:
        return b""


def changed_files(look: Look, notes: Mapping[str, FileNote]) -> dict[str, Change]:
    """What became of the noted files, by path, before any is read.

    One that was only moved inside the title has not changed; one that has only got a further extension, and is not what
    it was, counts as scrambled.
    """
    there = {file.path: file for file in look.files}
    fresh = [file for file in look.files if file.path not in notes]
    moved = {(file.size, file.changed_ns, file.inode) for file in fresh}
    taken = {file.path.rpartition(".")[0] for file in fresh}
    changes = {}
    for path, note in notes.items():
        file = there.get(path)
        if file is None:
            if (note.size, note.changed_ns, note.inode) not in moved:
                changes[path] = Change.SCRAMBLED if path in taken else Change.GONE
        elif not file.is_like(note):
            changes[path] = Change.REWRITTEN
    return changes


# --- reading ----------------------------------------------------------------------------------------------------------


class TitleFiles:
    """The files of a settled title that are to be read, as a command gets them; iterated once.

    Raises `LocalFailure(CHANGING_FILE)` when one of them, or anything else in the title, is not as `look` found it.
    """

    def __init__(self, place: Path, look: Look, files: Sequence[Found]) -> None:
        self._place = place
        self._look = look
        self._files = files

    async def __aiter__(self) -> AsyncGenerator[FileEvent, None]:
        """The events in order."""
        folder = await asyncio.to_thread(self._folder)
        for batch in _batches(self._files):
            if batch[0].size > FILE_PIECE_BYTES:
                async for event in self._large_file(folder, batch[0]):
                    yield event
                continue
            for file, data in zip(batch, await asyncio.to_thread(self._read_small, folder, batch), strict=True):
                yield FileStart(file.path, file.size)
                if data:
                    yield FileData(data)
                yield FileEnd()
        again = await asyncio.to_thread(look_at, self._place)
        if again is None or again.likeness != self._look.likeness:
            raise _changing()
        yield Complete()

    def _read_small(self, folder: Enclosure, files: Sequence[Found]) -> list[bytes]:
        found = []
        for file in files:
            with self._opened(folder, file) as source:
                data = source.read(FILE_PIECE_BYTES + 1)
                if len(data) != file.size or not _is_still(source, file):
                    raise _changing()
                found.append(data)
        return found

    async def _large_file(self, folder: Enclosure, file: Found) -> AsyncGenerator[FileEvent, None]:
        yield FileStart(file.path, file.size)
        source = await asyncio.to_thread(self._opened, folder, file)
        try:
            left = file.size
            while data := await asyncio.to_thread(_read_some, source):
                left -= len(data)
                if left < 0:
                    raise _changing()
                for at in range(0, len(data), FILE_PIECE_BYTES):
                    yield FileData(data[at : at + FILE_PIECE_BYTES])
            if left or not await asyncio.to_thread(_is_still, source, file):
                raise _changing()
        finally:
            source.close()
        yield FileEnd()

    def _folder(self) -> Enclosure:
        try:
            return Enclosure.of(self._place.parent)
        except OSError as reason:
            raise _changing() from reason

    def _opened(self, folder: Enclosure, file: Found) -> BinaryIO:
        below = str(Path(file.place).relative_to(self._place.parent))
        try:
            return os.fdopen(folder.open(below), "rb", buffering=0)
        except OSError as reason:
            raise _changing() from reason


def _batches(files: Sequence[Found]) -> Iterator[list[Found]]:
    """Small files many at a time, large ones alone."""
    batch: list[Found] = []
    size = 0
    for file in files:
        if file.size > FILE_PIECE_BYTES:
            yield [file]
            continue
        batch.append(file)
        size += file.size
        if size >= _AT_ONCE_BYTES or len(batch) >= _AT_ONCE_FILES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _read_some(source: BinaryIO) -> bytes:
    try:
        return source.read(_AT_ONCE_BYTES)
    except OSError as reason:
        raise _changing() from reason


def _is_still(source: BinaryIO, file: Found) -> bool:
    state = os.fstat(source.fileno())
    return stat.S_ISREG(state.st_mode) and (state.st_size, state.st_mtime_ns, state.st_ino & (2**64 - 1)) == (
        file.size,
        file.changed_ns,
        file.inode,
    )


def _changing() -> LocalFailure:
    return LocalFailure(Code.CHANGING_FILE, "the title changes while it is read")
