"""One seed, or one plan, from beginning to end: lived, healed, judged."""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final
from unittest import mock

from tests.simulation.founding import Founding, founding, with_crowd
from tests.simulation.invariants import judge
from tests.simulation.lines import CALM
from tests.simulation.malware import MOST_BY_KEY
from tests.simulation.plan import CROWD, Plan, Step, plan_of
from tests.simulation.quick import quickly
from tests.simulation.virtual_time import Stalled, run
from tests.simulation.world import World

KiB: Final = 1024

# Bounds that decide what travels how. Small ones let small histories meet what real ones meet: pages, links, uploads.
_SMALL: Final = (
    ("protocol.replica.answering.news.PAGE_BYTES", 6 * KiB),
    ("protocol.replica.answering.outgoing.INLINE_PACK_BYTES", KiB),
    ("protocol.replica.answering.outgoing.INLINE_TOTAL_BYTES", 3 * KiB),
    ("sync_agent.sync.asking.INLINE_PACK_BYTES", KiB),
    ("sync_agent.sync.asking.INLINE_TOTAL_BYTES", 3 * KiB),
    ("sync_agent.sync.asking.FIRST_PUSH_BYTES", 2 * KiB),
    ("sync_agent.sync.asking.MAX_PUSHED_BYTES", 3 * KiB),
    ("sync_agent.sync.reconciling.IDS_PER_REQUEST", 3),
    ("protocol.replica.answering.allowances.SPARE_CONTENT_BYTES", 30 * KiB),
    ("protocol.replica.answering.allowances._PER_CONTENT_BYTES", 4 * KiB),
)

# Bounds that no honest machine comes near, in here as out there.
_ALWAYS: Final = (("protocol.replica.at_work.quotas.MAX_ENTRIES_PER_KEY", MOST_BY_KEY),)

Break = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True)
class Lived:
    """How a history ended: its problems (none: all is well), its trace, the trace's hash."""

    plan: Plan
    problems: tuple[str, ...]
    trace: tuple[str, ...]
    digest: str
    rounds: int


def prepare() -> None:
    """Make what all histories begin with, which copies of this process find done."""
    with quickly():
        _crowded()


def live(seed: int, broken: Break = nullcontext) -> Lived:
    """The history of a seed, with a rule broken on purpose if one is given."""
    return live_plan(plan_of(seed), broken)


def live_plan(plan: Plan, broken: Break = nullcontext) -> Lived:
    """The history of a plan."""
    with quickly():
        return _lived(plan, broken)


def _lived(plan: Plan, broken: Break) -> Lived:
    world = None
    rounds = 0
    begun = _crowded() if plan.crowd else _settled() if plan.settled else founding()

    async def whole() -> None:
        nonlocal world, rounds
        world = World(plan, begun)
        try:
            await world.live()
            if not world.problems:
                rounds = await world.heal()
            if not world.problems:
                await judge(world)
        finally:
            await world.end()

    state, level = random.getstate(), logging.root.manager.disable
    random.seed(plan.seed)
    logging.disable()
    try:
        with _bounds(small=plan.small_bounds), broken():
            run(whole())
    except Stalled as stalled:
        if world is not None:
            world.problems.append(str(stalled))
    finally:
        random.setstate(state)
        logging.disable(level)
    assert world is not None
    return Lived(plan, tuple(world.problems), tuple(world.trace), world.digest(), rounds)


@lru_cache(maxsize=1)
def _settled() -> Founding:
    """The territory once every machine has all that it should have."""
    begun = founding()
    count = len(begun.machines)
    plan = Plan(
        seed=0,
        machines=tuple(range(count)),
        settled=False,
        daemons=False,
        small_bounds=False,
        isolated=False,
        frozen=None,
        weather=CALM,
        steps=(),
    )

    async def settle() -> Founding:
        world = World(plan, begun)
        await world.live()
        for number, machine in enumerate(world.machines):
            for again in range(2):
                chance = -1 - 2 * number - again
                await world.act(machine, Step(chance, 0, "publish", number, chance))
        await world.heal()
        await world.end()
        assert not world.problems
        births = [
            replace(birth, disk=machine.disk.image())
            for birth, machine in zip(begun.machines, world.machines, strict=True)
        ]
        server = replace(begun.server, disk=world.office.disk.image())
        return replace(
            begun,
            server=server,
            machines=tuple(births),
            published=world.ledger.published,
            begins_ms=world.true_ms(),
        )

    return run(settle())


@lru_cache(maxsize=1)
def _crowded() -> Founding:
    """The same, and a crowd of machines that were let in since and have never synced."""
    return run(with_crowd(_settled(), CROWD))


@contextlib.contextmanager
def _bounds(*, small: bool) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for name, value in (*_ALWAYS, *(_SMALL if small else ())):
            stack.enter_context(mock.patch(name, value))
        yield
