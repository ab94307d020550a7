"""The recipe: how a file is made again from its image, as values and as bytes (docs/protocol.md, "Reflate").

Rules:
- a recipe is a list of steps in the order of the image: pass some bytes, then compress some and wrap them; what remains
  is passed. The bytes to compress may be made by a recipe of their own (a picture in a document in an archive);
- one recipe, one encoding; every count and length is checked against `protocol.limits` while it is read;
- a recipe is data from a stranger: it can make a wrong file, which the file's hash shows, and nothing worse.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from protocol.errors import Code, PeerFault, TooLarge
from protocol.limits import (
    MAX_IDAT_BYTES,
    MAX_IDATS_PER_PNG,
    MAX_RECIPE_BYTES,
    MAX_REFLATE_DEPTH,
    MAX_REFLATE_IMAGE_BYTES,
    MAX_REFLATE_STREAMS,
)
from protocol.transfer.deflate_parameters import Parameters
from protocol.transfer.deflate_streams import ZLIB_HEADER_BYTES, Wrapping

RECIPE_FORMAT: Final = 0
MAX_PARAMETERS: Final = 64
_MAX_NUMBER_BYTES: Final = 5
_MORE: Final = 0x80


@dataclass(frozen=True, slots=True)
class Step:
    """Pass `gap_bytes` of the image, then deflate what `content` makes and wrap it.

    `content` is a number of image bytes, or a `Sequence` that makes the plain bytes from them. With `Wrapping.IDAT` two
    image bytes before the content are the zlib header, and the sizes of the chunks are `chunk_bytes`, of which the last
    repeats until nothing is left.
    """

    gap_bytes: int
    wrapping: Wrapping
    parameters: Parameters
    content: int | Sequence
    chunk_bytes: tuple[int, ...] = ()

    @property
    def image_bytes(self) -> int:
        """How many bytes of the image the step takes."""
        content = self.content if isinstance(self.content, int) else self.content.image_bytes
        return self.gap_bytes + (ZLIB_HEADER_BYTES if self.wrapping is Wrapping.IDAT else 0) + content


@dataclass(frozen=True, slots=True)
class Sequence:
    """Steps one behind the other (at least one), then `tail_bytes` that are passed."""

    steps: tuple[Step, ...]
    tail_bytes: int

    @property
    def image_bytes(self) -> int:
        """How many bytes of the image the sequence takes."""
        return sum(step.image_bytes for step in self.steps) + self.tail_bytes

    def all_parameters(self) -> Iterator[Parameters]:
        """Every stream's parameters, the inner ones behind those of the stream that they lie in."""
        for step in self.steps:
            yield step.parameters
            if isinstance(step.content, Sequence):
                yield from step.content.all_parameters()


def encode_recipe(sequence: Sequence) -> bytes:
    """The recipe as bytes."""
    table = {parameters: number for number, parameters in enumerate(dict.fromkeys(sequence.all_parameters()))}
    out = bytearray([RECIPE_FORMAT, len(table)])
    for level, memory_level, window_bits, strategy in table:
        out += bytes([level << 4 | memory_level, window_bits << 4 | strategy])
    _write_sequence(out, sequence, table)
    return bytes(out)


def _write_sequence(out: bytearray, sequence: Sequence, table: dict[Parameters, int]) -> None:
    _write_number(out, len(sequence.steps))
    for step in sequence.steps:
        nested = isinstance(step.content, Sequence)
        _write_number(out, step.gap_bytes)
        _write_number(out, table[step.parameters] << 3 | step.wrapping << 1 | nested)
        if step.wrapping is Wrapping.IDAT:
            _write_number(out, len(step.chunk_bytes))
            for size in step.chunk_bytes:
                _write_number(out, size)
        if isinstance(step.content, Sequence):
            _write_sequence(out, step.content, table)
        else:
            _write_number(out, step.content)
    _write_number(out, sequence.tail_bytes)


def _write_number(out: bytearray, number: int) -> None:
    while number >= _MORE:
        out.append(number % _MORE | _MORE)
        number >>= 7
    out.append(number)


def decode_recipe(data: bytes) -> Sequence:
    """The recipe in `data`. Raises `PeerFault`, `TooLarge`."""
    if len(data) > MAX_RECIPE_BYTES:
        raise TooLarge(Code.TOO_LARGE, "a recipe is larger than allowed", size=len(data), max=MAX_RECIPE_BYTES)
    if data[:1] != bytes([RECIPE_FORMAT]):
        raise PeerFault(Code.UNKNOWN_FORMAT, "a recipe has a format that is not known")
    reader = _Reader(data)
    table = reader.table()
    sequence = reader.sequence(table, depth=1)
    if reader.at != len(data):
        raise PeerFault(Code.MALFORMED, "a recipe has bytes too many")
    if tuple(dict.fromkeys(sequence.all_parameters())) != table:
        raise PeerFault(Code.NOT_CANONICAL, "the parameters of a recipe are not those of its streams, in their order")
    return sequence


class _Reader:
    """Reads one recipe from its first byte on; `image_bytes` and `streams` count what was announced so far."""

    __slots__ = ("_data", "_image_bytes", "_streams", "at")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._image_bytes = 0
        self._streams = 0
        self.at = 1

    def table(self) -> tuple[Parameters, ...]:
        count = self._byte()
        if count > MAX_PARAMETERS:
            raise TooLarge(Code.TOO_LARGE, "a recipe names more parameters than allowed", parameters=count)
        return tuple(self._parameters() for _ in range(count))

    def sequence(self, table: tuple[Parameters, ...], depth: int) -> Sequence:
        if depth > MAX_REFLATE_DEPTH:
            raise TooLarge(Code.TOO_LARGE, "a recipe is nested deeper than allowed", max=MAX_REFLATE_DEPTH)
        count = self._number()
        self._streams += count
        if self._streams > MAX_REFLATE_STREAMS:
            raise TooLarge(Code.TOO_LARGE, "a recipe has more streams than allowed", max=MAX_REFLATE_STREAMS)
        if not count:
            raise PeerFault(Code.NOT_CANONICAL, "a recipe has a part without streams")
        steps = tuple(self._step(table, depth) for _ in range(count))
        return Sequence(steps, self._passed())

    def _step(self, table: tuple[Parameters, ...], depth: int) -> Step:
        gap_bytes = self._passed()
        head = self._number()
        if head >> 3 >= len(table):
            raise PeerFault(Code.MALFORMED, "a recipe uses parameters that it does not name")
        wrapping = Wrapping(head >> 1 & 3)
        sizes = self._chunk_bytes() if wrapping is Wrapping.IDAT else ()
        content = self.sequence(table, depth + 1) if head & 1 else self._passed()
        if content == 0:
            raise PeerFault(Code.MALFORMED, "a recipe compresses nothing")
        return Step(gap_bytes, wrapping, table[head >> 3], content, sizes)

    def _chunk_bytes(self) -> tuple[int, ...]:
        count = self._number()
        if not 0 < count <= MAX_IDATS_PER_PNG:
            raise TooLarge(Code.TOO_LARGE, "a recipe cuts a picture in more chunks than allowed", chunks=count)
        sizes = tuple(self._number() for _ in range(count))
        if not all(0 < size <= MAX_IDAT_BYTES for size in sizes):
            raise TooLarge(Code.TOO_LARGE, "a recipe has a chunk that is larger than allowed, or empty")
        if sizes[-2:-1] == sizes[-1:]:
            raise PeerFault(Code.NOT_CANONICAL, "a recipe repeats a chunk's size")
        self._image_bytes += ZLIB_HEADER_BYTES
        return sizes

    def _passed(self) -> int:
        count = self._number()
        self._image_bytes += count
        if self._image_bytes > MAX_REFLATE_IMAGE_BYTES:
            raise TooLarge(Code.TOO_LARGE, "a recipe needs more bytes than allowed", max=MAX_REFLATE_IMAGE_BYTES)
        return count

    def _parameters(self) -> Parameters:
        first, second = self._byte(), self._byte()
        parameters = Parameters(first >> 4, first & 15, second >> 4, second & 15)
        if not parameters.are_possible:
            raise PeerFault(Code.MALFORMED, "a recipe has parameters that zlib does not know")
        return parameters

    def _byte(self) -> int:
        if self.at >= len(self._data):
            raise PeerFault(Code.MALFORMED, "a recipe ends too early")
        self.at += 1
        return self._data[self.at - 1]

    def _number(self) -> int:
        number = 0
        for place in range(_MAX_NUMBER_BYTES):
            byte = self._byte()
            number |= byte % _MORE << 7 * place
            if byte < _MORE:
                if place and not byte:
                    raise PeerFault(Code.NOT_CANONICAL, "a number in a recipe is longer than it needs to be")
                return number
        raise PeerFault(Code.MALFORMED, "a number in a recipe is too long")
