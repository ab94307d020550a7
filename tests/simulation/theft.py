"""Stolen devices: what thieves do with them, `lost --since`, what a human makes of what was held back (docs/adr/0067).

A stolen machine is off the school's network, and reaches the server. Nothing that it says is promised to anybody, and
what lay on it alone is gone. The owner knows when it went.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import TYPE_CHECKING, Final

from protocol.errors import RelaisError
from protocol.identity import DeviceKeys
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Revocation
from protocol.replica.at_work.replica import Replica
from protocol.replica.office.arrivals import noted_since_ms
from protocol.replica.office.erasures import erase_persons
from protocol.replica.office.invitations import Wanted, invite
from protocol.replica.office.losses import lost
from protocol.replica.office.people import add_person
from protocol.replica.office.withdrawals import revoke_device
from protocol.roles import PersonRole, Role
from sync_agent.keys.succession import _entries
from sync_agent.school.office import SchoolOffice
from sync_server.handlers.by_kit.said_again import why_not_again
from sync_server.handlers.by_kit.waiting import list_waiting, rule
from sync_server.handlers.record.late_rights import late_rights
from sync_server.opened.app import Server
from tests.simulation.at_school import a_while
from tests.simulation.at_server import at_server, some_pupil
from tests.simulation.founding import enrol
from tests.simulation.lines import CALM
from tests.simulation.machine import Machine, SimAgent
from tests.simulation.school import random_class
from tests.simulation.trust import Report, Theft, line_of

if TYPE_CHECKING:
    from tests.simulation.world import World

Event = Callable[["World", Machine, Random], Awaitable[str]]

MOST_STOLEN: Final = 2
LONGEST_WAIT_S: Final = 600.0
LATE: Final = 0.3
"""How often a theft is noticed after what the thief has erased was destroyed."""
_DAY_MS: Final = 24 * 3600 * 1000


async def steal(world: World, machine: Machine, random: Random) -> str:
    """A machine is gone; its owner will know since when."""
    if random.random() < 0.5:
        machine = world.head() or machine
    if len(world.trust.stolen) >= MOST_STOLEN or not world.may_go(machine) or machine in world.frozen:
        return "-"
    line = line_of(world, machine.device) | world.let_in_by(machine)
    world.trust.stolen[machine.device] = Theft(
        world.true_ms(), frozenset(world.office.disk.store._entries), vague=random.random() < 0.25
    )
    world.trust.thieves.add(machine.device)
    world.goes(line)
    machine.spawn(_at_work(world, machine, random))
    return machine.name


async def _at_work(world: World, machine: Machine, random: Random) -> None:
    """What the thief does in the first hour."""
    machine.line.weather, machine.line.up = CALM, True
    for _ in range(random.randrange(4)):
        await asyncio.sleep(random.random() ** 2 * LONGEST_WAIT_S)
        await _misuse(world, machine, random)


async def thief(world: World, _machine: Machine, random: Random) -> str:
    """Whoever has a stolen machine uses the rights that it has, then lets the server know."""
    stolen = [machine for machine in world.machines if machine.device in world.trust.stolen]
    if not stolen:
        return "-"
    machine = random.choice(stolen)
    if machine.agent is None:
        await machine.boot()
    machine.line.weather, machine.line.up = CALM, True
    machine.spawn(_misuse(world, machine, random))
    return machine.name


async def _misuse(world: World, machine: Machine, random: Random) -> None:
    agent = machine.agent
    if agent is None:
        return
    acts: list[_Misdeed] = [_multiply]
    if machine.birth.role is Role.HEAD:
        acts = [_multiply, _erase, _erase, _cut_off, _cut_off, _make_up, _let_in, _let_in]
    act = random.choice(acts)
    try:
        said = await act(world, machine, agent, random)
        await machine.sync()
    except RelaisError as error:
        said = f"{error.code}"
    machine.note(f"thief: {act.__name__.strip('_')}: {said}")


_Misdeed = Callable[["World", Machine, SimAgent, Random], Awaitable[str]]


async def _multiply(world: World, _machine: Machine, agent: SimAgent, random: Random) -> str:
    """Another key, which the stolen one says is its own."""
    keys = DeviceKeys.create(random.randbytes(32), random.randbytes(32), random.randbytes(32))
    said = await _entries(agent, keys)
    await agent.replica.admit(said, source=agent.device, now_ms=agent.now_ms(), unsent=True)
    world.trust.heirs[keys.signing.public] = agent.device
    world.trust.thieves.add(keys.signing.public)
    world.doubtful.add(keys.signing.public)
    return keys.signing.public.hex()[:8]


async def _erase(world: World, _machine: Machine, agent: SimAgent, random: Random) -> str:
    async with agent.writing:
        office = await SchoolOffice.of(agent)
        pupil = await some_pupil(world, office, random)
        if pupil is None:
            return "nobody"
        if pupil not in world.erased:
            world.trust.erased_by_thief.add(pupil)
        world.note_erased({pupil})
        await erase_persons(office, [pupil])
    return pupil.hex()[:8]


async def _cut_off(world: World, _machine: Machine, agent: SimAgent, random: Random) -> str:
    """A colleague's machine may read no more, until the theft is known."""
    others = [each for each in world.machines if not each.revoked and each.birth.role is not Role.HEAD]
    if not others:
        return "nobody"
    other = random.choice(others)
    if world.trust.stolen[agent.device].vague:
        world.goes(line_of(world, other.device))
    world.doubtful.add(other.device)
    async with agent.writing:
        office = await SchoolOffice.of(agent)
        await revoke_device(office, other.device, office.governs)
    return other.name


async def _make_up(world: World, _machine: Machine, agent: SimAgent, random: Random) -> str:
    async with agent.writing:
        office = await SchoolOffice.of(agent)
        space = random_class(world, office, random)
        return (await add_person(office, "Élève inventé", PersonRole.PUPIL, [space])).hex()[:8]


async def _let_in(world: World, machine: Machine, agent: SimAgent, random: Random) -> str:
    """A code, which the thief's other machine shows to the server."""
    async with agent.writing:
        office = await SchoolOffice.of(agent)
        space = random_class(world, office, random)
        made = await invite(office, Wanted(Role.MACHINE, [space], None, 1, 7 * _DAY_MS))
    await machine.sync()
    server = world.office.server
    if server is None:
        return "the server is off"
    name = f"thief-{len(world.machines)}"
    birth = await enrol(server, server.keys.agreement, server.grant, name, Role.MACHINE, made.code)
    device = birth.keys.signing.public
    world.trust.let_in[device] = machine.device
    world.trust.thieves.add(device)
    world.doubtful.add(device)
    return f"{name} {device.hex()[:8]}"


# --- at the server ----------------------------------------------------------------------------------------------------


async def report(world: World, _machine: Machine, random: Random) -> str:
    """The owner of a stolen machine says that it is gone, and since when."""
    unsaid = [device for device in world.trust.stolen if device not in world.trust.reports]
    if not unsaid:
        return "-"
    if random.random() < LATE:
        await a_while(world, 8)
    return await report_theft(world, random.choice(unsaid))


async def report_theft(world: World, device: bytes, *, by_kit: bool = False) -> str:
    """The same of one device; it may be said again, and by the kit as well."""

    async def reported(server: Server) -> None:
        theft = world.trust.stolen[device]
        first_ms = await noted_since_ms(server.store, server.now_ms())
        # of a time before a server was restored or made anew nothing is known: whoever says so is warned, and says it
        # all the same
        is_known = first_ms is not None and first_ms <= theft.since_ms
        known = world.office.disk.held_by(theft.since_ms) if is_known else set()
        since_ms = None if theft.vague else theft.since_ms
        loss = await lost(server, device, cut=True, since_ms=since_ms, anyway=True)
        if by_kit:
            await revoke_device(server, device, since_ms=since_ms, kit=world.kit, anyway=True)
            world.trust.cut_by_kit.add(device)
        world.trust.reports[device] = Report(
            frozenset(known), frozenset(await _cuts(server)), frozenset(each.device for each in loss.copies)
        )

    return await at_server(world, f"lost {device.hex()[:8]}", reported)


async def say_again_what_goes_on(world: World) -> bool:
    """What the overview of a server asks for that was made anew; whether there was anything."""
    server = world.office.server
    going_on = [] if server is None else [each for each in await late_rights(server) if each in world.trust.stolen]
    for device in going_on:
        await report_theft(world, device)
    return bool(going_on)


async def is_held_by_kit(replica: Replica, entry: Entry) -> bool:
    """Whether the kit has cut off who wrote this, and names no later word of theirs as the last that counts."""
    said = [one for one in await replica.store.scan_kinds([Kind.REVOKE]) if one.header.grant is None]
    cuts = [Revocation.parse(one.payload or b"") for one in said]
    return any([await _is_beyond(replica, entry, cut) for cut in cuts if cut.key == entry.header.author])


async def _is_beyond(replica: Replica, entry: Entry, cut: Revocation) -> bool:
    found, pending, absent = set[bytes](), set(cut.heads), set(cut.absent)
    while pending:
        found |= pending
        earlier = (await replica.store.get(sorted(pending))).values()
        pending = {name for one in earlier for name in one.header.prev} - found - absent
    return entry.id not in found


async def _cuts(server: Server) -> list[bytes]:
    return [entry.id for entry in await server.store.scan_kinds([Kind.REVOKE])]


async def judge_waiting(world: World, _machine: Machine, random: Random) -> str:
    """Somebody looks at what waits, and accepts or refuses one of it."""
    accept = random.random() < 0.6

    async def ruled(server: Server) -> None:
        waiting = await list_waiting(server)
        if waiting:
            entry = random.choice(waiting).entry
            sensible = accept and entry.header.kind != Kind.GRANT and why_not_again(entry) is None
            if sensible:
                world.trust.accepted.add(entry.id)
            if sensible and entry.header.author in world.trust.cut_by_kit:
                world.trust.accepted_by_server.add(entry.id)
            await rule(server, [entry.id], accept=sensible)

    return await at_server(world, "accepted" if accept else "refused", ruled)


EVENTS: Final[Mapping[str, Event]] = {
    "steal": steal,
    "thief": thief,
    "report": report,
    "rule": judge_waiting,
}
