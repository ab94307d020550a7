"""Which hand-ins of a space get the receipt of who holds their content (R8; docs/protocol.md, "Sealed hand-ins")."""

from __future__ import annotations

from protocol.entry import Kind
from protocol.replica.holdings import Holdings, Need
from protocol.replica.replica import Draft, Replica
from protocol.work import Receipt


async def receipts_due(replica: Replica, holdings: Holdings, space: bytes) -> list[Draft]:
    """The receipts that are due in a space."""
    works = (await replica.view(space)).coursework.hand_ins.values()
    due = {Need(space, work.record.content.stream, sealed=True): work for work in works if not work.at_server}
    lacking = set(await holdings.incomplete(due))
    return [
        Draft(
            space=space,
            kind=Kind.RECEIPT_SERVER,
            grant=None,
            payload=Receipt(need.stream).encode(),
            subject=work.person,
            target=work.id,
        )
        for work in works
        if not work.at_server and (need := Need(space, work.record.content.stream, sealed=True)) not in lacking
    ]
