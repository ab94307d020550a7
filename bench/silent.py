"""1,000 connections that say nothing, or not enough: how much they slow the sync of somebody who means well.

A process of its own keeps them open from four addresses, and opens each anew a second after the server has let it go.
The good client is a device that syncs with nothing new over a connection of its own each time, in rounds with and
without the silent ones, so that what else happens on the machine falls on both.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bench.relais import ROOT, School
from bench.results import Result, Setting
from protocol.messages.wire import SYNC_PATH
from tests.harness.raw_device import RawDevice

CONNECTIONS: Final = 1_000
ADDRESSES: Final = 4
ROUNDS: Final = 6
SYNCS: Final = 50
MOST: Final = 1.2
_TABLE: Final = "silent connections"
_HEAD: Final = f"POST {SYNC_PATH} HTTP/1.1\r\nHost: x\r\n"
SAID: Final = {
    "nothing": b"",
    "half a head": _HEAD.encode(),
    "a head and half a body": f"{_HEAD}Content-Length: 1000\r\n\r\nxx".encode(),
}


def measure(setting: Setting) -> Iterator[Result]:
    """One line for each thing that the silent ones say."""
    school = School.found(setting.work / "silent")
    space = school.add_class("CM1")
    with school.serving_alone():
        port = school.ports.server
        device = RawDevice(f"http://127.0.0.1:{port}")
        device.enroll(school.tell_server("invite", "--role", "machine", "--space", space)["code"])
        _median_ms(device)
        for said in SAID:
            yield _line(device, port, said)


def _line(device: RawDevice, port: int, said: str) -> Result:
    alone, beside = [], []
    for _ in range(ROUNDS):
        alone.append(_median_ms(device))
        with _silent(port, said):
            beside.append(_median_ms(device))
    figures = {"alone_ms": statistics.median(alone), "beside_ms": statistics.median(beside)}
    figures["ratio"] = statistics.median([slow / fast for slow, fast in zip(beside, alone, strict=True)])
    return Result(_TABLE, f"{CONNECTIONS:,} connections that say {said}", figures, {"ratio": MOST})


def _median_ms(device: RawDevice) -> float:
    took = []
    for _ in range(SYNCS):
        began = time.perf_counter()
        device.sync()
        took.append((time.perf_counter() - began) * 1_000)
    return statistics.median(took)


@contextmanager
def _silent(port: int, said: str) -> Iterator[None]:
    """The silent connections, open while the context lasts."""
    command = [sys.executable, "-m", "bench.silent", str(port), said]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None  # noqa: S101  (asked for)
            process.stdout.readline()
            yield
        finally:
            process.kill()


async def _attack(port: int, said: str) -> None:
    first = asyncio.Semaphore(0)

    async def one(number: int) -> None:
        counted = False
        while True:
            try:
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", port, local_addr=(f"127.0.0.{2 + number % ADDRESSES}", 0)
                )
                writer.write(SAID[said])
                if not counted:
                    first.release()
                    counted = True
                await reader.read()
                writer.close()
            except OSError:
                pass
            await asyncio.sleep(1.0)

    tasks = [asyncio.create_task(one(number)) for number in range(CONNECTIONS)]
    for _ in range(CONNECTIONS):
        await first.acquire()
    print("open", flush=True)
    await asyncio.gather(*tasks)


if __name__ == "__main__":
    asyncio.run(_attack(int(sys.argv[1]), sys.argv[2]))
