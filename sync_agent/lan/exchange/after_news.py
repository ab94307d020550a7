"""What is due once something has come from elsewhere than the server: a neighbour is heard as the server is (R18, R19).

Whom this device meets, and what was opened, it notes at once: whoever has the server would else be whom it meets first
after weeks among neighbours, and name readers of what it was told was opened (docs/adr/0270; docs/protocol.md, "Sealed
hand-ins").
"""

from __future__ import annotations

import logging

from protocol.errors import BadInput, Refused
from sync_agent.app import Agent
from sync_agent.hand_ins.copies import Copies
from sync_agent.hand_ins.wraps import tend_hand_ins
from sync_agent.keys.space_keys import tend_space_keys
from sync_agent.school.sign_in import tend_sign_in

_log = logging.getLogger(__name__)


async def tend_after_news(agent: Agent, copies: Copies) -> int:
    """Say what follows from what came; how many entries that took. Raises `LocalFailure`."""
    said = await copies.tend()
    try:
        said += await tend_hand_ins(agent)
        said += await tend_space_keys(agent)
        said += await tend_sign_in(agent)
    except (BadInput, Refused) as lost:
        _log.info("this device has lost a right: %s", lost)
    return said
