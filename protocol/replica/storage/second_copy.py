"""Entries that lie beside the database too, for the day on which it cannot be read: a file of records (R8).

Rules:
- a record is a length, the beginning of a hash, and canonical {entries, marks}, of nothing else; what does not fit its
  hash is passed over, so that a torn end or a bad sector costs the records that it lies in;
- appending is not flushed: the database has promised already, and this is for when its pages rot;
- whoever reads it believes nothing: the ordinary door decides about entries. Marks are this replica's own notes, which
  no door looks at: a file that holds what others have said gives none. A right holds up to 64 KiB of its author's
  choice, a whole record among them, which a bad sector before it lays open (docs/adr/0455). Nor has a record a field
  more, which could swallow what stands between two keys of another's choice: one key of 32 bytes holds none by itself.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from blake3 import blake3

from protocol import canonical
from protocol.canonical import Value
from protocol.errors import Code, LocalFailure, PeerFault
from protocol.limits import MAX_PAYLOAD_BYTES, MiB
from protocol.model.entry import Entry, from_wire, to_wire
from protocol.replica.private_file import remove_private, write_private
from protocol.replica.storage.salvage import Salvage

MAX_FILE_BYTES: Final = 64 * MiB
_MAX_RECORD_BYTES: Final = 4 * MiB
_LENGTH_BYTES: Final = 4
_CHECK_BYTES: Final = 8
_MAGIC: Final = b"RLS0"
_HEAD_BYTES: Final = len(_MAGIC) + _LENGTH_BYTES + _CHECK_BYTES
_FIELDS: Final = 2
_AT_ONCE: Final = 32  # entries of the largest size stay below a record's bound
assert _AT_ONCE * (MAX_PAYLOAD_BYTES + 2**13) < _MAX_RECORD_BYTES  # noqa: S101


class SecondCopy:
    """A file of records. Everything here blocks."""

    def __init__(self, file: Path, *, of_others: bool) -> None:
        """`of_others`: it holds what others have said as well, and so no marks."""
        self._file = file
        self._of_others = of_others

    def append(self, entries: Sequence[Entry], marks: Mapping[str, bytes | None] | None = None) -> None:
        """Add a record or several; silently no more once the file has reached its bound, or the disk refuses."""
        with contextlib.suppress(OSError):
            descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o600)
            with os.fdopen(descriptor, "ab") as file:
                if file.tell() < MAX_FILE_BYTES:
                    file.write(b"".join(_records(entries, marks or {})))

    def replace(self, entries: Sequence[Entry], marks: Mapping[str, bytes] | None = None) -> None:
        """Hold exactly these, durably: of nothing there is no file, and what holds them is left as it is.

        Raises `LocalFailure`.
        """
        data = b"".join(_records(entries, marks or {}))
        if self._bytes() == data:
            return
        if data:
            write_private(self._file, data)
        else:
            remove_private(self._file)

    def exists(self) -> bool:
        """Whether there is such a file."""
        return self._file.is_file()

    def clear(self) -> None:
        """Hold nothing."""
        with contextlib.suppress(LocalFailure):
            if self._file.exists():
                remove_private(self._file)

    def read(self) -> Salvage:
        """Whatever is whole. Raises `LocalFailure(STORAGE_FAILED)` only where the file may not be read."""
        entries: dict[bytes, Entry] = {}
        marks: dict[str, bytes] = {}
        for body in _bodies(self._bytes()):
            with contextlib.suppress(PeerFault):
                match _fields_of(body):
                    case {"entries": list(rows), "marks": dict(noted)}:
                        entries.update({entry.id: entry for entry in map(from_wire, rows)})
                        marks.update(self._own(noted))
        return Salvage(tuple(entries.values()), marks)

    def _own(self, noted: Mapping[str, Value]) -> Mapping[str, bytes]:
        return {} if self._of_others else {key: value for key, value in noted.items() if isinstance(value, bytes)}

    def _bytes(self) -> bytes:
        try:
            with self._file.open("rb") as file:
                return file.read(MAX_FILE_BYTES + _MAX_RECORD_BYTES)
        except FileNotFoundError:
            return b""
        except OSError as reason:
            raise LocalFailure(
                Code.STORAGE_FAILED, f"{self._file} cannot be read: {reason.strerror}", path=str(self._file)
            ) from reason


def _records(entries: Sequence[Entry], marks: Mapping[str, bytes | None]) -> Iterator[bytes]:
    kept = [(key, value) for key, value in marks.items() if value is not None]
    for start in range(0, max(len(entries), len(kept)), _AT_ONCE):
        rows: list[Value] = [to_wire(entry) for entry in entries[start : start + _AT_ONCE]]
        noted: dict[str, Value] = dict(kept[start : start + _AT_ONCE])
        body = canonical.encode({"entries": rows, "marks": noted})
        if len(body) > _MAX_RECORD_BYTES:
            body = canonical.encode({"entries": rows, "marks": {}})
        yield _MAGIC + len(body).to_bytes(_LENGTH_BYTES, "big") + blake3(body).digest()[:_CHECK_BYTES] + body


def _fields_of(body: bytes) -> Value:
    """What a record holds; None of one with more than its two fields, which is none of ours. Raises `PeerFault`."""
    found = canonical.decode(body, max_bytes=_MAX_RECORD_BYTES)
    return found if isinstance(found, dict) and len(found) == _FIELDS else None


def _bodies(data: bytes) -> Iterator[bytes]:
    """The bodies of whole records, wherever they begin."""
    at = data.find(_MAGIC)
    while at >= 0:
        size_at = at + len(_MAGIC)
        size = int.from_bytes(data[size_at : size_at + _LENGTH_BYTES], "big")
        check = data[size_at + _LENGTH_BYTES : at + _HEAD_BYTES]
        body = data[at + _HEAD_BYTES : at + _HEAD_BYTES + size]
        if size <= _MAX_RECORD_BYTES and len(body) == size and blake3(body).digest()[:_CHECK_BYTES] == check:
            yield body
            at = data.find(_MAGIC, at + _HEAD_BYTES + size)
        else:
            at = data.find(_MAGIC, at + 1)
