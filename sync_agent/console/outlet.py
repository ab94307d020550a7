"""Files on their way from a command to the caller: into a folder (checkout, open-hand-in) or to stdout (cat).

Rules:
- the folder is made when the first file comes, so that a command that fails changes nothing;
- paths stay inside it: no "..", nothing absolute, and no link that lies in it is followed;
- a file appears whole or not at all, and takes the place of an older one in one step; what was begun by a command that
  was killed goes with the next one that writes into its folder;
- what a person wrote there is never lost: a file that is not what comes stays, under the dated name that
  `coursework.rules` gives to edits, and whoever asked is told;
- pupils' opened work is for this account alone, as an archive of a person is; what lies in the folder already keeps its
  own rights;
- what others made is marked so where the system knows such a mark (Windows asks before it opens it), and what a file
  manager acts upon by merely showing its folder gets a name that it does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import filecmp
import os
import re
import secrets
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from protocol.errors import NO_ROOM, BadInput, Code, LocalFailure, PeerFault, RelaisError
from protocol.portable_names import displayable
from protocol.replica.console.frame import Notices
from sync_agent.coursework.rules import dated_name, local_time

if sys.platform != "win32":
    import fcntl

_DRAFT_PREFIX: Final = ".relais-"
_DRAFT: Final = re.compile(r"\.relais-[0-9a-f]{16}")
_EXCLUSIVE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
_HAS_STREAMS: Final = os.name == "nt"
_ZONE_STREAM: Final = ":Zone.Identifier"
_FROM_ELSEWHERE: Final = b"[ZoneTransfer]\r\nZoneId=3\r\n"
_ACTED_UPON_NAMES: Final = frozenset({"desktop.ini", "autorun.inf"})
_ACTED_UPON: Final = frozenset(
    ["lnk", "scf", "url", "website", "library-ms", "search-ms", "searchconnector-ms", "theme", "themepack"]
)
"""Endings: Explorer asks for icons, and tells who we are, at places that such files name."""
_HARMLESS: Final = ".txt"
_MOST_NAME_BYTES: Final = 255


@dataclass(frozen=True, slots=True)
class Edit:
    """A file that was there and was not what came: its path in the folder, and where it lies now."""

    path: str
    place: Path

    @property
    def kept_as(self) -> str:
        """Its path in the folder now."""
        folder, slash, _ = self.path.rpartition("/")
        return f"{folder}{slash}{self.place.name}"


class FolderOutlet(Notices):
    """Writes files into `folder`. A context: a file that was not finished is gone at its end.

    `edits` are those that had to make way, `files` how many came.
    """

    def __init__(self, folder: Path, *, from_others: bool = False) -> None:
        """`from_others` says that they are pupils' work, which who opens it has not made."""
        self._folder = folder
        self.edits: list[Edit] = []
        self.files = 0
        self._from_others = from_others
        self._folder_mode = 0o700 if from_others else 0o777
        self._path = ""
        self._known: set[Path] = set()
        self._written: set[str] = set()
        self._file: BinaryIO | None = None
        self._draft = folder
        self._target = folder

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
            self._draft.unlink(missing_ok=True)

    async def start(self, path: str, size: int | None) -> None:
        """Begin `path`. Raises `PeerFault(BAD_NAME)` for an unsafe path, else as the other methods do."""
        del size
        parts = _safe_parts(path)
        if self._from_others and is_acted_upon(parts[-1]):
            await self.progress(f"{path}: systems act upon files of this name; written with {_HARMLESS} behind it")
            parts[-1] = _longer(parts[-1], after=_HARMLESS)
        while (written := "/".join(parts).casefold()) in self._written:
            parts[-1] = _longer(parts[-1], before="_")
        self._written.add(written)
        self._path = "/".join(parts)
        await asyncio.to_thread(self._begin, parts)

    async def data(self, data: bytes) -> None:
        """Add bytes. Raises `LocalFailure(DISK_FULL or STORAGE_FAILED)`."""
        await asyncio.to_thread(self._append, data)

    async def end(self) -> None:
        """Let the file appear. Raises `BadInput(BAD_NAME)` if a folder has its name, and as `data` does."""
        await asyncio.to_thread(self._finish)
        self.files += 1

    def _begin(self, parts: list[str]) -> None:
        try:
            parent = self._parent(parts[:-1])
            self._target = parent / parts[-1]
            self._draft, descriptor = _draft_in(parent, 0o600 if self._from_others else 0o666)
            self._file = os.fdopen(descriptor, "wb", buffering=0)
        except OSError as reason:
            raise trouble(self._target, reason) from reason

    def _append(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view and self._file is not None:
                view = view[self._file.write(view) :]
        except OSError as reason:
            raise trouble(self._target, reason) from reason

    def _finish(self) -> None:
        if self._file is None:
            return
        try:
            self._file.close()
            if self._from_others and _HAS_STREAMS:
                _mark(self._draft)
            if _differs(self._target, self._draft):
                self.edits.append(Edit(self._path, _set_aside(self._target)))
            self._draft.replace(self._target)
        except OSError as reason:
            raise trouble(self._target, reason) from reason
        self._file = None

    def _parent(self, parts: list[str]) -> Path:
        """The folder that `parts` name, made where it is missing; only real folders on the way."""
        place = self._folder
        if place not in self._known:
            place.mkdir(mode=self._folder_mode, parents=True, exist_ok=True)
            self._known.add(place)
            _clear(place)
        for part in parts:
            place /= part
            if place in self._known:
                continue
            if not _is_real_folder(place):
                place.mkdir(mode=self._folder_mode)
            self._known.add(place)
            _clear(place)
        return place


class StdoutOutlet(Notices):
    """Writes the bytes of one file to stdout, and nothing else."""

    def __init__(self) -> None:
        """Raises `LocalFailure(STORAGE_FAILED)` where whoever called has closed stdout."""
        if sys.stdout is None:
            raise LocalFailure(Code.STORAGE_FAILED, "stdout is closed: there is nowhere to write the file")
        self._stream = sys.stdout.buffer
        self._files = 0

    async def start(self, path: str, size: int | None) -> None:
        """Begin the only file. Raises `PeerFault(MALFORMED)` at a second one."""
        self._files += 1
        if self._files > 1:
            await super().start(path, size)

    async def data(self, data: bytes) -> None:
        """Write on. Raises `BrokenPipeError` when nobody reads any more, `LocalFailure(DISK_FULL)`."""
        self._guarded(data)

    async def end(self) -> None:
        """Write what is left."""
        self._guarded(b"")

    def _guarded(self, data: bytes) -> None:
        try:
            self._stream.write(data)
            if not data:
                self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError as reason:
            raise trouble(Path("stdout"), reason) from reason


def _draft_in(folder: Path, mode: int) -> tuple[Path, int]:
    """A new file of a name that nobody else gives, and its descriptor, which says that somebody is writing it."""
    while True:
        draft = folder / f"{_DRAFT_PREFIX}{secrets.token_hex(8)}"
        descriptor = os.open(draft, _EXCLUSIVE, mode)
        _hold(descriptor)
        if os.fstat(descriptor).st_nlink:
            return draft, descriptor
        os.close(descriptor)  # another command took it for one that was left, before it was held


def _hold(descriptor: int) -> None:
    if sys.platform != "win32":  # where no file goes that is open
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)


def _clear(folder: Path) -> None:
    """Take away what commands that were killed have begun here: drafts that nobody holds."""
    left: list[str] = []
    with contextlib.suppress(OSError):  # who may not look into a folder may write there all the same
        left = [name for name in os.listdir(folder) if _DRAFT.fullmatch(name)]  # noqa: PTH208
    for name in left:
        with contextlib.suppress(OSError):
            _drop_unheld(folder / name)


def _drop_unheld(draft: Path) -> None:
    if sys.platform == "win32":
        draft.unlink()
        return
    descriptor = os.open(draft, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        draft.unlink()
    finally:
        os.close(descriptor)


def _longer(name: str, *, before: str = "", after: str = "") -> str:
    """A name with more around it, cut where no file system would take it."""
    while len(f"{before}{name}{after}".encode()) > _MOST_NAME_BYTES:
        name = name[:-1]
    return f"{before}{name}{after}"


def is_acted_upon(name: str) -> bool:
    """Whether some file manager does something at the sight of a file of this name."""
    whole = name.lower()
    return whole in _ACTED_UPON_NAMES or ("." in whole and whole.rpartition(".")[2] in _ACTED_UPON)


def _mark(file: Path) -> None:
    """Say that a file came from elsewhere; a disk that keeps no such marks is none the worse."""
    with contextlib.suppress(OSError):
        Path(f"{file}{_ZONE_STREAM}").write_bytes(_FROM_ELSEWHERE)


def _differs(there: Path, fresh: Path) -> bool:
    """Whether a file is there that is not what comes."""
    return there.is_file() and not there.is_symlink() and not filecmp.cmp(there, fresh, shallow=False)


def _set_aside(file: Path) -> Path:
    """Give a file a name of its own with the time of its last change; where it lies then."""
    edited = local_time(file.stat().st_mtime_ns)
    kept = file.with_name(dated_name(file.name, edited, os.listdir(file.parent)))  # noqa: PTH208
    file.rename(kept)
    return kept


def _safe_parts(path: str) -> list[str]:
    parts = path.split("/")
    strange = "\\:\0" if os.name == "nt" else "\0"
    if any(part in ("", ".", "..") for part in parts) or any(character in path for character in strange):
        raise PeerFault(Code.BAD_NAME, f"{displayable(path)} is no path inside a folder", path=displayable(path))
    return parts


def _is_real_folder(place: Path) -> bool:
    """Whether a folder lies here; False if nothing does. Raises `BadInput(BAD_NAME)` for a link or a file."""
    try:
        state = place.lstat()
    except FileNotFoundError:
        return False
    # a junction of Windows is no symbolic link, but a reparse point all the same
    reparse = getattr(state, "st_file_attributes", 0) & getattr(stat, "FILE_ATTRIBUTE_REPARSE_POINT", 0)
    if stat.S_ISDIR(state.st_mode) and not reparse:
        return True
    kind = "a link" if reparse or stat.S_ISLNK(state.st_mode) else "a file"
    shown = displayable(str(place))
    raise BadInput(Code.BAD_NAME, f"{shown} is {kind} where a folder is needed; choose another folder", path=shown)


def trouble(place: Path, reason: OSError) -> RelaisError:
    """What keeps a file from being written, in our words: whose fault it is decides the exit status."""
    shown = displayable(str(place))
    if reason.errno in NO_ROOM:
        return LocalFailure(Code.DISK_FULL, f"the disk is full: {shown} could not be written", path=shown)
    if isinstance(reason, (IsADirectoryError, NotADirectoryError, FileExistsError)):
        return BadInput(
            Code.BAD_NAME, f"something else stands in the way of {shown}; choose another folder", path=shown
        )
    return LocalFailure(Code.STORAGE_FAILED, f"{shown} cannot be written: {reason.strerror}", path=shown)
