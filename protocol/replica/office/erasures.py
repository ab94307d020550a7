"""Forgetting somebody: one erasure in the widest space of this office, which its replicas receive first (R7, R11).

The server's lies in the territory's space, a head teacher's in the school's, which is as far as her pupils go.

Everywhere it arrives, the folds pass over all that is about the person at once; each replica destroys it a week later
(`protocol.erasing`). The entry names a pseudonymous id and nothing else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from protocol.entry import Kind
from protocol.errors import BadInput, Code, PeerFault
from protocol.kit import Kit
from protocol.replica.office.bureau import Office
from protocol.replica.replica import Draft, Replica
from protocol.structure import Erasure


async def erase_persons(office: Office, persons: Sequence[bytes], kit: Kit | None = None) -> int:
    """Have these people forgotten everywhere; said again, it changes nothing; how many erasures that made.

    Who was added twice goes as one. The kit's word, unlike an office's, counts for as many as it names. Raises
    `BadInput(UNKNOWN_PERSON)`, before anything is said.
    """
    replica, home = office.replica, office.home
    known = {entry.header.subject for entry in await replica.store.scan_kinds([Kind.PERSON, Kind.HAND_IN])}
    for person in persons:
        if person not in known:
            raise BadInput(
                Code.UNKNOWN_PERSON, f"there is no person {person.hex()}; `person list` shows those of a space"
            )
    doubles = {other for person in persons for other in await doubles_of(replica, person)}
    said = await _said(replica, home, by_kit=kit is not None)
    wanted = [person for person in dict.fromkeys([*persons, *sorted(doubles)]) if person not in said]
    drafts = [Draft(home, Kind.ERASE, None, Erasure(person).encode()) for person in wanted]
    if drafts and kit is None:
        await office.say(drafts)
    elif drafts and kit is not None:
        await replica.write(drafts, author=kit.root, now_ms=office.now_ms(), entropy=office.entropy, unsent=False)
    return len(drafts)


async def doubles_of(replica: Replica, person: bytes) -> set[bytes]:
    """The other ids of somebody who was added more than once."""
    found: set[bytes] = set()
    for space in replica.door.spaces():
        aliases = (await replica.view(space)).roster.aliases
        found |= {other for other, one in aliases.items() if one == person}
    return found


async def _said(replica: Replica, home: bytes, *, by_kit: bool) -> set[bytes]:
    """Who is erased here already; by the kit's own word, if that is asked for."""
    roster = (await replica.view(home)).roster
    if not by_kit:
        return set(roster.erased)
    found = set()
    for entry in await replica.store.scan_kinds([Kind.ERASE]):
        if entry.header.space == home and entry.header.grant is None and entry.id not in roster.held_back:
            with contextlib.suppress(PeerFault):
                found.add(Erasure.parse(entry.payload or b"").covers)
    return found
