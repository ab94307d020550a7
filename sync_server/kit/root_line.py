"""What the rotations that somebody shows prove of a territory's roots (docs/protocol.md, "Root rotation").

Whoever answers a command may be a thief: what a kit keeps is judged by the door's own rules, as any device judges it.
"""

from __future__ import annotations

from collections.abc import Sequence

from protocol.messages.enrollment import encode_chain, parse_chain
from protocol.model.entry import Entry
from protocol.rights.door import Door, Outcome
from protocol.rights.root_rotation import rotations_in


def roots_in(chain: bytes, first: bytes) -> tuple[bytes, ...]:
    """The roots of a territory, from its first, as far as a chain proves them. Raises `PeerFault`, `TooLarge`."""
    return _door_after(_rotations(chain), first).roots


def rotations_to(root: bytes, chain: bytes, first: bytes) -> bytes | None:
    """The rotations of a chain that lead from the first root to this one, as they are sent; None where none do.

    Raises `PeerFault`, `TooLarge`.
    """
    said = _rotations(chain)
    door = _door_after(said, first)
    return encode_chain([entry for entry in said if door.is_followed(entry.id)]) if door.root_now == root else None


def _rotations(chain: bytes) -> list[Entry]:
    return [entry for entry, _ in rotations_in(parse_chain(chain))] if chain else []


def _door_after(said: Sequence[Entry], first: bytes) -> Door:
    door = Door(first)
    for entry in said:
        if door.examine(entry).outcome is Outcome.ADMIT:
            door.learn(entry)
    return door
