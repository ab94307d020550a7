"""Which hand-ins were opened for good, by what this device knows (docs/protocol.md, "Sealed hand-ins").

Whoever leaves work out because it was opened asks this, and not what states say: any receipt makes a state, and whoever
has the server lets in as many teachers as they like, who say that they have opened everything (docs/adr/0253).
"""

from __future__ import annotations

from collections.abc import Callable

from protocol.folds.coursework import Work
from protocol.folds.hand_in_keys import is_opened_for_good
from protocol.replica.at_work.keyring import recovery_keys
from sync_agent.app import Agent
from sync_agent.keys.acquaintances import known_in


async def opened_for_good(agent: Agent, space: bytes) -> Callable[[Work], bool]:
    """Whether a hand-in of a space was."""
    roster, known = (await agent.replica.view(space)).roster, known_in(agent, space)
    recovery = await recovery_keys(agent.replica)
    return lambda work: is_opened_for_good(work, roster, recovery, known)


async def still_to_arrive(agent: Agent, space: bytes) -> Callable[[Work], bool]:
    """Whether neither the server, by its receipt, nor who reads it has a hand-in of a space yet."""
    is_opened = await opened_for_good(agent, space)
    return lambda work: not work.at_server and not is_opened(work)
