"""What the rotations that somebody shows prove of a territory's roots (docs/protocol.md, "Root rotation").

Whoever answers a command may be a thief: what a kit keeps is judged by the door's own rules, as any device judges it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from protocol.clock import rfc3339
from protocol.messages.enrollment import encode_chain, parse_chain
from protocol.model.entry import Entry, kind_name, signature_holds
from protocol.replica.console.text import local_time
from protocol.rights.door import Door, Outcome
from protocol.rights.root_rotation import RootRotation, accounted, rotations_in
from protocol.trust.kit import Kit

MAX_SHOWN: Final = 4_096
"""Of so many words that a root has signed the command is shown what they are; who stole a kit may sign without end."""


@dataclass(frozen=True, slots=True)
class Left:
    """What a rotation leaves of what the root before had signed: what `stays`, and how many words are `lacking`.

    Lacking are those that others name as said before them, and that whoever shows them has not.
    """

    stays: Sequence[Entry]
    lacking: int

    def told(self) -> str:
        """What to say to whoever has the kit. What is not in it counts no more."""
        counted = Counter(kind_name(each.header.kind) for each in self.stays)
        kinds = ", ".join(f"{count} × {kind}" for kind, count in counted.items())
        latest = local_time(rfc3339(max(each.timestamp_ms for each in self.stays)) or "")
        return (
            f"of what the kit so far has signed for the territory this stays: {kinds}; the latest of {latest}. What "
            "it has signed besides counts no more, but for what `sync-server accept ID --kit KIT` lets stand, with the "
            "new kit"
        )


def left_by(entry: Entry, rotation: RootRotation, accounts: Mapping[bytes, Entry], evidence: Iterable[Entry]) -> Left:
    """What a rotation's entry leaves of the `evidence`: what it names, by itself or by accounts, and what led to that.

    A thief shows what he likes, and nothing that the root has not signed: he may leave out its latest words alone.
    """
    shown = {
        each.id: each
        for each in evidence
        if each.header.author == entry.header.author and each.header.grant is None and signature_holds(each)
    }
    stays: dict[bytes, Entry] = {}
    lacking: set[bytes] = set()
    pending = [*accounted(rotation.heads, accounts), *entry.header.prev]
    while pending:
        name = pending.pop()
        if (found := shown.get(name)) is not None and name not in stays:
            stays[name] = found
            pending += found.header.prev
            lacking.update(earlier for earlier in found.header.prev if earlier not in shown)
    is_whole = len(shown) < MAX_SHOWN
    return Left(tuple(stays.values()), len(lacking) if is_whole else 0)


def roots_in(chain: bytes, first: bytes) -> tuple[bytes, ...]:
    """The roots of a territory, from its first, as far as a chain proves them. Raises `PeerFault`, `TooLarge`."""
    return _door_after(_rotations(chain), first).roots


def roots_before(kit: Kit) -> set[bytes]:
    """The territory's roots before that of a kit, which holds the rotations that prove them."""
    return set() if kit.first_root is None else {*roots_in(kit.chain, kit.first_root)} - {kit.root.public}


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
