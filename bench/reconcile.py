"""Two replicas of one space find out what each lacks: 100,000 entries of a year, 100 of them on one side only.

The dialogue itself (Negentropy), between two sets in memory, messages counted before the envelope; what it finds is
compared with the truth. Scattered over the year, and the latest ones, as after a day apart.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from random import Random
from typing import Final

from bench.results import Result, Setting
from protocol.reconcile.negentropy import ASKING, Initiator, Record, respond
from protocol.reconcile.sorted_records import SortedRecords

ENTRIES: Final = 100_000
DIFFERENCES: Final = 100
YEAR_MS: Final = 365 * 86_400_000
_BEGIN_MS: Final = 1_757_000_000_000
_TABLE: Final = f"reconcile {ENTRIES:,} entries of which {DIFFERENCES} differ"


def measure(setting: Setting) -> Iterator[Result]:
    """Scattered differences, the latest ones, none."""
    del setting
    rng = Random(1)
    records = sorted(Record(_BEGIN_MS + rng.randrange(YEAR_MS), rng.randbytes(32)) for _ in range(ENTRIES))
    scattered = set(rng.sample(range(ENTRIES), DIFFERENCES))
    yield _dialogue("scattered over the year", records, scattered, {"bytes": 60_000, "round_trips": 6, "cpu_s": 1.0})
    latest = set(range(ENTRIES - DIFFERENCES, ENTRIES))
    yield _dialogue("the latest ones", records, latest, {"bytes": 5_000, "round_trips": 2})
    yield _dialogue("none", records, set(), {"round_trips": 1})


def _dialogue(what: str, records: Sequence[Record], apart: set[int], goals: dict[str, float]) -> Result:
    """Every second difference is on the asking side, the others on the answering one."""
    chosen = sorted(apart)
    only_mine, only_theirs = ({records[at] for at in chosen[start::2]} for start in (0, 1))
    mine = SortedRecords(record for record in records if record not in only_theirs)
    theirs = SortedRecords(record for record in records if record not in only_mine)
    began, sent, trips = time.process_time(), 0, 0
    have: set[bytes] = set()
    need: set[bytes] = set()
    initiator = Initiator(mine, ASKING)
    message: bytes | None = initiator.open()
    while message is not None:
        answer = respond(theirs, message)
        sent, trips = sent + len(message) + len(answer), trips + 1
        step = initiator.answer(answer)
        have.update(step.have)
        need.update(step.need)
        message = step.next_message
    cpu_s = time.process_time() - began
    if have != {record.id for record in only_mine} or need != {record.id for record in only_theirs}:
        raise AssertionError("the dialogue did not find the differences")
    return Result(_TABLE, what, {"bytes": sent, "round_trips": trips, "cpu_s": cpu_s}, goals)
