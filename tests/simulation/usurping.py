"""What whoever has the server's key says of devices and people, beside what `devices` and `theft` have of thieves.

- *stranger*: somebody invented is listed as a teacher, with a device of theirs;
- *stranger's word*: that device says of each teacher's that it knows what its screen offers (docs/adr/0461);
- *false same*: a list calls a stranger and a teacher, or two pupils, one (docs/adr/0461, 0180);
- *false grant*: a device that is ours is granted once more, with other keys, as somebody else's, in another role, for
  good or for a while (docs/adr/0176, 0188);
- *list leaves*: whose laptop was reported is said to have left the class, and the laptop to be hers in another one
  (docs/adr/0175);
- *take back*: the head's computer that reported it is cut off with what it has said since, or the laptop is let in
  again (docs/adr/0177, 0178);
- *false report*: a head who was invented reports an honest laptop, and is cut off in the same moment (docs/adr/0177).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Final

from protocol.identity import DeviceKeys, SigningKey
from protocol.limits import SALT_BYTES
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Grant, PersonRecord, Revocation
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.further_words import merge_persons
from protocol.replica.office.invitations import Wanted
from protocol.replica.office.people import add_person, list_draft, listings
from protocol.roles import PersonRole, Role
from sync_agent.keys.confirming import confirm as confirm_reader
from sync_agent.keys.confirming import list_readers
from sync_server.opened.app import Server
from tests.simulation.at_server import at_server
from tests.simulation.claims import WEEK_MS, enters, laptops, let_in_as
from tests.simulation.doing import Event, do
from tests.simulation.machine import Machine, SimAgent

if TYPE_CHECKING:
    from tests.simulation.world import World

OF_PUPILS: Final = 0.3
STRANGER: Final = "M. X"


async def stranger(world: World, _machine: Machine, random: Random) -> str:
    """See the module."""
    space = random.choice(world.founding.spaces[:2])

    async def named(server: Server) -> None:
        if world.trust.strangers:
            return
        person = await add_person(server, STRANGER, PersonRole.TEACHER, [space])
        machine = await enters(world, server, "stranger", Wanted(Role.TEACHER, [space], person, 1, WEEK_MS))
        world.trust.strangers.add(machine.device)

    return await at_server(world, "stranger", named)


async def strangers_word(world: World, _machine: Machine, random: Random) -> str:
    """See the module."""
    there = [machine for machine in world.machines if machine.device in world.trust.strangers]
    if not there:
        return "-"
    there[0].spawn(do(world, there[0], "stranger's word", _claim_all, random))
    return there[0].name


async def _claim_all(world: World, machine: Machine, agent: SimAgent, _random: Random) -> str:
    await machine.sync()
    readers = [each for each in await list_readers(agent) if not (each.is_this or each.confirmed)]
    for reader in readers:
        world.trust.claims.add((agent.device, reader.device))
        await confirm_reader(agent, reader.id, shown_as=reader.shown_as, person=reader.person)
    await machine.sync()
    return f"{len(readers)} devices"


async def false_same(world: World, _machine: Machine, random: Random) -> str:
    """See the module."""
    strangers = [machine for machine in world.machines if machine.device in world.trust.strangers]
    if not strangers or random.random() < OF_PUPILS:
        pair = random.sample(world.founding.pupils[random.choice(world.founding.spaces)], 2)
    else:
        pair = [let_in_as(each).person or b"" for each in (strangers[0], random.choice(laptops(world)))]
        random.shuffle(pair)

    async def listed(server: Server) -> None:
        world.trust.called_one.add(frozenset(pair))
        await merge_persons(server, pair[0], pair[1])

    return await at_server(world, f"{pair[0].hex()[:8]} is {pair[1].hex()[:8]}", listed)


async def false_grant(world: World, _machine: Machine, random: Random) -> str:
    """See the module. It is said where the device is already, so that it loses nothing by it.

    A teacher's laptop is given no other keys, nor another person, before it has said a reading key: it says that, so
    far, under the grant that came last. With other keys not afterwards either: it may have to say one again.
    """
    ours = [
        each
        for each in world.machines
        if not each.revoked
        and each.birth.role in (Role.TEACHER, Role.MACHINE)
        and each.device not in world.trust.strangers | world.trust.impostors
    ]
    if not ours:
        return "-"
    machine = random.choice(ours)
    first = let_in_as(machine)
    others = [
        replace(first, until_ms=None if first.until_ms is not None else world.true_ms() + 10 * WEEK_MS),
    ]
    if first.role is Role.MACHINE:
        others += [replace(first, role=Role.RELAY), replace(first, agreement=random.randbytes(32))]
    persons = {let_in_as(each).person for each in laptops(world)} - {first.person}
    if _has_said_a_key(world, machine) and persons:
        others.append(replace(first, person=random.choice(sorted(filter(None, persons)))))
    said = random.choice(others)

    async def granted(server: Server) -> None:
        spaces = sorted({each.space for each in server.replica.door.authorities_of(machine.device)})
        drafts = [Draft(space, Kind.GRANT, server.grant, said.encode()) for space in spaces]
        world.trust.false_grants.update(entry.id for entry in await server.write(drafts))

    return await at_server(world, f"false grant of {machine.name} as {said.role}", granted)


def _has_said_a_key(world: World, machine: Machine) -> bool:
    held = world.office.disk.store._entries.values()
    return any(each.header.kind == Kind.PERSON_KEY and each.header.author == machine.device for each in held)


async def list_leaves(world: World, _machine: Machine, random: Random) -> str:
    """See the module."""
    if not world.trust.lost_at_school:
        return "-"
    laptop = random.choice([each for each in laptops(world) if each.device in world.trust.lost_at_school])
    first, person = let_in_as(laptop), let_in_as(laptop).person or b""

    async def said(server: Server) -> None:
        door = server.replica.door
        cut = {each.space for each in door.authorities_of(laptop.device)}
        drafts = [
            list_draft(person, PersonRecord(each.name, each.role, left=True), space, [each.entry])
            for space, each in (await listings(server.replica, person)).items()
            if space in cut
        ]
        school = [space for space in world.spaces if door.knows_space(space) and door.parent(space) in _schools(world)]
        drafts += [Draft(space, Kind.GRANT, None, first.encode()) for space in school if space not in cut]
        await server.say(drafts)

    return await at_server(world, f"{laptop.name}'s teacher has left, and is in another class", said)


def _schools(world: World) -> set[bytes]:
    server = world.office.server
    return set() if server is None else {server.replica.door.parent(world.founding.spaces[0]) or b""}


async def take_back(world: World, _machine: Machine, random: Random) -> str:
    """See the module."""
    if not world.trust.lost_at_school:
        return "-"
    laptop = random.choice([each for each in laptops(world) if each.device in world.trust.lost_at_school])
    reported = world.trust.lost_at_school[laptop.device]
    head = next(each for each in world.machines if each.device == reported.by)
    if random.random() < 0.5 and world.may_go(head) and not world.trust.made_spaces:
        world.goes({head.device} | world.let_in_by(head))
        return await at_server(world, f"cut {head.name} off", lambda server: _hold_back(server, head, reported.heads))
    first = let_in_as(laptop)

    async def let_in_again(server: Server) -> None:
        cuts = (await server.store.get(list(reported.cuts))).values()
        for space in sorted({cut.header.space for cut in cuts}):
            names = tuple(cut.id for cut in cuts if cut.header.space == space)
            await server.write([Draft(space, Kind.GRANT, server.grant, first.encode(), parents=names)])

    return await at_server(world, f"let {laptop.name} in again", let_in_again)


async def _hold_back(server: Server, head: Machine, heads: Mapping[bytes, Sequence[bytes]]) -> None:
    first = let_in_as(head)
    for each in server.replica.door.authorities_of(head.device)[:1]:
        names = tuple(name for space in server.replica.door.below(each.space) for name in heads.get(space, ()))
        draft = Draft(each.space, Kind.REVOKE, server.grant, Revocation(head.device, names).encode())
        (cut,) = await server.write([draft])
        await server.write([Draft(each.space, Kind.GRANT, server.grant, first.encode(), parents=(cut.id,))])


class Pen:
    """Writes what programs do not: each entry a moment after the one before."""

    def __init__(self, now_ms: int, random: Random) -> None:
        self._at = now_ms << 16
        self._random = random

    def said(
        self, by: SigningKey, space: bytes, kind: Kind, grant: bytes, payload: bytes, parents: tuple[bytes, ...] = ()
    ) -> Entry:
        """An entry of whoever has this key."""
        self._at += 1
        return compose(
            author=by,
            space=space,
            kind=kind,
            grant=grant,
            at=self._at,
            payload=payload,
            salt=self._random.randbytes(SALT_BYTES),
            parents=parents,
        )


async def false_report(world: World, _machine: Machine, random: Random) -> str:
    """See the module."""
    there = [each for each in laptops(world) if not each.revoked]
    if not there:
        return "-"
    laptop = random.choice(there)
    keys = DeviceKeys.create(random.randbytes(32), random.randbytes(32), random.randbytes(32))
    invented = keys.signing.public
    world.trust.thieves.add(invented)
    world.doubtful.add(invented)
    world.trust.doubted.add(laptop.device)

    async def reported(server: Server) -> None:
        school = server.replica.door.parent(world.founding.spaces[0]) or b""
        pen, ours = Pen(server.now_ms(), random), server.keys.signing
        given = Grant(invented, keys.agreement.public, keys.tls.fingerprint, Role.HEAD, None, None)
        grant = pen.said(ours, school, Kind.GRANT, server.grant, given.encode())
        spaces = [
            each.space
            for each in server.replica.door.authorities_of(laptop.device)
            if school in server.replica.door.lineage(each.space)
        ]
        reports = [
            pen.said(keys.signing, space, Kind.REVOKE, grant.id, Revocation(laptop.device, ()).encode())
            for space in dict.fromkeys(spaces)
        ]
        cut = pen.said(ours, school, Kind.REVOKE, server.grant, Revocation(invented, ()).encode())
        world.trust.forged |= {grant.id, cut.id}
        await server.replica.admit(
            [grant, *reports, cut], source=server.keys.signing.public, now_ms=server.now_ms(), unsent=False
        )

    return await at_server(world, f"false report of {laptop.name}", reported)


EVENTS: Final[Mapping[str, Event]] = {
    "stranger": stranger,
    "stranger's word": strangers_word,
    "false same": false_same,
    "false grant": false_grant,
    "list leaves": list_leaves,
    "take back": take_back,
    "false report": false_report,
}
