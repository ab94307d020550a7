"""Rights that were taken from this device: how it learns of them, and which spaces they ended (R4).

A device that may not read a space any more is not sent its entries, and so not the revocation either. Whoever answers
shows it that one, with what proves it: it goes through the ordinary door, and what follows is the fold's. Nothing is
believed without it. docs/protocol.md, "Withdrawn rights".
"""

from __future__ import annotations

from collections.abc import Sequence

from protocol.errors import PeerFault, RelaisError
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Grant
from sync_agent.app import Agent
from sync_agent.coursework.closed_classes import none_but_closed
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
        was = "this computer was revoked" if await agent.role() is None else "the access of this computer has ended"
        kept = "what was made here and has not gone out is kept, and waits until it is let in again"
        said.append(f"not listed, since {was}: {', '.join(ended)}; {kept}")
    for closed in await none_but_closed(agent):
        was = "it was closed" if closed.by_kit else "it is hidden, by another than the recovery kit"
        said.append(f"not listed, since {was}: {closed.name}")
    return said
