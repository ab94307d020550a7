"""Rights that were taken from this device: how it learns of them, and which spaces they ended (R4).

A device that may not read a space any more is not sent its entries, and so not the revocation either. Whoever answers
shows it that one, with what proves it: it goes through the ordinary door, and what follows is the fold's. Nothing is
believed without it. docs/protocol.md, "Withdrawn rights".
"""

from __future__ import annotations

from collections.abc import Sequence

from protocol.errors import Code, PeerFault, Refused, RelaisError
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Grant
from protocol.replica.office.mentioned import day_of
from sync_agent.app import Agent
from sync_agent.coursework.closed_classes import none_but_closed
from sync_agent.school.own_stay import own_stay
from sync_agent.space_names import space_names


async def take_withdrawals(agent: Agent, proofs: Sequence[Entry], source: bytes) -> None:
    """Admit what was shown; what the device may read is then what the set says."""
    if proofs:
        await agent.replica.admit(proofs, source=source, now_ms=agent.now_ms(), hold=False, bounded=True)


async def take_withdrawals_with(agent: Agent, refusal: RelaisError, source: bytes) -> None:
    """The same, of what came with a refusal of everything."""
    proofs = refusal.facts.get("withdrawn")
    if isinstance(proofs, tuple):
        await take_withdrawals(agent, proofs, source)


async def as_meant(agent: Agent, refusal: RelaisError) -> Refused | None:
    """What to tell people instead of a refusal of everything, where this device's time was meant to be over by now."""
    until = await _time_over(agent) if refusal.code is Code.REVOKED else None
    if until is None:
        return None
    return Refused(Code.REVOKED, f"{until}, and has ended; ask the school if it is to go on", **refusal.facts)


async def _time_over(agent: Agent) -> str | None:
    """Until when this device's access was meant to last, if that is past and it has none any more."""
    stay = await own_stay(agent, is_refused=True)
    if stay is None or not stay.is_ended or stay.until_ms > agent.now_ms():
        return None
    return f"the access of this computer was until {day_of(stay.until_ms)}"


def lets_in(entry: Entry, device: bytes) -> bool:
    """Whether an entry is a grant for a device."""
    if entry.header.kind != Kind.GRANT:
        return False
    try:
        return Grant.parse(entry.payload or b"").signing == device
    except PeerFault:
        return False


async def ended_names(agent: Agent) -> list[str]:
    """The names of the classes that this device has lost, for people."""
    ended = await agent.ended_classes()
    names = await space_names(agent) if ended else {}
    return sorted(names.get(space, space.hex()) for space in ended)


async def why_not_listed(agent: Agent) -> list[str]:
    """What a list of coursework or work lacks, for who asks for it: classes that this device lost, or were closed."""
    said = []
    if ended := await ended_names(agent):
        revoked = await _time_over(agent) or "this computer was revoked"
        was = revoked if await agent.role() is None else "the access of this computer has ended"
        kept = "what was made here and has not gone out is kept, and waits until it is let in again"
        said.append(f"not listed, since {was}: {', '.join(ended)}; {kept}")
    for closed in await none_but_closed(agent):
        was = "it was closed" if closed.by_kit else "it is hidden, by another than the recovery kit"
        said.append(f"not listed, since {was}: {closed.name}")
    return said
