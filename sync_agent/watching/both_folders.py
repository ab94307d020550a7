"""What people see of DIR while `run` is up: publish/, which is watched, and coursework/, which is kept in step.

A device that may publish nowhere watches nothing, and does not load what watches; rights may come with any sync.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from protocol.errors import Code, LocalFailure
from sync_agent.app import Agent
from sync_agent.coursework.materializer import Materializer
from sync_agent.machine.sync_result import SyncResult
from sync_agent.watching.folders import publishing_folders

if TYPE_CHECKING:
    from sync_agent.watching.watcher import Watcher

NEWS_S: Final = 5.0
"""A long sync shows what has arrived so often."""


class Folders:
    """The tasks that look after both. `run` ends only by being cancelled, or by a failure of the store."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._watcher: Watcher | None = None
        self._rights = asyncio.Event()
        self._tree = Materializer(agent)
        agent.on_watch = lambda: self._watch_again(everything=True)

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
                self._watch_again()
        return syncing.result()

    async def shown_after(self, sync: Coroutine[Any, Any, SyncResult]) -> SyncResult:
        """Let a command's sync run; when it returns, what came is shown."""
        result = await sync
        await self._tree.refresh(thorough=False)
        return result

    async def run(self) -> None:
        """Look after both. Raises `LocalFailure(STORAGE_FAILED)` when the store must be opened again."""
        tasks = [asyncio.create_task(work) for work in (self._watch(), self._tree.run())]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self) -> None:
        while not await self._may_publish():
            await self._rights.wait()
        from sync_agent.watching.watcher import Watcher  # noqa: PLC0415 — a pupils' PC does not need it

        self._watcher = Watcher(self._agent)
        await self._watcher.run()

    async def _may_publish(self) -> bool:
        self._rights.clear()
        try:
            return bool(await publishing_folders(self._agent))
        except LocalFailure as failure:
            if failure.code is Code.STORAGE_FAILED:
                raise
            return True  # the watcher says what is wrong, and tries again

    def _watch_again(self, *, everything: bool = False) -> None:
        if self._watcher is None:
            self._rights.set()
        else:
            self._watcher.wake(everything=everything)
