"""What a server still holds about somebody who is forgotten."""

from __future__ import annotations

from tests.harness.territory import Territory


async def left(territory: Territory, space: bytes, person: bytes) -> int:
    """How many payloads about somebody a class still holds at the server."""
    arrived = await territory.replica.store.scan(space)
    return sum(one.entry.header.subject == person and one.entry.payload is not None for one in arrived)
