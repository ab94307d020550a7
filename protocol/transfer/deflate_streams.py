"""Where deflate streams lie in a file, whatever the file calls itself (docs/protocol.md, "Reflate").

Rules:
- a stream is known by the signature before it, not by the container's directory: a member of a ZIP by its local header,
  a PDF's by the word `stream`, a PNG's by its first IDAT chunk, gzip by its magic. So containers that are cut, appended
  to, repaired or wrapped in others are read alike, and Zip64 or data descriptors need nothing of their own;
- deflate itself says where a stream ends; a length that a header states is never trusted;
- work is linear: streams do not overlap, and what attempts that fail may cost together is bounded.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from protocol.errors import PeerFault
from protocol.limits import (
    MAX_IDAT_BYTES,
    MAX_IDATS_PER_PNG,
    MAX_REFLATE_RATIO,
    MAX_REFLATE_STREAM_BYTES,
    MIN_REFLATE_STREAM_BYTES,
)
from protocol.transfer.byte_source import PIECE_BYTES, ByteSource
from protocol.transfer.deflate_parameters import MAX_WINDOW_BITS


class Wrapping(IntEnum):
    """What surrounds a deflate stream and follows from its plain bytes."""

    RAW = 0
    ZLIB = 1
    """ADLER-32 of the plain bytes follows it (RFC 1950); the header is not part of it."""
    GZIP = 2
    """CRC-32 and size of the plain bytes follow it (RFC 1952); the header is not part of it."""
    IDAT = 3
    """A whole zlib stream cut into IDAT chunks with length and CRC-32 (PNG, 11.2.4)."""


PNG_MAGIC: Final = b"\x89PNG\r\n\x1a\n"
IDAT: Final = b"IDAT"
CHUNK_FRAME_BYTES: Final = 12
ZLIB_HEADER_BYTES: Final = 2
_MAX_CHUNKS_BEFORE_IDAT: Final = 64
_SIGNATURES: Final = (b"PK\x03\x04", b"stream", b"\x1f\x8b\x08", PNG_MAGIC)


@dataclass(frozen=True, slots=True)
class Stream:
    """One deflate stream: bytes `start`…`end` of the file, in its wrapping, hold `plain` compressed to `packed`.

    `chunk_bytes` are the sizes of the IDAT chunks, in order; `header` is the zlib header inside the first one.
    """

    kind: str
    start: int
    end: int
    wrapping: Wrapping
    plain: bytes
    packed: bytes
    window_bits: int = MAX_WINDOW_BITS
    level_hint: int | None = None
    header: bytes = b""
    chunk_bytes: tuple[int, ...] = ()


class Effort:
    """What failed attempts may still cost, in bytes that were read or made."""

    __slots__ = ("left_bytes",)

    def __init__(self, left_bytes: int) -> None:
        self.left_bytes = left_bytes


def inflate(source: ByteSource) -> Iterator[bytes]:
    """The plain bytes of the raw deflate stream that comes next, in pieces; then `source` stands right behind it.

    Raises `zlib.error` where there is none, and `PeerFault` where it is cut off. Memory: a few pieces.
    """
    decompressor = zlib.decompressobj(-MAX_WINDOW_BITS)
    most_bytes = 4 * PIECE_BYTES
    out = b""
    while not decompressor.eof:
        # Without input there may still be output, namely where the last one had to stop.
        waiting = decompressor.unconsumed_tail or len(out) == most_bytes
        out = decompressor.decompress(decompressor.unconsumed_tail if waiting else source.piece(), most_bytes)
        if out:
            yield out
    source.back(len(decompressor.unused_data))


def _inflate_at(data: bytes, start: int, effort: Effort) -> tuple[bytes, int] | None:
    """The plain bytes of the stream at `start`, and where it ends; None where none is that may be unfolded."""
    source = ByteSource((memoryview(data)[start:],))
    most_bytes = min(MAX_REFLATE_STREAM_BYTES, (len(data) - start) * MAX_REFLATE_RATIO)
    parts: list[bytes] = []
    made = 0
    try:
        for part in inflate(source):
            parts.append(part)
            made += len(part)
            if made > most_bytes:
                break
        else:
            if made and source.taken_bytes >= MIN_REFLATE_STREAM_BYTES:
                return b"".join(parts), start + source.taken_bytes
    except (zlib.error, PeerFault):
        pass
    effort.left_bytes -= source.taken_bytes + made
    return None


def find_streams(data: bytes | memoryview, effort: Effort) -> Iterator[Stream]:
    """The streams in `data`, in order and without overlap. `effort` bounds what failed attempts cost."""
    whole = bytes(data)
    following = dict.fromkeys(_SIGNATURES, -2)
    at = 0
    while effort.left_bytes > 0:
        for signature, place in following.items():
            if place != -1 and place < at:
                following[signature] = whole.find(signature, at)
        places = [(place, signature) for signature, place in following.items() if place != -1]
        if not places:
            return
        place, signature = min(places)
        stream = _READERS[signature](whole, place, effort)
        if stream is None:
            at = place + len(signature)
        else:
            yield stream
            at = stream.end


def _zip_member(data: bytes, place: int, effort: Effort) -> Stream | None:
    """ZIP, APPNOTE 4.3.7: method 8 and not encrypted; the sizes may be missing and are not looked at."""
    if len(data) < place + 30:
        return None
    flags, method = int.from_bytes(data[place + 6 : place + 8], "little"), data[place + 8 : place + 10]
    if flags & 1 or method != b"\x08\x00":
        return None
    start = place + 30 + int.from_bytes(data[place + 26 : place + 28], "little")
    start += int.from_bytes(data[place + 28 : place + 30], "little")
    return _plain_wrapped("zip", data, start, effort, Wrapping.RAW)


def _pdf_stream(data: bytes, place: int, effort: Effort) -> Stream | None:
    """ISO 32000, 7.3.8: the word `stream`, an end of line, and here a zlib stream; /Length is not looked at."""
    start = place + len(b"stream")
    if data.startswith(b"\r\n", start):
        start += 2
    elif data.startswith((b"\n", b"\r"), start):
        start += 1
    else:
        return None
    return _zlib("pdf", data, start, effort)


def _zlib(kind: str, data: bytes, start: int, effort: Effort) -> Stream | None:
    header = data[start : start + ZLIB_HEADER_BYTES]
    if not _is_zlib_header(header):
        return None
    return _plain_wrapped(kind, data, start + ZLIB_HEADER_BYTES, effort, Wrapping.ZLIB, header)


def _is_zlib_header(header: bytes) -> bool:
    """RFC 1950: deflate with a window of at most 32 KiB, no preset dictionary, a right check."""
    return (
        len(header) == ZLIB_HEADER_BYTES
        and header[0] & 0x8F == zlib.DEFLATED
        and not header[1] & 0x20
        and not int.from_bytes(header, "big") % 31
    )


def _gzip(data: bytes, place: int, effort: Effort) -> Stream | None:
    """RFC 1952: magic, flags, the fields that they announce."""
    start = place + 10
    if len(data) < start:
        return None
    flags = data[place + 3]
    if flags & 0xE0:
        return None
    if flags & 4:
        start += 2 + int.from_bytes(data[start : start + 2], "little")
    for _ in range((flags >> 3 & 1) + (flags >> 4 & 1)):
        # A name or comment of more than this belongs to no gzip file; an endless one must not cost a scan each.
        start = data.find(b"\0", start, start + 4096) + 1
        if not start:
            return None
    start += flags & 2
    return _plain_wrapped("gzip", data, start, effort, Wrapping.GZIP)


def _plain_wrapped(
    kind: str, data: bytes, start: int, effort: Effort, wrapping: Wrapping, header: bytes = b""
) -> Stream | None:
    found = _inflate_at(data, start, effort)
    if found is None:
        return None
    plain, end = found
    packed = data[start:end]
    if data.startswith(trailer := trailer_of(wrapping, plain), end):
        end += len(trailer)
    else:
        wrapping = Wrapping.RAW
    window_bits, level_hint = _told(header) if header else (MAX_WINDOW_BITS, None)
    return Stream(kind, start, end, wrapping, plain, packed, window_bits, level_hint)


def _told(header: bytes) -> tuple[int, int]:
    """Window bits and level hint in a zlib header."""
    return (header[0] >> 4) + 8, header[1] >> 6


def trailer_of(wrapping: Wrapping, plain: bytes) -> bytes:
    """What follows the deflate stream of `plain` in this wrapping."""
    if wrapping in {Wrapping.ZLIB, Wrapping.IDAT}:
        return zlib.adler32(plain).to_bytes(4, "big")
    if wrapping is Wrapping.GZIP:
        return zlib.crc32(plain).to_bytes(4, "little") + (len(plain) & 0xFFFFFFFF).to_bytes(4, "little")
    return b""


def _png(data: bytes, place: int, effort: Effort) -> Stream | None:
    """PNG: the run of IDAT chunks, which together hold one zlib stream and nothing else."""
    start = place + len(PNG_MAGIC)
    for _ in range(_MAX_CHUNKS_BEFORE_IDAT):
        if data[start + 4 : start + 8] == IDAT:
            return _idat_run(data, start, effort)
        start += CHUNK_FRAME_BYTES + int.from_bytes(data[start : start + 4], "big")
    return None


def _idat_run(data: bytes, start: int, effort: Effort) -> Stream | None:
    """The stream in the IDAT chunks from `start` on, if they are sound."""
    parts: list[bytes] = []
    at = start
    while data[at + 4 : at + 8] == IDAT and len(parts) < MAX_IDATS_PER_PNG:
        end = at + CHUNK_FRAME_BYTES + int.from_bytes(data[at : at + 4], "big")
        part = data[at + 8 : end - 4]
        effort.left_bytes -= len(part)
        if not 0 < len(part) <= MAX_IDAT_BYTES or data[at:end] != idat_chunk(part):
            return None
        parts.append(part)
        at = end
    whole = b"".join(parts)
    header = whole[:ZLIB_HEADER_BYTES]
    found = _inflate_at(whole, ZLIB_HEADER_BYTES, effort) if _is_zlib_header(header) else None
    if found is None:
        return None
    plain, end = found
    if whole[end:] != trailer_of(Wrapping.IDAT, plain):
        return None
    sizes, packed = tuple(map(len, parts)), whole[ZLIB_HEADER_BYTES:end]
    return Stream("png", start, at, Wrapping.IDAT, plain, packed, *_told(header), header, sizes)


def idat_chunk(part: bytes) -> bytes:
    """The IDAT chunk with this content."""
    crc = zlib.crc32(part, _IDAT_CRC)
    return len(part).to_bytes(4, "big") + IDAT + part + crc.to_bytes(4, "big")


_IDAT_CRC: Final = zlib.crc32(IDAT)
_READERS: Final = dict(zip(_SIGNATURES, (_zip_member, _pdf_stream, _gzip, _png), strict=True))
