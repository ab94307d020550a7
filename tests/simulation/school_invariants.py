"""What must hold in the end of teachers' devices, clones and sign-in (docs/adr/0034, 0064, 0066).

14. A teacher's device gives reading keys, and what was opened, to devices that people have led it to, and to no others;
    to those that its teacher has confirmed it gives its keys. In a class it gives those of no other one.
15. For whom a machine remembers a teacher's device, another that nobody confirmed reads no work and says nothing there.
    Whom whoever has the server calls the same as one of theirs (docs/adr/0461) lets one read as it reads itself.
16. An unconfirmed clone reads nothing where its original was cut off.
17. A PIN that was set lets its pupil in at every machine of the school, and nothing else does; after too many tries no
    machine takes any more. The keys of that lie at the school's own machines alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Final

from protocol.errors import PeerFault
from protocol.folds.sign_in import SignInWraps, holders
from protocol.model.entry import Entry, Kind
from protocol.model.structure import PersonKey
from protocol.model.work import Wraps
from protocol.replica.at_work.replica import Replica
from protocol.roles import HAS_READING_KEYS, HOLDS_SIGN_INS
from protocol.trust.person_keys import KeyWraps
from sync_agent.keys.key_wraps import open_given_keys, reading_keys
from sync_agent.school.sign_in import SignInBook
from tests.simulation.claims import let_in_as
from tests.simulation.ledger import BrokenError
from tests.simulation.machine import Machine, SimAgent
from tests.simulation.signing_in import WRONG
from tests.simulation.sound import server_of, sound
from tests.simulation.trust import Device
from tests.simulation.world import World


def led_to(world: World, starts: Iterable[Device], words: Collection[tuple[Device, Device]] = ()) -> set[Device]:
    """The devices to which people's words lead from some, and these `words`."""
    found = set(starts)
    said = world.trust.words.union(words)
    while fresh := {named for by, named in said if by in found} - found:
        found |= fresh
    return found


async def _makers(server: Replica) -> dict[bytes, set[Device]]:
    """The devices that made each reading key."""
    found: defaultdict[bytes, set[Device]] = defaultdict(set)
    for entry in await server.store.scan_kinds([Kind.PERSON_KEY]):
        if entry.payload is not None:
            found[PersonKey.parse(entry.payload).agreement].add(entry.header.author)
    return found


async def _classes(server: Replica, world: World) -> dict[bytes, set[bytes]]:
    """The classes for which each reading key was made, but for those that a thief has repeated."""
    found: defaultdict[bytes, set[bytes]] = defaultdict(set)
    for entry in await server.store.scan_kinds([Kind.PERSON_KEY]):
        if entry.payload is not None and entry.header.author not in world.trust.thieves:
            found[PersonKey.parse(entry.payload).agreement].add(entry.header.space)
    return found


async def _keys_given(world: World) -> None:
    server = server_of(world.office)
    owners = {each.agreement: each.key for each in server.door.authorities()}
    classes = await _classes(server, world)
    for entry in await server.store.scan_kinds([Kind.KEY_WRAP]):
        author = entry.header.author
        if entry.payload is None or author in world.trust.impostors | world.trust.thieves | world.trust.strangers:
            continue
        led, given = led_to(world, [author]), KeyWraps.parse(entry.payload)
        if entry.header.space not in classes.get(given.agreement, {entry.header.space}):
            raise BrokenError(f"{author.hex()[:8]} gave a key of one class in another")
        for recipient, _ in given.wraps:
            if owners.get(recipient) not in led:
                raise BrokenError(f"{author.hex()[:8]} gave its teacher's keys to a device that nobody confirmed")
    agents = {machine.device: (machine, agent) for machine, agent in sound(world)}
    for by, named in sorted(world.trust.said_words):
        giver, taker = agents.get(by), agents.get(named)
        if giver is not None and taker is not None and giver[0].remembers and taker[0].remembers:
            await _check_taken(world, giver[1], taker[1])


async def _check_taken(world: World, giver: SimAgent, taker: SimAgent) -> None:
    """Whoever was confirmed as another device of the same teacher has the keys that the other made.

    They lie in the teacher's classes, and go with the last of them. Whom a server calls the same teacher's since was
    confirmed as a colleague, and stays one.
    """
    server, false = server_of(world.office), world.trust.false_grants
    persons = [
        {
            each.person
            for each in await server.authorities(agent.device)
            if each.role in HAS_READING_KEYS and each.grant not in false
        }
        for agent in (giver, taker)
    ]
    common = ((await giver.spaces()).keys() & (await taker.spaces()).keys()) - world.trust.closed
    classes = [space for space in common if len(server.door.lineage(space)) > 2]
    if not (persons[0] & persons[1]) - {None} or not classes:
        return
    await open_given_keys(taker)
    made = {each.key.public for each in giver.reading_keys.own() if each.space in classes}
    if made - reading_keys(taker).keys():
        raise BrokenError(f"{taker.folder} was confirmed by {giver.folder}, and lacks a key of its teacher's")


async def _work_read(world: World) -> None:
    server = server_of(world.office)
    makers = await _makers(server)
    machines = {machine.device: (machine, agent) for machine, agent in sound(world)}
    for entry in await server.store.scan_kinds([Kind.WRAP]):
        author = entry.header.author
        if entry.payload is None or author not in machines:
            continue
        machine, agent = machines[author]
        kept_out = world.trust.impostors - _believed(world, machine, agent, entry.header.space)
        for reader, _ in _wraps_in(entry):
            if makers.get(reader) and makers[reader] <= kept_out:
                raise BrokenError(f"{machine.name} sealed work to a device that nobody confirmed")
    for machine, agent in machines.values():
        for space in await agent.spaces():
            kept_out = world.trust.impostors - _believed(world, machine, agent, space)
            for work in (await agent.replica.view(space)).coursework.hand_ins.values():
                if any(note.author in kept_out for note in work.remarks):
                    raise BrokenError(f"at {machine.name} a device speaks for a teacher, and nobody confirmed it")


def _wraps_in(entry: Entry) -> tuple[tuple[bytes, bytes], ...]:
    try:
        return Wraps.parse(entry.payload or b"").wraps
    except PeerFault:
        return ()


def _believed(world: World, machine: Machine, agent: SimAgent, space: bytes) -> set[Device]:
    """The devices that may be believed there: where a machine has no memory, or lost it, all."""
    remembered = agent.acquainted.first.get(space)
    if not machine.remembers or not remembered:
        return set(world.trust.impostors)
    # of whom it remembers nobody, the first that it meets is the first
    unknown = {each.key for each in agent.replica.door.authorities() if each.person not in remembered}
    starts = {device[0] for devices in remembered.values() for device in devices}
    return led_to(world, starts, list(_claims_by_a_list(world))) | unknown


def _claims_by_a_list(world: World) -> Iterable[tuple[Device, Device]]:
    """What strangers said of devices of somebody whom lists call the same as them."""
    persons = {each.device: let_in_as(each).person or b"" for each in world.machines}
    for by, named in world.trust.claims:
        same = {persons.get(by, b"")}
        while fresh := {one for pair in world.trust.called_one if same & pair for one in pair} - same:
            same |= fresh
        if persons.get(named) in same:
            yield by, named


async def _copies_of_who_left(world: World) -> None:
    server = server_of(world.office)
    for space in server.door.spaces() if world.trust.heirs else ():
        roster = (await server.view(space)).roster
        for each in server.door.authorities_in(space):
            unconfirmed = each.predecessor is not None and each.key not in world.trust.confirmed
            if unconfirmed and each.predecessor in roster.cut and roster.may_read(each.key):
                raise BrokenError(f"the copy {each.key.hex()[:8]} of a device that was cut off reads on")


async def _sign_ins(world: World) -> None:
    if not world.trust.pins:
        return
    server = server_of(world.office)
    # who was let go takes along whom a server that was made anew has never heard of
    doors = [server.door, *(machine.agent.replica.door for machine in world.machines if machine.agent is not None)]
    own = {each.agreement for door in doors for each in door.authorities() if each.role in HOLDS_SIGN_INS}
    for entry in await server.store.scan_kinds([Kind.SIGN_IN_WRAP]):
        if entry.payload is not None and any(to not in own for to, _ in SignInWraps.parse(entry.payload).wraps):
            raise BrokenError("a key of sign-in lies at who is no machine of the school")
    books = [(machine, agent, SignInBook(agent)) for machine, agent in sound(world)]
    for space in world.spaces:
        there = [each for each in books if space in await each[1].spaces()]
        # whose devices are a teacher's own, each machine judges by what it saw first: none is owed what one doubts
        owed = [set(await _owed(agent, space)) for _, agent, _ in there]
        here = [each for each in there if all(each[1].keys.agreement.public in keys for keys in owed)]
        known = {
            name
            for _, _, book in here
            for name in (await book.of(space)).given.seals
            if await book.key(space, name) is not None
        }
        for machine, _, book in here:
            await _check_sign_ins(world, machine, book, space, known)


async def _owed(agent: SimAgent, space: bytes) -> list[bytes]:
    return holders((await agent.replica.view(space)).roster, agent.replica.territory)


async def _check_sign_ins(world: World, machine: Machine, book: SignInBook, space: bytes, known: set[bytes]) -> None:
    for person, each in (await book.of(space)).persons.items():
        if not each.is_set or each.record.key not in known:
            continue
        verifier = await book._verifier(space, each, person)
        if verifier is None:
            raise BrokenError(f"{machine.name} cannot let {person.hex()[:8]} in: it has no key for that")
        if not any(verifier.proves(pin) for pin in world.trust.pins[person]) or verifier.proves(WRONG):
            raise BrokenError(f"{machine.name} lets {person.hex()[:8]} in by something that was never set")
        if (person, each.entry) in world.trust.locked and not each.locked_by:
            raise BrokenError(f"{machine.name} takes tries for {person.hex()[:8]}, who is locked elsewhere")


SCHOOL: Final = (_keys_given, _work_read, _copies_of_who_left, _sign_ins)
