from __future__ import annotations

from protocol.replica.http.meter import Direction, Result, result_of
from sync_server.metrics import Counters, Family, Sample, exposition


def test_the_text_is_what_prometheus_reads() -> None:
    family = Family("relais_x", "gauge", "What it is", [Sample({}, 2), Sample({"school": 'a"b\\c\nd'}, 1.5)])
    assert exposition([family]) == (
        '# HELP relais_x What it is\n# TYPE relais_x gauge\nrelais_x 2\nrelais_x{school="a\\"b\\\\c\\nd"} 1.5\n'
    )


def test_the_buckets_of_the_lag_add_up() -> None:
    counters = Counters()
    for lag_ms in (0, 1_000, 1_001, 30 * 24 * 3600 * 1000):
        counters.lag(lag_ms)
    text = exposition(counters.families())
    assert 'relais_sync_lag_seconds_bucket{le="1"} 2\n' in text
    assert 'relais_sync_lag_seconds_bucket{le="5"} 3\n' in text
    assert 'relais_sync_lag_seconds_bucket{le="604800"} 3\n' in text
    assert 'relais_sync_lag_seconds_bucket{le="+Inf"} 4\n' in text
    assert "relais_sync_lag_seconds_count 4\n" in text


def test_calls_are_counted_by_how_they_ended() -> None:
    counters = Counters()
    for status in (200, 200, 421, 403, 503, 500, 413):
        counters.session(result_of(status))
    counters.moved(Direction.OUT, 10)
    text = exposition(counters.families())
    counts = {result: int(text.split(f'{{result="{result}"}} ')[1].split("\n")[0]) for result in Result}
    assert counts == {"ok": 2, "stranger": 1, "refused": 1, "busy": 1, "failed": 2}
    assert 'relais_sync_bytes_total{direction="out"} 10\n' in text
