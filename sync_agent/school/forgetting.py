"""Who of a school is to be forgotten, at whose word, and until when that can be undone here: for its head teacher.

Names are hidden already, and stay so. How many people that are, and who said so, shows a thief's word while it is time
(docs/protocol.md, "Erasure").
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container
from dataclasses import dataclass

from protocol.limits import ERASURE_DELAY_MS
from protocol.model.entry import Entry, Kind
from protocol.replica.at_work.replica import Replica
from protocol.replica.office.erasures import in_force, is_in_doubt
from protocol.replica.upkeep.orders import noted_since


@dataclass(frozen=True, slots=True)
class Forgetting:
    """At the word of one key (under no grant: the root's) so many people; the first go here for good then.

    None goes `in_doubt`: the key was cut off since, and they stay hidden until somebody else says so, or the opposite.
    """

    by: bytes
    grant: bytes | None
    persons: int
    final_ms: int
    in_doubt: bool = False


async def forgettings(replica: Replica, governs: Callable[[bytes], bool], now_ms: int) -> list[Forgetting]:
    """Those that are not over, the most urgent first; `governs` says which spaces count."""
    said = await replica.store.scan_kinds([Kind.PERSON])
    here = {entry.header.subject for entry in said if entry.payload is not None and governs(entry.header.space)}
    return await _forgettings(replica, here, now_ms)


async def forgetting_of(replica: Replica, person: bytes, now_ms: int) -> Forgetting | None:
    """The most urgent of the same for one person, for who they are: their own computer goes on without them."""
    return next(iter(await _forgettings(replica, {person}, now_ms)), None)


async def _forgettings(replica: Replica, here: Container[bytes | None], now_ms: int) -> list[Forgetting]:
    since = await noted_since(replica.store)
    found: defaultdict[tuple[bytes, bytes | None], dict[bytes, Entry]] = defaultdict(dict)
    for entry, covers in await in_force(replica):
        if covers in here:
            found[entry.header.author, entry.header.grant][covers] = entry
    rows = []
    for (by, grant), of in found.items():
        final_ms = min(since.get(one.id, now_ms) for one in of.values()) + ERASURE_DELAY_MS
        doubt = any([await is_in_doubt(replica, one) for one in of.values()])
        rows.append(Forgetting(by, grant, len(of), final_ms, doubt))
    return sorted(rows, key=lambda row: (row.in_doubt, row.final_ms, row.by))
