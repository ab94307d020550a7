"""What a server in wrong hands keeps from a PC: entries of one kind, of all that it has."""

from __future__ import annotations

from protocol.model.entry import Kind
from protocol.replica.at_work.replica import Replica
from sync_agent.hand_ins.wraps import tend_hand_ins
from tests.harness.classroom import Device


async def told_without(pc: Device, server: Replica, without: Kind) -> None:
    """A server tells a PC all that it has but for what is of one kind, and takes what the PC has."""
    space = list(await pc.agent.spaces())[-1]
    said = [each.entry for above in server.door.lineage(space) for each in await server.store.scan(above)]
    given = [entry for entry in said if entry.header.kind != without]
    now_ms = pc.agent.now_ms()
    await pc.agent.replica.admit(given, source=b"a server", now_ms=now_ms)
    await tend_hand_ins(pc.agent)
    own = await pc.agent.replica.store.authored(space, pc.agent.device)
    await server.admit(own, source=pc.agent.device, now_ms=now_ms)
