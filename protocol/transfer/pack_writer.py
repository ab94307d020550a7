"""Writes packs whose bytes become certain bit by bit (docs/protocol.md, "Packs"; their form: `pack`).

Same chunks, streams, order, level and version of zstd give the same bytes.
"""

from __future__ import annotations

from itertools import chain
from typing import Final

import zstandard
from blake3 import blake3

from protocol.limits import (
    FRAME_TARGET_BYTES,
    MAX_CHUNK_BYTES,
    MAX_CHUNK_REFS_PER_PACK,
    MAX_CHUNKS_PER_PACK,
    MAX_FRAME_BYTES,
    MAX_FRAMES_PER_PACK,
    MAX_PACK_BYTES,
    MAX_PACK_INDEX_BYTES,
    MAX_PACK_PLAIN_BYTES,
    MAX_STREAMS_PER_PACK,
    PACK_TARGET_BYTES,
    MiB,
)
from protocol.transfer.chunking import (
    CHUNK_REF_BYTES,
    LENGTH_BYTES,
    ChunkList,
    ChunkRef,
    chunk_ref,
    encode_chunk_list,
    stream_id,
)
from protocol.transfer.pack import (
    FRAME_RECORD,
    INDEX_HEAD,
    PACK_END,
    PACK_MAGIC,
    RUN,
    RUN_COUNT,
    TRAILER,
    Codec,
    FinishedPack,
    Frame,
    PackIndex,
    Runs,
    expands_too_much,
    index_digest,
)

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
            len(self._frames) * FRAME_RECORD.size
            + len(self._numbers) * LENGTH_BYTES
            + len(self._far) * CHUNK_REF_BYTES
            + len(self._streams) * RUN_COUNT.size
            + self._stream_refs * RUN.size
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
        self._emit(TRAILER.pack(len(stored), len(plain), index_digest(stored, len(plain)), PACK_END))
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
        elif expands_too_much(len(stored), len(plain)):
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
    head = INDEX_HEAD.pack(len(index.frames), index.chunk_count, len(index.far), len(index.streams))
    records = [
        FRAME_RECORD.pack(frame.stored_bytes, frame.codec, len(frame.chunk_lengths), frame.digest)
        for frame in index.frames
    ]
    lengths = [length.to_bytes(LENGTH_BYTES, "big") for frame in index.frames for length in frame.chunk_lengths]
    streams: list[bytes] = []
    after = 0
    for runs in index.streams:
        streams.append(RUN_COUNT.pack(len(runs)))
        for run in runs:
            streams.append(RUN.pack(run.start - after, len(run)))
            after = run.stop
    return b"".join([head, *records, *lengths, encode_chunk_list(index.far), *streams])
