"""Which devices a server has cut off, and let back in, with its own commands: noted as it says so (docs/adr/0406).

Whoever has a copy of its key says the like in its name, and notes nothing. A root's words nobody says but the root.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from protocol.model.entry import Entry
from protocol.replica.interfaces import EntryStore

CUT_MARKS: Final = "cuts-made/"
"""+ entry in hex: the revocations that this server has said."""
BACK_MARKS: Final = "let-back/"
"""+ entry in hex: the grants of this server's that name revocations, and take them back."""


async def noted_cuts(store: EntryStore) -> frozenset[bytes]:
    """The revocations that were noted as said here."""
    return await _noted(store, CUT_MARKS)


async def noted_backs(store: EntryStore) -> frozenset[bytes]:
    """The grants that take revocations back, likewise."""
    return await _noted(store, BACK_MARKS)


def is_said_here(entry: Entry, noted: Container[bytes]) -> bool:
    """Whether what this server has `noted` holds an entry, or a root has said it."""
    return entry.header.grant is None or entry.id in noted


async def _noted(store: EntryStore, marks: str) -> frozenset[bytes]:
    return frozenset(bytes.fromhex(mark.removeprefix(marks)) for mark in await store.marks(marks))
