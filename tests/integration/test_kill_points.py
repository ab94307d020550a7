"""R8, shown at every write, flush and rename of a replica's working day: killed there, or failing there, it loses
nothing that it acknowledged, shows nothing half done, and goes on to the same end as if nothing had happened.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from protocol.errors import Code
from protocol.replica.storage.sqlite import DATABASE
from tests.harness.entries import OTHER_SPACE
from tests.harness.forks import Forks
from tests.harness.kill_points import (
    FLUSHES,
    WRITES,
    Outcome,
    Point,
    acknowledged,
    fault_at_every_point,
    kill_at_every_point,
    python_environment,
)
from tests.harness.replica_workload import (
    FAILED_STATUS,
    FOREIGN,
    FOREIGN_BYTES,
    INLINE,
    INLINE_BYTES,
    STEPS,
    Replica,
    check,
    live,
    state_of,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs strace")

COPIED_AGAIN = {".", DATABASE, f"{DATABASE}-wal"}
WORKLOAD = "tests.harness.replica_workload"


@pytest.fixture(scope="module")
def unharmed(tmp_path_factory: pytest.TempPathFactory) -> object:
    """The state at the end of a day without faults."""

    async def day() -> object:
        folder = tmp_path_factory.mktemp("unharmed")
        await live(folder)
        replica = await Replica.open(folder)
        try:
            return await state_of(replica)
        finally:
            await replica.close()

    return asyncio.run(day())


def test_a_replica_killed_at_any_call_loses_nothing_it_acknowledged(tmp_path: Path, unharmed: object) -> None:
    def after_each(folder: Path, _: Point, outcome: Outcome) -> None:
        asyncio.run(check(folder, acknowledged(outcome.lines), unharmed))

    with Forks(WORKLOAD, env=python_environment()) as program:
        assert kill_at_every_point(program, tmp_path / "replica", after_each) > 200


def test_a_start_after_a_crash_may_be_killed_at_any_call_too(tmp_path: Path, unharmed: object) -> None:
    template = tmp_path / "crashed"
    asyncio.run(crashed(template))

    def after_each(folder: Path, _: Point, __: Outcome) -> None:
        asyncio.run(check(folder, 4, unharmed, gone={INLINE}))

    with Forks(WORKLOAD, "0", env=python_environment()) as program:
        assert kill_at_every_point(program, tmp_path / "replica", after_each, template=template) > 10


async def crashed(folder: Path) -> None:
    """A folder in which crashes have left files without rows, rows without a file, and a passing file."""
    await live(folder, steps=4)
    replica = await Replica.open(folder)
    await replica.content.ingest(OTHER_SPACE, INLINE_BYTES)
    await replica.close()
    pack_file(folder, INLINE).unlink()
    pack_file(folder, FOREIGN).parent.mkdir(exist_ok=True)
    pack_file(folder, FOREIGN).write_bytes(FOREIGN_BYTES)
    (folder / "parts" / "1.passing").write_bytes(b"half a pack")


def pack_file(folder: Path, pack: bytes) -> Path:
    return folder / "packs" / pack[:1].hex() / f"{pack.hex()}.pack"


@pytest.mark.parametrize(
    ("fault", "calls", "lasting", "expected"),
    [
        ("error=EIO", (*WRITES, *FLUSHES), False, Code.STORAGE_FAILED),
        ("error=ENOSPC", WRITES, True, Code.DISK_FULL),
    ],
    ids=["broken", "full"],
)
def test_a_disk_that_fails_at_any_call_is_reported_and_loses_nothing(
    fault: str, calls: tuple[str, ...], lasting: bool, expected: Code, tmp_path: Path, unharmed: object
) -> None:
    def after_each(folder: Path, point: Point, outcome: Outcome) -> None:
        if outcome.status == 0:
            # at the end of the day: SQLite copies its log into the database again when it is opened next
            assert acknowledged(outcome.lines) == len(STEPS), (point, outcome)
            assert point.path in COPIED_AGAIN, (point, outcome)
        else:
            assert outcome.status == FAILED_STATUS, (point, outcome)
            assert outcome.lines[-1] == f"failed {expected}", (point, outcome)
        asyncio.run(check(folder, acknowledged(outcome.lines), unharmed))

    template = tmp_path / "opened"
    asyncio.run(opened_once(template))
    with Forks(WORKLOAD, env=python_environment()) as program:
        points = fault_at_every_point(
            program,
            tmp_path / "replica",
            after_each,
            fault=fault,
            calls=calls,
            lasting=lasting,
            template=template,
        )
    assert points > 100


async def opened_once(folder: Path) -> None:
    await (await Replica.open(folder)).close()
