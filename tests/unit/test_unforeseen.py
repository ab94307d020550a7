"""What nobody foresaw ends no work of a daemon, and is not hidden."""

from __future__ import annotations

import asyncio
import logging

import pytest

from protocol.errors import Code, LocalFailure, PeerFault
from protocol.replica.process.unforeseen import FIRST_PAUSE_S, LONGEST_PAUSE_S, Unforeseen, enduring, lasting


class Work:
    """Fails as it is told, then ends."""

    def __init__(self, *failures: BaseException) -> None:
        self.failures = list(failures)
        self.pauses: list[float] = []
        self.noted = Unforeseen(lambda: 1_795_000_000_000)

    async def go(self) -> None:
        if self.failures:
            raise self.failures.pop(0)

    async def pause(self, delay_s: float) -> None:
        self.pauses.append(delay_s)

    async def endure(self) -> None:
        await enduring("the bells", self.go, self.noted, pause=self.pause)


async def test_work_begins_again_after_pauses_that_double_up_to_a_bound() -> None:
    work = Work(*[KeyError("Léa")] * 12, PeerFault(Code.MALFORMED, "nobody caught this"))
    await work.endure()
    assert work.pauses[:3] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S]
    assert max(work.pauses) == LONGEST_PAUSE_S
    assert len(work.pauses) == 13


async def test_each_bug_is_said_with_its_place_and_count_and_no_name(caplog: pytest.LogCaptureFixture) -> None:
    work = Work(KeyError("Léa"), KeyError("Tom"), ValueError("Zoé"))
    with caplog.at_level(logging.ERROR):
        await work.endure()
    assert work.noted.counts() == {"the bells": 3}
    assert {(met.what, met.count) for met in work.noted.rows()} == {("KeyError", 2), ("ValueError", 1)}
    assert all("test_unforeseen.py" in met.where and met.where.endswith(" go") for met in work.noted.rows())
    assert len(caplog.records) == 3, "each time"
    assert not any(name in caplog.text for name in ("Léa", "Tom", "Zoé"))
    assert work.noted.rows()[0].shown()["last"] == "2026-11-18T11:06:40.000Z"
    assert work.noted.is_fresh()
    assert not Unforeseen(int).is_fresh()


@pytest.mark.parametrize("failure", [LocalFailure(Code.STORAGE_FAILED, "the disk"), MemoryError()])
async def test_a_store_that_must_be_opened_again_and_memory_are_not_stumbled_over(failure: Exception) -> None:
    work = Work(failure)
    with pytest.raises(type(failure)):
        await work.endure()
    assert work.noted.rows() == []


async def test_work_that_lasts_is_ended_with_its_context() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def wait_for_ever() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with lasting("waiting", wait_for_ever, Unforeseen(int)):
        await begun.wait()
    assert ended.is_set()
