"""The rhythm of syncs: rules tried as numbers, the loop tried with a clock that is told what time it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import BadInput, Code, LocalFailure, NoAnswer, PeerFault, Refused, RelaisError
from protocol.replica.process.unforeseen import Unforeseen
from sync_agent.config import POLL_FIRST_S, POLL_LAST_S, RunConfig
from sync_agent.machine.sync_result import SyncResult
from sync_agent.scheduler import JITTER_AFTER_BUSY_S, Draw, Outcome, Pace, Scheduler, next_pause, outcome_of, wait
from sync_agent.transport.over_http import CONNECT_S
from tests.harness.patience import PATIENCE_S

POLL = (POLL_FIRST_S, POLL_LAST_S)
UNREACHABLE = NoAnswer(Code.UNREACHABLE, "nobody")


def highest(_low: float, high: float) -> float:
    return high


def at(share: float) -> Draw:
    return lambda low, high: low + share * (high - low)


# --- rules ------------------------------------------------------------------------------------------------------------


def test_with_the_server_in_reach_news_is_learnt_within_10_s() -> None:
    _, pause = next_pause(Pace(), Outcome.DONE, None, 0, POLL, highest)
    assert pause.delay_s < 10


@given(st.floats(0, 300), st.lists(st.floats(0, 1), min_size=300, max_size=300))
def test_after_an_outage_under_five_minutes_an_agent_is_back_within_30_s(outage_s: float, draws: list[float]) -> None:
    pace, now = Pace(), 0.0
    for share in draws:
        # Each attempt takes as long as an attempt may: the address is there and says nothing.
        now += CONNECT_S
        if now - CONNECT_S >= outage_s:
            break
        pace, pause = next_pause(pace, Outcome.NO_ANSWER, None, now, POLL, at(share))
        now += pause.delay_s
    else:
        pytest.fail("no attempt after the outage")
    assert now - CONNECT_S - outage_s < 30


def test_a_thousand_agents_come_back_spread_over_the_whole_range() -> None:
    draws = [number / 999 for number in range(1_000)]
    pace = Pace(failures=10, failing_since_s=0)
    pauses = [next_pause(pace, Outcome.NO_ANSWER, None, 60, POLL, at(share))[1].delay_s for share in draws]
    assert min(pauses) < 0.1
    assert max(pauses) > 15


def test_pauses_grow_during_a_long_outage_and_end_with_it() -> None:
    pace, now = Pace(), 0.0
    for _ in range(200):
        pace, pause = next_pause(pace, Outcome.NO_ANSWER, None, now, POLL, highest)
        now += pause.delay_s
    assert pause.delay_s > 60
    pace, pause = next_pause(pace, Outcome.DONE, None, now, POLL, highest)
    assert (pace, pause.delay_s) == (Pace(), POLL_LAST_S)


@given(st.integers(0, 600), st.floats(0, 1))
def test_a_busy_servers_wish_is_kept_and_spread(retry_after_s: int, share: float) -> None:
    _, pause = next_pause(Pace(), Outcome.BUSY, retry_after_s, 0, POLL, at(share))
    assert pause.at_least_s == retry_after_s
    assert retry_after_s <= pause.delay_s <= retry_after_s + JITTER_AFTER_BUSY_S


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, Outcome.DONE),
        (UNREACHABLE, Outcome.NO_ANSWER),
        (NoAnswer(Code.BUSY, "later"), Outcome.BUSY),
        (Refused(Code.REVOKED, "no"), Outcome.REFUSED),
        (LocalFailure(Code.DISK_FULL, "full"), Outcome.FAILED),
        (PeerFault(Code.MALFORMED, "what"), Outcome.FAILED),
        (BadInput(Code.USAGE, "what"), Outcome.FAILED),
    ],
)
def test_every_error_has_its_outcome(error: RelaisError | None, outcome: Outcome) -> None:
    assert outcome_of(error) is outcome


def test_a_machine_that_was_shut_out_asks_rarely() -> None:
    pace = Pace()
    for _ in range(20):
        pace, pause = next_pause(pace, Outcome.REFUSED, None, 0, POLL, highest)
    assert pause.delay_s >= 300


def test_options_that_cannot_be_are_named_before_anything_is_opened() -> None:
    RunConfig(lan="192.168.1.4:8095", peers=("pc-3:8095", "[fe80::1]:8095")).check()
    for config, option in ((RunConfig(lan="pc"), "--lan"), (RunConfig(peers=("a:1", "b:x")), "--peer")):
        with pytest.raises(BadInput, match=option):
            config.check()


# --- the loop ---------------------------------------------------------------------------------------------------------


@dataclass
class Stage:
    """A scheduler whose syncs and pauses are scripted. A pause ends when `on_pause` says so."""

    results: list[SyncResult | RelaisError] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    syncs: list[bool] = field(default_factory=list)
    now: float = 0.0
    on_pause: Callable[[asyncio.Event, float], Awaitable[None]] | None = None
    on_sync: Callable[[], Awaitable[None]] | None = None

    def scheduler(self, unforeseen: Unforeseen | None = None) -> Scheduler:
        return Scheduler(
            self.sync,
            poll_s=POLL,
            monotonic=lambda: self.now,
            draw=highest,
            pause=self.pause,
            unforeseen=unforeseen,
        )

    async def sync(self, routine: bool) -> SyncResult:
        self.syncs.append(routine)
        if self.on_sync is not None:
            await self.on_sync()
        result = self.results.pop(0) if self.results else SyncResult(round_trips=1)
        if isinstance(result, RelaisError):
            raise result
        return result

    async def pause(self, event: asyncio.Event, delay_s: float) -> None:
        self.pauses.append(delay_s)
        self.now += delay_s
        if self.on_pause is not None:
            await self.on_pause(event, delay_s)


async def test_the_loop_follows_the_rules_and_stops_when_told() -> None:
    stage = Stage(results=[SyncResult(received=1), UNREACHABLE, UNREACHABLE, UNREACHABLE, SyncResult()])
    scheduler = stage.scheduler()

    async def on_pause(_event: asyncio.Event, _delay_s: float) -> None:
        if len(stage.pauses) == 5:
            scheduler.stop()

    stage.on_pause = on_pause
    await scheduler.run_forever()
    assert stage.pauses == [8, 2, 4, 8, 8]
    assert stage.syncs == [True] * 5


@pytest.mark.parametrize(("failures", "said"), [(1, "after 1 failure in"), (2, "after 2 failures in")])
async def test_the_log_counts_what_failed_before_the_server_was_reached_again(
    caplog: pytest.LogCaptureFixture, failures: int, said: str
) -> None:
    stage = Stage(results=[*[UNREACHABLE] * failures, SyncResult()])
    scheduler = stage.scheduler()

    async def on_pause(_event: asyncio.Event, _delay_s: float) -> None:
        if len(stage.pauses) > failures:
            scheduler.stop()

    stage.on_pause = on_pause
    with caplog.at_level("INFO", "sync_agent.scheduler"):
        await scheduler.run_forever()
    assert said in caplog.messages[-1]


async def test_an_error_that_nobody_foresaw_is_a_failed_sync_that_is_counted() -> None:
    stage, noted = Stage(), Unforeseen(int)
    scheduler = stage.scheduler(noted)

    async def bug() -> None:
        if len(stage.syncs) < 3:
            raise ZeroDivisionError
        scheduler.stop()

    stage.on_sync = bug
    await scheduler.run_forever()
    assert stage.pauses == [2, 4]
    assert noted.counts() == {"a sync with the server": 2}
    stage.syncs.clear()
    with pytest.raises(LocalFailure) as caught:
        await scheduler.sync_now()
    assert (caught.value.code, scheduler.outcome) == (Code.INTERNAL, Outcome.FAILED)
    with pytest.raises(ZeroDivisionError):
        await stage.scheduler().sync_now()


async def test_a_local_write_ends_the_pause_at_once() -> None:
    stage = Stage()
    scheduler = stage.scheduler()

    async def on_pause(event: asyncio.Event, _delay_s: float) -> None:
        if len(stage.pauses) == 2:
            scheduler.stop()
            return
        scheduler.wake()
        await asyncio.wait_for(event.wait(), PATIENCE_S)

    stage.on_pause = on_pause
    await scheduler.run_forever()
    assert len(stage.syncs) == 2


async def test_a_write_during_a_sync_brings_another_sync_without_a_pause() -> None:
    stage = Stage()
    scheduler = stage.scheduler()
    seen: list[bool] = []

    async def on_sync() -> None:
        if len(stage.syncs) == 1:
            scheduler.wake()

    async def on_pause(event: asyncio.Event, _delay_s: float) -> None:
        seen.append(event.is_set())
        if len(seen) == 2:
            scheduler.stop()

    stage.on_sync, stage.on_pause = on_sync, on_pause
    await scheduler.run_forever()
    assert seen == [True, False]


async def test_not_even_a_local_write_comes_before_the_time_that_a_busy_server_named() -> None:
    stage = Stage(results=[NoAnswer(Code.BUSY, "later", retry_after_s=30)])
    scheduler = stage.scheduler()

    async def on_pause(event: asyncio.Event, _delay_s: float) -> None:
        if len(stage.pauses) == 1:
            scheduler.wake()
            assert not event.is_set()
        elif len(stage.pauses) == 2:
            assert event.is_set()
        else:
            scheduler.stop()

    stage.on_pause = on_pause
    await scheduler.run_forever()
    assert stage.pauses[:2] == [30, JITTER_AFTER_BUSY_S]


async def test_a_command_that_comes_during_a_sync_gets_that_sync_and_one_of_its_own() -> None:
    stage = Stage(results=[SyncResult(received=5, round_trips=3), SyncResult(sent=1, round_trips=1)])
    scheduler = stage.scheduler()
    running, go_on = asyncio.Event(), asyncio.Event()

    async def on_sync() -> None:
        if len(stage.syncs) == 1:
            running.set()
            await go_on.wait()

    async def on_pause(_event: asyncio.Event, _delay_s: float) -> None:
        scheduler.stop()

    stage.on_sync, stage.on_pause = on_sync, on_pause
    loop = asyncio.create_task(scheduler.run_forever())
    await running.wait()
    command = asyncio.create_task(scheduler.sync_now())
    await asyncio.sleep(0)
    go_on.set()
    assert await command == SyncResult(received=5, sent=1, round_trips=4)
    await loop
    assert stage.syncs == [True, False]


async def test_a_command_gets_the_error_of_its_sync_and_the_loop_goes_on() -> None:
    stage = Stage(results=[UNREACHABLE])
    scheduler = stage.scheduler()
    with pytest.raises(NoAnswer):
        await scheduler.sync_now()
    assert await scheduler.sync_now() == SyncResult(round_trips=1)


async def test_a_store_that_failed_ends_the_loop_so_that_it_is_opened_again() -> None:
    stage = Stage(results=[LocalFailure(Code.DISK_FULL, "full"), LocalFailure(Code.STORAGE_FAILED, "broken")])
    with pytest.raises(LocalFailure) as raised:
        await stage.scheduler().run_forever()
    assert raised.value.code is Code.STORAGE_FAILED
    assert len(stage.syncs) == 2


async def test_a_pause_ends_with_its_event_or_its_time() -> None:
    event = asyncio.Event()
    await wait(event, 0)
    asyncio.get_running_loop().call_soon(event.set)
    await asyncio.wait_for(wait(event, 3_600), PATIENCE_S)


async def test_what_may_wait_a_moment_ends_the_pause_once_unless_a_sync_has_begun_meanwhile() -> None:
    stage = Stage()
    scheduler = stage.scheduler()

    async def on_pause(event: asyncio.Event, _delay_s: float) -> None:
        if len(stage.syncs) == 1:
            scheduler.wake_within(0.01)
            scheduler.wake_within(3600)
            await asyncio.wait_for(event.wait(), PATIENCE_S)
        elif len(stage.syncs) == 2:
            scheduler.wake_within(3600)
            scheduler.wake()
        else:
            scheduler.wake_within(0)
            await asyncio.wait_for(event.wait(), PATIENCE_S)
            scheduler.stop()

    stage.on_pause = on_pause
    await scheduler.run_forever()
    assert len(stage.syncs) == 3
