"""Range-based set reconciliation: Negentropy v1 (docs/protocol.md, "Reconcile").

Two replicas find out which entries each of them lacks, by comparing fingerprints of ranges of the order
(milliseconds, id) of R3 and splitting those that differ. The protocol is Doug Hoyte's; every message is byte for byte
what his implementation and its ports write, save one case that they get wrong (`_stopped`).

Rules:
- a message is parsed and checked whole before anything is answered; what breaks the format is a `PeerFault`;
- the responder keeps no state: its answer depends on its records, the message and the `Splitting` alone;
- every message written or read is at most `RECONCILE_FRAME_BYTES`; a dialogue ends after `MAX_RECONCILE_ROUNDS`;
- a fingerprint is a sum: whoever may choose many records makes two sets of one. So whoever begins a dialogue looks at
  its end whether it found all (`set_digest`), and else has every id listed (`LISTING`).

The records come through a `RangeView`; `sorted_records` is the one in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from typing import Final, NamedTuple, Protocol, TypeAlias

from protocol.errors import Code, PeerFault, TooLarge
from protocol.limits import (
    MAX_RECONCILE_IDS,
    MAX_RECONCILE_ROUNDS,
    MIN_RECONCILE_FRAME_BYTES,
    RECONCILE_FRAME_BYTES,
)

VERSION: Final = 0x61
ID_BYTES: Final = 32
FINGERPRINT_BYTES: Final = 16
INFINITE_MS: Final = 2**64 - 1

_VERSIONS: Final = range(0x60, 0x70)
_RESERVE_BYTES: Final = 200
_MAX_VARINT_DIGITS: Final = 10
_MORE_DIGITS: Final = 0x80
_MIN_SPLIT: Final = 2
_MAX_BRANCHING: Final = 32
_MAX_LISTED: Final = 100
_SUM_MASK: Final = 2**256 - 1

_SKIP: Final = 0
_FINGERPRINT: Final = 1
_ID_LIST: Final = 2


class Record(NamedTuple):
    """What is reconciled of an entry: `timestamp_ms` (`at` >> 16, below 2**64 - 1) and the 32 bytes of its id."""

    timestamp_ms: int
    id: bytes


class Bound(NamedTuple):
    """A place in the order of records: before every record whose id is not below `prefix`, padded with zeros."""

    timestamp_ms: int
    prefix: bytes


BEGINNING: Final = Bound(0, b"")
INFINITY: Final = Bound(INFINITE_MS, b"")


class RangeView(Protocol):
    """Records in ascending order, as a store offers them; it must not change during one call of this module."""

    def __len__(self) -> int:
        """How many records there are."""

    def record(self, index: int) -> Record:
        """The record at `index`, from 0."""

    def index_of(self, bound: Bound) -> int:
        """How many records lie before `bound`."""

    def ids(self, low: int, high: int) -> Iterator[bytes]:
        """The ids of the records from index `low` up to, not including, `high`, in order."""

    def fingerprint(self, low: int, high: int) -> bytes:
        """`fingerprint_of_sum` of these records; expected not to scan them."""


@dataclass(frozen=True, slots=True)
class Splitting:
    """How one side cuts what differs; each side chooses freely, in each message anew.

    A range of fewer than `id_list_below` records is listed, a larger one cut into `branching` buckets: fewer buckets
    and shorter lists save bytes and cost round trips. `recent_first` lets an opening message halve its last bucket
    again and again towards the newest record and end with an empty list behind it, so that what the other side has
    newer comes with the first answer. A message is stopped some 200 bytes before `frame_limit_bytes`. With `lists_all`
    an initiator takes no fingerprint for equality: it asks for the ids of every range, 32 bytes a record.
    """

    branching: int = 16
    id_list_below: int = 32
    frame_limit_bytes: int = RECONCILE_FRAME_BYTES
    recent_first: bool = False
    lists_all: bool = False

    def __post_init__(self) -> None:
        """Raise `ValueError` for a choice that cannot make progress in one frame."""
        if not MIN_RECONCILE_FRAME_BYTES <= self.frame_limit_bytes <= RECONCILE_FRAME_BYTES:
            raise ValueError("frame_limit_bytes is out of range")
        if not _MIN_SPLIT <= self.branching <= _MAX_BRANCHING:
            raise ValueError("branching is out of range")
        if not _MIN_SPLIT <= self.id_list_below <= _MAX_LISTED:
            raise ValueError("id_list_below is out of range")


# What the published implementations do, and what was measured to cost the fewest bytes and round trips together when
# each side uses its own (a list sent by the initiator is answered by another one: it lists less readily).
AS_PUBLISHED: Final = Splitting()
ASKING: Final = Splitting(branching=4, id_list_below=4, recent_first=True)
ANSWERING: Final = Splitting(branching=4, id_list_below=8)
LISTING: Final = Splitting(lists_all=True)


def _varint(value: int) -> bytes:
    digits = [value & 0x7F]
    while value := value >> 7:
        digits.append(value & 0x7F | _MORE_DIGITS)
    return bytes(reversed(digits))


def fingerprint_of_sum(id_sum: int, count: int) -> bytes:
    """The 16-byte fingerprint of `count` records whose ids, as little-endian integers, add up to `id_sum`."""
    total = (id_sum & _SUM_MASK).to_bytes(ID_BYTES, "little")
    return sha256(total + _varint(count)).digest()[:FINGERPRINT_BYTES]


_NOTHING: Final = fingerprint_of_sum(0, 0)


@dataclass(frozen=True, slots=True)
class Step:
    """What the initiator learned from one answer, and what it says next.

    `have`: ids that the other side lacks; `need`: ids that this side lacks; each id once in a dialogue.
    `next_message` is None when the dialogue is over, or was broken off because it reached `MAX_RECONCILE_ROUNDS`, or
    lacks `MAX_RECONCILE_IDS`: transfer what is known, then go on. Of all before `reached` nothing is left to be said.
    """

    next_message: bytes | None
    have: list[bytes]
    need: list[bytes]
    reached: Bound

    @property
    def complete(self) -> bool:
        """Whether nothing is left to be said."""
        return self.reached == INFINITY


class Initiator:
    """The side that asks, learns and decides when it is over.

    The view may change between messages: what is added meanwhile is found now or in the next dialogue.
    """

    def __init__(self, view: RangeView, splitting: Splitting = ASKING, start: Bound = BEGINNING) -> None:
        """Over a view; of what lies before `start` nothing is said."""
        self._view = view
        self._splitting = splitting
        self._start = start
        self._learned: set[bytes] = set()
        self._rounds = 0
        self._needed = 0

    def open(self) -> bytes:
        """The first message."""
        writer = _Writer()
        if self._start != BEGINNING:
            writer.skip(self._start)
        low, size = self._view.index_of(self._start), len(self._view)
        if self._splitting.lists_all:
            writer.id_list(INFINITY, [])
        elif size - low < self._splitting.id_list_below:
            writer.id_list(INFINITY, list(self._view.ids(low, size)))
        else:
            edges = _even_edges(low, size, self._splitting.branching)
            if self._splitting.recent_first:
                after_all = Bound(self._view.record(size - 1).timestamp_ms + 1, b"")
                edges[-1:] = _halving_edges(edges[-2], size, self._splitting.id_list_below)
                _write_buckets(writer, self._view, edges, after_all)
                writer.id_list(INFINITY, [])
            else:
                _write_buckets(writer, self._view, edges, INFINITY)
        return writer.message()

    def answer(self, message: bytes) -> Step:
        """Learn from the responder's `message` and say what is next.

        Raises `PeerFault` or `TooLarge` for a message that breaks the protocol, and learns nothing from it.
        """
        differences = _Differences()
        next_message = _answer(self._view, _parse(message), self._splitting, differences)
        self._rounds += 1
        have = self._new(differences.have)
        need = self._new(differences.need)
        over = len(next_message) == 1
        self._needed += len(need)
        # what this side alone has is no more than what it has, however much somebody has said to it
        broken_off = self._rounds >= MAX_RECONCILE_ROUNDS or self._needed >= MAX_RECONCILE_IDS
        reached = INFINITY if over else max(self._start, _begin_of(next_message))
        return Step(None if over or broken_off else next_message, have, need, reached)

    def _new(self, ids: Sequence[bytes]) -> list[bytes]:
        """Those of `ids` that no earlier step named: a peer that stops at its frame limit may bring a range again."""
        new = [entry for entry in dict.fromkeys(ids) if entry not in self._learned]
        self._learned.update(new)
        return new


def respond(view: RangeView, message: bytes, splitting: Splitting = ANSWERING) -> bytes:
    """The responder's answer to `message`.

    A message of another version of Negentropy gets the one byte that names the highest version spoken here.
    Raises `PeerFault` or `TooLarge` for a message that breaks the protocol.
    """
    if message and message[0] != VERSION and message[0] in _VERSIONS:
        return bytes([VERSION])
    return _answer(view, _parse(message), splitting, None)


# --- the dialogue


@dataclass(slots=True)
class _Differences:
    have: list[bytes] = field(default_factory=list)
    need: list[bytes] = field(default_factory=list)

    def compare(self, ours: Iterator[bytes], theirs: Sequence[bytes]) -> None:
        missing = dict.fromkeys(theirs)
        for entry in ours:
            if entry in missing:
                del missing[entry]
            else:
                self.have.append(entry)
        self.need.extend(missing)


def _answer(view: RangeView, ranges: Sequence[_Range], splitting: Splitting, differences: _Differences | None) -> bytes:
    """The message that answers `ranges`; only the initiator passes `differences`, to be filled."""
    writer = _Writer()
    stop_at = splitting.frame_limit_bytes - _RESERVE_BYTES
    low = written = 0
    for asked in ranges:
        high = view.index_of(asked.upper)
        match asked:
            case _FingerprintRange(upper) if splitting.lists_all:
                writer.id_list(upper, [])
            case _FingerprintRange(upper, fingerprint) if fingerprint != view.fingerprint(low, high):
                before = writer.size
                _write_split(writer, view, low, high, upper, splitting)
                if writer.size > stop_at:
                    writer.cut(before)
                    return _stopped(writer, view, written if fingerprint == _NOTHING else high)
                written = high
            case _IdListRange(upper, ids) if differences is not None:
                differences.compare(view.ids(low, high), ids)
                writer.skip(upper)
            case _IdListRange(upper):
                listed = min(high, low + (stop_at - writer.size) // ID_BYTES + 1)
                if listed < high:
                    upper = Bound(*view.record(listed))
                writer.id_list(upper, list(view.ids(low, listed)))
                if writer.size > stop_at:
                    return _stopped(writer, view, listed)
                written = high
            case _:
                writer.skip(asked.upper)
        low = high
    return writer.message()


def _stopped(writer: _Writer, view: RangeView, start: int) -> bytes:
    """Close a message at the frame limit with one fingerprint of the records from index `start` on.

    That range begins where the last one written ends. Yet the published implementations, having left out a range that
    no longer fits and the Skip before it, take the fingerprint from behind both. Their bytes are kept: it only makes
    the other side split again what is equal. But where the other side has nothing in what was left out, it would
    find the rest equal and the records of this side would stay unseen; only then `start` is the true beginning.
    """
    writer.fingerprint(INFINITY, view.fingerprint(start, len(view)))
    return writer.message()


def _write_split(writer: _Writer, view: RangeView, low: int, high: int, upper: Bound, splitting: Splitting) -> None:
    if high - low < splitting.id_list_below:
        writer.id_list(upper, list(view.ids(low, high)))
    else:
        _write_buckets(writer, view, _even_edges(low, high, splitting.branching), upper)


def _write_buckets(writer: _Writer, view: RangeView, edges: Sequence[int], upper: Bound) -> None:
    """A fingerprint for each stretch between neighbouring `edges`, the last one ending at `upper`."""
    for low, high in pairwise(edges):
        end = upper if high == edges[-1] else _shortest_bound(view.record(high - 1), view.record(high))
        writer.fingerprint(end, view.fingerprint(low, high))


def _even_edges(low: int, high: int, branching: int) -> list[int]:
    buckets = min(branching, high - low)
    size, longer = divmod(high - low, buckets)
    return [low + size * bucket + min(bucket, longer) for bucket in range(buckets + 1)]


def _halving_edges(low: int, high: int, id_list_below: int) -> list[int]:
    edges = [low]
    while high - edges[-1] >= id_list_below:
        edges.append(edges[-1] + (high - edges[-1] + 1) // 2)
    return [*edges[1:], high]


def _shortest_bound(before: Record, after: Record) -> Bound:
    """The bound of the fewest bytes that separates two neighbouring records."""
    if before.timestamp_ms != after.timestamp_ms:
        return Bound(after.timestamp_ms, b"")
    common = 0
    while before.id[common] == after.id[common]:
        common += 1
    return Bound(after.timestamp_ms, after.id[: common + 1])


# --- bytes


class _Writer:
    """A message being written; a Skip waits until a range follows it, so that Skips merge and trailing ones vanish."""

    def __init__(self) -> None:
        self._out = bytearray([VERSION])
        self._last_ms = 0
        self._skipped: Bound | None = None

    @property
    def size(self) -> int:
        """Bytes written, without a waiting Skip."""
        return len(self._out)

    def message(self) -> bytes:
        return bytes(self._out)

    def cut(self, size: int) -> None:
        """Take back what was written after `size` bytes; only a range up to infinity may follow."""
        del self._out[size:]

    def skip(self, upper: Bound) -> None:
        self._skipped = upper

    def fingerprint(self, upper: Bound, fingerprint: bytes) -> None:
        self._range(upper, _FINGERPRINT)
        self._out += fingerprint

    def id_list(self, upper: Bound, ids: Sequence[bytes]) -> None:
        self._range(upper, _ID_LIST)
        self._out += _varint(len(ids))
        for entry in ids:
            self._out += entry

    def _range(self, upper: Bound, mode: int) -> None:
        if self._skipped is not None:
            self._bound(self._skipped)
            self._out += _varint(_SKIP)
            self._skipped = None
        self._bound(upper)
        self._out += _varint(mode)

    def _bound(self, bound: Bound) -> None:
        timestamp_ms, prefix = bound
        if timestamp_ms == INFINITE_MS:
            self._out += _varint(0)
        else:
            self._out += _varint(1 + timestamp_ms - self._last_ms)
            self._last_ms = timestamp_ms
        self._out += _varint(len(prefix))
        self._out += prefix


class _SkipRange(NamedTuple):
    upper: Bound


class _FingerprintRange(NamedTuple):
    upper: Bound
    fingerprint: bytes


class _IdListRange(NamedTuple):
    upper: Bound
    ids: list[bytes]


_Range: TypeAlias = _SkipRange | _FingerprintRange | _IdListRange


class _Reader:
    """A message being read; every read is checked against what is left."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._last_ms = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise _malformed("a message ends too early", missing=size - self.left)
        self._at += size
        return self._data[self._at - size : self._at]

    def varint(self) -> int:
        value = 0
        for digit in range(_MAX_VARINT_DIGITS):
            byte = self.take(1)[0]
            if digit == 0 and byte == _MORE_DIGITS:
                raise PeerFault(Code.NOT_CANONICAL, "a number has a leading zero digit")
            value = value << 7 | byte & 0x7F
            if byte < _MORE_DIGITS:
                return value
        raise _malformed("a number is longer than 64 bits")

    def bound(self) -> Bound:
        step = self.varint()
        timestamp_ms = self._last_ms + step - 1 if step else INFINITE_MS
        if step and timestamp_ms >= INFINITE_MS:
            raise _malformed("a timestamp is beyond infinity")
        size = self.varint()
        if size > ID_BYTES or (size and not step):
            raise _malformed("the bound of a range is too long", size=size)
        self._last_ms = timestamp_ms
        return Bound(timestamp_ms, self.take(size))

    def ids(self) -> list[bytes]:
        return [self.take(ID_BYTES) for _ in range(self.varint())]


def _parse(message: bytes) -> list[_Range]:
    if len(message) > RECONCILE_FRAME_BYTES:
        raise TooLarge(Code.TOO_LARGE, "a message is larger than allowed", size=len(message), max=RECONCILE_FRAME_BYTES)
    reader = _Reader(message)
    version = reader.take(1)[0]
    if version != VERSION:
        raise PeerFault(Code.UNKNOWN_FORMAT, "the other side speaks another version of Negentropy", version=version)
    ranges: list[_Range] = []
    last = (0, b"")
    while reader.left:
        upper = reader.bound()
        here = (upper.timestamp_ms, upper.prefix.ljust(ID_BYTES, b"\0"))
        if here < last:
            raise _malformed("the ranges of a message are not in order")
        last = here
        ranges.append(_parse_range(reader, upper))
    return ranges


def _begin_of(message: bytes) -> Bound:
    """Where the first range of a message begins that is no Skip; one of our own, with at least one range."""
    reader = _Reader(message)
    reader.take(1)
    upper = reader.bound()
    return upper if reader.varint() == _SKIP else BEGINNING


def _parse_range(reader: _Reader, upper: Bound) -> _Range:
    mode = reader.varint()
    if mode == _SKIP:
        return _SkipRange(upper)
    if mode == _FINGERPRINT:
        return _FingerprintRange(upper, reader.take(FINGERPRINT_BYTES))
    if mode == _ID_LIST:
        return _IdListRange(upper, reader.ids())
    raise _malformed("a range has an unknown mode", mode=mode)


def _malformed(message: str, **facts: object) -> PeerFault:
    return PeerFault(Code.MALFORMED, message, **facts)
