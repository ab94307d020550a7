"""What must hold in the end of who may do what (docs/adr/0064 to 0070, 0093), beside what `invariants` says.

10. Of what a thief's keys had brought after the theft, nothing counts but what a human has accepted, and what the thief
    let in reads nothing; what had come before, and was noted, counts on.
11. What an erasure made bare is whole again wherever nothing erases it and anybody has it; a thief's word destroys
    nothing.
12. An erasure that was taken back hides nobody.
13. Whoever stayed for some days reads nothing afterwards.
18. Nobody carries noise for a machine on which malware runs, nor more than a bounded number of its entries, beside what
    the server took of them; the server keeps no content of its that nothing names, beyond a bounded size.
19. What a machine has destroyed it does not show again, whoever takes the erasure back, until the root does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable
from typing import Final

from protocol.errors import PeerFault
from protocol.model.ancestry import ancestors
from protocol.model.entry import Entry, Kind, KindClass, class_of
from protocol.model.payload_rules import fault_of
from protocol.model.structure import Ruling
from protocol.replica.answering.allowances import Allowances
from protocol.replica.at_work.bare_entries import _LEFT_ALONE as LEFT_ALONE
from protocol.replica.at_work.replica import Replica
from protocol.replica.content.holdings import Holdings
from protocol.replica.office.erasures import ever_said, in_force
from protocol.rights.door import covering_names
from protocol.roles import Role
from sync_server.handlers.overview.members import list_devices
from tests.simulation.ledger import BrokenError, holds
from tests.simulation.malware import MOST_BY_KEY
from tests.simulation.sound import server_of, sound
from tests.simulation.trust import Device, Report, line_of
from tests.simulation.world import World

SETTLED_AFTER: Final = 3
MOST_ROUNDS: Final = 2 * (LEFT_ALONE + 3)
"""The server may have asked the one who has it in vain, just before; and then have been asked in vain itself."""


async def _thefts(world: World) -> None:
    server = server_of(world.office)
    for device, report in world.trust.reports.items():
        if not all(holds(world.office.disk.store, cut) for cut in report.cuts):
            continue
        line = line_of(world, device)
        if world.trust.stolen[device].vague:
            await _read_nothing(world, server, line, report)
            continue
        held_then, counted = world.trust.stolen[device].held, 0
        for space in server.door.spaces():
            roster = (await server.view(space)).roster
            written = [entry for key in sorted(line) for entry in await server.store.authored(space, key)]
            theirs = {entry.id: entry for entry in written}
            accepted = world.trust.accepted
            before = ancestors(held_then & theirs.keys(), theirs) | accepted
            # whoever accepts a work accepts who may read it
            before |= {one.id for one in written if one.header.kind == Kind.WRAP and one.header.target in accepted}
            for entry in written:
                if entry.id not in before | roster.held_back and entry.header.kind != Kind.SUCCESSOR:
                    raise BrokenError(f"{_named(entry)} counts, which a thief brought")
                counted += 1
            if _is_cut_once(roster.revocations.values(), line):
                for name in sorted(report.known & theirs.keys() & roster.held_back):
                    raise BrokenError(f"{_named(theirs[name])} was there before the theft, and waits")
        let_in = {other for other, by in world.trust.let_in.items() if by in line}
        await _read_nothing(world, server, line | let_in, report, came_by_codes=let_in)


async def _read_nothing(
    world: World, server: Replica, keys: Iterable[Device], report: Report, *, came_by_codes: Container[Device] = ()
) -> None:
    """… but for a class that a head's computer made, and let it into, before it heard of the theft.

    Of keys that a thief has made of the stolen ones, whoever reported the theft was told so (docs/adr/0235), and where
    that class came later, the server tells it (docs/adr/0236); and of who came in by a code of theirs, where a restored
    server had let them in, and heard of it later (docs/adr/0276).
    """
    office = world.office.server
    told = {each.id for each in await list_devices(office) if each.let_in_since} if office is not None else set()
    heads = {machine.device for machine in world.machines if machine.birth.role is Role.HEAD}
    for key in sorted(keys):
        opened = (await server.readable(key)).values()
        is_told = key in came_by_codes and key in told
        if not is_told and any(
            each.author not in heads or each.space not in world.trust.made_spaces for each in opened
        ):
            raise BrokenError(f"{key.hex()[:8]}, which a thief has, may read on")
        if opened and key not in report.copies | told:
            raise BrokenError(f"{key.hex()[:8]}, which a thief has, reads on, and nobody is told")


def _is_cut_once(cut: Iterable[Device], line: set[Device]) -> bool:
    return sum(key in line for key in cut) == 1


async def _whole(world: World) -> None:
    """Nobody is asked for the same in each sync, since nobody may have it any more: so many may be needed."""
    lacking: list[str] = []
    for number in range(MOST_ROUNDS):
        lacking = await _lacking(world)
        if not lacking:
            # whoever is listed again says a reading key, which all others are to hear
            for _ in range(SETTLED_AFTER if number else 0):
                await _all_sync(world)
            return
        await _all_sync(world)
    raise BrokenError(f"payloads that somebody has do not come back: {sorted(set(lacking))}")


async def _all_sync(world: World) -> None:
    for machine, _agent in sound(world):
        await machine.sync()


async def _lacking(world: World) -> list[str]:
    """Who holds something bare that another has whole, although nothing erases it, nor has the server destroyed it.

    What the server has destroyed it does not hand on, whoever takes the erasure back but the root.
    """
    server = server_of(world.office)
    replicas = [("server", server), *((machine.name, agent.replica) for machine, agent in sound(world))]
    whole: set[bytes] = set()
    bare: list[tuple[str, Entry]] = []
    for who, replica in replicas:
        spaces = set(replica.door.spaces())
        mine = set((await replica.store.spaces()).keys()) & spaces
        for space in mine if replica.door.has_erasures else ():
            erased = (await replica.view(space)).roster.erased | (await server.view(space)).roster.erased
            for entry in (stored.entry for stored in await replica.store.scan(space)):
                if erased.isdisjoint(covering_names(entry)):
                    if entry.payload is None:
                        bare.append((who, entry))
                    else:
                        whole.add(entry.id)
    return [f"{who} {_named(entry)}" for who, entry in bare if entry.id in whole]


async def _taken_back(world: World) -> None:
    """A ruling of the server, or of the root, that is in the set has taken back what it says."""
    server = server_of(world.office)
    office, kit = world.office.birth.keys.signing.public, world.kit.root.public
    rulings = await _refused_by(server, {office, kit})
    for who, replica in (("server", server), *((machine.name, agent.replica) for machine, agent in sound(world))):
        counting = {entry.id for entry, _ in await in_force(replica)}
        for name in sorted(counting & world.trust.taken_back & rulings):
            raise BrokenError(f"{who} erases by {name.hex()[:8]}, which was taken back")


async def _forgotten(world: World) -> None:
    """The root alone lets go, by its own ruling."""
    for machine, agent in sound(world):
        gone = world.trust.destroyed_at.get(machine.name, set()) if machine.remembers else set()
        for entry, covers in await ever_said(agent.replica) if gone else ():
            for space in agent.replica.door.below(entry.header.space) if covers in gone else ():
                roster = (await agent.replica.view(space)).roster
                if covers in roster.persons and entry.id not in world.trust.let_go_by_root:
                    raise BrokenError(f"{machine.name} shows {covers.hex()[:8]} again, whom it had destroyed")


async def _refused_by(server: Replica, keys: set[bytes]) -> set[bytes]:
    found: set[bytes] = set()
    for entry in await server.store.scan_kinds([Kind.RULING]):
        try:
            found.update(Ruling.parse(entry.payload or b"").refused if entry.header.author in keys else ())
        except PeerFault:
            continue
    return found


async def _stays(world: World) -> None:
    server = server_of(world.office)
    for machine in world.machines:
        until_ms = machine.birth.until_ms
        # … but for whom whoever has the server's key has let in for longer since
        longer = [each for each in server.door.authorities_of(machine.device) if each.grant in world.trust.false_grants]
        if until_ms is None or until_ms > world.true_ms() or longer:
            continue
        if await server.readable(machine.device):
            raise BrokenError(f"{machine.name} reads on, although its stay is over")


async def _malware(world: World) -> None:
    if not world.trust.overrun:
        return
    server = server_of(world.office)
    for who, replica in (("server", server), *((machine.name, agent.replica) for machine, agent in sound(world))):
        for space in replica.door.spaces():
            said = Counter[Device]()
            # what the server took is taken from it, whatever else a neighbour has brought before (docs/adr/0070)
            taken = set() if replica is server else {each.entry.id for each in await server.store.scan(space)}
            for entry in (stored.entry for stored in await replica.store.scan(space)):
                if fault_of(entry) is not None:
                    raise BrokenError(f"{who} carries noise: {_named(entry)}")
                counts = class_of(entry.header.kind) in (KindClass.WORK, KindClass.WITNESS)
                counts &= entry.header.kind != Kind.HAND_IN  # malware says none here; what is acknowledged comes in
                said[entry.header.author] += counts and entry.id not in taken
            if any(said[key] > MOST_BY_KEY for key in world.trust.overrun):
                raise BrokenError(f"{who} carries more than one machine may say")
    for (space, stream), size in world.trust.junk.items():
        if server.door.knows_space(space) and size > await _may_come(server, space):
            packs = world.office.disk.packs._packs.values()
            if any(space in pack.spaces and stream in pack.streams for pack in packs):
                raise BrokenError("the server keeps content that nothing names")


async def _may_come(server: Replica, space: bytes) -> int:
    """What one device may bring into a space in all."""
    allowances = Allowances(server, Holdings(server.store, server.content))
    return (await allowances.of(space, bytes(32))).left


def _named(entry: Entry) -> str:
    return f"{Kind(entry.header.kind).name} {entry.id.hex()[:8]}"


TRUST: Final = (_whole, _thefts, _taken_back, _forgotten, _stays, _malware)
