"""Writes a bundle in constant memory (docs/protocol.md, "Bundles")."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, TypeVar

from blake3 import blake3

from protocol.bundles.form import (
    ENTRIES,
    PACK,
    RECORD,
    REGISTERS,
    SEALED_CHUNK_BYTES,
    TAG_BYTES,
    TRAILER_BYTES,
    BundleKeys,
    Head,
    Index,
    PackNote,
    Trailer,
)
from protocol.canonical import encode
from protocol.limits import (
    BUNDLE_CHUNK_BYTES,
    MAX_BUNDLE_RECORD_BYTES,
)
from protocol.model.entry import ID_BYTES, Entry, to_wire

Draw: TypeAlias = "Callable[[memoryview], None]"
"""Fills memory with the bytes that come next."""
_Octets = TypeVar("_Octets", bytes, memoryview)


class BundleWriter:
    """Writes one bundle in constant memory. Every method gives what has become certain, to be written in that order.

    What it gives lies in memory of its own, and is good until the next call: to let each piece have new memory costs
    more time than to read, seal and hash it. May be called in a thread, one call after the other.

    `preface` are the entries that open the key; the index is known from the beginning, and what follows is exactly what
    it lists, in its order: entries, then bare ones, registers, packs.
    """

    def __init__(
        self,
        bundle_key: bytes,
        *,
        territory: bytes,
        space: bytes,
        commitment: bytes,
        nonce: bytes,
        preface: Sequence[Entry],
        index: Index,
    ) -> None:
        plain = index.encode()
        self.head: Final = Head.compose(territory, space, commitment, nonce, preface, len(plain) + TAG_BYTES)
        self._keys = BundleKeys(bundle_key, self.head)
        self._chunk = memoryview(bytearray(BUNDLE_CHUNK_BYTES))
        self._filled = 0
        self._ready = memoryview(bytearray(SEALED_CHUNK_BYTES))
        self._ready_bytes = 0
        self._number = 0
        self._hash = blake3()
        self.size = 0
        self._begun = self.head.data + self._keys.seal_index(plain)

    def begin(self) -> bytes:
        """Head and index."""
        return self._counted(self._begun)

    def entries(self, entries: Sequence[Entry]) -> memoryview:
        """A batch of entries, at most `MAX_BUNDLE_RECORD_BYTES` of them."""
        return self._record(ENTRIES, encode([to_wire(entry) for entry in entries]))

    def registers(self, registers: Sequence[bytes]) -> memoryview:
        """Signed registers."""
        return self._record(REGISTERS, encode(list(registers)))

    def pack(self, note: PackNote) -> memoryview:
        """A pack begins; `data` or `drawn` brings its `size` bytes."""
        return self.data(RECORD.pack(PACK, ID_BYTES + note.size) + note.hash)

    def data(self, data: bytes) -> memoryview:
        """The next bytes of a pack."""
        left = memoryview(data)

        def copy(memory: memoryview) -> None:
            nonlocal left
            memory[:] = left[: len(memory)]
            left = left[len(memory) :]

        return self.drawn(len(data), copy)

    def drawn(self, size: int, draw: Draw) -> memoryview:
        """The next `size` bytes of a pack, which `draw` puts where they are sealed from: they are copied nowhere else.

        Gives the chunks that they complete. The last one is never empty, so a full one waits until more comes.
        """
        self._ready_bytes = 0
        self._make_room(self._filled + size)
        while size:
            if self._filled == BUNDLE_CHUNK_BYTES:
                self._seal(last=False)
            count = min(size, BUNDLE_CHUNK_BYTES - self._filled)
            draw(self._chunk[self._filled : self._filled + count])
            self._filled += count
            size -= count
        return self._ready[: self._ready_bytes]

    def finish(self) -> bytes:
        """The rest, and the trailer."""
        self._ready_bytes = 0
        self._seal(last=True)
        self.size += TRAILER_BYTES
        return bytes(self._ready[: self._ready_bytes]) + Trailer(self.size, self._hash.digest()).encode()

    def _record(self, kind: int, body: bytes) -> memoryview:
        if len(body) > MAX_BUNDLE_RECORD_BYTES:
            raise ValueError("a record is larger than allowed")
        return self.data(RECORD.pack(kind, len(body)) + body)

    def _make_room(self, plain_bytes: int) -> None:
        """Have memory for as many sealed chunks as so many bytes fill."""
        needed = max(1, plain_bytes // BUNDLE_CHUNK_BYTES) * SEALED_CHUNK_BYTES
        if len(self._ready) < needed:
            self._ready = memoryview(bytearray(needed))

    def _seal(self, *, last: bool) -> None:
        """Seal what fills the chunk behind what is ready, and hash it there while the processor still has it."""
        end = self._ready_bytes + self._filled + TAG_BYTES
        sealed = self._ready[self._ready_bytes : end]
        self._keys.seal_chunk(self._chunk[: self._filled], self._number, sealed, last=last)
        self._counted(sealed)
        self._ready_bytes, self._filled = end, 0
        self._number += 1

    def _counted(self, data: _Octets) -> _Octets:
        self._hash.update(data)
        self.size += len(data)
        return data
