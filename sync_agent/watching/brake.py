"""The brake: when a burst of destruction in watched folders is not to be published (docs/adr/0013).

A program that encrypts or wipes a teacher's files would otherwise be carried to every machine of the school within a
minute. Nothing would be lost, every revision can be restored, but nobody could work.

Rules:
- what counts are published files that are gone, that were rewritten, and among those the ones that became something
  else: another type, or noise where there was none;
- they are counted over all watched titles and over `WINDOW_S`, each file once;
- the thresholds are data, below. A brake that is pulled stays so until a person says otherwise.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

WINDOW_S: Final = 600.0
HEAD_BYTES: Final = 4096
"""How much of a file tells what it is."""


class Change(StrEnum):
    """What became of a published file."""

    GONE = "gone"
    REWRITTEN = "rewritten"
    SCRAMBLED = "scrambled"


@dataclass(frozen=True, slots=True)
class Threshold:
    """At least `files` files with one of `changes` pull the brake, if they are `share` of all published ones."""

    changes: frozenset[Change]
    files: int
    share: float


THRESHOLDS: Final = (
    Threshold(frozenset({Change.SCRAMBLED}), 20, 0.0),
    Threshold(frozenset({Change.SCRAMBLED}), 3, 0.3),
    Threshold(frozenset({Change.SCRAMBLED, Change.GONE}), 10, 0.3),
    Threshold(frozenset({Change.SCRAMBLED, Change.GONE, Change.REWRITTEN}), 30, 0.5),
)
HARMED_FILES: Final = 3
"""So many scrambled files in one title, or all it has, and publishing it waits a little for what happens to others."""


def is_burst(changes: Iterable[Change], published_files: int) -> bool:
    """Whether these changes, of different files, of `published_files` in all pull the brake."""
    counts = Counter(changes)
    for threshold in THRESHOLDS:
        files = sum(counts[change] for change in threshold.changes)
        if files >= threshold.files and files >= threshold.share * published_files:
            return True
    return False


def looks_harmed(changes: Mapping[str, Change], published_files: int) -> bool:
    """Whether the changes of one title, by path, are such that others may follow."""
    scrambled = sum(change is Change.SCRAMBLED for change in changes.values())
    return scrambled > 0 and scrambled >= min(HARMED_FILES, published_files)


def is_disguise(name: str, of: str) -> bool:
    """Whether this may be what was called `of`, after a program has added an extension to what it took."""
    return len(name) > len(of) and name.startswith(of) and name[len(of)] == "."


# --- what a file is, by its first bytes -------------------------------------------------------------------------------

EMPTY: Final = "empty"
TEXT: Final = "text"
DATA: Final = "data"
_SIGNATURES: Final = (
    (b"%PDF-", "pdf"),
    (b"PK\x03\x04", "zip"),  # also ODF, OOXML, EPUB, H5P, SCORM
    (b"PK\x05\x06", "zip"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"OggS", "ogg"),
    (b"ID3", "mp3"),
    (b"\xff\xfb", "mp3"),
    (b"\xff\xf3", "mp3"),
    (b"\xff\xf2", "mp3"),
    (b"fLaC", "flac"),
    (b"RIFF", "riff"),
    (b"\x1aE\xdf\xa3", "matroska"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "ole"),
    (b"{\\rtf", "rtf"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "rar"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"CWS", "flash"),
    (b"FWS", "flash"),
    (b"wOFF", "font"),
    (b"wOF2", "font"),
    (b"\x00\x01\x00\x00\x00", "font"),
    (b"OTTO", "font"),
    (b"SQLite format 3\x00", "sqlite"),
)
_FTYP: Final = slice(4, 8)  # mp4, m4a, mov, heic
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")
_ASCII: Final = range(0x80)
_NO_TEXT: Final = frozenset(range(0x20)) - frozenset(b"\t\n\r\f\x1b")
_TEXT_SHARE: Final = 0.7
_UTF_8_MOST: Final = 4
_NOISE_BITS: Final = 7.5
_PLAIN_BITS: Final = 7.0
_MEASURABLE_BYTES: Final = 1024


def type_of(head: bytes) -> str:
    """What a file is whose first `HEAD_BYTES` are these: a format, or EMPTY, TEXT, DATA."""
    if not head:
        return EMPTY
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    if head[_FTYP] == b"ftyp":
        return "mp4"
    return TEXT if _is_text(head) else DATA


def entropy_bits(data: bytes) -> float:
    """Shannon's entropy of the bytes, in bits a byte: 0 to 8."""
    total = len(data)
    return -sum(count / total * math.log2(count / total) for count in Counter(data).values()) if total else 0.0


def is_scrambled(before: bytes, after: bytes) -> bool:
    """Whether a file that began with `before` and now begins with `after` has become something else."""
    old, new = type_of(before), type_of(after)
    if old == EMPTY:
        return False
    if old != DATA:
        return new != old
    return (
        new == DATA
        and len(after) >= _MEASURABLE_BYTES
        and entropy_bits(before) < _PLAIN_BITS
        and entropy_bits(after) >= _NOISE_BITS
    )


def _is_text(head: bytes) -> bool:
    if head.startswith(_UTF_16):
        return True
    if not _NO_TEXT.isdisjoint(head):
        return False
    try:
        head.decode()
    except UnicodeDecodeError as error:
        if error.start > len(head) - _UTF_8_MOST:  # a character cut in two
            return True
        # an old 8-bit encoding: mostly ASCII
        return sum(byte in _ASCII for byte in head) >= _TEXT_SHARE * len(head)
    return True
