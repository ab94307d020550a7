"""Packs: immutable containers of compressed chunks (docs/protocol.md, "Packs").

    pack    = magic ‖ frame* ‖ index ‖ trailer
    frame   = the chunks of one frame one behind the other, raw (codec 0) or as one zstd frame (codec 1)
    index   = head ‖ frame records ‖ chunk lengths ‖ far chunks ‖ streams, raw or as one zstd frame
    trailer = stored size of the index ‖ its plain size ‖ 16 bytes of BLAKE3 over both and the stored index ‖ end magic

Rules:
- the pack's hash is BLAKE3-256 of all its bytes; replicas store, index and serve packs verbatim;
- a frame's place follows from the sizes of those before it, so that frames cannot overlap or leave gaps;
- local chunks are numbered from 0 in the order of the frames, far chunks (which lie in other packs) after them; a
  stream is a list of runs of these numbers;
- neither the hash of a local chunk nor a stream id is written down: who receives a pack computes them anyway;
- nothing depends on the compression level, nor on which zstd wrote a frame;
- every size is checked against `protocol.limits` before memory is taken for it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate, chain, pairwise
from typing import Final, TypeAlias

import zstandard
from blake3 import blake3

from protocol.chunking import (
    CHUNK_REF_BYTES,
    LENGTH_BYTES,
    ChunkList,
    ChunkRef,
    check_chunk_list,
    chunk_ref,
    decode_chunk_refs,
    encode_chunk_list,
    stream_id,
)
from protocol.errors import Code, PeerFault, TooLarge
from protocol.limits import (
    FRAME_TARGET_BYTES,
    MAX_CHUNK_BYTES,
    MAX_CHUNK_REFS_PER_PACK,
    MAX_CHUNKS_PER_PACK,
    MAX_COMPRESSION_RATIO,
    MAX_FRAME_BYTES,
    MAX_FRAMES_PER_PACK,
    MAX_PACK_BYTES,
    MAX_PACK_INDEX_BYTES,
    MAX_PACK_PLAIN_BYTES,
    MAX_STREAMS_PER_PACK,
    NOTED_BYTES,
    PACK_TARGET_BYTES,
    RATIO_FREE_BYTES,
    MiB,
)

PACK_MAGIC: Final = b"RLSPACK\x00"
PACK_END: Final = b"RLSPEND\x00"
_TRAILER: Final = struct.Struct(">II16s8s")
TRAILER_BYTES: Final = _TRAILER.size
_HEAD: Final = struct.Struct(">IIII")  # how many frames, local chunks, far chunks, streams
_FRAME: Final = struct.Struct(">IBI32s")  # stored bytes, codec, chunks, BLAKE3-256 of the stored bytes
_RUN_COUNT: Final = struct.Struct(">I")
_RUN: Final = struct.Struct(">iI")  # first number minus the number after the previous run's last; how many
MIN_PACK_BYTES: Final = len(PACK_MAGIC) + _HEAD.size + TRAILER_BYTES

Runs: TypeAlias = tuple[range, ...]


class Codec(IntEnum):
    """How a frame's bytes are stored."""

    RAW = 0
    ZSTD = 1


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: where it lies in the pack, and the lengths of the chunks in it."""

    offset: int
    stored_bytes: int
    plain_bytes: int
    codec: Codec
    digest: bytes
    chunk_lengths: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PackIndex:
    """What a pack holds. `streams` are runs of chunk numbers: local ones first, then those of `far`."""

    frames: tuple[Frame, ...]
    far: ChunkList
    streams: tuple[Runs, ...]

    @property
    def chunk_count(self) -> int:
        """How many chunks lie in the pack itself."""
        return sum(len(frame.chunk_lengths) for frame in self.frames)

    @property
    def noted_bytes(self) -> int:
        """What a replica notes of it beside its bytes, about: a list may say the same chunk over and over in few."""
        refs = sum(len(run) for runs in self.streams for run in runs)
        return refs * CHUNK_REF_BYTES + (self.chunk_count + len(self.streams)) * NOTED_BYTES


@dataclass(frozen=True, slots=True)
class IndexPlace:
    """Where the index lies in the pack, as its trailer says."""

    offset: int
    stored_bytes: int
    plain_bytes: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class FinishedPack:
    """A pack that was written: its name, its size, and what its reader would compute."""

    hash: bytes
    size: int
    index: PackIndex
    chunks: ChunkList
    stream_ids: tuple[bytes, ...]


# --- reading ----------------------------------------------------------------------------------------------------------


class PackReceiver:
    """Checks a pack that arrives from front to back, whatever the size of the pieces, in constant memory."""

    __slots__ = ("_expected", "_hash", "_magic", "received_bytes", "size")

    def __init__(self, pack_hash: bytes, size: int) -> None:
        """`size` is what was announced. Raises `TooLarge`, `PeerFault` when no pack can have it."""
        _check_pack_size(size)
        self._expected = pack_hash
        self._hash = blake3()
        self._magic = b""
        self.size = size
        self.received_bytes = 0

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next bytes. Raises `TooLarge` at the first byte too many, `PeerFault` when it is no pack."""
        self.received_bytes += len(data)
        if self.received_bytes > self.size:
            raise TooLarge(Code.TOO_LARGE, "a pack is longer than announced", max=self.size)
        if len(self._magic) < len(PACK_MAGIC):
            self._magic += bytes(data[: len(PACK_MAGIC) - len(self._magic)])
            if not PACK_MAGIC.startswith(self._magic):
                raise PeerFault(Code.UNKNOWN_FORMAT, "what should be a pack is something else")
        self._hash.update(data)

    def finish(self) -> None:
        """Raises `PeerFault` unless exactly the announced pack has arrived."""
        if self.received_bytes != self.size:
            raise PeerFault(Code.MALFORMED, "a pack is shorter than announced", size=self.received_bytes, of=self.size)
        if self._hash.digest() != self._expected:
            raise PeerFault(Code.BAD_HASH, "a pack is not the one that was asked for", expected=self._expected.hex())


def read_trailer(tail: bytes, *, pack_bytes: int) -> IndexPlace:
    """Where the index of a pack of `pack_bytes` lies; `tail` is at least its last `TRAILER_BYTES`.

    Raises `PeerFault`, `TooLarge`.
    """
    _check_pack_size(pack_bytes)
    if len(tail) < TRAILER_BYTES:
        raise PeerFault(Code.MALFORMED, "the end of a pack is missing")
    stored_bytes, plain_bytes, digest, end = _TRAILER.unpack(tail[-TRAILER_BYTES:])
    if end != PACK_END:
        raise PeerFault(Code.UNKNOWN_FORMAT, "a pack does not end as a pack does")
    if plain_bytes > MAX_PACK_INDEX_BYTES:
        raise TooLarge(Code.TOO_LARGE, "the index of a pack is larger than allowed", size=plain_bytes)
    offset = pack_bytes - TRAILER_BYTES - stored_bytes
    if not 0 < stored_bytes <= plain_bytes or plain_bytes < _HEAD.size or offset < len(PACK_MAGIC):
        raise PeerFault(Code.MALFORMED, "the index of a pack has a wrong size", size=stored_bytes)
    return IndexPlace(offset, stored_bytes, plain_bytes, digest)


def decode_index(data: bytes, place: IndexPlace) -> PackIndex:
    """The index whose stored bytes are `data`. Raises `PeerFault`, `TooLarge`."""
    if len(data) != place.stored_bytes or _index_digest(data, place.plain_bytes) != place.digest:
        raise PeerFault(Code.BAD_HASH, "the index of a pack is damaged")
    plain = data if place.stored_bytes == place.plain_bytes else _decompress(data, place.plain_bytes)
    frame_count, chunk_count, far_count, stream_count = _HEAD.unpack_from(plain)
    if (
        frame_count > MAX_FRAMES_PER_PACK
        or chunk_count > MAX_CHUNKS_PER_PACK
        or far_count > MAX_CHUNK_REFS_PER_PACK
        or stream_count > MAX_STREAMS_PER_PACK
    ):
        raise TooLarge(Code.TOO_LARGE, "a pack holds more than allowed", frames=frame_count, chunks=chunk_count)
    sections = (_HEAD.size, frame_count * _FRAME.size, chunk_count * LENGTH_BYTES, far_count * CHUNK_REF_BYTES)
    ends = list(accumulate(sections))
    if ends[-1] > len(plain):
        raise PeerFault(Code.MALFORMED, "the index of a pack ends too early")
    records, lengths, far = (plain[start:end] for start, end in pairwise(ends))
    frames = _decode_frames(records, lengths)
    if sum(frame.stored_bytes for frame in frames) != place.offset - len(PACK_MAGIC):
        raise PeerFault(Code.MALFORMED, "the frames of a pack leave a gap or overlap")
    streams = _decode_streams(plain[ends[-1] :], stream_count, chunk_count + far_count)
    return PackIndex(frames, decode_chunk_refs(far), streams)


def read_index(pack: bytes) -> PackIndex:
    """The index of a pack that lies in memory whole, as inside a message. Raises `PeerFault`, `TooLarge`."""
    place = read_trailer(pack[-TRAILER_BYTES:], pack_bytes=len(pack))
    if not pack.startswith(PACK_MAGIC):
        raise PeerFault(Code.UNKNOWN_FORMAT, "what should be a pack is something else")
    return decode_index(pack[place.offset : place.offset + place.stored_bytes], place)


def open_frame(frame: Frame, data: bytes) -> list[bytes]:
    """The chunks in a frame whose stored bytes are `data`. Raises `PeerFault`.

    Safe to call from several threads; memory is twice the frame's plain size, at most 2 × `MAX_FRAME_BYTES`.
    """
    plain = _plain(frame, data)
    return [bytes(plain[start:end]) for start, end in _places(frame)]


def chunk_refs(frame: Frame, data: bytes | memoryview) -> list[ChunkRef]:
    """The names of the chunks in a frame whose stored bytes are `data`: none of them is copied. Raises `PeerFault`."""
    plain = memoryview(_plain(frame, data))
    return [chunk_ref(plain[start:end]) for start, end in _places(frame)]


def _plain(frame: Frame, data: bytes | memoryview) -> bytes | memoryview:
    if len(data) != frame.stored_bytes or blake3(data).digest() != frame.digest:
        raise PeerFault(Code.BAD_HASH, "a part of a pack is damaged", offset=frame.offset)
    return data if frame.codec is Codec.RAW else _decompress(data, frame.plain_bytes)


def _places(frame: Frame) -> Iterable[tuple[int, int]]:
    return pairwise(accumulate(frame.chunk_lengths, initial=0))


def resolve_streams(index: PackIndex, chunks: Sequence[ChunkRef]) -> Iterator[ChunkList]:
    """The streams that a pack carries, one by one; `chunks` are the names of all its local chunks, in order.

    Raises `PeerFault`, `TooLarge` at a list of chunks that no stream can have.
    """
    if len(chunks) != index.chunk_count:
        raise ValueError("the names of all local chunks are needed")
    numbered = (*chunks, *index.far)
    for runs in index.streams:
        stream = tuple(chain.from_iterable(numbered[run.start : run.stop] for run in runs))
        check_chunk_list(stream)
        yield stream


def _check_pack_size(size: int) -> None:
    if size > MAX_PACK_BYTES:
        raise TooLarge(Code.TOO_LARGE, "a pack is larger than allowed", size=size, max=MAX_PACK_BYTES)
    if size < MIN_PACK_BYTES:
        raise PeerFault(Code.MALFORMED, "a pack is shorter than any pack", size=size)


def _index_digest(stored: bytes, plain_bytes: int) -> bytes:
    return blake3(struct.pack(">II", len(stored), plain_bytes) + stored).digest(length=16)


def _decompress(data: bytes | memoryview, plain_bytes: int) -> bytes:
    """The content of exactly one zstd frame that itself declares `plain_bytes`; nothing is allocated before."""
    try:
        if zstandard.get_frame_parameters(data).content_size != plain_bytes:
            raise PeerFault(Code.MALFORMED, "a compressed part of a pack declares a wrong size")
        # zstd itself refuses content of another size than the frame declares, and frames that need a dictionary.
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=plain_bytes, allow_extra_data=False)
    except zstandard.ZstdError as reason:
        raise PeerFault(Code.MALFORMED, "a part of a pack cannot be decompressed", reason=str(reason)) from reason


def _decode_frames(records: bytes, lengths: bytes) -> tuple[Frame, ...]:
    chunk_lengths = tuple(
        int.from_bytes(lengths[at : at + LENGTH_BYTES], "big") for at in range(0, len(lengths), LENGTH_BYTES)
    )
    if any(not 0 < length <= MAX_CHUNK_BYTES for length in chunk_lengths):
        raise PeerFault(Code.MALFORMED, "a chunk has a length that no chunk can have")
    if sum(chunk_lengths) > MAX_PACK_PLAIN_BYTES:
        raise TooLarge(Code.TOO_LARGE, "a pack unpacks to more than allowed", max=MAX_PACK_PLAIN_BYTES)
    frames: list[Frame] = []
    offset, first = len(PACK_MAGIC), 0
    for stored_bytes, codec, count, digest in _FRAME.iter_unpack(records):
        held = chunk_lengths[first : first + count]
        if not count or len(held) != count:
            raise PeerFault(Code.MALFORMED, "a frame holds no chunk, or more than there are", offset=offset)
        frames.append(Frame(offset, stored_bytes, sum(held), _codec(codec), digest, held))
        _check_frame_sizes(frames[-1])
        offset += stored_bytes
        first += count
    if first != len(chunk_lengths):
        raise PeerFault(Code.MALFORMED, "a pack has chunks that lie in no frame")
    return tuple(frames)


def _codec(number: int) -> Codec:
    try:
        return Codec(number)
    except ValueError as reason:
        raise PeerFault(Code.UNKNOWN_FORMAT, "a pack uses a way of storing that is not known", codec=number) from reason


def _check_frame_sizes(frame: Frame) -> None:
    if frame.plain_bytes > MAX_FRAME_BYTES or _expands_too_much(frame.stored_bytes, frame.plain_bytes):
        raise TooLarge(
            Code.TOO_LARGE, "a frame unpacks to more than allowed", stored=frame.stored_bytes, plain=frame.plain_bytes
        )
    smaller = frame.stored_bytes < frame.plain_bytes
    same = frame.stored_bytes == frame.plain_bytes
    if not (same if frame.codec is Codec.RAW else smaller):
        raise PeerFault(Code.MALFORMED, "a frame has a size that its way of storing excludes", offset=frame.offset)


def _expands_too_much(stored_bytes: int, plain_bytes: int) -> bool:
    return plain_bytes > max(RATIO_FREE_BYTES, stored_bytes * MAX_COMPRESSION_RATIO)


def _decode_streams(data: bytes, stream_count: int, number_count: int) -> tuple[Runs, ...]:
    streams: list[Runs] = []
    at, after, refs = 0, 0, 0
    for _ in range(stream_count):
        run_at = at + _RUN_COUNT.size
        if run_at > len(data):
            raise PeerFault(Code.MALFORMED, "the streams of a pack end too early")
        at = run_at + _RUN_COUNT.unpack_from(data, at)[0] * _RUN.size
        if at > len(data):
            raise PeerFault(Code.MALFORMED, "the streams of a pack end too early")
        runs: list[range] = []
        for step, count in _RUN.iter_unpack(data[run_at:at]):
            run = range(after + step, after + step + count)
            after, refs = run.stop, refs + count
            if not count or run.start < 0 or run.stop > number_count:
                raise PeerFault(Code.MALFORMED, "a stream names a chunk that is not there", first=run.start)
            if refs > MAX_CHUNK_REFS_PER_PACK:
                raise TooLarge(Code.TOO_LARGE, "the streams of a pack are longer than allowed")
            runs.append(run)
        streams.append(tuple(runs))
    if at != len(data):
        raise PeerFault(Code.MALFORMED, "the index of a pack has bytes too many")
    return tuple(streams)


# --- writing ----------------------------------------------------------------------------------------------------------

# Below these, whatever one more chunk or stream brings still fits under the limits of a pack.
_FULL_INDEX_BYTES: Final = 4 * MiB
_FULL_PLAIN_BYTES: Final = MAX_PACK_PLAIN_BYTES // 2
_FULL_REFS: Final = MAX_CHUNK_REFS_PER_PACK // 4


class PackWriter:
    """Writes one pack; its bytes are fetched with `take()` as they become certain, so memory is about one frame.

    Same chunks, streams, order, level and version of zstd give the same bytes. Chunks that resemble each other should
    be added one behind the other. Not for use by several threads at once.
    """

    def __init__(self, *, level: int = 3, frame_target_bytes: int = FRAME_TARGET_BYTES) -> None:
        if not 0 < frame_target_bytes <= MAX_FRAME_BYTES - MAX_CHUNK_BYTES:
            raise ValueError("a frame would be larger than allowed")
        self._compressor = zstandard.ZstdCompressor(
            level=level, write_content_size=True, write_checksum=False, write_dict_id=False
        )
        self._frame_target_bytes = frame_target_bytes
        self._hash = blake3()
        self._written_bytes = 0
        self._output: list[bytes] = []
        self._numbers: dict[ChunkRef, int] = {}
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._plain_bytes = 0
        self._frames: list[Frame] = []
        self._streams: list[ChunkList] = []
        self._stream_refs = 0
        self._far: set[ChunkRef] = set()
        self._emit(PACK_MAGIC)

    def __contains__(self, chunk: ChunkRef) -> bool:
        return chunk in self._numbers

    @property
    def is_full(self) -> bool:
        """Whether the pack should be finished now: it has its target size, or comes near a limit."""
        index_bytes = (
            len(self._frames) * _FRAME.size
            + len(self._numbers) * LENGTH_BYTES
            + len(self._far) * CHUNK_REF_BYTES
            + len(self._streams) * _RUN_COUNT.size
            + self._stream_refs * _RUN.size
        )
        return (
            self._written_bytes + self._pending_bytes >= PACK_TARGET_BYTES
            or self._plain_bytes >= _FULL_PLAIN_BYTES
            or index_bytes >= _FULL_INDEX_BYTES
            or self._stream_refs >= _FULL_REFS
            or len(self._frames) >= MAX_FRAMES_PER_PACK // 2
            or len(self._numbers) >= MAX_CHUNKS_PER_PACK
            or len(self._streams) >= MAX_STREAMS_PER_PACK
        )

    def add_chunk(self, data: bytes, name: ChunkRef | None = None) -> ChunkRef:
        """Add a chunk (once, however often it is given) and say its name; `name` saves hashing when it is known."""
        if not 0 < len(data) <= MAX_CHUNK_BYTES:
            raise ValueError("no chunk has this length")
        name = name or chunk_ref(data)
        if name not in self._numbers:
            self._numbers[name] = len(self._numbers)
            self._pending.append(data)
            self._pending_bytes += len(data)
            self._plain_bytes += len(data)
            if self._pending_bytes >= self._frame_target_bytes:
                self._flush()
        return name

    def add_stream(self, chunks: ChunkList) -> bytes:
        """Let the pack carry this stream and say its id; chunks that are never added are taken to lie elsewhere."""
        self._streams.append(chunks)
        self._stream_refs += len(chunks)
        self._far.update(chunk for chunk in chunks if chunk not in self._numbers)
        return stream_id(chunks)

    def take(self) -> bytes:
        """The bytes that have become certain since the last call."""
        data = b"".join(self._output)
        self._output.clear()
        return data

    def finish(self) -> FinishedPack:
        """Write what remains; one more `take()` gives the last bytes. Raises `ValueError` when a limit was ignored."""
        self._flush()
        index = self._index()
        plain = _encode_index(index)
        compressed = self._compressor.compress(plain)
        stored = compressed if len(compressed) < len(plain) else plain
        self._emit(stored)
        self._emit(_TRAILER.pack(len(stored), len(plain), _index_digest(stored, len(plain)), PACK_END))
        if len(plain) > MAX_PACK_INDEX_BYTES or self._written_bytes > MAX_PACK_BYTES:
            raise ValueError("the pack was full and got more")
        return FinishedPack(
            hash=self._hash.digest(),
            size=self._written_bytes,
            index=index,
            chunks=tuple(self._numbers),
            stream_ids=tuple(map(stream_id, self._streams)),
        )

    def _emit(self, data: bytes) -> None:
        self._hash.update(data)
        self._written_bytes += len(data)
        self._output.append(data)

    def _flush(self) -> None:
        if self._pending:
            self._write_frame(self._pending)
        self._pending = []
        self._pending_bytes = 0

    def _write_frame(self, chunks: list[bytes]) -> None:
        plain = b"".join(chunks)
        stored = self._compressor.compress(plain)
        codec = Codec.ZSTD
        if len(stored) >= len(plain):
            stored, codec = plain, Codec.RAW
        elif _expands_too_much(len(stored), len(plain)):
            # No reader may be asked to trust such a ratio; two smaller frames cost a hundred bytes.
            half = len(chunks) // 2
            self._write_frame(chunks[:half])
            self._write_frame(chunks[half:])
            return
        lengths = tuple(map(len, chunks))
        digest = blake3(stored).digest()
        self._frames.append(Frame(self._written_bytes, len(stored), len(plain), codec, digest, lengths))
        self._emit(stored)

    def _index(self) -> PackIndex:
        numbers = dict(self._numbers)
        for chunk in chain.from_iterable(self._streams):
            numbers.setdefault(chunk, len(numbers))
        far = tuple(numbers)[len(self._numbers) :]
        streams = tuple(_runs([numbers[chunk] for chunk in chunks]) for chunks in self._streams)
        return PackIndex(tuple(self._frames), far, streams)


def _runs(numbers: list[int]) -> Runs:
    runs: list[range] = []
    for number in numbers:
        if runs and runs[-1].stop == number:
            runs[-1] = range(runs[-1].start, number + 1)
        else:
            runs.append(range(number, number + 1))
    return tuple(runs)


def _encode_index(index: PackIndex) -> bytes:
    head = _HEAD.pack(len(index.frames), index.chunk_count, len(index.far), len(index.streams))
    records = [
        _FRAME.pack(frame.stored_bytes, frame.codec, len(frame.chunk_lengths), frame.digest) for frame in index.frames
    ]
    lengths = [length.to_bytes(LENGTH_BYTES, "big") for frame in index.frames for length in frame.chunk_lengths]
    streams: list[bytes] = []
    after = 0
    for runs in index.streams:
        streams.append(_RUN_COUNT.pack(len(runs)))
        for run in runs:
            streams.append(_RUN.pack(run.start - after, len(run)))
            after = run.stop
    return b"".join([head, *records, *lengths, encode_chunk_list(index.far), *streams])
