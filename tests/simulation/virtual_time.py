"""An event loop whose time is a number: nothing sleeps, nothing waits for a thread, the order of events is fixed.

When no task can go on, time jumps to the next timer. When there is none either, the run has stalled, which is an error.
"""

from __future__ import annotations

import asyncio
from asyncio.base_events import BaseEventLoop
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

MAX_TURNS = 2_000_000


class Stalled(Exception):
    """Everybody waits and no timer is set, or the run does not end."""


class _Timers:
    """What the loop takes for a selector: no file ever becomes ready; to wait is to let time pass."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._turns = 0

    def select(self, timeout: float | None) -> list[object]:
        self._turns += 1
        if timeout is None:
            raise Stalled("every task waits, and no timer is set")
        if self._turns > MAX_TURNS:
            raise Stalled("the run does not end")
        self._loop.now_s += max(timeout, 0)
        return []


class VirtualLoop(BaseEventLoop):
    """See the module. `now_s` is the time that has passed."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self._selector = _Timers(self)

    def time(self) -> float:
        return self.now_s

    def run_in_executor(  # type: ignore[override]  # work for a thread is done at once
        self, executor: object, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        del executor
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 — handed on, as an executor does
            done.set_exception(error)
        return done

    def _process_events(self, event_list: list[object]) -> None:
        """No file is watched."""

    def _write_to_self(self) -> None:
        """There is no other thread to be woken by."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """The result of `main` in a loop of its own."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()
