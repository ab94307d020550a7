"""What happens at school without a server: exchanges, links that stand for a while, sticks; and what is erased."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, Final

from protocol.errors import BadInput, Code, LocalFailure, NoAnswer, PeerFault, Refused, RelaisError
from protocol.limits import ERASURE_DELAY_MS, MAX_UNWATCHED_MS
from protocol.replica.at_work.replica import Replica
from protocol.replica.content.holdings import Need
from protocol.replica.office.erasures import in_force, is_in_doubt
from protocol.replica.office.stays import end_stays
from sync_agent.school.office import end_what_is_over
from sync_agent.upkeep.erasing import destroy_erased
from sync_server.handlers.record.erasures import confirm_destroyed
from tests.simulation.disk import Disk
from tests.simulation.ledger import BrokenError, gone_with
from tests.simulation.lines import CALM, Weather
from tests.simulation.machine import Machine
from tests.simulation.orders import check_silent, silent
from tests.simulation.sticks import STICKS

if TYPE_CHECKING:
    from tests.simulation.world import World

_HOUR_MS: Final = 3600 * 1000
DAY_MS: Final = 24 * _HOUR_MS
LINK_LASTS_S: Final = (5.0, 90.0)
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
    world.trust.met.add(frozenset((machine.device, other.device)))
    machine.spawn(world.neighbours.live(machine, other, machine.line.weather, lasts_s))
    return f"{machine.name} to {other.name} for {lasts_s:.0f} s"


async def exchange(world: World, machine: Machine, other: Machine, weather: Weather) -> bool:
    """One exchange; whether it brought both to agree. What may go wrong on the way is no surprise."""
    world.trust.met.add(frozenset((machine.device, other.device)))
    quiet, called = silent(world, (machine, other)), other.device
    try:
        result = await world.neighbours.exchange(machine, other, weather)
        check_silent(world, quiet)
    except BrokenError as broken:
        world.problem(f"{broken}")
        return False
    except (NoAnswer, Refused) as error:
        machine.note(f"exchange with {other.name}: {error.code}")
        return False
    except PeerFault as error:
        machine.note(f"exchange with {other.name}: {error.code}")
        # who took keys of its own in the middle of it is somebody else from then on
        is_other = error.code is Code.WRONG_KEY and other.device != called
        if weather.spoiled == 0 and error.code is not Code.BAD_HASH and not is_other:
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
        for space in world.spaces:
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
        for space in world.spaces:
            await _check_agreement(world, machines, space)


async def _check_agreement(world: World, machines: Sequence[Machine], space: bytes) -> None:
    agents = {one.name: one.agent for one in machines if one.agent is not None and space in await one.agent.spaces()}
    if len({await agent.replica.fingerprint(space) for agent in agents.values()}) > 1:
        world.problem(f"without a server {sorted(agents)} do not agree in {space.hex()[:8]}")
    lacking = {
        name: {need for need in await agent.missing() if need.space == space and not need.sealed}
        for name, agent in agents.items()
    }
    evicted = {name: {Need(*content, sealed=False) for content in agent.evicted} for name, agent in agents.items()}
    for name, missing in lacking.items():
        for need in missing:
            if holder := next((other for other in agents if need not in lacking[other] | evicted[other]), None):
                world.problem(f"without a server {name} lacks a lesson that {holder} has: {need.stream.hex()[:8]}")


# --- sticks -----------------------------------------------------------------------------------------------------------


async def export(world: World, machine: Machine, random: Random) -> str:
    """A stick is filled; the power may go meanwhile."""
    if machine.agent is None or machine.revoked:
        return "-"
    machine.spawn(export_stick(world, machine, random.randrange(1 << 16)))
    return machine.name


async def export_stick(world: World, machine: Machine, number: int) -> None:
    """The same, to its end."""
    if machine.agent is not None and not machine.revoked:
        await _at_stick(world, machine, "export", world.sticks.export(machine.agent, number))
        if lies := world.sticks.lies():
            world.problem(f"{machine.name}: under a bundle's name a stick holds what is not whole: {sorted(lies)}")


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
    quiet = silent(world, [machine])
    try:
        said = await work
        check_silent(world, quiet)
    except BrokenError as broken:
        said = "broken"
        world.problem(f"{machine.name}: {what}: {broken}")
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


async def full_stick(world: World, machine: Machine, random: Random) -> str:
    """A stick is filled on which hardly anything fits any more; then there is room again."""
    if machine.agent is None or machine.revoked:
        return "-"
    number, room = random.randrange(1 << 16), int(random.random() ** 2 * 6_000)

    async def fill() -> None:
        with world.sticks.nearly_full(number, room):
            await export_stick(world, machine, number)

    machine.spawn(fill())
    return f"{machine.name}, {room} B"


# … among it that somebody else copies onto it meanwhile, or pulls it out
_STICK_TROUBLE: Final = frozenset(
    {
        *(Code.MISSING_FILE, Code.DAMAGED, Code.CANNOT_READ, Code.INCOMPLETE, Code.STORAGE_FAILED, Code.CUT_OFF),
        *(Code.DISK_FULL, Code.QUARANTINED),
    }
)


# --- erasing ----------------------------------------------------------------------------------------------------------


async def days(world: World, _machine: Machine, random: Random) -> str:
    """Nobody is there for some days; who is on destroys what is due then."""
    count = random.choice((1, 3, 8))
    await a_while(world, count)
    return f"{count}"


async def a_while(world: World, days_count: int) -> None:
    """So many days, at whose beginning and end everybody who is on looks what is due, and so in between."""
    for passing_days in (0, *in_steps(days_count)):
        world.pass_ms(passing_days * DAY_MS)
        sweeping = [machine.spawn(sweep(world, machine)) for machine in world.machines]
        sweeping.append(world.office.spawn(sweep_server(world)))
        await asyncio.wait(sweeping)


def in_steps(days_count: int) -> list[int]:
    """Days that pass while somebody looks: of more at once not all would count."""
    longest = MAX_UNWATCHED_MS // DAY_MS
    return [min(longest, days_count - begun) for begun in range(0, days_count, longest)]


async def sweep(world: World, machine: Machine) -> None:
    """What the daemon does every hour."""
    agent = machine.agent
    if agent is not None:
        with contextlib.suppress(Refused):
            await end_what_is_over(agent)
        before = machine.disk.image() if agent.replica.door.has_erasures else Disk()
        destroyed = await destroy_erased(agent)
        _note_content(world, before, destroyed.entries)
        if destroyed.entries:
            machine.note(f"destroyed {len(destroyed.entries)} entries")
        await _note_destroyed(world, machine.name, agent.replica, destroyed.entries, by_right_clock=machine.keeps_time)


async def sweep_server(world: World) -> None:
    """The same at the server."""
    server = world.office.server
    if server is not None:
        await end_stays(server)
        before = world.office.disk.image() if server.replica.door.has_erasures else Disk()
        destroyed = await server.pace.look()
        _note_content(world, before, destroyed.entries)
        await _note_destroyed(world, "server", server.replica, destroyed.entries, by_right_clock=True)
        await confirm_destroyed(server, destroyed.at_ms)


def _note_content(world: World, before: Disk, entries: Sequence[bytes]) -> None:
    """Content that these entries named, and the disk as it was `before` alone held: the root brings none back."""
    held = [before.store._entries[name] for name in entries if name in before.store._entries]
    payloads = [entry.payload or b"" for entry in held]
    lost = gone_with([before], world.disks()) if payloads else set()
    world.ledger.lost_streams |= {place for place in lost if any(place[1] in payload for payload in payloads)}


async def _note_destroyed(
    world: World, who: str, replica: Replica, entries: Sequence[bytes], *, by_right_clock: bool
) -> None:
    """Nothing goes before its week is over, where no clock was set, and by no word of a thief that everybody knows."""
    held = (await replica.store.get(list(entries))).values()
    for entry in held if by_right_clock else ():
        said_ms = [world.trust.erased_ms.get(name or b"") for name in (entry.header.subject, entry.header.space)]
        first_ms = min((at_ms for at_ms in said_ms if at_ms is not None), default=0)
        if world.true_ms() < first_ms + ERASURE_DELAY_MS - _HOUR_MS:
            world.problem(f"{who} destroys {entry.id.hex()[:8]} before its week is over")
    about = [(entry.header.subject, entry.header.space) for entry in held if entry.header.subject is not None]
    # … and what goes with a class that the kit has closed goes by no thief's word
    gone = {person for person, space in about if space not in world.trust.closed}
    for person in (gone & world.trust.erased_by_thief) - world.trust.destroyed if world.healing else ():
        world.problem(f"{who} destroys what a thief has erased: {person.hex()[:8]}")
    world.trust.destroyed |= gone
    world.trust.destroyed_at.setdefault(who, set()).update(person for person, _ in about)


async def sweep_all(world: World) -> None:
    """Everywhere."""
    await sweep_server(world)
    for machine in world.machines:
        if not machine.revoked:
            await sweep(world, machine)


async def a_week_later(world: World) -> bool:
    """All that is erased is due, and is destroyed; then sticks turn up again everywhere. Whether anything moved."""
    held = _held(world)
    substitutes = any(machine.birth.until_ms is not None for machine in world.machines)
    if world.erased or world.trust.closed or substitutes:
        await sweep_all(world)
        # what the server destroyed by a thief's word it says again now: that has a week of its own at each machine
        await world.settle()
        await sweep_all(world)
        for passing_days in in_steps(ERASURE_DELAY_MS // DAY_MS + 1):
            world.pass_ms(passing_days * DAY_MS)
            await sweep_all(world)
        # no more than a few are destroyed in a day
        world.pass_ms(DAY_MS)
        await sweep_all(world)
        if (server := world.office.server) is not None:
            # an erasure that only a stick still knows begins to count when it comes back
            world.due = (world.erased | world.trust.closed) & set(await sure_erasures(server.replica))
    if world.sticks.used:
        for machine in world.machines:
            for number in range(STICKS) if not machine.revoked else ():
                if world.sticks.files(number):
                    await bring_stick(world, machine, number)
    # what a door refuses, or lets wait, is brought anew by each stick, and compared with the server's
    return bool(world.erased or world.trust.closed or world.trust.moved) or substitutes or _held(world) != held


async def sure_erasures(replica: Replica) -> list[bytes]:
    """Who is to be forgotten by the word of somebody who was not cut off since."""
    return [covers for entry, covers in await in_force(replica) if not await is_in_doubt(replica, entry)]


def _held(world: World) -> list[tuple[int, ...]]:
    """How much lies on each machine's disk: entries, packs, reports that came by sticks."""
    disks = [machine.disk for machine in world.machines]
    return [(len(disk.store._entries), len(disk.packs._packs), len(disk.store._registers)) for disk in disks]


EVENTS: Final[Mapping[str, Event]] = {
    "meet": meet,
    "link": link,
    "export": export,
    "full stick": full_stick,
    "import": bring,
    "tear stick": tear,
    "copy stick": copy,
    "days": days,
}
