"""Somebody is frozen, and is so no more (docs/adr/0429); in the end nobody is, and all is as if nobody had been."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from random import Random
from typing import TYPE_CHECKING, Final
from unittest import mock

from protocol.replica.office.frozen import freeze_person, frozen_persons, unfreeze_person
from tests.simulation.at_server import at_server, some_pupil
from tests.simulation.machine import Machine

if TYPE_CHECKING:
    from sync_server.opened.app import Server
    from tests.simulation.world import World

Event = Callable[["World", Machine, Random], Awaitable[str]]


async def freeze(world: World, _machine: Machine, random: Random) -> str:
    """What there is about a pupil is to be kept, and not used."""
    server = world.office.server
    pupil = None if server is None else await some_pupil(world, server, random)
    if pupil is None:
        return "-"
    return await at_server(world, f"freeze {pupil.hex()[:8]}", lambda server: freeze_person(server, pupil))


async def unfreeze(world: World, _machine: Machine, _random: Random) -> str:
    """That is over, for all of whom the server knows it."""
    return await at_server(world, "unfreeze", lift_all)


async def lift_all(server: Server) -> int:
    """Nobody is frozen any more; how many were."""
    frozen = await frozen_persons(server.replica)
    for each in frozen:
        await unfreeze_person(server, each.person)
    return len(frozen)


def counts_the_frozen_as_settled() -> AbstractContextManager[object]:
    """What came about somebody who was frozen gets no receipt once that is lifted."""
    return mock.patch("protocol.replica.answering.serving.is_settled", return_value=True)


EVENTS: Final[Mapping[str, Event]] = {"freeze": freeze, "unfreeze": unfreeze}
