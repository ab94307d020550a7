"""Whose a device is: second laptops that people confirm, devices that the server alone names, clones with own keys.

- *confirm*: who has compared six words says so; nobody ever confirms an impostor.
- *impostor*: whoever has the server's keys names a device of theirs as a teacher's (docs/adr/0064).
- *succeed*: a cloned PC takes keys of its own; a person may confirm it at the server (docs/adr/0066).
- *lie*: a PC signs for second copies that it does not hold (docs/adr/0069).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from random import Random
from typing import TYPE_CHECKING, Final

from protocol.errors import BadInput, Code
from protocol.identity import DeviceKeys
from protocol.model.entry import Kind
from protocol.model.work import Receipt
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.grants import confirm_clone
from protocol.replica.office.invitations import Wanted, invite
from protocol.roles import HAS_READING_KEYS, SHARED, PersonRole, Role
from sync_agent.keys.confirming import Reader, list_readers
from sync_agent.keys.confirming import confirm as confirm_reader
from sync_agent.keys.succession import _entries
from sync_server.opened.app import Server
from tests.simulation.at_school import bring_stick, export_stick
from tests.simulation.at_server import at_server
from tests.simulation.doing import Event, done_at_machine
from tests.simulation.founding import enrol
from tests.simulation.machine import Machine, SimAgent
from tests.simulation.people import works_of
from tests.simulation.plan import MOST_MACHINES

if TYPE_CHECKING:
    from tests.simulation.world import World

_WEEK_MS: Final = 7 * 24 * 3600 * 1000


async def confirm(world: World, machine: Machine, agent: SimAgent, random: Random) -> str:
    """A teacher confirms a device of hers, or a colleague's, after having seen both screens."""
    readers = await list_readers(agent)
    known = world.trust.impostors | world.trust.thieves | world.trust.strangers
    asked = [each for each in readers if not (each.is_this or each.confirmed or each.device in known)]
    if not asked:
        return "-"
    return await confirm_as_shown(world, machine, agent, random.choice([each for each in asked if each.mine] or asked))


async def confirm_as_shown(world: World, machine: Machine, agent: SimAgent, reader: Reader) -> str:
    """Somebody has compared six words, and says that a device is whose it was shown as."""
    world.trust.words.add((agent.device, reader.device))
    try:
        await confirm_reader(agent, reader.id, shown_as=reader.shown_as, person=reader.person)
    except BadInput as changed:
        if changed.code is not Code.UNKNOWN_DEVICE or reader in await list_readers(agent):
            raise
        return "is told to look again"
    if world.says(machine):
        world.trust.said_words.add((agent.device, reader.device))
    return reader.device.hex()[:8]


async def impostor(world: World, _machine: Machine, random: Random) -> str:
    """A device that the server names as a teacher's, and that nobody of the school has ever seen."""
    if len(world.machines) >= MOST_MACHINES + 2 or world.trust.impostors or world.office.server is None:
        return "-"
    space = random.choice(world.founding.spaces)

    async def named(server: Server) -> None:
        persons = (await server.replica.view(space)).roster.persons.values()
        teachers = sorted(person.id for person in persons if person.role is PersonRole.TEACHER)
        if not teachers:
            return
        made = await invite(server, Wanted(Role.TEACHER, [space], random.choice(teachers), 1, _WEEK_MS))
        birth = await enrol(server, server.keys.agreement, server.grant, "impostor", Role.TEACHER, made.code)
        world.trust.impostors.add(birth.keys.signing.public)
        await world.enter(birth, birth.disk.image()).boot()

    return await at_server(world, "impostor", named)


async def succeed(world: World, machine: Machine, random: Random) -> str:
    """A PC that finds itself cloned takes keys of its own, and begins anew with them."""
    if machine.agent is None or machine.birth.role is not Role.MACHINE or machine in world.frozen:
        return "-"
    if machine.device in world.trust.overrun:
        # where malware has spent what its keys may say, they name no others: a person lets it in anew
        return "-"
    if not any(other.device == machine.device and other is not machine for other in world.machines):
        await world.clone(machine, random)
    task = machine.spawn(_take_keys(world, machine, random))
    await asyncio.wait({task})
    if task.cancelled() or task.exception() is not None or not task.result():
        return "-"
    await machine.boot()
    return f"{machine.name} is {machine.device.hex()[:8]}"


async def _take_keys(world: World, machine: Machine, random: Random) -> bool:
    agent = machine.agent
    if agent is None:
        return False
    keys = DeviceKeys.create(random.randbytes(32), random.randbytes(32), random.randbytes(32))
    said = await _entries(agent, keys)
    world.trust.heirs[keys.signing.public] = agent.device
    if agent.device in world.doubtful:
        world.doubtful.add(keys.signing.public)
    if agent.device in world.trust.thieves:
        world.trust.thieves.add(keys.signing.public)
    await agent.replica.admit(said, source=agent.device, now_ms=agent.now_ms(), unsent=True)
    if not await agent.replica.readable(keys.signing.public):
        return False
    machine.take_keys(keys)
    return True


async def confirm_copy(world: World, _machine: Machine, random: Random) -> str:
    """Somebody has looked at a clone, and lets it in for good."""
    heirs = sorted(world.trust.heirs.keys() - world.trust.thieves - world.doubtful - world.trust.confirmed)
    if not heirs:
        return "-"
    device = random.choice(heirs)

    async def confirmed(server: Server) -> None:
        await confirm_clone(server, device)
        # whoever lets its original go at the same time ends no grant of its own
        if device not in world.trust.thieves:
            world.trust.confirmed.add(device)

    return await at_server(world, f"confirm {device.hex()[:8]}", confirmed)


async def lie(world: World, machine: Machine, random: Random) -> str:
    """A PC signs for copies of all that it has heard of; its word goes back on the stick on which the work came."""
    shared = [other for other in world.machines if other.birth.role in SHARED and not other.revoked]
    authors = [other for other in shared if other.device != machine.device]
    if machine.agent is None or machine.birth.role is not Role.MACHINE or not authors:
        return "-"
    author, stick = random.choice(authors), random.randrange(1 << 16)
    machine.spawn(_lie(world, machine, author, stick))
    return f"{machine.name} to {author.name}"


async def _lie(world: World, machine: Machine, author: Machine, stick: int) -> None:
    for carrier, deed in ((author, export_stick), (machine, bring_stick)):
        await deed(world, carrier, stick)
    agent = machine.agent
    if agent is not None:
        world.trust.liars.add(agent.device)
        machine.note(f"lie: {await _sign_unseen(agent)} receipts")
    for carrier, deed in ((machine, export_stick), (author, bring_stick)):
        await deed(world, carrier, stick)


async def _sign_unseen(agent: SimAgent) -> int:
    drafts = []
    for work in await works_of(agent):
        if not (agent.made(work) or agent.device in work.copies):
            right = await agent.right(work.space, Kind.RECEIPT_SAFE)
            receipt = Receipt(work.record.content.stream).encode()
            drafts.append(
                Draft(work.space, Kind.RECEIPT_SAFE, right.grant, receipt, subject=work.person, target=work.id)
            )
    if drafts:
        await agent.write(*drafts)
    return len(drafts)


EVENTS: Final[Mapping[str, Event]] = {
    "confirm": done_at_machine(confirm, HAS_READING_KEYS),
    "impostor": impostor,
    "succeed": succeed,
    "confirm clone": confirm_copy,
    "lie": lie,
}
