"""What a server has said with its own commands, and whoever has a copy of its key says likewise: noted as it is said.

Which devices it has cut off, and let back in (docs/adr/0406), whom it has taken off a list, or made another
(docs/adr/0439, 0451), what it has called whom lists had (docs/adr/0489), and which words that froze somebody it has
lifted (docs/adr/0446).

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

LEAVE_MARKS: Final = "taken-off/"
"""+ entry in hex: the words of this server's that take somebody off a list, make two one, or call somebody anew."""

LIFTED_MARKS: Final = "unfrozen/"
"""+ entry in hex: the words of anybody's that freeze somebody, and that `person unfreeze` has lifted at this server."""


async def noted_cuts(store: EntryStore) -> frozenset[bytes]:
    """The revocations that were noted as said here."""
    return await _noted(store, CUT_MARKS)


async def noted_backs(store: EntryStore) -> frozenset[bytes]:
    """The grants that take revocations back, likewise."""
    return await _noted(store, BACK_MARKS)


async def noted_leaves(store: EntryStore) -> frozenset[bytes]:
    """The words that take somebody off a list, likewise."""
    return await _noted(store, LEAVE_MARKS)


async def noted_lifted(store: EntryStore) -> frozenset[bytes]:
    """The words that froze somebody and were lifted here, likewise."""
    return await _noted(store, LIFTED_MARKS)


def is_said_here(entry: Entry, noted: Container[bytes]) -> bool:
    """Whether what this server has `noted` holds an entry, or a root has said it."""
    return entry.header.grant is None or entry.id in noted


async def _noted(store: EntryStore, marks: str) -> frozenset[bytes]:
    return frozenset(bytes.fromhex(mark.removeprefix(marks)) for mark in await store.marks(marks))
