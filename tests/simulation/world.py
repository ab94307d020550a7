"""A history as it is lived: machines, server, lines, and the steps of a plan that happen to them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from hashlib import blake2b
from random import Random
from typing import Final

from protocol.errors import BadInput, Code, LocalFailure, NoAnswer, PeerFault, Refused, RelaisError, TooLarge
from protocol.folds.coursework import HandInState, Work
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Grant
from protocol.rights.roster import Roster
from protocol.roles import READS_HAND_INS, Role
from protocol.trust.kit import Kit
from sync_agent.hand_ins.copies import lasting_state
from sync_agent.machine.marks import ENTRUSTED_MARKS, FORGETS_MARKS
from tests.simulation.at_school import EVENTS as AT_SCHOOL
from tests.simulation.at_school import a_week_later, agree_without_server, sweep_all
from tests.simulation.at_server import EVENTS as AT_SERVER
from tests.simulation.by_kit import EVENTS as BY_KIT
from tests.simulation.claims import EVENTS as OF_CLAIMS
from tests.simulation.devices import EVENTS as OF_DEVICES
from tests.simulation.disk import Disk
from tests.simulation.founding import Birth, Founding
from tests.simulation.freezing import EVENTS as OF_FREEZING
from tests.simulation.freezing import lift_all
from tests.simulation.full_disks import EVENTS as OF_FULL_DISKS
from tests.simulation.full_disks import check_made_way
from tests.simulation.hiding import EVENTS as HIDING
from tests.simulation.journeys import EVENTS as JOURNEYS
from tests.simulation.ledger import BrokenError, Ledger, holds_sealed
from tests.simulation.lines import CALM
from tests.simulation.machine import Machine, SimAgent
from tests.simulation.malware import EVENTS as MALWARE
from tests.simulation.neighbours import Neighbours
from tests.simulation.office import Office
from tests.simulation.ordering import EVENTS as ORDERING
from tests.simulation.ordering import lifted
from tests.simulation.orders import Orders, let_drills_end, rehearses
from tests.simulation.people import ACTS, STATE_RANK, works_of
from tests.simulation.plan import MOST_MACHINES, Plan, Step
from tests.simulation.relaying import EVENTS as RELAYING
from tests.simulation.replaying import EVENTS as REPLAYING
from tests.simulation.rotating import EVENTS as ROTATING
from tests.simulation.rotating import finish_rotation
from tests.simulation.school import EVENTS as OF_THE_HEAD
from tests.simulation.signing_in import EVENTS as SIGNING_IN
from tests.simulation.sticks import Sticks
from tests.simulation.theft import EVENTS as OF_THIEVES
from tests.simulation.theft import report_theft, say_again_what_goes_on
from tests.simulation.three_laptops import EVENTS as THREE_LAPTOPS
from tests.simulation.trust import Trust, line_of
from tests.simulation.usurping import EVENTS as OF_USURPERS
from tests.simulation.virtual_time import VirtualLoop

ROUNDS: Final = 5
LOOKS: Final = 3
"""How often somebody looks whether a server that was made anew knows a stolen device by now."""
LEAST_MACHINES: Final = 2
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
        self.kit = begun.kit
        self.next_kit: Kit | None = None
        """The kit of a root that takes over, as long as nothing has proved that it has."""
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
        self.trust = Trust()
        self.orders = Orders()
        self.births = 0
        self.was_set_back = False
        """The server, to an image from before: whoever was sending to it then sends what it knows nothing of."""
        self.ahead_ms = 0
        self.frozen: set[Machine] = set()
        self.images: dict[Machine, list[Disk]] = {}
        self.backups: list[Disk] = [birth.disk.image()]
        self.old_backups: list[Disk] = []
        """Those of servers before this one."""
        self._old_disks: list[Disk] = []
        self.burnt: list[Disk] = []
        """Those of the server that are gone."""
        self._states: dict[tuple[int, bytes], int] = {}
        for number in plan.machines:
            self.enter(self.founding.machines[number], self.founding.machines[number].disk.image())
        if plan.frozen is not None:
            self.frozen.add(self.machines[plan.frozen])
            self.machines[plan.frozen].remembers = False

    @property
    def spaces(self) -> list[bytes]:
        """All classes that were ever made."""
        return [*self.founding.spaces, *self.trust.made_spaces]

    def head(self) -> Machine | None:
        """The head teacher's device, while she has it."""
        heads = (machine for machine in self.machines if machine.birth.role is Role.HEAD and not machine.revoked)
        return next(heads, None)

    def may_go(self, machine: Machine) -> bool:
        """Whether enough machines are left without one."""
        left = {other.device for other in self.machines if not other.revoked} - line_of(self, machine.device)
        return not machine.revoked and len(left) >= LEAST_MACHINES

    def may_have_ended(self, machine: Machine) -> bool:
        """Whether a stay may be over although it is not: a head teacher's device whose clock is wrong has ended it."""
        heads = (other for other in self.machines if other.birth.role is Role.HEAD)
        return machine.birth.until_ms is not None and any(not head.keeps_time for head in heads)

    def let_in_by(self, machine: Machine) -> set[bytes]:
        """Whom a head teacher's device has let in: what the server had not heard of by then waits for somebody."""
        return self.trust.let_in_by_head if machine.birth.role is Role.HEAD else set()

    def goes(self, devices: set[bytes]) -> None:
        """These devices are ours no more: what lay on them alone is gone, and what they say is promised to nobody."""
        self.doubtful |= devices
        going = [machine for machine in self.machines if machine.device in devices and not machine.revoked]
        for machine in going:
            machine.revoked = True
        for machine in going:
            self.ledger.burn(machine.disk, self.disks())

    def says(self, machine: Machine) -> bool:
        """Whether what a machine says is promised to others."""
        return machine.device not in self.doubtful

    def erases(self, persons: set[bytes]) -> None:
        """Somebody who may wants these to be forgotten."""
        self.note_erased(persons)
        self.trust.erased_by_thief -= persons

    def note_erased(self, persons: set[bytes]) -> None:
        """Somebody wants these to be forgotten."""
        self.erased |= persons
        for person in persons:
            self.trust.erased_ms.setdefault(person, self.true_ms())

    def heed_orders(self) -> None:
        """Something is ordered: from now on machines look for what they should heed, as their daemons always do."""
        self.orders.given = True
        for machine in self.machines:
            machine.heeds = True

    def pass_ms(self, milliseconds: int) -> None:
        """Let days go by; stays may be over by then."""
        self.ahead_ms += milliseconds
        for machine in self.machines:
            if machine.birth.until_ms is not None and machine.birth.until_ms <= self.true_ms():
                self.goes({machine.device})

    # --- time, notes --------------------------------------------------------------------------------------------------

    def true_ms(self) -> int:
        """The true time."""
        return self.founding.begins_ms + self.ahead_ms + int(self._loop.now_s * 1000)

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
            machine.line.weather, machine.line.up, machine.disk.room_bytes = CALM, True, None
            if machine.agent is None:
                await self._start(machine)
        if self.plan.isolated and not self.orders.given:
            await self.office.switch_off()
            await agree_without_server(self)
        if self.office.server is None:
            await self.office.boot()
        await self._end_drills()
        await finish_rotation(self)
        self.healing = True
        if any(machine.agent is None for machine in self.machines) or self.office.server is None:
            self.problem("a machine is off although everything is in order")
        if self.trust.stolen:
            await self._say_what_is_stolen()
        rounds = await (self._settle_orders() if self.orders.given else self.settle())
        if not self.problems and await self._lift_freezes():
            rounds += await self.settle()
        if not self.problems and await say_again_what_goes_on(self):
            rounds += await self.settle()
        if not self.problems and await a_week_later(self):
            await self.settle()
            # a space that it had lost may have come back to the server with that: the hourly look destroys there too
            await sweep_all(self)
        return rounds

    async def _say_what_is_stolen(self) -> None:
        """Once the server knows again who is there: so far whoever a thief had cut off may have been refused."""
        for _ in range(2):
            for machine in self.machines:
                if not machine.revoked:
                    await self.sync(machine)
        for device in self.trust.stolen:
            for _ in range(LOOKS):
                is_known = self._server_knows(device)
                await report_theft(self, device)
                await asyncio.sleep(BETWEEN_ROUNDS_S)
                if is_known:
                    break

    def _server_knows(self, device: bytes) -> bool:
        """Whether it can be reported there: a server that was made anew lists whoever has called, or is known to these.

        Whoever misses it on that list looks again (docs/operate.md).
        """
        server = self.office.server
        return server is not None and bool(server.replica.door.authorities_of(device))

    async def _lift_freezes(self) -> bool:
        return self.office.server is not None and await lift_all(self.office.server) > 0

    async def _end_drills(self) -> None:
        try:
            if self.orders.given:
                await let_drills_end(self)
        except BrokenError as broken:
            self.problem(f"{broken}")

    async def _settle_orders(self) -> int:
        """Have quarantines lifted that the server knows of, and then those that came later; drills have ended."""
        rounds = 0
        for _ in range(2):
            await self._end_drills()
            if self.office.server is not None and not self.problems:
                await lifted(self, self.office.server)
                rounds += await self.settle()
        return rounds

    async def settle(self) -> int:
        """Let everybody sync until nothing moves; how many rounds that took."""
        await asyncio.sleep(BETWEEN_ROUNDS_S)
        for number in range(1, ROUNDS + 1):
            order = [machine for machine in self.machines if not machine.revoked]
            self.random.shuffle(order)
            quiet = True
            for machine in order:
                quiet = (await self.sync(machine) or self.may_have_ended(machine)) and quiet
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
        self.office.close()
        self.sticks.close()

    # --- steps --------------------------------------------------------------------------------------------------------

    async def _take(self, step: Step) -> None:
        machine = self.machines[step.actor % len(self.machines)]
        random = Random(step.chance)
        if step.what in ACTS:
            machine.spawn(self.act(machine, step))
        elif step.what == "sync":
            machine.spawn(self.sync(machine))
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
            if not self.foreseen(machine, error, healing=False):
                self.problem(f"{machine.name}: {step.what}: {said}: {error}")
        except BrokenError as broken:
            said = "broken"
            self.problem(f"{machine.name}: {broken}")
        if said != "-":
            self.note(machine.name, f"{step.what}: {said}")

    async def sync(self, machine: Machine) -> bool:
        """Sync a machine; whether nothing was new, and no content has gone up."""
        if machine.agent is None:
            return True
        before, at_server = await machine.disk.unsent(), await self._content_at_server()
        healing, rehearsing = self.healing, rehearses(self, machine)
        try:
            result = await machine.sync()
            await self.observe(machine)
            if rehearsing and rehearses(self, machine):
                self.problem(f"{machine.name} reaches the server although it is in a drill")
        except RelaisError as error:
            self.note(machine.name, f"sync: {type(error).__name__} {error.code}")
            if not self.foreseen(machine, error, healing=healing):
                self.problem(f"{machine.name}: sync: {type(error).__name__} {error.code}: {error}")
            return False
        self.note(
            machine.name,
            f"sync: {result.received} received, {result.sent} sent, {result.round_trips} requests, "
            f"{result.bytes_in + result.bytes_out} B",
        )
        # parts of what nobody has as a whole any more are offered once an hour, by each at an hour of its own
        offers_again = machine.agent is not None and bool(await machine.agent.missing())
        is_quiet = result.is_quiet or (
            offers_again
            and not (result.received or result.sent or result.brought)
            and at_server == await self._content_at_server()
        )
        return is_quiet and before <= await machine.disk.unsent()

    async def _content_at_server(self) -> tuple[int, int, int] | None:
        """How much content the server has."""
        server = self.office.server
        return None if server is None else await server.replica.content.totals()

    def foreseen(self, machine: Machine, error: RelaisError, *, healing: bool) -> bool:
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
            case PeerFault(code=Code.OVER_QUOTA) if self.was_set_back and not healing:
                return True
            case PeerFault() | TooLarge():
                return spoiled
            case Refused(code=Code.WRONG_TERRITORY):
                return spoiled
            case Refused(code=Code.REVOKED | Code.NO_RIGHT | Code.CANNOT_READ):
                return machine.revoked or spoiled or bool(self.doubtful)
            case BadInput(code=Code.UNKNOWN_SPACE | Code.UNKNOWN_ITEM):
                # whom a thief cuts off as she publishes: what she published before is held back, the rest of it comes
                return machine.revoked or bool(self.trust.closed or self.doubtful)
            case BadInput(code=Code.UNKNOWN_REVISION):
                # two of its people choose at once, and the other was quicker
                return not healing
            case BadInput(code=Code.UNKNOWN_HAND_IN):
                return machine.revoked or bool(self.erased or self.trust.closed)
            case LocalFailure(code=Code.INCOMPLETE):
                return True
            case LocalFailure(code=Code.DISK_FULL):
                return not healing
        return False

    async def observe(self, machine: Machine) -> None:
        """The states of hand-ins, as they are on a disk, only ever move forward."""
        agent = machine.agent
        if agent is None:
            return
        await check_made_way(self, machine, agent)
        store = agent.replica.store
        marks = {**await store.marks(FORGETS_MARKS), **await store.marks(ENTRUSTED_MARKS)}
        for work in await works_of(agent):
            roster = (await agent.replica.view(work.space)).roster
            if lasting_state(agent, roster, work, marks) is HandInState.SAFE:
                self._check_copies(machine, work, roster)
            rank, key = STATE_RANK[work.state], (id(machine.disk), work.id)
            if rank < self._states.get(key, 0) and not self.doubtful:
                self.problem(f"{machine.name}: hand-in {work.id.hex()[:8]} went back to {work.state}")
            self._states[key] = rank

    def _check_copies(self, machine: Machine, work: Work, roster: Roster) -> None:
        """Who has signed for a second copy, and has not lost its disk since, holds the whole of it."""
        if work.person in self.erased:
            return
        agent = machine.agent
        believed = agent is None or any(self._believable(agent, roster, by) for by in work.copies)
        if agent is not None and agent.made(work) and not believed:
            self.problem(f"{machine.name}: hand-in {work.id.hex()[:8]} is safe by the word of who never had it")
        for other in self.machines:
            signed = other.device in work.copies and other.remembers and not other.revoked
            if signed and other.device not in self.trust.liars and not holds_sealed(other.disk, work):
                self.problem(f"{machine.name}: hand-in {work.id.hex()[:8]} is said to be safe at {other.name}")

    def _believable(self, agent: SimAgent, roster: Roster, signer: bytes) -> bool:
        """Whether a device that reads there holds all work anyway, or may have been given some by this one."""
        if not roster.may_read(signer):
            return False
        roles = {each.role for each in roster.authorities if each.key == signer}
        met = any(frozenset((key, signer)) in self.trust.met for key in (agent.device, *agent.former))
        return met or not roles.isdisjoint(READS_HAND_INS)

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
        machine.spawn(self.sync(machine))
        return f"{machine.name}, {'after' if after else 'before'} {calls} writes"

    async def _boot(self, machine: Machine, _random: Random) -> str:
        await self._start(machine)
        return machine.name

    async def _start(self, machine: Machine) -> None:
        """Switch a machine on; one that is frozen begins each time as it was on its first day."""
        if machine in self.frozen:
            await machine.switch_off()
            self.change_disk(machine, self.images[machine][0].image())
        await machine.boot()

    async def _image(self, machine: Machine, _random: Random) -> str:
        self.images[machine].append(machine.disk.image())
        return machine.name

    async def _forget(self, machine: Machine, random: Random) -> str:
        await machine.switch_off()
        images = self.images[machine]
        number = random.randrange(len(images))
        self.change_disk(machine, images[number].image())
        machine.remembers = False
        await machine.boot()
        return f"{machine.name} is again as it was in image {number}"

    async def clone(self, machine: Machine, _random: Random) -> str:
        """An image of a machine's disk, put into another one."""
        if len(self.machines) >= MOST_MACHINES + 2:
            return "-"
        clone = self.enter(machine.birth, machine.disk.image(), name=f"{machine.name}'")
        clone.line.weather = machine.line.weather
        clone.revoked, clone.skew_ms, clone.keeps_time = machine.revoked, machine.skew_ms, machine.keeps_time
        machine.remembers = clone.remembers = False
        await clone.boot()
        return clone.name

    async def _clock(self, machine: Machine, random: Random) -> str:
        machine.keeps_time = False
        machine.skew_ms = random.choice((0, random.randrange(-20, 21) * YEAR_MS, random.randrange(-100_000, 100_000)))
        return f"{machine.name} by {machine.skew_ms / 1000:.0f} s"

    # --- disks and chance ---------------------------------------------------------------------------------------------

    def enter(self, birth: Birth, disk: Disk, *, name: str | None = None) -> Machine:
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
        machine.heeds = self.orders.given
        self.machines.append(machine)
        self.images[machine] = [birth.disk.image()]
        return machine

    def change_disk(self, machine: Machine, disk: Disk) -> None:
        burnt, machine.disk = machine.disk, disk
        self._old_disks.append(burnt)
        self.ledger.burn(burnt, self.disks())

    def change_server_disk(self, disk: Disk) -> None:
        burnt, self.office.disk = self.office.disk, disk
        self.burnt.append(burnt)
        self.ledger.burn(burnt, self.disks())
        # what only the burnt disk knew of, nobody has confirmed any more
        said = [
            entry for each in (disk, *(one.disk for one in self.machines)) for entry in each.store._entries.values()
        ]
        granted = {Grant.parse(entry.payload or b"").signing for entry in said if entry.header.kind == Kind.GRANT}
        self.trust.confirmed &= granted

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
    "clone": World.clone,
    "clock": World._clock,
    **AT_SERVER,
    **AT_SCHOOL,
    **OF_THE_HEAD,
    **OF_THIEVES,
    **OF_DEVICES,
    **SIGNING_IN,
    **MALWARE,
    **JOURNEYS,
    **ORDERING,
    **BY_KIT,
    **ROTATING,
    **RELAYING,
    **OF_FULL_DISKS,
    **OF_FREEZING,
    **OF_CLAIMS,
    **OF_USURPERS,
    **HIDING,
    **THREE_LAPTOPS,
    **REPLAYING,
}
