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
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass
from io import BytesIO
from types import MappingProxyType
from typing import Final, Protocol

from protocol.errors import Code, PeerFault, TooLarge
from protocol.limits import (
    MAX_RECIPE_BYTES,
    MAX_REFLATE_DEPTH,
    MAX_REFLATE_FILE_BYTES,
    MAX_REFLATE_IMAGE_BYTES,
    MAX_REFLATE_STREAMS,
    KiB,
    MiB,
)
from protocol.transfer.byte_source import ByteSource, in_pieces
from protocol.transfer.deflate_parameters import Parameters, Profile, Search, deflate
from protocol.transfer.deflate_streams import (
    IDAT,
    ZLIB_HEADER_BYTES,
    Effort,
    Wrapping,
    find_streams,
    idat_chunk,
    inflate,
)
from protocol.transfer.reflate_recipe import MAX_PARAMETERS, Sequence, Step, decode_recipe, encode_recipe

# Trials and failures may cost so many bytes of zlib's work per byte of the file, and so many at least.
_SEARCH_BYTES_PER_BYTE: Final = 64
_FAILURE_BYTES_PER_BYTE: Final = 8
_WORK_FREE_BYTES: Final = 16 * MiB


# What a PC of fifteen years needs to compress a plain byte again and to begin a stream: three to four times what a core
# of today was seen to need. The best levels search long in the smooth rows of pictures.
_NS_PER_BYTE: Final = 40
_NS_PER_BYTE_BEST: Final = 50
_NS_PER_BYTE_BEST_OF_PICTURES: Final = 130
_NS_PER_STREAM: Final = 100_000
_FIRST_BEST_LEVEL: Final = 7
# Half of what a village line of 1 Mbit/s brings in a second: below that, fetching is faster than compressing.
_MIN_SAVED_BYTES_PER_S: Final = 64 * KiB
_NOTHING: Final[Mapping[int, bytes | memoryview]] = MappingProxyType({})


class Sink(Protocol):
    """What an image is written to."""

    def write(self, data: bytes | memoryview, /) -> object:
        """Let these bytes follow."""
        ...


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a file seen from inside beside its image.

    `stream_bytes` of the file were deflate streams that became plain, on the outermost level; an old PC needs about
    `fold_ms` to bring them back.
    """

    recipe: bytes
    stream_bytes: int
    fold_ms: int


@dataclass(frozen=True, slots=True)
class Packed:
    """Where a file holds what one step of its recipe, on the outermost level, makes of the image.

    Bytes `start`…`end` of the file are the step's output, in its wrapping; `image_start`…`image_end` of the image is
    what it compresses (with the zlib header before it, where the wrapping is IDAT).
    """

    step: Step
    start: int
    end: int
    image_start: int
    image_end: int


@dataclass(frozen=True, slots=True)
class Unfolded:
    """A file seen from inside: `fold(image, recipe)` gives it back. The rest is that of `Seen`."""

    image: bytes
    recipe: bytes
    stream_bytes: int = 0
    fold_ms: int = 0


def pays(saved_bytes: int, fold_ms: int) -> bool:
    """Whether fewer bytes on the line are worth an old PC's time: 64 KiB saved per second of its CPU, at least."""
    return saved_bytes > 0 and saved_bytes * 1_000 >= _MIN_SAVED_BYTES_PER_S * fold_ms


def levels_of(recipe: bytes) -> Profile:
    """The levels that a machine must reproduce to get the file that is meant. Raises `PeerFault`, `TooLarge`."""
    levels = 0
    for parameters in decode_recipe(recipe).all_parameters():
        levels |= 1 << (parameters.level - 1)
    return Profile(levels)


def can_fold(recipe: bytes, able: Profile) -> bool:
    """Whether a machine with this profile gets the file that is meant. Raises `PeerFault`, `TooLarge` for no recipe."""
    return not levels_of(recipe) & ~able


def fold_cost_ms(sequence: Sequence) -> int:
    """About how many milliseconds of CPU an old PC needs to fold by this recipe."""
    return -(-_cost_ns(sequence) // 1_000_000)


def _cost_ns(sequence: Sequence) -> int:
    total = 0
    for step in sequence.steps:
        if isinstance(step.content, Sequence):
            plain_bytes = step.content.image_bytes
            total += _cost_ns(step.content)
        else:
            plain_bytes = step.content
        if step.parameters.level < _FIRST_BEST_LEVEL:
            per_byte = _NS_PER_BYTE
        else:
            per_byte = _NS_PER_BYTE_BEST_OF_PICTURES if step.wrapping is Wrapping.IDAT else _NS_PER_BYTE_BEST
        total += plain_bytes * per_byte + _NS_PER_STREAM
    return total


# --- unfolding --------------------------------------------------------------------------------------------------------


def unfold(
    data: bytes | memoryview, *, allowed: Profile, max_image_bytes: int = MAX_REFLATE_IMAGE_BYTES
) -> Unfolded | None:
    """The image and recipe of a file; see `unfold_into`. Memory: the file, its image and the largest stream twice."""
    image = BytesIO()
    seen = unfold_into(image, data, allowed=allowed, max_image_bytes=max_image_bytes)
    return None if seen is None else Unfolded(image.getvalue(), *astuple(seen))


def unfold_into(
    image: Sink, data: bytes | memoryview, *, allowed: Profile, max_image_bytes: int = MAX_REFLATE_IMAGE_BYTES
) -> Seen | None:
    """Write the image of a file, and give its recipe, for receivers that reproduce the levels in `allowed`.

    None if nothing is found; what was written is then worthless. Streams for which `max_image_bytes` leave no room stay
    compressed. Deterministic for one version of zlib. A file of more than `MAX_REFLATE_FILE_BYTES` is left as it is.
    Memory: the file and the largest stream twice.
    """
    room = min(max_image_bytes, MAX_REFLATE_IMAGE_BYTES) - len(data)
    if not allowed or room < 0 or len(data) > MAX_REFLATE_FILE_BYTES:
        return None
    work = _Unfolding(len(data), allowed, room)
    made = work.sequence(bytes(data), image, depth=1)
    if made is None:
        return None
    sequence, stream_bytes = made
    recipe = encode_recipe(sequence)
    if len(recipe) > min(MAX_RECIPE_BYTES, stream_bytes):
        return None
    return Seen(recipe, stream_bytes, fold_cost_ms(sequence))


class _Unfolding:
    """What one call of `unfold` may still spend, and what it has learnt about the file's writers."""

    __slots__ = ("_effort", "_image_bytes_left", "_search", "_streams_left", "_used")

    def __init__(self, file_bytes: int, allowed: Profile, room_bytes: int) -> None:
        self._search = Search(allowed, file_bytes * _SEARCH_BYTES_PER_BYTE + _WORK_FREE_BYTES)
        self._effort = Effort(file_bytes * _FAILURE_BYTES_PER_BYTE + _WORK_FREE_BYTES)
        self._streams_left = MAX_REFLATE_STREAMS
        self._used: set[Parameters] = set()
        self._image_bytes_left = room_bytes

    def sequence(self, data: bytes, image: Sink, depth: int) -> tuple[Sequence, int] | None:
        """Steps, and how many bytes of `data` became plain, whose image is written; None where no stream did."""
        steps: list[Step] = []
        view, passed, stream_bytes = memoryview(data), 0, 0
        for stream in find_streams(data, self._effort):
            if not self._streams_left or len(stream.plain) > self._image_bytes_left:
                continue
            parameters = self._search.find(
                stream.kind, stream.plain, stream.packed, window_bits=stream.window_bits, level_hint=stream.level_hint
            )
            if parameters is None or len(self._used | {parameters}) > MAX_PARAMETERS:
                continue
            self._used.add(parameters)
            self._streams_left -= 1
            self._image_bytes_left -= len(stream.plain)
            inside = BytesIO()
            inner = self.sequence(stream.plain, inside, depth + 1) if depth < MAX_REFLATE_DEPTH else None
            plain, content = (inside.getvalue(), inner[0]) if inner else (stream.plain, len(stream.plain))
            for part in (view[passed : stream.start], stream.header, plain):
                image.write(part)
            sizes = _repeating(stream.chunk_bytes)
            steps.append(Step(stream.start - passed, stream.wrapping, parameters, content, sizes))
            passed = stream.end
            stream_bytes += len(stream.packed)
        if not steps:
            return None
        image.write(view[passed:])
        return Sequence(tuple(steps), len(data) - passed), stream_bytes


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


def fold_pieces(
    image: Iterable[bytes | memoryview],
    recipe: bytes,
    *,
    max_bytes: int,
    untouched: Mapping[int, bytes | memoryview] = _NOTHING,
) -> Iterator[bytes | memoryview]:
    """The same for an image that arrives in pieces: the file in pieces.

    `untouched` are steps of the recipe, by their number, whose output is at hand: it is taken as it is, and the image
    comes without the bytes that these steps would compress.

    Memory: a piece, zlib's 256 KiB per level of nesting, and one IDAT chunk. Raises `TooLarge` at the first byte beyond
    `max_bytes`, and `PeerFault` for a recipe that is none, or an image that is shorter or longer than it says; what was
    given before that is then worthless.
    """
    source = ByteSource(image)
    made = 0
    for piece in _make(decode_recipe(recipe), source, untouched):
        made += len(piece)
        if made > max_bytes:
            raise TooLarge(Code.TOO_LARGE, "a recipe makes a larger file than was announced", max=max_bytes)
        yield piece
    source.expect_end()


def _make(
    sequence: Sequence, source: ByteSource, untouched: Mapping[int, bytes | memoryview] = _NOTHING
) -> Iterator[bytes | memoryview]:
    for number, step in enumerate(sequence.steps):
        yield from source.take(step.gap_bytes)
        if number in untouched:
            yield from in_pieces(untouched[number])
            continue
        header = source.read(ZLIB_HEADER_BYTES) if step.wrapping is Wrapping.IDAT else b""
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
            yield idat_chunk(bytes(held[:size]))
            del held[:size]
            size = next(following, size)
    if next(following, None) is not None:
        raise PeerFault(Code.MALFORMED, "a recipe has more chunks than its picture")
    yield idat_chunk(bytes(held))


# --- the image again --------------------------------------------------------------------------------------------------


def reopen(data: bytes | memoryview, recipe: bytes, *, max_bytes: int) -> bytes:
    """The image, of at most `max_bytes`, of a file whose recipe is known. Raises `PeerFault`; see `reopen_pieces`."""
    return b"".join(reopen_pieces(in_pieces(data), recipe, max_bytes=max_bytes))


def reopen_pieces(
    data: Iterable[bytes | memoryview],
    recipe: bytes,
    *,
    max_bytes: int,
    note: Callable[[Packed], object] | None = None,
) -> Iterator[bytes | memoryview]:
    """The same for a file that arrives in pieces: the image in pieces, equal on every machine, at inflate's speed.

    `note` is told where each stream lay once it has passed.

    Memory: a few pieces and zlib's 32 KiB per level of nesting. Raises `TooLarge` before the first byte if the image is
    larger than `max_bytes`, and `PeerFault` for a recipe that is none or that does not fit the file; what was given
    before that is then worthless.
    """
    sequence = decode_recipe(recipe)
    if sequence.image_bytes > max_bytes:
        raise TooLarge(Code.TOO_LARGE, "an image is larger than allowed", max=max_bytes)
    source = ByteSource(data)
    try:
        yield from _Opening(note).sequence(sequence, source)
    except zlib.error as reason:
        raise _misfit() from reason
    source.expect_end()


class _Opening:
    """One call of `reopen_pieces`, and what it may still inflate."""

    __slots__ = ("_left_bytes", "_note")

    def __init__(self, note: Callable[[Packed], object] | None) -> None:
        self._left_bytes = MAX_REFLATE_IMAGE_BYTES
        self._note = note

    def sequence(self, sequence: Sequence, source: ByteSource) -> Iterator[bytes | memoryview]:
        image_at = 0
        # inside a stream nobody looks for others
        note, self._note = self._note, None
        for step in sequence.steps:
            yield from source.take(step.gap_bytes)
            start = source.taken_bytes
            if step.wrapping is Wrapping.IDAT:
                chunks = _IdatReader(source)
                yield from self._step(step, ByteSource(chunks.parts()))
                chunks.expect_end()
            else:
                yield from self._step(step, source)
            image_start, image_at = image_at + step.gap_bytes, image_at + step.image_bytes
            if note is not None:
                note(Packed(step, start, source.taken_bytes, image_start, image_at))
        yield from source.take(sequence.tail_bytes)

    def _step(self, step: Step, source: ByteSource) -> Iterator[bytes | memoryview]:
        if step.wrapping is Wrapping.IDAT:
            yield source.read(ZLIB_HEADER_BYTES)
        check = _Check(step.wrapping)
        plain = ByteSource(check.watch(self._counted(inflate(source))))
        if isinstance(step.content, Sequence):
            yield from self.sequence(step.content, plain)
        else:
            yield from plain.take(step.content)
        plain.expect_end()
        trailer = check.trailer()
        if source.read(len(trailer)) != trailer:
            raise _misfit()

    def _counted(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._left_bytes -= len(piece)
            if self._left_bytes < 0:
                raise TooLarge(Code.TOO_LARGE, "a file unpacks to more than allowed", max=MAX_REFLATE_IMAGE_BYTES)
            yield piece


class _IdatReader:
    """What lies in a run of IDAT chunks."""

    __slots__ = ("_left_bytes", "_source")

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._left_bytes = 0

    def parts(self) -> Iterator[memoryview]:
        """The content of one chunk after another, as often as it is asked for."""
        while True:
            head = self._source.read(8)
            self._left_bytes = int.from_bytes(head[:4], "big")
            if head[4:] != IDAT:
                raise _misfit()
            while self._left_bytes:
                piece = self._source.piece(self._left_bytes)
                self._left_bytes -= len(piece)
                yield piece
            self._source.read(4)

    def expect_end(self) -> None:
        """Pass the check of the last chunk, which must have been read to its end (`PeerFault`)."""
        if self._left_bytes:
            raise _misfit()
        self._source.read(4)


def _misfit() -> PeerFault:
    return PeerFault(Code.MALFORMED, "a recipe does not fit the file that it is meant for")
