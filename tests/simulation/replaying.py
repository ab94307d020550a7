"""Others' entries in spaces where they were not said: a thief writes them onto a copy of a disk, and takes it along.

- *say again*: whoever has a machine of ours takes what it holds, or what lies at the server, to other spaces:
  *moved*, with the author's own signature, which is over another space; *strayed*, in the thief's own name, under a
  right that does not hold there; *repeated*, under one that does; *misplaced*, unchanged, among those of another space.

The copy brings that to the server, calls neighbours and is called by them, and writes it onto a stick that they take
in. It answers with what it is asked for, whatever space that is of. What is repeated is the thief's own word, and may
come in: what it must not do is for `school_invariants` to say (docs/adr/0215).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any, Final

from blake3 import blake3

from protocol.limits import SALT_BYTES
from protocol.model.entry import Entry, Kind, KindClass, class_of, compose, encode_header
from protocol.reconcile.checkpoint import next_chain
from protocol.replica.interfaces import Stored
from protocol.replica.storage.memory import MemoryStore, _Space
from protocol.rights.door import WRITERS, Door
from protocol.roles import Role
from tests.simulation.doing import Event
from tests.simulation.lines import CALM
from tests.simulation.machine import Machine, SimAgent
from tests.simulation.sticks import STICKS
from tests.simulation.trust import line_of

if TYPE_CHECKING:
    from tests.simulation.world import World

MOST_OF_A_WAY: Final = 12
MOST_MISPLACED: Final = 60
MOST_VISITED: Final = 3
_LIKELY: Final = 0.8
_NAMES_NO_CONTENT: Final = frozenset(
    {Kind.PERSON_KEY, Kind.KEY_WRAP, Kind.PHRASE, Kind.WRAP, Kind.RECEIPT_TEACHER, Kind.RECEIPT_SAFE, Kind.SPACE_WRAP}
)
"""What is repeated: of content that an entry names, and nobody has there, everybody would lack it for ever."""


class _Nobody:
    """Who is told of nothing: what goes wrong with a thief's program is the thief's trouble."""

    def acknowledged(self, entries: Sequence[Entry]) -> None:
        """See `Told`."""

    def surprise(self, who: str, error: BaseException) -> None:
        """See `Told`."""


async def say_again(world: World, machine: Machine, random: Random) -> str:
    """See the module. Where no machine was lost, somebody else's program runs on this one from now on."""
    lost = [each for each in world.machines if each.device in world.trust.thieves and each not in world.frozen]
    if lost and random.random() < _LIKELY:
        machine = random.choice(lost)
    elif machine.birth.role is not Role.MACHINE or machine in world.frozen or not world.may_go(machine):
        return "-"
    else:
        line = line_of(world, machine.device)
        world.goes(line)
        world.trust.thieves |= line
    machine.spawn(_go_round(world, machine, random))
    return machine.name


async def _go_round(world: World, machine: Machine, random: Random) -> None:
    server = world.office.server
    held = machine.disk.store if server is None or random.random() < 0.5 else world.office.disk.store
    sources = [entry for entry in held._entries.values() if entry.payload is not None]
    copy = _copied(world, machine, random)
    await copy.boot()
    agent = copy.agent
    try:
        if agent is None:
            return
        door = agent.replica.door if server is None else server.replica.door
        if len(door.spaces()) < 2 or not await agent.spaces():
            return
        said = await _write(world, agent, door, sources, random)
        machine.note(f"says again: {said}")
        others = [each for each in world.machines if not each.revoked and each.agent is not None]
        for other in random.sample(others, min(len(others), MOST_VISITED)):
            await _visit(world, copy, other, random)
        await _tell(copy, "to the server", copy, copy.sync())
    finally:
        await copy.switch_off()


def _copied(world: World, machine: Machine, random: Random) -> Machine:
    """A machine that nobody counts among ours, over a copy of the disk."""
    far, name = world.office, f"{machine.name}'s thief"
    copy = Machine(
        machine.birth,
        name,
        machine.disk.image(),
        far,
        Random(random.random()),
        world.true_ms,
        _Nobody(),
        lambda what: world.note(name, what),
        daemon=False,
    )
    copy.heeds, copy.revoked = world.orders.given, True
    return copy


# --- what is said -----------------------------------------------------------------------------------------------------


async def _write(world: World, agent: SimAgent, door: Door, sources: Sequence[Entry], random: Random) -> str:
    """Put it all onto the copy's disk, past its door."""
    moved = _moved(door, [each for each in sources if each.header.author != agent.device], random)
    strayed, repeated = _in_own_name(agent, door, sources, random)
    world.trust.moved |= {entry.id for entry in (*moved, *strayed)}
    await agent.replica.store.append([*moved, *strayed, *repeated], unsent=True)
    mine = list(await agent.spaces())
    elsewhere = random.choice(sorted({each.header.space for each in sources}))
    there = [each for each in sources if each.header.space == elsewhere][:MOST_MISPLACED]
    among = random.choice([space for space in mine if space != elsewhere] or mine)
    _misplace(getattr(agent.replica.store, "inner"), there, among)  # noqa: B009 — no part of the interface
    return f"{len(moved)} moved, {len(strayed)} strayed, {len(repeated)} repeated, {len(there)} misplaced"


def _moved(door: Door, sources: Sequence[Entry], random: Random) -> list[Entry]:
    found = []
    fit = [each for each in sources if each.header.kind != Kind.SPACE and _class(each) != KindClass.AUTHORITY]
    for entry in random.sample(fit, min(len(fit), MOST_OF_A_WAY)):
        space = _another(door, entry, random)
        there = [each.grant for each in door.authorities_of(entry.header.author) if door.covers(each, space)]
        header = replace(entry.header, space=space, grant=random.choice([entry.header.grant, *there]))
        data = encode_header(header)
        found.append(replace(entry, header=header, header_bytes=data, id=blake3(data).digest()))
    return found


def _in_own_name(
    agent: SimAgent, door: Door, sources: Sequence[Entry], random: Random
) -> tuple[list[Entry], list[Entry]]:
    """Those under a right that does not hold where they are said, and those under one that does."""
    rights = door.authorities_of(agent.device)
    strayed, repeated = list[Entry](), list[Entry]()
    fit = [each for each in sources if each.header.kind in _NAMES_NO_CONTENT]
    for number, entry in enumerate(random.sample(fit, min(len(fit), 2 * MOST_OF_A_WAY))):
        space = _another(door, entry, random)
        may = [each for each in rights if each.role in WRITERS[_class(entry)]]
        holding = [each for each in may if door.covers(each, space)]
        for right in random.sample(holding or may, min(1, len(may))):
            (repeated if holding else strayed).append(
                compose(
                    author=agent.keys.signing,
                    space=space,
                    kind=entry.header.kind,
                    grant=right.grant,
                    at=(agent.now_ms() << 16) + number,
                    payload=entry.payload or b"",
                    salt=random.randbytes(SALT_BYTES),
                    subject=entry.header.subject,
                    target=entry.header.target,
                )
            )
    return strayed, repeated


def _class(entry: Entry) -> int:
    return class_of(entry.header.kind)


def _another(door: Door, entry: Entry, random: Random) -> bytes:
    return random.choice([space for space in door.spaces() if space != entry.header.space])


def _misplace(store: MemoryStore, entries: Sequence[Entry], space: bytes) -> None:
    """List entries among those of another space."""
    here = store._spaces.setdefault(space, _Space())
    for entry in entries:
        store._entries.setdefault(entry.id, entry)
        here.entries.append(Stored(len(here.entries) + 1, entry))
        here.chains.append(next_chain(here.chains[-1], entry.id))


# --- to whom ----------------------------------------------------------------------------------------------------------


async def _visit(world: World, copy: Machine, other: Machine, random: Random) -> None:
    """Both ways over the school's network, and by a stick."""
    agent, there, number = copy.agent, other.agent, random.randrange(STICKS)
    if agent is None or there is None:
        return
    world.trust.met.add(frozenset((copy.device, other.device)))
    responder = world.neighbours.ear(copy).responder
    if responder is not None:
        responder._news.entries = _Willing(agent).entries  # type: ignore[method-assign]  # a thief's program
    await _tell(copy, f"calls {other.name}", copy, world.neighbours.exchange(copy, other, CALM))
    await _tell(copy, f"is called by {other.name}", other, world.neighbours.exchange(other, copy, CALM))
    await _tell(copy, "writes a stick", copy, world.sticks.export(agent, number))
    await _tell(copy, f"gives it to {other.name}", other, world.sticks.bring(there, number))
    await world.observe(other)


class _Willing:
    """Gives what it is asked for, whatever space that is of."""

    def __init__(self, agent: SimAgent) -> None:
        self._agent = agent

    async def entries(self, space: bytes, wanted: Sequence[bytes]) -> tuple[tuple[Entry, ...], tuple[bytes, ...]]:
        del space
        return tuple((await self._agent.replica.store.get(wanted)).values()), ()


async def _tell(copy: Machine, what: str, who: Machine, work: Coroutine[Any, Any, object]) -> None:
    """Let somebody do something, and note how it ended."""
    task = who.spawn(work)
    await asyncio.wait({task})
    failure = None if task.cancelled() else task.exception()
    copy.note(f"{what}: {'cut short' if task.cancelled() else getattr(failure, 'code', failure) or 'done'}")


EVENTS: Final[Mapping[str, Event]] = {"say again": say_again}
