"""What is due once something has come from a neighbour, who is heard as the server is (R18, R19)."""

from __future__ import annotations

import logging
from typing import Final

from protocol.replica.at_work.replica import Heard
from protocol.replica.left_due import LeftDue
from sync_agent.app import Agent
from sync_agent.hand_ins.copies import Copies
from sync_agent.sync.after_news import tend_after_news

MAX_LOOKS_ALONE: Final = 16
"""So often something may follow from what this device itself has said, until something else has come."""

_log = logging.getLogger(__name__)


class AfterNews:
    """Looks at what has come each time that it is told of news. Its own words are such too, and may call for more."""

    def __init__(self, agent: Agent, copies: Copies) -> None:
        self._agent = agent
        self._copies = copies
        self._seen: Heard | None = None
        self._alone = 0

    async def tend(self) -> int:
        """Say what follows from what came; how many entries that took. Raises `LocalFailure`.

        What is due at each look, whoever brings that about, is not said without end.
        """
        replica = self._agent.replica
        if await replica.heard() != self._seen:
            self._alone = 0
        said, left = 0, LeftDue()
        with left.where_there_is_room():
            said += await self._copies.tend()
        if self._alone < MAX_LOOKS_ALONE:
            follows = 0
            with left.where_there_is_room():
                follows = await tend_after_news(self._agent)
            said += follows
            self._alone += follows > 0
            if self._alone == MAX_LOOKS_ALONE:
                _log.warning("there is something to say at each look here; what is left waits for news of others")
        left.tell()
        self._seen = await replica.heard()
        return said
