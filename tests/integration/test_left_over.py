"""Whoever may end it is told what is still there though its time is over (docs/privacy.md, "How long")."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from protocol.model.entry import Kind
from protocol.model.structure import PersonRecord, SpaceRecord
from protocol.replica.office.further_words import merge_persons
from protocol.replica.office.names import NO_YEAR
from protocol.replica.office.people import list_draft, listings
from protocol.roles import PersonRole
from sync_server.handlers.by_kit.not_closed import not_closed_notices
from sync_server.handlers.by_kit.territory import kit_in
from sync_server.web.views import notice_of
from sync_server.web.wording import Words
from tests.harness.classroom import Classroom
from tests.harness.commands import Desk
from tests.harness.office_devices import town
from tests.harness.portal import portal, said_in
from tests.harness.server_in_process import Office


@pytest.mark.parametrize("language", ["fr", "en"])
async def test_a_class_of_a_past_year_is_told_until_it_is_closed(desk: Office, tmp_path: Path, language: str) -> None:
    for name, year in (("CM1", "2026-2027"), ("Salle des maîtres", NO_YEAR)):
        await desk.do("space add", name=name, school="0180001D", year=year)
    assert (await desk.do("status"))["classes_not_closed"] == []
    assert await not_closed_notices(desk.server) == []
    past = (await desk.do("space add", name="CM2", school="0180001D", year="2025-2026"))["space"]
    row = {"space": past, "name": "CM2", "year": "2025-2026", "since": "2026-10-01T00:00:00.000Z"}
    assert (await desk.do("status"))["classes_not_closed"] == [row]
    (notice,) = await not_closed_notices(desk.server)
    problem = notice_of(Words(language, desk.clock(), dt.UTC), notice)
    assert "CM2 (2025-2026, 0180001D, 01/10/2026)" in problem.remedy
    assert f"sync-server space close {past} --kit KIT" in problem.remedy
    await desk.with_kit("space close", kit_in(tmp_path / "server" / "kit", None), space=past, unheard_too=True)
    assert (await desk.do("status"))["classes_not_closed"] == []


async def test_a_class_is_past_from_october_on(desk: Office) -> None:
    await desk.do("space add", name="CM2", school="0180001D", year="2026-2027")
    october = int(dt.datetime(2027, 10, 1, tzinfo=dt.UTC).timestamp() * 1000)
    desk.clock.advance(october - desk.clock() - 60_000)
    assert (await desk.do("status"))["classes_not_closed"] == []
    desk.clock.advance(120_000)
    assert [row["name"] for row in (await desk.do("status"))["classes_not_closed"]] == ["CM2"]


async def test_a_pupil_who_is_on_no_list_any_more_is_told_until_somebody_erases_them(desk: Office) -> None:
    further = (await desk.do("space add", name="CM1", school="0180001D", year="2026-2027"))["space"]
    moved, again = [await desk.add_person(name, "pupil", desk.space, further) for name in ("Léa", "Tom")]
    twice = await desk.add_person("Tom", "pupil")
    await merge_persons(desk.server, bytes.fromhex(twice), bytes.fromhex(again))
    left, teacher = [await desk.add_person(*who) for who in (("Zoé", "pupil"), ("Mme Petit", "teacher"))]
    record = PersonRecord("Léa", PersonRole.PUPIL, left=True)
    (listed,) = (
        each
        for space, each in (await listings(desk.server.replica, bytes.fromhex(moved))).items()
        if space.hex() == desk.space
    )
    await desk.server.say([list_draft(bytes.fromhex(moved), record, bytes.fromhex(desk.space), listed.line)])
    assert (await desk.do("status"))["left_pupils"] == []
    for person in (left, teacher):
        await desk.do("person retire", person=person)
    (row,) = (await desk.do("status"))["left_pupils"]
    assert (row["person"], row["since"][:10]) == (left, "2026-11-18")
    (parting,) = row["lists"]
    assert (parting["space"], parting["by"], parting["has_them"]) == (desk.space, "server", False)
    await desk.do("erase", person=[left])
    assert (await desk.do("status"))["left_pupils"] == []
    assert (await desk.do("status"))["left_in_doubt"] == []


async def test_so_is_one_whom_the_head_teacher_has_taken_off_the_list_and_whose_other_class_was_closed(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        office, head = here.office, await here.head_of_the_school()
        last_year = (await office.do("space add", name="CE2", school="0180001D", year="2025-2026"))["space"]
        pupil = await office.add_person("Léa", "pupil", office.space, last_year)
        await here.sync()
        await Desk(head.agent).ask("ungrant", person=pupil, space=[office.space])
        await here.sync()
        assert (await office.do("status"))["left_pupils"] == []
        kit = kit_in(tmp_path / "server" / "kit", None)
        await office.with_kit("space close", kit, space=last_year, unheard_too=True)
        (row,) = (await office.do("status"))["left_pupils"]
        (parting,) = row["lists"]
        assert (row["person"], parting["by"]) == (pupil, "device")
        office.said.lines.clear()
        await office.do("erase", person=[pupil], dry_run=True)
        (line,) = (line for line in office.said.lines if "off the list" in line)
        assert line.startswith(
            f"off the list of “CM2 B”: {pupil}, by the device {head.agent.device.hex()}, enrolled as head, "
        )


async def test_whoever_is_on_a_list_is_forgotten_with_no_more_lines_than_that(desk: Office) -> None:
    pupil = await desk.add_person("Léa", "pupil")
    desk.said.lines.clear()
    await desk.do("erase", person=[pupil], dry_run=True)
    assert not [line for line in desk.said.lines if "list" in line]


async def test_a_head_reads_on_her_page_which_class_of_a_past_year_was_not_closed(room: Classroom) -> None:
    made = await room.territory.say(room.school, Kind.SPACE, SpaceRecord("CE2", year="2025-2026").encode())
    head = await room.head()
    await head.session.sync()
    async with portal(head.agent) as surfer:
        page = said_in((await surfer.page("/school")).encode())
    assert "Année 2025-2026 : passée depuis le 01/10/2026, et pas fermée." in page
    assert f"sync-server space close {made.id.hex()} --kit KIT" in page
    assert page.count("et pas fermée") == 1
