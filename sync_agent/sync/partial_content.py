"""Content of which a part is here: when to say what is held, and ask for the rest only (docs/protocol.md, "Batches").

What was copied from elsewhere, what made way, what a neighbour brought, an edit whose base the server does not know:
the packs that the server names hold much that is here under other names. Saying so costs three bytes a piece and a
round trip; it is done where a lesson is known in part, and its packs weigh several times that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from protocol.limits import MAX_HELD_NAMES, KiB
from protocol.messages.held_names import HeldNames
from protocol.messages.parts import Link, Wanted
from sync_agent.app import Agent

MIN_LEFT_BYTES: Final = 128 * KiB
_BYTES_PER_NAME: Final = 3
_TIMES: Final = 4


async def partly_held(agent: Agent, want: Iterable[Wanted], links: Sequence[Link]) -> dict[bytes, HeldNames]:
    """The spaces of which it pays to say what is held before `links`, which answer these wishes, are followed."""
    found: dict[bytes, HeldNames] = {}
    room = MAX_HELD_NAMES
    for space in dict.fromkeys(wish.space for wish in want):
        streams = [wish.stream for wish in want if wish.space == space]
        left = await _left_bytes(agent, [link for link in links if link.space == space])
        if left < MIN_LEFT_BYTES or not await _is_begun(agent, space, streams):
            continue
        names = await agent.replica.content.held_names(space, room)
        if 0 < len(names) * _BYTES_PER_NAME * _TIMES < left:
            found[space] = HeldNames.of(names)
            room -= len(names)
    return found


async def _left_bytes(agent: Agent, links: Iterable[Link]) -> int:
    """What is still to come of the packs that these links name."""
    content = agent.replica.content
    left = 0
    for link in links:
        if await content.pack(link.pack) is None:
            left += link.size - await content.part_size(link.pack)
    return left


async def _is_begun(agent: Agent, space: bytes, streams: Sequence[bytes]) -> bool:
    """Whether some of what is wished for, or of another version of it, is known here."""
    items = (await agent.replica.view(space)).coursework.items.values()
    families = [{version.record.content.stream for version in item.versions.values()} for item in items]
    related = set(streams).union(*(family for family in families if not family.isdisjoint(streams)))
    return bool(await agent.replica.content.known_streams(sorted(related)))
