"""Whose a device is, as honest people say it: further grants, laptops reported at school, who was added twice, the kit.

- *head: grant person*, *head: grant device*, *server: grant person*: by the functions behind `grant`; what is written
  is looked at as soon as it is (docs/adr/0175 to 0177, 0188, 0416);
- *head: report*: a head teacher's device says that a laptop is lost;
- *second head*: a school has a second computer that runs it;
- *added twice*, *same teacher*: somebody is added again, with another laptop, and listed as one (docs/adr/0461);
- *kit: report*, *kit: accept*, *kit: refuse*: the root's word on a stolen device, and on work that is held back
  (docs/adr/0179).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Final, cast

from protocol.model.entry import Entry, Kind
from protocol.model.structure import Grant, Revocation
from protocol.replica.office.further_words import merge_persons
from protocol.replica.office.grants import grant_device, grant_person
from protocol.replica.office.invitations import Wanted, invite
from protocol.replica.office.losses import lost
from protocol.replica.office.people import add_person, listings
from protocol.roles import RANK, PersonRole, Role
from sync_agent.school.office import SchoolOffice
from sync_server.handlers.by_kit.waiting import list_waiting, rule
from sync_server.kit.away import KitAway
from sync_server.kit.errands import may_be_judged_by_kit
from sync_server.opened.app import Server
from tests.simulation.at_server import at_server
from tests.simulation.doing import Event
from tests.simulation.founding import enrol
from tests.simulation.ledger import BrokenError
from tests.simulation.machine import Machine
from tests.simulation.school import at_head, random_class
from tests.simulation.theft import report_theft
from tests.simulation.trust import ReportAtSchool, line_of

if TYPE_CHECKING:
    from tests.simulation.world import World

WEEK_MS: Final = 7 * 24 * 3600 * 1000
_LIKELY: Final = 0.8
"""How often what is done is about whom something was said of before."""


async def all_sync(world: World, _machine: Machine, _random: Random) -> str:
    """Everybody who is on syncs at once."""
    syncs = [machine.spawn(world.sync(machine)) for machine in world.machines if machine.agent and not machine.revoked]
    if syncs:
        await asyncio.wait(syncs)
    return f"{len(syncs)} machines"


# --- whose a device truly is ------------------------------------------------------------------------------------------


def let_in_as(machine: Machine) -> Grant:
    """What the first grant of a machine says: that by which a human has let it in."""
    return next(
        grant for _, grant in grants_in(machine.birth.disk.store._entries.values(), machine.birth.keys.signing.public)
    )


def grants_in(entries: Collection[Entry], device: bytes) -> list[tuple[Entry, Grant]]:
    """Those of a device, in the order in which they came."""
    said = ((entry, Grant.parse(entry.payload or b"")) for entry in entries if entry.header.kind == Kind.GRANT)
    return [(entry, grant) for entry, grant in said if grant.signing == device]


def laptops(world: World) -> list[Machine]:
    """The teachers' honest laptops, lost ones included."""
    invented = world.trust.strangers | world.trust.impostors
    return [each for each in world.machines if each.birth.role is Role.TEACHER and each.device not in invented]


def ids_of(world: World, machine: Machine) -> set[bytes]:
    """The ids of the person whose device this is."""
    person = let_in_as(machine).person or b""
    first = world.trust.doubles.get(person, person)
    return {first, *(other for other, one in world.trust.doubles.items() if one == first)}


# --- where a school is run --------------------------------------------------------------------------------------------


async def report(world: World, head: Machine, office: SchoolOffice, random: Random) -> str:
    """A laptop is lost, says its teacher to the head teacher."""
    known = {each.key for each in office.replica.door.authorities() if office.governs(each.space)}
    there = [each for each in laptops(world) if each.device in known and world.may_go(each)]
    if not there:
        return "-"
    of_three = [each for each in there if each.device in world.trust.of_three]
    laptop = random.choice(of_three if of_three and random.random() < _LIKELY else there)
    spaces = office.replica.door.below(office.home)
    heads = {space: tuple(await office.replica.tips(space, head.device)) for space in spaces}
    line = line_of(world, laptop.device)
    world.goes(line)
    world.trust.thieves |= line
    await lost(office, laptop.device, cut=True, anyway=True, governs=office.governs)
    said = await office.replica.store.scan_kinds([Kind.REVOKE])
    cuts = frozenset(
        each.id
        for each in said
        if each.header.author == head.device and Revocation.parse(each.payload or b"").key == laptop.device
    )
    world.trust.lost_at_school[laptop.device] = ReportAtSchool(head.device, cuts, heads)
    return laptop.name


async def grant_to_person(world: World, head: Machine, office: SchoolOffice, random: Random) -> str:
    """A teacher comes into one class more, with the computers that are known as theirs."""
    teachers = laptops(world)
    spoken_of = [each for each in teachers if each.device in world.trust.lost_at_school.keys() | world.trust.doubted]
    machine = random.choice(spoken_of if spoken_of and random.random() < _LIKELY else teachers)
    person, space = let_in_as(machine).person or b"", random_class(world, office, random)
    before = set(head.disk.store._entries)
    looked = await grant_person(office, person, [space])
    for entry, grant in _written(head, before):
        _check_not_reported(world, grant.signing, before)
        await _check_as_first(world, head, office, entry)
        await _check_as_least(head, office, grant, before)
    return f"{person.hex()[:8]}, {len(looked)} to look at"


async def grant_to_device(world: World, head: Machine, office: SchoolOffice, random: Random) -> str:
    """A device comes into one class more: somebody names it."""
    known = {each.key for each in office.replica.door.authorities() if office.governs(each.space)}
    invented = world.trust.strangers | world.trust.impostors
    there = [
        each
        for each in world.machines
        if each.device in known - invented and not each.revoked and each.birth.role is not Role.HEAD
    ]
    if not there:
        return "-"
    spoken_of = [each for each in there if each.device in world.trust.doubted or is_falsely_granted(world, each)]
    machine = random.choice(spoken_of if spoken_of and random.random() < _LIKELY else there)
    device, space = machine.device, random_class(world, office, random)
    before = set(head.disk.store._entries)
    await grant_device(office, device, [space])
    for entry, grant in _written(head, before):
        await _check_as_first(world, head, office, entry)
        await _check_as_least(head, office, grant, before)
    if device == machine.device:  # it has not taken keys of its own meanwhile
        await _check_said(world, head, office, machine, space)
    return machine.name


def is_falsely_granted(world: World, machine: Machine) -> bool:
    """Whether whoever has the server's key has said another right of it."""
    held = grants_in(world.office.disk.store._entries.values(), machine.device)
    return any(entry.id in world.trust.false_grants for entry, _ in held)


def _written(head: Machine, before: Collection[bytes]) -> list[tuple[Entry, Grant]]:
    """The grants that a head's device has written since."""
    fresh = [entry for name, entry in head.disk.store._entries.items() if name not in before]
    own = [entry for entry in fresh if entry.header.kind == Kind.GRANT and entry.header.author == head.device]
    return [(entry, Grant.parse(entry.payload or b"")) for entry in own]


def _check_not_reported(world: World, device: bytes, known: Collection[bytes]) -> None:
    """Who was reported at school comes along with no teacher, whatever lists and grants say, and whoever takes it back.

    As far as the report was `known` there. Nobody who was reported is ever named by a human again in here.
    """
    reported = world.trust.lost_at_school.get(device)
    if reported is not None and not reported.cuts.isdisjoint(known):
        raise BrokenError(f"{device.hex()[:8]}, which was reported lost, comes along with its teacher")
    if device in world.trust.strangers:
        raise BrokenError(f"{device.hex()[:8]}, a stranger's, comes along with a teacher")


async def _check_as_first(world: World, head: Machine, office: SchoolOffice, entry: Entry) -> None:
    """A further grant names a device with the keys, and as the person's, that the first one does."""
    grant = Grant.parse(entry.payload or b"")
    machine = next((each for each in world.machines if each.birth.keys.signing.public == grant.signing), None)
    if machine is None or not await _knew_first(world, head, office, machine):
        return
    first = let_in_as(machine)
    if (grant.agreement, grant.tls_sha256, grant.person) != (first.agreement, first.tls_sha256, first.person):
        raise BrokenError(f"{machine.name} is let in with other keys, or as somebody else's, than it was first")


async def _check_as_least(head: Machine, office: SchoolOffice, grant: Grant, before: Collection[bytes]) -> None:
    """It gives no more than any of those that stand there and say the same of the device, the true one among them.

    They came in no order (docs/adr/0416). What this very computer has given the device since, it gives again; a stay
    that is over is taken up for good.
    """
    alike = [
        (entry, each)
        for entry, each in await _standing(head, office, grant.signing, before)
        if (each.agreement, each.person) == (grant.agreement, grant.person)
    ]
    if not alike:
        return
    said = {(each.role, each.until_ms) for entry, each in alike if entry.header.author == head.device}
    if not said:
        least = min((each.role for _, each in alike), key=lambda role: (RANK[role], role is Role.RELAY))
        said = {(least, _earliest([each.until_ms for _, each in alike], head.now_ms()))}
    again = {(role, None) for role, end_ms in said if end_ms is not None and end_ms <= head.now_ms()}
    if (grant.role, grant.until_ms) not in said | again:
        raise BrokenError(
            f"{grant.signing.hex()[:8]} is let in as {grant.role} until {grant.until_ms}, where the least that it is "
            f"called is {' or '.join(f'{role} until {end_ms}' for role, end_ms in sorted(said, key=str))}"
        )


async def _standing(
    head: Machine, office: SchoolOffice, device: bytes, known: Collection[bytes]
) -> list[tuple[Entry, Grant]]:
    """A device's grants that were `known` at a head's computer, are not held back, and have not been ended."""
    found = []
    for entry, grant in grants_in(head.disk.store._entries.values(), device):
        roster = (await office.replica.view(entry.header.space)).roster
        if entry.id in known and entry.id not in roster.held_back | roster.void:
            found.append((entry, grant))
    return found


def _earliest(ends: Sequence[int | None], now_ms: int) -> int | None:
    """The earliest end that is to come; of those that are over one, unless anything is for good."""
    to_come = [end_ms for end_ms in ends if end_ms is not None and end_ms > now_ms]
    return min(to_come, default=None if None in ends else max((end_ms or 0 for end_ms in ends), default=None))


async def _check_said(world: World, head: Machine, office: SchoolOffice, machine: Machine, space: bytes) -> None:
    """Who was named is in by the office's own word, or the root's: not only by others', which go as their keys do.

    With the keys that it has now: those it has taken since somebody copied the first ones, too.
    """
    if not await _knew_first(world, head, office, machine):
        return
    agreement, granted = machine.keys.agreement.public, (await office.replica.view(space)).roster.authorities
    own = [
        each for each in granted if each.key == machine.device and each.author in (head.device, world.kit.root.public)
    ]
    if not any(each.agreement == agreement for each in own):
        raise BrokenError(f"{machine.name} was let in by name, and nothing was said of it")


async def _knew_first(world: World, head: Machine, office: SchoolOffice, machine: Machine) -> bool:
    """Whether the first grant of a device that came to a head's computer is a true one, and stands there."""
    came = grants_in(head.disk.store._entries.values(), machine.birth.keys.signing.public)
    if not came or came[0][0].id in world.trust.false_grants:
        return False
    first = came[0][0]
    roster = (await office.replica.view(first.header.space)).roster
    return first.id not in roster.held_back | roster.void


# --- at the server ----------------------------------------------------------------------------------------------------


async def grant_at_server(world: World, _machine: Machine, random: Random) -> str:
    """The same for a teacher, by an administrator."""
    machine, space = random.choice(laptops(world)), random.choice(world.founding.spaces)
    person = let_in_as(machine).person or b""
    return await at_server(
        world, f"grant person {person.hex()[:8]}", lambda server: grant_person(server, person, [space])
    )


async def second_head(world: World, _machine: Machine, _random: Random) -> str:
    """Somebody else of the first school runs it too, from a computer of their own."""

    async def named(server: Server) -> None:
        school = server.replica.door.parent(world.founding.spaces[0])
        if school is None or any(each.name == "head-2" for each in world.machines):
            return
        person = await add_person(server, "M. Adjoint", PersonRole.TEACHER, [school])
        await enters(world, server, "head-2", Wanted(Role.HEAD, [school], person, 1, WEEK_MS))

    return await at_server(world, "second head", named)


async def added_twice(world: World, _machine: Machine, random: Random) -> str:
    """A teacher is added again, and comes with another laptop."""
    machine = random.choice(laptops(world))
    person = let_in_as(machine).person or b""

    async def added(server: Server) -> None:
        if world.trust.doubles:
            return
        space, listed = next(iter((await listings(server.replica, person)).items()))
        double = await add_person(server, listed.name, PersonRole.TEACHER, [space])
        world.trust.doubles[double] = person
        await enters(world, server, f"{machine.name}-b", Wanted(Role.TEACHER, [space], double, 1, WEEK_MS))

    return await at_server(world, f"{machine.name} is added twice", added)


async def same_teacher(world: World, _machine: Machine, random: Random) -> str:
    """Somebody sees that these are one."""
    if not world.trust.doubles:
        return "-"
    pair = list(random.choice(list(world.trust.doubles.items())))
    random.shuffle(pair)
    person, into = pair
    return await at_server(world, f"{person.hex()[:8]} is {into.hex()[:8]}", lambda at: merge_persons(at, person, into))


async def enters(world: World, server: Server, name: str, wanted: Wanted) -> Machine:
    made = await invite(server, wanted)
    birth = await enrol(server, server.keys.agreement, server.grant, name, wanted.role, made.code)
    machine = world.enter(birth, birth.disk.image())
    await machine.boot()
    return machine


async def report_by_kit(world: World, _machine: Machine, random: Random) -> str:
    """Somebody with the kit says that a stolen device is gone."""
    unsaid = [device for device in world.trust.stolen if device not in world.trust.cut_by_kit]
    if not unsaid or world.next_kit is not None:
        return "-"
    return await report_theft(world, random.choice(unsaid), by_kit=True)


async def accept_by_kit(world: World, _machine: Machine, random: Random) -> str:
    """Somebody with the kit accepts work that a revocation holds back."""
    return await _ruled_by_kit(world, random, accept=True)


async def refuse_by_kit(world: World, _machine: Machine, random: Random) -> str:
    """… or refuses it."""
    return await _ruled_by_kit(world, random, accept=False)


async def _ruled_by_kit(world: World, random: Random, *, accept: bool) -> str:
    async def ruled(server: Server) -> None:
        waiting = [*await list_waiting(server), *await list_waiting(server, refused=True)]
        works = [each.entry for each in waiting if may_be_judged_by_kit(each.entry, accept=True)]
        if works:
            entry = random.choice(works)
            world.trust.accepted.add(entry.id)
            await rule(server, [entry.id], accept=accept, kit=cast("KitAway", world.kit))
            world.trust.ruled_by_kit[entry.id] = accept

    return await at_server(world, f"{'accepted' if accept else 'refused'} by the kit", ruled)


EVENTS: Final[Mapping[str, Event]] = {
    "all sync": all_sync,
    "head: report": at_head(report, any_of_them=True),
    "head: grant person": at_head(grant_to_person, any_of_them=True),
    "head: grant device": at_head(grant_to_device, any_of_them=True),
    "server: grant person": grant_at_server,
    "second head": second_head,
    "added twice": added_twice,
    "same teacher": same_teacher,
    "kit: report": report_by_kit,
    "kit: accept": accept_by_kit,
    "kit: refuse": refuse_by_kit,
}
