"""What a device does for the keys of its spaces: it seals those that it can open to members who lack them.

The server does so at once when it lets somebody in; a device is needed for a server that was made anew, and where there
is none. docs/protocol.md, "Space keys".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from protocol.clock import DAY_MS
from protocol.errors import Refused
from protocol.model.entry import Kind
from protocol.replica.at_work.replica import Draft
from sync_agent.app import Agent
from sync_agent.machine.own_times import noting_times, times_in

MAX_SEALINGS_A_DAY: Final = 64
"""Entries, each for up to 256 devices: more than come one by one while a school's computers are set up."""
SEALING_PAUSE_MS: Final = 30 * 60_000
SEALED_MARKS: Final = "sealed/"
"""+ kind / space in hex → when this device last sealed keys there unasked, by its own clock: 8 bytes of ms for each."""


def is_enough(ages_ms: Sequence[int]) -> bool:
    """Whether who sealed keys so long ago lets whom it finds now wait, and seals to all of them together then."""
    is_often = sum(abs(age_ms) < DAY_MS for age_ms in ages_ms) >= MAX_SEALINGS_A_DAY
    return is_often and any(abs(age_ms) < SEALING_PAUSE_MS for age_ms in ages_ms)


async def has_sealed_enough(agent: Agent, space: bytes, kind: Kind) -> bool:
    """Whether this device lets devices without a key wait, as `is_enough` has it.

    Whoever has the server lets in one device after another: what this one may say is not spent on them (docs/adr/0240).
    It goes by what it has noted by its own clock alone: the dates of its words go by those of others, and how far these
    may move them by what a server signs (docs/adr/0621).
    """
    now_ms = agent.now_ms()
    return is_enough([now_ms - at_ms for at_ms in await _sealed_ms(agent, space, kind)])


async def note_sealing(agent: Agent, drafts: Sequence[Draft]) -> None:
    """Note that these are about to be said unasked: each is a key, sealed to who came."""
    now_ms = agent.now_ms()
    for (space, kind), count in Counter((draft.space, draft.kind) for draft in drafts).items():
        times_ms = [*await _sealed_ms(agent, space, kind), *[now_ms] * count]
        await agent.replica.store.set_marks({_mark(space, kind): noting_times(times_ms, MAX_SEALINGS_A_DAY)})


async def _sealed_ms(agent: Agent, space: bytes, kind: int) -> list[int]:
    """By its own clock, as `SEALED_MARKS` has it; an earlier version noted the last time alone."""
    return times_in(await agent.replica.store.mark(_mark(space, kind)))


def _mark(space: bytes, kind: int) -> str:
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
