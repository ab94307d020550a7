"""Measure the rows of the README's figures, the peers in the same run; write results.jsonl, then RESULTS.md from it.

usage: run.py [ROW…] [--corpus DIR] [--corpus-label TEXT] [--work DIR] [--out FILE] [--rest SECONDS]

Rows: first-sync quiet silent admission roster at-rest start health-page watched-folder courier lan reconcile reborn
reflate sealing transfer film; all when none is named. `--corpus` (may be repeated) adds a catalogue of your own to
first-sync and reflate; transfer measures those instead of generated ones: over a thin line what has 40 MB at most,
edits in what is larger. Exit code 1 if a goal was missed.
"""

from __future__ import annotations

import argparse
import compileall
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench import (
    admission,
    at_rest,
    courier,
    film,
    first_sync,
    health_page,
    lan,
    quiet,
    reborn,
    reconcile,
    reflate,
    results,
    roster,
    sealing,
    silent,
    start,
    transfer,
    watched_folder,
)
from bench.corpus import measure as size_of
from bench.corpus import write_corpus
from bench.results import Catalogue, Result, Row, Setting
from bench.table import cell, write_tables

HERE: Final = Path(__file__).parent
PROGRAMS: Final = ("protocol", "sync_agent", "sync_server")
CACHE: Final = Path.home() / ".cache" / "relais-bench"
ROWS: Final[Mapping[str, Row]] = {
    "first-sync": first_sync.measure,
    "quiet": quiet.measure,
    "silent": silent.measure,
    "admission": admission.measure,
    "roster": roster.measure,
    "at-rest": at_rest.measure,
    "start": start.measure,
    "health-page": health_page.measure,
    "watched-folder": watched_folder.measure,
    "courier": courier.measure,
    "lan": lan.measure,
    "reconcile": reconcile.measure,
    "reborn": reborn.measure,
    "reflate": reflate.measure,
    "sealing": sealing.measure,
    "transfer": transfer.measure,
    "film": film.measure,
}


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; all when none is named")
    parser.add_argument("--corpus", type=Path, action="append", default=[], help="a further catalogue; may be repeated")
    parser.add_argument("--corpus-label", default="your own catalogue", help="what to call them")
    parser.add_argument("--work", type=Path, default=CACHE, help="where to work; 4 GB, on a real disk")
    parser.add_argument("--out", type=Path, default=HERE / "results.jsonl", help="where the figures go")
    parser.add_argument("--rest", type=float, default=60.0, help="seconds at rest")
    chosen = parser.parse_args()
    unknown = [name for name in chosen.rows if name not in ROWS]
    if unknown:
        parser.error(f"no such row: {', '.join(unknown)}")
    for program in PROGRAMS:  # as pip installs them, even where Python is told to write no bytecode by itself
        compileall.compile_dir(HERE.parent / program, quiet=1)
    catalogues = [_generated(chosen.work)]
    for corpus in (named.resolve() for named in chosen.corpus):
        named = f"{chosen.corpus_label}, {_size(corpus)}, published as one item"
        catalogues.append(Catalogue(named, corpus, ((corpus.name, corpus),)))
    if not chosen.rows:
        chosen.out.unlink(missing_ok=True)
    setting = Setting(chosen.work.resolve(), tuple(catalogues), chosen.rest)
    results.append(chosen.out, "conditions", results.conditions())
    met = True
    for name in chosen.rows or ROWS:
        began = time.monotonic()
        for result in ROWS[name](setting):
            met = _report(chosen.out, result) and met
        print(f"   row {name}: {time.monotonic() - began:.0f} s, load {os.getloadavg()[0]:.1f}", flush=True)
    write_tables(chosen.out, chosen.out.with_name("RESULTS.md"))
    return 0 if met else 1


def _generated(work: Path) -> Catalogue:
    folder = work.resolve() / "catalogue"
    write_corpus(folder)
    courses = tuple((course.name, course) for course in sorted(folder.iterdir()))
    return Catalogue(f"the generated catalogue, {_size(folder)}, {len(courses)} items", folder, courses)


def _size(folder: Path) -> str:
    files, size = size_of(folder)
    return f"{size / 1e6:.0f} MB, {files:,} files"


def _report(out: Path, result: Result) -> bool:
    results.append(out, "result", result)
    figures = ", ".join(f"{name} {cell(name, value)}" for name, value in result.figures.items())
    missed = result.missed()
    print(f"{result.table} · {result.what}: {figures}{'   MISSED: ' + ', '.join(missed) if missed else ''}", flush=True)
    return not missed


if __name__ == "__main__":
    sys.exit(main())
