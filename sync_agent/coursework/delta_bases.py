"""What a publication is told as a change of: the version it follows, and lessons that share much with it.

A lesson that shares less than an eighth of what is to go out is no base: two dozen courses have a style sheet or the
same few members of office documents in common, and each would be compared with another for seconds, in vain.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from protocol.errors import RelaisError
from protocol.folds.coursework import Version
from protocol.replica.content.deltas.delta_build import directory, is_archive, keep_as_delta
from protocol.replica.content.holdings import Need
from protocol.transfer.pack import FinishedPack
from protocol.transfer.zip_directory import shared_bytes
from sync_agent.app import Agent
from sync_agent.coursework.deflating import server_levels

_log = logging.getLogger(__name__)

MAX_LOOKED_AT: Final = 200
MAX_SHARING: Final = 3
MAX_ARCHIVES: Final = 8
WORTH_IT: Final = 1 / 8


async def say_as_delta(
    agent: Agent, space: bytes, stream: bytes, follows: Sequence[Version], packs: Sequence[FinishedPack]
) -> None:
    """Let the publication whose manifest is `stream`, new here with `packs`, go out as a delta where that is less."""
    if not packs:
        return
    try:
        bases = [version.record.content.stream for version in follows]
        bases = [base for base in bases if await agent.holdings.is_complete(Need(space, base, sealed=False))]
        worth_bytes = int(sum(pack.size for pack in packs) * WORTH_IT)
        bases += await _sharing(agent, space, stream, packs, bases, worth_bytes)
        bases += await _alike(agent, space, stream, bases, worth_bytes)
    except RelaisError as failure:
        _log.warning("a publication goes out as it is: %s", failure)
        return
    allowed = await server_levels(agent.replica.store)
    await keep_as_delta(agent.replica.content, space, stream, bases, packs, allowed=allowed)


async def _sharing(
    agent: Agent,
    space: bytes,
    stream: bytes,
    packs: Sequence[FinishedPack],
    bases: Sequence[bytes],
    worth_bytes: int,
) -> list[bytes]:
    """The lessons of the space that hold most of what is neither new nor of `bases`."""
    lists = await agent.holdings.lists(Need(space, stream, sealed=False)) or {}
    shared = {chunk for chunks in lists.values() for chunk in chunks}
    shared.difference_update(*(pack.chunks for pack in packs))
    for base in bases:
        shared.difference_update(await agent.holdings.chunks(Need(space, base, sealed=False)) or ())
    found: list[bytes] = []
    heads = await _heads(agent, space)
    candidates = {
        head: shared.intersection(await agent.holdings.chunks(Need(space, head, sealed=False)) or ())
        for head in (heads if shared else ())
        if head not in (stream, *bases)
    }
    while shared and candidates and len(found) < MAX_SHARING:
        best = max(candidates, key=lambda head: sum(chunk.length for chunk in candidates[head] & shared))
        gain = candidates.pop(best) & shared
        if sum(chunk.length for chunk in gain) <= worth_bytes:
            break
        shared -= gain
        found.append(best)
    return found


async def _alike(agent: Agent, space: bytes, stream: bytes, bases: Sequence[bytes], worth_bytes: int) -> list[bytes]:
    """The lesson whose archives share most members with a new archive that follows no other version."""
    content, manifest = agent.replica.content, agent.holdings.manifest
    if bases:
        return []
    wanted: dict[tuple[int, int], int] = {}
    for file in list(filter(is_archive, await manifest(stream)))[:MAX_ARCHIVES]:
        wanted.update(await directory(content, file))
    best, most = None, worth_bytes
    for head in await _heads(agent, space) if wanted else ():
        if head == stream or not await agent.holdings.is_complete(Need(space, head, sealed=False)):
            continue
        listed = [
            await directory(content, file) for file in list(filter(is_archive, await manifest(head)))[:MAX_ARCHIVES]
        ]
        shared = max((shared_bytes(wanted, members) for members in listed), default=0)
        if shared > most:
            best, most = head, shared
    return [] if best is None else [best]


async def _heads(agent: Agent, space: bytes) -> list[bytes]:
    items = (await agent.replica.view(space)).coursework.items.values()
    return [item.shown.record.content.stream for item in items if not item.withdrawn][-MAX_LOOKED_AT:]
