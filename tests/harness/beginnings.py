"""Where what many tests begin with lies: made once by each process that tests, and copied for each test."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from itertools import count
from pathlib import Path

_NUMBERS = count(1)


def new_place() -> Path:
    """A folder of its own that is there until this process ends."""
    place = _root() / str(next(_NUMBERS))
    place.mkdir()
    return place


@cache
def _root() -> Path:
    root = Path(tempfile.mkdtemp(prefix="relais-beginnings-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return root
