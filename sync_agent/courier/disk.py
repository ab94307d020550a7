"""A courier disk as the caller's files: bundles read, and written so that a disk pulled out at any moment holds no lie.

Rules:
- all lies in one folder named after the territory, so that several territories share a disk; names are 16 bytes of the
  bundle's hash in hex, portable everywhere; whatever else lies on the disk is not looked at;
- a bundle is written under a passing name, flushed, renamed, its folder flushed, and read back from the disk before it
  counts; what is not whole is left alone, and a passing file of an earlier try is removed;
- nothing here knows a key: whether a bundle is whole is told by its size and hash; one that is damaged is set aside
  under another ending, brings nothing any more, and goes once what it may hold was erased;
- a disk may come from anybody: no link on it is followed, of passing files only our own are removed, what a look reads
  is bounded, and none of it is kept that is not ours, however much else lies there.

docs/protocol.md, "Courier disks".
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final, Self

from blake3 import blake3

from protocol.bundles.form import HEAD_BYTES, TRAILER_BYTES, Trailer, head_size, parse_head
from protocol.errors import NO_ROOM, BadInput, Code, LocalFailure, PeerFault, Refused, RelaisError
from protocol.limits import (
    MAX_BUNDLE_BYTES,
    MAX_BUNDLE_FRONTS_PER_LOOK_BYTES,
    MAX_BUNDLES_PER_DISK,
    MAX_NAMES_PER_DISK_FOLDER,
    KiB,
    MiB,
)
from protocol.portable_names import displayable
from protocol.replica.console.frame import Notices
from protocol.replica.console.operation import Complete, FileData, FileEnd, FileEvent, FileStart
from protocol.replica.process.native_memory import REUSED_PIECE_BYTES
from sync_agent.machine.write_behind import Behind, WriteBehind

ENDING: Final = ".rls"
DAMAGED_ENDING: Final = ".bad"
_PASSING: Final = ".tmp"
_PASSING_BYTES: Final = 8
_FOLDER_BYTES: Final = 8
_GONE: Final = frozenset(
    {errno.ENOENT, errno.ENODEV, errno.EIO, errno.ENXIO, errno.ESTALE, errno.ENOTCONN, errno.ECONNABORTED}
)
"""The last two are what a file system outside the kernel (exFAT by FUSE) answers when it has lost its stick."""
_NO_SUCH_FLUSH: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EISDIR})
"""What a file system answers that cannot flush, or open, a folder."""
_READ_BYTES: Final = MiB
_AHEAD_BYTES: Final = MiB
_LEAST_HELD_BYTES: Final = 256 * KiB
_MOST_HELD_BYTES: Final = 4 * MiB
"""What is written at once: a system writes large parts much faster than small ones."""
_TO_THE_DISK_BYTES: Final = 8 * MiB
"""After so much the system is told to write out what it holds back: the flush at the end has little to wait for."""
_NAMED: Final = re.compile(rf"[0-9a-f]{{32}}{re.escape(ENDING)}")
_SET_ASIDE: Final = re.compile(rf"[0-9a-f]{{32}}{re.escape(DAMAGED_ENDING)}")
_PASSES: Final = re.compile(rf"[0-9a-f]{{{2 * _PASSING_BYTES}}}{re.escape(_PASSING)}")
_TERRITORY: Final = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Found:
    """A file with a bundle's name: its size, and how long its head and index are; `whole` if its end is there.

    `front_bytes` is 0 where no front is there. `closed` if it cannot be read here, though others can.
    """

    name: str
    size: int
    front_bytes: int
    whole: bool
    closed: bool = False


class CourierDisk:
    """The folder that a command names, and in it the folder of one territory."""

    def __init__(self, folder: Path, territory: bytes) -> None:
        self.folder = folder
        self.place = folder / territory[:_FOLDER_BYTES].hex()
        self._territory = territory

    def is_territory(self, territory: bytes) -> bool:
        """Whether it is the one whose folder this is."""
        return territory == self._territory

    def bundles(self) -> list[Found]:
        """The files with bundles' names, whole or not; nothing where there is no folder yet.

        Raises `LocalFailure(STORAGE_FAILED)`, `BadInput(TOO_MANY_FILES or BAD_NAME)`.
        """
        found = []
        try:
            self._check_own()
            for entry in entries_in(self.place):
                if _NAMED.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    found.append(entry.name)
                    if len(found) > MAX_BUNDLES_PER_DISK:
                        raise _too_many(self.place, f"{MAX_BUNDLES_PER_DISK} bundles")
            return self._look_at(sorted(found))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as reason:
            raise trouble_of(self.place, reason) from reason

    def set_aside_before(self) -> list[Found]:
        """What was set aside as damaged, as far as it can be read; no more than there may be bundles."""
        found = []
        with contextlib.suppress(OSError, RelaisError):
            self._check_own()
            aside = (entry for entry in entries_in(self.place) if _SET_ASIDE.fullmatch(entry.name))
            files = (entry.name for entry in aside if entry.is_file(follow_symlinks=False))
            for name in list(islice(files, MAX_BUNDLES_PER_DISK)):
                with contextlib.suppress(OSError):
                    found.append(self._look(name))
        return found

    def names(self) -> frozenset[str]:
        """What lies under bundles' names, unread: it differs where something else stands on the disk."""
        with contextlib.suppress(OSError, RelaisError):
            self._check_own()
            return frozenset(entry.name for entry in entries_in(self.place) if _NAMED.fullmatch(entry.name))
        return frozenset()

    def room(self) -> int | None:
        """For how many bytes more there is room; None of a disk that does not say."""
        with contextlib.suppress(OSError):
            return shutil.disk_usage(self.place).free
        return None

    def check_readable(self) -> None:
        """Raise what says why there is nothing to import: no folder, a foreign one, or nothing that Relais wrote."""
        if not self.folder.is_dir():
            raise BadInput(Code.MISSING_FILE, f"{displayable(str(self.folder))} does not exist, or is no folder")
        try:
            self._check_own()
            if self.place.is_dir():
                return
            foreign = any(_TERRITORY.fullmatch(entry.name) and entry.is_dir() for entry in entries_in(self.folder))
        except OSError as reason:
            raise trouble_of(self.folder, reason) from reason
        if foreign:
            raise Refused(
                Code.WRONG_TERRITORY,
                "this disk belongs to another network of schools; there is nothing for this one on it",
            )
        raise BadInput(
            Code.MISSING_FILE, f"{displayable(str(self.folder))} holds nothing that `courier export` has written"
        )

    def make(self) -> None:
        """Make the folders, and remove what an earlier try left unfinished. Raises `LocalFailure`, `BadInput`."""
        try:
            self._check_own()
            self._make_folder()
            passing = (entry.name for entry in entries_in(self.place) if _PASSES.fullmatch(entry.name))
            for name in list(islice(passing, MAX_BUNDLES_PER_DISK)):
                (self.place / name).unlink(missing_ok=True)
        except OSError as reason:
            raise trouble_of(self.place, reason) from reason

    def _make_folder(self) -> None:
        try:
            self.place.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as reason:
            # all above it is made as well: this is no place for files, and no stick is out
            shown = displayable(str(self.place))
            sentence = f"no folder can be made at {shown}; choose another place"
            raise LocalFailure(Code.STORAGE_FAILED, sentence, path=shown) from reason

    def passing(self) -> Path:
        """A new passing name, under which a file is written before it counts."""
        return self.place / f"{secrets.token_hex(_PASSING_BYTES)}{_PASSING}"

    def set_aside(self, names: Iterable[str]) -> None:
        """Give damaged bundles a name under which nobody counts on them, if the disk can be written."""
        for name in names:
            with contextlib.suppress(OSError):
                (self.place / name).rename(self.place / f"{name.removesuffix(ENDING)}{DAMAGED_ENDING}")

    def remove(self, names: Iterable[str]) -> None:
        """Remove bundles that others replace, or that were set aside, as far as the disk lets us."""
        for name in names:
            if _NAMED.fullmatch(name) or _SET_ASIDE.fullmatch(name):
                with contextlib.suppress(OSError):
                    (self.place / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            flush_folder(self.place)

    def _check_own(self) -> None:
        """Raise `BadInput(BAD_NAME)` where the territory's folder is a link that leads elsewhere."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            told = self.place.lstat()
            if stat.S_ISLNK(told.st_mode) or getattr(told, "st_reparse_tag", False):
                raise _in_the_way(self.place)

    def _look_at(self, names: Sequence[str]) -> list[Found]:
        found = []
        failure: OSError | None = None
        for name in names:
            try:
                found.append(self._look(name))
            except OSError as reason:
                failure = reason
                found.append(Found(name, 0, 0, whole=False, closed=True))
        if failure is not None and all(each.closed for each in found):
            raise failure
        return found

    def _look(self, name: str) -> Found:
        with (self.place / name).open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            fixed = file.read(HEAD_BYTES)
            front, trailer = 0, None
            with contextlib.suppress(PeerFault):
                front = head_size(fixed) + int.from_bytes(fixed[-4:], "big")
                file.seek(max(0, size - TRAILER_BYTES))
                trailer = Trailer.parse(file.read(TRAILER_BYTES))
        is_ended = trailer is not None and trailer.size == size and trailer.name + ENDING == name
        whole = is_ended and front + TRAILER_BYTES < size <= MAX_BUNDLE_BYTES
        return Found(name, size, front if front <= size else 0, whole=whole)


class CardsIn:
    """The cards of bundles on their way into an operation: head and index, then the trailer of what is whole.

    Short ones come first; those beyond `MAX_BUNDLE_FRONTS_PER_LOOK_BYTES` in all are not read.
    """

    def __init__(self, disk: CourierDisk, bundles: Iterable[Found]) -> None:
        self._disk = disk
        self._bundles: list[Found] = []
        left = MAX_BUNDLE_FRONTS_PER_LOOK_BYTES
        for found in sorted(bundles, key=lambda each: each.front_bytes):
            left -= found.front_bytes
            if left < 0:
                break
            self._bundles.append(found)

    async def __aiter__(self) -> AsyncIterator[FileEvent]:
        """The events in order. Raises `LocalFailure(STORAGE_FAILED)`."""
        files = _Files(self._disk.place)
        for found in self._bundles:
            end = [(found.size - TRAILER_BYTES, TRAILER_BYTES)] if found.whole else []
            async for event in files.events(found.name, [(0, found.front_bytes), *end]):
                yield event
        files.check()
        yield Complete()


class BundlesIn:
    """Whole bundles on their way into an operation.

    `anyway`: a disk of which nothing could be read any more ends them without a word; whoever comes next says it.
    """

    def __init__(self, disk: CourierDisk, bundles: Sequence[Found], *, anyway: bool = False) -> None:
        self._disk = disk
        self._bundles = bundles
        self._anyway = anyway

    async def __aiter__(self) -> AsyncIterator[FileEvent]:
        """The events in order. Raises `LocalFailure(STORAGE_FAILED)`."""
        files = _Files(self._disk.place)
        for found in self._bundles:
            async for event in files.events(found.name, [(0, found.size)]):
                yield event
        if not self._anyway:
            files.check()
        yield Complete()


class _Files:
    """Files of a disk on their way into an operation. A bad sector or a closed file costs the others nothing.

    What cannot be read of a file comes as zeros, which no seal takes. Only where nothing could be read after a failure
    is it the disk that failed.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self._failure: RelaisError | None = None

    async def events(self, name: str, spans: Sequence[tuple[int, int]]) -> AsyncIterator[FileEvent]:
        """Parts of a file, each from where and how much, as one. Raises `LocalFailure(CUT_OFF)`."""
        yield FileStart(name, sum(length for _, length in spans))
        file = await asyncio.to_thread(self._open, name)
        reading: asyncio.Task[list[bytes]] | None = None
        try:
            for start, length in spans:
                at, end = start, start + length
                while at < end:
                    pieces = [] if file is None else await (reading or self._begin(file, at, end))
                    reading = None
                    if not pieces and file is not None:
                        _close(file)
                        file = None
                    pieces = pieces or [bytes(min(end - at, REUSED_PIECE_BYTES))]
                    at += sum(map(len, pieces))
                    if file is not None and at < end:
                        reading = self._begin(file, at, end)
                    for piece in pieces:
                        yield FileData(piece)
            if file is not None:
                self._failure = None
        finally:
            if reading is not None:
                await asyncio.wait((reading,))
                reading.exception()
            if file is not None:
                _close(file)
        yield FileEnd()

    def check(self) -> None:
        """Raise what failed, if nothing could be read since."""
        if self._failure is not None:
            raise self._failure

    def _open(self, name: str) -> BinaryIO | None:
        try:
            return (self._place / name).open("rb", buffering=0)
        except OSError as reason:
            self._failure = trouble_of(self._place, reason)
            return None

    def _begin(self, file: BinaryIO, at: int, end: int) -> asyncio.Task[list[bytes]]:
        """Read on while what was read before is looked at."""
        return asyncio.create_task(asyncio.to_thread(self._read_some, file, at, end))

    def _read_some(self, file: BinaryIO, at: int, end: int) -> list[bytes]:
        """What comes next, in pieces; fewer, or none, where the disk cannot read on."""
        pieces = []
        end = min(end, at + _AHEAD_BYTES)
        while at < end and (piece := self._read(file, at, min(end - at, REUSED_PIECE_BYTES))):
            pieces.append(piece)
            at += len(piece)
        return pieces

    def _read(self, file: BinaryIO, at: int, length: int) -> bytes:
        """At least one byte; none where they cannot be read."""
        try:
            file.seek(at)
            data = file.read(length)
        except OSError as reason:
            self._failure = trouble_of(self._place, reason)
            return b""
        if not data:
            raise LocalFailure(Code.CUT_OFF, "a bundle changed while it was read; nothing of it is lost, import again")
        return data


class BundlesOut(Notices):
    """Writes bundles onto the disk. A context: a bundle that was not finished is gone at its end."""

    def __init__(self, disk: CourierDisk) -> None:
        self._disk = disk
        self._file: BinaryIO | None = None
        self._passing = disk.place
        self._size = 0
        self._sent_bytes = 0
        self._end = b""
        self._writing = WriteBehind(self._write, least_bytes=_LEAST_HELD_BYTES, most_bytes=_MOST_HELD_BYTES)
        self._reading = Behind()
        self.names: list[str] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._writing.leave()
        await self._reading.leave()
        if self._file is not None:
            _close(self._file)
            with contextlib.suppress(OSError):
                self._passing.unlink(missing_ok=True)

    async def start(self, path: str, size: int | None) -> None:
        """Begin a bundle; its name follows from its hash."""
        del path, size
        await asyncio.to_thread(self._begin)

    async def data(self, data: bytes) -> None:
        """Add bytes. Raises `LocalFailure(DISK_FULL or STORAGE_FAILED)`, of bytes that were added before too."""
        await self._writing.add(data)

    async def end(self) -> None:
        """Let the bundle be durable under its name; it is read back while the next one is written."""
        await self.settle()
        target, trailer = await asyncio.to_thread(self._finish)
        await self._reading.begin(asyncio.to_thread(self._compare, target, trailer))

    async def settle(self) -> None:
        """Return when all is written, and all bundles were read back. Raises `LocalFailure`."""
        await self._writing.settle()
        await self._reading.settle()

    async def _write(self, data: memoryview) -> None:
        await asyncio.to_thread(self._append, data)

    def _begin(self) -> None:
        if not self.names:
            self._disk.make()
        self._passing = self._disk.passing()
        self._size, self._sent_bytes, self._end = 0, 0, b""
        try:
            self._file = self._passing.open("xb", buffering=0)
        except OSError as reason:
            raise trouble_of(self._disk.place, reason) from reason

    def _append(self, data: memoryview) -> None:
        self._end = (self._end + data[-TRAILER_BYTES:])[-TRAILER_BYTES:]
        self._size += len(data)
        left = data
        try:
            while left and self._file is not None:
                left = left[self._file.write(left) :]
            if self._file is not None and self._size - self._sent_bytes >= _TO_THE_DISK_BYTES:
                _begin_flush(self._file, self._sent_bytes, self._size - self._sent_bytes)
                self._sent_bytes = self._size
        except OSError as reason:
            raise trouble_of(self._disk.place, reason) from reason

    def _finish(self) -> tuple[Path, Trailer]:
        if self._file is None:
            raise LocalFailure(Code.INTERNAL, "a bundle ends that was not begun")
        trailer = Trailer.parse(self._end)
        if trailer.size != self._size:
            raise LocalFailure(Code.INTERNAL, "a bundle was not written as it was meant")
        target = self._disk.place / f"{trailer.name}{ENDING}"
        try:
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None
            self._passing.replace(target)
            flush_folder(self._disk.place)
        except OSError as reason:
            raise trouble_of(self._disk.place, reason) from reason
        self.names.append(target.name)
        return target, trailer

    def _compare(self, target: Path, trailer: Trailer) -> None:
        try:
            if _hash_of(target, trailer.size) != trailer.hash:
                target.unlink(missing_ok=True)
                raise LocalFailure(
                    Code.DAMAGED, "the disk gave back something else than was written onto it; use another one"
                )
            _check_front(target)
        except OSError as reason:
            raise trouble_of(self._disk.place, reason) from reason


def _check_front(path: Path) -> None:
    """Raise `LocalFailure(INTERNAL)`, and remove the bundle, where nobody could read how it begins."""
    with path.open("rb") as file:
        fixed = file.read(HEAD_BYTES)
        try:
            parse_head(fixed + file.read(head_size(fixed) - HEAD_BYTES))
        except PeerFault as reason:
            path.unlink(missing_ok=True)
            raise LocalFailure(
                Code.INTERNAL, "a bundle was written that nobody could read; what was written before it counts"
            ) from reason


def is_set_aside(name: str) -> bool:
    """Whether a file was set aside as damaged, by its name."""
    return name.endswith(DAMAGED_ENDING)


def _close(file: BinaryIO) -> None:
    """Close a file whatever the disk says to it: one that was pulled out answers even this with an error."""
    with contextlib.suppress(OSError):
        file.close()


def _begin_flush(file: BinaryIO, start: int, length: int) -> None:
    """Let the system begin to write out a part of a file, where it takes such advice; nothing waits for it."""
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):
            os.posix_fadvise(file.fileno(), start, length, os.POSIX_FADV_DONTNEED)


def _hash_of(path: Path, size: int) -> bytes:
    """BLAKE3 of a bundle without its trailer, read from the disk itself where the system can forget what it cached."""
    digest = blake3()
    with path.open("rb", buffering=0) as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        left = size - TRAILER_BYTES
        room = memoryview(bytearray(_READ_BYTES))
        while left > 0 and (length := file.readinto(room[:left])):
            digest.update(room[:length])
            left -= length
    return digest.digest()


def entries_in(place: Path) -> Iterator[os.DirEntry[str]]:
    """What lies in a folder of a disk, one after the other. Raises `OSError`, `BadInput(TOO_MANY_FILES)`."""
    with os.scandir(place) as entries:
        for count, entry in enumerate(entries):
            if count >= MAX_NAMES_PER_DISK_FOLDER:
                raise _too_many(place, f"{MAX_NAMES_PER_DISK_FOLDER} files; use a folder with less in it")
            yield entry


def flush_folder(place: Path) -> None:
    """Let renames in a folder be durable, where the system can.

    Some file systems of sticks have no such call for folders: there all that the system holds back is written out.
    """
    if os.name == "nt":
        return
    try:
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as reason:
        if reason.errno not in _NO_SUCH_FLUSH:
            raise
        os.sync()


def _too_many(place: Path, what: str) -> BadInput:
    return BadInput(Code.TOO_MANY_FILES, f"{displayable(str(place))} holds more than {what}")


def _in_the_way(place: Path) -> BadInput:
    shown = displayable(str(place))
    return BadInput(Code.BAD_NAME, f"something else stands in the way of {shown}; choose another folder", path=shown)


def trouble_of(place: Path, reason: OSError) -> RelaisError:
    """What a disk's failure means to a person."""
    shown = displayable(str(place))
    if reason.errno in NO_ROOM:
        return LocalFailure(
            Code.DISK_FULL,
            f"the disk is full: {shown}; what was written before counts. Make room, or go on with another disk",
            path=shown,
        )
    if reason.errno == errno.EROFS:
        return LocalFailure(
            Code.READ_ONLY, f"the disk may only be read: {shown}; a switch at its side, or damage, locks it", path=shown
        )
    if isinstance(reason, PermissionError):
        return LocalFailure(
            Code.STORAGE_FAILED, f"{shown} may not be written or read by this account: {reason.strerror}", path=shown
        )
    if reason.errno in _GONE:
        return LocalFailure(
            Code.STORAGE_FAILED, f"the disk was pulled out, or cannot be read any more: {shown}", path=shown
        )
    if isinstance(reason, (NotADirectoryError, FileExistsError, IsADirectoryError)):
        return _in_the_way(place)
    return LocalFailure(Code.STORAGE_FAILED, f"{shown} cannot be used: {reason.strerror}", path=shown)
