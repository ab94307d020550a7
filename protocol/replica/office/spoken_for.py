"""Whether a device that grants name as somebody's speaks for them, before an office takes it along (docs/adr/0142).

docs/protocol.md, "Confirmed devices".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from protocol.replica.office.bureau import Office
from protocol.rights import Authority
from protocol.roles import HAS_READING_KEYS, RANK, Role
from protocol.vouching import Device


async def is_spoken_for(office: Office, person: bytes, device: Device, known: Sequence[Authority]) -> bool:
    """Whether all devices that speak for its person, in whatever class, lead to it: the server calls any anybody's.

    In a class that the server made, a device of its own speaks for whom it likes, and says of theirs that they are its
    own; but they say nothing of it. A PC that is called a teacher's besides comes in as the teacher's.

    The server asks nobody: what it says itself it need not doubt, and what it lets in is believed by nobody for that.
    """
    if office.rank >= RANK[Role.SERVER] or not any(grant.role in HAS_READING_KEYS for grant in known):
        return True
    others: set[Device] = set()
    confirmed_by: defaultdict[Device, set[Device]] = defaultdict(set)
    for space in office.replica.door.spaces():
        roster = (await office.replica.view(space)).roster
        others |= roster.speaking.get(roster.who(person), frozenset()) - {device}
        for by, words in roster.voices.words.items():
            for word in words:
                if word.is_own:
                    confirmed_by[word.device].add(by)
    return others <= _leading_to(device, confirmed_by)


def _leading_to(last: Device, confirmed_by: Mapping[Device, Collection[Device]]) -> set[Device]:
    """The devices from which words of confirmation lead to one."""
    found, new = {last}, [last]
    while new:
        fresh = set(confirmed_by.get(new.pop(), ())) - found
        found |= fresh
        new += fresh
    return found
