"""A live link to one neighbour: met, made equal, then kept so; news passes both ways within a moment (R14).

Rules:
- the side that dials does the exchanging; it is woken by its own news and by the neighbour's, so that a link named by
  one side serves both;
- both say where they stand (`messages.likeness`): where that is the same nothing is exchanged, and what several
  neighbours tell of is fetched from one of them after the other (`turns`); a neighbour that never says so is woken for,
  and given, everything;
- where both sides have dialled, the link of the smaller key stays and the other rests;
- a neighbour that tells of news and has none, again and again, is asked seldom; words are read no faster than they are
  heeded;
- who does not answer is tried again with full jitter; who breaks the protocol is put aside, longer each time; so is one
  over which we stumble ourselves, and that is said (`protocol.replica.process.unforeseen`).

docs/protocol.md, "Neighbours".
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from protocol.errors import Code, LocalFailure, NoAnswer, Refused, RelaisError
from protocol.messages.likeness import MOVED, Told
from protocol.replica.answering.listeners import Listener
from sync_agent.app import Agent
from sync_agent.hand_ins.copies import Copies
from sync_agent.lan.exchange.listener import LanResponder
from sync_agent.lan.exchange.meeting import closed_spaces, meet
from sync_agent.lan.exchange.peer_session import PeerSession
from sync_agent.lan.exchange.peer_transport import PeerTransport
from sync_agent.machine.addresses import Address
from sync_agent.machine.sync_result import SyncResult
from sync_agent.scheduler import Draw, wait

MOMENT_S: Final = 0.05
ANSWER_S: Final = 3.0
"""A neighbour that was told of news, and says nothing, is brought them after so long."""
ROUTINE_S: Final = (20.0, 40.0)
LEFT_S: Final = (5.0, 10.0)
"""After so long it is seen to whether content has come that was left to another neighbour."""
FIRST_BOUND_S: Final = 2.0
AWAY_BOUND_S: Final = 30.0
AFTER_FALL_S: Final = 0.5
ASIDE_FIRST_S: Final = 60.0
ASIDE_BOUND_S: Final = 1800.0
CLOSED_BOUND_S: Final = 120.0
"""A device to which nothing is open any more asks a neighbour so often at least whether something is again."""
VAIN_AT_ONCE: Final = 60
VAIN_PER_S: Final = 2.0
"""So many exchanges that bring nothing are made without a pause, and so many a second for good."""
_MOST_DOUBLINGS: Final = 10

_log = logging.getLogger(__name__)


class LinkState(StrEnum):
    """How a link stands."""

    CONNECTING = "connecting"
    LIVE = "live"
    RESTING = "resting"
    AWAY = "away"
    ASIDE = "aside"
    REFUSED = "refused"


STANDING: Final = frozenset({LinkState.LIVE, LinkState.RESTING})
"""A conversation with the neighbour stands, whoever has dialled."""


def _nobody_asks(_address: Address, _device: bytes) -> None:
    """Where it does not matter."""


def state_after(error: RelaisError) -> LinkState:
    """What a failed link becomes: who is not there may come back at any moment, who misbehaves is left alone."""
    match error:
        case NoAnswer():
            return LinkState.AWAY
        case Refused():
            return LinkState.REFUSED
        case _:
            return LinkState.ASIDE


def pause_s(state: LinkState, failures: int, draw: Draw) -> float:
    """How long to leave it alone after so many failures in a row."""
    doubled = 2.0 ** min(failures - 1, _MOST_DOUBLINGS)
    if state is LinkState.AWAY:
        return draw(0.2, min(FIRST_BOUND_S * doubled, AWAY_BOUND_S))
    bound = min(ASIDE_FIRST_S * doubled, ASIDE_BOUND_S)
    return draw(bound / 2, bound)


@dataclass(frozen=True, slots=True)
class Vain:
    """How many exchanges in vain there may still be without a pause, as it stood at `at_s` of a monotonic clock."""

    left: float = VAIN_AT_ONCE
    at_s: float = 0.0

    def again(self, now_s: float) -> tuple[Vain, float]:
        """After one more, and how many seconds the next one waits."""
        left = min(VAIN_AT_ONCE, self.left + max(0.0, now_s - self.at_s) * VAIN_PER_S) - 1
        return Vain(left, now_s), max(0.0, -left / VAIN_PER_S)


class Link:
    """One neighbour by its address. `run` goes on until it is cancelled."""

    def __init__(
        self,
        agent: Agent,
        responder: LanResponder,
        address: Address,
        copies: Copies,
        failed: Callable[[LocalFailure], None],
        fell: Callable[[], None],
        *,
        draw: Draw,
        dial: Callable[[Address], PeerTransport] = PeerTransport,
        met: Callable[[Address, bytes], None] = _nobody_asks,
    ) -> None:
        """`failed` is told when the store must be opened again, `fell` when nobody answers any more.

        `met` hears which device has proved at the address who it is.
        """
        self.address = address
        self.state = LinkState.CONNECTING
        self.device: bytes | None = None
        self.name: str | None = None
        self.last_contact_ms: int | None = None
        self.trouble: RelaisError | None = None
        self.is_gone = False
        """Whether it was dialled in vain. A line that has just fallen says little: a slow hour cuts some."""
        self._agent = agent
        self._responder = responder
        self._copies = copies
        self._failed = failed
        self._fell = fell
        self._draw = draw
        self._dial = dial
        self._met = met
        self._wanted = asyncio.Event()
        self._exchanges = 0
        self._vain = Vain()
        self._session: PeerSession | None = None
        self._told: Told | None = None
        """Where the neighbour stood when it last said so."""
        self._speaks = False
        """Whether it ever has, over this line."""
        self._offers = False
        """Whether it was told of news that it has not been brought yet."""
        self._answered = asyncio.Event()

    async def run(self) -> None:
        """Keep the link alive."""
        failures = 0
        while True:
            try:
                await self._live()
                failures = 0
            except LocalFailure as failure:
                self._failed(failure)
                self.is_gone = True
                self.state, self.trouble, failures = LinkState.AWAY, failure, failures + 1
            except RelaisError as error:
                was_gone, fell = self.is_gone, self.state is LinkState.LIVE
                failures = 1 if fell else failures + 1
                state, self.trouble = state_after(error), error
                self.is_gone = not fell or state is not LinkState.AWAY
                self.state = state
                if self.is_gone and not was_gone:
                    self._fell()
                if failures == 1:
                    _log.info("%s: %s", self.address.authority, error)
            except MemoryError:
                raise
            except Exception as bug:  # noqa: BLE001 — counted and shown; a link that died unseen would look alive
                self._agent.unforeseen.note("a link with a neighbour", bug)
                self.is_gone = True
                self.state, failures = LinkState.ASIDE, failures + 1
                self.trouble = LocalFailure(Code.INTERNAL, f"unforeseen: {type(bug).__name__}; the log says where")
                self._fell()
            self._session = None
            await wait(asyncio.Event(), await self._pause_s(max(failures, 1)))

    async def _pause_s(self, failures: int) -> float:
        """How long to leave the neighbour alone now."""
        if not self.is_gone:
            return self._draw(0, AFTER_FALL_S)
        pause = pause_s(self.state, failures, self._draw)
        with contextlib.suppress(RelaisError):
            if self.state is LinkState.REFUSED and await closed_spaces(self._agent):
                return min(pause, self._draw(ASIDE_FIRST_S, CLOSED_BOUND_S))
        return pause

    @property
    def is_behind(self) -> bool:
        """Whether it may have news that it has not been asked for: it is being met, or has told of some.

        Content that is on its way is known elsewhere (`machine.fetching`).
        """
        if self.state is LinkState.LIVE:
            moves = self._session is not None and self._session.moves
            return self._wanted.is_set() or (self._exchanges > 0 and not moves)
        return self.state in {LinkState.CONNECTING, LinkState.AWAY} and not self.is_gone

    async def exchange(self) -> SyncResult | None:
        """Exchange now, for a command; None while the link does not stand."""
        session = self._session
        return None if session is None else await self._exchange(session)

    def holds(self, space: bytes, arrived: int, stream: bytes) -> bool:
        """Whether the neighbour has shown that it holds content of a space (`Around.holding`)."""
        return self._session is not None and self._session.holds(space, arrived, stream)

    async def _live(self) -> None:
        """Meet, agree, and stay in step until something fails."""
        self.state = LinkState.CONNECTING
        self._told, self._speaks, self._offers = None, False, False
        transport = self._dial(self.address)
        try:
            device = await meet(self._agent, transport)
            self.device, self.is_gone = device.key, False
            self._met(self.address, device.key)
            session = PeerSession(self._agent, transport, device, self._copies)
            await self._rest_while_called()
            session.wants_live = True
            listener = self._responder.listeners.add(device.key)
            await self._exchange(session)
            self._session = session
            self.state, self.trouble = LinkState.LIVE, None
            await _first_of(
                self._stay(session), self._hear_here(listener, session, transport), self._hear_there(session, transport)
            )
        finally:
            self._session = None
            await transport.close()

    async def _stay(self, session: PeerSession) -> None:
        while True:
            await wait(self._wanted, self._draw(*(LEFT_S if session.leaves_some else ROUTINE_S)))
            is_routine = not (self._wanted.is_set() or session.leaves_some)
            if not is_routine:
                await asyncio.sleep(self._draw(0, MOMENT_S))
            self._wanted.clear()
            brings, self._offers = self._offers, False
            # news of one's own are brought to all at once, and a look now and then waits for nobody
            async with contextlib.nullcontext() if brings or is_routine else self._responder.turns.mine():
                if not is_routine and await session.is_like(self._told):
                    session.leaves_some = False
                    continue
                done = await self._exchange(session)
            if self._is_second():
                return
            if not (done.received or done.sent):
                self._vain, pause = self._vain.again(asyncio.get_running_loop().time())
                await asyncio.sleep(pause)

    async def _rest_while_called(self) -> None:
        while self._is_second():
            self.state = LinkState.RESTING
            self.last_contact_ms = self._agent.now_ms()
            await asyncio.sleep(self._draw(1.0, 3.0))

    def _is_second(self) -> bool:
        """Whether the other side has a link with us that goes before this one."""
        device = self.device
        return device is not None and device < self._agent.device and device in self._responder.live_callers()

    async def _exchange(self, session: PeerSession) -> SyncResult:
        self._exchanges += 1
        try:
            result = await session.exchange()
        finally:
            self._exchanges -= 1
        self.last_contact_ms = self._agent.now_ms()
        self.name = session.name
        return result

    async def _hear_here(self, listener: Listener, session: PeerSession, transport: PeerTransport) -> None:
        """This device's news, but for what the neighbour itself brought."""
        while True:
            if await self._responder.concerns(listener, await listener.news()):
                await self._offer(session, transport)

    async def _offer(self, session: PeerSession, transport: PeerTransport) -> None:
        """Let the neighbour know of news; it says whether it lacks them. One that does not speak is brought them."""
        own = await session.standing() if self._speaks else None
        if own is not None:
            if own.is_like(self._told):
                return
            self._offers = True
            self._answered.clear()
            await transport.say(own.told.text)
            await wait(self._answered, ANSWER_S)
            if self._answered.is_set():
                return
        self._wanted.set()

    async def _hear_there(self, session: PeerSession, transport: PeerTransport) -> None:
        """The neighbour's news. Raises `NoAnswer` when the line falls."""
        if session.live is None:
            raise NoAnswer(Code.UNREACHABLE, "the device does not say how to listen to it")
        async with contextlib.aclosing(transport.hear(session.live)) as line:
            async for text in line:
                if not text:
                    # The line stands. What moved just before was not told, and neither was where this device stands.
                    own = await session.standing()
                    await transport.say(MOVED if own is None else own.told.text)
                else:
                    self._told = Told.parse(text)
                    self._speaks = self._speaks or self._told is not None
                    self._answered.set()
                self._wanted.set()
                await asyncio.sleep(self._draw(0, MOMENT_S))
        raise NoAnswer(Code.UNREACHABLE, "the device has closed the line")


async def _first_of(*works: Coroutine[None, None, None]) -> None:
    """Do these until one ends, and end as it does."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
