"""What a program tells the manager that started it, read at the other end of a real socket."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.replica.service import notify
from protocol.replica.service.notify import Notifier
from tests.harness.patience import PATIENCE_S


class Manager:
    """The socket that a service manager listens on."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)

    async def told(self) -> list[str]:
        async with asyncio.timeout(PATIENCE_S):
            return (await asyncio.get_running_loop().sock_recv(self._socket, 4096)).decode().splitlines()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
async def manager(tmp_path: Path) -> AsyncIterator[tuple[Manager, str]]:
    address = str(tmp_path / "notify")
    made = Manager(address)
    yield made, address
    made.close()


async def test_ready_signs_of_life_what_changes_and_the_end(
    manager: tuple[Manager, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    listening, address = manager
    asked = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "3000", "WATCHDOG_PID": str(os.getpid()), "HOME": "/"}
    notifier = Notifier.taken_from(asked, os.getpid())
    assert asked == {"HOME": "/"}, "no child may answer for it"
    status = "in step"
    async with notifier.telling(lambda: status, lambda: True):
        assert await listening.told() == ["READY=1", "STATUS=in step"]
        assert await listening.told() == ["WATCHDOG=1"]
        status = "the server cannot be reached"
        while (told := await listening.told()) == ["WATCHDOG=1"]:
            pass
        assert told == ["STATUS=the server cannot be reached"]
    while (told := await listening.told()) == ["WATCHDOG=1"]:
        pass
    assert told == ["STOPPING=1", "STATUS=stopping"]


async def test_without_a_watchdog_only_changes_are_told_and_a_failure_is_no_stop(
    manager: tuple[Manager, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "IDLE_LOOK_S", 0.001)
    listening, address = manager
    looked: list[int] = []

    def status() -> str:
        looked.append(len(looked))
        return "busy" if len(looked) > 3 else "in step"

    async with Notifier(address).telling(status, lambda: False):
        assert await listening.told() == ["READY=1", "STATUS=in step"]
        assert await listening.told() == ["STATUS=busy"]
    with pytest.raises(BlockingIOError):
        listening._socket.recv(4096)


async def test_who_was_not_asked_tells_nobody() -> None:
    silent = Notifier.taken_from({}, 1)
    assert silent == Notifier(None, None)
    async with silent.telling(lambda: "in step", lambda: True):
        silent.ready("in step")


@pytest.mark.parametrize("term", ["", "0", "-5", "soon", "٣"])
def test_a_term_that_is_no_number_asks_for_no_signs(term: str) -> None:
    assert Notifier.taken_from({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": term}, 1).watchdog_s is None


def test_a_term_for_another_process_is_not_ours() -> None:
    asked = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}
    assert Notifier.taken_from(dict(asked), 8).watchdog_s is None
    assert Notifier.taken_from(asked, 7).watchdog_s == 30.0


async def test_a_name_without_a_folder_is_reached_too_and_a_manager_that_went_away_stops_nothing(
    tmp_path: Path,
) -> None:
    name = f"relais-{os.getpid()}"
    listening = Manager(f"\0{name}")
    Notifier(f"@{name}").alive()
    assert await listening.told() == ["WATCHDOG=1"]
    listening.close()
    Notifier(f"@{name}").stopping()
