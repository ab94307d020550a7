"""As what a device was let in first, of all that grants call it: a further one repeats that (docs/adr/0300).

Rules (docs/adr/0347, docs/adr/0416):
- what came to an office in one look came in no order. A server that began with its territory hears grant by grant, and
  goes by what came first; a head teacher's computer, and a server that was made anew, hear from others what there is,
  in the order in which they are told: there a device is the least that anybody with a say calls it, whenever that came,
  and until the earliest end that is to come: what is over says nothing while anything else holds;
- of the same rank a relay is given more than a machine;
- a grant that names other keys beside the one that signs goes before none for giving less: those are a thief's
  (docs/adr/0176).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from protocol.replica.office.bureau import Office
from protocol.replica.office.made_anew import came_at_once
from protocol.rights.door import Authority
from protocol.roles import RANK, Role


async def goes_by_no_order(office: Office) -> bool:
    """Whether nothing was first of what an office holds."""
    return office.rank < RANK[Role.SERVER] or await came_at_once(office.replica.store)


def least_first(said: Sequence[Authority]) -> list[Authority]:
    """Of what was said in no order of one device and the same keys what gives less comes first."""
    return sorted(said, key=lambda each: (each.pair != said[0].pair, *_gives(each)))


def least_of(said: Sequence[Authority], now_ms: int) -> Authority:
    """Of what was said in no order of one device and the same keys what gives least; of several such one the first.

    Until the earliest end that is to come, whoever says it; where none is, for good if anybody says that, else over.
    """
    least, ends = min(said, key=_gives), {each.until_ms for each in said}
    to_come = [end_ms for end_ms in ends if end_ms is not None and end_ms > now_ms]
    over = None if None in ends else max(filter(None, ends), default=None)
    return replace(least, until_ms=min(to_come, default=over))


def _gives(said: Authority) -> tuple[int, bool]:
    return said.rank, said.role is Role.RELAY
