"""Any two replicas made equal by the reconcile call's own steps, without the server: what a peer or a courier does.

The dialogue runs over the sets of both sides; what either lacks goes through the other's door, then the content that
either should hold. A carrier puts what it takes into its outbox, so that it reaches the server by any path.
"""

from __future__ import annotations

from protocol.reconcile import Initiator, respond
from tests.simulation.machine import SimAgent

_STEPS = 64


async def meet(one: SimAgent, other: SimAgent) -> str:
    """Let two agents exchange what both may read; says what moved."""
    entries = 0
    theirs = await other.spaces()
    for space in await one.spaces():
        if space in theirs:
            entries += await _exchange(one, other, space)
    packs = await _hand_over(one, other) + await _hand_over(other, one)
    return f"{entries} entries, {packs} packs"


async def _exchange(one: SimAgent, other: SimAgent, space: bytes) -> int:
    dialogue = Initiator(await one.replica.records(space))
    records = await other.replica.records(space)
    message: bytes | None = dialogue.open()
    have: list[bytes] = []
    need: list[bytes] = []
    for _ in range(_STEPS):
        if message is None:
            break
        step = dialogue.answer(respond(records, message))
        message = step.next_message
        have += step.have
        need += step.need
    moved = 0
    for source, target, wanted in ((one, other, have), (other, one, need)):
        found = await source.replica.store.get(wanted)
        admission = await target.replica.admit(
            [found[name] for name in wanted if name in found], source=source.device, now_ms=target.now_ms(), unsent=True
        )
        moved += len(admission.admitted)
    return moved


async def _hand_over(source: SimAgent, target: SimAgent) -> int:
    """The content that `target` should hold, of what `source` has."""
    moved = 0
    readable = await source.spaces()
    for need in await target.missing():
        if need.space not in readable:
            continue
        for pack in await source.holdings.packs(need):
            if await target.replica.content.pack(pack.hash, need.space) is None:
                data = await source.replica.content.read_pack(pack.hash, 0, pack.size)
                await target.replica.content.ingest(need.space, data, unsent=True)
                moved += 1
    return moved
