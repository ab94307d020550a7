"""What a device does for the keys of its spaces: it seals those that it can open to members who lack them.

The server does so at once when it lets somebody in; a device is needed for a server that was made anew, and where there
is none. docs/protocol.md, "Space keys".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from protocol.clock import DAY_MS
from protocol.errors import Refused
from protocol.model.entry import Kind
from protocol.replica.at_work.replica import Draft
from sync_agent.app import Agent

MAX_SEALINGS_A_DAY: Final = 64
"""Entries, each for up to 256 devices: more than come one by one while a school's computers are set up."""
SEALING_PAUSE_MS: Final = 30 * 60_000
SEALED_MARKS: Final = "sealed/"
"""+ kind / space in hex → when this device last sealed keys there unasked, by its own clock."""


def is_enough(ages_ms: Sequence[int], since_ms: int | None) -> bool:
    """Whether who sealed a key so long ago lets whom it finds now wait, and seals to all of them together then.

    `since_ms` is how long ago it last did so unasked, by its own clock; None if it never has.
    """
    is_often = sum(abs(age_ms) < DAY_MS for age_ms in ages_ms) >= MAX_SEALINGS_A_DAY
    return is_often and since_ms is not None and abs(since_ms) < SEALING_PAUSE_MS


async def has_sealed_enough(agent: Agent, space: bytes, kind: Kind) -> bool:
    """Whether this device lets devices without a key wait, as `is_enough` has it.

    Whoever has the server lets in one device after another: what this one may say is not spent on them (docs/adr/0240).
    The dates of its own words go by those of others (docs/adr/0612): how old they are is measured by what it would be
    dated now, and the pause by a mark.
    """
    said = await agent.replica.store.authored(space, agent.device)
    now_ms, last = agent.now_ms(), await agent.replica.store.mark(_mark(space, kind))
    dated_ms = agent.replica.next_ms(now_ms)
    ages_ms = [dated_ms - entry.timestamp_ms for entry in said if entry.header.kind == kind]
    return is_enough(ages_ms, None if last is None else now_ms - int.from_bytes(last, "big"))


async def note_sealing(agent: Agent, drafts: Sequence[Draft]) -> None:
    """Note that these are about to be said unasked: each is a key, sealed to who came."""
    now = agent.now_ms().to_bytes(8, "big")
    if drafts:
        await agent.replica.store.set_marks({_mark(draft.space, draft.kind): now for draft in drafts})


def _mark(space: bytes, kind: Kind) -> str:
    return f"{SEALED_MARKS}{int(kind)}/{space.hex()}"


async def tend_space_keys(agent: Agent) -> int:
    """Seal the keys in force to whom they are for; how many entries that took."""
    async with agent.writing:
        drafts: list[Draft] = []
        for space in await agent.spaces():
            if await agent.keyring.missing(space) and not await has_sealed_enough(agent, space, Kind.SPACE_WRAP):
                try:
                    right = await agent.right(space, Kind.SPACE_WRAP)
                except Refused:
                    continue  # a grant in a class opens the spaces above it, and says nothing there
                drafts += await agent.keyring.wraps_due(space, right.grant, agent.entropy)
        await note_sealing(agent, drafts)
        return await agent.write_unasked(*drafts)
