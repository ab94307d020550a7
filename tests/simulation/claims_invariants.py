"""What must hold in the end of whose devices and words are whose, whoever has the server's key (docs/adr/0461).

25. No list, grant or word of others' makes a teacher's word somebody else's, nor a stranger's a teacher's; a stranger's
    computer is listed by the name that he had.
26. A teacher's honest laptop keeps its place among those to whom work is sealed, wherever it was known.
27. Of a laptop that was reported at school, and counts again by others' word, every head's computer tells, until
    somebody who was told names it there (docs/adr/0234); that which reported it, also where it was let into another
    class of the school.
28. Of work that was held back the last word counts, the kit's too; what the kit holds back the server frees not.
29. What a pupil has begun is found by who was called the same here, whatever lists join.

What further grants may say is looked at as they are written (`claims`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from protocol.errors import PeerFault, Refused
from protocol.model.entry import Kind
from protocol.model.structure import PersonRecord, Ruling
from protocol.replica.at_work.replica import Replica
from protocol.replica.office.people import spoken
from protocol.roles import HAS_READING_KEYS, Role
from sync_agent.hand_ins.drafts import Drafts
from sync_agent.hand_ins.wraps import readers_of
from sync_agent.keys.confirming import list_readers
from sync_agent.keys.returns_told import _called
from sync_agent.school.devices import counted_again
from sync_agent.school.office import SchoolOffice
from tests.simulation.claims import ids_of, laptops, let_in_as
from tests.simulation.ledger import BrokenError
from tests.simulation.machine import Machine, SimAgent
from tests.simulation.sound import server_of, sound
from tests.simulation.theft import is_held_by_kit
from tests.simulation.trust import Device
from tests.simulation.usurping import STRANGER
from tests.simulation.world import World


def _claimed(world: World) -> bool:
    """Whether anything of this was ever said in a history: elsewhere nothing is looked at."""
    trust = world.trust
    return bool(trust.strangers or trust.doubles or trust.false_grants or trust.doubted or trust.lost_at_school)


async def _voices(world: World) -> None:
    if not _claimed(world):
        return
    strangers = [machine for machine in world.machines if machine.device in world.trust.strangers]
    true_ids = {machine.device: {let_in_as(machine).person or b""} for machine in strangers}
    true_ids |= {machine.device: ids_of(world, machine) for machine in laptops(world) if not machine.revoked}
    ours = [(machine.name, agent.replica) for machine, agent in sound(world)]
    for who, replica in (("server", server_of(world.office)), *ours):
        for space in replica.door.spaces():
            roster = (await replica.view(space)).roster
            for each in roster.authorities:
                ids, word = true_ids.get(each.key, set()), roster.spoken_as(each)
                if each.person in ids and word not in {None, each.person}:
                    raise BrokenError(f"at {who} {each.key.hex()[:8]} speaks as another id than it is granted as")
    for machine, agent in sound(world) if strangers else ():
        if machine.birth.role in HAS_READING_KEYS and machine not in strangers:
            await _check_listed(world, machine, agent)


async def _check_listed(world: World, machine: Machine, agent: SimAgent) -> None:
    readers = await list_readers(agent)
    for reader, name in zip(readers, await _called(agent, readers), strict=True):
        if reader.device in world.trust.strangers and name not in (None, STRANGER):
            raise BrokenError(f"{machine.name} lists a stranger's computer as that of {name}")


async def _keys_kept(world: World) -> None:
    if not _claimed(world):
        return
    ours = [(machine, agent) for machine, agent in sound(world) if machine.remembers]
    honest = {machine.device for machine in laptops(world) if not machine.revoked}
    agents = {m.device: agent for m, agent in ours if m.device in honest}
    for machine, agent in ours:
        for space, persons in agent.acquainted.first.items():
            if space in world.trust.closed or space not in await agent.spaces():
                continue
            known = {device for devices in persons.values() for device, _ in devices}
            sealed_to = set(await readers_of(agent, space))
            for device in sorted(known & agents.keys()):
                key = agents[device].reading_keys.newest_of(space)
                if key is not None and key.public not in sealed_to and await _teaches(agent.replica, space, device):
                    raise BrokenError(f"{machine.name} seals nothing to {device.hex()[:8]}, which it knows")


async def _teaches(replica: Replica, space: bytes, device: Device) -> bool:
    roster = (await replica.view(space)).roster
    return roster.may_read(device) and any(each.key == device for each in roster.authorities)


async def _told(world: World) -> None:
    heads = [(m, agent) for m, agent in sound(world) if m.birth.role is Role.HEAD and world.trust.lost_at_school]
    for machine, agent in heads:
        try:
            office = await SchoolOffice.of(agent)
        except Refused:
            continue
        told = await counted_again(office)
        for device, reported in world.trust.lost_at_school.items():
            cuts = (await agent.replica.store.get(list(reported.cuts))).values()
            back = [cut for cut in cuts if (await agent.replica.view(cut.header.space)).roster.may_read(device)]
            if back and device not in told and (machine.device, device) not in world.trust.agreed:
                raise BrokenError(f"{machine.name} does not tell that {device.hex()[:8]} counts again")
            if reported.by == machine.device and machine.remembers and cuts and device not in told:
                # … but for where this computer has let it in itself
                own = {
                    each.space for each in agent.replica.door.authorities_of(device) if each.author == machine.device
                }
                for space in set(agent.replica.door.below(office.home)) - own:
                    if (await agent.replica.view(space)).roster.may_read(device):
                        raise BrokenError(f"{machine.name} does not tell that {device.hex()[:8]} reads another class")


async def _kits_words(world: World) -> None:
    server = server_of(world.office)
    said, by_kit = dict[bytes, bool](), dict[bytes, bool]()
    rulings = await server.store.scan_kinds([Kind.RULING])
    for each in sorted(rulings, key=lambda entry: (entry.header.at, entry.id)):
        ruling = Ruling.parse(each.payload or b"")
        words = dict.fromkeys(ruling.accepted, True) | dict.fromkeys(ruling.refused, False)
        said |= words
        by_kit |= words if each.header.grant is None else {}
    accepted = await server.store.get(sorted(world.trust.accepted_by_server - world.trust.ruled_by_kit.keys()))
    for entry in accepted.values():
        held_back = (await server.view(entry.header.space)).roster.held_back
        if entry.id not in held_back and await is_held_by_kit(server, entry):
            raise BrokenError(f"{entry.id.hex()[:8]} counts by the server's word, which the kit holds back")
    for name, counts in world.trust.ruled_by_kit.items():
        ruled = (await server.store.get([name])).get(name)
        if ruled is None or by_kit.get(name) is not counts:
            # a server that was restored has lost the last word, with what nobody had been told of it
            continue
        if said[name] is not counts and not await is_held_by_kit(server, ruled):
            continue
        roster = (await server.view(ruled.header.space)).roster
        if counts and name in roster.held_back:
            raise BrokenError(f"{name.hex()[:8]} waits, which the kit has accepted")
        if not counts and name in roster.held_back and name not in roster.refused:
            raise BrokenError(f"{name.hex()[:8]} waits, which the kit has refused")


async def _drafts(world: World) -> None:
    names: Mapping[bytes, set[str]] = {}
    for machine, agent in sound(world):
        for space in await agent.spaces():
            roster = (await agent.replica.view(space)).roster
            for person in sorted(set(roster.aliases.values())):
                names = names or await _names(server_of(world.office))
                for other in await Drafts(agent).ids_of(person, roster):
                    if other != person and names[other].isdisjoint(names[person]):
                        raise BrokenError(f"{machine.name} gives {person.hex()[:8]} what {other.hex()[:8]} has begun")


async def _names(replica: Replica) -> Mapping[bytes, set[str]]:
    """What each person was ever called."""
    found: dict[bytes, set[str]] = {}
    for entry in await replica.store.scan_kinds([Kind.PERSON]):
        try:
            record = PersonRecord.parse(entry.payload or b"")
        except PeerFault:
            continue
        found.setdefault(entry.header.subject or b"", set()).add(spoken(record.name))
    return found


CLAIMS: Final = (_voices, _keys_kept, _told, _kits_words, _drafts)
