"""The statements behind `sqlite`: functions over the connection, most of them inside a transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, cast

from protocol.errors import Code, LocalFailure, PeerFault
from protocol.limits import CURSOR_HASH_BYTES
from protocol.model.entry import Entry, commitment, restore, restore_known
from protocol.reconcile.checkpoint import next_chain
from protocol.replica.interfaces import Held, RegisterRow, Stored
from protocol.replica.storage.database import Cell, insert, select_in

ENTRY: Final = "id, header, signature, salt, payload"

_ARRIVALS: Final = f"""SELECT {ENTRY}, arrival FROM entry
    WHERE space = (SELECT number FROM space WHERE id = ?) AND arrival > ? {{only}} ORDER BY arrival"""  # noqa: S608
_INSERT: Final = """INSERT INTO entry
    (seq, id, space, arrival, chain, kind, author, at_ms, header, signature, salt, payload)"""
_HOLD: Final = """INSERT INTO held (id, header, signature, salt, payload, source, missing, wire_bytes)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""


# --- rows and entries -------------------------------------------------------------------------------------------------


def entry_of(row: Sequence[Cell], *, anew: bool = False) -> Entry:
    """The entry in a row that begins with the columns `ENTRY`; `anew` judges its encoding once more.

    Raises `LocalFailure(DAMAGED)`.
    """
    entry_id, header, signature, salt, payload = cast("tuple[bytes, bytes, bytes, bytes | None, bytes | None]", row[:5])
    try:
        entry = (restore if anew else restore_known)(header, signature, salt, payload)
    except PeerFault as reason:
        raise _damaged(entry_id, "its header cannot be read") from reason
    if entry.id != entry_id:
        raise _damaged(entry_id, "its header has another hash")
    if (salt is None) is not (payload is None):
        raise _damaged(entry_id, "half of its payload is missing")
    if salt is not None and payload is not None and commitment(salt, payload) != entry.header.commitment:
        raise _damaged(entry_id, "its payload is not the one that was signed")
    return entry


def stored_of(row: Sequence[Cell]) -> Stored:
    """The entry in a row with the columns `ENTRY` and `arrival`."""
    return Stored(cast("int", row[5]), entry_of(row))


def within(rows: Iterator[Stored], max_bytes: int) -> Iterator[Stored]:
    """The first of `rows`, and as many more as keep the sum of their wire bytes at `max_bytes` or below."""
    total = 0
    for stored in rows:
        total += stored.entry.wire_bytes
        if total > max_bytes and total != stored.entry.wire_bytes:
            return
        yield stored


def arrivals(
    connection: sqlite3.Connection, space: bytes, after: int, *, kinds: Collection[int] | None = None
) -> Iterator[Stored]:
    """What arrived in a space after number `after`, in order; of some `kinds`, or all of it."""
    wanted = [] if kinds is None else [int(kind) for kind in kinds]
    # by arrival, of one space: the index by kind would lead through all others (the sign keeps it out)
    only = "" if kinds is None else f"AND +kind IN ({', '.join('?' * len(wanted))})"
    return map(stored_of, connection.execute(_ARRIVALS.format(only=only), (space, after, *wanted)))


def _damaged(entry_id: bytes, why: str) -> LocalFailure:
    return LocalFailure(Code.DAMAGED, "a stored entry is damaged", id=entry_id.hex(), why=why)


# --- the set ----------------------------------------------------------------------------------------------------------


def present(connection: sqlite3.Connection, ids: Sequence[bytes]) -> set[bytes]:
    """Those of `ids` that are in the set."""
    # one row per query, not one per id: see `database.insert`
    rows = select_in(connection, "SELECT group_concat(hex(id), '') FROM entry WHERE id IN ({keys})", ids)
    found = (bytes.fromhex(cast("str", row[0] or "")) for row in rows)
    return {part[at : at + 32] for part in found for at in range(0, len(part), 32)}


def append(connection: sqlite3.Connection, entries: Sequence[Entry], *, unsent: bool) -> list[Stored]:
    """Add those entries that are new, in order; returns them."""
    by_id = {entry.id: entry for entry in entries}
    for known in present(connection, list(by_id)):
        del by_id[known]
    if not by_id:
        return []
    new = list(by_id.values())
    numbers = {space: space_number(connection, space) for space in {entry.header.space for entry in new}}
    authors = _author_numbers(connection, {entry.header.author for entry in new})
    places = {number: _place(connection, number) for number in numbers.values()}
    (first,) = connection.execute("SELECT ifnull(max(seq), 0) + 1 FROM entry").fetchone()
    stored: list[Stored] = []
    rows: list[tuple[Cell, ...]] = []
    for seq, entry in enumerate(new, first):
        header = entry.header
        space = numbers[header.space]
        count, chain = places[space]
        chain = next_chain(chain, entry.id)
        places[space] = (count + 1, chain)
        stored.append(Stored(count + 1, entry))
        rows.append(
            (
                seq,
                entry.id,
                space,
                count + 1,
                chain[:CURSOR_HASH_BYTES],
                header.kind,
                authors[header.author],
                entry.timestamp_ms,
                entry.header_bytes,
                entry.signature,
                entry.salt,
                entry.payload,
            )
        )
    insert(connection, _INSERT, rows)
    for space, (count, chain) in places.items():
        connection.execute("UPDATE space SET count = ?, chain = ? WHERE number = ?", (count, chain, space))
    if unsent:
        waiting = [(seq, entry.wire_bytes) for seq, entry in enumerate(new, first)]
        insert(connection, "INSERT INTO unsent (seq, wire_bytes)", waiting)
    return stored


def space_number(connection: sqlite3.Connection, space: bytes) -> int:
    """The small number of a space, given to it now if it has none."""
    row = connection.execute("SELECT number FROM space WHERE id = ?", (space,)).fetchone()
    if row is None:
        row = connection.execute("INSERT INTO space (id) VALUES (?) RETURNING number", (space,)).fetchone()
    return cast("int", row[0])


def _author_numbers(connection: sqlite3.Connection, keys: set[bytes]) -> dict[bytes, int]:
    insert(connection, "INSERT OR IGNORE INTO author (key)", [(key,) for key in sorted(keys)])
    rows = select_in(connection, "SELECT key, number FROM author WHERE key IN ({keys})", sorted(keys))
    return {cast("bytes", key): cast("int", number) for key, number in rows}


def _place(connection: sqlite3.Connection, space: int) -> tuple[int, bytes]:
    row = connection.execute("SELECT count, chain FROM space WHERE number = ?", (space,)).fetchone()
    return cast("tuple[int, bytes]", row)


# --- marks, quarantine, registers -------------------------------------------------------------------------------------


def set_marks(connection: sqlite3.Connection, marks: Mapping[str, bytes | None]) -> None:
    """Set local values; None deletes."""
    for key, value in marks.items():
        if value is None:
            connection.execute("DELETE FROM mark WHERE key = ?", (key,))
        else:
            connection.execute("INSERT OR REPLACE INTO mark (key, value) VALUES (?, ?)", (key, value))


def hold(connection: sqlite3.Connection, held: Sequence[Held], *, max_entries: int, max_bytes: int) -> list[bytes]:
    """Put entries in quarantine, or note what one that is there waits for now; returns the ids that do not fit.

    One that is there as a bare header gives way to one with its payload.
    """
    refused = []
    totals: dict[bytes, tuple[int, int]] = {}
    for one in held:
        entry = one.entry
        sql = "SELECT source, wire_bytes, payload IS NULL FROM held WHERE id = ?"
        known = connection.execute(sql, (entry.id,)).fetchone()
        if known is not None and (entry.payload is None or not known[2]):
            connection.execute("UPDATE held SET missing = ? WHERE id = ?", (one.missing, entry.id))
            continue
        count, size = totals.get(one.source) or _held_totals(connection, one.source)
        replaced = known is not None and known[0] == one.source
        count, size = count + (not replaced), size + entry.wire_bytes - (known[1] if replaced else 0)
        if count > max_entries or size > max_bytes:
            refused.append(entry.id)
            continue
        if known is not None:
            drop_held(connection, [entry.id])
            totals.pop(known[0], None)
        parts = (entry.id, entry.header_bytes, entry.signature, entry.salt, entry.payload)
        connection.execute(_HOLD, (*parts, one.source, one.missing, entry.wire_bytes))
        totals[one.source] = (count, size)
    return refused


def _held_totals(connection: sqlite3.Connection, source: bytes) -> tuple[int, int]:
    sql = "SELECT count(*), ifnull(sum(wire_bytes), 0) FROM held WHERE source = ?"
    return cast("tuple[int, int]", connection.execute(sql, (source,)).fetchone())


def drop_held(connection: sqlite3.Connection, ids: Iterable[bytes]) -> None:
    """Take entries out of quarantine."""
    connection.executemany("DELETE FROM held WHERE id = ?", [(entry_id,) for entry_id in ids])


def put_register(connection: sqlite3.Connection, row: RegisterRow) -> bool:
    """Keep a register if it is newer than the one held; of two at the same time, the greater bytes win everywhere."""
    key = (row.kind, row.subject, row.device)
    sql = "SELECT at_ms, data FROM register WHERE kind = ? AND subject = ? AND device = ?"
    held = connection.execute(sql, key).fetchone()
    if held is not None and held >= (row.at_ms, row.data):
        return False
    sql = "INSERT OR REPLACE INTO register (kind, subject, device, at_ms, data) VALUES (?, ?, ?, ?, ?)"
    connection.execute(sql, (*key, row.at_ms, row.data))
    return True
