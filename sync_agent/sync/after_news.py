"""What is due once something has come, whoever brought it: the server, a neighbour or a stick (R18, R19).

What follows from news must not wait for the server: it may be away for weeks, or in wrong hands; nor for content,
which a line may cut for as long (docs/adr/0595). Whom this device meets, and what was opened, it notes at once:
whoever has the server would else be whom it meets first after weeks among neighbours, and name readers of what it was
told was opened (docs/adr/0270; docs/protocol.md, "Sealed hand-ins"). So it does which reader is gone: they may be back
by the next look (docs/adr/0600). And in the place of a laptop's that was reported meanwhile the teacher's others make
new reading keys: until there is one, new work is sealed to nobody of hers (docs/adr/0271; docs/protocol.md, "Reading
keys").

How much each of these says is bounded by what this device has said before, and by its clock: by whom and how often it
is told of news makes no difference.
"""

from __future__ import annotations

import logging

from protocol.errors import BadInput, Refused
from protocol.replica.left_due import LeftDue
from sync_agent.app import Agent
from sync_agent.hand_ins.known_machines import note_machines
from sync_agent.hand_ins.wraps import tend_hand_ins
from sync_agent.keys.gone_readers import note_who_is_gone
from sync_agent.keys.reading_key import tend_reading_keys
from sync_agent.keys.space_keys import tend_space_keys
from sync_agent.school.sign_in import tend_sign_in

_log = logging.getLogger(__name__)


async def tend_after_news(agent: Agent) -> int:
    """Say what follows from what came; how many entries that took. Raises `LocalFailure`."""
    left, said = LeftDue(), 0
    with left.where_there_is_room():
        await note_machines(agent)
    for tend in (tend_reading_keys, tend_hand_ins, tend_space_keys, tend_sign_in):
        try:
            with left.where_there_is_room():
                said += await tend(agent)
        except (BadInput, Refused) as lost:
            _log.info("this device has lost a right: %s", lost)
    with left.where_there_is_room():
        await note_who_is_gone(agent)
    left.tell()
    return said
