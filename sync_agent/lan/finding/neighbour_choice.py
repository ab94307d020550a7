"""Which of the devices that were found become neighbours: few, the same on both sides, and nobody left alone (R18).

Rules:
- every device is on a ring of all of them in the order of their names, and keeps the one before and the one after: the
  graph hangs together, whatever else is chosen;
- beyond that two devices become neighbours when each is among the other's favourites by rendezvous hashing: a score per
  pair that both sides compute alike;
- when one device comes or goes, only links near it change;
- a link that stands is let go for one that stands, not for somebody who was only announced.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Final, TypeVar

from blake3 import blake3

from protocol.limits import MAX_NEIGHBOURS

T = TypeVar("T")

_RING: Final = 2
_PAIR: Final = b"relais/0 neighbours\x00"
_PIECE: Final = b"relais/0 fetcher\x00"


def neighbours_of(own: str, others: Iterable[str], most: int = MAX_NEIGHBOURS) -> set[str]:
    """The names of at most `most` devices with which `own` keeps a link."""
    return set(_neighbours(own, frozenset({own, *others}), most))


@lru_cache(maxsize=4)
def _neighbours(own: str, all_of_them: frozenset[str], most: int) -> set[str]:
    """The same; asked again at each word that is heard, while who is there stays the same."""
    everyone = sorted(all_of_them)
    if len(everyone) - 1 <= most:
        return {name for name in everyone if name != own}
    place = everyone.index(own)
    ring = {everyone[place - 1], everyone[(place + 1) % len(everyone)]}
    mine = _favourites(own, everyone, most - _RING)
    return ring | {other for other in mine if own in _favourites(other, everyone, most - _RING)}


def kept_besides(chosen: Collection[T], standing: Collection[T], most: int = MAX_NEIGHBOURS) -> list[T]:
    """Which links that stand are kept besides those to the chosen ones: as many as of those do not stand."""
    others = [one for one in standing if one not in chosen]
    lacking = sum(one not in standing for one in chosen)
    return others[: min(lacking, most)]


def ranking_of(piece: bytes, candidates: Iterable[str]) -> list[str]:
    """In which order the candidates fetch a piece for all of them: the highest score first (rendezvous hashing)."""
    return sorted(candidates, key=lambda name: (blake3(_PIECE + piece + name.encode()).digest(), name), reverse=True)


def _favourites(own: str, everyone: Iterable[str], count: int) -> set[str]:
    scored = sorted((name for name in everyone if name != own), key=lambda name: _score(own, name), reverse=True)
    return set(scored[:count])


def _score(one: str, other: str) -> bytes:
    low, high = sorted((one, other))
    return blake3(_PAIR + low.encode() + b"\0" + high.encode()).digest()
