"""Under which of its rights a device says something, where several suffice (docs/adr/0364, 0382).

Whoever has a copy of the server's key writes a device further rights, wider ones, narrower ones, and as somebody else.
They end with that key, and take along what was said under them.

Rules ("Rights"):
- a device is what it was let in as first: the rights that say so, of whose it is, then of its role, go first;
- of these, those in the space into which it was let first;
- whoever runs schools runs them as schools: of rights to do that those in a school go before others;
- then the innermost;
- of one space those that came first.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from protocol.rights.door import Authority, Door
from protocol.roles import RUNS_A_SCHOOL


def in_order(rights: Iterable[Authority], first: Authority | None, door: Door) -> list[Authority]:
    """The `rights` of a device, given as they came: those first under which it speaks. It was let in as `first`."""

    def place(right: Authority) -> tuple[bool, bool, bool, bool, int]:
        is_anothers = first is not None and right.person != first.person
        is_other_role = first is not None and right.role is not first.role
        is_elsewhere = first is not None and right.space != first.space
        depth = len(door.lineage(right.space))
        return is_anothers, is_other_role, is_elsewhere, _is_no_schools(right, door), -depth

    return sorted(rights, key=place)


def _is_no_schools(right: Authority, door: Door) -> bool:
    """Whether it is one to run a school that lies in none: in a class, or around all of them."""
    return right.role in RUNS_A_SCHOOL and door.parent(right.space) != door.territory
