"""Reading a delta: its index, parsed once and checked as a whole, and its frames (docs/protocol.md, "Deltas").

Every size is checked against `protocol.limits` before memory is taken for it, and every place against what it is in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import cast

import zstandard

from protocol.canonical import Value, decode
from protocol.errors import Code, PeerFault, TooLarge
from protocol.limits import (
    MAX_CHUNK_BYTES,
    MAX_CHUNK_REFS_PER_PACK,
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
)
from protocol.transfer.chunking import HASH_BYTES
from protocol.transfer.delta import (
    DELTA_END,
    DELTA_MAGIC,
    DIGEST_BYTES,
    MIN_DELTA_BYTES,
    TRAILER,
    TRAILER_BYTES,
    Chunked,
    Copy,
    DeltaFrame,
    DeltaIndex,
    IndexPlace,
    Own,
    Source,
    Spliced,
    Target,
    Tree,
    expands_too_much,
    frame_digest,
    index_digest,
    is_delta,
    raw_dictionary,
)


def read_delta_trailer(tail: bytes, *, delta_bytes: int) -> IndexPlace:
    """Where the index of a delta of `delta_bytes` lies; `tail` is at least its last `TRAILER_BYTES`.

    Raises `PeerFault`, `TooLarge`.
    """
    if delta_bytes > MAX_PACK_BYTES:
        raise TooLarge(Code.TOO_LARGE, "a delta is larger than allowed", size=delta_bytes, max=MAX_PACK_BYTES)
    if delta_bytes < MIN_DELTA_BYTES or len(tail) < TRAILER_BYTES:
        raise PeerFault(Code.MALFORMED, "a delta is shorter than any delta", size=delta_bytes)
    stored_bytes, plain_bytes, digest, end = TRAILER.unpack(tail[-TRAILER_BYTES:])
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
    if len(data) != place.stored_bytes or index_digest(data, place.plain_bytes) != place.digest:
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
            return Chunked(tuple(_parts(parts, bases)))
        case [1, list(rows), bytes(recipe)]:
            spliced = Spliced(tuple(_splices(rows, bases)), recipe)
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


def _parts(rows: Sequence[Value], bases: int) -> Iterator[Copy | int]:
    """Runs of chunks; one of two numbers goes on in the file of the run before it."""
    last: Copy | None = None
    for row in rows:
        part = _part(row if last is None else _expanded(row, [last.base, last.record], last.first + last.count), bases)
        last = part if isinstance(part, Copy) else last
        yield part


def _splices(rows: Sequence[Value], bases: int) -> Iterator[Source | Own | int]:
    """The parts of a spliced file; a source of two numbers goes on in the file or image of the source before it."""
    last: Source | None = None
    for row in rows:
        part = _splice(row if last is None else _expanded(row, _place_of(last), last.end), bases)
        last = part if isinstance(part, Source) else last
        yield part


def _place_of(source: Source) -> list[int]:
    place = 0 if source.record is None else source.record + 1
    return [source.base, -place if source.unfolded else place]


def _expanded(row: Value, where: list[int], end: int) -> Value:
    match row:
        case [int(skipped), int(length)]:
            return [*where, end + skipped, length]
        case _:
            return row


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


def _decompress(data: bytes, plain_bytes: int, dictionary: bytes) -> bytes:
    try:
        if zstandard.get_frame_parameters(data).content_size != plain_bytes:
            raise PeerFault(Code.MALFORMED, "a compressed part of a delta declares a wrong size")
        opener = zstandard.ZstdDecompressor(dict_data=raw_dictionary(dictionary) if dictionary else None)
        return opener.decompress(data, max_output_size=plain_bytes, allow_extra_data=False)
    except zstandard.ZstdError as reason:
        raise PeerFault(Code.MALFORMED, "a part of a delta cannot be decompressed", reason=str(reason)) from reason


def _malformed(what: str) -> PeerFault:
    return PeerFault(Code.MALFORMED, f"{what} of a delta has the wrong form")
