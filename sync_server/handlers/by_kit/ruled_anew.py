"""What a new root would have to rule anew: the earlier kit's rulings have a server's rank from then on (§5).

Rules:
- against a word that a thief has dated ahead only what stands above any date counts (docs/adr/0275): what the earlier
  kit took back, or let count, may be undone by its rotation, and a week later be destroyed;
- the new root repeats nothing by itself: the earlier kit may have been in other hands. Who has it says each again;
- what changes is found by looking before and after: whatever the rulings and their dates are.
"""

from __future__ import annotations

from typing import NamedTuple

from protocol.replica.office.erasures import in_force
from protocol.replica.office.taking_back import kits_line
from sync_server.opened.app import Server


class Counting(NamedTuple):
    """Who and what is `hidden` by erasures, and which entries are `held` back."""

    hidden: frozenset[bytes]
    held: frozenset[bytes]


async def counting(server: Server) -> Counting:
    """As it is now."""
    hidden = frozenset(covers for _, covers in await in_force(server.replica))
    spaces = server.replica.door.spaces()
    held = frozenset[bytes]().union(*[(await server.replica.view(space)).roster.held_back for space in spaces])
    return Counting(hidden, held)


def to_rule_anew(before: Counting, now: Counting) -> list[str]:
    """What to tell whoever has replaced the root."""
    told = [
        f"{name.hex()} is hidden again, and destroyed in a week: the earlier kit had taken that back, and a word that "
        f"is dated ahead stands above it now. {kits_line(name)}, with the new kit, takes it back for good"
        for name in sorted(now.hidden - before.hidden)
    ]
    if waiting := now.held - before.held:
        told.append(
            f"{len(waiting)} entries that the earlier kit had let count are held back again: `sync-server waiting` "
            "lists them, `accept ID --kit KIT`, with the new kit, lets each count for good"
        )
    return told
