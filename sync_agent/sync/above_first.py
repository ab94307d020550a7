"""What lies above thousands of classes is heard before any of these is folded: the kit's word above all.

Whoever had the server's key makes classes by the thousand, and has each cost what lies above all of them
(docs/adr/0494). The question of a sync names them, and so each would be folded first.

Rules:
- who was let into so many classes, or above them, compares the territory and a few schools of its rights with the
  server, once in each process, before it looks at a class: those that became known first, for nobody makes one now that
  comes before them;
- it takes in what it lacks, as in reconciling, and gives nothing: the sync does, and goes on from its own cursors;
- of a server that refuses this, or answers something else, the sync hears the same.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice
from typing import Final

from protocol.errors import PeerFault, Refused
from protocol.replica.at_work.readers import ever_opened_to
from sync_agent.app import Agent
from sync_agent.sync.reconciling import Reconciling, Taking
from sync_agent.transport.sealed_calls import SealedCalls

MANY_CLASSES: Final = 500
_MOST_ASKED: Final = 4

_log = logging.getLogger(__name__)


async def hear_what_lies_above(agent: Agent, calls: SealedCalls) -> None:
    """Hear of the rights above many classes. Raises `NoAnswer`, `LocalFailure`."""
    if len(ever_opened_to(agent.replica.door, agent.device)) <= MANY_CLASSES:
        return
    reconciling = Reconciling(agent, calls, Taking())
    try:
        for space in list(islice(_above_classes(agent), _MOST_ASKED)):
            await reconciling.reconcile(space)
    except (Refused, PeerFault) as fault:
        _log.info("what lies above many classes was not heard of before these: %s", fault)


def _above_classes(agent: Agent) -> Iterator[bytes]:
    """The territory and the schools in which this device's rights lie, or above them, as they became known."""
    door = agent.replica.door
    line = {above for each in door.authorities_of(agent.device) for above in door.lineage(each.space)}
    return (space for space in door.spaces() if space in line and door.parent(space) in (None, door.territory))
