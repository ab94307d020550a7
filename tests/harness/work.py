"""How much a program works, told without a clock: the lines of ours that it runs, each pass of a loop anew.

Time says how busy the machine is that runs the tests; this is the same everywhere. What hostile entries cost may only
grow as they do: `assert_grows_as_its_entries` compares as many, twice as many, and none.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import protocol

_ROOMS = ("protocol", "sync_agent", "sync_server")
_COUNTED = tuple(str(Path(protocol.__file__).parents[1] / room) for room in _ROOMS)


@dataclass
class Work:
    """What was counted."""

    lines: int = 0


@contextmanager
def counted_work() -> Iterator[Work]:
    """Count what is run inside, in functions that are entered inside."""
    work = Work()

    def on_line(_frame: FrameType, event: str, _about: Any) -> Any:
        work.lines += event == "line"
        return on_line

    def on_call(frame: FrameType, _event: str, _about: Any) -> Any:
        return on_line if frame.f_code.co_filename.startswith(_COUNTED) else None

    before = sys.gettrace()
    sys.settrace(on_call)
    try:
        yield work
    finally:
        sys.settrace(before)


def assert_grows_as_its_entries(without: int, some: int, twice: int) -> None:
    """What the second half has cost is what the first has, or not much more; where it is the square, it is thrice."""
    first, second = some - without, twice - some
    assert second <= 1.3 * first, f"{first} lines for as many entries, {second} for as many more"
