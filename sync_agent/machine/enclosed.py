"""A folder that somebody else may have made: what lies in it is opened there, wherever links in it lead.

Rules:
- the folder itself may be reached by a link: whoever named it meant what that leads to;
- on the way from it to a file no link is followed, also none that was laid there since somebody looked: POSIX goes from
  each opened folder to the next; Windows, which cannot, opens the file and is asked where that lies;
- a link in it leads to what lies in it too, or elsewhere: which of both is told before anything is opened;
- a second name of a file (a hard link) is that file: nobody can tell which of its names was there first.

Everything blocks: callers use a thread.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Final, Self, TypeAlias

from sync_agent.machine.plain_files import READ

_FOLDER: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
_INNER_FOLDER: Final = _FOLDER | getattr(os, "O_NOFOLLOW", 0)
_MAX_WINDOWS_PATH_CHARS: Final = 32_768
_AS_WINDOWS_SAYS_IT: Final = (("\\\\?\\UNC\\", "\\\\"), ("\\\\?\\", ""))


Identity: TypeAlias = tuple[int, int]
"""What tells a file or folder from all others, by whatever name it is reached: its disk, and its number there."""


def identity_of(state: os.stat_result) -> Identity:
    """The identity that a `stat` tells."""
    return state.st_dev, state.st_ino


@dataclass(frozen=True, slots=True)
class Enclosure:
    """A folder as it was found: its place, reached by no link, and which folder that is."""

    place: str
    identity: Identity

    @classmethod
    def of(cls, named: str | Path) -> Self:
        """The folder of this name, or to which it leads. Raises `OSError`."""
        place = os.path.realpath(named)
        return cls(place, identity_of(os.stat(place)))  # noqa: PTH116 — of many thousands only the text is kept

    def way_to(self, link: str | Path) -> str | None:
        """The path, below this folder and through no link, of what `link` leads to; None if that lies elsewhere.

        Raises `OSError` where it leads nowhere, or nobody may see where.
        """
        led_to = Path(os.path.realpath(link, strict=True))
        for folder in (led_to, *led_to.parents):
            if identity_of(folder.stat()) == self.identity:
                return str(led_to.relative_to(folder))
        return None

    def open(self, below: str) -> int:
        """A descriptor of the file at the path `below` this folder, to be read.

        Raises `OSError`: ELOOP or ENOTDIR where a link is on the way by now, or another folder in this one's place.
        """
        if os.open not in os.supports_dir_fd:
            return self._open_and_ask(below)
        *folders, name = Path(below).parts
        here = os.open(self.place, _FOLDER)
        try:
            if identity_of(os.fstat(here)) != self.identity:
                raise _leads_elsewhere(self.place)
            for folder in folders:
                inner = os.open(folder, _INNER_FOLDER, dir_fd=here)
                os.close(here)
                here = inner
            return os.open(name, READ, dir_fd=here)
        finally:
            os.close(here)

    def _open_and_ask(self, below: str) -> int:
        place = os.path.join(self.place, below)  # noqa: PTH118 — of many thousands only the text is kept
        descriptor = os.open(place, READ)
        # a drive that cannot say where an open file lies has `realpath` go by names, as for `place`
        if not lies_below(_said_by_windows(descriptor) or os.path.realpath(place), self.place):
            os.close(descriptor)
            raise _leads_elsewhere(place)
        return descriptor


def lies_below(place: str, folder: str) -> bool:
    r"""Whether a path of Windows is in another one: in any case of letters, with “\\?\” before it or without."""
    return _plain(place).is_relative_to(_plain(folder))


def _plain(path: str) -> PureWindowsPath:
    for said, meant in _AS_WINDOWS_SAYS_IT:
        if path.startswith(said):
            return PureWindowsPath(meant + path.removeprefix(said))
    return PureWindowsPath(path)


def _said_by_windows(descriptor: int) -> str | None:
    """Where an open file lies, whatever its path was; None where its drive cannot say."""
    import ctypes  # noqa: PLC0415 — on one platform only
    import msvcrt  # noqa: PLC0415

    ask = ctypes.windll.kernel32.GetFinalPathNameByHandleW  # type: ignore[attr-defined,unused-ignore]
    ask.argtypes = (ctypes.c_void_p, ctypes.c_wchar_p, ctypes.c_uint32, ctypes.c_uint32)
    buffer = ctypes.create_unicode_buffer(_MAX_WINDOWS_PATH_CHARS)
    handle = msvcrt.get_osfhandle(descriptor)  # type: ignore[attr-defined,unused-ignore]
    length: int = ask(handle, buffer, _MAX_WINDOWS_PATH_CHARS, 0)
    return buffer.value if 0 < length < _MAX_WINDOWS_PATH_CHARS else None


def _leads_elsewhere(place: str) -> OSError:
    return OSError(errno.ELOOP, os.strerror(errno.ELOOP), place)
