"""A disk that fails, as the system says it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def failing(error: int) -> object:
    """What stands for a call of the system that fails with this number."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error))

    return fail


def failing_to_open(error: int, suffix: str) -> object:
    """What stands for `Path.open` and fails with this number for files with this suffix."""
    opened = Path.open

    def fail(path: Path, *options: Any, **named: Any) -> object:
        if path.suffix == suffix:
            raise OSError(error, os.strerror(error))
        return opened(path, *options, **named)

    return fail


@contextmanager
def unreadable(file: Path) -> Iterator[None]:
    """Something else lies in its place meanwhile."""
    aside = file.rename(file.with_name("aside"))
    file.mkdir()
    yield
    file.rmdir()
    aside.rename(file)
