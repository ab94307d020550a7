"""Forgetting somebody: one erasure in the territory's space, which every replica receives first (R7, R11).

Everywhere it arrives, the folds pass over all that is about the person at once; each replica destroys it a week later
(`protocol.erasing`). The entry names a pseudonymous id and nothing else.
"""

from __future__ import annotations

from protocol.entry import Kind
from protocol.errors import BadInput, Code
from protocol.replica.replica import Draft
from protocol.structure import Erasure
from sync_server.app import Server


async def erase_person(server: Server, person: bytes) -> None:
    """Have somebody forgotten everywhere; said again, it changes nothing. Raises `BadInput(UNKNOWN_PERSON)`."""
    territory = server.replica.territory
    if person in (await server.replica.view(territory)).roster.erased:
        return
    if person not in {entry.header.subject for entry in await server.store.scan_kinds([Kind.PERSON, Kind.HAND_IN])}:
        raise BadInput(Code.UNKNOWN_PERSON, f"there is no person {person.hex()}; `person list` shows those of a space")
    await server.write([Draft(territory, Kind.ERASE, server.grant, Erasure(person).encode())])
