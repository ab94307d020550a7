"""What counts as opened where a class is closed, or a computer is lost (docs/protocol.md, "Sealed hand-ins").

Of keys this replica heeds also what is hidden, and that something is destroyed: whoever has the server's keys claims a
teacher's key, and hides hers, or has her forgotten for a week. And it goes by who came here first, where her key was
kept from a PC: what whoever has those keys says later comes later (docs/adr/0320); of two teachers of one name, who
came to it later counts by the word of another alone, since people know the name (docs/adr/0391).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from protocol.folds.coursework import Work
from protocol.folds.hand_in_keys import opened_by_the_listed
from protocol.model.entry import Entry, Kind
from protocol.replica.at_work.keyring import recovery_keys_ever
from protocol.replica.at_work.replica import Replica
from protocol.replica.office.called_here import namesakes_before
from protocol.rights.door import Door
from protocol.rights.keys_in_use import claimed_keys, says_a_key
from protocol.rights.roster import Roster
from protocol.rights.vouching import Device
from protocol.roles import HAS_READING_KEYS


async def is_opened_by_the_listed(replica: Replica, roster: Roster) -> Callable[[Work], bool]:
    """Whether a work of a class was opened by whom it was meant for, to the server."""
    said = await replica.said(Kind.PERSON_KEY, roster.space)
    claimed, first = claimed_keys(said, replica.door), first_here(said, replica.door)
    teachers = {one.id: one.name for one in roster.teachers}
    before = await namesakes_before(replica, roster, teachers)
    later = frozenset(person for person, others in before.items() if others)
    return opened_by_the_listed(roster, await recovery_keys_ever(replica), claimed, first, later)


def first_here(said: Iterable[Entry], door: Door) -> frozenset[Device]:
    """The device whose word about its reading key came first, of those `said` in a class, in order of arrival.

    Hidden or destroyed as well: else whoever hides her is the first.
    """
    for entry in said:
        author = door.authority(entry.header.grant)
        if author is None or author.person is None or author.role not in HAS_READING_KEYS or not says_a_key(entry):
            continue
        if author.person == entry.header.subject:
            return frozenset([author.pair])
    return frozenset()
