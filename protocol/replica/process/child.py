"""A Python process of ours beside this one: how it is started, so that nothing but our own code runs in it.

Rules:
- the interpreter is isolated (`-I`): neither the folder in which somebody happens to stand, nor `PYTHON…` variables,
  nor a person's own packages come before the library. `python -m` alone looks into the current folder first, and a
  pupil's file `json.py` in it would run as whoever opened the work;
- where this process found its modules, the other finds them too, after all that an isolated one finds by itself;
- it stands in the folder of our own code, never in the caller's: Windows looks for libraries there as well.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

STANDS_IN: Final = str(Path(__file__).resolve().parent)
"""The folder in which such a process stands."""

_START: Final = (
    "import runpy, sys; sys.path += [path for path in sys.argv[2:] if path not in sys.path]; del sys.argv[2:]; "
    "runpy.run_module(sys.argv[1], run_name='__main__', alter_sys=True)"
)
_NEEDED: Final = frozenset({"SYSTEMROOT", "TEMP", "TMP", "TZ", "LD_LIBRARY_PATH"})


def starting(module: str) -> list[str]:
    """The command that runs one of our modules as a program."""
    return [sys.executable, "-I", "-c", _START, module, *(path for path in sys.path if Path(path).is_absolute())]


def bare_environment(ours: Mapping[str, str]) -> dict[str, str]:
    """Of this process's variables those alone without which an interpreter does not run, or does not know the hour."""
    return {name: value for name, value in ours.items() if name.upper() in _NEEDED}
