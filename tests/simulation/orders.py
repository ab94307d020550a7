"""What a school was told to do for a while, as the world remembers it: drills and quarantines, and who obeys.

Whoever has heard of a quarantine exchanges nothing with neighbours, and nothing by sticks, until it is lifted; whoever
has heard of a drill reaches no server while it lasts, and it ends by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from protocol.errors import PeerFault
from protocol.folds.measures import MINUTE_MS, DrillOrder, QuarantineOrder
from protocol.model.entry import Entry, Kind
from sync_agent.school.measures import ordered
from tests.simulation.ledger import BrokenError
from tests.simulation.machine import Machine

if TYPE_CHECKING:
    from tests.simulation.world import World

LONGEST_MINUTES: Final = 120
_SLACK_MS: Final = 60_000


@dataclass
class Orders:
    """Whether anything was ordered; drills → when they began and how long they last, by the true time.

    `over_ms` is when all are over by the true time, those included whose order was never acknowledged.
    """

    given: bool = False
    drills: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    over_ms: int = 0


def is_quarantined(world: World, machine: Machine) -> bool:
    """Whether a machine has heard of a quarantine that nobody lifted: as the entries on its disk say, one by one."""
    on, off = set[bytes](), set[bytes]()
    for entry in machine.disk.store._entries.values() if world.orders.given else ():
        if entry.header.kind == Kind.QUARANTINE and entry.header.author not in world.doubtful:
            try:
                begins = QuarantineOrder.parse(entry.payload or b"").on
            except PeerFault:
                continue
            on |= {entry.id} if begins else set()
            off |= set() if begins else set(entry.header.parents)
    return bool(on - off)


def silent(world: World, machines: Iterable[Machine]) -> list[Machine]:
    """Those of these that are to exchange nothing."""
    return [machine for machine in machines if world.says(machine) and is_quarantined(world, machine)]


def check_silent(world: World, machines: Iterable[Machine]) -> None:
    """Raise `BrokenError` if one is still under the quarantine that it had heard of before it exchanged something."""
    for machine in machines:
        if is_quarantined(world, machine):
            raise BrokenError(f"{machine.name} exchanges although it has heard of a quarantine")


def rehearses(world: World, machine: Machine) -> bool:
    """Whether a drill that a machine has heard of is on: its clock is right, and always was."""
    if not (world.orders.drills and machine.keeps_time and machine.remembers) or is_quarantined(world, machine):
        return False
    now_ms = world.true_ms()
    return any(
        name in machine.disk.store._entries and begun_ms <= now_ms < begun_ms + minutes * MINUTE_MS - _SLACK_MS
        for name, (begun_ms, minutes) in world.orders.drills.items()
    )


def _planned_ms(entry: Entry) -> int:
    """When a drill is over wherever it is heard of before; 0 of anything else."""
    if entry.header.kind != Kind.DRILL or entry.payload is None:
        return 0
    return entry.timestamp_ms + ((DrillOrder.parse(entry.payload).minutes or 0) + 1) * MINUTE_MS


async def let_drills_end(world: World) -> None:
    """Let so much time pass that all are over, by the true time and then by clocks that are wrong.

    One is dated by the clock of who ordered it, which others that are fast have moved ahead.
    """
    planned = (_planned_ms(entry) for disk in world.disks() for entry in disk.store._entries.values())
    over_ms = max([world.orders.over_ms, *planned])
    await asyncio.sleep(max(0, over_ms - world.true_ms()) / 1000)
    for machine in world.machines:
        agent = machine.agent
        now = None if agent is None else await ordered(agent)
        if agent is None or now is None or now.drill is None:
            continue
        left_ms = now.ends_ms - agent.now_ms()
        if left_ms > LONGEST_MINUTES * MINUTE_MS:
            raise BrokenError(f"at {machine.name} a drill does not end by itself")
        await asyncio.sleep(left_ms / 1000 + 1)
