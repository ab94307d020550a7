"""Of which spaces an export writes nothing, and has to say so.

Rules:
- a bundle is sealed under a key of its space: a space of which this device can open none that may be written under is
  passed over. That is told, by its name, and such an export is not done: sticks are what people fall back on where the
  line is in other hands, and so may be who makes the keys (docs/adr/0560);
- a class that the kit has closed has nothing left to carry, and what is read by way of it alone has no key here; one
  that nobody is in by right gets none from anybody. Of these nothing is told: it would be for good.

docs/protocol.md, "Courier disks".
"""

from __future__ import annotations

from collections.abc import Sequence

from protocol.portable_names import displayable
from protocol.replica.at_work.deserted import deserted_among
from protocol.replica.office.erasures import closed_by_kit
from sync_agent.app import Agent
from sync_agent.space_names import space_names


async def passed_over(agent: Agent, keyless: Sequence[bytes]) -> list[bytes]:
    """Those of the spaces without a key of which that is to be told."""
    if not keyless:
        return []
    door = agent.replica.door
    rights = [each.space for each in await agent.replica.authorities(agent.device)]
    over = await deserted_among(agent.replica, {*keyless, *rights}) | set(await closed_by_kit(agent.replica))

    def is_over(space: bytes) -> bool:
        return not over.isdisjoint(door.lineage(space))

    read = {near for space in rights if not is_over(space) for near in (*door.lineage(space), *door.below(space))}
    return [space for space in keyless if space in read and not is_over(space)]


async def called(agent: Agent, spaces: Sequence[bytes]) -> list[str]:
    """What people call these spaces, each once; by its id one that has no name here."""
    names = await space_names(agent) if spaces else {}
    return list(dict.fromkeys(displayable(names.get(space, space.hex())) for space in spaces))
