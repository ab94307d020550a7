"""What happens at the server: people let in, let go and forgotten, power, backups, a new birth; the weather."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from random import Random
from typing import TYPE_CHECKING, Any, Final

from protocol.errors import BadInput
from protocol.model.entry import Kind
from protocol.model.structure import Revocation, Ruling
from protocol.replica.at_work.destroyed import destroyed_names
from protocol.replica.at_work.replica import Draft, Replica
from protocol.replica.office.bureau import Office as Bureau
from protocol.replica.office.erasures import erase_persons, in_force, with_doubles
from protocol.replica.office.grants import grant_device
from protocol.replica.office.people import add_person
from protocol.replica.office.taking_back import take_back
from protocol.replica.office.withdrawals import revoke_device
from protocol.roles import PersonRole, Role
from tests.simulation.at_school import a_while
from tests.simulation.founding import begin_server
from tests.simulation.lines import CALM
from tests.simulation.machine import Machine
from tests.simulation.plan import Step
from tests.simulation.rotating import restore_by_kit, wait_for_the_clocks
from tests.simulation.trust import Gone, line_of

if TYPE_CHECKING:
    from sync_server.opened.app import Server
    from tests.simulation.world import World

Event = Callable[["World", Machine, Random], Awaitable[str]]

MOST_ERASED: Final = 3
LATE: Final = 0.4
"""How often a mistake is noticed only after a week."""


async def at_server(world: World, what: str, work: Callable[[Server], Coroutine[Any, Any, object]]) -> str:
    """What an administrator does there, as a task that the power may end."""
    server = world.office.server
    if server is None:
        return "-"

    async def done() -> None:
        try:
            await work(server)
        except BadInput as error:
            world.note("server", f"{what}: {error.code}")

    world.office.spawn(done())
    return what


# --- people and devices -----------------------------------------------------------------------------------------------


async def somebody_new(world: World, _machine: Machine, random: Random) -> str:
    """A pupil is added to a list."""
    space, name = random.choice(world.spaces), f"Élève {random.randrange(99)}"
    server = world.office.server
    if server is None or not server.replica.door.knows_space(space):
        return "-"
    return await at_server(world, name, lambda server: add_person(server, name, PersonRole.PUPIL, [space]))


async def let_go(world: World, machine: Machine, random: Random) -> str:
    """A device is cut off, and what came of it; one that was cloned more often than others."""
    cloned = [other for other in world.machines if other.device in world.trust.heirs.values()]
    if cloned and random.random() < 0.5:
        machine = random.choice(cloned)
    if not world.may_go(machine):
        return "-"
    world.goes(line_of(world, machine.device) | world.let_in_by(machine))
    device = machine.device

    async def gone(server: Server) -> None:
        grants = frozenset(each.grant for each in server.replica.door.authorities_of(device))
        await revoke_device(server, device)
        cuts = frozenset(name for name, key in (await revocations(server.replica)).items() if key == device)
        world.trust.gone[device] = Gone(cuts, grants)

    await at_server(world, "let go", gone)
    return machine.name


async def revocations(replica: Replica) -> dict[bytes, bytes]:
    """All revocations in a replica's set → the keys that they name."""
    said = await replica.store.scan_kinds([Kind.REVOKE])
    return {entry.id: Revocation.parse(entry.payload or b"").key for entry in said}


async def let_back(world: World, machine: Machine, random: Random) -> str:
    """One that was cut off may read again; what it said meanwhile is in doubt for ever."""
    if machine.device not in world.doubtful or machine.device in world.trust.thieves:
        return "-"
    device, space = machine.device, random.choice(world.founding.spaces)
    await at_server(world, "let back", lambda server: grant_device(server, device, [space]))
    return machine.name


async def conflict(world: World, _machine: Machine, random: Random) -> str:
    """All teachers revise what is shown to them first, at the same time."""
    teachers = [other for other in world.machines if other.birth.role is Role.TEACHER]
    for other in teachers:
        step = Step(random.randrange(10**6, 10**7), 0, "revise first", 0, random.randrange(2**32))
        other.spawn(world.act(other, step))
    return " ".join(other.name for other in teachers)


# --- forgetting -------------------------------------------------------------------------------------------------------


async def erase(world: World, _machine: Machine, random: Random) -> str:
    """A pupil is to be forgotten."""
    server = world.office.server
    pupil = None if server is None else await some_pupil(world, server, random)
    if server is None or pupil is None:
        return "-"
    named = await with_doubles(server.replica, [pupil])
    world.erases(set(named))
    return await at_server(world, f"erase {pupil.hex()[:8]}", lambda server: erase_persons(server, named))


async def some_pupil(world: World, office: Bureau, random: Random) -> bytes | None:
    """A pupil whom an office knows, as long as there are not too many to be forgotten."""
    space = random.choice(world.spaces)
    if len(world.erased) >= MOST_ERASED or not office.replica.door.knows_space(space):
        return None
    persons = (await office.replica.view(space)).roster.persons.values()
    pupils = sorted(person.id for person in persons if person.role is PersonRole.PUPIL)
    return random.choice(pupils) if pupils else None


async def unerase(world: World, _machine: Machine, random: Random) -> str:
    """Somebody was erased by mistake, and is to be shown again; or whoever has the server says so, after a week too."""
    if not world.erased:
        return "-"
    pupil = random.choice(sorted(world.erased))
    if random.random() < LATE:
        await a_while(world, 8)

    async def taken_back(server: Server) -> None:
        said = [entry.id for entry, covers in await in_force(server.replica) if covers == pupil]
        if pupil in await destroyed_names(server.store):
            ruling = Ruling((), tuple(said)).encode()
            await server.write([Draft(server.replica.territory, Kind.RULING, server.grant, ruling)])
        else:
            await take_back(server, pupil, counting_too=True)
        world.trust.taken_back.update(said)

    return await at_server(world, f"unerase {pupil.hex()[:8]}", taken_back)


# --- the machine itself -----------------------------------------------------------------------------------------------


async def server_power_cut(world: World, _machine: Machine, _random: Random) -> str:
    """The power goes."""
    await world.office.switch_off()
    return "server"


async def server_power_cut_soon(world: World, _machine: Machine, random: Random) -> str:
    """It will go, some writes later."""
    calls, after = random.randrange(1, 12), random.random() < 0.5
    world.office.power.cut_in(calls, after=after)
    return f"{'after' if after else 'before'} {calls} writes"


async def server_boot(world: World, _machine: Machine, _random: Random) -> str:
    """The server is switched on."""
    await world.office.boot()
    return "server"


async def backup(world: World, _machine: Machine, _random: Random) -> str:
    """An image of its disk is kept."""
    world.backups.append(world.office.disk.image())
    return f"number {len(world.backups) - 1}"


async def restore(world: World, _machine: Machine, random: Random) -> str:
    """It is again as it was in an image; one from before it had its keys needs the kit."""
    if world.next_kit is not None:
        return "-"
    await world.office.switch_off()
    number = random.randrange(len(world.backups))
    world.was_set_back = True
    image = world.backups[number].image()
    if world.office.certificate not in image.store._entries:
        return await restore_by_kit(world, image, random)
    world.change_server_disk(image)
    await world.office.boot()
    return f"number {number}"


async def rebirth(world: World, _machine: Machine, random: Random) -> str:
    """It burnt, and is made anew from the kit."""
    if world.next_kit is not None:
        return "-"
    await world.office.switch_off()
    wait_for_the_clocks(world)
    birth = await begin_server(world.kit, now_ms=world.true_ms(), entropy=random.randbytes)
    world.office.begin_anew(birth)
    world.births += 1
    world.old_backups += world.backups
    world.backups = [birth.disk.image()]
    world.change_server_disk(birth.disk)
    await world.office.boot()
    return birth.territory.generation.hex()


async def storm(world: World, _machine: Machine, _random: Random) -> str:
    """The weather on all lines is bad."""
    for machine in world.machines:
        machine.line.weather = world.plan.weather
    return "begins"


async def calm(world: World, _machine: Machine, _random: Random) -> str:
    """It is good."""
    for machine in world.machines:
        machine.line.weather = CALM
    return "begins"


EVENTS: Final[Mapping[str, Event]] = {
    "conflict": conflict,
    "add person": somebody_new,
    "let go": let_go,
    "let back": let_back,
    "erase": erase,
    "unerase": unerase,
    "server power cut": server_power_cut,
    "server power cut soon": server_power_cut_soon,
    "server boot": server_boot,
    "backup": backup,
    "restore": restore,
    "rebirth": rebirth,
    "storm": storm,
    "calm": calm,
}
