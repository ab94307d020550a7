"""Hearing where there is no room: on a full disk of one's own, and of one who answers (R12; docs/protocol.md, "Sync").

Rules (docs/adr/0587):
- whoever asks, and finds no room for a note, for work, or for lessons, hears all the same: it compares each space with
  the other side, takes what it lacks and gives nothing. So what has room in the ballast comes in, space by space, and
  none that has no room keeps the others from being heard;
- of many spaces those above go first, and of the others some each time, in turn;
- who answers says of the entries that it was brought which found no room there: they stay in the outbox, and that is
  told at the end.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from protocol.errors import PeerFault, Refused
from protocol.replica.left_due import LeftDue
from sync_agent.app import Agent
from sync_agent.sync.after_news import tend_after_news
from sync_agent.sync.reconciling import Reconciling

_MOST_ASKED: Final = 32
"""Of so many spaces above classes, and of so many classes, at one time."""

_log = logging.getLogger(__name__)


class HearingAlone:
    """Hears, and says nothing."""

    def __init__(self, agent: Agent) -> None:
        """Nothing was heard so yet."""
        self._agent = agent
        self._asked = 0

    async def hear(self, reconciling: Reconciling, spaces: Sequence[bytes]) -> None:
        """Take what there is room for of these spaces, parents before children. Raises `NoAnswer`."""
        before = await self._agent.replica.heard()
        for space in self._in_turn(spaces):
            with LeftDue().where_there_is_room():
                try:
                    await reconciling.reconcile(space)
                except (Refused, PeerFault) as fault:
                    _log.info("nothing was heard of %s: %s", space.hex(), fault)
        if await self._agent.replica.heard() != before:
            with LeftDue().where_there_is_room():
                await tend_after_news(self._agent)

    def _in_turn(self, spaces: Sequence[bytes]) -> list[bytes]:
        door = self._agent.replica.door
        above = [space for space in spaces if door.parent(space) in (None, door.territory)][:_MOST_ASKED]
        below = [space for space in spaces if space not in above]
        first = self._asked % len(below) if below else 0
        chosen = [*below[first:], *below[:first]][:_MOST_ASKED]
        self._asked = first + len(chosen)
        return [*above, *chosen]
