"""What happens at school without a server: exchanges, links that stand for a while, sticks; and what is erased."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, Final

from protocol.errors import BadInput, Code, LocalFailure, NoAnswer, PeerFault, Refused, RelaisError
from protocol.limits import ERASURE_DELAY_MS
from protocol.replica.eraser import Eraser
from protocol.replica.office.erasures import erase_persons
from protocol.roles import PersonRole
from sync_agent.erasing import destroy_erased
from tests.simulation.lines import CALM, Weather
from tests.simulation.machine import Machine
from tests.simulation.sticks import STICKS

if TYPE_CHECKING:
    from tests.simulation.world import World

DAY_MS: Final = 24 * 3600 * 1000
LINK_LASTS_S: Final = (5.0, 90.0)
MOST_ERASED: Final = 3
LAN_ROUNDS: Final = 5

Event = Callable[["World", Machine, Random], Awaitable[str]]


# --- neighbours -------------------------------------------------------------------------------------------------------


async def meet(world: World, machine: Machine, random: Random) -> str:
    """Two machines exchange what both may read, once."""
    other = _other(world, machine, random)
    if other is None:
        return "-"
    machine.spawn(exchange(world, machine, other, machine.line.weather))
    return f"{machine.name} and {other.name}"


async def link(world: World, machine: Machine, random: Random) -> str:
    """A live link between two machines stands for a while."""
    other = _other(world, machine, random)
    if other is None:
        return "-"
    lasts_s = random.uniform(*LINK_LASTS_S)
    machine.spawn(world.neighbours.live(machine, other, machine.line.weather, lasts_s))
    return f"{machine.name} to {other.name} for {lasts_s:.0f} s"


async def exchange(world: World, machine: Machine, other: Machine, weather: Weather) -> bool:
    """One exchange; whether it brought both to agree. What may go wrong on the way is no surprise."""
    try:
        result = await world.neighbours.exchange(machine, other, weather)
    except (NoAnswer, Refused) as error:
        machine.note(f"exchange with {other.name}: {error.code}")
        return False
    except PeerFault as error:
        machine.note(f"exchange with {other.name}: {error.code}")
        if weather.spoiled == 0 and error.code is not Code.BAD_HASH:
            world.problem(f"{machine.name}: exchange with {other.name}: {error.code}: {error}")
        return False
    machine.note(f"exchange with {other.name}: {result.received} received, {result.sent} sent")
    for one in (machine, other):
        await world.observe(one)
    return True


def _other(world: World, machine: Machine, random: Random) -> Machine | None:
    other = random.choice(world.machines)
    fit = all(one.agent is not None and not one.revoked for one in (machine, other))
    return other if fit and other is not machine else None


async def agree_without_server(world: World) -> None:
    """Nobody reaches the server; along one chain and back, a class comes to agree, lessons included."""
    machines = list({machine.device: machine for machine in world.machines if not machine.revoked}.values())
    for _ in range(LAN_ROUNDS):
        before = _held(world)
        for space in world.founding.spaces:
            members = [one for one in machines if one.agent is not None and space in await one.agent.spaces()]
            world.neighbours.random.shuffle(members)
            for one, other in (*pairwise(members), *pairwise(reversed(members))):
                if not await exchange(world, one, other, CALM) and not world.doubtful:
                    world.problem(f"{one.name} and {other.name} do not come to terms without the server")
                    return
        if _held(world) == before:
            # what the last ones of a round sign for one another, the next round carries
            break
    if not world.doubtful:
        for space in world.founding.spaces:
            await _check_agreement(world, machines, space)


async def _check_agreement(world: World, machines: Sequence[Machine], space: bytes) -> None:
    agents = {one.name: one.agent for one in machines if one.agent is not None and space in await one.agent.spaces()}
    if len({await agent.replica.fingerprint(space) for agent in agents.values()}) > 1:
        world.problem(f"without a server {sorted(agents)} do not agree in {space.hex()[:8]}")
    lacking = {
        name: {need for need in await agent.missing() if need.space == space and not need.sealed}
        for name, agent in agents.items()
    }
    for name, missing in lacking.items():
        for need in missing:
            if holder := next((other for other in agents if need not in lacking[other]), None):
                world.problem(f"without a server {name} lacks a lesson that {holder} has: {need.stream.hex()[:8]}")


# --- sticks -----------------------------------------------------------------------------------------------------------


async def export(world: World, machine: Machine, random: Random) -> str:
    """A stick is filled; the power may go meanwhile."""
    if machine.agent is None or machine.revoked:
        return "-"
    number = random.randrange(1 << 16)
    machine.spawn(_at_stick(world, machine, "export", world.sticks.export(machine.agent, number)))
    return machine.name


async def bring(world: World, machine: Machine, random: Random) -> str:
    """What a stick brings is taken in."""
    if machine.agent is None or machine.revoked:
        return "-"
    machine.spawn(bring_stick(world, machine, random.randrange(1 << 16)))
    return machine.name


async def bring_stick(world: World, machine: Machine, number: int) -> None:
    """The same, to its end."""
    if machine.agent is not None:
        await _at_stick(world, machine, "import", world.sticks.bring(machine.agent, number))
        await world.observe(machine)


async def _at_stick(world: World, machine: Machine, what: str, work: Awaitable[str]) -> None:
    try:
        said = await work
    except (BadInput, LocalFailure, Refused) as error:
        said = str(error.code)
        if error.code not in _STICK_TROUBLE:
            world.problem(f"{machine.name}: {what}: {said}: {error}")
    except RelaisError as error:
        said = str(error.code)
        world.problem(f"{machine.name}: {what}: {said}: {error}")
    machine.note(f"{what}: {said}")


async def tear(world: World, _machine: Machine, random: Random) -> str:
    """A stick comes out of a pocket with a torn file."""
    return world.sticks.tear(random.randrange(1 << 16), random)


async def copy(world: World, _machine: Machine, random: Random) -> str:
    """A stick is copied: one of the two will be an old one."""
    return world.sticks.copy(random.randrange(1 << 16))


# … among it that somebody else copies onto it meanwhile, or pulls it out
_STICK_TROUBLE: Final = frozenset(
    {Code.MISSING_FILE, Code.DAMAGED, Code.CANNOT_READ, Code.INCOMPLETE, Code.STORAGE_FAILED, Code.CUT_OFF}
)


# --- erasing ----------------------------------------------------------------------------------------------------------


async def erase(world: World, _machine: Machine, random: Random) -> str:
    """A pupil is to be forgotten."""
    server = world.office.server
    if server is None or len(world.erased) >= MOST_ERASED:
        return "-"
    space = random.choice(world.founding.spaces)
    if not server.replica.door.knows_space(space):
        return "-"
    persons = (await server.replica.view(space)).roster.persons.values()
    pupils = sorted(person.id for person in persons if person.role is PersonRole.PUPIL)
    if not pupils:
        return "-"
    pupil = random.choice(pupils)
    world.erased.add(pupil)
    return f"{pupil.hex()[:8]} {await world.at_server(erase_persons, [pupil])}"


async def days(world: World, _machine: Machine, random: Random) -> str:
    """Nobody is there for some days; who is on destroys what is due then."""
    count = random.choice((1, 3, 8))
    world.ahead_ms += count * DAY_MS
    for machine in world.machines:
        machine.spawn(sweep(machine))
    world.office.spawn(sweep_server(world))
    return f"{count}"


async def sweep(machine: Machine) -> None:
    """What the daemon does every hour."""
    if machine.agent is not None:
        destroyed = await destroy_erased(machine.agent)
        if destroyed.entries:
            machine.note(f"destroyed {len(destroyed.entries)} entries")


async def sweep_server(world: World) -> None:
    """The same at the server."""
    server = world.office.server
    if server is not None:
        await Eraser(server.replica, server.holdings).sweep(server.now_ms())


async def sweep_all(world: World) -> None:
    """Everywhere."""
    await sweep_server(world)
    for machine in world.machines:
        await sweep(machine)


async def a_week_later(world: World) -> bool:
    """All that is erased is due, and is destroyed; then sticks turn up again everywhere. Whether anything moved."""
    held = _held(world)
    if world.erased:
        await sweep_all(world)
        world.ahead_ms += ERASURE_DELAY_MS + DAY_MS
        await sweep_all(world)
        if (server := world.office.server) is not None:
            # an erasure that only a stick still knows begins to count when it comes back
            world.due = world.erased & (await server.replica.view(server.replica.territory)).roster.erased
    if world.sticks.used:
        for machine in world.machines:
            for number in range(STICKS) if not machine.revoked else ():
                if world.sticks.files(number):
                    await bring_stick(world, machine, number)
    return bool(world.erased) or _held(world) != held


def _held(world: World) -> list[tuple[int, ...]]:
    """How much lies on each machine's disk: entries, packs, reports that came by sticks."""
    disks = [machine.disk for machine in world.machines]
    return [(len(disk.store._entries), len(disk.packs._packs), len(disk.store._registers)) for disk in disks]


EVENTS: Final[Mapping[str, Event]] = {
    "meet": meet,
    "link": link,
    "export": export,
    "import": bring,
    "tear stick": tear,
    "copy stick": copy,
    "erase": erase,
    "days": days,
}
