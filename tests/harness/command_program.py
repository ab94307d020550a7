"""A command of one of the two programs, for `tests.harness.forks`: killed where a test wishes."""

from __future__ import annotations

from pathlib import Path

from tests.harness.prepared import loaded


def prepare(program: str, *_: str) -> None:
    """Load what the command needs, once for all runs."""
    loaded(program)


def run(folder: Path, program: str, *words: str) -> int:
    """`sync-agent WORDS… --data FOLDER --json`, or the server's; the exit status."""
    try:
        return loaded(program)([*words, "--data", str(folder), "--json"])
    except SystemExit as ended:
        return int(ended.code or 0)
