"""Forgetting somebody: one erasure in the widest space of this office, which its replicas receive first (R7, R11).

The server's lies in the territory's space, a head teacher's in the school's, which is as far as her pupils go.

Everywhere it arrives, the folds pass over all that is about the person at once; each replica destroys it a week later
(`folds.erasing`). The entry names a pseudonymous id and nothing else. Within that week it can be taken back, by a
ruling that refuses it; afterwards by the kit alone, where a payload is left.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence

from protocol.errors import BadInput, Code, PeerFault
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure, Ruling
from protocol.replica.at_work.destroyed import destroyed, destroyed_names
from protocol.replica.at_work.replica import Draft, Replica
from protocol.replica.at_work.signer import RootKit
from protocol.replica.office.as_root import write_as_root
from protocol.replica.office.bureau import Office, is_ours
from protocol.replica.office.people import doubles_of
from protocol.rights.erasures import rulings_of
from protocol.roles import RANK, Role


async def check_known(office: Office, persons: Sequence[bytes]) -> None:
    """Raise `BadInput(UNKNOWN_PERSON)` for an id that nothing here is about."""
    known = {entry.header.subject for entry in await office.replica.store.scan_kinds([Kind.PERSON, Kind.HAND_IN])}
    for person in persons:
        if person not in known:
            raise BadInput(
                Code.UNKNOWN_PERSON, f"there is no person {person.hex()}; `person list` shows those of a space"
            )


async def erase_persons(office: Office, persons: Sequence[bytes], kit: RootKit | None = None) -> int:
    """Have these people forgotten everywhere, and nobody else; how many erasures that made: said again, it makes none.

    The kit's word, unlike an office's, counts for as many as it names. Raises `BadInput(UNKNOWN_PERSON)`, before
    anything is said.
    """
    home = office.home
    await check_known(office, persons)
    said = await said_already(office, home, by_kit=kit is not None)
    wanted = [person for person in dict.fromkeys(persons) if person not in said]
    drafts = [Draft(home, Kind.ERASE, None, Erasure(person).encode()) for person in wanted]
    if drafts:
        await _say(office, drafts, kit)
    return len(drafts)


async def with_doubles(replica: Replica, persons: Sequence[bytes]) -> list[bytes]:
    """These people, and the other ids under which all lists say that they were added."""
    doubles = {other for person in persons for other in (await doubles_of(replica, person)).same}
    return list(dict.fromkeys([*persons, *sorted(doubles)]))


async def said_already(office: Office, home: bytes, *, by_kit: bool) -> set[bytes]:
    """What the root has erased here already, or this office; what others have erased is shown again with their keys.

    By the root alone, if it is the kit that is about to say it.
    """
    found = set()
    for entry, covers in await in_force(office.replica):
        at_home = entry.header.space in office.replica.door.lineage(home)
        if at_home and (entry.header.grant is None if by_kit else is_ours(office, entry)):
            found.add(covers)
    return found


async def in_force(replica: Replica) -> list[tuple[Entry, bytes]]:
    """Every erasure that nothing holds back or has taken back, with what it covers, in order of arrival."""
    found = []
    for entry, covers in await ever_said(replica):
        roster = (await replica.view(entry.header.space)).roster
        if entry.id not in roster.held_back and entry.id not in roster.undone:
            found.append((entry, covers))
    return found


async def take_back(office: Office, covers: bytes, kit: RootKit | None = None) -> int:
    """Have somebody or something shown again that was erased; how many erasures that takes back.

    What has been destroyed stays so, and what comes of it later is destroyed too, unless the kit says otherwise: then
    it comes back from whoever still has it. Raises `BadInput(UNKNOWN_PERSON)` if nothing that may be taken back covers
    it, `BadInput(NOT_YET)` if it takes the kit.
    """
    replica = office.replica
    said = await ever_said(replica)
    if kit is None:
        done = await _done_at(replica, said)
        said = [(one, of) for one, of in await in_force(replica) if (one.header.space, of) not in done]
    is_left = any(covered == covers for _, covered in said)
    if kit is None and not is_left and covers in await destroyed_names(replica.store):
        raise BadInput(
            Code.NOT_YET,
            f"{covers.hex()} has been destroyed here, and only the recovery kit takes that back (--kit); "
            "or put the person on the list again, as somebody new",
        )
    rank = office.rank if kit is None else RANK[Role.ROOT]
    drafts = []
    for entry, covered in said:
        if covered == covers and replica.door.rank_of(entry.header) <= rank:
            space, ruling = entry.header.space, Ruling((), (entry.id,)).encode()
            # the kit signs nothing that names parents, and stands above all of them
            parents = await ruling_before(replica, space, [entry.id], rank) if kit is None else ()
            drafts.append(Draft(space, Kind.RULING, None, ruling, parents=parents))
    if not drafts and is_left and kit is None:
        raise BadInput(
            Code.NOT_YET, f"the kit has said so: `sync-server unerase {covers.hex()} --kit KIT` takes that back"
        )
    if not drafts:
        raise BadInput(Code.UNKNOWN_PERSON, f"no erasure of {covers.hex()} can be taken back; `erasures` shows them")
    await _say(office, drafts, kit)
    return len(drafts)


async def ruling_before(replica: Replica, space: bytes, names: Collection[bytes], rank: int) -> tuple[bytes, ...]:
    """The ruling that one of this rank, about these entries of a space, has to name: it counts as later, then."""
    line = replica.door.lineage(space)
    rulings = [each for each in await replica.store.scan_kinds([Kind.RULING]) if each.header.space in line]
    held = (await replica.view(space)).roster.held_back if rulings else frozenset[bytes]()
    before = [
        entry.id
        for entry, ruling in rulings_of(rulings, held, replica.door)
        if replica.door.standing_of(entry.header) <= rank and not {*ruling.accepted, *ruling.refused}.isdisjoint(names)
    ]
    return tuple(before[-1:])


async def _done_at(replica: Replica, said: Sequence[tuple[Entry, bytes]]) -> set[tuple[bytes, bytes]]:
    """In which spaces this replica has destroyed which names: what else is said of them there is of no use any more.

    Of what an earlier version has destroyed nobody knows where: everywhere.
    """
    done = await destroyed(replica.store)
    pairs = ((entry, covers, done.get(covers)) for entry, covers in said)
    return {
        (entry.header.space, covers)
        for entry, covers, record in pairs
        if record is not None and (record.by is None or entry.id in record.by)
    }


async def _say(office: Office, drafts: Sequence[Draft], kit: RootKit | None) -> None:
    """As this office, or as the root."""
    if kit is None:
        await office.say(drafts)
    else:
        await write_as_root(office, kit, drafts)


async def ever_said(replica: Replica) -> list[tuple[Entry, bytes]]:
    """Every erasure, with what it covers, in order of arrival."""
    found = []
    for entry in await replica.store.scan_kinds([Kind.ERASE]):
        with contextlib.suppress(PeerFault):
            found.append((entry, Erasure.parse(entry.payload or b"").covers))
    return found
