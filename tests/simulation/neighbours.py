"""Machines of the school among themselves: introductions, exchanges and live links over lines that have a weather too.

What is real: the listener's responder and scope, the meeting, the exchange, second copies, the link. What is simulated
is the way between them: TLS shows a machine's certificate, and shows it of whoever is there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine
from random import Random
from typing import Any, TypeVar, cast

from protocol.errors import PeerFault
from protocol.replica.answering.listeners import Listener
from protocol.replica.answering.serving import Responder
from sync_agent.hand_ins.copies import Copies
from sync_agent.lan.exchange.link import Link
from sync_agent.lan.exchange.listener import LanResponder
from sync_agent.lan.exchange.meeting import meet
from sync_agent.lan.exchange.peer_session import PeerSession
from sync_agent.lan.exchange.peer_transport import PeerTransport
from sync_agent.lan.exchange.scope import LanScope
from sync_agent.machine.addresses import Address
from sync_agent.machine.sync_result import SyncResult
from sync_agent.school.measures import check_open, ordered
from tests.harness.wire import Frontage, cut
from tests.simulation.lines import Line, Weather
from tests.simulation.machine import Machine, SimAgent

T = TypeVar("T")

PORT = 8091


class Ear:
    """A machine as others call it: what answers there, for as long as it is on and has not been started anew."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._agent: SimAgent | None = None
        self._frontage: Frontage | None = None
        self.copies: Copies | None = None

    @property
    def frontage(self) -> Frontage | None:
        """The listener over the machine's replica."""
        agent = self.machine.agent
        if agent is not self._agent:
            self._agent, self._frontage, self.copies = agent, None, None
            if agent is not None:
                responder = LanResponder(agent)
                self.copies = Copies(agent, responder.live_callers)
                responder.scope = LanScope(agent, self.copies)
                self._frontage = Frontage(responder)
        return self._frontage

    @property
    def responder(self) -> LanResponder | None:
        """What answers."""
        frontage = self.frontage
        return None if frontage is None else cast("LanResponder", frontage.responder)

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """What the machine does for a caller."""
        return self.machine.spawn(work)


class PeerLine(Line):
    """A `PeerTransport` to another machine."""

    def __init__(self, ear: Ear, weather: Weather, random: Random, note: Callable[[str], None]) -> None:
        super().__init__(ear, random, note)
        self.ear = ear
        self.weather = weather
        self.address = Address(ear.machine.name, PORT)
        self._said: asyncio.Queue[str] = asyncio.Queue()
        self._listener: Listener | None = None

    async def hear(self, capability: str) -> AsyncGenerator[str, None]:
        """What the listener says, of itself and in reply, as far as it gets here."""
        await self._way()
        responder = self._frontage().responder
        try:
            self._listener = listener = responder.listener(capability)
        except PeerFault:
            raise cut() from None
        telling = asyncio.create_task(self._tell(responder, listener))
        try:
            yield ""
            while self._stands(responder):
                if telling.done():
                    telling.result()
                try:
                    async with asyncio.timeout(60):
                        said = await self._said.get()
                except TimeoutError:
                    continue
                if not self._happens(self.weather.lost):
                    yield said
            raise cut()
        finally:
            self._listener = None
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)

    async def say(self, text: str) -> None:
        """What the listener heeds, if it gets there."""
        listener = self._listener
        await self._way()
        if listener is not None and not self._happens(self.weather.lost):
            reply = await self._handled(self._frontage().responder.heed(listener, text))
            if reply is not None:
                self._said.put_nowait(reply)

    async def _tell(self, responder: Responder, listener: Listener) -> None:
        while True:
            if await self._handled(responder.concerns(listener, await listener.news())):
                self._said.put_nowait(await self._handled(responder.word(listener)))

    def _stands(self, responder: Responder) -> bool:
        frontage = self.far.frontage
        return self.up and frontage is not None and frontage.responder is responder

    def _stands_still(self) -> bool:
        return self.halts or self.ear.machine.hangs

    async def certificate(self) -> bytes:
        """The fingerprint of whoever listens there."""
        await self._way()
        self._frontage()
        return self.ear.machine.keys.tls.fingerprint


class Neighbours:
    """The school's network: who may be called, and by what weather."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self._ears: dict[int, Ear] = {}

    def ear(self, machine: Machine) -> Ear:
        """The listener of a machine."""
        return self._ears.setdefault(id(machine), Ear(machine))

    def line(self, caller: Machine, listener: Machine, weather: Weather) -> PeerLine:
        """A way between two machines."""
        random = Random(self.random.random())
        return PeerLine(self.ear(listener), weather, random, lambda what: caller.note(f"to {listener.name}: {what}"))

    async def exchange(self, caller: Machine, listener: Machine, weather: Weather) -> SyncResult:
        """The command `sync --peer`, and what the listener's daemon does after it: second copies."""
        agent = caller.agent
        if agent is None:
            raise cut()
        if caller.heeds:
            await check_open(agent)
            await _check_listens(listener)
        line = self.line(caller, listener, weather)
        device = await meet(agent, cast("PeerTransport", line))
        copies = Copies(agent, lambda: {device.key})
        session = PeerSession(agent, line, device, copies)
        result = await session.exchange()
        made = await copies.tend()
        there = self.ear(listener).copies
        made += 0 if there is None else await line._handled(there.tend())
        return result + await session.exchange() if made else result

    async def live(self, caller: Machine, listener: Machine, weather: Weather, lasts_s: float) -> None:
        """A link that stands for a while, as `run --peer` keeps it."""
        agent, here = caller.agent, self.ear(caller).responder
        copies = self.ear(caller).copies
        if agent is None or here is None or copies is None:
            return
        if caller.heeds and (await ordered(agent)).quarantined:
            return
        made = Link(
            agent,
            here,
            Address(listener.name, PORT),
            copies,
            failed=lambda failure: caller.told.surprise(caller.name, failure),
            fell=lambda: None,
            draw=self.random.uniform,
            dial=lambda _address: cast("PeerTransport", self.line(caller, listener, weather)),
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(lasts_s):
                await made.run()


async def _check_listens(listener: Machine) -> None:
    """Raise `NoAnswer` where the school's network is off."""
    if listener.agent is None or (await ordered(listener.agent)).quarantined:
        raise cut()
