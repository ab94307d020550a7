"""Turn results.jsonl into RESULTS.md: the newest figure of every line, its goal beside it, under the conditions.

A line measured again replaces the older one, so that single rows can be run anew; figures of different runs are told
apart by the letter of their run.

usage: table.py [results.jsonl] [RESULTS.md]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.results import more_is_better

HERE: Final = Path(__file__).parent
_HEADINGS: Final = {
    "alone_ms": "alone, ms",
    "beside_ms": "beside them, ms",
    "ratio": "ratio",
    "wall_s": "wall, s",
    "exchange_s": "exchange, s",
    "client_cpu_s": "CPU client, s",
    "server_cpu_s": "CPU server, s",
    "cpu_s": "CPU, s",
    "cpu_ms": "CPU, ms",
    "later_cpu_s": "CPU after 10 s",
    "client_peak_bytes": "peak memory client",
    "server_peak_bytes": "peak memory server",
    "peak_bytes": "peak memory",
    "rss_bytes": "memory",
    "down_bytes": "bytes down",
    "up_bytes": "bytes up",
    "both_bytes": "bytes both ways",
    "floor_bytes": "what is new, zstd -19",
    "rsync_bytes": "rsync -az",
    "tls_bytes": "the same with TLS",
    "sent_bytes": "sent by the teacher, both ways",
    "publish_s": "publish, s",
    "publish_cpu_s": "CPU publish, s",
    "publish_peak_bytes": "peak memory publish",
    "prepared_bytes": "prepared",
    "prepare_s": "preparing, s",
    "prepare_cpu_s": "CPU preparing, s",
    "prepare_peak_bytes": "peak memory preparing",
    "later_bytes": "bytes after 10 s",
    "requests": "requests",
    "page_ms": "page, ms",
    "page_p95_ms": "page p95, ms",
    "page_cpu_ms": "page, CPU ms",
    "kept_page_ms": "page, survey kept, ms",
    "survey_ms": "survey, ms",
    "page_bytes": "page",
    "open_s": "start, s",
    "first_page_s": "first page, s",
    "every_class_s": "every class, s",
    "csv_s": "CSV, s",
    "csv_bytes": "CSV",
    "median_s": "median, s",
    "p95_s": "p95, s",
    "most_s": "longest, s",
    "copied_s": "copied in, s",
    "published_s": "published, s",
    "seen_s": "seen there, s",
    "files_bytes": "files",
    "reproduced_percent": "deflate bytes that unfold",
    "image_bytes": "images",
    "unfold_mb_per_s": "unfold, MB/s",
    "fold_mb_per_s": "fold, MB/s",
    "plain_zstd_bytes": "zstd -19",
    "inside_zstd_bytes": "zstd -19 of images",
    "megabytes_per_s": "MB/s",
    "entries_per_s": "entries/s",
    "entries_per_cpu_s": "entries per CPU second",
}
_KILO: Final = 1_000
_SMALL_BYTES: Final = 10_000


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a table as it was stored, and the run that it belongs to."""

    run: int
    what: str
    figures: Mapping[str, float | str]
    goals: Mapping[str, float]
    note: str


def cell(name: str, value: float | str) -> str:
    """A figure for people, by the unit in its name."""
    if isinstance(value, str):
        return value
    if name.endswith("_bytes"):
        return f"{value:,.0f} B" if value < _SMALL_BYTES else _large(value)
    if name.endswith("_percent"):
        return f"{value:.1f} %"
    if name.endswith("_mb_per_s"):
        return f"{value:.1f}"
    if name.endswith(("_per_s", "_per_cpu_s")) or name == "requests":
        return f"{value:,.0f}"
    return f"{value:.2f}"


def _large(size: float) -> str:
    return f"{size / 1e3:.1f} kB" if size < _KILO * _KILO else f"{size / 1e6:.1f} MB"


def write_tables(source: Path, target: Path) -> None:
    """Write the page."""
    runs: list[Mapping[str, str]] = []
    tables: dict[str, dict[str, Line]] = {}
    for text in source.read_text(encoding="utf-8").splitlines():
        record = json.loads(text)
        if record.pop("kind") == "conditions":
            runs.append(record)
        else:
            lines = tables.setdefault(record["table"], {})
            lines[record["what"]] = _line(len(runs) - 1, record)
    used = sorted({line.run for lines in tables.values() for line in lines.values()})
    letters = {run: "abcdefghijklmnopqrstuvwxyz"[place % 26] for place, run in enumerate(used)}
    parts = ["# Figures\n", "Made by `bench/table.py` from `results.jsonl`; how they are measured is in `README.md`.\n"]
    for title, lines in tables.items():
        parts += [f"## {title[0].upper()}{title[1:]}\n", *_table(lines.values(), letters if len(used) > 1 else {})]
    parts += ["## Conditions\n", *_conditions([(letters[run], runs[run]) for run in used])]
    target.write_text("\n".join(parts), encoding="utf-8")


def _line(run: int, record: Mapping[str, Any]) -> Line:
    return Line(run, record["what"], record["figures"], record["goals"], record["note"])


def _table(lines: Iterable[Line], letters: Mapping[int, str]) -> list[str]:
    listed = list(lines)
    names = [name for name in _HEADINGS if any(name in line.figures for line in listed)]
    rows = [f"| | {' | '.join(_HEADINGS[name] for name in names)} |", "|---|" + "---:|" * len(names)]
    for line in listed:
        run = f" ({letters[line.run]})" if letters else ""
        cells = [_with_goal(name, line) for name in names]
        rows.append(f"| {line.what}{run} | {' | '.join(cells)} |")
    notes = [f"{line.what}: {line.note}.  " for line in listed if line.note]
    return ["\n".join(rows) + "\n", *(["\n".join(notes) + "\n"] if notes else [])]


def _with_goal(name: str, line: Line) -> str:
    if name not in line.figures:
        return ""
    shown = cell(name, line.figures[name])
    if name not in line.goals:
        return shown
    return f"**{shown}** ({'≥' if more_is_better(name) else '≤'} {cell(name, line.goals[name])})"


def _conditions(runs: Sequence[tuple[str, Mapping[str, str]]]) -> list[str]:
    parts = []
    for letter, run in runs:
        rows = [f"- {name}: {value}" for name, value in run.items()]
        head = f"Run {letter}:\n\n" if len(runs) > 1 else ""
        parts.append(head + "\n".join(rows) + "\n")
    return parts


def main() -> None:
    """The command line."""
    given = [Path(word) for word in sys.argv[1:]]
    source = given[0] if given else HERE / "results.jsonl"
    write_tables(source, given[1] if len(given) > 1 else source.with_name("RESULTS.md"))


if __name__ == "__main__":
    main()
