"""What can still be read in a damaged SQLite file: rows from whatever pages are whole, without the library (R8).

Rules:
- every page of the file and of its log that is a leaf is read by itself: a torn header, a lost root, a page of zeros in
  the middle cost the rows on those pages and no others;
- nothing is believed for the way it lies: an entry counts if its id is the hash of its header and its payload the
  one that this names; who takes it in checks its signature at the ordinary door;
- rows come in the order of their numbers, which is the order of arrival; a row found twice comes once;
- marks come through SQLite where it still gives them, from the pages otherwise, so that an old copy does not replace
  what holds.

The format of pages, cells and records: "Database File Format", sqlite.org/fileformat2.html, sections 1.6, 2.1 and 4.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from blake3 import blake3

from protocol.errors import PeerFault
from protocol.limits import MAX_HEADER_BYTES, MAX_PAYLOAD_BYTES, SALT_BYTES
from protocol.model.entry import SIGNATURE_BYTES, Entry, from_wire
from protocol.model.register import parse_register
from protocol.replica.interfaces import RegisterRow
from protocol.replica.storage.database import Cell

_USUAL_PAGE_BYTES: Final = 4096
_HEADER_BYTES: Final = 100
_TABLE_LEAF: Final = 0x0D
_INDEX_PAGES: Final[Mapping[int, int]] = {0x0A: 8, 0x02: 12}
"""Pages that hold cells of an index, and how long their heads are."""
_LOG_HEAD_BYTES: Final = 32
_FRAME_HEAD_BYTES: Final = 24
_MAX_RECORD_BYTES: Final = 2 * (MAX_HEADER_BYTES + MAX_PAYLOAD_BYTES) + (1 << 20)
_MAX_COLUMNS: Final = 64
_INTEGER_BYTES: Final = (0, 1, 2, 3, 4, 6, 8)
_FLOAT: Final = 7
_BLOB_FROM: Final = 12


@dataclass(frozen=True, slots=True)
class Salvage:
    """What was read: entries in order of arrival, marks, registers whose signature holds."""

    entries: tuple[Entry, ...] = ()
    marks: Mapping[str, bytes] = field(default_factory=dict)
    registers: tuple[RegisterRow, ...] = ()


class _Row(NamedTuple):
    number: int | None
    cells: Sequence[Cell]


def salvage(file: Path) -> Salvage:
    """Everything readable in the database `file` and its log. Raises `OSError` only."""
    entries: dict[bytes, tuple[int, Entry]] = {}
    marks: dict[str, bytes] = {}
    registers: list[RegisterRow] = []
    for row in _rows(file):
        match row:
            case _Row(int(), [int(), bytes(), bytes(), int(), bytes(data)]):
                with contextlib.suppress(PeerFault):
                    found = parse_register(data)
                    registers.append(RegisterRow(found.kind, found.subject, found.device, found.at_ms, data))
            case _Row(int(number), cells):
                entry = _entry_in(cells)
                if entry is not None:
                    known = entries.get(entry.id)
                    if known is None or known[1].payload is None:
                        entries[entry.id] = (number, entry)
            case _Row(None, [str(key), bytes(value)]):
                marks.setdefault(key, value)
    through, whole = _marks_through_sqlite(file)
    in_order = sorted(entries.values(), key=lambda pair: pair[0])
    return Salvage(tuple(entry for _, entry in in_order), through if whole else marks | through, tuple(registers))


def _marks_through_sqlite(file: Path) -> tuple[dict[str, bytes], bool]:
    """The marks as SQLite gives them, from both ends, and whether that was all of them."""
    found: dict[str, bytes] = {}
    whole = True
    for order in ("ASC", "DESC"):
        try:
            with contextlib.closing(sqlite3.connect(file)) as connection:
                for key, value in connection.execute(f"SELECT key, value FROM mark ORDER BY key {order}"):  # noqa: S608
                    found[str(key)] = bytes(value)
        except (sqlite3.Error, TypeError, ValueError):
            whole = False
    return found, whole


def _entry_in(cells: Sequence[Cell]) -> Entry | None:
    """The entry in a row of the tables `entry` or `held`: id in the second column, its four parts side by side."""
    if len(cells) < 8 or not isinstance(cells[1], bytes):  # noqa: PLR2004  (the shorter of the two tables)
        return None
    for at in range(2, len(cells) - 3):
        header, signature, salt, payload = cells[at : at + 4]
        if not (isinstance(header, bytes) and isinstance(signature, bytes) and len(signature) == SIGNATURE_BYTES):
            continue
        if not (salt is None or (isinstance(salt, bytes) and len(salt) == SALT_BYTES)):
            continue
        if not (payload is None or isinstance(payload, bytes)) or blake3(header).digest() != cells[1]:
            continue
        with contextlib.suppress(PeerFault):
            return from_wire([header, signature, salt, payload])
    return None


# --- pages ------------------------------------------------------------------------------------------------------------


def _rows(file: Path) -> Iterator[_Row]:
    pages = _Pages(file)
    try:
        for page, offset in pages.all():
            yield from _rows_of(page, offset, pages)
    finally:
        pages.close()


class _Pages:
    """The pages of a database file, and those of its log, which are newer."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("rb")
        log = file.with_name(f"{file.name}-wal")
        self._log = log.open("rb") if log.is_file() else None
        head = self._file.read(_HEADER_BYTES)
        size = int.from_bytes(head[16:18], "big")
        size = 65_536 if size == 1 else size
        self.size = size if 512 <= size <= 65_536 and size & (size - 1) == 0 else _USUAL_PAGE_BYTES  # noqa: PLR2004
        self._newer: dict[int, int] = {}
        for place, number in self._frames():
            self._newer[number] = place

    def all(self) -> Iterator[tuple[bytes, int]]:
        """Every page, of the log too, and where in it its own head begins."""
        if self._log is not None:
            for place, number in list(self._frames()):
                yield self._at(place), _HEADER_BYTES if number == 1 else 0
        number = 1
        while page := self._read(number):
            yield page, _HEADER_BYTES if number == 1 else 0
            number += 1

    def page(self, number: int) -> bytes:
        """The newest state of a page; empty if there is none."""
        place = self._newer.get(number)
        return self._read(number) if place is None else self._at(place)

    def close(self) -> None:
        self._file.close()
        if self._log is not None:
            self._log.close()

    def _read(self, number: int) -> bytes:
        self._file.seek((number - 1) * self.size)
        return self._file.read(self.size)

    def _at(self, place: int) -> bytes:
        assert self._log is not None  # noqa: S101  (places come from the log)
        self._log.seek(place)
        return self._log.read(self.size)

    def _frames(self) -> Iterator[tuple[int, int]]:
        """Where each page of the log lies, and its number."""
        place = _LOG_HEAD_BYTES
        while self._log is not None:
            self._log.seek(place)
            head = self._log.read(_FRAME_HEAD_BYTES)
            if len(head) < _FRAME_HEAD_BYTES:
                return
            yield place + _FRAME_HEAD_BYTES, int.from_bytes(head[:4], "big")
            place += _FRAME_HEAD_BYTES + self.size


def _rows_of(page: bytes, offset: int, pages: _Pages) -> Iterator[_Row]:
    """The rows on one page that can be read; none if it is no leaf."""
    if len(page) < offset + 12:
        return
    kind = page[offset]
    if kind != _TABLE_LEAF and kind not in _INDEX_PAGES:
        return
    cells = int.from_bytes(page[offset + 3 : offset + 5], "big")
    pointers = offset + _INDEX_PAGES.get(kind, 8)
    for place in range(pointers, min(pointers + 2 * cells, len(page) - 1), 2):
        cell = int.from_bytes(page[place : place + 2], "big")
        with contextlib.suppress(IndexError, ValueError, UnicodeDecodeError):
            yield _row(page, cell, kind, pages)


def _row(page: bytes, at: int, kind: int, pages: _Pages) -> _Row:
    """The row in one cell. Raises `IndexError`, `ValueError` for what is none."""
    at += 4 if kind == 0x02 else 0  # noqa: PLR2004  (an inner page's cell begins with the page below it)
    size, at = _varint(page, at)
    number = None
    if kind == _TABLE_LEAF:
        number, at = _varint(page, at)
    if not 0 < size <= _MAX_RECORD_BYTES:
        raise ValueError(size)
    return _Row(number, _record(_payload(page, at, size, pages, is_table=kind == _TABLE_LEAF)))


def _payload(page: bytes, at: int, size: int, pages: _Pages, *, is_table: bool) -> bytes:
    """The record of a cell, with what overflows onto other pages."""
    usable = pages.size
    most = usable - 35 if is_table else (usable - 12) * 64 // 255 - 23
    local = size
    if size > most:
        least = (usable - 12) * 32 // 255 - 23
        local = least + (size - least) % (usable - 4)
        local = local if local <= most else least
    data = bytearray(page[at : at + local])
    if local < size:
        following = int.from_bytes(page[at + local : at + local + 4], "big")
        met = set()
        while len(data) < size and following and following not in met:
            met.add(following)
            overflow = pages.page(following)
            data += overflow[4 : 4 + size - len(data)]
            following = int.from_bytes(overflow[:4], "big")
    if len(data) != size:
        raise ValueError(size)
    return bytes(data)


def _record(data: bytes) -> list[Cell]:
    """The columns of a record."""
    head, at = _varint(data, 0)
    kinds: list[int] = []
    while at < head:
        kind, at = _varint(data, at)
        kinds.append(kind)
        if len(kinds) > _MAX_COLUMNS:
            raise ValueError(len(kinds))
    cells: list[Cell] = []
    for kind in kinds:
        if kind >= _BLOB_FROM:
            length = (kind - _BLOB_FROM) // 2
            raw = data[at : at + length]
            cells.append(raw.decode() if kind % 2 else raw)
        elif kind in (8, 9):
            length, raw = 0, b""
            cells.append(kind - 8)
        elif kind == _FLOAT:
            length, raw = 8, data[at : at + 8]
            cells.append(None)
        else:
            length = _INTEGER_BYTES[kind]
            raw = data[at : at + length]
            cells.append(int.from_bytes(raw, "big", signed=True) if kind else None)
        if len(raw) != length:
            raise ValueError(kind)
        at += length
    return cells


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of one to nine bytes, and where the next begins. Raises `IndexError`."""
    value = 0
    for step in range(8):
        byte = data[at + step]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:  # noqa: PLR2004
            return value, at + step + 1
    return value << 8 | data[at + 8], at + 9
