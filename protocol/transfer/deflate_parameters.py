"""Which parameters bring a deflate stream back, and what the zlib at hand can (docs/protocol.md, "Reflate").

Rules:
- a stream is reproduced when zlib's `deflate`, given its plain bytes and four parameters, gives exactly its bytes; the
  parameters are found by trying, because no stream says how it was made;
- zlib's releases agree on levels 1 to 9, its rivals under the same name (zlib-ng, hardware, browsers) do not, so that
  `profile()` compares what the library at hand makes of fixed data with what zlib 1.3.1 makes, level by level;
- a trial stops at the first byte that differs, so that a wrong guess costs one deflate block.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterable, Iterator
from itertools import product
from typing import Final, NamedTuple, NewType

from blake3 import blake3

from protocol.transfer.byte_source import evened, in_pieces

Profile = NewType("Profile", int)
"""The levels of deflate that a machine reproduces: bit n−1 stands for level n. 0: none, 511: all of zlib's."""

NO_LEVELS: Final = Profile(0)
ALL_LEVELS: Final = Profile((1 << 9) - 1)

DEFAULT: Final = zlib.Z_DEFAULT_STRATEGY
FILTERED: Final = zlib.Z_FILTERED
MAX_WINDOW_BITS: Final = 15
MIN_WINDOW_BITS: Final = 9


class Parameters(NamedTuple):
    """What `deflateInit2` takes: level 1…9, memory level 1…9, window bits 9…15, strategy 0…4."""

    level: int
    memory_level: int
    window_bits: int
    strategy: int

    @property
    def are_possible(self) -> bool:
        """Whether zlib accepts them and they lie inside what a recipe may name."""
        return (
            1 <= self.level <= 9  # noqa: PLR2004
            and 1 <= self.memory_level <= 9  # noqa: PLR2004
            and MIN_WINDOW_BITS <= self.window_bits <= MAX_WINDOW_BITS
            and DEFAULT <= self.strategy <= zlib.Z_FIXED
        )

    def within(self, profile: Profile) -> bool:
        """Whether a machine with this profile reproduces such a stream."""
        return bool(profile >> (self.level - 1) & 1)


def deflate(plain: Iterable[bytes | memoryview], parameters: Parameters) -> Iterator[bytes]:
    """The raw deflate stream of `plain`, in pieces; where the pieces of `plain` end changes nothing.

    zlib alone would not promise that: when its window slides, and so whether a block can be stored, depends on how much
    it is given at a time.
    """
    level, memory_level, window_bits, strategy = parameters
    compressor = zlib.compressobj(level, zlib.DEFLATED, -window_bits, memory_level, strategy)
    for piece in evened(plain):
        if out := compressor.compress(piece):
            yield out
    yield compressor.flush()


# --- the self-test ----------------------------------------------------------------------------------------------------


_recalled: list[Profile] = []


def profile() -> Profile:
    """What this machine's zlib reproduces; a fifth of a second at the first call, unless it was recalled."""
    return _recalled[-1] if _recalled else _tested()


def recall(levels: Profile) -> None:
    """Take for granted what the test of this very library gave before."""
    _recalled[:] = [levels]


@functools.cache
def _tested() -> Profile:
    found = 0
    for level, digest in enumerate(_DIGESTS, start=1):
        if _digest(level).hex() == digest:
            found |= 1 << (level - 1)
    return Profile(found)


def _digest(level: int) -> bytes:
    # Two sizes of blocks, a small window and the other strategy: where the rivals differ, one of them shows it.
    made = blake3()
    for memory_level, window_bits, strategy in ((8, 15, DEFAULT), (9, 15, FILTERED), (9, 12, DEFAULT)):
        for part in deflate(in_pieces(_sample()), Parameters(level, memory_level, window_bits, strategy)):
            made.update(part)
    return made.digest(length=8)


@functools.cache
def _sample() -> bytes:
    """Data with what compressors decide by: words that return near and far, long runs, slow slopes, noise."""
    noise = blake3(b"relais/0 reflate self-test").digest(length=48 * 1024)
    words = [noise[at : at + 2 + noise[at] % 9] for at in range(0, 2048, 8)]
    text = b" ".join(words[byte] for byte in noise[2048:14_000])
    slopes = bytes((at * at >> 9 & 0xF8) + (noise[at] & 3) for at in range(24 * 1024))
    deep = bytes(65 + (byte & 3) for byte in noise[:40_000])
    return text[:60_000] + slopes + bytes(3_000) + text[20_000:52_000] + noise[:5_000] + deep


_DIGESTS: Final = (
    "cd841adb0b7bbe40",
    "7334e98a5e3e39d8",
    "564b4c29b6f99b1b",
    "a83d3a957c3ebfd0",
    "c31bc44dd3ce4bb7",
    "fbcc3096413957ff",
    "4c01652cfd4d7135",
    "7a737936e73bc7d3",
    "7a737936e73bc7d3",
)


# --- the search -------------------------------------------------------------------------------------------------------

# How often writers use them: zlib's default and its best come first, whatever the format.
_LEVELS: Final = (6, 9, 1, 5, 8, 7, 4, 3, 2)
# FLEVEL of RFC 1950, as zlib fills it. Among 8,000 streams that zlib had made none said otherwise.
_LEVELS_BY_HINT: Final = ((1,), (5, 4, 3, 2), (6,), (9, 8, 7))
_LAST_FAST_LEVEL: Final = 3
_REMEMBERED: Final = 4
_PATIENCE: Final = 6


class Search:
    """Finds the parameters of one file's streams after another; what worked last for a kind of stream is tried first.

    `budget_bytes` bounds the plain bytes that trials may compress: when it is spent, nothing more is found.
    """

    __slots__ = ("_allowed", "_budget_bytes", "_misses", "_recent")

    def __init__(self, allowed: Profile, budget_bytes: int) -> None:
        self._allowed = allowed
        self._budget_bytes = budget_bytes
        self._recent: dict[str, list[Parameters]] = {}
        self._misses: dict[str, int] = {}

    def find(
        self, kind: str, plain: bytes, packed: bytes, *, window_bits: int, level_hint: int | None
    ) -> Parameters | None:
        """Parameters with which `plain` becomes `packed`, if any are found.

        `window_bits` and `level_hint` (0…3) are what a zlib header says; 15 and None where there is none.
        """
        recent = self._recent.setdefault(kind, [])
        for parameters in (*recent, *self._candidates(kind, recent, window_bits, level_hint)):
            if parameters.within(self._allowed) and self._reproduces(plain, packed, parameters):
                if parameters in recent:
                    recent.remove(parameters)
                recent.insert(0, parameters)
                del recent[_REMEMBERED:]
                self._misses[kind] = 0
                return parameters
        self._misses[kind] = self._misses.get(kind, 0) + 1
        return None

    def _candidates(
        self, kind: str, recent: list[Parameters], window_bits: int, level_hint: int | None
    ) -> Iterator[Parameters]:
        # What zlib did not make a few times is another compressor's, and so will be the next.
        if self._misses.get(kind, 0) >= _PATIENCE:
            return
        levels = _LEVELS if level_hint is None else _LEVELS_BY_HINT[level_hint]
        windows = tuple(dict.fromkeys((max(window_bits, MIN_WINDOW_BITS), MAX_WINDOW_BITS)))
        strategies = (FILTERED, DEFAULT) if kind == "png" else (DEFAULT, FILTERED)
        for window, strategy, memory_level, level in product(windows, strategies, (8, 9), levels):
            # The fast levels look at no strategy.
            if not (level <= _LAST_FAST_LEVEL and strategy == FILTERED):
                candidate = Parameters(level, memory_level, window, strategy)
                if candidate not in recent:
                    yield candidate
        if level_hint == 0:
            # zlib's two other strategies have that hint as well; the level is nothing to them.
            for window, strategy, memory_level in product(windows, (zlib.Z_RLE, zlib.Z_HUFFMAN_ONLY), (8, 9)):
                yield Parameters(6, memory_level, window, strategy)

    def _reproduces(self, plain: bytes, packed: bytes, parameters: Parameters) -> bool:
        at = 0
        for out in deflate(self._paid_pieces(plain), parameters):
            if not packed.startswith(out, at):
                return False
            at += len(out)
        return at == len(packed)

    def _paid_pieces(self, plain: bytes) -> Iterator[memoryview]:
        for piece in in_pieces(plain):
            self._budget_bytes -= len(piece)
            if self._budget_bytes < 0:
                return
            yield piece
