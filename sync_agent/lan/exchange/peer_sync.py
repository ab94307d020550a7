"""`sync --peer`: exchange with the devices at these addresses, and nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from protocol.errors import BadInput, Code, NoAnswer, PeerFault, Refused, RelaisError
from sync_agent.app import Agent
from sync_agent.machine.addresses import Address, address_of
from sync_agent.machine.sync_result import SyncResult

Tell = Callable[[str], Awaitable[None]]


def peer_addresses(given: Sequence[str]) -> list[Address]:
    """The addresses that `--peer` names, each once. Raises `BadInput(USAGE)`."""
    return list(dict.fromkeys(address_of(text, "--peer") for text in given))


class School(Protocol):
    """The devices of the school, as `run` knows them."""

    failed: asyncio.Future[None]
    """Done when the store has failed under an exchange; it raises what happened."""

    async def sync_with(self, addresses: Sequence[Address], tell: Tell) -> SyncResult:
        """The command `sync --peer`."""
        ...

    async def keep(self, address: Address, device: bytes | None) -> None:
        """The command `peer add`: whom it met there, or None."""
        ...


class NoSchool:
    """`School` where no exchange with others was asked for."""

    def __init__(self, agent: Agent) -> None:
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._agent = agent

    async def sync_with(self, addresses: Sequence[Address], tell: Tell) -> SyncResult:
        """As without `run`."""
        return await sync_with(self._agent, addresses, tell)

    async def keep(self, address: Address, device: bytes | None) -> None:
        """No link is kept here."""
        del address, device
        raise not_listening()


def not_listening() -> BadInput:
    """What a link needs."""
    return BadInput(Code.USAGE, "`run` was started without --lan: it keeps links with those only whom --peer names")


async def sync_with(agent: Agent, addresses: Sequence[Address], tell: Tell) -> SyncResult:
    """One exchange with each; those that do not answer are named through `tell`.

    Raises `NoAnswer` if none of them answered, else what went wrong with one that did, `LocalFailure` at once.
    """
    total = SyncResult()
    answered = False
    failure: RelaisError | None = None
    for address in addresses:
        try:
            total += await exchange_once(agent, address)
            answered = True
        except (NoAnswer, Refused, PeerFault) as error:
            answered = answered or not isinstance(error, NoAnswer)
            failure = failure or (None if isinstance(error, NoAnswer) else error)
            await tell(f"{address.authority}: {error}")
    if not answered:
        raise NoAnswer(Code.UNREACHABLE, "none of the named devices answered; the work is kept")
    if failure is not None:
        raise failure
    return total


async def exchange_once(agent: Agent, address: Address) -> SyncResult:
    """Meet the device at an address, exchange, and let go."""
    # a daemon without neighbours keeps none of this in memory
    from sync_agent.hand_ins.copies import Copies  # noqa: PLC0415
    from sync_agent.lan.exchange.after_news import AfterNews  # noqa: PLC0415
    from sync_agent.lan.exchange.meeting import meet  # noqa: PLC0415
    from sync_agent.lan.exchange.peer_session import PeerSession  # noqa: PLC0415
    from sync_agent.lan.exchange.peer_transport import PeerTransport  # noqa: PLC0415

    transport = PeerTransport(address)
    try:
        device = await meet(agent, transport)
        session = PeerSession(agent, transport, device)
        result = await session.exchange()
        if await AfterNews(agent, Copies(agent, set)).tend():
            result += await session.exchange()
    finally:
        await transport.close()
    return result
