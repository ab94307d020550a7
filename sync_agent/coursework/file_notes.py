"""What a program remembers of files on a disk: what they were like, and the content that they then had.

A file that is still like its note has not to be read again; one that is not is read, and only its content decides.
Notes of one title are one mark in the store: zstd over records in the order of their paths.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import zstandard

from protocol.limits import MAX_FILES_PER_REVISION, MAX_PATH_BYTES
from protocol.transfer.chunking import HASH_BYTES

_HEAD: Final = struct.Struct(">HQqQ")  # bytes of the path, size, time of change in ns, number on its disk
_INODE_MASK: Final = 2**64 - 1
_LEVEL: Final = 3
_MAX_BYTES: Final = MAX_FILES_PER_REVISION * (_HEAD.size + MAX_PATH_BYTES + HASH_BYTES)


@dataclass(frozen=True, slots=True)
class FileNote:
    """A file as it was: its path in portable form below the title, its likeness, and the stream that it held.

    `inode` is 0 where nobody looks at it.
    """

    path: str
    size: int
    changed_ns: int
    inode: int
    stream: bytes


def encode_notes(notes: Iterable[FileNote]) -> bytes:
    """One value for a mark."""
    parts: list[bytes] = []
    for note in sorted(notes, key=lambda note: note.path.encode()):
        path = note.path.encode()
        parts += (_HEAD.pack(len(path), note.size, note.changed_ns, note.inode & _INODE_MASK), path, note.stream)
    return zstandard.ZstdCompressor(level=_LEVEL).compress(b"".join(parts))


def decode_notes(data: bytes | None) -> dict[str, FileNote]:
    """The notes by path. What cannot be read is no note: its files are read again."""
    if data is None:
        return {}
    try:
        plain = zstandard.ZstdDecompressor().decompress(data, max_output_size=_MAX_BYTES)
        return {note.path: note for note in _records(plain)}
    except (zstandard.ZstdError, struct.error, UnicodeDecodeError, ValueError):
        return {}


def total_bytes(notes: Mapping[str, FileNote]) -> int:
    """The size of all files together."""
    return sum(note.size for note in notes.values())


def _records(plain: bytes) -> Iterable[FileNote]:
    at = 0
    while at < len(plain):
        path_bytes, size, changed_ns, inode = _HEAD.unpack_from(plain, at)
        path_at = at + _HEAD.size
        stream_at = path_at + path_bytes
        at = stream_at + HASH_BYTES
        if at > len(plain):
            raise ValueError("the notes end too early")
        yield FileNote(plain[path_at:stream_at].decode(), size, changed_ns, inode, plain[stream_at:at])
