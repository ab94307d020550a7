"""Records sorted for reconciliation, in memory (docs/protocol.md, "Reconcile").

A `SortedRecords` never changes: adding makes a new one that shares all untouched blocks with the old, so that a
dialogue may go on over the set that it began with. A block holds some 64 records as their 40-byte sort keys (the
timestamp in big-endian bytes, the id); sums of ids before each block let a fingerprint read at most two blocks.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import accumulate, groupby
from typing import Final, NamedTuple

from blake3 import blake3

from protocol.reconcile.negentropy import ID_BYTES, INFINITE_MS, Bound, Record, fingerprint_of_sum

_MS_BYTES: Final = 8
_KEY_BYTES: Final = _MS_BYTES + ID_BYTES
_BLOCK_RECORDS: Final = 64
_DIGEST_PREFIX: Final = b"relais/0 set"


class _Block(NamedTuple):
    keys: bytes
    id_sum: int

    @property
    def size(self) -> int:
        return len(self.keys) // _KEY_BYTES

    def key(self, index: int) -> bytes:
        return self.keys[index * _KEY_BYTES : (index + 1) * _KEY_BYTES]

    def without(self, ids: Collection[bytes]) -> bytes:
        return b"".join(key for key in map(self.key, range(self.size)) if key[_MS_BYTES:] not in ids)


class SortedRecords:
    """A `RangeView` of an unordered iterable of records; a record given twice counts once.

    Raises `ValueError` for a timestamp of 2**64 - 1 or more, or an id that has not 32 bytes.
    """

    __slots__ = ("_blocks", "_digest", "_first_keys", "_starts", "_sums")

    def __init__(self, records: Iterable[Record] = (), onto: Sequence[_Block] = ()) -> None:
        self._blocks = _merged(onto, {_key(record) for record in records})
        self._first_keys = [block.key(0) for block in self._blocks]
        self._starts = [0, *accumulate(block.size for block in self._blocks)]
        self._sums = [0, *accumulate(block.id_sum for block in self._blocks)]
        self._digest: bytes | None = None

    def with_added(self, records: Iterable[Record]) -> SortedRecords:
        """These records and `records`. Costs what the touched blocks cost, and a pass over the list of blocks."""
        return SortedRecords(records, self._blocks)

    def __len__(self) -> int:
        return self._starts[-1]

    def __iter__(self) -> Iterator[Record]:
        return (_record(block.key(index)) for block in self._blocks for index in range(block.size))

    def record(self, index: int) -> Record:
        """The record at `index`, from 0."""
        place = bisect_right(self._starts, index) - 1
        return _record(self._blocks[place].key(index - self._starts[place]))

    def index_of(self, bound: Bound) -> int:
        """How many records lie before `bound`."""
        # A shorter key sorts before all that it begins, as the same key padded with zeros does.
        key = bound.timestamp_ms.to_bytes(_MS_BYTES, "big") + bound.prefix
        place = bisect_left(self._first_keys, key) - 1
        if place < 0:
            return 0
        block = self._blocks[place]
        return self._starts[place] + bisect_left(range(block.size), key, key=block.key)

    def ids(self, low: int, high: int) -> Iterator[bytes]:
        """The ids of the records from index `low` up to, not including, `high`, in order."""
        place = bisect_right(self._starts, low) - 1
        while low < high:
            block, start = self._blocks[place], self._starts[place]
            end = min(high, start + block.size)
            for index in range(low - start, end - start):
                yield block.key(index)[_MS_BYTES:]
            low, place = end, place + 1

    def fingerprint(self, low: int, high: int) -> bytes:
        """The fingerprint of the records from index `low` up to, not including, `high`."""
        return fingerprint_of_sum(self._sum_before(high) - self._sum_before(low), high - low)

    def digest(self, without: Collection[bytes] = ()) -> bytes:
        """BLAKE3-256 over the sort keys of all records but for those ids, in order: no two sets have the same.

        Reads all of them; that of the whole set is remembered.
        """
        if without:
            return _hashed(block.without(without) for block in self._blocks)
        if self._digest is None:
            self._digest = _hashed(block.keys for block in self._blocks)
        return self._digest

    def _sum_before(self, index: int) -> int:
        place = bisect_right(self._starts, index) - 1
        inside = index - self._starts[place]
        return self._sums[place] + (_sum_of_ids(self._blocks[place].keys[: inside * _KEY_BYTES]) if inside else 0)


def _hashed(keys: Iterable[bytes]) -> bytes:
    hasher = blake3(_DIGEST_PREFIX)
    for each in keys:
        hasher.update(each)
    return hasher.digest()


def _merged(blocks: Sequence[_Block], keys: set[bytes]) -> list[_Block]:
    first_keys = [block.key(0) for block in blocks]
    merged: list[_Block] = []
    done = 0
    for place, added in groupby(sorted(keys), key=lambda key: max(0, bisect_right(first_keys, key) - 1)):
        merged += blocks[done:place]
        present = [block.key(index) for block in blocks[place : place + 1] for index in range(block.size)]
        merged += _cut(sorted({*present, *added}))
        done = place + 1
    return [*merged, *blocks[done:]]


def _cut(keys: list[bytes]) -> Iterator[_Block]:
    """Blocks of at most twice `_BLOCK_RECORDS`, so that a block that was just cut has room to grow."""
    size = len(keys) if len(keys) <= 2 * _BLOCK_RECORDS else _BLOCK_RECORDS
    for start in range(0, len(keys), size):
        joined = b"".join(keys[start : start + size])
        yield _Block(joined, _sum_of_ids(joined))


def _key(record: Record) -> bytes:
    timestamp_ms, record_id = record
    if not 0 <= timestamp_ms < INFINITE_MS or len(record_id) != ID_BYTES:
        raise ValueError("not a record")
    return timestamp_ms.to_bytes(_MS_BYTES, "big") + record_id


def _record(key: bytes) -> Record:
    return Record(int.from_bytes(key[:_MS_BYTES], "big"), key[_MS_BYTES:])


def _sum_of_ids(keys: bytes) -> int:
    return sum(
        int.from_bytes(keys[start : start + ID_BYTES], "little") for start in range(_MS_BYTES, len(keys), _KEY_BYTES)
    )
