"""What is pure, answered once for all replicas of all histories that ask it: what bytes mean, what a set folds to.

Folds are asked again and again by whoever begins with an image of a disk, or looks at what a machine would fold anew.
The answer is recalled where everything is the same that a fold is made from: entries in the order of their arrival and
what is whole of them, the door, what a replica remembers and has destroyed. So each order is folded once, and what has
grown (`protocol.growth`) is compared with what was folded from nothing. While a rule is broken nothing is recalled that
was folded before, or after.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

from protocol import canonical, entry
from protocol.canonical import Value
from protocol.entry import Entry
from protocol.growth import SpaceFold, fold_space
from protocol.replica import views
from protocol.rights import Door
from protocol.roster import Remembered

REMEMBERED: Final = 20_000
SHORT_BYTES: Final = 1_000
_MOST_FOLDS: Final = 1_000

_PLAIN_DECODE: Final = canonical.decode

_folds: Final[dict[Hashable, SpaceFold]] = {}
_doors: Final[dict[Hashable, int]] = {}


def forget_folds() -> None:
    """What was folded until now says nothing of what is folded from now on."""
    _folds.clear()
    _doors.clear()


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


def _fold_space(
    space: bytes,
    own: Sequence[Entry],
    above: Sequence[Entry],
    door: Door,
    remembered: Remembered,
    destroyed: frozenset[bytes],
) -> SpaceFold:
    seen = tuple((person, tuple(devices)) for person, devices in remembered.items())
    asked = (space, _shown(own), _shown(above), _door(door), seen, destroyed)
    known = _folds.get(asked)
    if known is None:
        if len(_folds) >= _MOST_FOLDS:
            forget_folds()
            asked = (*asked[:3], _door(door), *asked[4:])
        known = _folds[asked] = fold_space(space, own, above, door, remembered, destroyed)
    return known


def _shown(entries: Sequence[Entry]) -> Hashable:
    return tuple((each.id, each.payload is None) for each in entries)


def _door(door: Door) -> int:
    """A number for all that folds ask of a door: who may what, where, in which order that was heard, and the roots."""
    knows = (tuple(door._authorities.values()), tuple(door._parents.items()), door._roots, door._followed)
    return _doors.setdefault(knows, len(_doors))


PATCHES: Final[tuple[tuple[Any, str, object], ...]] = (
    *_decoders(),
    (entry, "decode_header", lru_cache(maxsize=REMEMBERED)(entry.decode_header)),
    (views, "fold_space", _fold_space),
)
