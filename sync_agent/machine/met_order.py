"""In which order the devices come that this one knows as a person's, by what it noted in each class (C38 to C47).

Rules (docs/protocol.md, "Confirmed devices"):
- each comes where it was met first, in whatever class; who is gone somewhere, or doubted, is later there;
- whom words have led to stands right behind who led there, which may itself have been led to elsewhere;
- of each class it is asked who comes first by all others: what was noted lies sorted, so that this costs what there are
  devices, and not what there are classes. Whoever has the server's key makes thousands (docs/adr/0494).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from protocol.rights.speaking import DOUBTED, GONE, UNMET
from protocol.rights.vouching import Device


class Met(NamedTuple):
    """Of one class: when each was met, later if gone or doubted there; who came first; and whom their words led to."""

    placed: Mapping[Device, int]
    leaders: tuple[Device, ...] = ()
    led: tuple[Device, ...] = ()


_Leading: TypeAlias = tuple[tuple[Device, ...], tuple[Device, ...]]
_Sorted: TypeAlias = defaultdict[Device, list[tuple[int, bytes]]]


class MetOrder:
    """Those of one person."""

    def __init__(self) -> None:
        """Nothing is noted yet."""
        self._met: dict[bytes, Met] = {}
        self._placed: _Sorted = defaultdict(list)
        self._uncut: _Sorted = defaultdict(list)
        self._leading = Counter[_Leading]()

    def note(self, space: bytes, met: Met) -> None:
        """This is what a class says now."""
        before = self._met.get(space)
        if before is not None:
            for places, device, at in self._places(before):
                del places[device][bisect_left(places[device], (at, space))]
            self._leading[before.leaders, before.led] -= 1
        self._met[space] = met
        for places, device, at in self._places(met):
            insort(places[device], (at, space))
        self._leading[met.leaders, met.led] += 1

    def but(self, space: bytes | None) -> tuple[dict[Device, int], dict[Device, int]]:
        """In which order they come by all classes but one; and in which if none were cut off, without the doubted."""
        order, uncut = _earliest(self._placed, space), _earliest(self._uncut, space)
        left = self._met.get(space) if space is not None else None
        not_there = None if left is None else (left.leaders, left.led)
        lines = [line for line, many in self._leading.items() if line[1] and many > (line == not_there)]
        _stand_behind(lines, uncut)
        for device, at in uncut.items():
            order[device] = min(order[device], at + (order[device] & GONE))
        return order, uncut

    def _places(self, met: Met) -> Iterable[tuple[_Sorted, Device, int]]:
        for device, at in met.placed.items():
            yield self._placed, device, at
            if at < DOUBTED:
                yield self._uncut, device, at % GONE


def _earliest(places: Mapping[Device, Sequence[tuple[int, bytes]]], but: bytes | None) -> dict[Device, int]:
    found = {}
    for device, each in places.items():
        at_ms = next((at_ms for at_ms, space in each[:2] if space != but), None)
        if at_ms is not None:
            found[device] = at_ms
    return found


def _stand_behind(lines: Sequence[_Leading], uncut: dict[Device, int]) -> None:
    """Have whom words led to stand right behind who led there."""
    before: dict[Device, int] = {}
    while uncut != before:
        before = dict(uncut)
        for leaders, led in lines:
            leads_ms = max((uncut.get(each, UNMET) for each in leaders), default=UNMET)
            for place, device in enumerate(led, start=1):
                if device in uncut:
                    uncut[device] = min(uncut[device], leads_ms + place)
