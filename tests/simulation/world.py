"""A history as it is lived: machines, server, lines, and the steps of a plan that happen to them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from hashlib import blake2b
from random import Random
from typing import Any, Final

from protocol.coursework import HandInState, Work
from protocol.entry import Entry
from protocol.errors import BadInput, Code, LocalFailure, NoAnswer, PeerFault, Refused, RelaisError, TooLarge
from protocol.replica.office.grants import grant_device, revoke_device
from protocol.replica.office.people import add_person
from protocol.roles import PersonRole, Role
from sync_agent.app import ENTRUSTED_MARKS, FORGETS_MARKS
from sync_agent.copies import lasting_state
from tests.simulation.at_school import EVENTS as AT_SCHOOL
from tests.simulation.at_school import a_week_later, agree_without_server
from tests.simulation.disk import Disk
from tests.simulation.founding import NOW_MS, Birth, Founding, begin_server
from tests.simulation.ledger import BrokenError, Ledger, holds_sealed
from tests.simulation.lines import CALM
from tests.simulation.machine import Machine
from tests.simulation.neighbours import Neighbours
from tests.simulation.office import Office
from tests.simulation.people import ACTS, STATE_RANK, works_of
from tests.simulation.plan import MOST_MACHINES, Plan, Step
from tests.simulation.sticks import Sticks
from tests.simulation.virtual_time import VirtualLoop

ROUNDS: Final = 5
BETWEEN_ROUNDS_S: Final = 1_000.0
YEAR_MS: Final = 365 * 24 * 3600 * 1000


class World:
    """See the module. The trace is what happened, line by line."""

    def __init__(self, plan: Plan, begun: Founding) -> None:
        self.plan = plan
        self.trace: list[str] = []
        self.ledger = Ledger(published=dict(begun.published))
        self.problems: list[str] = []
        self.random = Random(f"world {plan.seed}")
        self.founding = begun
        self.healing = False
        self.doubtful: set[bytes] = set()
        birth = self.founding.server
        self.office = Office(birth, birth.disk.image(), self._chance("server"), self.true_ms, self)
        self.machines: list[Machine] = []
        self.neighbours = Neighbours(self._chance("neighbours"))
        self.sticks = Sticks()
        self.erased: set[bytes] = set()
        self.due: set[bytes] = set()
        """Who was erased long enough ago that nothing may be left of them."""
        self.births = 0
        self.ahead_ms = 0
        self.frozen: set[Machine] = set()
        self._images: dict[Machine, list[Disk]] = {}
        self._backups: list[Disk] = [birth.disk.image()]
        self._old_disks: list[Disk] = []
        self._states: dict[tuple[int, bytes], int] = {}
        for number in plan.machines:
            self._enter(self.founding.machines[number], self.founding.machines[number].disk.image())
        if plan.frozen is not None:
            self.frozen.add(self.machines[plan.frozen])
            self.machines[plan.frozen].remembers = False

    # --- time, notes --------------------------------------------------------------------------------------------------

    def true_ms(self) -> int:
        """The true time."""
        return NOW_MS + 3_600_000 + self.ahead_ms + int(self._loop.now_s * 1000)

    def note(self, who: str, what: str) -> None:
        """One line of the trace."""
        self.trace.append(f"{self._loop.now_s:12.3f} {who:9} {what}")

    def digest(self) -> str:
        """A hash of the trace."""
        return blake2b("\n".join(self.trace).encode(), digest_size=8).hexdigest()

    def acknowledged(self, entries: Sequence[Entry]) -> None:
        """See `Told`. Of a device whose rights are in doubt nothing is promised."""
        self.ledger.acknowledge([entry for entry in entries if entry.header.author not in self.doubtful])

    def surprise(self, who: str, error: BaseException) -> None:
        """See `Told`."""
        self.problem(f"{who}: {type(error).__name__}: {error}")

    def problem(self, text: str) -> None:
        """Something is wrong."""
        self.problems.append(text)
        self.note("!", text)

    # --- the course of a history --------------------------------------------------------------------------------------

    async def live(self) -> None:
        """Take the steps, one after the other or at once, as the plan has it."""
        await self.office.boot()
        for machine in self.machines:
            machine.line.weather = self.plan.weather
            await machine.boot()
        for step in self.plan.steps:
            await asyncio.sleep(step.after_s)
            await self._take(step)
            if self.problems:
                return

    async def heal(self) -> int:
        """End all trouble, and let everybody sync until nothing moves; how many rounds that took."""
        self.note("world", "everything is in order again")
        # No power fails from here on: one that went while others booted would leave its machine off to the end.
        for power in (self.office.power, *(machine.power for machine in self.machines)):
            power.cut_never()
        for machine in self.machines:
            machine.line.weather, machine.line.up = CALM, True
            if machine.agent is None:
                await self._start(machine)
        if self.plan.isolated:
            await self.office.switch_off()
            await agree_without_server(self)
        if self.office.server is None:
            await self.office.boot()
        self.healing = True
        if any(machine.agent is None for machine in self.machines) or self.office.server is None:
            self.problem("a machine is off although everything is in order")
        rounds = await self._settle()
        if not self.problems and await a_week_later(self):
            await self._settle()
        return rounds

    async def _settle(self) -> int:
        """Let everybody sync until nothing moves; how many rounds that took."""
        await asyncio.sleep(BETWEEN_ROUNDS_S)
        for number in range(1, ROUNDS + 1):
            order = [machine for machine in self.machines if not machine.revoked]
            self.random.shuffle(order)
            quiet = True
            for machine in order:
                quiet = await self._sync(machine) and quiet
            if self.problems or quiet:
                return number
            await asyncio.sleep(BETWEEN_ROUNDS_S)
        self.problem(f"after {ROUNDS} rounds something is still on its way")
        return ROUNDS

    async def end(self) -> None:
        """Switch everything off."""
        for machine in self.machines:
            await machine.switch_off()
        await self.office.switch_off()
        self.sticks.close()

    # --- steps --------------------------------------------------------------------------------------------------------

    async def _take(self, step: Step) -> None:
        machine = self.machines[step.actor % len(self.machines)]
        random = Random(step.chance)
        if step.what in ACTS:
            machine.spawn(self.act(machine, step))
        elif step.what == "sync":
            machine.spawn(self._sync(machine))
        else:
            what = await _EVENTS[step.what](self, machine, random)
            self.note("world", f"{step.what}: {what}")

    async def act(self, machine: Machine, step: Step) -> None:
        """What somebody does at a machine."""
        agent = machine.agent
        if agent is None:
            return
        try:
            said = await ACTS[step.what](machine, agent, Random(step.chance), self.ledger, step.number)
            await self.observe(machine)
        except RelaisError as error:
            said = f"{type(error).__name__} {error.code}"
            if not self._foreseen(machine, error, healing=False):
                self.problem(f"{machine.name}: {step.what}: {said}: {error}")
        except BrokenError as broken:
            said = "broken"
            self.problem(f"{machine.name}: {broken}")
        if said != "-":
            self.note(machine.name, f"{step.what}: {said}")

    async def _sync(self, machine: Machine) -> bool:
        """Sync a machine; whether nothing was new."""
        if machine.agent is None:
            return True
        healing = self.healing
        try:
            result = await machine.sync()
            await self.observe(machine)
        except RelaisError as error:
            self.note(machine.name, f"sync: {type(error).__name__} {error.code}")
            if not self._foreseen(machine, error, healing=healing):
                self.problem(f"{machine.name}: sync: {type(error).__name__} {error.code}: {error}")
            return False
        self.note(
            machine.name,
            f"sync: {result.received} received, {result.sent} sent, {result.round_trips} requests, "
            f"{result.bytes_in + result.bytes_out} B",
        )
        return result.is_quiet

    def _foreseen(self, machine: Machine, error: RelaisError, *, healing: bool) -> bool:
        """Whether an error belongs to the weather, or to a right that was taken away."""
        spoiled = self.plan.weather.spoiled > 0
        match error:
            case NoAnswer():
                return not healing
            case PeerFault(code=Code.BAD_HASH):
                # a download or an upload whose end was torn by a power cut
                return True
            case PeerFault(code=Code.WRONG_KEY) if self.births > 1 and not healing:
                # a sync meets one new server on its way; where two were born meanwhile, the next sync goes on
                return True
            case PeerFault() | TooLarge():
                return spoiled
            case Refused(code=Code.WRONG_TERRITORY):
                return spoiled
            case Refused(code=Code.REVOKED | Code.NO_RIGHT | Code.CANNOT_READ):
                return machine.revoked or spoiled or bool(self.doubtful)
            case BadInput(code=Code.UNKNOWN_SPACE | Code.UNKNOWN_ITEM):
                return machine.revoked
            case BadInput(code=Code.UNKNOWN_HAND_IN):
                return machine.revoked or bool(self.erased)
            case LocalFailure(code=Code.INCOMPLETE):
                return True
        return False

    async def observe(self, machine: Machine) -> None:
        """The states of hand-ins, as they are on a disk, only ever move forward."""
        agent = machine.agent
        if agent is None:
            return
        store = agent.replica.store
        marks = {**await store.marks(FORGETS_MARKS), **await store.marks(ENTRUSTED_MARKS)}
        for work in await works_of(agent):
            if lasting_state(agent, work, marks) is HandInState.SAFE:
                self._check_copies(machine, work)
            rank, key = STATE_RANK[work.state], (id(machine.disk), work.id)
            if rank < self._states.get(key, 0) and not self.doubtful:
                self.problem(f"{machine.name}: hand-in {work.id.hex()[:8]} went back to {work.state}")
            self._states[key] = rank

    def _check_copies(self, machine: Machine, work: Work) -> None:
        """Who has signed for a second copy, and has not lost its disk since, holds the whole of it."""
        if work.person in self.erased:
            return
        for other in self.machines:
            signed = other.device in work.copies and other.remembers and not other.revoked
            if signed and not holds_sealed(other.disk, work):
                self.problem(f"{machine.name}: hand-in {work.id.hex()[:8]} is said to be safe at {other.name}")

    # --- what happens to machines -------------------------------------------------------------------------------------

    async def _unplug(self, machine: Machine, _random: Random) -> str:
        machine.line.up = False
        return machine.name

    async def _plug(self, machine: Machine, _random: Random) -> str:
        machine.line.up = True
        return machine.name

    async def _power_cut(self, machine: Machine, _random: Random) -> str:
        await machine.switch_off()
        return machine.name

    async def _power_cut_soon(self, machine: Machine, random: Random) -> str:
        calls, after = random.randrange(1, 25), random.random() < 0.5
        machine.power.cut_in(calls, after=after)
        return f"{machine.name}, {'after' if after else 'before'} {calls} writes"

    async def _power_cut_in_sync(self, machine: Machine, random: Random) -> str:
        calls, after = random.randrange(1, 7), random.random() < 0.5
        machine.power.cut_in(calls, after=after)
        machine.spawn(self._sync(machine))
        return f"{machine.name}, {'after' if after else 'before'} {calls} writes"

    async def _boot(self, machine: Machine, _random: Random) -> str:
        await self._start(machine)
        return machine.name

    async def _start(self, machine: Machine) -> None:
        """Switch a machine on; one that is frozen begins each time as it was on its first day."""
        if machine in self.frozen:
            await machine.switch_off()
            self._change_disk(machine, self._images[machine][0].image())
        await machine.boot()

    async def _image(self, machine: Machine, _random: Random) -> str:
        self._images[machine].append(machine.disk.image())
        return machine.name

    async def _forget(self, machine: Machine, random: Random) -> str:
        await machine.switch_off()
        images = self._images[machine]
        number = random.randrange(len(images))
        self._change_disk(machine, images[number].image())
        machine.remembers = False
        await machine.boot()
        return f"{machine.name} is again as it was in image {number}"

    async def _clone(self, machine: Machine, _random: Random) -> str:
        if len(self.machines) >= MOST_MACHINES + 2:
            return "-"
        clone = self._enter(machine.birth, machine.disk.image(), name=f"{machine.name}'")
        clone.line.weather = machine.line.weather
        clone.revoked, clone.skew_ms, clone.keeps_time = machine.revoked, machine.skew_ms, machine.keeps_time
        machine.remembers = clone.remembers = False
        await clone.boot()
        return clone.name

    async def _clock(self, machine: Machine, random: Random) -> str:
        machine.keeps_time = False
        machine.skew_ms = random.choice((0, random.randrange(-20, 21) * YEAR_MS, random.randrange(-100_000, 100_000)))
        return f"{machine.name} by {machine.skew_ms / 1000:.0f} s"

    # --- what happens at the server -----------------------------------------------------------------------------------

    async def at_server(self, work: Callable[..., Coroutine[Any, Any, object]], *args: object) -> str:
        """What an administrator does there, as a task that the power may end."""
        server = self.office.server
        if server is None:
            return "-"

        async def done() -> None:
            try:
                await work(server, *args)
            except BadInput as error:
                self.note("server", f"{work.__name__}: {error.code}")

        self.office.spawn(done())
        return work.__name__

    async def _conflict(self, _machine: Machine, random: Random) -> str:
        """All teachers revise what is shown to them first, at the same time."""
        teachers = [other for other in self.machines if other.birth.role is Role.TEACHER]
        for other in teachers:
            step = Step(random.randrange(10**6, 10**7), 0, "revise first", 0, random.randrange(2**32))
            other.spawn(self.act(other, step))
        return " ".join(other.name for other in teachers)

    async def _add_person(self, _machine: Machine, random: Random) -> str:
        space = random.choice(self.founding.spaces)
        server = self.office.server
        if server is None or not server.replica.door.knows_space(space):
            return "-"
        return await self.at_server(add_person, f"Élève {random.randrange(99)}", PersonRole.PUPIL, [space])

    async def _let_go(self, machine: Machine, _random: Random) -> str:
        if len([other for other in self.machines if not other.revoked]) <= 2:
            return "-"
        self.doubtful.add(machine.device)
        for other in self.machines:
            if other.device == machine.device and not other.revoked:
                other.revoked = True
                self.ledger.burn(other.disk, self.disks())
        await self.at_server(revoke_device, machine.device)
        return machine.name

    async def _let_back(self, machine: Machine, random: Random) -> str:
        if machine.device not in self.doubtful:
            return "-"
        await self.at_server(grant_device, machine.device, [random.choice(self.founding.spaces)])
        return machine.name

    async def _server_power_cut(self, _machine: Machine, _random: Random) -> str:
        await self.office.switch_off()
        return "server"

    async def _server_power_cut_soon(self, _machine: Machine, random: Random) -> str:
        calls, after = random.randrange(1, 12), random.random() < 0.5
        self.office.power.cut_in(calls, after=after)
        return f"{'after' if after else 'before'} {calls} writes"

    async def _server_boot(self, _machine: Machine, _random: Random) -> str:
        await self.office.boot()
        return "server"

    async def _backup(self, _machine: Machine, _random: Random) -> str:
        self._backups.append(self.office.disk.image())
        return f"number {len(self._backups) - 1}"

    async def _restore(self, _machine: Machine, random: Random) -> str:
        await self.office.switch_off()
        number = random.randrange(len(self._backups))
        self._change_server_disk(self._backups[number].image())
        await self.office.boot()
        return f"number {number}"

    async def _rebirth(self, _machine: Machine, random: Random) -> str:
        await self.office.switch_off()
        birth = await begin_server(self.founding.kit, now_ms=self.true_ms(), entropy=random.randbytes)
        self.office.birth = birth
        self.births += 1
        self._backups = [birth.disk.image()]
        self._change_server_disk(birth.disk)
        await self.office.boot()
        return birth.territory.generation.hex()

    async def _storm(self, _machine: Machine, _random: Random) -> str:
        for machine in self.machines:
            machine.line.weather = self.plan.weather
        return "begins"

    async def _calm(self, _machine: Machine, _random: Random) -> str:
        for machine in self.machines:
            machine.line.weather = CALM
        return "begins"

    # --- disks and chance ---------------------------------------------------------------------------------------------

    def _enter(self, birth: Birth, disk: Disk, *, name: str | None = None) -> Machine:
        name = name or birth.name
        machine = Machine(
            birth,
            name,
            disk,
            self.office,
            self._chance(f"{name} {len(self.machines)}"),
            self.true_ms,
            self,
            lambda what: self.note(name, what),
            daemon=self.plan.daemons,
        )
        self.machines.append(machine)
        self._images[machine] = [birth.disk.image()]
        return machine

    def _change_disk(self, machine: Machine, disk: Disk) -> None:
        burnt, machine.disk = machine.disk, disk
        self._old_disks.append(burnt)
        self.ledger.burn(burnt, self.disks())

    def _change_server_disk(self, disk: Disk) -> None:
        burnt, self.office.disk = self.office.disk, disk
        self.ledger.burn(burnt, self.disks())

    def disks(self) -> list[Disk]:
        """Those that count: the server's, and those of machines that were not let go."""
        return [self.office.disk, *(machine.disk for machine in self.machines if not machine.revoked)]

    def _chance(self, what: str) -> Random:
        return Random(f"{what} {self.plan.seed}")

    @property
    def _loop(self) -> VirtualLoop:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        return loop


_EVENTS: Final[Mapping[str, Callable[[World, Machine, Random], Awaitable[str]]]] = {
    "unplug": World._unplug,
    "plug": World._plug,
    "power cut": World._power_cut,
    "power cut soon": World._power_cut_soon,
    "power cut in sync": World._power_cut_in_sync,
    "boot": World._boot,
    "image": World._image,
    "forget": World._forget,
    "clone": World._clone,
    "clock": World._clock,
    "conflict": World._conflict,
    "add person": World._add_person,
    "let go": World._let_go,
    "let back": World._let_back,
    "server power cut": World._server_power_cut,
    "server power cut soon": World._server_power_cut_soon,
    "server boot": World._server_boot,
    "backup": World._backup,
    "restore": World._restore,
    "rebirth": World._rebirth,
    "storm": World._storm,
    "calm": World._calm,
    **AT_SCHOOL,
}
