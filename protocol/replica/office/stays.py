"""Access with an end: who is overdue, and the revocations that end it (docs/adr/0031).

A date refuses nothing, because clocks are not trusted: whoever may revoke carries it out when their own clock has
passed it. The revocation names the grant that said so, and ends that alone: it counts for nothing once the grant is
held back, as what a thief says with a server's key is, and no office says more in its own name (docs/adr/0144).

A right without an end beside one that has a day is what a thief says with that key as well, there or in a space above,
or with a later end above: such a stay is listed, and ended by a person alone (docs/adr/0490, docs/adr/0541).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from protocol.limits import MAX_ENDED_GRANTS
from protocol.model.entry import Kind
from protocol.model.structure import Revocation
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.absent import named_of
from protocol.replica.office.bureau import Office
from protocol.rights.door import Authority, Door
from protocol.rights.successions import successors_of


@dataclass(frozen=True, slots=True)
class Stay:
    """A key whose `grants` in a space are meant to end; `until_ms` is when the last of them does.

    `for_good` says that it has another one, there or from above, which has no end, or a later one.
    """

    key: bytes
    space: bytes
    grants: tuple[Authority, ...]
    until_ms: int
    for_good: bool

    @property
    def person(self) -> bytes | None:
        """Whom a grant names."""
        return next((grant.person for grant in self.grants if grant.person is not None), None)


def stays(authorities: Iterable[Authority], door: Door) -> list[Stay]:
    """The stays among grants that hold, the soonest end first."""
    held: defaultdict[bytes, list[Authority]] = defaultdict(list)
    for authority in authorities:
        held[authority.key].append(authority)
    found = []
    for key, rights in held.items():
        for space in dict.fromkeys(right.space for right in rights if right.until_ms is not None):
            ends = {right: right.until_ms for right in rights if right.space == space and right.until_ms is not None}
            until_ms = max(ends.values())
            beside = [right for right in rights if right not in ends and door.covers(right, space)]
            for_good = any(right.until_ms is None or right.until_ms > until_ms for right in beside)
            found.append(Stay(key, space, tuple(ends), until_ms, for_good))
    return _by_end(found)


def _by_end(found: Iterable[Stay]) -> list[Stay]:
    return sorted(found, key=lambda stay: (stay.until_ms, stay.key, stay.space))


async def stays_of(office: Office) -> list[Stay]:
    """The stays in the spaces of an office."""
    door = office.replica.door
    limited = {authority.space for authority in door.authorities() if authority.until_ms is not None}
    found: list[Stay] = []
    for space in door.below(office.home):
        if space in limited:
            roster = (await office.replica.view(space)).roster
            held = [each for each in roster.authorities if each.key not in roster.cut]
            found += [stay for stay in stays(held, door) if stay.space == space]
    return _by_end(found)


async def end_stays(office: Office) -> int:
    """Revoke what is over by this office's clock, as far as it may; how many stays that ended.

    What it may not take it leaves to who may: a revocation that counts for nothing would be written at every look. So
    it does with a device that somebody has let in without end: nobody's laptop says as much as a thief likes.
    """
    # which are over is looked up before any is ended: with one goes what its copies have, and theirs are ended as well
    over = [stay for stay in await stays_of(office) if await _may_end(office, stay)]
    for stay in over:
        await office.say(await _end_drafts(office, stay))
    if over:
        await office.tend_keys({stay.space for stay in over}, asked=False)
    return len(over)


async def end_past_rights(office: Office, key: bytes, spaces: Iterable[bytes]) -> None:
    """Of a key that somebody lets in for good: end its rights in these spaces whose day is past, as far as one may."""
    for space in spaces:
        held = (await office.replica.view(space)).roster.authorities
        theirs = (each for each in held if (each.key, each.space) == (key, space) and each.rank < office.rank)
        for stay in stays(theirs, office.replica.door):
            if stay.until_ms <= office.now_ms() and len(stay.grants) <= MAX_ENDED_GRANTS:
                await office.say(await _end_drafts(office, stay))


async def _may_end(office: Office, stay: Stay) -> bool:
    if stay.for_good or stay.until_ms > office.now_ms() or len(stay.grants) > MAX_ENDED_GRANTS:
        return False
    held = (await office.replica.view(stay.space)).roster.authority_of(stay.key)
    return held is not None and held.rank < office.rank


async def _end_drafts(office: Office, stay: Stay) -> list[Draft]:
    replica = office.replica
    below = list(replica.door.below(stay.space))
    successors = successors_of(stay.key, replica.door.authorities())
    named = await named_of(stay.key, below, replica.tips, replica.store, successors)
    payload = Revocation(stay.key, tuple(named.heads), absent=named.gaps.absent).encode()
    return [Draft(stay.space, Kind.REVOKE, None, payload, target=grant.grant) for grant in stay.grants]
