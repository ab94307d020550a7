"""What a caller holds of a space already, in three bytes a piece (docs/protocol.md, "Batches").

Rules:
- a name is the first four bytes of the hash of a chunk or of a stream; names ascend, each is written as its distance to
  the one before it, in groups of seven bits, lowest first;
- one set, one encoding; how many there may be is checked while they are read;
- two hashes may have one name: what is left out by mistake is missing afterwards, and asked for in full;
- a byte stands for a name, and they are read for who has a right to an answer only.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from protocol.errors import Code, PeerFault, TooLarge
from protocol.limits import MAX_HELD_NAMES

_NAME_BYTES: Final = 4
_LAST_NAME: Final = (1 << 8 * _NAME_BYTES) - 1
_MOST_GROUPS: Final = 5
_MORE: Final = 0x80


@dataclass(frozen=True, slots=True)
class HeldNames:
    """A set of names, which ascend: four bytes each in memory."""

    names: array[int]

    @classmethod
    def of(cls, hashes: Iterable[bytes]) -> HeldNames:
        """The names of chunks and streams."""
        return cls(_ascending(sorted(set(map(_name, hashes)))))

    def has(self, hashed: bytes) -> bool:
        """Whether a chunk or a stream is among them."""
        name = _name(hashed)
        place = bisect_left(self.names, name)
        return place < len(self.names) and self.names[place] == name

    def encode(self) -> bytes:
        """The set as bytes."""
        out = bytearray()
        before = -1
        for name in self.names:
            step, before = name - before - 1, name
            while step >= _MORE:
                out.append(step % _MORE | _MORE)
                step >>= 7
            out.append(step)
        return bytes(out)

    @classmethod
    def parse(cls, data: bytes) -> HeldNames:
        """The set in `data`. Raises `PeerFault`, `TooLarge`."""
        names = _ascending(())
        before, step, groups = -1, 0, 0
        for byte in data:
            step |= byte % _MORE << 7 * groups
            groups += 1
            if byte >= _MORE:
                if groups == _MOST_GROUPS:
                    raise PeerFault(Code.MALFORMED, "a name of what is held is too long")
                continue
            if groups > 1 and not byte:
                raise PeerFault(Code.NOT_CANONICAL, "a name of what is held is longer than it needs to be")
            before += step + 1
            if before > _LAST_NAME:
                raise PeerFault(Code.MALFORMED, "a name of what is held is too large")
            if len(names) == MAX_HELD_NAMES:
                raise TooLarge(Code.TOO_LARGE, "more is held than a message may name", max=MAX_HELD_NAMES)
            names.append(before)
            step, groups = 0, 0
        if groups:
            raise PeerFault(Code.MALFORMED, "the names of what is held end in the middle of one")
        return cls(names)


def _ascending(names: Iterable[int]) -> array[int]:
    """Of four bytes a name, on every platform that Python has had for long."""
    return array("I", names)


def _name(hashed: bytes) -> int:
    return int.from_bytes(hashed[:_NAME_BYTES], "big")
