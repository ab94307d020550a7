"""Valid signed entries by the dozen, for tests that care about storing them and not about what they say."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from protocol.clock import at_from
from protocol.identity import SigningKey
from protocol.limits import CURSOR_HASH_BYTES, SALT_BYTES
from protocol.model.entry import Entry, Kind, compose
from protocol.model.work import ContentRef, HandIn, Receipt
from protocol.replica.interfaces import RegisterRow

START_MS = 1_795_000_000_000
SPACE = b"a space of entries for tests....".ljust(32, b".")
NOTHING = bytes(CURSOR_HASH_BYTES)
"""The chain of a space where nothing has arrived."""
OTHER_SPACE = b"another space of entries........".ljust(32, b".")
SOME_WORK = HandIn(ContentRef(bytes(32), 1, 0), None).encode()
SOME_RECEIPT = Receipt(bytes(32)).encode()


class EntryMaker:
    """Makes entries; the same seed and the same calls give the same bytes."""

    def __init__(self, seed: int = 1) -> None:
        self.random = Random(seed)
        self.authors = [SigningKey(self.random.randbytes(32)) for _ in range(3)]
        self._made = 0

    def entry(
        self,
        space: bytes = SPACE,
        *,
        kind: int = Kind.REVISION,
        author: int = 0,
        payload: bytes | None = None,
        at_ms: int | None = None,
    ) -> Entry:
        """One more entry, a second later than the one before unless told otherwise."""
        self._made += 1
        return compose(
            author=self.authors[author],
            space=space,
            kind=kind,
            grant=self.random.randbytes(32),
            at=at_from(START_MS + self._made * 1_000 if at_ms is None else at_ms, 0),
            payload=self.random.randbytes(60) if payload is None else payload,
            salt=self.random.randbytes(SALT_BYTES),
        )

    def entries(self, count: int, space: bytes = SPACE) -> list[Entry]:
        """So many entries of one space."""
        return [self.entry(space) for _ in range(count)]


def ids_of(entries: Iterable[Entry]) -> list[bytes]:
    """Their ids, in order."""
    return [entry.id for entry in entries]


def bare(entry: Entry) -> Entry:
    """The entry as it is once its payload is erased."""
    return Entry(entry.header, entry.header_bytes, entry.id, entry.signature, None, None)


def register(at_ms: int, data: bytes = b"", *, kind: int = 1, device: bytes = b"d" * 32) -> RegisterRow:
    """A register of a device, as a store keeps it."""
    return RegisterRow(kind, b"subject", device, at_ms, data)
