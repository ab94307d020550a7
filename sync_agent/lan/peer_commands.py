"""`peer add` and `peer address`: how people link two computers that do not find each other (R15).

Rules:
- an address is carried by hand, from one screen to another keyboard, and is no secret: who answers there proves who it
  is as anybody does;
- where nobody answers yet it is kept for a week, and tried from time to time, if it can be of the school's network;
  what answers and is none of ours is not kept.

docs/protocol.md, "Neighbours"; docs/adr/0182.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from protocol.errors import NoAnswer
from protocol.replica.console import parameters as given
from protocol.replica.console.operation import JSON, Incoming, Operation, Outgoing, Params
from sync_agent.app import Agent
from sync_agent.machine.addresses import Address, address_of
from sync_agent.school.measures import check_open

_EVERYWHERE: Final = "[::]:0"

Keep = Callable[[Address, bytes | None], Awaitable[None]]
"""Takes where a device was met, or (None) may come to be."""


def peer_add(agent: Agent, keep: Keep) -> Operation:
    """Meet the device at an address, and keep that. Raises as `meeting.meet` does, but for nobody's being there yet."""

    async def operate(params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        del incoming, outgoing
        await check_open(agent)
        address = address_of(given.text(params, "address"), "peer add")
        device, problem = await _met_at(agent, address)
        is_kept = device is not None or await asyncio.to_thread(_may_be_here, agent, address)
        if is_kept:
            await keep(address, device)
        return {
            "address": address.authority,
            "device": None if device is None else device.hex(),
            "problem": problem,
            "kept": is_kept,
        }

    return operate


def kept_for_later(agent: Agent) -> Keep:
    """For the next `run`."""

    async def keep(address: Address, device: bytes | None) -> None:
        from sync_agent.lan.finding.places_met import places_mark, read_places, with_met, with_named  # noqa: PLC0415

        store, now_ms = agent.replica.store, agent.now_ms()
        before = await read_places(store)
        named = with_named(before, address, now_ms) if device is None else with_met(before, address, device, now_ms)
        await store.set_marks(places_mark(named))

    return keep


async def peer_address(agent: Agent) -> JSON:
    """Where others reach this device, as it is typed there; empty while it does not listen."""
    return {"addresses": [*await own_addresses(agent)]}


async def own_addresses(agent: Agent) -> list[str]:
    """The same, for a page."""
    if agent.listens_at is None:
        return []
    from sync_agent.lan.finding.multicast import all_reached_at  # noqa: PLC0415 — loaded only when needed

    return await asyncio.to_thread(all_reached_at, agent.listens_at)


def _may_be_here(agent: Agent, address: Address) -> bool:
    """Whether an address, or all that a name stands for here, can be of the school's network. Blocks."""
    from sync_agent.lan.finding.multicast import addresses_of, own_addresses_at  # noqa: PLC0415 — loaded only when needed
    from sync_agent.lan.finding.places_met import may_be_of_the_school  # noqa: PLC0415

    meant = addresses_of(address.host)
    own = own_addresses_at(agent.listens_at or _EVERYWHERE)
    return bool(meant) and all(may_be_of_the_school(each, own) for each in meant)


async def _met_at(agent: Agent, address: Address) -> tuple[bytes | None, str | None]:
    """The device there, or why nobody is: who may be switched on later. Raises what does not mend by waiting."""
    from sync_agent.lan.exchange.meeting import meet  # noqa: PLC0415 — loaded only when needed
    from sync_agent.lan.exchange.peer_transport import PeerTransport  # noqa: PLC0415

    transport = PeerTransport(address)
    try:
        try:
            await transport.certificate()
        except NoAnswer as error:
            return None, str(error)
        return (await meet(agent, transport)).key, None
    finally:
        await transport.close()
