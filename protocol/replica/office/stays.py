"""Access with an end: who is overdue, and the revocations that end it (docs/adr/0031).

A date refuses nothing, because clocks are not trusted: whoever may revoke carries it out when their own clock has
passed it.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from protocol.errors import Refused
from protocol.replica.office.bureau import Office
from protocol.replica.office.grants import ungrant_device
from protocol.rights import Authority


@dataclass(frozen=True, slots=True)
class Stay:
    """A key whose every grant in a space is meant to end; `until_ms` is when the last of them does."""

    key: bytes
    space: bytes
    person: bytes | None
    until_ms: int


def stays(authorities: Iterable[Authority]) -> list[Stay]:
    """The stays among grants that hold, the soonest end first: whoever has one grant for good in a space has none."""
    by_place: defaultdict[tuple[bytes, bytes], list[Authority]] = defaultdict(list)
    for authority in authorities:
        by_place[authority.key, authority.space].append(authority)
    found = []
    for (key, space), grants in by_place.items():
        ends = [grant.until_ms for grant in grants if grant.until_ms is not None]
        if len(ends) == len(grants):
            person = next((grant.person for grant in grants if grant.person is not None), None)
            found.append(Stay(key, space, person, max(ends)))
    return sorted(found, key=lambda stay: (stay.until_ms, stay.key, stay.space))


async def stays_of(office: Office) -> list[Stay]:
    """The stays in the spaces of an office."""
    door = office.replica.door
    limited = {authority.space for authority in door.authorities() if authority.until_ms is not None}
    held: list[Authority] = []
    for space in door.below(office.home):
        if space in limited:
            roster = (await office.replica.view(space)).roster
            held += [each for each in roster.authorities if each.space == space and each.key not in roster.cut]
    return stays(held)


async def end_stays(office: Office) -> int:
    """Revoke what is over by this office's clock, as far as it may; how many stays that ended.

    What it may not take it leaves to who may: a revocation that counts for nothing would be written at every look.
    """
    ended = 0
    for stay in await stays_of(office):
        if stay.until_ms <= office.now_ms():
            with contextlib.suppress(Refused):
                await ungrant_device(office, stay.key, [stay.space])
                ended += 1
    return ended
