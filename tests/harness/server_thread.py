"""The server's `run`, whole, in a thread of the test's process: as quick to start as it is, and seen by coverage."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from protocol.replica.service.notify import Notifier
from sync_server.config import RunConfig
from sync_server.service import run_server
from tests.harness.service_manager import ServiceManager


@contextmanager
def running_server(data_dir: Path) -> Iterator[str]:
    """Serve DIR while the context lasts; the URL. What the server fails with is raised at the end."""
    loop = asyncio.new_event_loop()
    stopping = asyncio.Event()
    failures: list[BaseException] = []
    manager = ServiceManager()

    def serve() -> None:
        config = RunConfig(data_dir, "127.0.0.1", 0, behind_proxy=False)
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(
                run_server(
                    config,
                    now_ms=lambda: time.time_ns() // 1_000_000,
                    entropy=os.urandom,
                    stopping=stopping,
                    notifier=Notifier(manager.address),
                )
            )
        except BaseException as failure:  # noqa: BLE001  (told to the test's thread)
            failures.append(failure)
        finally:
            loop.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with manager:
            yield manager.told()["STATUS"].removeprefix("serves on ")
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join()
    if failures:
        raise failures[0]
