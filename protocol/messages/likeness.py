"""Where a device stands, told to a neighbour in one line: whether either has anything for the other.

Rules:
- a likeness is one hash for the sets of the spaces in common, and for the content of them that is lacking: who is alike
  has nothing to ask for and nothing to bring;
- beside it stand the cursors of these spaces in the teller's own order of arrival: who is alike has heard of all up to
  there, whoever brought it;
- whatever else is said means that something has moved, no more.

docs/protocol.md, "Neighbours".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from blake3 import blake3

from protocol import canonical
from protocol.canonical import Value
from protocol.identity import tagged
from protocol.limits import CURSOR_HASH_BYTES, LIKENESS_BYTES, MAX_TOLD_CURSORS

MOVED: Final = "moved"

_DOMAIN: Final = b"relais/0 likeness"
_LINE: Final = re.compile(
    rf"{MOVED} ([0-9a-f]{{{2 * LIKENESS_BYTES}}})"
    rf"((?: [0-9]{{1,15}}:[0-9a-f]{{{2 * CURSOR_HASH_BYTES}}}){{0,{MAX_TOLD_CURSORS}}})"
)


@dataclass(frozen=True, slots=True)
class Told:
    """A likeness, and (count, chain) for each space in common in the order of their ids; none where they are many."""

    likeness: bytes
    cursors: tuple[tuple[int, bytes], ...] = ()

    @property
    def text(self) -> str:
        """The line that says it."""
        few = self.cursors if len(self.cursors) <= MAX_TOLD_CURSORS else ()
        return " ".join((MOVED, self.likeness.hex(), *(f"{count}:{chain.hex()}" for count, chain in few)))

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """What a line says, or None for any other."""
        line = _LINE.fullmatch(text)
        if line is None:
            return None
        cursors = (cursor.split(":") for cursor in line[2].split())
        return cls(bytes.fromhex(line[1]), tuple((int(count), bytes.fromhex(chain)) for count, chain in cursors))


def likeness_of(sets: Mapping[bytes, bytes], lacking: Iterable[tuple[bytes, bytes]]) -> bytes:
    """One hash for spaces with their fingerprints, and for what is lacking of their content, as (space, stream)."""
    spaces: list[Value] = [[space, sets[space]] for space in sorted(sets)]
    streams: list[Value] = [[space, stream] for space, stream in sorted(set(lacking))]
    return blake3(tagged(_DOMAIN, canonical.encode([spaces, streams]))).digest(LIKENESS_BYTES)
