"""What is written behind who gathers it: all of it, in order, one write at a time, and what went wrong is told once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_agent.machine.write_behind import Behind, WriteBehind


class Disk:
    """Keeps what is written; a write ends when the test lets it, and fails when the test says so."""

    def __init__(self, *, open_gate: bool = True) -> None:
        self.kept = b""
        self.begun: list[int] = []
        self.gate = asyncio.Event()
        self.fails = False
        if open_gate:
            self.gate.set()

    async def write(self, data: memoryview) -> None:
        assert len(self.begun) < 1 or self.begun[-1] == 0, "one write at a time"
        self.begun.append(len(data))
        await self.gate.wait()
        if self.fails:
            raise OSError
        self.kept += bytes(data)
        self.begun[-1] = 0


def behind(disk: Disk) -> WriteBehind:
    return WriteBehind(disk.write, least_bytes=4, most_bytes=16)


@given(st.lists(st.binary(max_size=40)), st.sets(st.integers(0, 10)))
async def test_all_that_was_given_is_written_in_order_whatever_pieces_it_came_in(
    pieces: list[bytes], settled: set[int]
) -> None:
    disk = Disk()
    writing = behind(disk)
    for number, piece in enumerate(pieces):
        await writing.add(piece)
        if number in settled:
            await writing.settle()
            assert disk.kept == b"".join(pieces[: number + 1])
    await writing.settle()
    assert disk.kept == b"".join(pieces)


async def test_what_gathers_while_something_is_written_leaves_that_alone() -> None:
    disk = Disk(open_gate=False)
    writing = behind(disk)
    await writing.add(b"abcdef")
    await asyncio.sleep(0)
    assert disk.begun == [4]
    await writing.add(b"ghijkl")  # fills the other memory while the first write waits
    disk.gate.set()
    await writing.settle()
    assert disk.kept == b"abcdefghijkl"


async def test_who_gives_more_than_both_memories_hold_waits_for_the_disk() -> None:
    disk = Disk(open_gate=False)
    writing = behind(disk)
    adding = asyncio.ensure_future(writing.add(bytes(100)))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not adding.done()
    assert disk.begun == [4]
    disk.gate.set()
    await adding
    await writing.settle()
    assert disk.kept == bytes(100)


async def test_a_write_that_fails_is_told_once_and_no_other_follows_by_itself() -> None:
    disk = Disk()
    disk.fails = True
    writing = behind(disk)
    with pytest.raises(OSError):  # noqa: PT011 — Disk raises no other
        await writing.add(bytes(100))
    assert disk.begun == [4]
    await writing.leave()
    assert disk.kept == b""


async def test_who_leaves_waits_for_the_write_under_way_and_hears_nothing_of_it() -> None:
    disk = Disk(open_gate=False)
    disk.fails = True
    writing = behind(disk)
    await writing.add(b"abcdef")
    leaving = asyncio.ensure_future(writing.leave())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not leaving.done()
    disk.gate.set()
    await leaving
    await writing.settle()
    assert disk.begun == [4], "what only gathered is gone"


def work_that(did: list[str]) -> Callable[[str], Coroutine[object, object, None]]:
    async def does(name: str) -> None:
        did.append(name)
        if name == "fails":
            raise OSError

    return does


async def test_work_begins_after_that_before_it_and_not_at_all_where_that_failed() -> None:
    did: list[str] = []
    does, working = work_that(did), Behind()
    await working.begin(does("first"))
    await working.begin(does("fails"))
    assert did == ["first"]
    with pytest.raises(OSError):  # noqa: PT011 — no other is raised
        await working.begin(does("never"))
    await working.settle()
    assert did == ["first", "fails"]
    await working.begin(does("again"))
    await working.settle()
    assert did == ["first", "fails", "again"]


async def test_whoever_leaves_work_that_was_cancelled_is_not_cancelled() -> None:
    working = Behind()
    await working.begin(asyncio.Event().wait())  # type: ignore[arg-type]
    assert working._task is not None
    working._task.cancel()
    await working.leave()
