"""Above which rank a right has to be so that what an office says under it counts (docs/adr/0217).

A revocation counts over lower ranks only, a grant and a code give lower ones, and what overcomes or takes back
something is of no lower rank than that. All else an office says asks for a role, not for a rank.

docs/protocol.md, "Roster".
"""

from __future__ import annotations

from protocol.model.entry import Kind
from protocol.model.structure import Grant, Invite, Revocation, Ruling
from protocol.replica.replica import Draft, Replica
from protocol.roles import RANK


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
        key, held_back = Revocation.parse(draft.payload).key, (await replica.view(draft.space)).roster.held_back
        held = [each for each in door.authorities_of(key) if door.covers(each, draft.space)]
        return max((each.rank + 1 for each in held if each.grant not in held_back), default=0)
    return 0
