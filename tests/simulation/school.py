"""A school that its head teacher runs from her device, with no server in reach (docs/adr/0031).

Classes, pupils, codes for machines and substitutes, rights given and taken, people merged and forgotten: by the rules
of an office, over her own replica. What she does reaches the server, or machines of the school first, by any way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import TYPE_CHECKING, Final

from protocol.errors import BadInput, Code, Refused
from protocol.replica.office.erasures import erase_persons, with_doubles
from protocol.replica.office.further_words import merge_persons
from protocol.replica.office.grants import grant_device
from protocol.replica.office.invitations import Wanted, invite
from protocol.replica.office.made_classes import add_space
from protocol.replica.office.people import add_person
from protocol.replica.office.withdrawals import revoke_device
from protocol.roles import PersonRole, Role
from sync_agent.school.office import SchoolOffice
from tests.simulation.at_server import some_pupil
from tests.simulation.founding import enrol
from tests.simulation.ledger import BrokenError
from tests.simulation.machine import Machine
from tests.simulation.plan import MOST_MACHINES
from tests.simulation.trust import Device, line_of

if TYPE_CHECKING:
    from tests.simulation.world import World

Event = Callable[["World", Machine, Random], Awaitable[str]]
Work = Callable[["World", Machine, SchoolOffice, Random], Awaitable[str]]

SCHOOL: Final = "0180001X"
MOST_CLASSES: Final = 5
_DAY_MS: Final = 24 * 3600 * 1000


async def new_class(world: World, head: Machine, office: SchoolOffice, random: Random) -> str:
    """A class, and a machine of the school that may read it."""
    if len(world.spaces) >= MOST_CLASSES:
        return "-"
    added = await add_space(office, f"classe {len(world.spaces)}", SCHOOL)
    world.trust.made_spaces.append(added.id)
    await add_person(office, "Élève nouveau", PersonRole.PUPIL, [added.id])
    for role in (Role.MACHINE, Role.TEACHER):
        # … but for those for whom a stay was promised: named for good, they would read on
        staying = {machine.device for machine in world.machines if machine.birth.until_ms is not None}
        known = [device for device in _devices(office, role) if device not in staying]
        if known:
            device = random.choice(known)
            await _name(world, head, office, device, added.id)
    return added.id.hex()[:8]


async def new_pupil(world: World, _head: Machine, office: SchoolOffice, random: Random) -> str:
    """A pupil who comes in the middle of the year."""
    space, name = random_class(world, office, random), f"Élève {random.randrange(99)}"
    return (await add_person(office, name, PersonRole.PUPIL, [space])).hex()[:8]


async def merge(world: World, _head: Machine, office: SchoolOffice, random: Random) -> str:
    """Two pupils of a list are one."""
    persons = (await office.replica.view(random_class(world, office, random))).roster.persons.values()
    pupils = sorted(person.id for person in persons if person.role is PersonRole.PUPIL)
    if len(pupils) < 2:
        return "-"
    one, other = random.sample(pupils, 2)
    await merge_persons(office, one, other)
    return f"{one.hex()[:8]} into {other.hex()[:8]}"


async def let_in(world: World, head: Machine, office: SchoolOffice, random: Random) -> str:
    """A machine, for good or for some days, that shows its code to her device."""
    if len(world.machines) >= MOST_MACHINES + 2:
        return "-"
    space = random_class(world, office, random)
    stay_ms = random.choice((None, random.randrange(1, 20) * _DAY_MS))
    made = await invite(office, Wanted(Role.MACHINE, [space], None, 1, 7 * _DAY_MS, stay_ms))
    agent = office._agent
    name = f"new-{len(world.machines)}"
    birth = await enrol(office, agent.keys.agreement, office.authority.grant, name, Role.MACHINE, made.code)
    machine = world.enter(birth, birth.disk.image())
    machine.line.weather = head.line.weather
    world.trust.let_in_by_head.add(machine.device)
    if head.revoked:
        world.goes({machine.device})
    if stay_ms is not None:
        # any clock of those who may end it ends it
        world.doubtful.add(machine.device)
    await machine.boot()
    return f"{name}{'' if stay_ms is None else ' for a while'}"


async def grant(world: World, head: Machine, office: SchoolOffice, random: Random) -> str:
    """A device of the school may read one class more: her device could say so, although no command of it does yet."""
    known = [device for role in (Role.MACHINE, Role.TEACHER) for device in _devices(office, role)]
    known = [device for device in known if device not in world.doubtful]
    if not known:
        return "-"
    device = random.choice(known)
    await _name(world, head, office, device, random_class(world, office, random))
    return device.hex()[:8]


async def _name(world: World, head: Machine, office: SchoolOffice, device: Device, space: bytes) -> None:
    """Somebody names a device for a class; who is told that it was reported, and names it all the same, agrees."""
    let_in = await grant_device(office, device, [space])
    world.trust.named.add(device)
    if let_in.reported_ms is not None:
        world.trust.agreed.add((head.device, device))


async def cut(world: World, _head: Machine, office: SchoolOffice, random: Random) -> str:
    """A device of the school is let go."""
    machine = random.choice(world.machines)
    if machine.device not in [each.key for each in office.replica.door.authorities()] or not world.may_go(machine):
        return "-"
    if machine.birth.role is Role.HEAD:
        return "-"
    world.goes(line_of(world, machine.device))
    await revoke_device(office, machine.device, office.governs)
    return machine.name


async def erase(world: World, _head: Machine, office: SchoolOffice, random: Random) -> str:
    """A pupil of the school is to be forgotten."""
    pupil = await some_pupil(world, office, random)
    if pupil is None:
        return "-"
    named = await with_doubles(office.replica, [pupil])
    world.erases(set(named))
    await erase_persons(office, named)
    return pupil.hex()[:8]


def random_class(world: World, office: SchoolOffice, random: Random) -> bytes:
    """A class of the school that is known there. Raises `BadInput(UNKNOWN_SPACE)`."""
    known = [space for space in world.spaces if office.replica.door.knows_space(space) and office.governs(space)]
    if not known:
        raise BadInput(Code.UNKNOWN_SPACE, "no class is known here yet")
    return random.choice(known)


def _devices(office: SchoolOffice, role: Role) -> list[bytes]:
    door = office.replica.door
    return sorted({each.key for each in door.authorities() if each.role is role and office.governs(each.space)})


def at_head(work: Work, *, any_of_them: bool = False) -> Event:
    """The event that this is done at the head teacher's device, or at that of any who runs the school."""

    async def event(world: World, _machine: Machine, random: Random) -> str:
        heads = [machine for machine in world.machines if machine.birth.role is Role.HEAD and not machine.revoked]
        head = random.choice(heads) if any_of_them and heads else world.head()
        if head is None or head.agent is None:
            return "-"
        head.spawn(_done(world, head, work, random))
        return head.name

    return event


async def _done(world: World, head: Machine, work: Work, random: Random) -> None:
    agent = head.agent
    if agent is None:
        return
    try:
        async with agent.writing:
            said = await work(world, head, await SchoolOffice.of(agent), random)
    except (BadInput, Refused) as error:
        said = f"{error.code}"
        if error.code not in _FORESEEN:
            world.problem(f"{head.name}: {work.__name__}: {said}: {error}")
    except BrokenError as broken:
        said = "broken"
        world.problem(f"{head.name}: {work.__name__}: {broken}")
    head.note(f"office: {work.__name__}: {said}")


# a device that has not synced yet, or has lost its memory, knows hardly anybody; a clock that is set years ahead while
# somebody types a code ends that
_FORESEEN: Final = frozenset(
    {
        *(Code.UNKNOWN_SPACE, Code.UNKNOWN_PERSON, Code.UNKNOWN_DEVICE, Code.NO_RIGHT, Code.USAGE, Code.REVOKED),
        Code.CODE_EXPIRED,
    }
)

EVENTS: Final[Mapping[str, Event]] = {
    "head: class": at_head(new_class),
    "head: pupil": at_head(new_pupil),
    "head: merge": at_head(merge),
    "head: let in": at_head(let_in),
    "head: grant": at_head(grant),
    "head: cut": at_head(cut),
    "head: erase": at_head(erase),
}
