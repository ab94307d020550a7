"""Canonical msgpack: one value, one encoding (docs/protocol.md, "Encoding").

Rules:
- nil, bool, integers of -2**63…2**64-1, bytes, UTF-8 strings, arrays, maps with string keys; no floats, no extensions;
- every length and integer in its shortest form; map keys unique, in ascending order of their UTF-8 bytes;
- depth at most `MAX_DEPTH_LEVELS`; what does not encode to the very same bytes again is refused.

`protocol.canonical` is the only place that calls msgpack for signed or hashed bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

import msgpack

from protocol.errors import Code, PeerFault, TooLarge
from protocol.limits import MAX_DEPTH_LEVELS

Value: TypeAlias = "bool | int | bytes | str | Sequence[Value] | Mapping[str, Value] | None"

_INT_MIN = -(2**63)
_INT_MAX = 2**64 - 1


def encode(value: Value) -> bytes:
    """The one encoding of `value`. Raises `TypeError` or `ValueError` for what the format cannot hold: our own bug."""
    return cast("bytes", msgpack.packb(_ordered(value, 0), use_bin_type=True))


def decode(data: bytes, *, max_bytes: int) -> Value:
    """The value that `data` canonically encodes.

    Raises `TooLarge` above `max_bytes`, `PeerFault(MALFORMED)` for what is not msgpack of the allowed types, and
    `PeerFault(NOT_CANONICAL)` for a second encoding of a value that has a shorter or ordered one.
    """
    if len(data) > max_bytes:
        raise TooLarge(Code.TOO_LARGE, "a message is larger than allowed", size=len(data), max=max_bytes)
    try:
        value = msgpack.unpackb(data, raw=False, strict_map_key=True, use_list=True, object_pairs_hook=_ascending)
        _check(value, 0)
        again = msgpack.packb(value, use_bin_type=True)
    except PeerFault:
        raise
    except (ValueError, TypeError, OverflowError, msgpack.exceptions.UnpackException, RecursionError) as reason:
        raise PeerFault(Code.MALFORMED, "a message cannot be decoded", reason=str(reason)) from reason
    if again != data:
        raise PeerFault(Code.NOT_CANONICAL, "a message is not in canonical form")
    return cast("Value", value)


def _ordered(value: Value, depth: int) -> object:
    if depth > MAX_DEPTH_LEVELS:
        raise ValueError("too deep")
    if value is None or isinstance(value, (bool, bytes, str)):
        return value
    if isinstance(value, int):
        if not _INT_MIN <= value <= _INT_MAX:
            raise ValueError("integer out of range")
        return value
    if isinstance(value, Mapping):
        keys = sorted(value, key=str.encode)
        return {key: _ordered(value[key], depth + 1) for key in keys}
    if isinstance(value, (list, tuple)):
        return [_ordered(part, depth + 1) for part in value]
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
    if depth > MAX_DEPTH_LEVELS:
        raise TooLarge(Code.TOO_LARGE, "a message is nested too deeply")
    kind = type(value)
    if kind is list:
        for part in cast("list[object]", value):
            _check(part, depth + 1)
    elif kind is dict:
        for part in cast("dict[str, object]", value).values():
            _check(part, depth + 1)
    elif kind not in _SCALARS:
        raise PeerFault(Code.MALFORMED, "a message holds a type that the format does not know", type=kind.__name__)


_SCALARS = frozenset({int, bytes, str, bool, type(None)})
