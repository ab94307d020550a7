"""A teacher's words are hidden for a while by whoever has the server's key, while she says more of the same thing.

- *hers says*: a teacher gives a word on the same hand-in as last time (docs/adr/0561);
- *hide*: a head who was invented cuts her laptop off as of one of her words, and it is let in again in the same moment:
  that word and all after it are not shown, and she may say more (docs/adr/0273);
- *let words go*: who was invented is cut off with all that they said: her earlier words count again.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import TYPE_CHECKING, Final

from protocol.identity import DeviceKeys
from protocol.model.entry import Kind
from protocol.model.structure import Grant, Revocation
from protocol.replica.at_work.replica import Draft
from protocol.roles import Role
from sync_agent.hand_ins import handing_in
from sync_server.opened.app import Server
from tests.harness.classroom import Given
from tests.simulation.at_server import at_server
from tests.simulation.claims import is_falsely_granted, laptops, let_in_as
from tests.simulation.doing import Event, do
from tests.simulation.machine import Machine, SimAgent
from tests.simulation.people import works_of
from tests.simulation.usurping import Pen

if TYPE_CHECKING:
    from tests.simulation.world import World


async def hers_says(world: World, _machine: Machine, random: Random) -> str:
    """See the module."""
    hers = [each for each in laptops(world) if not each.revoked]
    hidden = [each for each in hers if each.device in world.trust.hidden]
    for machine in hidden or hers:
        machine.spawn(do(world, machine, "hers says", _say, Random(random.random())))
    return f"{len(hidden or hers)} laptops"


async def _say(_world: World, _machine: Machine, agent: SimAgent, random: Random) -> str:
    works = await works_of(agent)
    if not works:
        return "-"
    work = min(works, key=lambda each: each.id)
    text, redo = f"word {random.random()}", random.random() < 0.3
    await handing_in.give_feedback(agent, work.id, text, None, redo=redo, incoming=Given({}))
    return f"of {work.id.hex()[:8]}"


async def hide(world: World, _machine: Machine, random: Random) -> str:
    """See the module."""
    there = [each for each in laptops(world) if not each.revoked and each.device not in world.trust.hidden]
    there = [each for each in there if not is_falsely_granted(world, each)]
    if not there:
        return "-"
    laptop, chance = random.choice(there), random.random()
    keys = DeviceKeys.create(random.randbytes(32), random.randbytes(32), random.randbytes(32))

    async def hidden(server: Server) -> None:
        words = await server.store.scan_kinds([Kind.FEEDBACK])
        hers = [each for each in words if each.header.author == laptop.device]
        if not hers:
            return
        word = hers[int(chance * len(hers))].header
        school = server.replica.door.parent(word.space)
        if school is None:
            return
        world.trust.hidden[laptop.device] = (keys.signing.public, school)
        world.trust.thieves.add(keys.signing.public)
        world.doubtful.add(keys.signing.public)
        world.trust.doubted.add(laptop.device)
        pen, ours = Pen(server.now_ms(), random), server.keys.signing
        head = Grant(keys.signing.public, keys.agreement.public, keys.tls.fingerprint, Role.HEAD, None, None)
        grant = pen.said(ours, school, Kind.GRANT, server.grant, head.encode())
        cut = pen.said(keys.signing, word.space, Kind.REVOKE, grant.id, Revocation(laptop.device, word.prev).encode())
        again = pen.said(ours, word.space, Kind.GRANT, server.grant, let_in_as(laptop).encode(), (cut.id,))
        world.trust.forged |= {grant.id, again.id}
        await server.replica.admit(
            [grant, cut, again], source=server.keys.signing.public, now_ms=server.now_ms(), unsent=False
        )

    return await at_server(world, f"hide words of {laptop.name}", hidden)


async def let_go(world: World, _machine: Machine, _random: Random) -> str:
    """See the module."""

    async def cut_off(server: Server) -> None:
        for invented, school in world.trust.hidden.values():
            draft = Draft(school, Kind.REVOKE, server.grant, Revocation(invented, ()).encode())
            await server.write([draft])

    return await at_server(world, "let words go", cut_off)


EVENTS: Final[Mapping[str, Event]] = {"hers says": hers_says, "hide": hide, "let words go": let_go}
