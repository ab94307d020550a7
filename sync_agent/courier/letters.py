"""Letters on a courier disk: who lets machines in, who asks to be let in, what was answered.

Rules:
- a letter is one small file in the territory's folder: `.who` the chain of a server or of a device that runs a school,
  in clear; `.ask` a sealed call `enroll`; `.ans` its sealed answer, under the name of what it answers;
- the name is 16 bytes of the hash of the chain or of the request, in hex: who asks twice asks once;
- a disk may come from anybody: what is not what its name says takes no letter's place and goes, dates count for
  nothing, and where more lies there than is looked at, lots are drawn;
- nothing here opens anything: what a letter says is proven by whoever reads it.

docs/protocol.md, "Courier disks".
"""

from __future__ import annotations

import contextlib
import heapq
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import Final, TypeAlias

from blake3 import blake3

from protocol.limits import MAX_LETTER_BYTES, MAX_LETTERS_PER_DISK, MAX_LETTERS_PER_LOOK, MAX_TERRITORIES_PER_DISK
from sync_agent.courier.disk import CourierDisk, entries_in, flush_folder, trouble_of
from sync_agent.machine.plain_files import is_real_folder

_NAME_HEX: Final = 32
_MOST_CLEARINGS: Final = 16
_PASSING: Final = ".tmp"
_FOLDER: Final = re.compile(r"[0-9a-f]{16}")
_NAME: Final = re.compile(rf"[0-9a-f]{{{_NAME_HEX}}}")


class Letter(Enum):
    """What a letter is, by the end of its name."""

    WHO = ".who"
    ASK = ".ask"
    ANSWER = ".ans"


IsGood: TypeAlias = Callable[[bytes], bool]
"""Whether a letter is one that counts, by its bytes."""


def _any(_data: bytes) -> bool:
    return True


def name_of(data: bytes) -> str:
    """The name of a chain or of a request."""
    return blake3(data).hexdigest()[:_NAME_HEX]


def read_letters(place: Path, kind: Letter, is_good: IsGood = _any) -> dict[str, bytes]:
    """Letters of a kind in a territory's folder, as far as they are what their names say, and good; by their names.

    No more than are allowed. Raises `LocalFailure`, `BadInput(TOO_MANY_FILES)`.
    """
    found: dict[str, bytes] = {}
    for stem in _drawn(place, kind):
        data = read_letter(place, kind, stem)
        if data is not None and _is_named(kind, stem, data) and is_good(data):
            found[stem] = data
            if len(found) == MAX_LETTERS_PER_DISK:
                break
    return dict(sorted(found.items()))


def read_letter(place: Path, kind: Letter, name: str) -> bytes | None:
    """One letter; None where there is none, or none that can be read."""
    path = place / f"{name}{kind.value}"
    try:
        told = path.lstat()
        if not stat.S_ISREG(told.st_mode) or told.st_size > MAX_LETTER_BYTES:
            return None
        with path.open("rb") as file:
            return file.read(MAX_LETTER_BYTES)
    except OSError:
        return None


def unanswered(place: Path) -> dict[str, bytes]:
    """Who asks in a territory's folder and has no answer there, by names. Raises as `read_letters`."""

    def waits(request: bytes) -> bool:
        return read_letter(place, Letter.ANSWER, name_of(request)) is None

    return read_letters(place, Letter.ASK, waits)


def clear_letters(place: Path, is_chain: IsGood) -> None:
    """Take away what is not what its name says; where very many name who lets in, those too that name nobody.

    Raises as `read_letters`.
    """
    for kind in (Letter.WHO, Letter.ASK):
        for _ in range(_MOST_CLEARINGS):
            drawn = _drawn(place, kind)
            is_good = is_chain if kind is Letter.WHO and len(drawn) > MAX_LETTERS_PER_DISK else _any
            if not [stem for stem in drawn if _is_cleared(place, kind, stem, is_good)]:
                break


def _is_cleared(place: Path, kind: Letter, stem: str, is_good: IsGood) -> bool:
    """Take away a letter that is none; whether it was one of those. What cannot be read here stays."""
    data = read_letter(place, kind, stem)
    if data is None or (_is_named(kind, stem, data) and is_good(data)):
        return False
    remove_letter(place, kind, stem)
    return True


def _is_named(kind: Letter, stem: str, data: bytes) -> bool:
    """Whether a letter is what its name says; an answer has its request's."""
    return kind is Letter.ANSWER or name_of(data) == stem


def _drawn(place: Path, kind: Letter) -> list[str]:
    """The names of a kind's letters, as many as a look takes; by lot, since dates are the writer's.

    Raises `LocalFailure`, `BadInput(TOO_MANY_FILES)`.
    """
    try:
        lots = ((secrets.randbits(64), stem) for stem in _names(place, kind))
        return [stem for _, stem in heapq.nlargest(MAX_LETTERS_PER_LOOK, lots)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as reason:
        raise trouble_of(place, reason) from reason


def _names(place: Path, kind: Letter) -> Iterator[str]:
    """The names of a kind's letters. Raises `OSError`, `BadInput(TOO_MANY_FILES)`."""
    for entry in entries_in(place):
        stem = entry.name.removesuffix(kind.value)
        if stem + kind.value != entry.name or not _NAME.fullmatch(stem):
            continue
        if entry.is_file(follow_symlinks=False) and entry.stat().st_size <= MAX_LETTER_BYTES:
            yield stem


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
