"""R8 when the power goes: whatever a disk holds then, nothing that was acknowledged is lost, nothing is half done.

`python -m tests.integration.test_power_loss 10000` tries that many images of one working day.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path
from random import Random

import pytest

from protocol.errors import RelaisError
from tests.harness.forks import Forks
from tests.harness.kill_points import python_environment
from tests.harness.power_loss import Op, acknowledged_before, images, recorded, write_image
from tests.harness.replica_workload import STEPS, Replica, check, live, state_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs strace")

IMAGES_IN_CI = 120


async def unharmed_day(folder: Path) -> object:
    """The state at the end of a day without faults."""
    await live(folder)
    replica = await Replica.open(folder)
    try:
        return await state_of(replica)
    finally:
        await replica.close()


def calls_of_a_day(folder: Path) -> list[Op]:
    """What a replica's working day does to the disk."""
    with Forks("tests.harness.replica_workload", env=python_environment(), at_once=1) as program:
        return recorded(program, folder)


def try_images(ops: list[Op], count: int, work: Path, unharmed: object) -> None:
    """`count` images, spread over all calls."""
    random = Random(count)
    for number in range(count):
        after = number * len(ops) // count + 1
        states = images(ops, after, random)
        image = next(states)
        for _ in range(number % 7):
            image = next(states)
        folder = work / str(number)
        write_image(image, folder)
        try:
            asyncio.run(check(folder, acknowledged_before(ops, after), unharmed))
        except BaseException as broken:
            broken.add_note(f"image {number} of {count}, after call {after} of {len(ops)}: {ops[after - 1]!r:.200}")
            raise
        shutil.rmtree(folder)


def test_whatever_the_disk_holds_after_a_power_cut_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    ops = calls_of_a_day(tmp_path / "day")
    unharmed = asyncio.run(unharmed_day(tmp_path / "unharmed"))
    assert acknowledged_before(ops, len(ops)) == len(STEPS)
    try_images(ops, IMAGES_IN_CI, tmp_path, unharmed)


def test_a_store_that_does_not_flush_is_found_out(tmp_path: Path) -> None:
    ops = [op for op in calls_of_a_day(tmp_path / "day") if op.what != "flush"]
    unharmed = asyncio.run(unharmed_day(tmp_path / "unharmed"))
    with pytest.raises((AssertionError, RelaisError)):
        try_images(ops, IMAGES_IN_CI, tmp_path, unharmed)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        day = calls_of_a_day(Path(name) / "day")
        try_images(day, int(sys.argv[1]), Path(name), asyncio.run(unharmed_day(Path(name) / "unharmed")))
        print(f"{sys.argv[1]} images of {len(day)} calls: nothing lost")  # noqa: T201
