"""Forgetting somebody: one erasure in the home of this office, which its replicas receive first (R7, R11).

The server's lies in the territory's space, a head teacher's in the school's, which is as far as her pupils go. Another
one is said in the space of each other right of hers, around it, in it or elsewhere, in which something is about them:
each of these rights may end. Whom nothing is about where she has a say, or somewhere else as well, she is told.

Everywhere it arrives, the folds pass over all that is about the person at once; each replica destroys it a week later
(`folds.erasing`). The entry names a pseudonymous id and nothing else. How it is taken back stands in `taking_back`.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from protocol.errors import BadInput, Code, PeerFault
from protocol.model.entry import Entry, Kind, parsed
from protocol.model.structure import Erasure, Ruling
from protocol.replica.at_work.replica import Draft, Replica
from protocol.replica.at_work.signer import RootKit
from protocol.replica.office.as_root import write_as_root
from protocol.replica.office.bureau import Office, is_ours, reaches
from protocol.replica.office.doubles import doubles_of
from protocol.replica.office.frozen import check_none_frozen


async def check_known(office: Office, persons: Sequence[bytes]) -> None:
    """Raise `BadInput(UNKNOWN_PERSON)` for an id that nothing here is about where this office has a say."""
    _check_known(office, await _known_in(office.replica, persons))


def _check_known(office: Office, known: Mapping[bytes, Collection[bytes]]) -> None:
    for person, spaces in known.items():
        if not any(reaches(office, space) for space in spaces):
            where = ", where this device has a say" if spaces else ""
            raise BadInput(
                Code.UNKNOWN_PERSON, f"there is no person {person.hex()}{where}; `person list` shows those of a space"
            )


async def known_beyond(office: Office, persons: Sequence[bytes]) -> list[bytes]:
    """Those of these people whom something is about where this office has no say, and nobody has erased them."""
    known, is_erased = await _known_in(office.replica, persons), await erased_besides(office.replica)
    beyond = {one: [space for space in known[one] if not reaches(office, space)] for one in persons}
    return [one for one, spaces in beyond.items() if not all(is_erased(space, one) for space in spaces)]


async def erase_persons(office: Office, persons: Sequence[bytes], kit: RootKit | None = None) -> int:
    """Have these people forgotten everywhere, and nobody else; how many erasures that made: said again, it makes none.

    The kit's word, unlike an office's, counts for as many as it names. Raises `BadInput` (UNKNOWN_PERSON; NOT_YET for
    who is frozen), before anything is said.
    """
    known = await _known_in(office.replica, persons)
    _check_known(office, known)
    await check_none_frozen(office, persons)
    turns = await turns_of(office.replica) if kit is not None else Counter()
    drafts = []
    for space, named in _where(office, known).items():
        said = await said_already(office, space, by_kit=kit is not None)
        wanted = [person for person in named if person not in said]
        drafts += [Draft(space, Kind.ERASE, None, Erasure(person, turns[person]).encode()) for person in wanted]
    if drafts:
        await say_as(office, drafts, kit)
    return len(drafts)


def _where(office: Office, known: Mapping[bytes, Collection[bytes]]) -> dict[bytes, list[bytes]]:
    """Where these people are to be forgotten: at home, and wherever else the office reaches and they are known."""
    found = {office.home: list(known)}
    for place in office.reach:
        there = set(office.replica.door.below(place))
        if place != office.home and (
            held := [person for person, spaces in known.items() if not there.isdisjoint(spaces)]
        ):
            found[place] = held
    return found


async def _known_in(replica: Replica, persons: Iterable[bytes]) -> dict[bytes, set[bytes]]:
    """The spaces in which something here is about each of these people."""
    found = {person: set[bytes]() for person in persons}
    for entry in await replica.store.scan_kinds([Kind.PERSON, Kind.HAND_IN]):
        if entry.header.subject in found:
            found[entry.header.subject].add(entry.header.space)
    return found


async def with_doubles(replica: Replica, persons: Sequence[bytes]) -> list[bytes]:
    """These people, and the other ids under which all lists say that they were added."""
    doubles = {other for person in persons for other in (await doubles_of(replica, person)).same}
    return list(dict.fromkeys([*persons, *sorted(doubles)]))


async def said_already(office: Office, home: bytes, *, by_kit: bool) -> set[bytes]:
    """What the root has erased here already, or this office; what others have erased is shown again with their keys.

    By the root alone, if it is the kit that is about to say it. What this office has said further up it has said under
    a right that may end.
    """
    found = set()
    for entry, covers in await in_force(office.replica):
        by_root, space = entry.header.grant is None, entry.header.space
        of_own = space == home and not by_kit and is_ours(office, entry)
        if of_own or (by_root and space in office.replica.door.lineage(home)):
            found.add(covers)
    return found


async def turns_of(replica: Replica) -> Counter[bytes]:
    """In which turn the kit says next that a name is to be forgotten: one after each that it has taken back."""
    found = Counter[bytes]()
    for entry in await replica.store.scan_kinds([Kind.RULING]):
        ruling = parsed(entry, Ruling.parse)
        is_by_kit = entry.header.author == replica.door.root_now and entry.header.space == replica.territory
        if is_by_kit and ruling is not None and ruling.covers is not None:
            found[ruling.covers] = max(found[ruling.covers], ruling.turn + 1)
    return found


async def in_force(replica: Replica) -> list[tuple[Entry, bytes]]:
    """Every erasure that nothing holds back or has taken back, with what it covers, in order of arrival."""
    found = []
    for entry, covers in await ever_said(replica):
        roster = (await replica.view(entry.header.space)).roster
        if entry.id not in roster.held_back and entry.id not in roster.undone:
            found.append((entry, covers))
    return found


async def closed_by_kit(replica: Replica) -> Collection[bytes]:
    """What the kit has closed, or forgotten: whoever has a server's key does so for an hour."""
    return {covers for erasure, covers in await in_force(replica) if erasure.header.grant is None}


async def is_in_doubt(replica: Replica, erasure: Entry) -> bool:
    """Whether who said an erasure has been cut off since: a thief may have said it. The kit's word is in no doubt."""
    if erasure.header.grant is None:
        return False
    return erasure.header.author in (await replica.view(erasure.header.space)).roster.cut


async def erased_besides(replica: Replica) -> Callable[[bytes, bytes], bool]:
    """Whether an erasure that counts covers a name in a space, or above it, whatever else is said of it there."""
    counting = {(entry.header.space, covers) for entry, covers in await in_force(replica)}
    lineage = replica.door.lineage

    def is_erased(space: bytes, covers: bytes) -> bool:
        return not counting.isdisjoint((above, covers) for above in lineage(space))

    return is_erased


async def say_as(office: Office, drafts: Sequence[Draft], kit: RootKit | None) -> None:
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
