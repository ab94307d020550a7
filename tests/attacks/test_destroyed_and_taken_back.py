"""What a thief has had destroyed at the server, and the honest server's own word (docs/attacks.md)."""

from __future__ import annotations

from pathlib import Path

from protocol.clock import DAY_MS
from protocol.limits import SINCE_REACHES_MS
from protocol.model.entry import Kind
from protocol.model.structure import Erasure
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.upkeep.eraser import Eraser
from protocol.replica.upkeep.pace import Pace
from sync_server.handlers.record.destroying import destroy_what_is_due
from sync_server.handlers.record.erasures import confirm_destroyed
from tests.attacks.test_whose_a_device_is_at_a_server import Thieving
from tests.harness.attack import attack
from tests.harness.kept_town import town_at_work
from tests.harness.year_at_work import Year

ROW = "what a thief had destroyed becomes the server's own word"
HOUR_MS = 3_600_000


@attack(ROW, off={"sync_server.handlers.record.erasures.SINCE_REACHES_MS": 0})
async def test_whom_a_thief_had_destroyed_at_the_server_is_back_from_a_pc_that_was_off(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__, in_step=True) as (here, at_work):
        thieving = Thieving(Year(here, *at_work, tmp_path))
        office, pc = here.office, at_work.machine
        work = bytes.fromhex(await thieving.year.work())
        await thieving.is_stolen()
        lea, territory = bytes.fromhex(at_work.pupil), office.server.replica.territory
        await thieving.brings(Kind.ERASE, Erasure(lea).encode(), space=territory)
        eraser = Eraser(office.server.replica, office.server.holdings)

        async def runs_for(ms: int) -> None:
            await eraser.sweep(office.clock())
            await confirm_destroyed(office.server, office.clock())
            await note_arrivals(office.server.store, office.clock())
            office.clock.advance(ms)

        for _ in range(9):
            await runs_for(DAY_MS)
        assert [row["state"] for row in await office.do("erasures")] == ["destroyed"]
        await thieving.year.with_kit("rotate server")
        await runs_for(HOUR_MS)
        ago_s = (office.clock() - thieving.stolen_ms) // 1000 - 60
        await thieving.year.with_kit("rotate server", since=f"{ago_s}s")
        await runs_for(HOUR_MS)
        for _ in range(3):
            await here.sync()
        assert (await office.do("status"))["erasures_held_back"] == 1
        assert "Léa" in await thieving.year.names(pc)
        await here.days_pass(9)
        kept = (await pc.agent.replica.store.get([work]))[work]
        assert kept.payload is not None


def _by_the_own_clock(_before_ms: int, wall_ms: int, _steady_ms: int | None) -> tuple[int, int]:
    return wall_ms, 0


@attack(ROW, off={"protocol.replica.upkeep.pace.reckoned": _by_the_own_clock})
async def test_no_clock_that_leaps_ahead_makes_it_the_servers_word_before_its_time(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__, in_step=True) as (here, at_work):
        thieving, steady_ms = Thieving(Year(here, *at_work, tmp_path)), 0
        office = here.office
        await thieving.is_stolen()
        lea, territory = bytes.fromhex(at_work.pupil), office.server.replica.territory
        await thieving.brings(Kind.ERASE, Erasure(lea).encode(), space=territory)
        eraser = Eraser(office.server.replica, office.server.holdings)
        pace = Pace(eraser, lambda: (office.clock(), steady_ms))

        async def days_that_confirm(days: int) -> list[int]:
            """On which of so many days the server says it as its own."""
            nonlocal steady_ms
            found = []
            for day in range(days):
                looked = await pace.look()
                found += [day] * await confirm_destroyed(office.server, looked.at_ms)
                office.clock.advance(DAY_MS)
                steady_ms += DAY_MS
            return found

        await days_that_confirm(9)
        await thieving.year.with_kit("rotate server")
        await days_that_confirm(1)
        office.clock.advance(SINCE_REACHES_MS)
        assert await days_that_confirm(2 * SINCE_REACHES_MS // DAY_MS) == [SINCE_REACHES_MS // DAY_MS - 1]


async def test_nor_one_that_is_set_in_the_midst_of_a_look(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__, in_step=True) as (here, at_work):
        thieving, steady_ms = Thieving(Year(here, *at_work, tmp_path)), 0
        office, leap_ms = here.office, SINCE_REACHES_MS + DAY_MS
        await thieving.is_stolen()
        lea, territory = bytes.fromhex(at_work.pupil), office.server.replica.territory
        await thieving.brings(Kind.ERASE, Erasure(lea).encode(), space=territory)

        def read_and_set_ahead() -> tuple[int, int]:
            now_ms = office.clock()
            office.clock.advance(leap_ms)
            return now_ms, steady_ms

        office.server.pace = Pace(Eraser(office.server.replica, office.server.holdings), read_and_set_ahead)

        async def days(count: int) -> int:
            nonlocal steady_ms
            confirmed = 0
            for _ in range(count):
                confirmed += await destroy_what_is_due(office.server)
                office.clock.advance(DAY_MS - leap_ms)
                steady_ms += DAY_MS
            return confirmed

        await days(9)
        assert [row["state"] for row in await office.do("erasures")] == ["destroyed"]
        await thieving.year.with_kit("rotate server")
        assert await days(SINCE_REACHES_MS // DAY_MS) == 0
        assert await days(2) == 1
