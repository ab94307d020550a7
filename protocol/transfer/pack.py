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

from protocol.errors import Code, PeerFault, TooLarge
from protocol.limits import (
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
    RATIO_FREE_BYTES,
)
from protocol.transfer.chunking import (
    CHUNK_REF_BYTES,
    LENGTH_BYTES,
    ChunkList,
    ChunkRef,
    check_chunk_list,
    chunk_ref,
    decode_chunk_refs,
)

PACK_MAGIC: Final = b"RLSPACK\x00"
PACK_END: Final = b"RLSPEND\x00"
TRAILER: Final = struct.Struct(">II16s8s")
TRAILER_BYTES: Final = TRAILER.size
INDEX_HEAD: Final = struct.Struct(">IIII")  # how many frames, local chunks, far chunks, streams
FRAME_RECORD: Final = struct.Struct(">IBI32s")  # stored bytes, codec, chunks, BLAKE3-256 of the stored bytes
RUN_COUNT: Final = struct.Struct(">I")
RUN: Final = struct.Struct(">iI")  # first number minus the number after the previous run's last; how many
MIN_PACK_BYTES: Final = len(PACK_MAGIC) + INDEX_HEAD.size + TRAILER_BYTES

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
    stored_bytes, plain_bytes, digest, end = TRAILER.unpack(tail[-TRAILER_BYTES:])
    if end != PACK_END:
        raise PeerFault(Code.UNKNOWN_FORMAT, "a pack does not end as a pack does")
    if plain_bytes > MAX_PACK_INDEX_BYTES:
        raise TooLarge(Code.TOO_LARGE, "the index of a pack is larger than allowed", size=plain_bytes)
    offset = pack_bytes - TRAILER_BYTES - stored_bytes
    if not 0 < stored_bytes <= plain_bytes or plain_bytes < INDEX_HEAD.size or offset < len(PACK_MAGIC):
        raise PeerFault(Code.MALFORMED, "the index of a pack has a wrong size", size=stored_bytes)
    return IndexPlace(offset, stored_bytes, plain_bytes, digest)


def decode_index(data: bytes, place: IndexPlace) -> PackIndex:
    """The index whose stored bytes are `data`. Raises `PeerFault`, `TooLarge`."""
    if len(data) != place.stored_bytes or index_digest(data, place.plain_bytes) != place.digest:
        raise PeerFault(Code.BAD_HASH, "the index of a pack is damaged")
    plain = data if place.stored_bytes == place.plain_bytes else _decompress(data, place.plain_bytes)
    frame_count, chunk_count, far_count, stream_count = INDEX_HEAD.unpack_from(plain)
    if (
        frame_count > MAX_FRAMES_PER_PACK
        or chunk_count > MAX_CHUNKS_PER_PACK
        or far_count > MAX_CHUNK_REFS_PER_PACK
        or stream_count > MAX_STREAMS_PER_PACK
    ):
        raise TooLarge(Code.TOO_LARGE, "a pack holds more than allowed", frames=frame_count, chunks=chunk_count)
    sections = (
        INDEX_HEAD.size,
        frame_count * FRAME_RECORD.size,
        chunk_count * LENGTH_BYTES,
        far_count * CHUNK_REF_BYTES,
    )
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


def index_digest(stored: bytes, plain_bytes: int) -> bytes:
    """The 16 bytes that the trailer says of an index that is stored so."""
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
    for stored_bytes, codec, count, digest in FRAME_RECORD.iter_unpack(records):
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
    if frame.plain_bytes > MAX_FRAME_BYTES or expands_too_much(frame.stored_bytes, frame.plain_bytes):
        raise TooLarge(
            Code.TOO_LARGE, "a frame unpacks to more than allowed", stored=frame.stored_bytes, plain=frame.plain_bytes
        )
    smaller = frame.stored_bytes < frame.plain_bytes
    same = frame.stored_bytes == frame.plain_bytes
    if not (same if frame.codec is Codec.RAW else smaller):
        raise PeerFault(Code.MALFORMED, "a frame has a size that its way of storing excludes", offset=frame.offset)


def expands_too_much(stored_bytes: int, plain_bytes: int) -> bool:
    """Whether no frame may have such a ratio."""
    return plain_bytes > max(RATIO_FREE_BYTES, stored_bytes * MAX_COMPRESSION_RATIO)


def _decode_streams(data: bytes, stream_count: int, number_count: int) -> tuple[Runs, ...]:
    streams: list[Runs] = []
    at, after, refs = 0, 0, 0
    for _ in range(stream_count):
        run_at = at + RUN_COUNT.size
        if run_at > len(data):
            raise PeerFault(Code.MALFORMED, "the streams of a pack end too early")
        at = run_at + RUN_COUNT.unpack_from(data, at)[0] * RUN.size
        if at > len(data):
            raise PeerFault(Code.MALFORMED, "the streams of a pack end too early")
        runs: list[range] = []
        for step, count in RUN.iter_unpack(data[run_at:at]):
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
