"""What only the recovery kit says: an erasure taken back for good, a class closed at the end of its year.

22. Of a class that was closed nothing is shown anywhere, and no payload is left a week later, whatever comes back.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import TYPE_CHECKING, Final

from protocol.replica.office.erasures import ever_said
from protocol.replica.office.taking_back import take_back
from sync_server.handlers.by_kit.closing import close_space
from sync_server.opened.app import Server
from tests.simulation.at_school import a_while
from tests.simulation.at_server import LATE, at_server
from tests.simulation.doing import Event
from tests.simulation.machine import Machine

if TYPE_CHECKING:
    from tests.simulation.world import World


async def unerase(world: World, _machine: Machine, random: Random) -> str:
    """Somebody is shown again by the word of the kit, from whoever still has what others have destroyed."""
    if not world.erased:
        return "-"
    pupil = random.choice(sorted(world.erased))
    if random.random() < 1 - LATE:
        await a_while(world, 8)

    async def taken_back(server: Server) -> None:
        said = [entry.id for entry, covers in await ever_said(server.replica) if covers == pupil]
        world.trust.let_go_by_root.update(said)
        await take_back(server, pupil, world.kit, counting_too=True)
        world.trust.taken_back.update(said)

    return await at_server(world, f"unerase {pupil.hex()[:8]} by the kit", taken_back)


async def close(world: World, _machine: Machine, random: Random) -> str:
    """A class is at the end of its year, work that nobody has opened included."""
    space = random.choice(world.founding.spaces)
    if world.trust.closed:
        return "-"
    world.trust.closed.add(space)
    world.trust.erased_ms[space] = world.true_ms()

    async def closed(server: Server) -> None:
        await close_space(server, world.kit, space, unopened_too=True, renamed_too=True, unheard_too=True)

    return await at_server(world, f"close {space.hex()[:8]}", closed)


EVENTS: Final[Mapping[str, Event]] = {"kit: unerase": unerase, "kit: close": close}
