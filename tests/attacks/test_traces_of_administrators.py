"""An administrator acts, or somebody who has an account of one, and nobody could tell who (docs/adr/0418)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.limits import MAX_FAILED_SIGN_INS_PER_DAY
from protocol.replica.office import acts
from sync_server.handlers.record.destroying import destroy_what_is_due
from tests.harness.administration import NAME, ask, cookie_of, sign_in, with_account
from tests.harness.attack import attack
from tests.harness.fleet import pages_over
from tests.harness.server_in_process import Office, office

ROW = "an administrator acts, and nobody can tell which"
LIMIT = "MAX_ACTS_OF_ONE_PER_DAY"
_HOUR_MS = 3_600_000
FLOOD_ROW = "lines about who did what are pushed out by others"


async def _nothing(*_: object) -> None:
    """Instead of a line."""


@asynccontextmanager
async def pages(folder: Path) -> AsyncIterator[tuple[Office, str]]:
    """A server with an account, and where its pages are."""
    async with office(folder / "server") as desk:
        await with_account(desk)
        async with pages_over(desk, clock_s=lambda: desk.clock() / 1000) as (url, _):
            yield desk, url


async def noted(desk: Office) -> list[tuple[str, str, str, bool]]:
    return [(line.act.by, line.act.what, line.act.about, line.act.failed) for line in await desk.server.acts.lines()]


async def refuse(url: str, cookie: str, named: str) -> int:
    form = {"id": named, "say": "refuse"}
    return (await ask(url, "/admin/waiting", method="POST", form=form, Cookie=cookie, Origin=url)).status


@attack(
    ROW,
    off={
        "sync_server.web.reception.by_account": lambda _: "server",
        "sync_server.web.sign_in_pages.by_account": lambda _: "server",
    },
)
async def test_who_signs_in_and_decides_is_named(tmp_path: Path) -> None:
    async with pages(tmp_path) as (desk, url):
        cookie = cookie_of(await sign_in(url))
        await refuse(url, cookie, "ab" * 32)
        said = await noted(desk)
        assert (f"pages: {NAME}", "sign-in", "passphrase", False) in said
        assert (f"pages: {NAME}", "refuse", "ab" * 32, False) in said


@attack(ROW, off={"protocol.replica.office.acts.Trail.note_failed_sign_in": _nothing})
async def test_who_tries_to_sign_in_leaves_a_line_and_never_what_was_typed(tmp_path: Path) -> None:
    async with pages(tmp_path) as (desk, url):
        await sign_in(url, passphrase="wrong wrong wrong")
        await sign_in(url, name="typed in the wrong place", passphrase="wrong wrong wrong")
        failed = [row for row in await noted(desk) if row[1] == acts.FAILED_SIGN_IN]
        assert failed == [
            (f"pages: {NAME}", acts.FAILED_SIGN_IN, "passphrase", False),
            ("pages: ?", acts.FAILED_SIGN_IN, "passphrase", False),
        ]


@attack(FLOOD_ROW, off={"protocol.replica.office.acts.MAX_FAILED_SIGN_INS_PER_DAY": 1_000_000})
async def test_who_guesses_pushes_nobodys_line_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acts, "MAX_ACTS", 120)
    async with office(tmp_path / "server") as desk:
        await desk.add_person("Léa", "pupil")
        before = await noted(desk)
        for _ in range(200):
            await desk.server.acts.note_failed_sign_in("pages: ?", "passphrase")
        assert (await noted(desk))[: len(before)] == before


@attack(FLOOD_ROW, off={"protocol.replica.office.acts.MAX_ACTS_OF_ONE_PER_DAY": 1_000_000})
async def test_who_has_an_account_does_no_more_in_a_day_than_somebody_may_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = int(getattr(acts, LIMIT))  # as it is, or switched off
    monkeypatch.setattr(acts, LIMIT, most // 100)
    async with pages(tmp_path) as (desk, url):
        cookie = cookie_of(await sign_in(url))
        for _ in range(12):
            status = await refuse(url, cookie, "ab" * 32)
        assert status == 429
        assert len(await noted(desk)) <= 20
        desk.clock.advance(DAY_MS)
        cookie = cookie_of(await sign_in(url))
        assert await refuse(url, cookie, "ab" * 32) == 200


@attack(FLOOD_ROW, off={"protocol.replica.office.acts._DROPPED_AT_ONCE": 256})
async def test_nor_does_who_sets_the_clock_a_year_ahead_for_a_moment(tmp_path: Path) -> None:
    async with office(tmp_path / "server") as desk:
        for number in range(200):
            await desk.server.acts.note("erase", f"pages: {NAME}", f"{number:032x}", with_kit=True)
        desk.clock.advance(366 * DAY_MS)
        for _ in range(6):
            await desk.server.acts.note_failed_sign_in("pages: ?", "passphrase")
        desk.clock.advance(-366 * DAY_MS)
        assert len([row for row in await noted(desk) if row[1] == "erase"]) > 150


@attack(FLOOD_ROW, off={"sync_server.handlers.overview.long_gone._WATCHED_MS": 0})
async def test_nor_does_that_take_what_machines_were_called_that_were_cut_off(tmp_path: Path) -> None:
    async with office(tmp_path / "server") as desk:
        hour = 0
        desk.server.steady_ms = lambda: hour * _HOUR_MS
        machine = await desk.enrol(await desk.invite("machine"), name="PC 1")
        await desk.do("revoke", device=machine.id)
        await destroy_what_is_due(desk.server)
        for hour in range(1, 8 * 24):
            desk.clock.advance(_HOUR_MS)
            is_set_ahead = hour % 24 == 0
            desk.clock.advance(400 * DAY_MS if is_set_ahead else 0)
            await destroy_what_is_due(desk.server)
            desk.clock.advance(-400 * DAY_MS if is_set_ahead else 0)
        assert [row["name"] for row in await desk.do("devices")] == ["PC 1"]


async def test_nor_does_who_guesses_on_many_days_of_one_afternoon(tmp_path: Path) -> None:
    async with office(tmp_path / "server") as desk:
        desk.server.steady_ms = lambda: 0
        for day in range(10):
            desk.clock.advance(DAY_MS if day % 2 else -DAY_MS)
            for _ in range(200):
                await desk.server.acts.note_failed_sign_in("pages: ?", "passphrase")
        assert len(await noted(desk)) <= MAX_FAILED_SIGN_INS_PER_DAY + 5
