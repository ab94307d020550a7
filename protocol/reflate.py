"""Seeing inside containers: files whose deflate streams travel as plain bytes (docs/protocol.md, "Reflate").

Lessons are ZIPs, PDFs and pictures. One changed paragraph changes every later bit of a compressed stream, so that
neither a delta nor a dictionary finds anything in common; between plain bytes they find nearly everything.

Rules:
- `unfold` gives an *image* (the file with plain bytes in place of its deflate streams) and a *recipe* (how they come
  back); a stream is unfolded only where compressing it again was seen to give its very bytes;
- `fold` makes the file from both, in constant memory for an image that arrives in pieces;
- `reopen` makes the image from the file and its recipe: inflating is the same everywhere, searching is not, so that who
  needs the image of an older file as the base of a delta is told its recipe;
- nothing here vouches for the file: its hash does, at whoever receives it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from protocol.deflate_parameters import PIECE_BYTES, Profile, Search, deflate, in_pieces
from protocol.deflate_streams import (
    IDAT,
    ZLIB_HEADER_BYTES,
    Effort,
    Stream,
    Wrapping,
    find_streams,
    idat_run,
    inflate,
    trailer_of,
)
from protocol.errors import Code, PeerFault, TooLarge
from protocol.limits import (
    MAX_RECIPE_BYTES,
    MAX_REFLATE_DEPTH,
    MAX_REFLATE_FILE_BYTES,
    MAX_REFLATE_IMAGE_BYTES,
    MAX_REFLATE_STREAM_BYTES,
    MAX_REFLATE_STREAMS,
    MiB,
)
from protocol.reflate_recipe import Sequence, Step, decode_recipe, encode_recipe

# Trials and failures may cost so many bytes of zlib's work per byte of the file, and so many at least.
_SEARCH_BYTES_PER_BYTE: Final = 64
_FAILURE_BYTES_PER_BYTE: Final = 8
_WORK_FREE_BYTES: Final = 16 * MiB


@dataclass(frozen=True, slots=True)
class Unfolded:
    """A file seen from inside: `fold(image, recipe)` gives it back.

    `stream_bytes` of the file were deflate streams that became plain, on the outermost level.
    """

    image: bytes
    recipe: bytes
    stream_bytes: int = 0


# --- unfolding --------------------------------------------------------------------------------------------------------


def unfold(data: bytes | memoryview, *, allowed: Profile) -> Unfolded | None:
    """The image and recipe of a file, for receivers that reproduce the levels in `allowed`; None if nothing is found.

    Deterministic for one version of zlib. A file of more than `MAX_REFLATE_FILE_BYTES` is left as it is. Memory: the
    file, its image and the largest stream twice.
    """
    if not allowed or len(data) > MAX_REFLATE_FILE_BYTES:
        return None
    work = _Unfolding(len(data), allowed)
    made = work.sequence(bytes(data), depth=1)
    if made is None:
        return None
    image, sequence, stream_bytes = made
    recipe = encode_recipe(sequence)
    if len(recipe) > min(MAX_RECIPE_BYTES, stream_bytes):
        return None
    return Unfolded(image, recipe, stream_bytes)


class _Unfolding:
    """What one call of `unfold` may still spend, and what it has learnt about the file's writers."""

    __slots__ = ("_effort", "_image_bytes_left", "_search", "_streams_left")

    def __init__(self, file_bytes: int, allowed: Profile) -> None:
        self._search = Search(allowed, file_bytes * _SEARCH_BYTES_PER_BYTE + _WORK_FREE_BYTES)
        self._effort = Effort(file_bytes * _FAILURE_BYTES_PER_BYTE + _WORK_FREE_BYTES)
        self._streams_left = MAX_REFLATE_STREAMS
        self._image_bytes_left = MAX_REFLATE_IMAGE_BYTES - file_bytes

    def sequence(self, data: bytes, depth: int) -> tuple[bytes, Sequence, int] | None:
        """Image, steps, and how many bytes of `data` became plain; None where no stream did."""
        parts: list[bytes | memoryview] = []
        steps: list[Step] = []
        view, passed, stream_bytes = memoryview(data), 0, 0
        for stream in find_streams(data, self._effort):
            if not self._streams_left or len(stream.plain) > self._image_bytes_left:
                continue
            parameters = self._search.find(
                stream.kind, stream.plain, stream.packed, window_bits=stream.window_bits, level_hint=stream.level_hint
            )
            if parameters is None:
                continue
            self._streams_left -= 1
            self._image_bytes_left -= len(stream.plain)
            inner = self.sequence(stream.plain, depth + 1) if depth < MAX_REFLATE_DEPTH else None
            plain, content = (inner[0], inner[1]) if inner else (stream.plain, len(stream.plain))
            parts += [view[passed : stream.start], stream.header, plain]
            sizes = _repeating(stream.chunk_bytes)
            steps.append(Step(stream.start - passed, stream.wrapping, parameters, content, sizes))
            passed = stream.end
            stream_bytes += len(stream.packed)
        if not steps:
            return None
        parts.append(view[passed:])
        return b"".join(parts), Sequence(tuple(steps), len(data) - passed), stream_bytes


def _repeating(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """The sizes of a picture's chunks as a recipe says them: the last is what is left of one like that before it."""
    if len(sizes) > 1 and sizes[-1] <= sizes[-2]:
        sizes = sizes[:-1]
    while len(sizes) > 1 and sizes[-1] == sizes[-2]:
        sizes = sizes[:-1]
    return sizes


# --- folding ----------------------------------------------------------------------------------------------------------


def fold(image: bytes | memoryview, recipe: bytes, *, max_bytes: int) -> bytes:
    """The file of at most `max_bytes` that image and recipe make. Raises `PeerFault`, `TooLarge`; see `fold_pieces`."""
    return b"".join(fold_pieces(in_pieces(image), recipe, max_bytes=max_bytes))


def fold_pieces(image: Iterable[bytes | memoryview], recipe: bytes, *, max_bytes: int) -> Iterator[bytes | memoryview]:
    """The same for an image that arrives in pieces: the file in pieces.

    Memory: a piece, zlib's 256 KiB per level of nesting, and one IDAT chunk. Raises `TooLarge` at the first byte beyond
    `max_bytes`, and `PeerFault` for a recipe that is none, or an image that is shorter or longer than it says; what was
    given before that is then worthless.
    """
    source = _Source(image)
    made = 0
    for piece in _make(decode_recipe(recipe), source):
        made += len(piece)
        if made > max_bytes:
            raise TooLarge(Code.TOO_LARGE, "a recipe makes a larger file than was announced", max=max_bytes)
        yield piece
    source.expect_end()


class _Source:
    """An image, taken in the order of the recipe."""

    __slots__ = ("_current", "_pieces")

    def __init__(self, pieces: Iterable[bytes | memoryview]) -> None:
        self._pieces = iter(pieces)
        self._current = memoryview(b"")

    def take(self, count: int) -> Iterator[memoryview]:
        """The next `count` bytes, in pieces of at most `PIECE_BYTES`."""
        while count:
            if not self._current:
                following = next(self._pieces, None)
                if following is None:
                    raise PeerFault(Code.MALFORMED, "an image is shorter than its recipe says")
                self._current = memoryview(following)
                continue
            piece = self._current[: min(count, PIECE_BYTES)]
            self._current = self._current[len(piece) :]
            count -= len(piece)
            yield piece

    def expect_end(self) -> None:
        """Raise `PeerFault` if bytes remain."""
        if self._current or any(map(len, self._pieces)):
            raise PeerFault(Code.MALFORMED, "an image is longer than its recipe says")


def _make(sequence: Sequence, source: _Source) -> Iterator[bytes | memoryview]:
    for step in sequence.steps:
        yield from source.take(step.gap_bytes)
        header = b"".join(source.take(ZLIB_HEADER_BYTES)) if step.wrapping is Wrapping.IDAT else b""
        plain = _make(step.content, source) if isinstance(step.content, Sequence) else source.take(step.content)
        wrapped = _wrap(plain, step, header)
        yield from _idats(wrapped, step.chunk_bytes) if step.wrapping is Wrapping.IDAT else wrapped
    yield from source.take(sequence.tail_bytes)


def _wrap(plain: Iterable[bytes | memoryview], step: Step, header: bytes) -> Iterator[bytes]:
    """Header, deflate stream and trailer of a step."""
    check = _Check(step.wrapping)
    if header:
        yield header
    yield from deflate(check.watch(plain), step.parameters)
    if trailer := check.trailer():
        yield trailer


class _Check:
    """Computes the trailer of a wrapping while the plain bytes pass."""

    __slots__ = ("_size", "_state", "_wrapping")

    def __init__(self, wrapping: Wrapping) -> None:
        self._wrapping = wrapping
        self._state = 0 if wrapping is Wrapping.GZIP else 1
        self._size = 0

    def watch(self, pieces: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
        for piece in pieces:
            self._size += len(piece)
            if self._wrapping is Wrapping.GZIP:
                self._state = zlib.crc32(piece, self._state)
            elif self._wrapping is not Wrapping.RAW:
                self._state = zlib.adler32(piece, self._state)
            yield piece

    def trailer(self) -> bytes:
        if self._wrapping is Wrapping.RAW:
            return b""
        if self._wrapping is Wrapping.GZIP:
            return self._state.to_bytes(4, "little") + (self._size & 0xFFFFFFFF).to_bytes(4, "little")
        return self._state.to_bytes(4, "big")


def _idats(data: Iterable[bytes], sizes: tuple[int, ...]) -> Iterator[bytes]:
    """`data` cut into IDAT chunks of these sizes, the last of which repeats."""
    following = iter(sizes)
    size = next(following)
    held = bytearray()
    for piece in data:
        held += piece
        while len(held) > size:
            yield _idat(bytes(held[:size]))
            del held[:size]
            size = next(following, size)
    if next(following, None) is not None:
        raise PeerFault(Code.MALFORMED, "a recipe has more chunks than its picture")
    yield _idat(bytes(held))


def _idat(part: bytes) -> bytes:
    return len(part).to_bytes(4, "big") + IDAT + part + zlib.crc32(part, zlib.crc32(IDAT)).to_bytes(4, "big")


# --- the image again --------------------------------------------------------------------------------------------------


def reopen(data: bytes | memoryview, recipe: bytes, *, max_bytes: int) -> bytes:
    """The image, of at most `max_bytes`, of a file whose recipe is known: the same on every machine, and fast.

    Raises `PeerFault` where the recipe does not fit the file, and `TooLarge`.
    """
    sequence = decode_recipe(recipe)
    if sequence.image_bytes > max_bytes:
        raise TooLarge(Code.TOO_LARGE, "an image is larger than allowed", max=max_bytes)
    parts: list[bytes | memoryview] = []
    _open(bytes(data), sequence, parts)
    return b"".join(parts)


def _open(data: bytes, sequence: Sequence, parts: list[bytes | memoryview]) -> None:
    view, at = memoryview(data), 0
    for step in sequence.steps:
        start = at + step.gap_bytes
        parts.append(view[at:start])
        stream = _stream_at(data, start, step)
        parts.append(stream.header)
        if isinstance(step.content, Sequence):
            _open(stream.plain, step.content, parts)
        elif step.content == len(stream.plain):
            parts.append(stream.plain)
        else:
            raise _misfit()
        at = stream.end
    if len(data) - at != sequence.tail_bytes:
        raise _misfit()
    parts.append(view[at:])


def _stream_at(data: bytes, start: int, step: Step) -> Stream:
    if step.wrapping is Wrapping.IDAT:
        found = idat_run(data, start)
        if found is None:
            raise _misfit()
        return found
    inflated = inflate(data, start, MAX_REFLATE_STREAM_BYTES)
    if inflated is None:
        raise _misfit()
    end = start + inflated.packed_bytes
    trailer = trailer_of(step.wrapping, inflated.plain)
    if not data.startswith(trailer, end):
        raise _misfit()
    return Stream("", start, end + len(trailer), step.wrapping, inflated.plain, b"")


def _misfit() -> PeerFault:
    return PeerFault(Code.MALFORMED, "a recipe does not fit the file that it is meant for")
