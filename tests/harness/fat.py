"""A folder with the rules of a stick: what FAT32 and exFAT refuse, or do not have, is refused here too.

The kernel of a test machine may not know these file systems; what a program asks of one can be held against their rules
all the same: names, times of two seconds, no links, no rights, no flush of a folder, no file of 4 GiB.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

_FORBIDDEN = frozenset('"*/:<>?\\|') | frozenset(map(chr, range(32)))
_LONGEST_NAME = 255
_TICK_NS = 2_000_000_000
LARGEST_FILE_BYTES = 2**32 - 1


class Stick:
    """What was asked of the folder that such a file system does not do."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.folders_flushed = 0
        self.names: set[str] = set()

    def holds(self, path: str | os.PathLike[str]) -> bool:
        """Whether a path lies on the stick."""
        return Path(path).absolute().is_relative_to(self.root)

    def check(self, path: Path) -> None:
        """Refuse a name that the file system cannot hold, or holds already in other capitals."""
        name = path.name
        if name.endswith((".", " ")) or len(name) > _LONGEST_NAME or not _FORBIDDEN.isdisjoint(name):
            raise OSError(errno.EINVAL, "no name for FAT", str(path))
        there = [each.name for each in path.parent.iterdir()]
        alike = [each for each in there if each != name and each.casefold() == name.casefold()]
        if alike:
            raise FileExistsError(errno.EEXIST, f"FAT knows it as {alike[0]}", str(path))
        self.names.add(name)

    def settle(self, path: Path) -> None:
        """Times are kept to two seconds."""
        told = path.stat()
        os.utime(path, ns=(told.st_atime_ns, told.st_mtime_ns // _TICK_NS * _TICK_NS))


def mount(monkeypatch: pytest.MonkeyPatch, root: Path) -> Stick:
    """Let `root` behave as a stick does, for the rest of a test."""
    root.mkdir(parents=True, exist_ok=True)
    stick = Stick(root)
    real_open, real_fsync = Path.open, os.fsync

    def open_file(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        if stick.holds(path) and set(mode) & set("wxa+"):
            stick.check(path)
        return real_open(path, mode, *args, **options)

    def fsync(descriptor: int) -> None:
        told = os.fstat(descriptor)
        if stat.S_ISDIR(told.st_mode) and stick.holds(Path(f"/proc/self/fd/{descriptor}").readlink()):
            stick.folders_flushed += 1
            raise OSError(errno.EINVAL, "no flush of a folder")
        real_fsync(descriptor)

    def moving(real: Callable[[Path, Any], Path]) -> Callable[[Path, Any], Path]:
        def move(path: Path, target: Any) -> Path:
            if stick.holds(target):
                stick.check(Path(target))
            moved = real(path, target)
            if stick.holds(target):
                stick.settle(Path(target))
            return moved

        return move

    def making(real: Callable[..., None]) -> Callable[..., None]:
        def make(path: Path, *args: Any, **options: Any) -> None:
            if stick.holds(path) and path.parent.is_dir():
                stick.check(path)
            real(path, *args, **options)

        return make

    def refusing(real: Callable[..., Any]) -> Callable[..., Any]:
        def refuse(path: object, *args: Any, **options: Any) -> Any:
            if any(stick.holds(each) for each in (path, *args[:1]) if isinstance(each, (str, os.PathLike))):
                _not_here()
            return real(path, *args, **options)

        return refuse

    monkeypatch.setattr(Path, "open", open_file)
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", moving(Path.replace))
    monkeypatch.setattr(Path, "rename", moving(Path.rename))
    monkeypatch.setattr(Path, "mkdir", making(Path.mkdir))
    for place, name in ((os, "link"), (os, "symlink"), (os, "chmod"), (Path, "chmod"), (Path, "symlink_to")):
        monkeypatch.setattr(place, name, refusing(getattr(place, name)))
    return stick


def _not_here() -> NoReturn:
    raise PermissionError(errno.EPERM, "FAT has neither links nor rights")
