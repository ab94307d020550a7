"""Payloads of entries of which the header alone is here, though nothing in force erases them: asked for, and given.

The rules are `protocol.replica.at_work.bare_entries`; docs/protocol.md, "Erasure".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from protocol.messages.calls import SyncAnswer, SyncRequest
from protocol.model.entry import Entry
from sync_agent.app import Agent
from sync_agent.transport.sealed_calls import SealedCalls

_ROUNDS_AT_ONCE: Final = 64


class Payloads:
    """What one other replica is asked for, and what it asks for."""

    def __init__(self, agent: Agent, calls: SealedCalls) -> None:
        """Over the calls to the server, or to a neighbour."""
        self._agent = agent
        self._calls = calls
        self._has_begun = False

    async def ask(self) -> int:
        """Ask for what is lacking and was not asked for yet; how many entries are whole now."""
        replica, rounds = self._agent.replica, self._agent.rounds
        taken = 0
        for _ in range(_ROUNDS_AT_ONCE):
            if not (lacking := await replica.bare.lacking()):
                break
            source = (await self._calls.server()).key
            if not self._has_begun:
                rounds.begin(source)
                self._has_begun = True
            ids = rounds.next(source, lacking, await self._agent.spaces())
            if not ids:
                break
            answer = await self._calls.sync(SyncRequest(bare=ids))
            came = _asked_for(answer.whole, ids)
            admission = await replica.admit(came, source=source, now_ms=self._agent.now_ms())
            taken += len(admission.filled)
        return taken

    async def owed(self, answer: SyncAnswer, spaces: Iterable[bytes]) -> list[Entry]:
        """The entries that an answer asks for, and that are whole here, of the spaces that whoever answers may read."""
        return await self._agent.replica.bare.whole(answer.bare, spaces) if answer.bare else []


def _asked_for(entries: Iterable[Entry], ids: Collection[bytes]) -> list[Entry]:
    """Those whose payloads were asked for: anything else would pass by all that bounds what is brought."""
    return [entry for entry in entries if entry.id in ids]
