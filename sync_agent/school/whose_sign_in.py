"""Whose sign-in is to be set is asked about where their name, or number, was another's on the list (docs/adr/0528).

Rules:
- a card, or a code, is given to whoever the list calls so now, and is good for an id: whoever has the server's key
  exchanges two names by two words, and each child signs in as the other;
- it is asked about where forgetting somebody is: a name that was another's of the list, and was not always theirs
  (docs/adr/0289), another number among those of one name (docs/adr/0523), or the place of one whom the list called so
  and shows no more (docs/adr/0530); nobody else is asked about;
- where the school is run, a word of that computer, or of one that it knows, lets go of whom the list called so too, as
  where somebody is forgotten; on any other the kit's alone does;
- a whole class at once is no yes for anybody: of all names that were exchanged none is the other's excuse.

docs/protocol.md, "Sign-in".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from protocol.replica.office.mentioned import MAX_NAMES_SHOWN
from protocol.replica.office.renumbered import renumbered_in
from protocol.replica.office.replaced import replaced_of
from protocol.replica.office.taken_names import taken_names
from protocol.rights.roster import Roster
from sync_agent.app import Agent
from sync_agent.school.office import list_words


@dataclass(frozen=True, slots=True)
class Asked:
    """Why somebody is asked about: what they were called here `once`, the first name first, or in whose place they are.

    `lost` are, where nothing was `once`, the names of those whom the list called so as well, and has so no more.
    """

    once: Sequence[str] = ()
    lost: Sequence[str] = ()


async def asked_about(agent: Agent, roster: Roster) -> Mapping[bytes, Asked]:
    """Who is asked about on this list, and why."""
    replica = agent.replica
    taken = await taken_names(replica, {person.id: [person.name] for person in roster.persons.values()})
    renumbered = await renumbered_in(replica, roster)
    once: dict[bytes, Sequence[str]] = {
        person: (each.before, each.now) for person, each in renumbered.items() if person in roster.persons
    }
    once |= {person: each.names.names[:MAX_NAMES_SHOWN] for person, each in taken.items()}
    lost: dict[bytes, list[str]] = {}
    for each in await replaced_of(replica, roster.persons, await list_words(agent)):
        if each.space == roster.space and each.person not in once:
            lost.setdefault(each.person, []).append(each.name)
    return {
        person: Asked(once.get(person, ()), lost.get(person, [])[:MAX_NAMES_SHOWN])
        for person in once.keys() | lost.keys()
    }
