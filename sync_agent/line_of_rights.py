"""What this device's rights hang on, brought to a server that lacks it (R4, R7; docs/protocol.md, "Withdrawn rights").

A revocation names heads: what led to them counts on. A server that was made anew may hold the revocation of the keys
that let this device in (those of a server before it, say, which were replaced), and not yet what led to its heads here:
then it takes the device for one that was cut off, and would never hear the rest of it.

Rules:
- only who may read by its own set brings anything: a device that was cut off believes the revocation that it was shown;
- it brings what the revoked keys have said, parents before children, whatever the answers are; once to each server;
- what the server makes of that is its door's and its fold's to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from protocol.entry import Entry
from protocol.errors import Code, Refused
from protocol.limits import FIRST_PUSH_BYTES
from protocol.messages import SyncRequest
from sync_agent.app import Agent
from sync_agent.sealed_calls import SealedCalls


class LineOfRights:
    """Of one agent, towards its server."""

    def __init__(self, agent: Agent, calls: SealedCalls) -> None:
        self._agent = agent
        self._calls = calls
        self._brought: set[tuple[bytes, bytes]] = set()
        """The spaces of which it was brought, each with the key of the server."""

    async def bring(self, spaces: Iterable[bytes]) -> bool:
        """Bring what led to the revocations of those who let this device into `spaces`; whether there was any.

        Raises what `SealedCalls.sync` raises but for `Refused(REVOKED)`.
        """
        server = (await self._calls.server()).key
        due = [space for space in spaces if (server, space) not in self._brought]
        said = await self._said(due)
        for page in _pages(said):
            try:
                await self._calls.sync(SyncRequest(push=page))
            except Refused as refusal:
                # as long as something is lacking there it says so, and has taken what it was brought
                if refusal.code is not Code.REVOKED:
                    raise
        self._brought.update((server, space) for space in due)
        return bool(said)

    async def _said(self, spaces: Sequence[bytes]) -> list[Entry]:
        """What the keys have said that are revoked and let this device in; parents before children."""
        replica, said = self._agent.replica, list[Entry]()
        if not spaces:
            return said
        cuts = set(await replica.revocations_against(self._agent.device, spaces))
        for space in spaces:
            in_force = (await replica.view(space)).roster.revocations
            for key in dict.fromkeys(key for name, key in in_force.items() if name in cuts):
                said += await replica.store.authored(space, key)
        return said


def _pages(entries: Iterable[Entry]) -> Iterator[tuple[Entry, ...]]:
    """What one request takes of them, and the next."""
    page: list[Entry] = []
    size = 0
    for entry in entries:
        if page and size + entry.wire_bytes > FIRST_PUSH_BYTES:
            yield tuple(page)
            page, size = [], 0
        page.append(entry)
        size += entry.wire_bytes
    if page:
        yield tuple(page)
