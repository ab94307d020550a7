"""Which content an answer asks its caller for: what should lie here and does not, so that any holder sends it.

Where that is more than an answer names, the caller's own work comes first, and the rest in turn from call to call:
nobody keeps the work of others from being asked for by naming what does not exist. docs/protocol.md, "Sync".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from protocol.messages.parts import Wanted
from protocol.replica.answering.scope import Scope
from protocol.replica.at_work.replica import Replica
from protocol.replica.content.holdings import Holdings, Need, work_need
from protocol.rights.door import Authority

_MAX_LACKS: Final = 200


class Lacks:
    """What is lacking in the `scope` of one replica, and how far each device has been asked."""

    def __init__(self, replica: Replica, holdings: Holdings, scope: Scope) -> None:
        self._replica = replica
        self._holdings = holdings
        self._scope = scope
        self._asked_up_to: dict[bytes, int] = {}

    async def asked_of(self, device: bytes, readable: Mapping[bytes, Authority]) -> list[Wanted]:
        """As much as an answer names of what is lacking in the spaces that a caller reads."""
        needs = [need for space in readable for need in await self._scope.needs(space)]
        doubtful = self._holdings.doubtful(needs)
        if len(doubtful) <= _MAX_LACKS:
            missing = await self._holdings.incomplete(doubtful)
            self._asked_up_to.pop(device, None)
        else:
            missing = await self._in_turn(device, needs, await self._work_of(device, readable))
        return [Wanted(need.space, need.stream) for need in missing]

    async def _in_turn(self, device: bytes, needs: Sequence[Need], own: set[Need]) -> list[Need]:
        """As much as an answer names; each need is looked up once at most."""
        first = self._asked_up_to.get(device, 0) % len(needs)
        in_turn = [need for need in (*needs[first:], *needs[:first]) if need not in own]
        mine = await self._holdings.incomplete([need for need in needs if need in own], most=_MAX_LACKS)
        most = max(_MAX_LACKS // 2, _MAX_LACKS - len(mine))
        others = await self._holdings.incomplete(in_turn, most=most)
        if len(others) == most:
            self._asked_up_to[device] = needs.index(others[-1]) + 1
        else:
            self._asked_up_to.pop(device, None)
        return [*mine[: _MAX_LACKS - len(others)], *others]

    async def _work_of(self, device: bytes, spaces: Iterable[bytes]) -> set[Need]:
        """The work that a device, or one that it was copied from, has handed in."""
        origin = self._replica.door.origin
        return {
            work_need(work)
            for space in spaces
            for work in (await self._replica.view(space)).coursework.hand_ins.values()
            if origin(work.author) == origin(device)
        }
