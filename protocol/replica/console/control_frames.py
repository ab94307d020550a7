"""The bytes of the control channel: frames in both directions. They never leave the machine.

A frame is a type byte, a length (u32, big endian) and that many bytes. Up: `PARAMS`, then file events, `COMPLETE` last.
Down: file events and `PROGRESS` lines, then exactly one `RESULT` or `FAILURE`. Every type has its own bound, checked
before its bytes are read.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Awaitable, Iterator
from enum import IntEnum
from typing import Final, Protocol, cast

from protocol.errors import Code, PeerFault, TooLarge
from protocol.limits import (
    FILE_PIECE_BYTES,
    MAX_FAILURE_BYTES,
    MAX_PARAMS_BYTES,
    MAX_PATH_BYTES,
    MAX_PROGRESS_BYTES,
    MAX_RESULT_BYTES,
)
from protocol.replica.console.operation import JSON, Complete, FileData, FileEnd, FileEvent, FileStart, Restart

_HEAD: Final = struct.Struct(">BI")


class Frame(IntEnum):
    """The types of frames."""

    PARAMS = 1
    FILE_START = 2
    FILE_DATA = 3
    FILE_END = 4
    RESTART = 5
    COMPLETE = 6
    PROGRESS = 7
    RESULT = 8
    FAILURE = 9


# a character of a path takes at most six bytes in JSON, where two escapes of six stand for four bytes of UTF-8
_MAX_START_BYTES: Final = 6 * MAX_PATH_BYTES + 64

_BOUNDS: Final = {
    Frame.PARAMS: MAX_PARAMS_BYTES,
    Frame.FILE_START: _MAX_START_BYTES,
    Frame.FILE_DATA: FILE_PIECE_BYTES,
    Frame.FILE_END: 0,
    Frame.RESTART: 0,
    Frame.COMPLETE: 0,
    Frame.PROGRESS: MAX_PROGRESS_BYTES,
    Frame.RESULT: MAX_RESULT_BYTES,
    Frame.FAILURE: MAX_FAILURE_BYTES,
}


class Reader(Protocol):
    """What frames are read from; raises `EOFError` (as `asyncio.IncompleteReadError` does) when bytes are missing."""

    def readexactly(self, n: int, /) -> Awaitable[bytes]:
        """Exactly `n` bytes."""
        ...


async def read_frame(reader: Reader) -> tuple[Frame, bytes]:
    """The next frame. Raises `PeerFault(MALFORMED)`, `TooLarge`, or `EOFError` at the end of the stream."""
    kind, length = _HEAD.unpack(await reader.readexactly(_HEAD.size))
    try:
        frame = Frame(kind)
    except ValueError:
        raise PeerFault(Code.MALFORMED, "a frame of an unknown type", type=kind) from None
    if length > _BOUNDS[frame]:
        raise TooLarge(Code.TOO_LARGE, "a frame is larger than allowed", type=frame.name, size=length)
    return frame, await reader.readexactly(length) if length else b""


def frame_bytes(frame: Frame, body: bytes = b"") -> bytes:
    """The bytes of a frame. Raises `TooLarge` if the body exceeds the type's bound."""
    if len(body) > _BOUNDS[frame]:
        raise TooLarge(Code.TOO_LARGE, "a frame is larger than allowed", type=frame.name, size=len(body))
    return _HEAD.pack(frame, len(body)) + body


def pieces_of(data: bytes) -> Iterator[bytes]:
    """`data` in parts that fit a `FILE_DATA` frame; none if it is empty."""
    for offset in range(0, len(data), FILE_PIECE_BYTES):
        yield data[offset : offset + FILE_PIECE_BYTES]


def event_bytes(event: FileEvent) -> bytes:
    """The frame that carries `event`; its data may be at most `FILE_PIECE_BYTES`."""
    match event:
        case FileStart(path, size):
            return frame_bytes(Frame.FILE_START, json_bytes({"path": path, "size": size}))
        case FileData(data):
            return frame_bytes(Frame.FILE_DATA, data)
        case FileEnd():
            return frame_bytes(Frame.FILE_END)
        case Restart():
            return frame_bytes(Frame.RESTART)
        case Complete():
            return frame_bytes(Frame.COMPLETE)


def event_of(frame: Frame, body: bytes) -> FileEvent:
    """The event that a frame carries. Raises `PeerFault(MALFORMED)` for the other types."""
    match frame:
        case Frame.FILE_START:
            return _start_of(json_of(body))
        case Frame.FILE_DATA:
            return FileData(body)
        case Frame.FILE_END:
            return FileEnd()
        case Frame.RESTART:
            return Restart()
        case Frame.COMPLETE:
            return Complete()
        case _:
            raise PeerFault(Code.MALFORMED, "a frame stands where a file is expected", type=frame.name)


def json_bytes(value: JSON) -> bytes:
    """`value` as JSON in UTF-8; a character that UTF-8 does not hold stays an escape."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="backslashreplace")


def json_of(body: bytes) -> JSON:
    """The value in `body`. Raises `PeerFault(MALFORMED)`."""
    try:
        return cast("JSON", json.loads(body))
    except (ValueError, RecursionError) as reason:
        raise PeerFault(Code.MALFORMED, "a frame holds no JSON", reason=str(reason)) from reason


def _start_of(value: JSON) -> FileStart:
    if isinstance(value, dict):
        path, size = value.get("path"), value.get("size")
        if isinstance(path, str) and (size is None or type(size) is int):
            return FileStart(path, size)
    raise PeerFault(Code.MALFORMED, "a file's start cannot be read")
