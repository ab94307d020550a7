"""Ordinary files on this machine's disk: what one holds, and whether a path leads elsewhere."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from protocol.limits import MiB
from protocol.transfer.chunking import ChunkRef, Cutter, chunk_ref, stream_id

READ: Final = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_NOFOLLOW", 0)
)
"""How a file of somebody's is opened: no link is followed, nothing is waited for."""


def is_reparse_point(state: os.stat_result) -> bool:
    """Whether Windows leads somewhere else from here (junctions are no symbolic links)."""
    flag: int = getattr(stat, "FILE_ATTRIBUTE_REPARSE_POINT", 0)
    tag: int = getattr(state, "st_reparse_tag", 0)
    name_surrogate = 0x20000000
    return bool(getattr(state, "st_file_attributes", 0) & flag and tag & name_surrogate)


def is_link(state: os.stat_result) -> bool:
    """Whether this leads elsewhere, as a symbolic link or a junction does: of `state` no link was followed."""
    return stat.S_ISLNK(state.st_mode) or is_reparse_point(state)


def is_plain_folder(state: os.stat_result) -> bool:
    """Whether this is a folder, and nothing that leads to one: of `state` no link was followed."""
    return stat.S_ISDIR(state.st_mode) and not is_reparse_point(state)


def is_real_folder(place: Path) -> bool:
    """Whether a folder lies here, and no link to one. Raises `OSError` where nobody can tell."""
    try:
        return is_plain_folder(place.lstat())
    except (FileNotFoundError, NotADirectoryError):
        return False


def stream_of(place: str) -> bytes | None:
    """The name of the stream that a file holds; None if it cannot be read."""
    cutter = Cutter()
    chunks: list[ChunkRef] = []
    try:
        with os.fdopen(os.open(place, READ), "rb", buffering=0) as file:
            while piece := file.read(MiB):
                chunks += map(chunk_ref, cutter.feed(piece))
    except OSError:
        return None
    chunks += map(chunk_ref, cutter.finish())
    return stream_id(tuple(chunks))
