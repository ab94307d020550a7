"""The content key of a hand-in: found by what it opens, not by who said it (docs/protocol.md, "Sealed hand-ins").

Rules:
- any device of the class may seal a key to any reader: one that is false opens nothing, and the next one is tried;
- where the content has not come yet, the key of whom to believe most stands for all;
- to others goes only what opens the content, or, where that does not lie here, what its author sealed, or a device that
  this one has confirmed: any other key waits (docs/adr/0581).
"""

from __future__ import annotations

from collections.abc import Container
from contextlib import aclosing

from protocol.errors import Code, LocalFailure, PeerFault
from protocol.folds.coursework import Work
from protocol.folds.hand_in_keys import content_keys_of
from protocol.replica.content.holdings import work_need
from protocol.trust.sealing import SealReader
from sync_agent.app import Agent
from sync_agent.keys.key_wraps import reading_keys


async def opening_key(agent: Agent, work: Work) -> bytes | None:
    """The content key that one of this device's reading keys has of a hand-in; None where none has any."""
    most_believed: bytes | None = None
    begins: tuple[bytes, bool] | None = None
    for key in content_keys_of(work, reading_keys(agent)):
        if most_believed is None:
            most_believed, begins = key, await _begins(agent, work)
        if begins is None or _opens(key, *begins):
            return key
    return most_believed


async def sure_key(agent: Agent, work: Work, sure: Container[bytes]) -> bytes | None:
    """The content key that others may be given; None where no key is sure, yet or at all.

    `sure` are the devices from which each reader would count as given it: what they sealed is no less true passed on.
    """
    keys = reading_keys(agent)
    sealed = tuple(wrap for key in sorted(keys) for wrap in work.readers.get(key, ()))
    if agent.sealed_in_vain.get(work.id) == sealed:
        return None
    begins = await _begins(agent, work)
    if begins is None:
        return next(content_keys_of(work, keys, by=sure), None)
    found = next((key for key in content_keys_of(work, keys) if _opens(key, *begins)), None)
    if found is None:
        agent.sealed_in_vain[work.id] = sealed
    return found


async def _begins(agent: Agent, work: Work) -> tuple[bytes, bool] | None:
    """The first sealed chunk, and whether it is the last; None where it cannot be read."""
    stream = work.record.content.stream
    if not await agent.holdings.is_complete(work_need(work)):
        return None
    chunks = await agent.replica.content.chunk_list(stream) or ()
    try:
        async with aclosing(agent.holdings.read_checked(stream)) as sealed:
            async for chunk in sealed:
                return chunk, len(chunks) == 1
    except LocalFailure:
        return None
    return None


def _opens(content_key: bytes, chunk: bytes, is_last: bool) -> bool:
    """Whether the chunk is under that key. One that its author packed wrongly is."""
    try:
        SealReader(content_key).feed(chunk, last=is_last)
    except PeerFault as fault:
        return fault.code is not Code.BAD_SEAL
    return True
