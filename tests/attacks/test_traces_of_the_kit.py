"""The kit opens a pupil's work, and somebody would have it leave no trace (docs/attacks.md, docs/adr/0418)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import BadInput, LocalFailure
from protocol.replica.office.acts import ACT_MARKS, Act
from sync_server.handlers.by_kit.territory import kit_in
from sync_server.kit.desk import KitDesk
from sync_server.kit.errands import errand_of
from sync_server.kit.questions import NAMELESS
from tests.harness.attack import attack
from tests.harness.commands import Received
from tests.harness.office_devices import Town, town
from tests.harness.server_in_process import Office, office

ROW = "the kit is used and nobody can tell"
ALTERED_ROW = "who has the server alters who did what"


@asynccontextmanager
async def no_line(*_: object, **__: object) -> AsyncIterator[None]:
    """Instead of `acting.noted`: as it was before there was one."""
    yield


class Watched(Received):
    """What a family gets, where the kit is; and which lines there were when the kit was asked for the first time."""

    def __init__(self, here: Town) -> None:
        super().__init__()
        self._here = here
        self.seen: list[Act] | None = None

    async def asked(self) -> None:
        if self.seen is None:
            self.seen = [line.act for line in await self._here.office.server.acts.lines()]


class WatchedDesk(KitDesk):
    """Where the kit is, which looks at the trail whenever it is asked."""

    watched: Watched

    async def start(self, path: str, size: int | None) -> None:
        if path == NAMELESS:
            await self.watched.asked()
        await super().start(path, size)


async def with_work(here: Town) -> str:
    """Léa has handed in: her id."""
    _, pc, _, lea, item = await here.class_at_work()
    await here.work(pc, item, lea)
    await here.sync(pc)
    return lea


async def exported(here: Town, lea: str, got: Watched | None = None, **params: Any) -> Watched:
    """As `export-person --kit` does."""
    kit = kit_in(here.folder / "server" / "kit", None)
    typed = {"person": lea, "named": "Léa", **params}
    got = got or Watched(here)
    desk = WatchedDesk(errand_of("export-person", kit, typed, None, bytes), got, here.office.clock)
    desk.watched = got
    await here.office.table["export-person"]({**typed, "kit": desk.keys}, desk, desk)
    return got


@attack(ROW, off={"sync_server.operations.table.noted": no_line})
async def test_whose_work_the_kit_opens_is_noted_before_the_kit_is_asked_for_anything(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        lea = await with_work(here)
        got = await exported(here, lea, typed_by="root")
        assert any(path.startswith("travaux/") for path in got.files)
        assert got.seen is not None
        assert [(act.by, act.what, act.about, act.with_kit) for act in got.seen][-1:] == [
            ("command line: root", "sync-server export-person", lea, True)
        ]


@attack(ROW, off={"sync_server.operations.table.noted": no_line})
async def test_a_kit_that_opens_nothing_has_left_its_line_too(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        lea = await with_work(here)
        with pytest.raises(BadInput):
            await exported(here, lea, named="Tom")
        acts = [
            line.act for line in await here.office.server.acts.lines() if line.act.what == "sync-server export-person"
        ]
        assert [(act.about, act.with_kit, act.failed) for act in acts] == [(lea, True, False), (lea, True, True)]


@attack(ROW, off={"sync_server.operations.table.noted": no_line})
async def test_where_no_line_can_be_written_the_kit_is_asked_for_nothing(tmp_path: Path) -> None:
    got: list[Watched] = []
    with pytest.raises(LocalFailure):
        await _exported_from_a_disk_that_may_only_be_read(tmp_path, got)
    assert [(each.seen, each.files) for each in got] == [(None, {})]


async def _exported_from_a_disk_that_may_only_be_read(folder: Path, got: list[Watched]) -> None:
    async with town(folder) as here:
        lea = await with_work(here)
        got.append(Watched(here))
        database = here.office.server.store.database
        await database.run(lambda connection: connection.execute("PRAGMA query_only = ON").fetchall())
        await exported(here, lea, got[0])


@attack(ALTERED_ROW, off={"protocol.replica.office.acts.broken_in": lambda _: []})
@pytest.mark.parametrize("is_taken_out", [False, True])
async def test_a_line_that_is_altered_or_taken_out_shows_in_verify(tmp_path: Path, is_taken_out: bool) -> None:
    async with office(tmp_path / "server") as desk:
        await _three_pupils(desk)
        store, line = desk.server.store, (await desk.server.acts.lines())[-2]
        act = line.act
        other = Act(act.at_ms, "command line: anne", act.what, act.about, act.with_kit, act.failed, act.before)
        await store.set_marks({f"{ACT_MARKS}{line.number:016x}": None if is_taken_out else other.encode()})
        assert [each["what"] for each in (await desk.do("verify"))["problems"]] == ["audit"]


async def _three_pupils(desk: Office) -> None:
    for name in ("Léa", "Tom", "Zoé"):
        await desk.add_person(name, "pupil")
