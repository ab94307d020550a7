"""Who of a school is to be forgotten, at whose word, and until when that can be undone here: for its head teacher.

Names are hidden already, and stay so. How many people that are, on how many lists, and who said so, shows a thief's
word while it is time (docs/protocol.md, "Erasure"). Whom two lists call by different names counts as two: under one id
lists may have a child of each class, and all of them go with it (docs/adr/0454).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from protocol.limits import ERASURE_DELAY_MS
from protocol.model.entry import Entry, Kind, parsed
from protocol.model.structure import PersonRecord
from protocol.replica.at_work.replica import Replica
from protocol.replica.office.erasures import in_force, is_in_doubt
from protocol.replica.office.people import spoken


@dataclass(frozen=True, slots=True)
class Forgetting:
    """At the word of one key (under no grant: the root's) so many people; the first go here for good then.

    On all lists together they stand `listed` times; of those five go in a day. None goes `in_doubt`: the key was cut
    off since, and they stay hidden until somebody else says so, or the opposite.
    """

    by: bytes
    grant: bytes | None
    persons: int
    listed: int
    final_ms: int
    in_doubt: bool = False


async def forgettings(replica: Replica, governs: Callable[[bytes], bool], now_ms: int) -> list[Forgetting]:
    """Those that are not over, the most urgent first; `governs` says which spaces count."""
    here: defaultdict[bytes, dict[bytes, str]] = defaultdict(dict)
    for entry in await replica.store.scan_kinds([Kind.PERSON]):
        if entry.payload is not None and governs(entry.header.space):
            record = parsed(entry, PersonRecord.parse)
            here[entry.header.subject or b""][entry.header.space] = "" if record is None else spoken(record.name)
    return await _forgettings(replica, here, now_ms)


async def forgetting_of(replica: Replica, person: bytes, now_ms: int) -> Forgetting | None:
    """The most urgent of the same for one person, for who they are: their own computer goes on without them."""
    return next(iter(await _forgettings(replica, {person: {}}, now_ms)), None)


async def _forgettings(replica: Replica, here: Mapping[bytes, Mapping[bytes, str]], now_ms: int) -> list[Forgetting]:
    """Of whom is `here`: what each list calls them."""
    since = await replica.weeks.noted()
    found: defaultdict[tuple[bytes, bytes | None], dict[bytes, Entry]] = defaultdict(dict)
    for entry, covers in await in_force(replica):
        if covers in here:
            found[entry.header.author, entry.header.grant][covers] = entry
    rows = []
    for (by, grant), of in found.items():
        final_ms = min(since.get(one.id, now_ms) for one in of.values()) + ERASURE_DELAY_MS
        doubt = any([await is_in_doubt(replica, one) for one in of.values()])
        persons, listed = sum(len({*here[one].values()}) for one in of), sum(len(here[one]) for one in of)
        rows.append(Forgetting(by, grant, persons, listed, final_ms, doubt))
    return sorted(rows, key=lambda row: (row.in_doubt, row.final_ms, row.by))
