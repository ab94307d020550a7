"""Who had what done at a server, or an archive written on a teacher's computer: what `audit` says of it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import BadInput, Refused
from protocol.replica.console.operation import NO_FILES
from protocol.replica.console.typed_by import TYPED_BY, account_here
from protocol.replica.office.acts import ACT_MARKS, TOLD_BROKEN
from sync_server.handlers.by_kit.territory import kit_in
from sync_server.kit.desk import KitDesk
from sync_server.kit.errands import errand_of
from sync_server.opened.app import opened
from sync_server.operations.acting import LOOKUPS, UNNOTED
from tests.harness.backups import make_backup, restore_backup
from tests.harness.commands import Desk, Received
from tests.harness.machines import Machine
from tests.harness.office_devices import Town, town
from tests.harness.server_in_process import Office, office


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Office]:
    async with office(tmp_path / "server") as desk:
        yield desk


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Town]:
    async with town(tmp_path) as found:
        yield found


async def noted(desk: Office, *what: str) -> list[Mapping[str, Any]]:
    """The server's own lines, of these acts."""
    return [row for row in await desk.do("audit") if row["line"] is not None and (not what or row["what"] in what)]


async def test_every_command_leaves_a_line_that_says_who_has_typed_it_and_whom_it_is_about_by_id(made: Office) -> None:
    lea = await made.add_person("Léa Martin", "pupil")
    await made.do("person rename", person=lea, name="Léa Morin", **{TYPED_BY: "root (anne)"})
    await made.do("invite", role="admin", space=["0180001D"], person=None, uses=1, ttl="24h")
    added, renamed, invited = (await noted(made))[-3:]
    assert (renamed["who"], renamed["what"], renamed["about"]) == (
        "command line: root (anne)",
        "sync-server person rename",
        lea,
    )
    assert (renamed["by"], renamed["kit"], renamed["failed"]) == ("server", False, False)
    assert (added["what"], added["about"]) == ("sync-server person add", f"pupil {made.space}")
    assert (invited["what"], invited["about"], invited["who"]) == (
        "sync-server invite",
        "admin 0180001D",
        "command line: ?",
    )
    assert not any("Mo" in str(row) or "Léa" in str(row) for row in await made.do("audit"))


async def test_a_command_that_is_refused_has_a_line_that_says_that_it_failed(made: Office) -> None:
    with pytest.raises(BadInput):
        await made.do("person retire", person="ab" * 16)
    assert [(row["about"], row["failed"]) for row in await noted(made, "sync-server person retire")] == [
        ("ab" * 16, False),
        ("ab" * 16, True),
    ]


async def test_who_looks_up_whom_stands_there_once_an_hour_and_how_things_stand_is_nobodys_secret(
    made: Office,
) -> None:
    before = len(await noted(made))
    for _ in range(3):
        for command in ("status", "devices", "space list", "erasures", "administrator list", "audit"):
            await made.do(command)
        await made.do("person list", space=made.space)
        await made.do("hand-ins", space=made.space)
        await made.do("waiting")
    assert [row["what"] for row in (await noted(made))[before:]] == [
        f"sync-server {each}" for each in ("person list", "hand-ins", "waiting")
    ]
    made.clock.advance(3_600_000)
    await made.do("person list", space=made.space)
    assert [row["about"] for row in await noted(made, "sync-server person list")] == [made.space, made.space]


async def test_a_class_that_nobody_closes_with_the_kit_was_looked_at_and_not_closed(made: Office) -> None:
    for _ in range(2):
        assert not (await made.do("space close", space=made.space))["closed"]
    assert [(row["about"], row["kit"]) for row in await noted(made, "sync-server space close")] == [(made.space, False)]


def test_whatever_leaves_no_line_is_a_command_and_shows_or_ends_something(made: Office) -> None:
    assert made.table.keys() >= UNNOTED | LOOKUPS
    assert not UNNOTED & LOOKUPS


async def test_the_accounts_of_administrators_stand_there_by_name_and_what_was_taken_away(made: Office) -> None:
    with pytest.raises(BadInput):
        await made.do("administrator second-factor", name="Anne", remove=True)
    asked, _ = await noted(made, "sync-server administrator second-factor --remove")
    assert asked["about"] == "Anne"


async def test_an_archive_with_the_kit_stands_there_as_one_and_one_without_as_one_without(here: Town) -> None:
    lea = await here.office.add_person("Léa", "pupil")
    kit = kit_in(here.folder / "server" / "kit", None)
    typed = {"person": lea, "named": "Léa", TYPED_BY: "root"}
    desk = KitDesk(errand_of("export-person", kit, typed, None, os.urandom), Received(), here.office.clock)
    await here.office.table["export-person"]({**typed, "kit": desk.keys}, desk, desk)
    await here.office.table["export-person"](typed, NO_FILES, Received())
    assert [(row["who"], row["about"], row["kit"], row["failed"]) for row in await noted(here.office)][-2:] == [
        ("command line: root", lea, True, False),
        ("command line: root", lea, False, False),
    ]


async def test_a_restored_server_goes_on_with_the_lines_of_then_and_says_that_it_was_restored(
    made: Office, tmp_path: Path
) -> None:
    await made.do("backup-kept", made_ms=made.clock())
    await made.add_person("Léa", "pupil")
    lines = await made.server.acts.lines()
    sha256 = await make_backup(made.server, tmp_path / "backup")
    await restore_backup(tmp_path / "new", tmp_path / "backup", tmp_path / "server" / "kit", made.clock)
    async with opened(tmp_path / "new", now_ms=made.clock, entropy=os.urandom) as server:
        *before, last = await server.acts.lines()
        assert before == lines
        assert (last.act.what, last.act.about, last.act.with_kit) == ("sync-server restore", sha256, True)
        assert last.act.by == f"command line: {account_here()}"
        assert await server.acts.broken() == []


async def test_verify_says_where_a_line_was_altered_until_somebody_has_been_told(made: Office) -> None:
    await made.add_person("Léa", "pupil")
    assert (await made.do("verify"))["ok"]
    last, digest = await made.server.acts.end()
    assert f"ends with line {last}, {digest.hex()}" in made.said.lines[-1]
    await made.add_person("Tom", "pupil")
    await made.server.store.set_marks({f"{ACT_MARKS}{last:016x}": None})
    verdict = await made.do("verify")
    assert not verdict["ok"]
    (problem,) = verdict["problems"]
    assert (problem["what"], problem["id"]) == ("audit", f"{last + 1:x}")
    assert f"does not hold at {last + 1}" in problem["why"]
    await made.do("repair")
    assert (await made.do("verify"))["ok"]
    (told,) = await noted(made, TOLD_BROKEN)
    assert told["about"] == str(last + 1)


async def test_a_teachers_computer_says_who_had_archives_and_portfolios_written_there(here: Town) -> None:
    laptop, pc, _, lea, _ = await here.class_at_work()
    await here.sync(laptop)
    desk = Desk(laptop.agent)
    await desk.files("export-person", person=lea, typed_by="petit")
    with pytest.raises(Refused):
        await Desk(pc.agent).files("export-person", person=lea)
    await desk.files("portfolio", space=here.office.space, person=lea)
    rows = await desk.ask("audit")
    assert [(row["who"], row["what"], row["about"]) for row in rows] == [
        ("command line: petit", "sync-agent export-person", lea),
        ("command line: ?", "sync-agent portfolio", f"{here.office.space} {lea}"),
    ]
    assert "Léa" not in str(rows)
    assert await Desk(pc.agent).ask("audit") == []


def test_the_command_line_says_whose_it_is_with_and_without_a_running_server(tmp_path: Path) -> None:
    server = Machine("server", tmp_path / "server", "sync-server")
    server.ok("init", "--name", "Cher", "--kit", str(tmp_path / "kit"))
    space = server.ok("space", "add", "CM2", "--school", "0180001D")["space"]
    server.start("--listen", "127.0.0.1:0")
    try:
        server.ok("person", "add", "Léa", "--role", "pupil", "--space", space)
        rows = [row for row in server.ok("audit") if row["line"] is not None]
    finally:
        server.stop()
    me = f"command line: {account_here()}"
    assert [(row["what"], row["who"]) for row in rows] == [
        (f"sync-server {each}", me) for each in ("init", "space add", "person add")
    ]
