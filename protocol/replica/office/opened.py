"""What counts as opened where a class is closed, or a computer is lost (docs/protocol.md, "Sealed hand-ins").

Of keys this replica heeds also what is hidden, and that something is destroyed: whoever has the server's keys claims a
teacher's key, and hides hers, or has her forgotten for a week.
"""

from __future__ import annotations

from collections.abc import Callable

from protocol.folds.coursework import Work
from protocol.folds.hand_in_keys import opened_by_the_listed
from protocol.model.entry import Kind
from protocol.replica.at_work.keyring import recovery_keys_ever
from protocol.replica.at_work.replica import Replica
from protocol.rights.keys_in_use import claimed_keys
from protocol.rights.roster import Roster


async def is_opened_by_the_listed(replica: Replica, roster: Roster) -> Callable[[Work], bool]:
    """Whether a work of a class was opened by whom it was meant for, to a replica that remembers nobody."""
    said = [one.entry for one in await replica.store.of_kinds(roster.space, [Kind.PERSON_KEY])]
    return opened_by_the_listed(roster, await recovery_keys_ever(replica), claimed_keys(said, replica.door))
