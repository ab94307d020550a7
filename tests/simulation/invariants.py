"""What must hold once everything is in order again (issue: "nothing acknowledged is lost", and the rest).

1. Whoever reads a space has the server's very set of it, and folds it to the same roster and coursework; but of what
   malware says beyond the quota each may hold another part.
2. Every entry that was acknowledged is in the server's set, unless all disks that would have handed it on were burnt,
   or malware has used up what its machine may say: but for hand-ins of which the server holds a receipt.
3. All content that is due somewhere is there, and what is read are the bytes that were given, unless it was burnt.
4. Every hand-in has the server's receipt; a teacher whose key it is sealed to opens the bytes that were handed in; a
   machine that still has its key has sealed it to every reader that there is.
5. What waits in quarantine waits for something that is not here.
6. Of an author that neither forgot nor was cloned, each entry follows the one before it.
7. Nobody holds entries of a space that no grant of theirs opens, but for the grants by which neighbours showed who they
   are, and the revocations that cut them off: keys and ids.
8. Of who is to be forgotten nothing is shown, and no payload is left anywhere a week later, whatever came back.
9. When nothing is new, one request says so, in less than a kilobyte; what burnt is asked for all the same: content in
   that request, whose answer gives the part of it that the server has; payloads that nobody has any more in another
   one, once in some thirty syncs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from protocol.errors import LocalFailure, RelaisError
from protocol.folds.coursework import HandInState, Work
from protocol.folds.growth import SpaceFold
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Grant, Revocation
from protocol.replica.at_work.destroyed import carried_out, carried_out_at, destroyed_names
from protocol.replica.at_work.replica import Replica
from protocol.replica.at_work.views import Views
from protocol.replica.content.holdings import Holdings, Need
from protocol.rights.door import Authority, is_erasable
from protocol.rights.roster import Roster
from protocol.roles import HAS_READING_KEYS
from sync_agent.coursework.reading import need_of
from sync_agent.hand_ins.wraps import Kept, mark_of, readers_of
from tests.harness.whole_sets import folded_from_nothing
from tests.simulation.claims_invariants import CLAIMS
from tests.simulation.class_invariants import CLASSES
from tests.simulation.crisis_invariants import CRISIS
from tests.simulation.ledger import SHOWN_TO_NEIGHBOURS, BrokenError, gone_with, holds
from tests.simulation.machine import SimAgent
from tests.simulation.malware import MOST_BY_KEY
from tests.simulation.people import STATE_RANK, can_open, check_item, opened
from tests.simulation.school_invariants import SCHOOL
from tests.simulation.sound import destroying, server_of, sound
from tests.simulation.trust_invariants import TRUST
from tests.simulation.word_invariants import WORDS
from tests.simulation.world import World

QUIET_BYTES: Final = 1_000
LACKING_BYTES: Final = 200


async def judge(world: World) -> None:
    """Check all of them; each that does not hold becomes a problem of the world."""
    for check in (
        TRUST[0],
        _sets_and_folds,
        _acknowledged,
        _content,
        _hand_ins,
        _quarantine,
        _chains,
        _discretion,
        _erased,
        *TRUST[1:],
        *SCHOOL,
        *CRISIS,
        *CLAIMS,
        *CLASSES,
        *WORDS,
        _quiet,
    ):
        try:
            await check(world)
        except BrokenError as broken:
            world.problem(f"{check.__name__.strip('_')}: {broken}")
        except RelaisError as error:
            world.problem(f"{check.__name__.strip('_')}: {type(error).__name__} {error.code}: {error}")


async def _sets_and_folds(world: World) -> None:
    server = server_of(world.office)
    for machine, agent in sound(world):
        for space in await agent.spaces():
            one_sided = await _one_sided(server, agent.replica, space)
            has_flood = await _is_of_a_flood(world, server, space, one_sided)
            if one_sided and not has_flood:
                kinds = sorted(Kind(entry.header.kind).name for entry in one_sided)
                raise BrokenError(f"{machine.name} and the server differ in {space.hex()[:8]} by {kinds}")
            one, other = (await server.view(space)).fold, (await agent.replica.view(space)).fold
            if _differ(other, await _anew(agent.replica, space)):
                raise BrokenError(f"at {machine.name} a fold of {space.hex()[:8]} has grown to something else")
            if has_flood:
                continue
            if _differ(one, other):
                # what each believes of a person's devices begins with what it saw first (docs/adr/0064), and what it
                # has destroyed stays so (docs/adr/0093): without the one, and with the same of the other
                one, other = await _alike([server, agent.replica], space)
            if _differ(one, other):
                raise BrokenError(f"{machine.name} folds {space.hex()[:8]} to something else than the server")


async def _one_sided(server: Replica, replica: Replica, space: bytes) -> list[Entry]:
    """The entries of a space that only one of both holds."""
    if await server.fingerprint(space) == await replica.fingerprint(space):
        return []
    ours, theirs = await _entries(server, space), await _entries(replica, space)
    return [{**ours, **theirs}[name] for name in sorted(ours.keys() ^ theirs.keys())]


async def _is_of_a_flood(world: World, server: Replica, space: bytes, one_sided: Sequence[Entry]) -> bool:
    """Whether sets differ in what malware has said, of which the server holds as much as it takes (docs/adr/0070)."""
    authors = {entry.header.author for entry in one_sided}
    if not authors or not authors <= world.trust.overrun:
        return False
    said = Counter(entry.header.author for entry in (await _entries(server, space)).values())
    return all(said[author] >= MOST_BY_KEY for author in authors)


async def _alike(replicas: Sequence[Replica], space: bytes) -> list[SpaceFold]:
    """What each would fold if all remembered nothing, and had destroyed what any of them has.

    Nothing else is passed over: what each folds with memories of its own was compared with what has grown there.
    """
    destroyed = frozenset[bytes]().union(*[await _obeyed_in(each, space) for each in replicas])
    return [await folded_from_nothing(each.store, each.door, space, destroyed=destroyed) for each in replicas]


async def _anew(replica: Replica, space: bytes) -> SpaceFold:
    """What a replica folds that begins with its store and its memories: folds that were kept have grown to the same."""
    remembered, destroyed = await replica._memory.of(space), await _obeyed_in(replica, space)
    return await folded_from_nothing(replica.store, replica.door, space, remembered, destroyed)


async def _obeyed_in(replica: Replica, space: bytes) -> frozenset[bytes]:
    at = await carried_out_at(replica.store)
    return await carried_out(replica.store) | at.get(space, frozenset())


async def _entries(replica: Replica, space: bytes) -> dict[bytes, Entry]:
    return {stored.entry.id: stored.entry for stored in await replica.store.scan(space)}


def _differ(one: SpaceFold, other: SpaceFold) -> bool:
    alike = one.roster == other.roster or _unordered(one.roster) == _unordered(other.roster)
    return not alike or one.coursework != other.coursework


def _unordered(roster: Roster) -> tuple[Roster, frozenset[Authority], frozenset[Authority]]:
    """A roster, and its grants of now and before, which it lists in the order in which they came."""
    bare = replace(roster, authorities=(), former=())
    return bare, frozenset(roster.authorities), frozenset(roster.former)


async def _acknowledged(world: World) -> None:
    store = world.office.disk.store
    for name, entry in world.ledger.kept.items():
        if not holds(store, name) and not await _is_kept_out(world, entry):
            raise BrokenError(f"{Kind(entry.header.kind).name} {name.hex()[:8]} was acknowledged and is lost")


async def _is_kept_out(world: World, entry: Entry) -> bool:
    """Whether a flood came before it to a server that was set back (docs/adr/0238)."""
    server, header = server_of(world.office), entry.header
    if header.author not in world.trust.overrun:
        return False
    held = await server.store.scan(header.space)
    said = sum(each.entry.header.author == header.author for each in held)
    receipts = Kind.RECEIPT_SERVER, Kind.RECEIPT_TEACHER
    acknowledged = {each.entry.header.target for each in held if each.entry.header.kind in receipts}
    return said >= MOST_BY_KEY and entry.id not in acknowledged


async def _work_of_the_destroyed(world: World, agent: SimAgent) -> set[bytes]:
    """What is shown here of whom the server has destroyed: it does not hand on what belongs to it.

    Where an erasure was taken back after the server had obeyed it, who had not destroyed anything shows again what it
    holds (docs/adr/0093), and nobody is left who gives it the rest: until the root says so, and the server lets go.
    """
    server = server_of(world.office)
    works: list[Work] = []
    for space in await agent.spaces() if await destroyed_names(server.store) else ():
        roster = (await server.view(space)).roster
        shown = (await agent.replica.view(space)).coursework.hand_ins.values() if roster.erased else ()
        works += [work for work in shown if work.person in roster.erased]
    notes = [content for work in works for content in work.said_with_files.values()]
    return {content.stream for content in (*notes, *(work.record.content for work in works))}


async def _content(world: World) -> None:
    for machine, agent in sound(world):
        theirs = await _work_of_the_destroyed(world, agent)
        lacking = [need for need in await agent.missing() if need.stream not in theirs]
        lacking = [need for need in lacking if not await _is_unheard(server_of(world.office), agent, need)]
        missing = [need for need in lacking if not await _is_burnt(world, agent, need)]
        if missing:
            raise BrokenError(f"{machine.name} lacks content {[need.stream.hex()[:8] for need in missing]}")
        for space in await agent.spaces():
            for item in (await agent.replica.view(space)).coursework.items.values():
                need = need_of(item, item.shown)
                gone = await _is_burnt(world, agent, need) or (need.space, need.stream) in agent.evicted
                if not item.withdrawn:
                    complete = None if gone else item.shown.id.hex()
                    await check_item(agent, item, world.ledger, complete=complete)


async def _is_unheard(server: Replica, agent: SimAgent, need: Need) -> bool:
    """Whether only who believes an unconfirmed device is shown what names this: others give it to nobody (0064)."""
    works = (await agent.replica.view(need.space)).coursework.hand_ins.values()
    said = [each for work in works for each in work.said_with_files.items()]
    by = {note.author for note, content in said if content.stream == need.stream}
    roster = (await server.view(need.space)).roster
    return any(each.key in by and each.grant in roster.unconfirmed for each in roster.authorities)


async def _is_burnt(world: World, agent: SimAgent, need: Need) -> bool:
    """Whether content, or a file that its list names, went with the last disk that held it.

    What lies only on a machine that was let go went with it: what it made afterwards as well.
    """
    let_go = [machine.disk for machine in world.machines if machine.revoked]
    lost = world.ledger.lost_streams
    if let_go:
        lost = lost | gone_with(let_go, world.disks())
    if need.sealed or (need.space, need.stream) in lost:
        return (need.space, need.stream) in lost
    try:
        return any((need.space, file.stream) in lost for file in await agent.holdings.manifest(need.stream))
    except LocalFailure:
        return False


async def _waits_with_who_let_it_in(world: World, server: Replica, entry: Entry) -> bool:
    """Whether it waits for a human because an honest machine made it under a right that a thief had given (0299)."""
    if entry.id not in (await server.view(entry.header.space)).roster.held_back:
        return False
    right = server.door.authority(entry.header.grant)
    while right is not None and right.author not in world.doubtful:
        right = server.door.authority(right.under)
    return right is not None


async def _hand_ins(world: World) -> None:
    server = server_of(world.office)
    works: dict[bytes, Work] = {}
    erased: dict[bytes, frozenset[bytes]] = {}
    for space in world.spaces:
        if server.door.knows_space(space):
            view = await server.view(space)
            works.update(view.coursework.hand_ins)
            erased[space] = view.roster.erased
    for name, entry in world.ledger.kept.items():
        if entry.header.kind != Kind.HAND_IN or entry.header.author in world.doubtful:
            # what somebody who was let go had made, and the server had not, waits for a human
            continue
        if not erased.get(entry.header.space, frozenset()).isdisjoint((entry.header.subject, entry.header.space)):
            continue
        work = works.get(name)
        if work is None and (_is_destroyed(world, entry) or await _waits_with_who_let_it_in(world, server, entry)):
            continue
        if work is None:
            raise BrokenError(f"hand-in {name.hex()[:8]} was acknowledged and is not seen")
        if (work.space, work.record.content.stream) in world.ledger.lost_streams:
            continue
        if STATE_RANK[work.state] < STATE_RANK[HandInState.SERVER]:
            raise BrokenError(f"hand-in {name.hex()[:8]} has no receipt by the server: {work.state}")
        await _readers(world, work)


def _is_destroyed(world: World, entry: Entry) -> bool:
    """Whether nobody has any more of it than the header, since whoever had it destroyed it when it was due.

    An erasure that is taken back later, by the kit or by a server that was born since, brings back what others have.
    """
    copies = (disk.store._entries.get(entry.id) for disk in world.disks())
    gone = entry.header.subject in world.trust.destroyed
    return gone and all(copy is None or copy.payload is None for copy in copies)


async def _readers(world: World, work: Work) -> None:
    """Whoever should read it can."""
    for machine, agent in sound(world):
        if work.space not in await agent.spaces():
            continue
        mark = await agent.replica.store.mark(mark_of(work.id))
        if work.author == machine.device and mark is not None and Kept.parse(mark).sealed_key is not None:
            lacking = set(await readers_of(agent, work.space)) - work.readers.keys()
            if lacking and not await _was_ever_opened(world, work):
                raise BrokenError(f"hand-in {work.id.hex()[:8]} is not sealed to {len(lacking)} of its readers")
        shown = (await agent.replica.view(work.space)).coursework.hand_ins
        made_way = (work.space, work.record.content.stream) in agent.evicted
        if machine.birth.role in HAS_READING_KEYS and can_open(agent, work) and work.id in shown and not made_way:
            await opened(agent, work, world.ledger)


async def _was_ever_opened(world: World, work: Work) -> bool:
    """Whether somebody has said so, held back or not: whoever comes since is given it by no machine."""
    said = await server_of(world.office).store.of_kinds(work.space, [Kind.RECEIPT_TEACHER])
    return any(one.entry.header.target == work.id for one in said)


async def _quarantine(world: World) -> None:
    for who, store in (
        ("server", world.office.disk.store),
        *((machine.name, machine.disk.store) for machine, _ in sound(world)),
    ):
        for held in await store.held():
            if held.missing is not None and holds(store, held.missing):
                raise BrokenError(f"{who}: {held.entry.id.hex()[:8]} still waits for what is here")


async def _chains(world: World) -> None:
    server = server_of(world.office)
    for machine, _ in sound(world):
        if machine.remembers:
            for space in await server.readable(machine.device):
                tips = await server.tips(space, machine.device)
                if len(tips) > 1:
                    raise BrokenError(f"{machine.name} has {len(tips)} latest entries in {space.hex()[:8]}")


async def _discretion(world: World) -> None:
    for machine, agent in sound(world):
        door = agent.replica.door
        named = {grant.space for grant in door.authorities_of(machine.device)} | _named_before(world, machine.device)
        opened = {space for each in named for space in (*door.lineage(each), *door.below(each))}
        for space in (await machine.disk.store.spaces()).keys() - opened:
            held = [stored.entry for stored in await machine.disk.store.scan(space)]
            kinds = {entry.header.kind for entry in held if not _ends_right_of(entry, machine.device)}
            if kinds - SHOWN_TO_NEIGHBOURS:
                raise BrokenError(f"{machine.name} holds what it may not read: {kinds} of {space.hex()[:8]}")


def _named_before(world: World, device: bytes) -> set[bytes]:
    """Where a device had rights that went with a server that burnt, as it was hearing what stood there before them."""
    said = (entry for disk in world.burnt for entry in disk.store._entries.values() if entry.header.kind == Kind.GRANT)
    return {entry.header.space for entry in said if Grant.parse(entry.payload or b"").signing == device}


def _ends_right_of(entry: Entry, device: bytes) -> bool:
    """Whether an entry was shown to a device as what cuts it off, from where it may read nothing (docs/adr/0044)."""
    return entry.header.kind == Kind.REVOKE and Revocation.parse(entry.payload or b"").key == device


async def _erased(world: World) -> None:
    server = server_of(world.office)
    replicas = destroying(world)
    for space in server.door.spaces() if world.erased else ():
        # by the set alone: what the server itself has destroyed another may still have, and show (docs/adr/0093)
        gone = (await Views(server.store, server.door).view(space)).roster.erased & world.erased
        for who, replica, due in replicas:
            if gone:
                await _check_erased(who, replica, space, gone, due)
            # … but whoever has destroyed somebody neither shows nor has anything of them, whatever the set says now
            erased = (await replica.view(space)).roster.erased
            own = await destroyed_names(replica.store) & erased & world.erased
            if own:
                await _check_erased(who, replica, space, own, set(own))


async def _check_erased(who: str, replica: Replica, space: bytes, gone: frozenset[bytes], due: set[bytes]) -> None:
    for stored in await replica.store.scan(space):
        entry = stored.entry
        if entry.header.subject in gone & due and is_erasable(entry.header) and entry.payload is not None:
            kind = Kind(entry.header.kind).name
            raise BrokenError(f"{who} still has the payload of {kind} {entry.id.hex()[:8]}")
    view = await replica.view(space)
    if gone & view.roster.persons.keys() or any(w.person in gone for w in view.coursework.hand_ins.values()):
        raise BrokenError(f"{who} still shows who was erased in {space.hex()[:8]}")


async def _part_of(server: Replica, missing: Sequence[Need]) -> int:
    """The bytes of the packs that a server has of content."""
    holdings = Holdings(server.store, server.content)
    return sum({pack.hash: pack.size for need in missing for pack in await holdings.packs(need)}.values())


async def _quiet(world: World) -> None:
    for machine, agent in sound(world):
        if machine.session is None:
            raise BrokenError(f"{machine.name} is off")
        missing = await agent.missing()
        most = QUIET_BYTES + LACKING_BYTES * len(missing) + await _part_of(server_of(world.office), missing)
        result = await machine.session.sync(routine=True)
        if result.round_trips > 1 and await agent.replica.bare.lacking():
            # payloads that nobody has any more are asked for again, every few dozen syncs and never twice in a row
            result = await machine.session.sync(routine=True)
        if result.round_trips > 1 and await agent.replica.bare.lacking():
            result = await machine.session.sync(routine=True)
        size = result.bytes_in + result.bytes_out
        if result.round_trips != 1 or size > most or not result.is_quiet:
            raise BrokenError(
                f"{machine.name}: nothing is new, and a sync takes {result.round_trips} requests, {size} B"
            )
