"""A class whose year is over is not shown where nothing was heard for long (docs/protocol.md, "Erasure").

A PC that was off for months still holds last year's pupils, and cannot know whether their class was closed. Until it
has heard, it keeps them to itself.

Rules:
- a class names its year; three months after that year's lessons it is past (docs/privacy.md: how long what is kept);
- a past class shows neither people nor work on a machine or relay, unless the server has proven within 30 days that
  this is all that it holds: then whoever runs the territory wants the class to be there;
- a school is never past, whatever a thief says of its year (docs/adr/0604);
- nothing is destroyed, and nothing held back: work that waits goes up, a hand-in that somebody makes is kept;
- the time is that of this machine's clock. One that leads what a server proved by more than five years is wrong, and
  hides nothing; one that is slow hides nothing either. Whoever sets it right sees again what belongs to the day;
- what a server says makes no class past by itself: in wrong hands it would say a late year once, and be silent.
"""

from __future__ import annotations

import datetime as dt
from typing import Final

from protocol.clock import DAY_MS, milliseconds_of
from protocol.replica.at_work.space_names import made_spaces
from protocol.roles import SHARED
from protocol.school_years import past_from_ms
from sync_agent.app import Agent
from sync_agent.coursework.known_as_of import agreed_ms
from sync_agent.space_names import space_names

TRUSTED_FOR_MS: Final = 30 * DAY_MS
BELIEVED_LEAD_MS: Final = 5 * 366 * DAY_MS


def day_ms(own_ms: int, proven_ms: int) -> int:
    """What time it is, as far as a machine can tell whose clock may be wrong."""
    return proven_ms if own_ms > proven_ms + BELIEVED_LEAD_MS else own_ms


def is_past(year: str | None, *, now_ms: int, agreed_ms: int | None) -> bool:
    """Whether a class of this year is not to be shown; `agreed_ms` is when the server last proved that we agree."""
    over_ms = past_from_ms(year)
    if over_ms is None or now_ms < over_ms:
        return False
    return agreed_ms is None or agreed_ms < over_ms or now_ms - agreed_ms > TRUSTED_FOR_MS


async def past_spaces(agent: Agent) -> frozenset[bytes]:
    """The classes of this device that are not to be shown here now."""
    if await agent.role() not in SHARED:
        return frozenset()
    now_ms = day_ms(agent.now_ms(), await _known_ms(agent))
    found = set()
    for space, record in (await made_spaces(agent.replica)).items():
        if record.year is not None and is_past(record.year, now_ms=now_ms, agreed_ms=await agreed_ms(agent, space)):
            found.add(space)
    return frozenset(found)


async def why_nobody(agent: Agent, space: bytes) -> str | None:
    """Why the list of a class is empty here, for who asks for it; None where it is shown."""
    from protocol.replica.office.erasures import closed_by_kit  # noqa: PLC0415 — only for who asks at a console
    from protocol.replica.office.spaces import is_hidden  # noqa: PLC0415 — likewise

    made = (await made_spaces(agent.replica)).get(space)
    name = (await space_names(agent)).get(space) or (space.hex() if made is None else made.name)
    year = None if made is None else made.year
    called = f"the class “{name}”" if year is None else f"the class “{name}” of {year}"
    if space in await closed_by_kit(agent.replica):
        return f"{called} was closed: its list and its pupils' work are gone"
    if await is_hidden(agent.replica, space):
        return f"{called} is hidden at present: its list and its pupils' work are here, and may be shown again"
    if space not in await past_spaces(agent):
        return None
    day = dt.datetime.fromtimestamp(day_ms(agent.now_ms(), await _known_ms(agent)) / 1000, dt.UTC).date()
    return (
        f"{called}, a past year, is not shown on this device, which takes today for {day}: if that is wrong, set its "
        "clock right; what still exists of it comes back with the next exchange with the server"
    )


async def _known_ms(agent: Agent) -> int:
    """A time that has been: what a server proved, else when this device was let in, unless that lies ahead."""
    if agent.replica.proven_ms is not None:
        return agent.replica.proven_ms
    grants = [authority.grant for authority in await agent.replica.authorities(agent.device)]
    entries = (await agent.replica.store.get(grants)).values()
    times = [milliseconds_of(entry.header.at) for entry in entries]
    return max((at for at in times if at <= agent.now_ms()), default=0)
