"""Forgetting somebody: one erasure in the widest space of this office, which its replicas receive first (R7, R11).

The server's lies in the territory's space, a head teacher's in the school's, which is as far as her pupils go.

Everywhere it arrives, the folds pass over all that is about the person at once; each replica destroys it a week later
(`protocol.erasing`). The entry names a pseudonymous id and nothing else.
"""

from __future__ import annotations

from protocol.entry import Kind
from protocol.errors import BadInput, Code
from protocol.replica.office.bureau import Office
from protocol.replica.replica import Draft
from protocol.structure import Erasure


async def erase_person(office: Office, person: bytes) -> None:
    """Have somebody forgotten everywhere; said again, it changes nothing. Raises `BadInput(UNKNOWN_PERSON)`."""
    home = office.home
    if person in (await office.replica.view(home)).roster.erased:
        return
    known = await office.replica.store.scan_kinds([Kind.PERSON, Kind.HAND_IN])
    if person not in {entry.header.subject for entry in known}:
        raise BadInput(Code.UNKNOWN_PERSON, f"there is no person {person.hex()}; `person list` shows those of a space")
    await office.say([Draft(home, Kind.ERASE, None, Erasure(person).encode())])
