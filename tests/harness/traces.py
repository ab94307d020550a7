"""Looks for a secret in bytes that somebody else holds, in every form that programs give to text.

As it is, in UTF-16, in base64 at any of its three phases, in hex; and inside whatever unfolds: zstd frames, zlib and
gzip streams, the parts of a ZIP file.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping

import zstandard

MOST_UNFOLDED_BYTES = 1 << 22
_ZSTD = re.compile(rb"\x28\xb5\x2f\xfd")
_ZLIB = re.compile(rb"\x78[\x01\x5e\x9c\xda]")
_GZIP = re.compile(rb"\x1f\x8b\x08")
_ZIP = re.compile(rb"PK\x03\x04")
_ZIP_HEAD_BYTES = 30


def forms_of(secret: bytes) -> Iterator[bytes]:
    """The ways in which programs write a secret."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    for phase in range(3):
        # the characters at the ends also say what stands beside the secret
        text = base64.b64encode(bytes(phase) + secret)[-(-phase * 8 // 6) :].rstrip(b"=")[:-1]
        yield text
        yield text.replace(b"+", b"-").replace(b"/", b"_")
    try:
        words = secret.decode()
    except UnicodeDecodeError:
        return
    for encoding in ("utf-16-le", "utf-16-be", "utf-32-le"):
        yield words.encode(encoding)


def traces_in(data: bytes, secrets: Mapping[str, bytes]) -> set[str]:
    """Which secrets are in these bytes, or in what they unfold to."""
    looked = (data, *unfolded(data))
    return {
        what for what, secret in secrets.items() for form in set(forms_of(secret)) for each in looked if form in each
    }


def unfolded(data: bytes) -> Iterable[bytes]:
    """What compressed parts of these bytes hold, as far as they go."""
    for found in _ZSTD.finditer(data):
        yield _zstd(data[found.start() :])
    for found in _ZLIB.finditer(data):
        yield _inflated(data[found.start() :], zlib.MAX_WBITS)
    for found in _GZIP.finditer(data):
        yield _inflated(data[found.start() :], zlib.MAX_WBITS | 16)
    for found in _ZIP.finditer(data):
        head = data[found.start() : found.start() + _ZIP_HEAD_BYTES]
        skipped = int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
        yield _inflated(data[found.start() + _ZIP_HEAD_BYTES + skipped :], -zlib.MAX_WBITS)


def _zstd(data: bytes) -> bytes:
    try:
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(data) as reader:
            return reader.read(MOST_UNFOLDED_BYTES)
    except zstandard.ZstdError:
        return b""


def _inflated(data: bytes, wbits: int) -> bytes:
    try:
        return zlib.decompressobj(wbits).decompress(data, MOST_UNFOLDED_BYTES)
    except zlib.error:
        return b""
