"""A server whose database a bad disk spoils: rows are lost, or the head, and it is made anew as it is opened."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, closing
from pathlib import Path

from sync_server.opened.app import opened
from tests.harness.office_devices import Town
from tests.harness.server_in_process import Office

_PAGE_BYTES = 4096


def spoil(file: Path, lost: Iterable[bytes] = (), *, all_of_it: bool = False) -> None:
    """The head of a database is gone, and with other pages the entries of these ids; or there is nothing but noise."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.executemany("DELETE FROM entry WHERE id = ?", [(one,) for one in lost])
        connection.execute("VACUUM")
    data = file.read_bytes()
    file.write_bytes(os.urandom(len(data)) if all_of_it else bytes(_PAGE_BYTES) + data[_PAGE_BYTES:])


@asynccontextmanager
async def damaged(here: Town, lost: Iterable[bytes] = (), *, all_of_it: bool = False) -> AsyncIterator[Office]:
    """The server after a power cut that cost it this; no machine has called it since."""
    old = here.office.server
    await old.contacts.flush()
    await old.close()
    spoil(old.folder / "replica.db", lost, all_of_it=all_of_it)
    async with opened(old.folder, now_ms=here.office.clock, entropy=os.urandom) as new:
        here.frontage.responder = new.responder
        yield Office(new, here.office.clock, here.office.space)
