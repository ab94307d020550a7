"""Sign-in on shared PCs: a teacher switches it on and sets PINs, pupils show theirs, somebody guesses (docs/adr/0034).

What was set is known here by the entry that says it; nobody may ever be let in by anything else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from random import Random
from typing import TYPE_CHECKING, Final

from protocol.folds.sign_in import Method
from protocol.limits import MAX_SIGN_IN_TRIES
from protocol.roles import HAS_READING_KEYS, SHARED, PersonRole
from sync_agent.school.sign_in import SignInBook, Try
from tests.simulation.doing import Event, done_at_machine
from tests.simulation.ledger import BrokenError
from tests.simulation.machine import Machine, SimAgent
from tests.simulation.people import own_spaces

if TYPE_CHECKING:
    from tests.simulation.world import World

WRONG: Final = "9999"


async def sign_in_set(world: World, _machine: Machine, agent: SimAgent, random: Random) -> str:
    """A teacher switches sign-in on, and gives a few pupils their PINs; or switches it off."""
    spaces = await own_spaces(agent)
    if not spaces:
        return "-"
    book, space = SignInBook(agent), random.choice(spaces)
    await book.switch(space, on=random.random() < 0.9)
    pupils = [person.id for person in await book.persons(space) if person.role is PersonRole.PUPIL]
    chosen = {pupil: (Method.PIN, f"{random.randrange(9_000):04}") for pupil in pupils if random.random() < 0.7}
    for person, (_, pin) in chosen.items():
        world.trust.pins.setdefault(person, set()).add(pin)
    if chosen:
        await book.set(space, chosen)
    return f"{len(chosen)} pupils"


async def sign_in_unlock(_world: World, _machine: Machine, agent: SimAgent, random: Random) -> str:
    """A teacher lets somebody try again."""
    spaces = await own_spaces(agent)
    if not spaces:
        return "-"
    book, space = SignInBook(agent), random.choice(spaces)
    locked = [person for person, each in (await book.of(space)).persons.items() if each.locked_by]
    if not locked:
        return "-"
    person = random.choice(sorted(locked))
    if await book.method(space, person) is None:
        return "-"
    await book.unlock(space, person)
    return person.hex()[:8]


async def sign_in(world: World, machine: Machine, agent: SimAgent, random: Random) -> str:
    """A pupil shows a PIN; or somebody guesses until the machine takes no more."""
    book = SignInBook(agent)
    ways = (await book.guards()).ways
    known = sorted(
        (person, space) for person, there in ways.items() for space, mine in there.items() if mine is not None
    )
    if not known:
        return "-"
    person, space = random.choice(known)
    if random.random() < 0.3:
        return f"{person.hex()[:8]} {await guess(world, machine, book, space, person)}"
    tried = await book.attempt(space, person, random.choice(sorted(world.trust.pins[person])))
    return f"{person.hex()[:8]} {tried.how.name}"


async def guess(world: World, machine: Machine, book: SignInBook, space: bytes, person: bytes) -> str:
    """As often as one may, with what is nobody's PIN."""
    for _ in range(MAX_SIGN_IN_TRIES + 1):
        tried = await book.attempt(space, person, WRONG)
        if tried.how is Try.PROVEN:
            raise BrokenError("a wrong PIN lets somebody in")
        if tried.how is Try.LOCKED:
            entry = (await book.guards((space,))).ways[person][space]
            if world.says(machine) and entry is not None:
                world.trust.locked.add((person, entry.entry))
            return "LOCKED"
        await asyncio.sleep(tried.wait_ms / 1000)
    return tried.how.name


EVENTS: Final[Mapping[str, Event]] = {
    "sign-in set": done_at_machine(sign_in_set, HAS_READING_KEYS),
    "sign-in unlock": done_at_machine(sign_in_unlock, HAS_READING_KEYS),
    "sign in": done_at_machine(sign_in, SHARED),
}
