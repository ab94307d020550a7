"""When what lies in a watched folder may be published: pure rules over looks at a title (docs/adr/0013).

Rules:
- a title is one entry of a watched folder: a folder with all below it, or a single file;
- names that programs leave behind while they work are left out of what is published; while an unfinished download or a
  working copy still changes, its title is not finished either;
- a title is settled when looks at it, some time apart, found the very same: the longer and the larger the change, the
  longer that time. A copy that is going on, an editor that saves by renaming, thousands of files at once are all a
  title that still changes;
- events of the operating system only say when to look: nothing is decided by them, so that a folder without events (a
  network drive) is published by the same rules, only later.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from protocol.shown_text import one_line

# --- names ------------------------------------------------------------------------------------------------------------


class Standing(StrEnum):
    """What a name says about a file or folder."""

    CONTENT = "content"
    """Published."""
    ASIDE = "aside"
    """Never published, and of no interest: what systems and programs keep beside the files."""
    WORKING = "working"
    """Never published: a copy that a program works on. Its title settles only when it has come to rest as well."""
    UNFINISHED = "unfinished"
    """Never published: a file that is still being received. Its title waits for its end, or until it is given up."""


_ASIDE_NAMES: Final = frozenset(
    {
        "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$recycle.bin", "system volume information",
        ".ds_store", ".appledouble", ".lsoverride", ".spotlight-v100", ".trashes", ".fseventsd", ".temporaryitems",
        ".documentrevisions-v100", ".volumeicon.icns", "__macosx", ".directory", "lost+found", "@eadir", "#recycle",
        ".git", ".svn", ".hg", ".bzr", ".sync", ".stfolder", ".stversions", ".dropbox", ".dropbox.cache",
    }
)  # fmt: skip
_ASIDE: Final = re.compile(
    r"""
    ~\$.* | \.~lock\..*\# | ~lock~.* | .*\.lck | .*\.laccdb | .*\.ldb   # who has a document open
    | \._.* | \.\#.* | \#.*\#                                           # AppleDouble, Emacs
    | \.nfs[0-9a-f]+ | \.fuse_hidden.* | \.trash-[0-9]+ | \.trash       # deleted, still open
    | .*~ | .*\.bak                                                     # the version before
    | \.?syncthing\..* | \.?~syncthing~.* | \.relais-.*
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_WORKING: Final = re.compile(
    r"""
    .*\.(?:tmp|temp|swp|swo|swx|kate-swp|wbk|asd|autosave) | ~wr[dlas][0-9]+\.[a-z]+ | \.~.*
    | \.goutputstream-.* | .*\.sb-[0-9a-f]+-[0-9a-z]+ | \(a\ document\ being\ saved.* | .*\.tmp-[0-9a-z]+
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_UNFINISHED: Final = re.compile(
    r".*\.(?:part|partial|crdownload|download|opdownload|filepart|!ut|!qb|aria2|unfinished)|unconfirmed [0-9]+.*",
    re.IGNORECASE | re.DOTALL,
)


def standing(name: str) -> Standing:
    """What the name of a file or folder, without the path to it, says about it."""
    if name.lower() in _ASIDE_NAMES or _ASIDE.fullmatch(name):
        return Standing.ASIDE
    if _UNFINISHED.fullmatch(name):
        return Standing.UNFINISHED
    return Standing.WORKING if _WORKING.fullmatch(name) else Standing.CONTENT


def is_left_behind(path: str) -> bool:
    """Whether a path in a folder is, by any name in it, one of these: nobody means to publish it (docs/adr/0233)."""
    return any(standing(name) is not Standing.CONTENT for name in path.split("/"))


def may_be_a_title(name: str) -> bool:
    """Whether an entry of a watched folder is a title. Hidden ones are not."""
    return not name.startswith(".") and standing(name) is Standing.CONTENT


def title_of(name: str, *, is_file: bool) -> str:
    """What people see for an entry with this name: a file's name without its extension."""
    if is_file:
        stem, dot, extension = name.rpartition(".")
        if dot and stem.strip() and extension:
            return one_line(stem).strip()
    return one_line(name)


# --- when a title is settled ------------------------------------------------------------------------------------------

QUIET_S: Final = 1.0
"""How long a small change must be over."""
OF_THE_CHANGE: Final = 0.25
"""+ this part of the time that the change has taken so far …"""
MOST_FOR_TIME_S: Final = 20.0
BYTES_A_SECOND: Final = 200e6
"""+ a second for so many changed bytes …"""
MOST_FOR_BYTES_S: Final = 20.0
LOST_S: Final = 3.0
"""A file that was published is gone: an editor may be about to put its new version there."""
COARSE_S: Final = 3.0
"""The times of files are rounded to seconds here: two changes in one of them look the same."""
EMPTY_S: Final = 5.0
"""A new file has nothing in it: the program that copies it may be waiting for a slow disk."""
HARMED_S: Final = 10.0
"""Files look destroyed: others may be about to."""
BUSY_S: Final = 15.0
"""A program has a changed file open for writing, or lets nobody read it."""
UNFINISHED_S: Final = 600.0
"""A download is going on; after so long without a byte it is given up."""


@dataclass(frozen=True, slots=True)
class Glimpse:
    """What one look at a title found.

    `likeness` is equal for two looks exactly when nothing has changed between them, left-out files included.
    `changed_bytes` is the size of all files that are not as they were published.
    """

    likeness: bytes
    changed_bytes: int = 0
    lost: bool = False
    coarse: bool = False
    empty: bool = False
    unfinished: bool = False
    busy: bool = False
    harmed: bool = False


@dataclass(frozen=True, slots=True)
class Changing:
    """A title that is not as it was published: what the last look found, and when it began and last went on changing.

    Times are monotonic seconds.
    """

    glimpse: Glimpse
    since_s: float
    changed_s: float


def looked(before: Changing | None, glimpse: Glimpse, now_s: float) -> Changing:
    """The state after a look."""
    if before is None:
        return Changing(glimpse, now_s, now_s)
    if before.glimpse.likeness != glimpse.likeness:
        return Changing(glimpse, before.since_s, now_s)
    return replace(before, glimpse=glimpse)


def disturbed(state: Changing, now_s: float) -> Changing:
    """The state after something else than a look showed that the title changes: it was read, and was not the same."""
    return replace(state, changed_s=now_s)


def quiet_s(state: Changing) -> float:
    """How long the title must be unchanged before it counts as settled."""
    glimpse = state.glimpse
    needed = (
        QUIET_S
        + min(OF_THE_CHANGE * (state.changed_s - state.since_s), MOST_FOR_TIME_S)
        + min(glimpse.changed_bytes / BYTES_A_SECOND, MOST_FOR_BYTES_S)
    )
    for holds, at_least_s in (
        (glimpse.lost, LOST_S),
        (glimpse.coarse, COARSE_S),
        (glimpse.empty, EMPTY_S),
        (glimpse.harmed, HARMED_S),
        (glimpse.busy, BUSY_S),
        (glimpse.unfinished, UNFINISHED_S),
    ):
        if holds:
            needed = max(needed, at_least_s)
    return needed


def settled_at_s(state: Changing) -> float:
    """When the title counts as settled if a look at that time, or later, finds it unchanged."""
    return state.changed_s + quiet_s(state)


def is_settled(state: Changing, looked_s: float) -> bool:
    """Whether the title may be published after the look of `looked_s` that led to this state."""
    return looked_s >= settled_at_s(state)
