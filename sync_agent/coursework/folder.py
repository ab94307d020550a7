"""The folder of one title in DIR/coursework, on the disk: what lies there, and the steps that change it.

Rules:
- a file is ours if it is as we noted it, or holds what we wrote or are about to write; everything else is a person's,
  and is never overwritten or deleted: it moves aside, under its own name or a dated one;
- a revision is built beside, in DIR/coursework/.relais, and takes the place of the one before by two renames; what lay
  there before is then looked through once more, so that a file saved in that very moment is kept as well; so is one
  that was saved after that: each is looked at again as it goes;
- no link is followed: a link that stands where a folder or file of ours belongs is a person's file like any other;
- whatever a crash leaves in .relais is either built again or looked through again.

Everything here blocks: callers use a thread. Raises `OSError`.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias

from protocol.errors import NO_ROOM
from protocol.portable_names import compared, portable_form
from sync_agent.coursework.file_notes import FileNote
from sync_agent.coursework.rules import Wanted, dated_name, local_time
from sync_agent.coursework.space_folders import OUR_FOLDER
from sync_agent.machine.plain_files import is_plain_folder, is_real_folder, stream_of

Notes: TypeAlias = Mapping[str, FileNote]

_EXCLUSIVE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
_APPEND: Final = os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
_FEW_FILES: Final = 32
_TAG_CHARS: Final = 16
_AWAY: Final = "old-"


@dataclass(frozen=True, slots=True)
class Lying:
    """What lies at `path` below a title's folder. `stream` is the content, if it is one of ours; None if a person's."""

    place: str
    path: str
    size: int
    changed_ns: int
    stream: bytes | None

    @property
    def folder(self) -> str:
        """The folder that it lies in, as `folders_above` names them."""
        return _folder(self.path)


def tag_of(item: bytes) -> str:
    """What names an item in .relais."""
    return item.hex()[:_TAG_CHARS]


# --- what lies there --------------------------------------------------------------------------------------------------


def folders_above(paths: Iterable[str]) -> frozenset[str]:
    """The folders on the way to these paths, from a title's own on, which is "": `a/` and `a/b/` for `a/b/c`."""
    found = {""}
    for path in paths:
        folder = _folder(path)
        while folder:
            found.add(folder)
            folder = _folder(folder[:-1])
    return frozenset(found)


def _folder(path: str) -> str:
    return path[: path.rfind("/") + 1]


def look_through(
    place: Path, known: Sequence[Notes], wanted: Mapping[str, Wanted], within: frozenset[str] | None = None
) -> dict[str, Lying]:
    """Everything below `place` but folders, by path in portable form: ours by `known`, or by its content.

    With `within` only what lies in these folders itself, which are on the way to each other.

    An empty file where we had written more is ours as well: what a power cut left, not a person's work.
    """
    found = {}
    pending = [(str(place), "")]
    while pending:
        folder, path = pending.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                state = os.lstat(entry.path)
                below = portable_form(path + entry.name)
                if is_plain_folder(state):
                    if within is None or f"{below}/" in within:
                        pending.append((entry.path, f"{below}/"))
                else:
                    stream = _stream(entry.path, below, state, known, wanted)
                    found[below] = Lying(entry.path, below, state.st_size, state.st_mtime_ns, stream)
    return found


def _stream(
    place: str, path: str, state: os.stat_result, known: Sequence[Notes], wanted: Mapping[str, Wanted]
) -> bytes | None:
    if not stat.S_ISREG(state.st_mode):
        return None
    notes = [notes[path] for notes in known if path in notes]
    for note in notes:
        if (note.size, note.changed_ns) == (state.st_size, state.st_mtime_ns):
            return note.stream
    expected = {(note.size, note.stream) for note in notes}
    if path in wanted:
        expected.add((wanted[path].size, wanted[path].stream))
    streams = {stream for size, stream in expected if size == state.st_size}
    if streams and (held := stream_of(place)) in streams:
        return held
    return b"" if expected and not state.st_size else None


# --- steps ------------------------------------------------------------------------------------------------------------


class TitleFolder:
    """The folder of one item below `root` (DIR/coursework). `tag` names the item in .relais."""

    def __init__(self, root: Path, place: Path, tag: str) -> None:
        self.root = root
        self.place = place
        self._ours = root / OUR_FOLDER
        self.fresh = self._ours / f"new-{tag}"
        self._old = f"{_AWAY}{tag}-"
        self._drafts = (self._ours / f"draft-{tag}-{number}" for number in itertools.count(1))

    def begin(self) -> None:
        """An empty folder to build the revision in."""
        make_real_folder(self._ours, self.root)
        if self.fresh.exists():
            shutil.rmtree(self.fresh)
        self.fresh.mkdir()

    def drop(self) -> None:
        """Throw away what was built."""
        shutil.rmtree(self.fresh, ignore_errors=True)

    def keep(self, files: Iterable[Lying]) -> None:
        """Take files of the former revision into the one that is built, as they are."""
        for file in files:
            target = self.fresh / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(file.place, target, follow_symlinks=False)
            except (OSError, NotImplementedError):
                shutil.copy2(file.place, target, follow_symlinks=False)

    def exchange(self, known: Sequence[Notes], wanted: Mapping[str, Wanted]) -> None:
        """Let the built revision take the place of what lies there; a person's files come after it."""
        make_real_folder(self.place.parent, self.root)
        self._away(self.place)
        self.fresh.rename(self.place)
        self.tidy(known, wanted)

    def remove(self, known: Sequence[Notes]) -> None:
        """Take the title away; only a person's files stay."""
        if is_real_folder(self.place):
            try:
                self._away(self.place)
            except OSError as reason:
                if reason.errno not in NO_ROOM:
                    raise
                self._thin_out(known)
                self._away(self.place)
        self.tidy(known, {})
        with contextlib.suppress(OSError):
            self.place.parent.rmdir()

    def _thin_out(self, known: Sequence[Notes]) -> None:
        """Delete what is as we noted it where it lies: this disk has no block for a folder to put things away in."""
        for file in look_through(self.place, known, {}).values():
            _deleted(file)
        remove_empty(self.place)

    def put_away(self, known: Sequence[Notes]) -> None:
        """Put the folder into .relais: `tidy` brings it back, under the name that the title has by then."""
        self.tidy(known, {}, back=True)  # what a crash left there comes home before
        if is_real_folder(self.place):
            self._away(self.place)

    def tidy(self, known: Sequence[Notes], wanted: Mapping[str, Wanted], *, back: bool = False) -> None:
        """Look through what was put away, now or before a crash: ours is deleted, a person's comes back.

        With `back` all of it comes back where nothing has taken its place: a crash came between two renames.
        """
        if not is_real_folder(self._ours):
            return
        for aside in sorted(self._ours.iterdir()):
            if not aside.name.startswith(self._old):
                continue
            if back and not os.path.lexists(self.place):
                make_real_folder(self.place.parent, self.root)
                aside.rename(self.place)
                continue
            self._bring_back(aside, known, wanted)

    def _bring_back(self, aside: Path, known: Sequence[Notes], wanted: Mapping[str, Wanted]) -> None:
        """Delete what is ours of what was put away, then bring back the rest: on a full disk ours makes the room."""
        theirs = [file for file in look_through(aside, known, wanted).values() if not _deleted(file)]
        remove_empty(aside)
        is_home = bool(theirs) and not os.path.lexists(self.place)
        if is_home:  # all by one rename, which takes no block
            make_real_folder(self.place.parent, self.root)
            aside.rename(self.place)
            home = [self.place / Path(file.place).relative_to(aside) for file in theirs]
            theirs = [replace(file, place=str(place)) for file, place in zip(theirs, home, strict=True)]
        for file in theirs:
            is_edit = any(file.path in notes for notes in known)
            if is_edit or not is_home:
                self._rescue(file, dated=is_edit)
        remove_empty(aside)

    def put(self, draft: Path, path: str, lying: Lying | None) -> None:
        """Let a file that is written take its place, in one step.

        The disk says what is there by then: whatever it is but the file of ours that was found `lying` there, as it was
        found, gets a dated name. Nothing is put where the disk means a file by its short name, which no listing tells:
        it might mean the dated one by that as well.
        """
        target = self.place / path
        make_real_folder(target.parent, self.root)
        if os.path.lexists(target) and not (lying and _is_ours_still(lying, target)):
            if compared(target.name) not in map(compared, os.listdir(target.parent)):  # noqa: PTH208
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(target))
            set_aside_here(target)
        draft.replace(target)

    def take_away(self, file: Lying) -> None:
        """Delete a file of ours, and the folders that are empty then."""
        if not _deleted(file):
            return
        for folder in Path(file.place).parents:
            if folder == self.place:
                break
            try:
                folder.rmdir()
            except OSError:
                break

    def draft(self) -> Path:
        """A place for a file that is about to be `put`."""
        make_real_folder(self._ours, self.root)
        return next(self._drafts)

    def _away(self, place: Path) -> None:
        """Put what lies at `place` into .relais, to be looked through."""
        if not os.path.lexists(place):
            return
        if not is_real_folder(place):
            set_aside_here(place)
            return
        make_real_folder(self._ours, self.root)
        names = (self._ours / f"{self._old}{number}" for number in itertools.count(1))
        place.rename(next(aside for aside in names if not os.path.lexists(aside)))

    def _rescue(self, file: Lying, *, dated: bool) -> None:
        """Bring a person's file to where it belongs, beside what is published there."""
        folder, _, name = file.path.rpartition("/")
        home = self._home(folder)
        target = home / name
        there = os.path.lexists(target)
        if there and Path(file.place) != target and _is_same(Path(file.place), target):
            Path(file.place).unlink()  # the very same file was kept in the new revision
            return
        if dated or there:
            target = home / dated_name(name, local_time(file.changed_ns), os.listdir(home))  # noqa: PTH208
        Path(file.place).rename(target)

    def _home(self, folder: str) -> Path:
        """The folder below the title's where a person's file belongs; the title's own where something else is.

        Where the disk has no block for one more folder, the one above it: there it is seen.
        """
        make_real_folder(self.place, self.root)
        home = self.place
        for part in folder.split("/") if folder else ():
            home /= part
            if not is_real_folder(home):
                if os.path.lexists(home):
                    return self.place
                try:
                    home.mkdir()
                except OSError as reason:
                    if reason.errno not in NO_ROOM:
                        raise
                    return home.parent
        return home


def _deleted(file: Lying) -> bool:
    """Delete a file if it is ours, and nobody has saved anything there since it was looked at; whether it is gone."""
    place = Path(file.place)
    try:
        is_to_go = _is_ours_still(file, place)
    except FileNotFoundError:
        return file.stream is not None
    if is_to_go:
        place.unlink()
    return is_to_go


def _is_ours_still(file: Lying, place: Path) -> bool:
    """Whether a file is ours, and what is at this place is as it was when that was looked at."""
    state = place.lstat()
    return file.stream is not None and (state.st_size, state.st_mtime_ns) == (file.size, file.changed_ns)


@dataclass(frozen=True, slots=True)
class NewFile:
    """Bytes for a new file at `place`, or with `append` for the end of one that was begun."""

    place: Path
    parts: tuple[bytes, ...]
    append: bool


def write_files(files: Iterable[NewFile], changed_ns: int) -> list[tuple[int, int]]:
    """Write files, and give them this time of change; for each its size and the time that it really has."""
    states = []
    for new in files:
        if not new.append:
            new.place.parent.mkdir(parents=True, exist_ok=True)
        flags = _APPEND if new.append else _EXCLUSIVE
        with os.fdopen(os.open(new.place, flags, 0o666), "wb", buffering=0) as file:
            for part in new.parts:
                rest = memoryview(part)
                while rest:
                    rest = rest[file.write(rest) :]
        if os.name == "nt":  # as a browser marks what came from elsewhere
            with contextlib.suppress(OSError):
                Path(f"{new.place}:Zone.Identifier").write_bytes(b"[ZoneTransfer]\r\nZoneId=3\r\n")
        os.utime(new.place, ns=(changed_ns, changed_ns))
        state = new.place.stat()
        states.append((state.st_size, state.st_mtime_ns))
    return states


def remove_drafts(drafts: Iterable[Path]) -> None:
    """Delete files that were written and are not to be `put`."""
    for draft in drafts:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


def clear_ours(root: Path) -> None:
    """Delete what a crash left of what was being written; what was put away stays, to be looked through."""
    ours = root / OUR_FOLDER
    if not is_real_folder(ours):
        return
    for left in ours.iterdir():
        if left.name.startswith("draft-"):
            left.unlink()
        elif left.name.startswith("new-") and is_real_folder(left):
            shutil.rmtree(left)


def put_away(root: Path) -> frozenset[str]:
    """Of which items something lies in .relais that was put away, by their tags."""
    ours = root / OUR_FOLDER
    if not is_real_folder(ours):
        return frozenset()
    begin = len(_AWAY)
    return frozenset(left.name[begin : begin + _TAG_CHARS] for left in ours.iterdir() if left.name.startswith(_AWAY))


def remove_ours(root: Path) -> None:
    """Remove our own folder while nothing is in it."""
    with contextlib.suppress(OSError):
        (root / OUR_FOLDER).rmdir()


def make_durable(places: Sequence[Path]) -> None:
    """Return when these files lie on the disk, as far as the system promises."""
    if os.name == "posix" and len(places) > _FEW_FILES:
        os.sync()
        return
    for place in places:
        with contextlib.suppress(OSError), place.open("r+b") as file:
            os.fsync(file.fileno())


def make_real_folder(place: Path, root: Path) -> None:
    """Make the folders from `root` down to `place`; a link or file that stands in the way gets a dated name."""
    if is_real_folder(place):
        return
    if place != root:
        make_real_folder(place.parent, root)
    if os.path.lexists(place):
        set_aside_here(place)
    place.mkdir()


def set_aside_here(place: Path) -> None:
    """Give what lies at `place` a dated name beside it."""
    changed_ns = place.lstat().st_mtime_ns
    place.rename(place.with_name(dated_name(place.name, local_time(changed_ns), os.listdir(place.parent))))  # noqa: PTH208


def _is_same(one: Path, other: Path) -> bool:
    try:
        return os.path.samestat(one.lstat(), other.lstat())
    except OSError:
        return False


def remove_empty(top: Path) -> None:
    """Take away the folders here in which nothing lies, this one too."""
    for folder, _, _ in os.walk(top, topdown=False):
        with contextlib.suppress(OSError):
            Path(folder).rmdir()
