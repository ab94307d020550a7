"""The caller's files on their way into a command (publish, hand-in, feedback).

Rules:
- a folder gives paths relative to it, without its own name; a file gives its base name; nothing that was named is left
  out, and who names a link means what it leads to;
- somebody else may have made what lies in a folder: a link there is followed as far as it leads to what lies in that
  folder too, and the folder is refused whole for one that leads elsewhere, also where that was laid there meanwhile;
- the keys of a device never leave it: a folder that holds them is refused whole, by whatever name it is reached;
- everything that can be refused without reading is refused before a byte is read, and names the path;
- files go in the order of their paths, in pieces of at most `FILE_PIECE_BYTES`, read in a thread;
- a file that is not the same before and after it was read voids everything sent (`Restart`); three tries in all.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from protocol.errors import BadInput, Code, LocalFailure
from protocol.limits import FILE_PIECE_BYTES, MAX_FILE_BYTES, MAX_FILES_PER_REVISION, MAX_FOLDERS_PER_REVISION
from protocol.portable_names import check_portable, displayable, portable_form, told
from protocol.replica.console.operation import (
    NO_FILES,
    Complete,
    FileData,
    FileEnd,
    FileEvent,
    FileStart,
    Incoming,
    Restart,
)
from sync_agent.machine.enclosed import Enclosure, Identity, identity_of
from sync_agent.machine.plain_files import is_link

TRIES: Final = 3
PAUSE_S: Final = 0.3
MAX_SECRET_BYTES: Final = 4_096
KEYS_FOLDER: Final = "keys"
_NEVER_BLOCK: Final = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOCTTY", 0)
_LED_ELSEWHERE: Final = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP))
"""What opening says where a path leads elsewhere than a moment ago: another look says where."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """What tells that a file is still the same: size in bytes, time of change in ns, number on its disk."""

    size: int
    changed_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class Source:
    """A file to send: where it was found, the path that it gets, and what it was then.

    `folder` is the folder that was named, None where the file itself was, and `below` its path there, through no link.
    """

    place: str
    path: str
    likeness: Likeness
    folder: Enclosure | None
    below: str


def files_of(
    paths: Sequence[str], *, folder: Path | None = None, required: bool = True, data_dir: Path | None = None
) -> Incoming:
    """The files that `paths` name, relative to `folder` (default: the caller's), to be read; no key of `data_dir`.

    Raises what `survey` raises; without `required`, no path at all is no file.
    """
    if not paths and not required:
        return NO_FILES
    base = Path() if folder is None else folder
    keys = frozenset[Identity]() if data_dir is None else _keys_in(data_dir)
    return Intake(paths, base, survey(paths, base, keys), keys)


def sizes_of(incoming: Incoming) -> list[tuple[str, int]]:
    """Path and size of each file that `files_of` found, in the order in which they come; nothing for other input."""
    return incoming.sizes() if isinstance(incoming, Intake) else []


def left_behind(incoming: Incoming) -> list[str]:
    """The paths, of what `files_of` found in folders, that programs leave there: they are sent, and hardly meant."""
    from sync_agent.watching.rules import is_left_behind  # noqa: PLC0415 — loaded only when needed

    found = incoming.found if isinstance(incoming, Intake) else []
    return [displayable(source.path) for source in found if source.folder and is_left_behind(source.path)]


def survey(paths: Sequence[str], folder: Path, keys: frozenset[Identity] = frozenset()) -> list[Source]:
    """All files that `paths` name, in the order of the paths that they get. Nothing is read but folders.

    Raises `BadInput`: MISSING_FILE, UNREADABLE_FILE (also for what is no file, one of `keys`, and links that turn in a
    circle or lead out of a folder), FILE_TOO_LARGE, TOO_MANY_FILES, NOTHING_TO_SEND, BAD_NAME (not portable, or two
    files with one path).
    """
    found: list[Source] = []
    for named in paths:
        if not named:
            raise BadInput(Code.MISSING_FILE, "a path is empty")
        for source in _walk(folder / named, keys):
            found.append(source)
            if len(found) > MAX_FILES_PER_REVISION:
                raise BadInput(
                    Code.TOO_MANY_FILES,
                    f"there are more than {MAX_FILES_PER_REVISION} files; send fewer at once",
                    max=MAX_FILES_PER_REVISION,
                )
    if not found:
        raise BadInput(
            Code.NOTHING_TO_SEND, "nothing to send: no file was named, or the folders that were named hold none"
        )
    problems = check_portable(source.path for source in found)
    if problems:
        raise BadInput(Code.BAD_NAME, told(problems), path=problems[0].path, problems=problems)
    return sorted(found, key=lambda source: portable_form(source.path).encode())


class Intake:
    """The events of the files that were named; iterated once."""

    def __init__(
        self,
        paths: Sequence[str],
        folder: Path,
        found: list[Source],
        keys: frozenset[Identity] = frozenset(),
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._paths = paths
        self._folder = folder
        self.found = found
        self._keys = keys
        self._pause = pause

    def sizes(self) -> list[tuple[str, int]]:
        """Path and size in bytes of each file as it was found, in their order."""
        return [(portable_form(source.path), source.likeness.size) for source in self.found]

    async def __aiter__(self) -> AsyncIterator[FileEvent]:
        """The events in order. Raises `LocalFailure(CHANGING_FILE)` after three tries, and what `survey` raises."""
        found = self.found
        for tries_left in reversed(range(TRIES)):
            try:
                for source in found:
                    async with aclosing(_read(source)) as events:
                        async for event in events:
                            yield event
            except _ChangedError as changed:
                if not tries_left:
                    raise LocalFailure(
                        Code.CHANGING_FILE,
                        f"{_shown(changed.place)} changes while it is read; close the program that writes it",
                        path=_shown(changed.place),
                    ) from None
            else:
                yield Complete()
                return
            yield Restart()
            await self._pause(PAUSE_S)
            found = await asyncio.to_thread(survey, self._paths, self._folder, self._keys)


class _ChangedError(Exception):
    def __init__(self, place: str) -> None:
        super().__init__(place)
        self.place = place


def first_line_of(path: Path) -> str:
    """A secret in a file: its text without the end of the line. Raises `BadInput`."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_SECRET_BYTES).decode(errors="replace").rstrip("\r\n")
    except (OSError, ValueError) as reason:
        raise _refusal(path, reason) from reason


async def _read(source: Source) -> AsyncGenerator[FileEvent, None]:
    file = await asyncio.to_thread(_open, source)
    try:
        yield FileStart(portable_form(source.path), source.likeness.size)
        left = source.likeness.size
        while piece := await asyncio.to_thread(_piece, file, source.place):
            left -= len(piece)
            if left < 0:
                raise _ChangedError(source.place)
            yield FileData(piece)
        if left or not await asyncio.to_thread(_is_unchanged, file, source):
            raise _ChangedError(source.place)
        yield FileEnd()
    finally:
        file.close()


def _open(source: Source) -> BinaryIO:
    try:
        file = os.fdopen(_descriptor(source), "rb", buffering=0)
    except OSError as reason:
        if reason.errno in _LED_ELSEWHERE:
            raise _ChangedError(source.place) from None
        raise _refusal(source.place, reason) from reason
    if _likeness(os.fstat(file.fileno())) != source.likeness:
        file.close()
        raise _ChangedError(source.place)
    return file


def _descriptor(source: Source) -> int:
    if source.folder is None:
        return os.open(source.place, os.O_RDONLY | _NEVER_BLOCK)
    return source.folder.open(source.below)


def _piece(file: BinaryIO, place: str) -> bytes:
    try:
        return file.read(FILE_PIECE_BYTES)
    except OSError as reason:
        raise _refusal(place, reason) from reason


def _is_unchanged(file: BinaryIO, source: Source) -> bool:
    """Whether the file that was read, and the one that now has its name, are what was found."""
    try:
        seen = (os.fstat(file.fileno()), os.stat(source.place))  # noqa: PTH116 — of many thousands only the text is kept
    except OSError:
        return False
    return all(_likeness(state) == source.likeness for state in seen)


def _likeness(state: os.stat_result) -> Likeness:
    return Likeness(state.st_size, state.st_mtime_ns, state.st_ino)


# --- finding ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder still to be looked into: its place, the path so far, the same through no link, and the folders above."""

    place: Path
    path: str
    below: str
    way: frozenset[Identity]


def _keys_in(data_dir: Path) -> frozenset[Identity]:
    """What holds the keys of a device: a folder, and the files in it."""
    folder = data_dir / KEYS_FOLDER
    try:
        states = [folder.stat(), *(place.stat() for place in folder.iterdir())]
    except OSError:  # no keys here, or none that this account could read
        return frozenset()
    return frozenset(map(identity_of, states))


def _walk(named: Path, keys: frozenset[Identity]) -> Iterator[Source]:
    state = _state(named, keys)
    if not stat.S_ISDIR(state.st_mode):
        name = Path(os.path.abspath(named)).name  # noqa: PTH100 — "." and ".." only, links stay
        yield _source(named, name, state, None, "")
        return
    top = _enclosure(named)
    pending = [_Folder(named, "", "", frozenset({identity_of(state)}))]
    folders = 0
    while pending:
        folder = pending.pop()
        folders += 1
        if folders > MAX_FOLDERS_PER_REVISION:
            raise BadInput(
                Code.TOO_MANY_FILES,
                f"{_shown(named)} has more than {MAX_FOLDERS_PER_REVISION} folders, counting what links lead to",
                max=MAX_FOLDERS_PER_REVISION,
            )
        for name in _names(folder.place):
            place, path, below = folder.place / name, folder.path + name, folder.below + name
            state = _state(place, keys, follow_links=False)
            if is_link(state):
                below = _way_to(place, top)
                state = _state(place, keys)
            if not stat.S_ISDIR(state.st_mode):
                yield _source(place, path, state, top, below)
                continue
            here = identity_of(state)
            if here in folder.way:
                raise BadInput(
                    Code.UNREADABLE_FILE,
                    f"{_shown(place)} leads back into a folder that contains it",
                    path=_shown(place),
                )
            pending.append(_Folder(place, f"{path}/", below + os.sep, folder.way | {here}))


def _enclosure(named: Path) -> Enclosure:
    try:
        return Enclosure.of(named)
    except OSError as reason:
        raise _refusal(named, reason) from reason


def _way_to(link: Path, top: Enclosure) -> str:
    """The path below `top` of what a link in it leads to. Raises `BadInput` where that lies elsewhere."""
    try:
        below = top.way_to(link)
    except OSError as reason:
        raise _refusal(link, reason) from reason
    if below is None:
        target = _shown(os.path.realpath(link))
        raise BadInput(
            Code.UNREADABLE_FILE,
            f"{_shown(link)} is a link that leads out of the folder that was named, to {target}; nothing is sent: "
            "put there what you mean, or name it",
            path=_shown(link),
        )
    return below


def _names(place: Path) -> list[str]:
    try:
        return os.listdir(place)  # noqa: PTH208 — names are enough
    except OSError as reason:
        raise _refusal(place, reason) from reason


def _state(place: Path, keys: frozenset[Identity], *, follow_links: bool = True) -> os.stat_result:
    try:
        state = place.stat(follow_symlinks=follow_links)
    except (OSError, ValueError) as reason:
        raise _refusal(place, reason) from reason
    if identity_of(state) in keys:
        raise BadInput(
            Code.UNREADABLE_FILE,
            f"{_shown(place)} holds the keys of this device, which never leave it; name the files that you mean",
            path=_shown(place),
        )
    return state


def _source(place: Path, path: str, state: os.stat_result, folder: Enclosure | None, below: str) -> Source:
    if not stat.S_ISREG(state.st_mode):
        raise BadInput(Code.UNREADABLE_FILE, f"{_shown(place)} is neither a file nor a folder", path=_shown(place))
    if state.st_size > MAX_FILE_BYTES:
        raise BadInput(
            Code.FILE_TOO_LARGE, f"{_shown(place)} is larger than 4 GiB", path=_shown(place), size=state.st_size
        )
    if not os.access(place, os.R_OK):
        raise BadInput(Code.UNREADABLE_FILE, f"{_shown(place)} may not be read by this account", path=_shown(place))
    return Source(str(place), path, _likeness(state), folder, below)


def _refusal(place: Path | str, reason: OSError | ValueError) -> BadInput:
    shown = _shown(place)
    match reason:
        case FileNotFoundError() | NotADirectoryError():
            return BadInput(Code.MISSING_FILE, f"{shown} does not exist", path=shown)
        case OSError(errno=errno.ELOOP):
            return BadInput(Code.UNREADABLE_FILE, f"{shown} is a link that leads nowhere", path=shown)
        case OSError(errno=errno.ENAMETOOLONG) | ValueError():
            return BadInput(Code.BAD_NAME, f"{shown} is no path that this system knows", path=shown)
        case _:
            return BadInput(Code.UNREADABLE_FILE, f"{shown} cannot be read: {reason.strerror}", path=shown)


def _shown(place: Path | str) -> str:
    return displayable(str(place))
