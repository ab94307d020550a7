"""Rows of the entry tables and what they stand for."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from protocol.entry import Entry, commitment, restore
from protocol.errors import Code, LocalFailure, PeerFault
from protocol.replica.database import Cell

ENTRY: Final = "id, header, signature, salt, payload"


def entry_of(row: Sequence[Cell]) -> Entry:
    """The entry in a row that begins with the columns `ENTRY`. Raises `LocalFailure(DAMAGED)`."""
