"""Above which rank a right has to be so that what an office says under it counts (docs/adr/0217).

A revocation counts over lower ranks only, a grant and a code give lower ones, and what overcomes or takes back
something is of no lower rank than that. All else an office says asks for a role, not for a rank.

docs/protocol.md, "Roster".
"""

from __future__ import annotations

from typing import Final

from protocol.model.entry import Kind
from protocol.model.structure import Grant, Invite, Revocation, Ruling
from protocol.replica.at_work.replica import Draft, Replica
from protocol.rights.door import Authority
from protocol.roles import RANK

TAKES_AWAY: Final = frozenset({Kind.ERASE, Kind.REVOKE})
"""What cuts off or forgets."""


async def rank_needed(replica: Replica, draft: Draft) -> int:
    """The least rank under which what is drafted counts as it is meant; 0 where any does that may say it."""
    door = replica.door
    if draft.kind is Kind.GRANT:
        overcome = await replica.store.get(list(draft.parents))
        ranks = (door.rank_of(each.header) for each in overcome.values() if each.header.kind == Kind.REVOKE)
        return max([RANK[Grant.parse(draft.payload).role] + 1, *ranks])
    if draft.kind is Kind.INVITE:
        return RANK[Invite.parse(draft.payload).role] + 1
    if draft.kind is Kind.RULING:
        ruling = Ruling.parse(draft.payload)
        ruled = await replica.store.get([*ruling.accepted, *ruling.refused])
        return max((door.rank_of(each.header) for each in ruled.values()), default=0)
    if draft.kind is Kind.REVOKE and draft.target is not None:
        ended = door.authority(draft.target)
        return 0 if ended is None else ended.rank + 1
    if draft.kind is Kind.REVOKE:
        return max(await _ranks_to_cut(replica, draft), default=0) + 1
    return 0


async def takes_away(replica: Replica, draft: Draft, right: Authority) -> bool:
    """Whether a draft cuts off or forgets, and would do so under this right, which counts there, if others ended.

    A report would if only the lowest right of its device was left: whoever has the server's key raises a laptop, so
    that no right but one of theirs suffices to report it, and both end. An erasure is drafted in each right's space.
    """
    if draft.kind is Kind.ERASE:
        return right.space == draft.space
    if draft.kind is not Kind.REVOKE:
        return False
    if draft.target is not None:
        return right.rank >= await rank_needed(replica, draft)
    return any(right.rank > each for each in await _ranks_to_cut(replica, draft))


async def _ranks_to_cut(replica: Replica, report: Draft) -> list[int]:
    """Those that a device holds where it is reported, without what is held back there."""
    door, held_back = replica.door, (await replica.view(report.space)).roster.held_back
    held = door.authorities_of(Revocation.parse(report.payload).key)
    return [each.rank for each in held if door.covers(each, report.space) and each.grant not in held_back]
