"""Letters on a courier disk: who lets machines in, who asks to be let in, what was answered.

Rules:
- a letter is one small file in the territory's folder: `.who` the chain of a server or of a device that runs a school,
  in clear; `.ask` a sealed call `enroll`; `.ans` its sealed answer, under the name of what it answers;
- the name is 16 bytes of the hash of the chain or of the request, in hex: who asks twice asks once;
- nothing here opens anything: what a letter says is proven by whoever reads it.

docs/protocol.md, "Courier disks".
"""

from __future__ import annotations

import contextlib
import heapq
import os
import re
import secrets
from collections.abc import Iterator
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import Final

from blake3 import blake3

from protocol.limits import MAX_LETTER_BYTES, MAX_LETTERS_PER_DISK, MAX_TERRITORIES_PER_DISK
from sync_agent.courier.disk import CourierDisk, entries_in, flush_folder, trouble_of
from sync_agent.machine.plain_files import is_real_folder

_NAME_HEX: Final = 32
_PASSING: Final = ".tmp"
_FOLDER: Final = re.compile(r"[0-9a-f]{16}")
_NAME: Final = re.compile(rf"[0-9a-f]{{{_NAME_HEX}}}")


class Letter(Enum):
    """What a letter is, by the end of its name."""

    WHO = ".who"
    ASK = ".ask"
    ANSWER = ".ans"


def name_of(data: bytes) -> str:
    """The name of a chain or of a request."""
    return blake3(data).hexdigest()[:_NAME_HEX]


def read_letters(place: Path, kind: Letter, *, but: frozenset[str] = frozenset()) -> dict[str, bytes]:
    """The letters of a kind in a territory's folder, the newest first, `but` for some; no more than are allowed.

    Raises `LocalFailure`, `BadInput(TOO_MANY_FILES)`.
    """
    try:
        newest = heapq.nlargest(MAX_LETTERS_PER_DISK, _dated(place, kind, but))
        return {stem: _read(place / f"{stem}{kind.value}") for _, stem in newest}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as reason:
        raise trouble_of(place, reason) from reason


def _dated(place: Path, kind: Letter, but: frozenset[str]) -> Iterator[tuple[int, str]]:
    """The letters of a kind, each with when it was written. Raises `OSError`, `BadInput(TOO_MANY_FILES)`."""
    for entry in entries_in(place):
        stem = entry.name.removesuffix(kind.value)
        if stem + kind.value != entry.name or not _NAME.fullmatch(stem) or stem in but:
            continue
        if entry.is_file(follow_symlinks=False) and entry.stat().st_size <= MAX_LETTER_BYTES:
            yield entry.stat().st_mtime_ns, stem


def write_letter(disk: CourierDisk, kind: Letter, name: str, data: bytes) -> None:
    """Let a letter be durable on the disk, in place of an older one. Raises `LocalFailure`, `BadInput`."""
    disk.make()
    passing = disk.place / f"{secrets.token_hex(8)}{_PASSING}"
    try:
        with passing.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        passing.replace(disk.place / f"{name}{kind.value}")
        flush_folder(disk.place)
    except OSError as reason:
        with contextlib.suppress(OSError):
            passing.unlink(missing_ok=True)
        raise trouble_of(disk.place, reason) from reason


def remove_letter(place: Path, kind: Letter, name: str) -> None:
    """Take a letter away, if the disk can be written."""
    with contextlib.suppress(OSError):
        (place / f"{name}{kind.value}").unlink(missing_ok=True)


def territories_on(folder: Path) -> list[Path]:
    """The folders of territories on a disk, no more than are allowed. Raises `LocalFailure`, `BadInput`."""
    found = (
        entry.name
        for entry in entries_in(folder)
        if _FOLDER.fullmatch(entry.name) and is_real_folder(folder / entry.name)
    )
    try:
        names = sorted(islice(found, MAX_TERRITORIES_PER_DISK))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as reason:
        raise trouble_of(folder, reason) from reason
    return [folder / name for name in names]


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_LETTER_BYTES)
