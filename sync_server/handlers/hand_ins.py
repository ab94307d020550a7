"""Hand-ins as the server may see them: that they are, of whom and when, never what is in them."""

from __future__ import annotations

from protocol.coursework import Work
from sync_server.app import Server


async def list_hand_ins(server: Server, space: bytes) -> list[Work]:
    """The hand-ins of a space, the oldest first."""
    works = (await server.replica.view(space)).coursework.hand_ins.values()
    return sorted(works, key=lambda work: (work.at_ms, work.id))
