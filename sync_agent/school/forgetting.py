"""Who of a school is to be forgotten, at whose word, and until when that can be undone here: for its head teacher.

Names are hidden already, and stay so. How many people that are, on how many lists, and who said so, shows a thief's
word while it is time (docs/protocol.md, "Erasure"). Rules:
- whom two lists call by different names counts as two: under one id lists may have a child of each class, and all of
  them go with it (docs/adr/0454);
- on each list somebody goes by the word that ends first of those that reach it, and by one in doubt only where all are:
  that is how machines destroy. Whoever says more of it moves no day, and takes no word's place (docs/adr/0537).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from protocol.limits import ERASURE_DELAY_MS
from protocol.model.entry import Entry, Kind, parsed
from protocol.model.structure import PersonRecord
from protocol.replica.at_work.destroyed import carried_out
from protocol.replica.at_work.replica import Replica
from protocol.replica.office.people import spoken
from protocol.replica.upkeep.orders import Said, said_in


@dataclass(frozen=True, slots=True)
class Forgetting:
    """At the word of one key (under no grant: the root's) so many people; the first go here for good then.

    On all lists together they stand `listed` times; of those five go in a day. None goes `in_doubt`: the key was cut
    off since, and they stay hidden until somebody else says so, or the opposite. It `is_over` where they were destroyed
    here, whoever is cut off since.
    """

    by: bytes
    grant: bytes | None
    persons: int
    listed: int
    final_ms: int
    in_doubt: bool = False
    is_over: bool = False


class _Ending(NamedTuple):
    """How a word ends: what a machine obeys comes first."""

    in_doubt: bool
    waits: bool
    final_ms: int


async def forgettings(replica: Replica, governs: Callable[[bytes], bool], now_ms: int) -> list[Forgetting]:
    """Those that are not over, the most urgent first; `governs` says which spaces count."""
    here: defaultdict[bytes, dict[bytes, str]] = defaultdict(dict)
    for entry in await replica.store.scan_kinds([Kind.PERSON]):
        if entry.payload is not None and governs(entry.header.space):
            record = parsed(entry, PersonRecord.parse)
            here[entry.header.subject or b""][entry.header.space] = "" if record is None else spoken(record.name)
    return await _forgettings(replica, await said_in(replica, here), here, now_ms)


async def forgetting_of(replica: Replica, person: bytes, now_ms: int) -> Forgetting | None:
    """The most urgent of the same for one person, for who they are: their own computer goes on without them."""
    said = await said_in(replica, [person])
    wherever = {person: {word.header.space: "" for word, _ in said.holding}}
    return next(iter(await _forgettings(replica, said, wherever, now_ms)), None)


async def _forgettings(
    replica: Replica, said: Said, here: Mapping[bytes, Mapping[bytes, str]], now_ms: int
) -> list[Forgetting]:
    """Of whom is `here`: what each list calls them."""
    since, obeyed = await replica.weeks.noted(), await carried_out(replica.store)

    def ending(word: Entry) -> _Ending:
        waits, final_ms = word.id not in obeyed, since.get(word.id, now_ms) + ERASURE_DELAY_MS
        return _Ending(waits and word.id in said.doubtful, waits, final_ms if waits else min(final_ms, now_ms))

    words: defaultdict[bytes, list[Entry]] = defaultdict(list)
    for word, covers in said.holding:
        words[covers].append(word)
    found: defaultdict[tuple[bytes, bytes | None, bool, bool], list[tuple[bytes, str, int]]] = defaultdict(list)
    for person, all_of_them in words.items():
        for space, name in here[person].items():
            line = replica.door.lineage(space)
            if reaching := [word for word in all_of_them if word.header.space in line]:
                word = _decisive(reaching, ending)
                in_doubt, waits, final_ms = ending(word)
                found[word.header.author, word.header.grant, in_doubt, not waits].append((person, name, final_ms))
    rows = []
    for (by, grant, in_doubt, is_over), on_lists in found.items():
        persons, final_ms = len({each[:2] for each in on_lists}), min(final_ms for _, _, final_ms in on_lists)
        rows.append(Forgetting(by, grant, persons, len(on_lists), final_ms, in_doubt, is_over))
    return sorted(rows, key=lambda row: (row.in_doubt, row.is_over, row.final_ms, row.by))


def _decisive(words: Sequence[Entry], ending: Callable[[Entry], _Ending]) -> Entry:
    """By which of those that reach a list somebody goes there."""
    return min(words, key=ending)
