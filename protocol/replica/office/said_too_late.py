"""What came under a server's key once the root had ended it: nobody honest has said that (docs/adr/0606).

Rules:
- a server that has new keys says nothing under those of before, and what it had said under them lay in its store by
  then. So a word of a list that the root's word holds back, and that came after the root had ended its author's key, is
  of whoever has a copy of that key: they say the next one whenever they like, by any stick;
- it goes by the order in which both came here, as dates are chosen by who writes; so at a server alone, and at none
  that was made anew or has lost entries (`made_anew`): others hear of the two in any order.

docs/protocol.md, "Roster".
"""

from __future__ import annotations

from protocol.model.entry import Kind
from protocol.replica.at_work.replica import Replica
from protocol.replica.office.device_cuts import key_cut_off
from protocol.replica.office.made_anew import came_at_once
from protocol.replica.office.said_here import LEAVES_SINCE_MARK, noting_since


async def said_too_late(replica: Replica) -> frozenset[bytes]:
    """The words of lists that came so; none where nothing tells the order."""
    if await noting_since(replica.store, LEAVES_SINCE_MARK) is None or await came_at_once(replica.store):
        return frozenset()
    servers, cuts = frozenset(replica.door.server_keys()), await replica.store.scan_kinds([Kind.REVOKE])
    ends = {cut.id: key for cut in cuts if cut.header.grant is None and (key := key_cut_off(cut)) in servers}
    ended, found = set[bytes | None](), set[bytes]()
    for entry in await replica.store.scan_kinds([Kind.PERSON, Kind.REVOKE]) if ends else ():
        if entry.id in ends:
            ended.add(ends[entry.id])
        elif entry.header.kind == Kind.PERSON and entry.header.author in ended:
            found |= (await replica.view(entry.header.space)).roster.held_by_root & {entry.id}
    return frozenset(found)
