"""Whether a device that grants name as somebody's speaks for them, before an office takes it along (docs/adr/0142).

docs/protocol.md, "Confirmed devices".
"""

from __future__ import annotations

from collections.abc import Sequence

from protocol.replica.office.bureau import Office
from protocol.rights import Authority
from protocol.roles import HAS_READING_KEYS, RANK, Role
from protocol.vouching import Device


async def is_spoken_for(office: Office, person: bytes, device: Device, known: Sequence[Authority]) -> bool:
    """Whether a device speaks for its person somewhere, or none does yet: the server calls any device anybody's.

    The server asks nobody: what it says itself it need not doubt, and what it lets in is believed by nobody for that.
    """
    if office.rank >= RANK[Role.SERVER] or known[0].role not in HAS_READING_KEYS:
        return True
    does_any = False
    for space in dict.fromkeys(below for grant in known for below in office.replica.door.below(grant.space)):
        roster = (await office.replica.view(space)).roster
        speaking = roster.speaking.get(roster.who(person), frozenset())
        if device in speaking:
            return True
        does_any = does_any or bool(speaking)
    return not does_any
