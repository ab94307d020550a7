"""What is told of content on its way, and in which order it is fetched."""

from __future__ import annotations

import asyncio

from protocol.folds.coursework import Item, Version, in_order_of_need
from protocol.model.work import ContentRef, ItemKind, Revision
from sync_agent.machine.progress import TransferProgress, telling


def moving(seconds: int, bytes_per_s: int, of_bytes: int) -> TransferProgress:
    progress = TransferProgress()
    progress.begin(of_bytes, sends=False)
    for second in range(seconds + 1):
        progress.note(bytes_per_s if second else 0, float(second))
    return progress


def test_nothing_on_its_way_is_nothing_to_tell() -> None:
    progress = TransferProgress()
    assert (progress.shown(), progress.sentence()) == (None, None)
    progress.begin(10, sends=True)
    progress.end()
    assert (progress.shown(), progress.sentence()) == (None, None)


def test_no_time_is_promised_before_there_is_something_to_judge_from() -> None:
    assert moving(2, 100_000, 9_000_000).sentence() == "fetching: 200 kB of 9.0 MB"


def test_the_time_that_is_left_follows_from_the_pace() -> None:
    progress = moving(10, 100_000, 9_000_000)
    assert progress.sentence() == "fetching: 1.0 MB of 9.0 MB, about 80 s left"
    assert progress.shown() == {"way": "fetch", "bytes": 1_000_000, "of": 9_000_000, "seconds_left": 80}
    assert moving(10, 10_000, 9_000_000).sentence() == "fetching: 100 kB of 9.0 MB, about 15 min left"


def test_a_line_that_becomes_slow_is_believed_within_half_a_minute() -> None:
    progress = moving(60, 1_000_000, 100_000_000)
    for second in range(61, 100):
        progress.note(1_000, float(second))
    left = progress.seconds_left
    assert left is not None
    assert left > 30_000


def test_a_line_that_stands_still_promises_nothing() -> None:
    progress = moving(5, 0, 1_000)
    assert progress.seconds_left is None
    assert progress.sentence() == "fetching: 0 kB of 1 kB"


def test_more_than_was_announced_is_never_shown() -> None:
    assert moving(10, 1_000, 5_000).shown() == {"way": "fetch", "bytes": 5_000, "of": 5_000, "seconds_left": 0}


async def test_who_waits_gets_the_result_and_the_telling_ends_with_it() -> None:
    lines: list[str] = []

    async def tell(line: str) -> None:
        lines.append(line)

    async def work() -> int:
        return 7

    assert await telling(work(), TransferProgress(), tell) == 7
    assert lines == []
    assert len(asyncio.all_tasks()) == 1


def item(name: int, due_ms: int | None, size: int) -> Item:
    record = Revision(ItemKind.LESSON, "t", None, due_ms, ContentRef(bytes(32), size, 1))
    head = Version(bytes([name]) * 32, bytes(32), 0, record, ())
    return Item(
        head.id, bytes(32), (head,), (head.id,), {head.id: head}, withdrawn=False, switches=(), clock_doubtful=False
    )


def test_what_is_due_soonest_comes_first_then_small_before_large() -> None:
    items = [item(1, None, 10), item(2, 2_000, 99), item(3, None, 5), item(4, 1_000, 500), item(5, 1_000, 50)]
    assert [found.id[0] for found in in_order_of_need(items)] == [5, 4, 2, 3, 1]
