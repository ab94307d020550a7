"""`verify` of the SQLite store: every entry is checked; bad ones are moved aside and count as missing.

Numbering and chain of a space start anew behind the first entry that goes: what others hold as a cursor no longer fits,
so that they reconcile by ranges, and whoever has the lost entry brings it back. What waits outside the set, and notes,
are dropped where they cannot be read.
"""

from __future__ import annotations

import asyncio
import math
import sqlite3
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final, TypeAlias, cast

from protocol.errors import LocalFailure
from protocol.limits import CURSOR_HASH_BYTES
from protocol.model.entry import signature_holds
from protocol.reconcile.checkpoint import CHAIN_START, next_chain
from protocol.replica.interfaces import Damage
from protocol.replica.storage.database import Cell, Database
from protocol.replica.storage.sqlite_entries import ENTRY, entry_of

_ROWS_AT_ONCE: Final = 100
_BELOW_ALL: Final = -math.inf
"""Somebody else's row may have any number: entries are numbered from 1, and all that is asked for begins there."""
_PAGE: Final = f"""SELECT {ENTRY}, seq, kind, at_ms,
        (SELECT space.id FROM space WHERE number = entry.space), (SELECT key FROM author WHERE number = entry.author)
    FROM entry WHERE seq > ? ORDER BY seq LIMIT {_ROWS_AT_ONCE}"""  # noqa: S608

Row: TypeAlias = "tuple[Cell, ...]"
Faults: TypeAlias = "dict[int, Damage]"


async def verify_entries(database: Database) -> list[Damage]:
    """Check ids, commitments, signatures, numbering, chains and SQLite's own structures; put right what can be.

    Raises `LocalFailure(DAMAGED)` where pages are bad: the next opening makes the database anew.
    """
    damages = await database.run(_check_structure)
    if damages:
        await database.write(_reindex)
        if remaining := await database.run(_check_structure):
            raise await database.suspect(remaining[0].why)
    faults: Faults = {}
    seq: float = _BELOW_ALL
    while rows := await database.run(partial(_page, after=seq)):
        faults |= await asyncio.to_thread(_faults, rows)
        seq = cast("int", rows[-1][5])
    await database.write(_drop_what_cannot_be_read)
    return damages + await database.write(lambda connection: _put_right(connection, faults))


def _check_structure(connection: sqlite3.Connection) -> list[Damage]:
    problems = [row[0] for row in connection.execute("PRAGMA integrity_check(20)")]
    return [] if problems == ["ok"] else [Damage("database", b"", "; ".join(problems))]


def _reindex(connection: sqlite3.Connection) -> None:
    connection.execute("REINDEX")


def _drop_what_cannot_be_read(connection: sqlite3.Connection) -> None:
    """Rows of the quarantine, which come again, and marks whose name is no text any more: nobody asks for them."""
    held = connection.execute(f"SELECT {ENTRY}, number FROM held").fetchall()  # noqa: S608
    connection.executemany("DELETE FROM held WHERE number = ?", [(row[5],) for row in held if _is_unreadable(row)])
    names = connection.execute("SELECT CAST(key AS BLOB) FROM mark").fetchall()
    bad = [(name,) for (name,) in names if _is_no_text(name)]
    connection.executemany("DELETE FROM mark WHERE CAST(key AS BLOB) = ?", bad)


def _is_unreadable(row: Row) -> bool:
    try:
        entry_of(row, anew=True)
    except LocalFailure:
        return True
    return False


def _is_no_text(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return True
    return False


def _page(connection: sqlite3.Connection, after: float) -> list[Row]:
    return connection.execute(_PAGE, (after,)).fetchall()


def _faults(rows: Sequence[Row]) -> Faults:
    found = ((cast("int", row[5]), cast("bytes", row[0]), _fault(row)) for row in rows)
    return {seq: Damage("entry", entry_id, why) for seq, entry_id, why in found if why is not None}


def _fault(row: Row) -> str | None:
    try:
        entry = entry_of(row, anew=True)
    except LocalFailure as failure:
        return str(failure.facts["why"])
    if not signature_holds(entry):
        return "its signature does not hold"
    header = entry.header
    if cast("int", row[5]) < 1:
        return "it stands before the first"
    if row[6:] != (header.kind, entry.timestamp_ms, header.space, header.author):
        return "what was copied out of its header is not what the header says"
    return None


def _put_right(connection: sqlite3.Connection, faults: Mapping[int, Damage]) -> list[Damage]:
    shortened = set()
    for seq, damage in faults.items():
        (space,) = connection.execute("SELECT space FROM entry WHERE seq = ?", (seq,)).fetchone()
        shortened.add(space)
        sql = f"INSERT INTO damaged ({ENTRY}, why) SELECT {ENTRY}, ? FROM entry WHERE seq = ?"  # noqa: S608
        connection.execute(sql, (damage.why, seq))
        connection.execute("DELETE FROM unsent WHERE seq = ?", (seq,))
        connection.execute("DELETE FROM entry WHERE seq = ?", (seq,))
    damages = list(faults.values())
    for number, space in connection.execute("SELECT number, id FROM space ORDER BY number").fetchall():
        if _renumber(connection, number) and number not in shortened:
            damages.append(Damage("space", space, "its arrivals were not numbered as they should be"))
    return damages


def _renumber(connection: sqlite3.Connection, space: int) -> bool:
    """Number the entries of a space 1, 2, 3 … with their chain; True if anything was otherwise."""
    count, chain = 0, CHAIN_START
    changes: list[tuple[int, bytes, int]] = []
    rows = connection.execute("SELECT arrival, id, chain, seq FROM entry WHERE space = ? ORDER BY arrival", (space,))
    for arrival, entry_id, stored, seq in rows:
        count, chain = count + 1, next_chain(chain, entry_id)
        if (arrival, stored) != (count, chain[:CURSOR_HASH_BYTES]):
            changes.append((count, chain[:CURSOR_HASH_BYTES], seq))
    connection.executemany("UPDATE entry SET arrival = ?, chain = ? WHERE seq = ?", changes)
    sql = "UPDATE space SET count = ?1, chain = ?2 WHERE number = ?3 AND (count, chain) IS NOT (?1, ?2)"
    return connection.execute(sql, (count, chain, space)).rowcount > 0 or bool(changes)
