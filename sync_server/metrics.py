"""What Prometheus reads: counters that the listener moves, and gauges taken from the store when asked.

The text format is written here (Prometheus text exposition format 0.0.4): ten families do not need a library. No pupil,
no class and no device is named; a school is, by its UAI.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from protocol.replica.http.meter import Direction, Result

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
LAG_BUCKETS_S: Final = (1, 5, 15, 60, 300, 900, 3600, 6 * 3600, 24 * 3600, 7 * 24 * 3600)


class Counters:
    """What only grows while the process lives."""

    def __init__(self) -> None:
        self._sessions: Counter[Result] = Counter()
        self._bytes: Counter[Direction] = Counter()
        self._lag_buckets = [0] * (len(LAG_BUCKETS_S) + 1)
        self._lag_sum_s = 0.0

    def session(self, result: Result) -> None:
        """A sync call has ended."""
        self._sessions[result] += 1

    def moved(self, direction: Direction, size: int) -> None:
        """Bytes of messages or packs have gone one way."""
        self._bytes[direction] += size

    def lag(self, lag_ms: int) -> None:
        """A device holds all again that we hold, this long after it last did."""
        self._lag_buckets[bisect_left(LAG_BUCKETS_S, lag_ms / 1000)] += 1
        self._lag_sum_s += lag_ms / 1000

    def families(self) -> Iterator[Family]:
        """The counters as they stand."""
        yield Family(
            "relais_sync_sessions_total",
            "counter",
            "Sync calls by how they ended",
            [Sample({"result": result}, self._sessions[result]) for result in Result],
        )
        yield Family(
            "relais_sync_bytes_total",
            "counter",
            "Bytes of messages and packs",
            [Sample({"direction": way}, self._bytes[way]) for way in Direction],
        )
        yield Family(
            "relais_sync_lag_seconds",
            "histogram",
            "How long devices had not held everything, each time that one did again",
            list(self._lag_samples()),
        )

    def _lag_samples(self) -> Iterator[Sample]:
        total = 0
        for bound, count in zip((*LAG_BUCKETS_S, "+Inf"), self._lag_buckets, strict=True):
            total += count
            yield Sample({"le": str(bound)}, total, "_bucket")
        yield Sample({}, self._lag_sum_s, "_sum")
        yield Sample({}, total, "_count")


@dataclass(frozen=True, slots=True)
class Sample:
    """One line: labels, a number, and what is added to the family's name."""

    labels: Mapping[str, str]
    value: float
    ending: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """Lines of one name."""

    name: str
    kind: str
    help: str
    samples: Iterable[Sample]


def exposition(families: Iterable[Family]) -> str:
    """The text that Prometheus reads."""
    return "".join(f"{line}\n" for family in families for line in _lines(family))


def _lines(family: Family) -> Iterator[str]:
    yield f"# HELP {family.name} {family.help}"
    yield f"# TYPE {family.name} {family.kind}"
    for sample in family.samples:
        labels = ",".join(f'{key}="{_escaped(value)}"' for key, value in sample.labels.items())
        yield f"{family.name}{sample.ending}{'{' + labels + '}' if labels else ''} {_number(sample.value)}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
