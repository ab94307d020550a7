"""A caller's cursors, found by the space that they name in full or by its beginning (docs/protocol.md, "Messages")."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from protocol.limits import MAX_SPACES_PER_REQUEST
from protocol.messages.parts import SPACE_PREFIX_BYTES
from protocol.reconcile.checkpoint import Cursor


class NamedCursors:
    """A caller's cursors by space. Whatever their number, a look-up costs the same."""

    def __init__(self, cursors: Iterable[Cursor]) -> None:
        self._by_name: dict[bytes, Cursor] = {}
        for cursor in cursors:
            self._by_name.setdefault(cursor.space, cursor)

    def of(self, space: bytes) -> Cursor | None:
        """The cursor that names a space in full, else by its beginning."""
        found = (self._by_name.get(name) for name in names_of(space))
        return next((cursor for cursor in found if cursor is not None), None)

    @property
    def names_all(self) -> bool:
        """Whether the caller may have named all spaces of which it holds something: a request holds no more."""
        return len(self._by_name) < MAX_SPACES_PER_REQUEST

    def says_complete(self, space: bytes) -> bool:
        """Whether the caller has all content up to its cursor."""
        cursor = self.of(space)
        return cursor is not None and cursor.complete

    def unrecognised(self) -> NamedCursors:
        """The same cursors when they come from another generation: none with a count fits this store."""
        return NamedCursors(replace(cursor, chain=b"") for cursor in self._by_name.values())

    def beside(self, spaces: Iterable[bytes]) -> set[bytes]:
        """The names that no cursor of these spaces has."""
        used = {cursor.space for space in spaces if (cursor := self.of(space)) is not None}
        return self._by_name.keys() - used


def names_of(space: bytes) -> tuple[bytes, bytes]:
    """How a cursor may name a space."""
    return space, space[:SPACE_PREFIX_BYTES]
