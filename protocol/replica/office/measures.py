"""Ordering drills and quarantines, and what a drill has shown: the rules that server and head teacher's device share.

docs/protocol.md, "Measures".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from protocol.clock import rfc3339
from protocol.errors import BadInput, Code, Refused
from protocol.folds.coursework import HandInState, Work
from protocol.folds.measures import Drill, DrillOrder, Measures, QuarantineOrder, fit_a_day
from protocol.limits import DRILL_DAY_MS, MAX_DRILL_LEAD_MS, MAX_DRILL_MINUTES, MAX_PARENTS
from protocol.model.entry import Kind
from protocol.replica.at_work.replica import Draft, Replica
from protocol.replica.console.operation import JSON
from protocol.roles import RANK, Role

USUAL_MINUTES: Final = 30
_MOST_DOUBTED: Final = 256
"""So many that are held back are lifted at once, the newest: a thief imposes as many as he likes."""


async def measures_of(replica: Replica, school: bytes) -> Measures:
    """What was ordered in a school."""
    return (await replica.view(school)).measures


def drill_draft(
    measures: Measures, school: bytes, grant: bytes, minutes: int, now_ms: int, *, dated_ms: int, true_ms: int
) -> Draft:
    """The order that begins a drill; `dated_ms` is how it would be dated, `true_ms` the time as the server says it.

    Raises `BadInput(USAGE)` for a length that no drill has, while one is on, where machines play no more today, and
    where none would play it, since it would be dated too far ahead.
    """
    if not 1 <= minutes <= MAX_DRILL_MINUTES:
        raise BadInput(Code.USAGE, f"a drill lasts 1 to {MAX_DRILL_MINUTES} minutes")
    if current_drill(measures, now_ms) is not None:
        raise BadInput(Code.USAGE, "a drill is running already; stop it first")
    today = [drill.minutes for drill in measures.drills if now_ms - DRILL_DAY_MS < drill.start_ms <= now_ms]
    if not fit_a_day([minutes, *today]):
        raise BadInput(Code.USAGE, f"machines rehearse {MAX_DRILL_MINUTES} minutes of a day at most; go on tomorrow")
    if dated_ms > true_ms + MAX_DRILL_LEAD_MS:
        begins_ms = now_ms + dated_ms - true_ms - MAX_DRILL_LEAD_MS
        raise BadInput(
            Code.USAGE,
            "a computer whose clock is hours ahead has dated what comes after it: no machine would begin this drill; "
            f"set that clock right, and order it after {rfc3339(begins_ms)}",
        )
    return Draft(school, Kind.DRILL, grant, DrillOrder(minutes).encode())


def running_drills(measures: Measures, now_ms: int) -> list[Drill]:
    """The drills that are running by this clock."""
    return [drill for drill in measures.drills if _is_on(drill, now_ms)]


def end_drafts(drills: Iterable[Drill], school: bytes, grant: bytes) -> list[Draft]:
    """The orders that end these drills before their time."""
    return [Draft(school, Kind.DRILL, grant, DrillOrder().encode(), target=drill.id) for drill in drills]


def shown_stop(drills: Iterable[Drill]) -> dict[str, JSON]:
    """What both programs say of drills that were just stopped: the one that lasts longest where nobody hears of that.

    `until` is when every machine has ended it, whatever it hears.
    """
    last = max(drills, key=lambda drill: drill.planned_ms, default=None)
    if last is None:
        return {"drill": None, "until": None}
    return {"drill": last.id.hex(), "until": rfc3339(last.planned_ms)}


def current_drill(measures: Measures, now_ms: int) -> Drill | None:
    """The drill that is running by this clock, if one is."""
    return next(iter(running_drills(measures, now_ms)), None)


async def is_in_doubt(replica: Replica, school: bytes, key: bytes) -> bool:
    """Whether something that a key said of quarantines is held back: that it lifted one counts again one day."""
    held_back = (await replica.view(school)).roster.held_back
    said = await replica.store.of_kinds(school, (Kind.QUARANTINE,)) if held_back else ()
    return any(each.entry.id in held_back and each.entry.header.author == key for each in said)


def quarantine_drafts(
    measures: Measures, school: bytes, grant: bytes, key: bytes, *, in_doubt: bool = False
) -> list[Draft]:
    """The order that imposes a quarantine, unless there is one by this `key`, which is not `in_doubt`, or a root's.

    One of somebody else's ends with their words, and whoever has a copy of a server's key lifts it (docs/adr/0505).
    """
    if any(each.rank >= RANK[Role.ROOT] for each in measures.quarantines):
        return []
    if not in_doubt and any(each.by == key for each in measures.quarantines):
        return []
    return [Draft(school, Kind.QUARANTINE, grant, QuarantineOrder(on=True).encode())]


def lift_drafts(measures: Measures, school: bytes, grant: bytes, rank: int) -> list[Draft]:
    """The order that lifts the quarantines. Raises `Refused(NO_RIGHT)` where a higher rank has imposed one.

    Those that are held back as well, a thief's perhaps: a PC that keeps to one of them hears of its end alone.
    """
    if any(each.rank > rank for each in measures.quarantines):
        raise Refused(Code.NO_RIGHT, "who runs the system has imposed this quarantine, and alone can lift it")
    doubted = [each for each in measures.doubted if each.rank <= rank][-_MOST_DOUBTED:]
    names = [each.id for each in (*measures.quarantines, *doubted)]
    payload = QuarantineOrder(on=False).encode()
    return [
        Draft(school, Kind.QUARANTINE, grant, payload, parents=tuple(names[at : at + MAX_PARENTS]))
        for at in range(0, len(names), MAX_PARENTS)
    ]


def _is_on(drill: Drill, now_ms: int) -> bool:
    return drill.stopped_ms is None and now_ms < drill.end_ms


# --- what a drill has shown -------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Part:
    """What one device did: published, handed in, kept for others."""

    published: int = 0
    handed_in: int = 0
    kept: int = 0


@dataclass(frozen=True, slots=True)
class DrillReport:
    """What happened between the beginning and the end: in the school, and by device.

    `safe` are hand-ins of which another device had a copy, or the server, before the end; `waits_ms` how long each
    of them had waited for it, by the times of who signed.
    """

    drill: Drill
    published: int
    handed_in: int
    safe: int
    waits_ms: tuple[int, ...]
    parts: dict[bytes, Part]

    @property
    def median_ms(self) -> int | None:
        """The middle one of the waits."""
        ordered = sorted(self.waits_ms)
        middle = ordered[(len(ordered) - 1) // 2 : len(ordered) // 2 + 1]
        return sum(middle) // len(middle) if middle else None


async def drill_report(replica: Replica, drill: Drill, spaces: Iterable[bytes]) -> DrillReport:
    """The report of a drill, from what this replica holds of the school's spaces."""
    start_ms, end_ms = drill.start_ms, drill.end_ms
    parts: dict[bytes, Part] = {}
    published, works = 0, []
    for space in spaces:
        coursework = (await replica.view(space)).coursework
        for item in coursework.items.values():
            for version in item.versions.values():
                if start_ms <= version.at_ms <= end_ms:
                    published += 1
                    parts.setdefault(version.author, Part()).published += 1
        works += [work for work in coursework.hand_ins.values() if start_ms <= work.at_ms <= end_ms]
    waits = []
    for work in works:
        parts.setdefault(work.author, Part()).handed_in += 1
        kept_ms = _kept_ms(work, end_ms, parts)
        if kept_ms is not None:
            waits.append(max(0, kept_ms - work.at_ms))
    return DrillReport(drill, published, len(works), len(waits), tuple(sorted(waits)), parts)


def _kept_ms(work: Work, end_ms: int, parts: dict[bytes, Part]) -> int | None:
    """When a hand-in was first in somebody else's hands, by the end of the drill."""
    found = [witness for witness in work.witnesses if witness.at_ms <= end_ms]
    for witness in found:
        if witness.says is HandInState.SAFE:
            parts.setdefault(witness.by, Part()).kept += 1
    return min((witness.at_ms for witness in found), default=None)


def shown_report(report: DrillReport, school: str, names: Mapping[bytes, str | None], now_ms: int) -> dict[str, JSON]:
    """The report as both programs print it; `names` are those that devices gave themselves."""
    drill = report.drill
    ranked = sorted(report.parts.items(), key=lambda pair: (names.get(pair[0]) or "", pair[0]))
    return {
        "drill": drill.id.hex(),
        "school": school,
        "by": drill.by.hex(),
        "started": rfc3339(drill.start_ms),
        "ends": rfc3339(drill.end_ms),
        "planned_end": rfc3339(drill.planned_ms),
        "stopped": drill.end_ms < drill.planned_ms,
        "running": _is_on(drill, now_ms),
        "minutes": drill.minutes,
        "published": report.published,
        "handed_in": report.handed_in,
        "safe": report.safe,
        "waiting": report.handed_in - report.safe,
        "seconds_to_safe": {
            "median": None if report.median_ms is None else round(report.median_ms / 1000, 1),
            "longest": round(report.waits_ms[-1] / 1000, 1) if report.waits_ms else None,
        },
        "devices": [
            {
                "device": key.hex(),
                "name": names.get(key),
                "published": part.published,
                "handed_in": part.handed_in,
                "kept_for_others": part.kept,
            }
            for key, part in ranked
        ],
    }
