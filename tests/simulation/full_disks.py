"""Disks that fill up: content makes way for newer content (R8), and nothing goes that is to stay.

What made way is looked at when the machine has done something: a hand-in of its own goes once its teacher has opened
it, or a month after the server's receipt; a version of its own never; the rest is at the server, or nobody has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Final

from protocol.limits import RECEIPT_PROOF_MS
from protocol.model.work import ItemKind
from protocol.replica.content.kept.memory_packs import MemoryPacks
from protocol.roles import HAS_READING_KEYS
from sync_agent.coursework import publisher
from sync_agent.coursework.publisher import Wish
from sync_agent.coursework.reading import need_of
from tests.harness.classroom import Given
from tests.simulation.disk import Disk
from tests.simulation.doing import Event, do
from tests.simulation.ledger import gone_with, holds_sealed
from tests.simulation.machine import Machine, SimAgent
from tests.simulation.people import Shelf, own_spaces, works_of
from tests.simulation.plan import Step

if TYPE_CHECKING:
    from tests.simulation.world import World

FILM_BYTES: Final = 70_000
LESSONS: Final = 3
LESSON_S: Final = 60.0
_FULLNESS: Final = (0.5, 1.0, 1.0, 1.0)
_FILMS: Final = (1.1, 1.9)
"""Room for one, and not for two beside each other."""


async def disk_fills(world: World, machine: Machine, random: Random) -> str:
    """Others' files leave little room; somebody hands in, and lessons come that do not fit beside what is there."""
    if machine.agent is None or machine.revoked:
        return "-"
    taken = sum(len(pack.data) for pack in machine.disk.packs._packs.values())
    machine.disk.room_bytes = round(taken * random.choice(_FULLNESS) + random.uniform(*_FILMS) * FILM_BYTES)
    machine.spawn(do(world, machine, "full disk", _lessons, random))
    return f"{machine.name}, {machine.disk.room_bytes} B for content"


async def _lessons(world: World, machine: Machine, agent: SimAgent, random: Random) -> str:
    await world.act(machine, _step("hand in", random))
    await world.sync(machine)
    for _ in range(LESSONS):
        teachers = [one for one in world.machines if one.birth.role in HAS_READING_KEYS and one is not machine]
        if teachers:
            teacher = random.choice(teachers)
            film = partial(_film, frozenset(await agent.spaces()))
            teacher.spawn(do(world, teacher, "film", film, random))
        await asyncio.sleep(LESSON_S)
        if machine.agent is agent:
            await world.sync(machine)
    return f"{len(agent.evicted)} have made way"


async def _film(theirs: Collection[bytes], world: World, teacher: Machine, agent: SimAgent, random: Random) -> str:
    """A lesson that comes by itself, and not inside an answer."""
    spaces = [space for space in await own_spaces(agent) if space in theirs]
    if not spaces:
        return "-"
    title = f"film {random.randrange(10**6)} {teacher.name}"
    world.ledger.published[title] = files = {"film.bin": random.randbytes(FILM_BYTES)}
    await publisher.publish(agent, Wish(random.choice(spaces), None, ItemKind.LESSON, title), Given(files), Shelf())
    await world.sync(teacher)
    return title


def _step(what: str, random: Random) -> Step:
    return Step(random.randrange(10**6, 10**7), 0, what, 0, random.randrange(2**32))


async def disk_empties(_world: World, machine: Machine, _random: Random) -> str:
    """Somebody tidies up."""
    machine.disk.room_bytes = None
    return machine.name


async def check_made_way(world: World, machine: Machine, agent: SimAgent) -> None:
    """What has made way since this was asked last: nothing that is to stay; others' last copies are noted as gone."""
    disk = machine.disk
    gone, disk.made_way = disk.made_way, {}
    if not gone:
        return
    machine.note(f"{len(gone)} packs made way")
    streams = {stream for pack in gone.values() for stream in pack.streams}
    for work in await works_of(agent):
        may_go = work.opened or (work.at_server and world.ahead_ms >= RECEIPT_PROOF_MS)
        if work.record.content.stream in streams and agent.made(work) and not may_go and not holds_sealed(disk, work):
            world.problem(f"{machine.name}: its hand-in {work.id.hex()[:8]} made way before anybody had opened it")
    for space in await agent.spaces():
        for item in (await agent.replica.view(space)).coursework.items.values():
            for version in item.versions.values():
                is_own = version.author == agent.device and version.record.content.stream in streams
                if is_own and not await agent.holdings.is_complete(need_of(item, version)):
                    world.problem(f"{machine.name}: its own version {version.id.hex()[:8]} made way")
    packs = MemoryPacks()
    packs._packs = gone
    world.ledger.lost_streams |= gone_with([Disk(packs=packs)], world.disks())


EVENTS: Final[Mapping[str, Event]] = {"disk fills": disk_fills, "disk empties": disk_empties}
