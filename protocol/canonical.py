"""Canonical msgpack: one value, one encoding (docs/protocol.md, "Encoding").

Rules:
- nil, bool, integers of -2**63…2**64-1, bytes, UTF-8 strings, arrays, maps with string keys; no floats, no extensions;
- every length and integer in its shortest form; map keys unique, in ascending order of their UTF-8 bytes;
- depth at most `MAX_DEPTH_LEVELS`, and at most `MAX_VALUES_PER_MESSAGE` values: one byte may stand for a value that
  takes a hundred in memory, so they are counted before anything is made of them;
- one part of a map can be read alone, without the cost of what comes after it: who nobody knows is asked who they are
  before the rest of what they send is looked at;
- what does not encode to the very same bytes again is refused.

`protocol.canonical` is the only place that calls msgpack for signed or hashed bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias, cast

import msgpack

from protocol.errors import Code, PeerFault, TooLarge
from protocol.limits import MAX_DEPTH_LEVELS, MAX_VALUES_PER_MESSAGE, KiB

Value: TypeAlias = "bool | int | bytes | str | Sequence[Value] | Mapping[str, Value] | None"

_INT_MIN = -(2**63)
_INT_MAX = 2**64 - 1
# No more than this can hold enough values to do harm.
_UNCOUNTED_BYTES: Final = 4 * KiB
_BUFFER_BYTES: Final = 64 * KiB
_VALUES_PER_PAIR: Final = 2


def encode(value: Value) -> bytes:
    """The one encoding of `value`. Raises `TypeError` or `ValueError` for what the format cannot hold: our own bug."""
    return _packed(_ordered(value, 0))


def decode(data: bytes, *, max_bytes: int, max_values: int = MAX_VALUES_PER_MESSAGE) -> Value:
    """The value that `data` canonically encodes.

    Raises `TooLarge` above `max_bytes` or for too many values, `PeerFault(MALFORMED)` for what is not msgpack of the
    allowed types, and `PeerFault(NOT_CANONICAL)` for a second encoding of a value that has a shorter or ordered one.
    """
    if len(data) > max_bytes:
        raise TooLarge(Code.TOO_LARGE, "a message is larger than allowed", size=len(data), max=max_bytes)
    if len(data) > _UNCOUNTED_BYTES:
        _end_of(data, 0, max_values)
    try:
        value = msgpack.unpackb(data, raw=False, strict_map_key=True, use_list=True, object_pairs_hook=_ascending)
        _check(value, 0)
        again = _packed(value)
    except PeerFault:
        raise
    except (ValueError, TypeError, OverflowError, msgpack.exceptions.UnpackException, RecursionError) as reason:
        raise PeerFault(Code.MALFORMED, "a message cannot be decoded", reason=str(reason)) from reason
    if again != data:
        raise PeerFault(Code.NOT_CANONICAL, "a message is not in canonical form")
    return cast("Value", value)


def decode_member(data: bytes, key: str, *, max_values: int) -> Value:
    """What the map in `data` has under `key`, None if nothing. What comes after it is not looked at.

    Raises as `decode`, and `TooLarge` where it takes more than `max_values` to come to the end of it.
    """
    head = _HEADS.get(data[0]) if data else None
    if head is None or head.values_each != _VALUES_PER_PAIR:
        raise PeerFault(Code.MALFORMED, "a message is not a map")
    at = 1 + head.length_bytes
    pairs = int.from_bytes(data[1:at], "big") if head.length_bytes else head.length
    for _ in range(pairs):
        middle, seen = _end_of(data, at, max_values)
        name = decode(data[at:middle], max_bytes=_UNCOUNTED_BYTES)
        if not isinstance(name, str) or name.encode() > key.encode():
            return None
        max_values -= seen
        end, seen = _end_of(data, middle, max_values)
        if name == key:
            return decode(data[middle:end], max_bytes=len(data))
        max_values -= seen
        at = end
    return None


def decode_known(data: bytes) -> Value:
    """The value of bytes that `decode` has let pass before, which their hash proves: their form is not looked at again.

    Raises `PeerFault(MALFORMED)` for what is no msgpack.
    """
    try:
        return cast("Value", msgpack.unpackb(data, raw=False, strict_map_key=True, use_list=True))
    except (ValueError, TypeError, msgpack.exceptions.UnpackException, RecursionError) as reason:
        raise PeerFault(Code.MALFORMED, "a message cannot be decoded", reason=str(reason)) from reason


def _packed(value: object) -> bytes:
    """`value` in msgpack. The library would take a MiB from the system for each, ten times the work of most."""
    return cast("bytes", msgpack.Packer(use_bin_type=True, buf_size=_BUFFER_BYTES).pack(value))


class _Head(NamedTuple):
    """What a first byte says: a length, or how many bytes hold it; how many bytes and values follow for each of it."""

    length_bytes: int
    length: int = 0
    bytes_each: int = 0
    values_each: int = 0


# The format's table: https://github.com/msgpack/msgpack/blob/master/spec.md, without floats and extensions.
_HEADS: Final = {
    **dict.fromkeys((*range(0x80), *range(0xE0, 0x100), 0xC0, 0xC2, 0xC3), _Head(0)),
    **{0x80 + pairs: _Head(0, pairs, values_each=_VALUES_PER_PAIR) for pairs in range(16)},
    **{0x90 + parts: _Head(0, parts, values_each=1) for parts in range(16)},
    **{0xA0 + size: _Head(0, size, bytes_each=1) for size in range(32)},
    **{first + power: _Head(1 << power, bytes_each=1) for first in (0xC4, 0xD9) for power in range(3)},
    **{first + power: _Head(0, 1 << power, bytes_each=1) for first in (0xCC, 0xD0) for power in range(4)},
    **{0xDC + power: _Head(2 << power, values_each=1) for power in range(2)},
    **{0xDE + power: _Head(2 << power, values_each=_VALUES_PER_PAIR) for power in range(2)},
}


def _end_of(data: bytes, at: int, most: int) -> tuple[int, int]:
    """Where the value ends that begins at `at`, and how many values it is; beyond `data` where that is cut off.

    Raises `TooLarge` if more values are announced than `most`, `PeerFault` at a type that is not allowed.
    """
    announced = 1
    seen = 0
    while seen < announced and at < len(data):
        head = _HEADS.get(data[at])
        if head is None:
            raise PeerFault(Code.MALFORMED, "a message holds a type that the format does not know", first=data[at])
        length_bytes, length, bytes_each, values_each = head
        at += 1 + length_bytes
        if length_bytes:
            length = int.from_bytes(data[at - length_bytes : at], "big")
        at += length * bytes_each
        announced += length * values_each
        seen += 1
        if announced > most:
            raise TooLarge(Code.TOO_LARGE, "a message holds more values than allowed", max=most)
    return at, seen


def _ordered(value: Value, depth: int) -> object:
    if depth > MAX_DEPTH_LEVELS:
        raise ValueError("too deep")
    if value is None or isinstance(value, (bool, bytes, str)):
        return value
    if isinstance(value, int):
        if not _INT_MIN <= value <= _INT_MAX:
            raise ValueError("integer out of range")
        return value
    if isinstance(value, (list, tuple)):
        return [_ordered(part, depth + 1) for part in value]
    if isinstance(value, Mapping):
        keys = sorted(value, key=str.encode)
        return {key: _ordered(value[key], depth + 1) for key in keys}
    raise TypeError(f"cannot encode {type(value).__name__}")


def _ascending(pairs: list[tuple[object, object]]) -> dict[object, object]:
    last: bytes | None = None
    for key, _ in pairs:
        if not isinstance(key, str):
            raise PeerFault(Code.MALFORMED, "a map key is not a string")
        here = key.encode()
        if last is not None and here <= last:
            raise PeerFault(Code.NOT_CANONICAL, "map keys are not in order")
        last = here
    return dict(pairs)


def _check(value: object, depth: int) -> None:
    kind = type(value)
    if kind is list:
        parts: Collection[object] = cast("list[object]", value)
    elif kind is dict:
        parts = cast("dict[str, object]", value).values()
    elif kind in _SCALARS:
        return
    else:
        raise PeerFault(Code.MALFORMED, "a message holds a type that the format does not know", type=kind.__name__)
    if parts and depth >= MAX_DEPTH_LEVELS:
        raise TooLarge(Code.TOO_LARGE, "a message is nested too deeply")
    for part in parts:
        # most parts are scalars: a call for each costs more than the look
        if type(part) not in _SCALARS:
            _check(part, depth + 1)


_SCALARS = frozenset({int, bytes, str, bool, type(None)})
