"""Whose sign-in is to be set is asked about where their name, or number, was another's on the list (docs/adr/0528).

Rules:
- a card, or a code, is given to whoever the list calls so now, and is good for an id: whoever has the server's key
  exchanges two names by two words, and each child signs in as the other;
- it is asked about where forgetting somebody is: a name that was another's of the list, and was not always theirs
  (docs/adr/0289), or another number among those of one name (docs/adr/0523); nobody else is asked about;
- a whole class at once is no yes for anybody: of all names that were exchanged none is the other's excuse.

docs/protocol.md, "Sign-in".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from protocol.replica.at_work.replica import Replica
from protocol.replica.office.mentioned import MAX_NAMES_SHOWN
from protocol.replica.office.renumbered import renumbered_in
from protocol.replica.office.taken_names import taken_names
from protocol.rights.roster import Roster


async def once_called(replica: Replica, roster: Roster) -> Mapping[bytes, Sequence[str]]:
    """Who is asked about on this list, and what they were called here, the first name first."""
    taken = await taken_names(replica, {person.id: [person.name] for person in roster.persons.values()})
    renumbered = await renumbered_in(replica, roster)
    numbers = {person: (each.before, each.now) for person, each in renumbered.items() if person in roster.persons}
    return numbers | {person: each.names.names[:MAX_NAMES_SHOWN] for person, each in taken.items()}
