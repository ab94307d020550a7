"""Manifests: the exact tree of a revision (docs/protocol.md, "Manifests").

Rules:
- a manifest lists every file of a revision once: path, size, stream id; folders exist through their files;
- one tree has one encoding: a magic, then one record per file in ascending order of the paths' UTF-8 bytes;
- a manifest is itself a stream: it is cut, named, packed and fetched like a file;
- every path obeys `protocol.portable_names`, when it is written and again when it is first read.

There is no count and no front coding: a record's bytes depend on that record alone, so a change leaves the bytes of
all others, and thereby their chunks, as they were. zstd removes the repeated folder names; front coding would only put
more of the (incompressible) stream ids into the chunk that a one-file change sends again: measured at 6,000 files,
33 kB against 58 kB.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from protocol.errors import BadInput, Code, PeerFault, TooLarge
from protocol.limits import MAX_FILE_BYTES, MAX_FILES_PER_REVISION, MAX_MANIFEST_BYTES, MAX_PATH_BYTES
from protocol.portable_names import (
    Problem,
    Why,
    check_portable,
    displayable,
    is_portable_form,
    portability_problems,
    portable_form,
    told,
)
from protocol.transfer.chunking import HASH_BYTES

MANIFEST_MAGIC: Final = b"relais/0 manifest\n"
_HEAD: Final = struct.Struct(">HI")  # bytes of the path, size of the file


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """One file: its path in portable form, its size in bytes, and the stream that is its content."""

    path: str
    size: int
    stream: bytes


def encode_manifest(entries: Iterable[ManifestEntry]) -> bytes:
    """The one encoding of this tree; the entries may come in any order, their paths in any normal form.

    Raises `BadInput`: BAD_NAME (facts: `problems`, a list of `Problem`), TOO_MANY_FILES, FILE_TOO_LARGE.
    """
    listed = list(entries)
    if len(listed) > MAX_FILES_PER_REVISION:
        raise BadInput(
            Code.TOO_MANY_FILES,
            f"there are {len(listed)} files; one publication holds at most {MAX_FILES_PER_REVISION}",
            files=len(listed),
            max=MAX_FILES_PER_REVISION,
        )
    problems = check_portable(entry.path for entry in listed)
    if problems:
        raise BadInput(Code.BAD_NAME, told(problems), problems=problems)
    records = sorted(map(_sortable, listed))
    data = b"".join([MANIFEST_MAGIC, *(_HEAD.pack(len(path), size) + path + stream for path, size, stream in records)])
    if len(data) > MAX_MANIFEST_BYTES:
        raise BadInput(Code.TOO_MANY_FILES, "the list of files is too long; shorten the names of folders and files")
    return data


def decode_manifest(data: bytes, *, like: Iterable[ManifestEntry] = ()) -> tuple[ManifestEntry, ...]:
    """The tree that `data` encodes, in ascending order of the paths' UTF-8 bytes.

    The names of `like`, a tree that was decoded before, are not looked at again if there are no others: a part of what
    is portable is portable.

    Raises `TooLarge`, or `PeerFault`: MALFORMED, NOT_CANONICAL (order), BAD_NAME (facts: `path`, `why`).
    """
    entries = read_manifest(data)
    if {entry.path for entry in entries} <= {entry.path for entry in like}:
        return entries
    for path in (entry.path for entry in entries):
        if not is_portable_form(path):
            raise _bad_name(Problem(displayable(path), Why.NOT_NORMALISED))
    for problem in portability_problems((entry.path for entry in entries), known_characters_only=False):
        raise _bad_name(problem)
    return entries


def read_manifest(data: bytes) -> tuple[ManifestEntry, ...]:
    """The same without a look at the names: for who has looked at this very list before, or writes nothing by them.

    Raises as `decode_manifest`, but for BAD_NAME.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise TooLarge(Code.TOO_LARGE, "a list of files is larger than allowed", size=len(data), max=MAX_MANIFEST_BYTES)
    if not data.startswith(MANIFEST_MAGIC):
        raise PeerFault(Code.UNKNOWN_FORMAT, "what should be a list of files is something else")
    return _decode_records(data)


def streams_of(data: bytes) -> set[bytes]:
    """The streams that `data` names if it is a list of files; whether it is a good one, others tell.

    Raises `PeerFault`.
    """
    return {data[stream_at : stream_at + HASH_BYTES] for _, stream_at in _places(data, frozenset())}


def without_streams(manifest: bytes, records: frozenset[int]) -> bytes:
    """A manifest without the stream ids of the records with these numbers, as a delta carries it."""
    pieces = [MANIFEST_MAGIC]
    for number, (start, stream_at) in enumerate(_places(manifest, frozenset())):
        pieces.append(manifest[start : stream_at if number in records else stream_at + HASH_BYTES])
    return b"".join(pieces)


def with_streams(data: bytes, streams: Mapping[int, bytes]) -> bytes:
    """The manifest that `without_streams` was given, once the ids by record number are known. Raises `PeerFault`."""
    pieces = [MANIFEST_MAGIC]
    number = -1
    for number, (start, stream_at) in enumerate(_places(data, streams.keys())):
        left_out = streams.get(number)
        pieces.append(data[start : stream_at + HASH_BYTES] if left_out is None else data[start:stream_at] + left_out)
    if any(record > number for record in streams):
        raise PeerFault(Code.MALFORMED, "a list of files has fewer files than are left out of it")
    return b"".join(pieces)


def _places(data: bytes, left_out: Collection[int]) -> Iterator[tuple[int, int]]:
    """Where each record begins, and where its stream id is, or would be if it is left out. Raises `PeerFault`."""
    if not data.startswith(MANIFEST_MAGIC):
        raise PeerFault(Code.UNKNOWN_FORMAT, "what should be a list of files is something else")
    at, number = len(MANIFEST_MAGIC), 0
    while at < len(data):
        if at + _HEAD.size > len(data):
            raise _cut_short(at)
        stream_at = at + _HEAD.size + _HEAD.unpack_from(data, at)[0]
        end = stream_at + (0 if number in left_out else HASH_BYTES)
        if end > len(data):
            raise _cut_short(at)
        yield at, stream_at
        at, number = end, number + 1


def _sortable(entry: ManifestEntry) -> tuple[bytes, int, bytes]:
    if len(entry.stream) != HASH_BYTES:
        raise ValueError("a stream id has 32 bytes")
    if not 0 <= entry.size <= MAX_FILE_BYTES:
        raise BadInput(
            Code.FILE_TOO_LARGE,
            f"{displayable(entry.path)} is larger than {MAX_FILE_BYTES} bytes",
            path=displayable(entry.path),
            size=entry.size,
            max=MAX_FILE_BYTES,
        )
    return portable_form(entry.path).encode(), entry.size, entry.stream


def _decode_records(data: bytes) -> tuple[ManifestEntry, ...]:
    entries: list[ManifestEntry] = []
    at = len(MANIFEST_MAGIC)
    last = b""
    while at < len(data):
        if len(entries) >= MAX_FILES_PER_REVISION:
            raise TooLarge(Code.TOO_MANY_FILES, "a list of files has too many files", max=MAX_FILES_PER_REVISION)
        path_at = at + _HEAD.size
        if path_at > len(data):
            raise _cut_short(at)
        path_bytes, size = _HEAD.unpack_from(data, at)
        stream_at = path_at + path_bytes
        at = stream_at + HASH_BYTES
        if path_bytes > MAX_PATH_BYTES or at > len(data):
            raise _cut_short(path_at)
        raw = data[path_at:stream_at]
        if raw <= last:
            raise PeerFault(Code.NOT_CANONICAL, "a list of files is not in order", offset=path_at)
        entries.append(ManifestEntry(_text(raw), size, data[stream_at:at]))
        last = raw
    return tuple(entries)


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as reason:
        raise PeerFault(Code.MALFORMED, "a list of files holds a name that is not UTF-8", raw=raw.hex()) from reason


def _cut_short(offset: int) -> PeerFault:
    return PeerFault(Code.MALFORMED, "a list of files ends too early or holds a wrong length", offset=offset)


def _bad_name(problem: Problem) -> PeerFault:
    return PeerFault(
        Code.BAD_NAME,
        f"a list of files names {problem.path}: {problem.sentence}",
        path=problem.path,
        why=problem.why,
    )
