"""A school in the morning: its machines find each other by multicast, and what was published at night is at the server.

What is real: syncs, who fetches what (`sharing`), announcements, introductions, exchanges, links, all that the server
does. What is simulated is what lies between: a line of the school's own, datagrams to a group. A machine is slow in
that what it is told waits for it: a datagram for a moment of its own, up to `slow_s` seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from random import Random
from typing import Final, cast

from protocol.errors import RelaisError
from protocol.messages.introduction import own_secret
from protocol.messages.parts import Wanted
from protocol.replica.office import invitations
from protocol.roles import Role
from sync_agent.coursework import publisher
from sync_agent.coursework.publisher import Wish
from sync_agent.lan.finding.neighbourhood import Neighbourhood
from sync_agent.lan.school_lan import ANSWERS_S
from sync_agent.machine.sync_result import SyncResult
from sync_agent.scheduler import Scheduler
from sync_agent.school.measures import DrillTransport
from sync_agent.sync.electing import Found, Stage, Told
from sync_agent.sync.session import Session
from sync_agent.sync.sharing import Sharing
from tests.harness.classroom import Given
from tests.simulation.disk import Disk
from tests.simulation.founding import CM1, Birth, Founding, enrol
from tests.simulation.lines import CALM, Weather
from tests.simulation.machine import Machine
from tests.simulation.neighbours import PORT, Ear, Neighbours
from tests.simulation.office import Office
from tests.simulation.people import Shelf

CONTENT_BYTES: Final = 1_500_000
ALL_S: Final = 600.0
_WEEK_MS: Final = 7 * 24 * 3600 * 1000
_LINKED_S: Final = 100_000.0


class Group:
    """The multicast group of the school's network."""

    def __init__(self, chance: Random, slow_s: float) -> None:
        self._chance = chance
        self._slow_s = slow_s
        self._free_s: dict[asyncio.DatagramProtocol, float] = {}
        self.said = 0

    async def join(self, member: asyncio.DatagramProtocol, host: str) -> tuple[str, int]:
        """Hear what is said to the group from now on."""
        self._free_s[member] = 0.0
        member.connection_made(cast("asyncio.DatagramTransport", _Voice(self, host, member)))
        return "group", 0

    def leave(self, member: asyncio.DatagramProtocol) -> None:
        """Hear no more."""
        if self._free_s.pop(member, None) is not None:
            asyncio.get_running_loop().call_soon(member.connection_lost, None)

    def say(self, message: bytes, host: str) -> None:
        """Everybody hears it, each in its order, when it gets to it."""
        self.said += 1
        loop = asyncio.get_running_loop()
        for member, free_s in self._free_s.items():
            self._free_s[member] = at_s = max(free_s, loop.time() + self._chance.random() * self._slow_s)
            loop.call_at(at_s, self._hear, member, message, host)

    def _hear(self, member: asyncio.DatagramProtocol, message: bytes, host: str) -> None:
        if member in self._free_s:
            member.datagram_received(message, (host, PORT))


@dataclass
class _Voice:
    """A member's way to the group (`asyncio.DatagramTransport`)."""

    group: Group
    host: str
    member: asyncio.DatagramProtocol
    closed: bool = False

    def sendto(self, message: bytes, _group: object) -> None:
        self.group.say(message, self.host)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True
        self.group.leave(self.member)


class Awake(Machine):
    """A machine that tells its neighbourhood when the server has answered."""

    reached: Callable[[], None] = staticmethod(lambda: None)

    async def _sync(self, session: Session, transport: DrillTransport, *, routine: bool) -> SyncResult:
        result = await super()._sync(session, transport, routine=routine)
        self.reached()
        return result


@dataclass(eq=False)
class Desk:
    """A machine on the school's network, while it is on."""

    machine: Awake
    host: str
    on: AsyncExitStack = field(default_factory=AsyncExitStack)
    neighbourhood: Neighbourhood | None = None
    links: dict[str, asyncio.Task[None]] = field(default_factory=dict)


class Morning:
    """A class of so many machines, and its server, which holds a lesson that only the teacher has."""

    def __init__(self, begun: Founding, seed: int, slow_s: float, weather: Weather) -> None:
        self.random = Random(f"morning {seed}")
        self.weather = weather
        self.group = Group(self._chance(), slow_s)
        self.begun = begun
        self.office = Office(begun.server, begun.server.disk.image(), self._chance(), self.true_ms, self)
        self.neighbours = Neighbours(self._chance())
        self.desks: list[Desk] = []
        self.teachers: list[Awake] = []
        self.item = b""
        self.has_nothing: set[Desk] = set()
        """Who is so slow that whoever asks it gets an answer that has nothing."""

    # --- who is told (`office.Told`) ----------------------------------------------------------------------------------

    def acknowledged(self, entries: object) -> None:
        """Nobody asks for it here."""

    def surprise(self, who: str, error: BaseException) -> None:
        """Nothing unforeseen may happen."""
        raise AssertionError(f"{who}: {error!r}") from error

    def true_ms(self) -> int:
        """The time of day."""
        return self.begun.begins_ms + int(asyncio.get_running_loop().time() * 1000)

    def _chance(self) -> Random:
        return Random(self.random.random())

    # --- the evening before -------------------------------------------------------------------------------------------

    async def evening(self, machines: int) -> None:
        """The class is enrolled, everybody has synced; then the machines are off and a lesson is published."""
        await self.office.boot()
        server = self.office.server
        assert server is not None
        space = self.begun.spaces[CM1]
        born = self.begun.machines[0]
        teacher = self._machine(born, born.disk.image())
        self.teachers.append(teacher)
        await teacher.boot()
        for number in range(machines):
            code = (await invitations.invite(server, invitations.Wanted(Role.MACHINE, [space], None, 1, _WEEK_MS))).code
            birth = await enrol(server, server.keys.agreement, server.grant, f"pc-{number}", Role.MACHINE, code)
            self.desks.append(Desk(self._machine(birth, birth.disk), f"10.0.0.{number + 1}"))
        for machine in (teacher, *(desk.machine for desk in self.desks)):
            await machine.boot()
            await machine.sync()
        for desk in self.desks:
            await desk.machine.switch_off()
        await self.publish("Nuit")

    async def publish(self, title: str) -> None:
        """The teacher publishes a lesson, which lies at the server from then on."""
        (teacher,) = self.teachers
        assert teacher.agent is not None
        files = {"film.bin": self._chance().randbytes(CONTENT_BYTES)}
        wish = Wish(self.begun.spaces[CM1], None, None, title)
        self.item = (await publisher.publish(teacher.agent, wish, Given(files), Shelf())).item
        await teacher.sync()

    async def pass_over(self, desk: Desk) -> None:
        """Who is the next after a machine asks it for news until it does that no more, as in a slow hour."""
        space = self.begun.spaces[CM1]
        assert desk.neighbourhood is not None
        ranking = desk.neighbourhood.ranking(space)
        following = self.at(ranking[ranking.index(desk.neighbourhood.name) + 1])
        assert following is not None
        assert following.machine.session is not None
        sharing = following.machine.session.sharing
        assert sharing is not None
        self.has_nothing.add(desk)
        for _ in range(int(ALL_S)):
            if sharing.is_mine(Wanted(space, bytes(32))):
                break
            await asyncio.sleep(1.0)
        self.has_nothing.clear()

    def tell(self) -> None:
        """The server says to all that something is new."""
        for desk in self.desks:
            if desk.machine.session is not None and desk.machine.scheduler is not None:
                desk.machine.session.hear_news()
                desk.machine.scheduler.wake()

    def first(self) -> Desk:
        """The machine that fetches for all."""
        named = [desk.neighbourhood.ranking(self.begun.spaces[CM1])[0] for desk in self.desks if desk.neighbourhood]
        (desk,) = {self.at(name) for name in named}
        assert desk is not None
        return desk

    def _machine(self, birth: Birth, disk: Disk) -> Awake:
        return Awake(birth, birth.name, disk, self.office, self._chance(), self.true_ms, self, _quiet, daemon=False)

    # --- the morning --------------------------------------------------------------------------------------------------

    async def switch_all_on(self) -> None:
        """All start, one as soon as the other has."""
        for desk in self.desks:
            await self.switch_on(desk)

    async def switch_on(self, desk: Desk, *, expects: bool = False) -> None:
        """The machine starts as its daemon does."""
        machine = desk.machine
        machine.line.weather = self.weather
        await machine.boot()
        agent, session, scheduler = machine.agent, machine.session, machine.scheduler
        ear = self.neighbours.ear(machine)
        responder = ear.responder
        assert agent is not None
        assert session is not None
        assert scheduler is not None
        assert responder is not None
        await responder.secrets()
        place = Neighbourhood(
            responder.known_secrets,
            own_secret(agent.keys.signing.seed),
            agent.entropy,
            lambda: self._link(desk),
            join=self.group.join,
        )
        place.expects = expects
        place.looked = scheduler.wake
        place.hears = lambda: scheduler.hears
        session.sharing = Sharing(
            place,
            monotonic=asyncio.get_running_loop().time,
            draw=self.random.uniform,
            call_later=asyncio.get_running_loop().call_later,
            wake=scheduler.wake,
            ask=lambda name, told: self._ask(desk, name, told),
            line=machine.line,
        )
        machine.reached = place.reached_server
        desk.neighbourhood, desk.on = place, AsyncExitStack()
        await desk.on.enter_async_context(place.open(f"https://{desk.host}:{PORT}", desk.host, agent.unforeseen))
        agent.on_change = scheduler.wake
        machine.spawn(self._follow_news(ear, scheduler))
        machine.spawn(machine._serve(session, cast("DrillTransport", session.transport), scheduler))

    async def switch_off(self, desk: Desk) -> None:
        """Somebody pulls the plug."""
        for task in desk.links.values():
            task.cancel()
        place, desk.neighbourhood = desk.neighbourhood, None
        if place is not None:
            self.group.leave(place._discovery)
        await desk.machine.switch_off()
        await desk.on.aclose()

    def hang(self, desk: Desk) -> None:
        """The program stops, and its connections stand."""
        assert desk.neighbourhood is not None
        self.group.leave(desk.neighbourhood._discovery)
        desk.machine.hangs = desk.machine.line.halts = True

    async def _follow_news(self, ear: Ear, scheduler: Scheduler) -> None:
        """What comes from neighbours is compared with the server's (`lan.Lan`)."""
        assert ear.responder is not None
        listener = ear.responder.listeners.add(self.begun.server.keys.signing.public)
        while True:
            await listener.news()
            scheduler.wake()

    def at(self, name: str) -> Desk | None:
        """The machine that is announced by a name, if it is on."""
        return next(
            (desk for desk in self.desks if desk.neighbourhood is not None and desk.neighbourhood.name == name), None
        )

    def _link(self, desk: Desk) -> None:
        """Keep links with those whom the neighbourhood chooses."""
        if desk.neighbourhood is None:
            return
        for member in desk.neighbourhood.chosen().values():
            other = self.at(member.name)
            if other is not None and member.name not in desk.links:
                live = self.neighbours.live(desk.machine, other.machine, CALM, _LINKED_S)
                desk.links[member.name] = desk.machine.spawn(live)

    def _ask(self, desk: Desk, name: str, told: Told) -> None:
        desk.machine.spawn(self._asked(desk, name, told))

    async def _asked(self, desk: Desk, name: str, told: Told) -> None:
        other = self.at(name)
        found = Found.GONE
        if other in self.has_nothing:
            found = Found.NOTHING
        elif other is not None and other.machine.hangs:
            least_s, _ = ANSWERS_S
            await asyncio.sleep(least_s)
        elif other is not None:
            with contextlib.suppress(RelaisError):
                done = await self.neighbours.exchange(desk.machine, other.machine, CALM)
                found = Found.SOMETHING if done.received or done.bytes_in > CONTENT_BYTES else Found.NOTHING
        if found is Found.GONE and desk.neighbourhood is not None:
            desk.neighbourhood.does_not_answer(name)
        told(found)

    async def has_it(self, desk: Desk) -> bool:
        """Whether the machine shows the lesson of the night, whole."""
        agent = desk.machine.agent
        if agent is None:
            return False
        items = (await agent.replica.view(self.begun.spaces[CM1])).coursework.items
        return self.item in items and not await agent.missing()

    async def all_have_it(self, but: Desk | None = None) -> None:
        """Return once every machine that is on shows the lesson, but for one."""
        async with asyncio.timeout(ALL_S):
            waiting = [desk for desk in self.desks if desk.neighbourhood is not None and desk is not but]
            while waiting:
                waiting = [desk for desk in waiting if not await self.has_it(desk)]
                await asyncio.sleep(1.0)

    async def one_has_fetched(self, size: int) -> Desk:
        """The machine that has brought so many bytes and is still at it, once there is one whose line goes on."""
        async with asyncio.timeout(ALL_S):
            while True:
                for desk in self.desks:
                    at_it = desk.neighbourhood is not None and desk.neighbourhood._stage is Stage.FETCHES
                    at_it = at_it and not desk.machine.line.halts
                    if at_it and desk.machine.line.traffic.bytes_in >= size:
                        return desk
                await asyncio.sleep(0.1)

    async def close(self) -> None:
        """Everything is switched off."""
        for desk in self.desks:
            await self.switch_off(desk)
        for teacher in self.teachers:
            await teacher.switch_off()
        await self.office.switch_off()

    def brought(self) -> int:
        """Bytes that have come over the school's line."""
        return sum(desk.machine.line.traffic.bytes_in for desk in self.desks)


def _quiet(_what: str) -> None:
    """No trace is kept."""
