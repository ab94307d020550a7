"""Whoever leaves an SQLite connection open fails a test on every Python, and reads which test had opened it.

From 3.13 on Python warns of such a connection once it is found to be garbage: in a later test, which has nothing to do
with it. Before, it says nothing.
"""

from __future__ import annotations

import os
import sqlite3
import warnings
from functools import partial
from typing import Any


class _Opened(sqlite3.Connection):
    """A connection that knows for which test, and of which file, it was made."""

    def __init__(self, database: Any, **settings: Any) -> None:
        self._left_by: str | None = f"{os.environ.get('PYTEST_CURRENT_TEST')} left {database} open"
        super().__init__(database, **settings)

    def close(self) -> None:
        super().close()
        self._left_by = None

    def __del__(self) -> None:
        if self._left_by is not None:
            warnings.warn(self._left_by, ResourceWarning, stacklevel=1, source=self)


def tell_of_open_connections() -> None:
    """In this process."""
    vars(sqlite3)["connect"] = partial(sqlite3.connect, factory=_Opened)
