"""Whose rights are in doubt: of a key that was cut off, what goes on counting may still be on its way (R4, R6).

A revocation names heads: what led to them counts on. Whoever has heard of it and not yet of all that led there, as many
have after new keys for the server, takes for cut off whom these keys had let in: neighbours, and itself.

Rules:
- in doubt is who holds a grant that is held back with who wrote it, and whose own key nobody has cut off;
- whoever is in doubt, or takes another for it, hears what the other one says of the spaces that hang on that, through
  the ordinary door; nothing is given to anybody, and nothing is open, before the fold says so.

docs/protocol.md, "Neighbours".
"""

from __future__ import annotations

from protocol.rights.door import Authority
from sync_agent.app import Agent


async def grants_in_doubt(agent: Agent, device: bytes) -> list[Authority]:
    """The grants of a device that are held back here although nobody has cut its own key off."""
    replica, found = agent.replica, list[Authority]()
    for authority in replica.door.authorities_of(device):
        roster = (await replica.view(authority.space)).roster
        if authority.grant in roster.held_back and device not in roster.reported:
            found.append(authority)
    return found


async def spaces_in_doubt(agent: Agent) -> set[bytes]:
    """The spaces that are not open to this device for as long as it is in doubt."""
    door = agent.replica.door
    doubted = await grants_in_doubt(agent, agent.device)
    if not doubted:
        return set()
    spaces = {space for each in doubted for space in (*door.below(each.space), *door.lineage(each.space))}
    return spaces - (await agent.spaces()).keys() - {door.territory}


async def spaces_to_hear_of(agent: Agent, device: bytes) -> set[bytes]:
    """The spaces of which what a device says may show whose rights count: it is in doubt, or this one is."""
    found = await spaces_in_doubt(agent)
    if await grants_in_doubt(agent, device):
        found |= (await agent.spaces()).keys()
    return found - {agent.replica.territory}
