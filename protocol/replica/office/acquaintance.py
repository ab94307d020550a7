"""How well an office knows a device that grants call somebody's, before it takes it along (docs/adr/0145).

Whoever runs the server calls any device anybody's, cuts off and lets back in, and shows an office what it likes. What
an office has met before, and what a human confirmed on it, stays: from there words of confirmation lead on.

docs/protocol.md, "Confirmed devices".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from enum import Enum

from protocol.replica.office.bureau import Office
from protocol.rights import Authority
from protocol.roles import HAS_READING_KEYS, RANK, Role
from protocol.roster import Roster
from protocol.vouching import Device


class Acquaintance(Enum):
    """`KNOWN` comes along; `NEW`, the only one of somebody of whom nothing was met, does and is told; `UNKNOWN` not."""

    KNOWN = "known"
    NEW = "new"
    UNKNOWN = "unknown"


async def acquaintance_with(office: Office, person: bytes, device: Device, known: Sequence[Authority]) -> Acquaintance:
    """How well an office knows a device with these grants as a person's.

    Known is what was confirmed as this person's on the office's own machine, and what that leads to. Besides, what
    every device leads to that was met first for this id: the id as granted, for lists may call anybody the same as
    anybody. What was said by who is held back leads nowhere: in doubt a device stays out, and a human is told.

    The server asks nobody: what it says itself it need not doubt, and what it lets in is believed by nobody for that.
    A PC that is called a teacher's besides comes in as the teacher's.
    """
    if office.rank >= RANK[Role.SERVER] or not any(grant.role in HAS_READING_KEYS for grant in known):
        return Acquaintance.KNOWN
    rosters = [(await office.replica.view(space)).roster for space in office.replica.door.spaces()]
    leading = _leading_to(device, _own_words(rosters))
    met = office.met_first(person)
    if leading & _confirmed_by(office.own_device, person, rosters) or (met and met <= leading):
        return Acquaintance.KNOWN
    return Acquaintance.UNKNOWN if met or _called(office, person) != {device} else Acquaintance.NEW


def _called(office: Office, person: bytes) -> set[Device]:
    """All that any grant ever called a teacher's, held back or not."""
    return {
        (grant.key, grant.agreement)
        for grant in office.replica.door.authorities()
        if grant.person == person and grant.role in HAS_READING_KEYS
    }


def _confirmed_by(voice: Device, person: bytes, rosters: Sequence[Roster]) -> set[Device]:
    """The devices that one has confirmed as a person's, as they were shown to a human."""
    said = (word for roster in rosters for word in roster.voices.words.get(voice, ()))
    return {word.device for word in said if word.shown == person}


def _own_words(rosters: Sequence[Roster]) -> dict[Device, set[Device]]:
    """By which others each device was confirmed as one of their own, in whatever class."""
    confirmed_by: defaultdict[Device, set[Device]] = defaultdict(set)
    for roster in rosters:
        for by, words in roster.voices.words.items():
            for word in words:
                if word.is_own:
                    confirmed_by[word.device].add(by)
    return confirmed_by


def _leading_to(last: Device, confirmed_by: Mapping[Device, Collection[Device]]) -> set[Device]:
    """The devices from which words of confirmation lead to one, itself among them."""
    found, new = {last}, [last]
    while new:
        fresh = set(confirmed_by.get(new.pop(), ())) - found
        found |= fresh
        new += fresh
    return found
