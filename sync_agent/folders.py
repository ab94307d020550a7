"""What people see of DIR while `run` is up: publish/, which is watched, and coursework/, which is kept in step."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, Final

from sync_agent.app import Agent
from sync_agent.materializer import Materializer
from sync_agent.sync_result import SyncResult
from sync_agent.watcher import Watcher

NEWS_S: Final = 5.0
"""A long sync shows what has arrived so often."""


class Folders:
    """The tasks that look after both. `run` ends only by being cancelled, or by a failure of the store."""

    def __init__(self, agent: Agent) -> None:
        self._watcher = Watcher(agent)
        self._tree = Materializer(agent)
        agent.on_watch = lambda: self._watcher.wake(everything=True)

    def changed_here(self) -> None:
        """This device has written something."""
        self._tree.wake()

    async def following(self, sync: Coroutine[Any, Any, SyncResult]) -> SyncResult:
        """Let a sync run, and show what it brings."""
        syncing = asyncio.ensure_future(sync)
        try:
            while not (await asyncio.wait((syncing,), timeout=NEWS_S))[0]:
                self._tree.wake()
        finally:
            if not syncing.done():
                syncing.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await syncing
            if syncing.cancelled() or syncing.exception() is not None or not syncing.result().is_quiet:
                self._tree.wake()
                self._watcher.wake()
        return syncing.result()

    async def shown_after(self, sync: Coroutine[Any, Any, SyncResult]) -> SyncResult:
        """Let a command's sync run; when it returns, what came is shown."""
        result = await sync
        await self._tree.refresh(thorough=False)
        return result

    async def run(self) -> None:
        """Look after both. Raises `LocalFailure(STORAGE_FAILED)` when the store must be opened again."""
        tasks = [asyncio.create_task(work) for work in (self._watcher.run(), self._tree.run())]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
