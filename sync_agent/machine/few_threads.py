"""How many threads a program of ours does its blocking work in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

_THREADS: Final = 3


def _nothing() -> None:
    """Nothing is to be prepared."""


def use_few_threads(prepare: Callable[[], None] = _nothing) -> None:
    """Let the running loop do its blocking work in few threads: the C library keeps memory for each that ever ran.

    Each calls `prepare` when it begins. Measured while 1 GiB is handed in: 117 MB at the usual six, 95 MB at three.
    """
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="relais", initializer=prepare)
    asyncio.get_running_loop().set_default_executor(pool)
