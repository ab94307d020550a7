"""Deltas: containers that say new content in terms of content that the receiver has (docs/protocol.md, "Deltas").

    delta   = magic ‖ frame* ‖ index ‖ trailer
    frame   = one zstd frame, or bytes as they are; its dictionary is what its sources name, one behind the other
    index   = canonical [bases, images, frames, targets], as one zstd frame or as it is
    trailer = stored size of the index ‖ its plain size ‖ 16 bytes of BLAKE3 over both and the stored index ‖ end magic

Rules:
- a base is a manifest that the receiver holds with the content of its files; a source is a range of the manifest, of
  one of its files, or of that file's image, for which the index has the recipe (`protocol.reflate.reopen`);
- the frames' plain bytes, one behind the other, are the plain bytes of the targets, in order;
- a target is a stream: whole chunks, copied ones by their place in a base and new ones; or a file spliced from sources
  and plain bytes, which are its image if there is a recipe; or a manifest without the ids of targets before it, which
  the receiver computes;
- neither chunk hashes nor stream ids are written down, and no target is named: what comes out is used where a signed
  entry names it, so a wrong base or a lie costs the transfer and nothing else;
- without bases the same container carries content for a first sync in less than packs need, and a spliced file may
  say again what stands before it among the plain bytes;
- every size is checked against `protocol.limits` before memory is taken for it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Final, TypeAlias, cast

import zstandard
from blake3 import blake3

from protocol.canonical import Value, decode, encode
from protocol.chunking import HASH_BYTES
from protocol.deflate_parameters import NO_LEVELS, Profile
from protocol.errors import Code, PeerFault, TooLarge
from protocol.limits import (
    MAX_CHUNK_BYTES,
    MAX_CHUNK_REFS_PER_PACK,
    MAX_COMPRESSION_RATIO,
    MAX_DELTA_BASES,
    MAX_DELTA_DICTIONARY_BYTES,
    MAX_DELTA_IMAGES,
    MAX_DELTA_MADE_BYTES,
    MAX_DELTA_TARGETS,
    MAX_FILES_PER_REVISION,
    MAX_FRAME_BYTES,
    MAX_FRAMES_PER_PACK,
    MAX_IMAGE_BYTES,
    MAX_MANIFEST_BYTES,
    MAX_PACK_BYTES,
    MAX_PACK_INDEX_BYTES,
    MAX_PACK_PLAIN_BYTES,
    MAX_SPLICED_BYTES,
    MAX_STREAM_BYTES,
    RATIO_FREE_BYTES,
)
from protocol.reflate import levels_of

DELTA_MAGIC: Final = b"RLSDELT\x00"
DELTA_END: Final = b"RLSDEND\x00"
_TRAILER: Final = struct.Struct(">II16s8s")
TRAILER_BYTES: Final = _TRAILER.size
DIGEST_BYTES: Final = 16
MIN_DELTA_BYTES: Final = len(DELTA_MAGIC) + 1 + TRAILER_BYTES
LEVEL: Final = 19
_THRIFTY_CHAIN_LOG: Final = 22
_THRIFTY_HASH_LOG: Final = 20


@dataclass(frozen=True, slots=True)
class Source:
    """`length` bytes from `start` on: of file number `record` of the manifest that base number `base` names.

    `record` None means the manifest itself; `unfolded` that the bytes are those of the file's image.
    """

    base: int
    record: int | None
    start: int
    length: int
    unfolded: bool = False


@dataclass(frozen=True, slots=True)
class DeltaFrame:
    """Where a frame lies, its sizes, what its bytes hash to, and what its dictionary consists of."""

    offset: int
    stored_bytes: int
    plain_bytes: int
    digest: bytes
    sources: tuple[Source, ...]

    @property
    def dictionary_bytes(self) -> int:
        """The size of the dictionary."""
        return sum(source.length for source in self.sources)


@dataclass(frozen=True, slots=True)
class Copy:
    """`count` chunks from number `first` on, of file number `record` of a base."""

    base: int
    record: int
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class Chunked:
    """A stream as runs of chunks: copied ones, and new ones by their lengths."""

    parts: tuple[Copy | int, ...]

    @property
    def plain_bytes(self) -> int:
        """How many plain bytes it takes."""
        return sum(part for part in self.parts if isinstance(part, int))


@dataclass(frozen=True, slots=True)
class Own:
    """`length` of the delta's own plain bytes, from `start` on, which an earlier part has brought."""

    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Spliced:
    """A file made of sources and of so many plain bytes, in order; with a recipe that is its image."""

    parts: tuple[Source | Own | int, ...]
    recipe: bytes = b""

    @property
    def plain_bytes(self) -> int:
        """How many plain bytes it takes."""
        return sum(part for part in self.parts if isinstance(part, int))

    @property
    def image_bytes(self) -> int:
        """How many bytes its parts make."""
        return sum(part if isinstance(part, int) else part.length for part in self.parts)


@dataclass(frozen=True, slots=True)
class Tree:
    """A manifest without the stream ids of `holes`: (number of the file, number of the target that it is)."""

    plain_bytes: int
    holes: tuple[tuple[int, int], ...]


Target: TypeAlias = "Chunked | Spliced | Tree"


@dataclass(frozen=True, slots=True)
class DeltaIndex:
    """What a delta needs and brings. `images` has the recipe of each file of a base that is used as an image."""

    bases: tuple[bytes, ...]
    images: Mapping[tuple[int, int], bytes]
    frames: tuple[DeltaFrame, ...]
    targets: tuple[Target, ...]

    @property
    def brings_manifests(self) -> bool:
        """Whether there are manifests among the targets."""
        return any(isinstance(target, Tree) for target in self.targets)

    def levels(self) -> Profile:
        """The levels of deflate that a reader must reproduce. Raises `PeerFault`, `TooLarge` for no recipe."""
        levels = NO_LEVELS
        for target in self.targets:
            if isinstance(target, Spliced) and target.recipe:
                levels = Profile(levels | levels_of(target.recipe))
        return levels


@dataclass(frozen=True, slots=True)
class IndexPlace:
    """Where the index lies in the delta, as its trailer says."""

    offset: int
    stored_bytes: int
    plain_bytes: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class FinishedDelta:
    """A delta that was written."""

    hash: bytes
    size: int
    index: DeltaIndex


def is_delta(beginning: bytes) -> bool:
    """Whether a container that begins like this is a delta and not a pack."""
    return beginning[: len(DELTA_MAGIC)] == DELTA_MAGIC


# --- reading ----------------------------------------------------------------------------------------------------------


def read_delta_trailer(tail: bytes, *, delta_bytes: int) -> IndexPlace:
    """Where the index of a delta of `delta_bytes` lies; `tail` is at least its last `TRAILER_BYTES`.

    Raises `PeerFault`, `TooLarge`.
    """
    if delta_bytes > MAX_PACK_BYTES:
        raise TooLarge(Code.TOO_LARGE, "a delta is larger than allowed", size=delta_bytes, max=MAX_PACK_BYTES)
    if delta_bytes < MIN_DELTA_BYTES or len(tail) < TRAILER_BYTES:
        raise PeerFault(Code.MALFORMED, "a delta is shorter than any delta", size=delta_bytes)
    stored_bytes, plain_bytes, digest, end = _TRAILER.unpack(tail[-TRAILER_BYTES:])
    if end != DELTA_END:
        raise PeerFault(Code.UNKNOWN_FORMAT, "a delta does not end as a delta does")
    if plain_bytes > MAX_PACK_INDEX_BYTES:
        raise TooLarge(Code.TOO_LARGE, "the index of a delta is larger than allowed", size=plain_bytes)
    offset = delta_bytes - TRAILER_BYTES - stored_bytes
    if not 0 < stored_bytes <= plain_bytes or offset < len(DELTA_MAGIC):
        raise PeerFault(Code.MALFORMED, "the index of a delta has a wrong size", size=stored_bytes)
    return IndexPlace(offset, stored_bytes, plain_bytes, digest)


def decode_delta_index(data: bytes, place: IndexPlace) -> DeltaIndex:
    """The index whose stored bytes are `data`. Raises `PeerFault`, `TooLarge`."""
    if len(data) != place.stored_bytes or _index_digest(data, place.plain_bytes) != place.digest:
        raise PeerFault(Code.BAD_HASH, "the index of a delta is damaged")
    plain = data if place.stored_bytes == place.plain_bytes else _decompress(data, place.plain_bytes, b"")
    match decode(plain, max_bytes=MAX_PACK_INDEX_BYTES):
        case [list(bases), list(images), list(frames), list(targets)] if (
            len(bases) <= MAX_DELTA_BASES
            and len(images) <= MAX_DELTA_IMAGES
            and len(frames) <= MAX_FRAMES_PER_PACK
            and len(targets) <= MAX_DELTA_TARGETS
        ):
            pass
        case _:
            raise _malformed("an index")
    if any(type(base) is not bytes or len(base) != HASH_BYTES for base in bases):
        raise _malformed("a base")
    ends = accumulate((_size(row) for row in frames), initial=len(DELTA_MAGIC))
    index = DeltaIndex(
        tuple(cast("list[bytes]", bases)),
        dict(_image(row, len(bases)) for row in images),
        tuple(_frame(row, offset, len(bases)) for row, offset in zip(frames, ends, strict=False)),
        tuple(_target(row, number, len(bases)) for number, row in enumerate(targets)),
    )
    _check_sums(index, place)
    return index


def read_delta_index(delta: bytes) -> DeltaIndex:
    """The index of a delta that lies in memory whole. Raises `PeerFault`, `TooLarge`."""
    if not is_delta(delta):
        raise PeerFault(Code.UNKNOWN_FORMAT, "what should be a delta is something else")
    place = read_delta_trailer(delta[-TRAILER_BYTES:], delta_bytes=len(delta))
    return decode_delta_index(delta[place.offset : place.offset + place.stored_bytes], place)


def open_delta_frame(frame: DeltaFrame, data: bytes, dictionary: bytes) -> bytes:
    """The plain bytes of a frame whose stored bytes are `data`. Raises `PeerFault`.

    A dictionary other than the writer's gives an error or wrong bytes, which no stream id fits.
    """
    if len(data) != frame.stored_bytes or frame_digest(data) != frame.digest:
        raise PeerFault(Code.BAD_HASH, "a part of a delta is damaged", offset=frame.offset)
    if len(dictionary) != frame.dictionary_bytes:
        raise ValueError("a dictionary has the size that the sources say")
    return data if frame.stored_bytes == frame.plain_bytes else _decompress(data, frame.plain_bytes, dictionary)


def frame_digest(data: bytes) -> bytes:
    """What a frame's record says about its stored bytes."""
    return blake3(data).digest(length=DIGEST_BYTES)


def _check_sums(index: DeltaIndex, place: IndexPlace) -> None:
    if sum(frame.stored_bytes for frame in index.frames) != place.offset - len(DELTA_MAGIC):
        raise _malformed("the size of a frame")
    plain_bytes = sum(frame.plain_bytes for frame in index.frames)
    if plain_bytes > MAX_PACK_PLAIN_BYTES:
        raise TooLarge(Code.TOO_LARGE, "a delta unpacks to more than allowed", max=MAX_PACK_PLAIN_BYTES)
    if sum(target.plain_bytes for target in index.targets) != plain_bytes:
        raise _malformed("the size of a target")
    refs, made_bytes, at = 0, 0, 0
    sources = [source for frame in index.frames for source in frame.sources]
    for target in index.targets:
        made_bytes += target.image_bytes if isinstance(target, Spliced) else target.plain_bytes
        _check_own(target, at, index)
        at += target.plain_bytes
        match target:
            case Chunked(parts):
                refs += sum(part.count if isinstance(part, Copy) else 1 for part in parts)
            case Spliced(parts):
                sources += [part for part in parts if isinstance(part, Source)]
            case Tree(_, holes):
                if any(isinstance(index.targets[number], Tree) for _, number in holes):
                    raise _malformed("a hole in a list of files")
    if any(source.unfolded and (source.base, source.record) not in index.images for source in sources):
        raise _malformed("the image of a source")
    if refs > MAX_CHUNK_REFS_PER_PACK:
        raise TooLarge(Code.TOO_LARGE, "the streams of a delta are longer than allowed")
    if made_bytes > MAX_DELTA_MADE_BYTES:
        raise TooLarge(Code.TOO_LARGE, "a delta makes more than allowed", max=MAX_DELTA_MADE_BYTES)


def _check_own(target: Target, at: int, index: DeltaIndex) -> None:
    """What a target takes from the delta itself stands before it there, and needs nothing else."""
    for part in target.parts if isinstance(target, Spliced) else ():
        if isinstance(part, int):
            at += part
        elif isinstance(part, Own) and (index.bases or part.start + part.length > at):
            raise _malformed("what is said again")


def _size(row: Value) -> int:
    match row:
        case [int(stored), *_] if 0 < stored <= MAX_PACK_BYTES:
            return stored
        case _:
            raise _malformed("a frame")


def _frame(row: Value, offset: int, bases: int) -> DeltaFrame:
    match row:
        case [int(stored), int(plain), bytes(digest), list(rows)] if plain > 0 and len(digest) == DIGEST_BYTES:
            frame = DeltaFrame(offset, stored, plain, digest, tuple(_source(source, bases) for source in rows))
        case _:
            raise _malformed("a frame")
    if frame.dictionary_bytes > MAX_DELTA_DICTIONARY_BYTES:
        raise TooLarge(Code.TOO_LARGE, "a frame needs a larger dictionary than allowed", size=frame.dictionary_bytes)
    if plain > MAX_FRAME_BYTES or expands_too_much(stored, frame.dictionary_bytes, plain):
        raise TooLarge(Code.TOO_LARGE, "a frame unpacks to more than allowed", stored=stored, plain=plain)
    if stored > plain:
        raise _malformed("the size of a frame")
    return frame


def _image(row: Value, bases: int) -> tuple[tuple[int, int], bytes]:
    match row:
        case [int(base), int(record), bytes(recipe)] if 0 <= base < bases and 0 <= record < MAX_FILES_PER_REVISION:
            return (base, record), recipe
        case _:
            raise _malformed("an image")


def _source(row: Value, bases: int) -> Source:
    match row:
        case [int(base), int(place), int(start), int(length)] if (
            0 <= base < bases
            and abs(place) <= MAX_FILES_PER_REVISION
            and 0 <= start <= MAX_STREAM_BYTES
            and 0 < length <= MAX_IMAGE_BYTES
        ):
            return Source(base, abs(place) - 1 if place else None, start, length, unfolded=place < 0)
        case _:
            raise _malformed("a source")


def _target(row: Value, number: int, bases: int) -> Target:
    match row:
        case [0, list(parts)]:
            return Chunked(tuple(_part(part, bases) for part in parts))
        case [1, list(rows), bytes(recipe)]:
            spliced = Spliced(tuple(_splice(part, bases) for part in rows), recipe)
            if spliced.image_bytes > (MAX_IMAGE_BYTES if recipe else MAX_SPLICED_BYTES):
                raise TooLarge(Code.TOO_LARGE, "a file is larger than a delta may make", size=spliced.image_bytes)
            return spliced
        case [2, int(plain), list(rows)] if 0 <= plain <= MAX_MANIFEST_BYTES:
            holes = tuple(_hole(hole, number) for hole in rows)
            if any(later <= earlier for (earlier, _), (later, _) in pairwise(holes)):
                raise _malformed("a hole in a list of files")
            return Tree(plain, holes)
        case _:
            raise _malformed("a target")


def _part(part: Value, bases: int) -> Copy | int:
    match part:
        case int(length) if 0 < length <= MAX_CHUNK_BYTES and not isinstance(part, bool):
            return length
        case [int(base), int(record), int(first), int(count)] if (
            0 <= base < bases
            and 0 <= record < MAX_FILES_PER_REVISION
            and first >= 0
            and 0 < count <= MAX_CHUNK_REFS_PER_PACK
        ):
            return Copy(base, record, first, count)
        case _:
            raise _malformed("a run of chunks")


def _splice(part: Value, bases: int) -> Source | Own | int:
    if isinstance(part, int) and not isinstance(part, bool) and part > 0:
        return part
    match part:
        case [-1, 0, int(start), int(length)] if start >= 0 and 0 < length <= MAX_IMAGE_BYTES:
            return Own(start, length)
        case _:
            return _source(part, bases)


def _hole(row: Value, number: int) -> tuple[int, int]:
    match row:
        case [int(record), int(target)] if 0 <= record < MAX_FILES_PER_REVISION and 0 <= target < number:
            return record, target
        case _:
            raise _malformed("a hole in a list of files")


def expands_too_much(stored_bytes: int, dictionary_bytes: int, plain_bytes: int) -> bool:
    """Whether no reader may be asked to unpack so much from so little; what it holds already counts as read."""
    return plain_bytes > max(RATIO_FREE_BYTES, (stored_bytes + dictionary_bytes) * MAX_COMPRESSION_RATIO)


def _decompress(data: bytes, plain_bytes: int, dictionary: bytes) -> bytes:
    try:
        if zstandard.get_frame_parameters(data).content_size != plain_bytes:
            raise PeerFault(Code.MALFORMED, "a compressed part of a delta declares a wrong size")
        opener = zstandard.ZstdDecompressor(dict_data=_raw(dictionary) if dictionary else None)
        return opener.decompress(data, max_output_size=plain_bytes, allow_extra_data=False)
    except zstandard.ZstdError as reason:
        raise PeerFault(Code.MALFORMED, "a part of a delta cannot be decompressed", reason=str(reason)) from reason


def _raw(dictionary: bytes) -> zstandard.ZstdCompressionDict:
    return zstandard.ZstdCompressionDict(dictionary, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def _index_digest(stored: bytes, plain_bytes: int) -> bytes:
    return blake3(struct.pack(">II", len(stored), plain_bytes) + stored).digest(length=DIGEST_BYTES)


def _malformed(what: str) -> PeerFault:
    return PeerFault(Code.MALFORMED, f"{what} of a delta has the wrong form")


# --- writing ----------------------------------------------------------------------------------------------------------


class DeltaWriter:
    """Writes one delta; its bytes are fetched with `take()`. The caller sees to it that frames and targets add up."""

    def __init__(self, bases: Sequence[bytes] = ()) -> None:
        self._bases = tuple(bases)
        self._images: dict[tuple[int, int], bytes] = {}
        self._hash = blake3()
        self._written_bytes = 0
        self._output: list[bytes] = []
        self._frames: list[DeltaFrame] = []
        self._targets: list[Target] = []
        self._emit(DELTA_MAGIC)

    @property
    def written_bytes(self) -> int:
        """The size so far."""
        return self._written_bytes

    def add_frame(
        self,
        plain: bytes,
        sources: Sequence[Source],
        dictionary: bytes,
        *,
        level: int = LEVEL,
        stored: bytes | None = None,
    ) -> None:
        """Write the next plain bytes, compressed against the bytes that `sources` name; `stored` if that is done."""
        stored = compress(plain, dictionary, level, thrifty=True) if stored is None else stored
        if len(stored) >= len(plain):
            stored, sources, dictionary = plain, (), b""
        elif expands_too_much(len(stored), len(dictionary), len(plain)):
            half = len(plain) // 2
            self.add_frame(plain[:half], sources, dictionary, level=level)
            self.add_frame(plain[half:], sources, dictionary, level=level)
            return
        self._frames.append(
            DeltaFrame(self._written_bytes, len(stored), len(plain), frame_digest(stored), tuple(sources))
        )
        self._emit(stored)

    def add_target(self, target: Target) -> int:
        """Add a target, whose plain bytes are the next; its number."""
        self._targets.append(target)
        return len(self._targets) - 1

    def add_image(self, base: int, record: int, recipe: bytes) -> None:
        """Let sources name the image of a file of a base."""
        self._images[base, record] = recipe

    def take(self) -> bytes:
        """The bytes that have become certain since the last call."""
        data = b"".join(self._output)
        self._output.clear()
        return data

    def finish(self) -> FinishedDelta:
        """Write the index; one more `take()` gives the last bytes. Raises `ValueError` when a limit was ignored."""
        index = DeltaIndex(self._bases, dict(self._images), tuple(self._frames), tuple(self._targets))
        images: list[Value] = [[base, record, recipe] for (base, record), recipe in index.images.items()]
        plain = encode(
            [list(index.bases), images, list(map(_frame_row, index.frames)), list(map(_target_row, index.targets))]
        )
        stored = compress(plain, b"", LEVEL)
        if len(stored) >= len(plain):
            stored = plain
        self._emit(stored)
        self._emit(_TRAILER.pack(len(stored), len(plain), _index_digest(stored, len(plain)), DELTA_END))
        if len(plain) > MAX_PACK_INDEX_BYTES or self._written_bytes > MAX_PACK_BYTES:
            raise ValueError("the delta was full and got more")
        return FinishedDelta(self._hash.digest(), self._written_bytes, index)

    def _emit(self, data: bytes) -> None:
        self._hash.update(data)
        self._written_bytes += len(data)
        self._output.append(data)


def compress(plain: bytes, dictionary: bytes, level: int, *, thrifty: bool = False) -> bytes:
    """One zstd frame that declares its size, with the whole dictionary within reach.

    The strongest levels take 180 MB for their tables; `thrifty` ones 40, which look at the nearest two megabytes.
    """
    # Nothing is further away than this; the reader takes the window from the content's size.
    window_log = min(max((len(plain) + len(dictionary)).bit_length(), 10), 27)
    usual = zstandard.ZstdCompressionParameters.from_level(
        level, source_size=len(plain), dict_size=len(dictionary), window_log=window_log
    )
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level,
        source_size=len(plain),
        dict_size=len(dictionary),
        window_log=window_log,
        chain_log=min(usual.chain_log, _THRIFTY_CHAIN_LOG) if thrifty else usual.chain_log,
        hash_log=min(usual.hash_log, _THRIFTY_HASH_LOG) if thrifty else usual.hash_log,
        write_content_size=True,
        write_checksum=False,
        write_dict_id=False,
    )
    return zstandard.ZstdCompressor(
        compression_params=parameters, dict_data=_raw(dictionary) if dictionary else None
    ).compress(plain)


def _frame_row(frame: DeltaFrame) -> list[Value]:
    return [frame.stored_bytes, frame.plain_bytes, frame.digest, list(map(_source_row, frame.sources))]


def _source_row(source: Source) -> list[Value]:
    place = 0 if source.record is None else source.record + 1
    return [source.base, -place if source.unfolded else place, source.start, source.length]


def _target_row(target: Target) -> list[Value]:
    match target:
        case Chunked(parts):
            return [0, list(map(_part_row, parts))]
        case Spliced(parts, recipe):
            return [1, list(map(_splice_row, parts)), recipe]
        case Tree(plain_bytes, holes):
            return [2, plain_bytes, [[record, number] for record, number in holes]]


def _splice_row(part: Source | Own | int) -> Value:
    match part:
        case Own(start, length):
            return [-1, 0, start, length]
        case Source():
            return _source_row(part)
        case _:
            return part


def _part_row(part: Copy | int) -> Value:
    return part if isinstance(part, int) else [part.base, part.record, part.first, part.count]
