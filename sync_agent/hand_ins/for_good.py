"""Which hand-ins were opened for good, by what this device knows ("Sealed hand-ins", W16 to W19).

Whoever leaves work out because it was opened asks this, and not what states say: any receipt makes a state, and whoever
has the server lets in as many teachers as they like, who say that they have opened everything (docs/adr/0253).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from protocol.folds.coursework import Work
from protocol.folds.hand_in_keys import Known, is_opened_for_good
from protocol.model.entry import Kind
from protocol.replica.at_work.keyring import recovery_keys_ever
from protocol.rights.keys_in_use import said_as, unknown_words
from protocol.rights.roster import Roster
from sync_agent.app import Agent
from sync_agent.keys.acquaintances import known_in


async def opened_for_good(agent: Agent, space: bytes) -> Callable[[Work], bool]:
    """Whether a hand-in of a space was."""
    roster = (await agent.replica.view(space)).roster
    recovery, known = await recovery_keys_ever(agent.replica), await known_for_good(agent, roster)
    return lambda work: is_opened_for_good(work, roster, recovery, known)


async def known_for_good(agent: Agent, roster: Roster) -> Known:
    """Whom this device knows in a class, and of what words of theirs about keys are hidden there, or destroyed."""
    known = known_in(agent, roster.space)
    # a teacher's later laptops, to which the first one led, are no start of a voice, and are heard of all the same
    persons = (agent.acquainted.first.get(roster.space, {}), agent.acquainted.heard.get(roster.space, {}))
    met = {key for each in persons for devices in each.values() for key, _ in devices}
    said = await agent.replica.said(Kind.PERSON_KEY, roster.space)
    hidden = [entry for entry in said if entry.header.author in met and roster.hides(entry)]
    forgotten = frozenset(person for author, person in unknown_words(said) if author in met)
    return replace(known, hidden_as=said_as(hidden, agent.replica.door), forgotten=forgotten)


async def still_to_arrive(agent: Agent, space: bytes) -> Callable[[Work], bool]:
    """Whether neither the server, by its receipt, nor who reads it has a hand-in of a space yet."""
    works = (await agent.replica.view(space)).coursework.hand_ins.values()
    if all(work.at_server for work in works):
        return lambda work: not work.at_server
    is_opened = await opened_for_good(agent, space)
    return lambda work: not work.at_server and not is_opened(work)
