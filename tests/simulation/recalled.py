"""What bytes mean, answered once for all replicas of a history that ask it: only that is pure.

What a set folds to is not: folds grow by what comes in (`protocol.replica.at_work.views`), and each replica's in its
own order.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

from protocol import canonical
from protocol.canonical import Value
from protocol.model import entry

REMEMBERED: Final = 20_000
SHORT_BYTES: Final = 1_000

_PLAIN_DECODE: Final = canonical.decode


def _decode(data: bytes, *, max_bytes: int, **bounds: int) -> Value:
    if len(data) <= SHORT_BYTES and not bounds:
        return _decode_short(data, max_bytes)
    return _PLAIN_DECODE(data, max_bytes=max_bytes, **bounds)


@lru_cache(maxsize=REMEMBERED)
def _decode_short(data: bytes, max_bytes: int) -> Value:
    return _PLAIN_DECODE(data, max_bytes=max_bytes)


def _decoders() -> Iterator[tuple[object, str, object]]:
    """In every module that names the function."""
    for name, module in list(sys.modules.items()):
        is_ours = name.partition(".")[0] in ("protocol", "sync_agent", "sync_server")
        if is_ours and module is not entry and vars(module).get("decode") is _PLAIN_DECODE:
            yield module, "decode", _decode


PATCHES: Final[tuple[tuple[Any, str, object], ...]] = (
    *_decoders(),
    (entry, "decode_header", lru_cache(maxsize=REMEMBERED)(entry.decode_header)),
)
