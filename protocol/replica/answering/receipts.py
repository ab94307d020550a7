"""Which hand-ins of a space get the receipt of who holds their content (R8; docs/protocol.md, "Sealed hand-ins")."""

from __future__ import annotations

from protocol.model.entry import Kind
from protocol.model.work import Receipt
from protocol.replica.at_work.replica import Draft, Replica
from protocol.replica.content.holdings import Holdings, work_need


async def receipts_due(replica: Replica, holdings: Holdings, space: bytes) -> list[Draft]:
    """The receipts that are due in a space."""
    works = (await replica.view(space)).coursework.hand_ins.values()
    due = [(work, work_need(work)) for work in works if not work.at_server]
    held = await holdings.complete(need for _, need in due)
    return [
        Draft(
            space=space,
            kind=Kind.RECEIPT_SERVER,
            grant=None,
            payload=Receipt(need.stream).encode(),
            subject=work.person,
            target=work.id,
        )
        for work, need in due
        if need in held
    ]
