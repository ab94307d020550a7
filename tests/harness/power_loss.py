"""What a power cut may leave on a disk: a program's calls written down, and any legal image built from them (R8).

`strace` writes down every call by which a program changes a folder, with the bytes. From the list of calls any state
can be made in which the disk may be found if the power goes after one of them:
- what was flushed is there; what was written to a file since its last flush is there, or not, sector by sector and in
  any order, so that writes are lost, torn and out of order;
- names (made, changed, removed) become durable in the order of the calls, those of a folder at the latest when it is
  flushed; a name may be durable long before what was written under it, and that long before its name.

(Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014, has the model: this is its weakest file system, but
for names, which every journalling file system keeps in order.)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from random import Random
from typing import Final

from tests.harness.kill_points import Program

SECTOR_BYTES: Final = 512
_TRACED: Final = (
    *("openat", "write", "pwrite64", "fsync", "fdatasync", "rename", "unlink", "mkdir", "ftruncate", "close", "lseek"),
)
_LINE: Final = re.compile(r"^(\d+) +(\w+)\((.*)\) += (-?\d+)")
_DESCRIPTOR: Final = re.compile(r"^(\d+)<([^>]*)>")
_STRING: Final = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


@dataclass(frozen=True, slots=True)
class Op:
    """One call: what it did, below the folder. `other` is a rename's second path; `data` a write's bytes or a line."""

    what: str
    path: str = ""
    other: str = ""
    at: int = 0
    data: bytes = b""


@dataclass
class _File:
    """What lies under a number: flushed bytes, and what was done to them since."""

    flushed: bytearray = field(default_factory=bytearray)
    since: list[Op] = field(default_factory=list)

    def flush(self) -> None:
        for op in self.since:
            _apply(self.flushed, op)
        self.since.clear()


def recorded(program: Program, folder: Path) -> list[Op]:
    """The calls of one unharmed run that change `folder`, and the lines that it prints, in order.

    The program must not change a folder by other calls than those that are known here.
    """
    log = folder.with_name(f"{folder.name}.calls")
    options = ["-y", "-xx", "-s", "16777216", "-o", str(log), "-e", f"trace={','.join(_TRACED)}"]
    status, printed = program.run(folder, options)
    assert status == 0, printed
    return list(_parsed(log.read_text().splitlines(), folder))


def images(ops: Sequence[Op], after: int, random: Random) -> Iterator[Mapping[str, bytes | None]]:
    """For ever: legal states after the first `after` calls: path → bytes, or None for a folder. The first has all."""
    names, pending, files = _played(ops[:after])
    count = len(pending)
    whole = True
    while True:
        kept = dict(names)
        for op in pending[: count if whole else random.randrange(count + 1)]:
            _rename(kept, op)
        yield {path: None if number is None else _found(files[number], random, whole) for path, number in kept.items()}
        whole = False


def write_image(image: Mapping[str, bytes | None], folder: Path) -> None:
    """Make `folder` what an image says."""
    folder.mkdir()
    for path in sorted(image):
        data = image[path]
        place = folder / path
        if data is None:
            place.mkdir(parents=True, exist_ok=True)
        elif place.parent.is_dir():
            place.write_bytes(data)


def acknowledged_before(ops: Sequence[Op], after: int) -> int:
    """How many steps were acknowledged by then."""
    return sum(op.data.startswith(b"ack ") for op in ops[:after] if op.what == "say")


def _played(ops: Sequence[Op]) -> tuple[dict[str, int | None], list[Op], list[_File]]:
    """The durable names, the changes of names that may not be durable, and all files that ever were."""
    names: dict[str, int | None] = {}
    current: dict[str, int | None] = {}
    pending: list[Op] = []
    files: list[_File] = []
    for op in ops:
        number = current.get(op.path)
        match op.what:
            case "create" if op.path not in current:
                files.append(_File())
                pending.append(Op("create", op.path, at=len(files) - 1))
            case "mkdir" | "rename" | "unlink":
                pending.append(op)
            case "write" | "truncate" if number is not None:
                files[number].since.append(op)
            case "flush" if number is not None:
                files[number].flush()
            case "flush":
                durable = [change for change in pending if op.path in _folders(change)]
                last = pending.index(durable[-1]) + 1 if durable else 0
                for change in pending[:last]:
                    _rename(names, change)
                del pending[:last]
        if op.what in ("create", "mkdir", "rename", "unlink") and pending:
            current = dict(names)
            for change in pending:
                _rename(current, change)
    return names, pending, files


def _folders(change: Op) -> set[str]:
    return {_folder_of(path) for path in (change.path, change.other) if path}


def _folder_of(path: str) -> str:
    parent = PurePosixPath(path).parent.as_posix()
    return "" if parent == "." else parent


def _rename(names: dict[str, int | None], op: Op) -> None:
    """Carry out a change of names."""
    match op.what:
        case "create":
            names.setdefault(op.path, op.at)
        case "mkdir":
            names.setdefault(op.path, None)
        case "unlink":
            names.pop(op.path, None)
        case "rename" if op.path in names:
            names[op.other] = names.pop(op.path)


def _found(file: _File, random: Random, whole: bool) -> bytes:
    """What is found of a file: all that was flushed, and of the rest whatever the disk had got to."""
    data = bytearray(file.flushed)
    kept = 1.0 if whole else random.choice((0.0, 0.5, 0.95, 1.0))
    for op in file.since:
        for part in _sectors(op) if op.what == "write" else (op,):
            if kept == 1.0 or random.random() < kept:
                _apply(data, part)
    return bytes(data)


def _sectors(op: Op) -> Iterator[Op]:
    at = op.at
    left = op.data
    while left:
        size = SECTOR_BYTES - at % SECTOR_BYTES
        yield Op("write", op.path, at=at, data=left[:size])
        at, left = at + size, left[size:]


def _apply(data: bytearray, op: Op) -> None:
    if op.what == "truncate":
        del data[op.at :]
        data.extend(bytes(op.at - len(data)))
        return
    if len(data) < op.at:
        data.extend(bytes(op.at - len(data)))
    data[op.at : op.at + len(op.data)] = op.data


# --- what strace wrote down -------------------------------------------------------------------------------------------


def _parsed(lines: Sequence[str], folder: Path) -> Iterator[Op]:
    places: dict[str, int] = {}
    appending: set[str] = set()
    sizes: dict[str, int] = {}
    for line in _whole_lines(lines):
        match = _LINE.match(line)
        if match is None or int(match[4]) < 0:
            continue
        call, arguments, result = match[2], match[3], int(match[4])
        strings = [bytes.fromhex(found.replace("\\x", "")) for found in _STRING.findall(arguments)]
        descriptor = _DESCRIPTOR.match(arguments)
        key = "" if descriptor is None else descriptor[1]
        path = None if descriptor is None else _below(_decoded(descriptor[2]), folder)
        if call == "openat":
            path = _below(strings[0].decode(), folder) if strings else None
            if path is not None and "O_CREAT" in arguments:
                yield Op("create", path)
            key = str(result)
            places[key] = 0
            appending.discard(key)
            if "O_APPEND" in arguments:
                appending.add(key)
            if path is not None and "O_TRUNC" in arguments:
                sizes[path] = 0
                yield Op("truncate", path)
        elif call == "write" and key == "1" and strings:
            yield Op("say", data=strings[0])
        elif call == "lseek" and path is not None:
            places[key] = result
        elif call in ("write", "pwrite64") and path is not None and strings:
            at = places.get(key, 0)
            if call == "pwrite64":
                at = int(arguments.rpartition(",")[2])
            elif key in appending:
                at = sizes.get(path, 0)
            places[key] = at + result if call == "write" else places.get(key, 0)
            sizes[path] = max(sizes.get(path, 0), at + result)
            yield Op("write", path, at=at, data=strings[0][:result])
        elif call in ("fsync", "fdatasync") and path is not None:
            yield Op("flush", path)
        elif call == "ftruncate" and path is not None:
            sizes[path] = int(arguments.rpartition(",")[2])
            yield Op("truncate", path, at=sizes[path])
        elif call in ("rename", "unlink", "mkdir") and strings:
            named = [_below(text.decode(), folder) for text in strings]
            if named[0]:
                other = named[1] if call == "rename" else None
                if other:
                    sizes[other] = sizes.pop(named[0], 0)
                yield Op(call, named[0], other or "")


def _whole_lines(lines: Sequence[str]) -> Iterator[str]:
    """Calls that another thread interrupted, put together again, at the place where they ended."""
    begun: dict[str, str] = {}
    for line in lines:
        thread = line.partition(" ")[0]
        if line.endswith("<unfinished ...>"):
            begun[thread] = line.removesuffix("<unfinished ...>").rstrip()
        elif "resumed>" in line and thread in begun:
            yield begun.pop(thread) + line.partition("resumed>")[2]
        else:
            yield line


def _decoded(text: str) -> str:
    """A path as `-xx` prints it."""
    return bytes.fromhex(text.replace("\\x", "")).decode() if text.startswith("\\x") else text


def _below(path: str, folder: Path) -> str | None:
    try:
        below = Path(path).relative_to(folder).as_posix()
    except ValueError:
        return None
    return "" if below == "." else below
