"""What people at a command line are told besides the result: about whom, until when, and what comes next."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from datetime import UTC, datetime
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput, Code
from protocol.folds.erasing import Place
from protocol.identity import territory_id
from protocol.limits import ERASURE_DELAY_MS
from protocol.model.entry import Kind
from protocol.replica.at_work.destroyed import Taken, place_mark
from protocol.replica.at_work.space_names import made_spaces
from protocol.replica.office.names import next_year_perhaps
from protocol.replica.upkeep.eraser import Eraser
from protocol.roles import Role
from protocol.trust.invitation import territory_fingerprint
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.classroom import classroom
from tests.harness.commands import Desk
from tests.harness.head_at_work import confirmed_head
from tests.harness.server_in_process import Office
from tests.harness.spied_class import spied_class


async def test_erasing_says_first_who_that_is_and_then_until_when_it_can_be_taken_back(desk: Office) -> None:
    lea = await desk.add_person("Léa", "pupil")
    before = await desk.do("status")
    assert await desk.do("erase", person=[lea], dry_run=True) == {"persons": [lea]}
    (told,) = desk.said.lines
    assert told.startswith(f"to be forgotten: “Léa”, pupil, CM2 B, {lea}; first heard of here by a word of ")
    assert told.endswith("; hand-ins, shown or not: 0 in “CM2 B”")
    assert (await desk.do("status"))["entries"] == before["entries"], "a dry run forgets nobody"
    desk.said.lines.clear()
    assert await desk.do("erase", person=[lea]) == {}
    who, *rest = desk.said.lines
    assert who == told
    until = datetime.fromtimestamp((desk.clock() + ERASURE_DELAY_MS) / 1000, UTC).astimezone()
    assert any(f"until {until.day} Nov {until.year} {until:%H:%M} `sync-server unerase" in line for line in rest)
    assert (await desk.do("unerase", covers=lea))["taken_back"] == 1
    assert [row["name"] for row in await desk.do("person list", space=desk.space)] == ["Léa"]


async def test_who_takes_back_what_has_gone_in_some_classes_by_then_is_told_where_it_stays_so(desk: Office) -> None:
    rooms = {desk.space: "CM2 B"}
    for name in (f"CP {number}" for number in range(6)):
        rooms[(await desk.do("space add", name=name, school="0180001D", year="2026-2027"))["space"]] = name
    lea = await desk.add_person("Léa", "pupil", *rooms)
    await desk.do("erase", person=[lea])
    eraser = Eraser(desk.server.replica, desk.server.holdings)
    await eraser.sweep(desk.clock())
    desk.clock.advance(ERASURE_DELAY_MS)
    await eraser.sweep(desk.clock())
    desk.said.lines.clear()
    assert (await desk.do("unerase", covers=lea))["taken_back"] == 1
    shown = [name for space, name in rooms.items() if await desk.do("person list", space=space)]
    (told,) = desk.said.lines
    assert "all of it has been destroyed here, and stays so" in told
    assert [name for name in rooms.values() if f"“{name}”" not in told] == shown
    assert len(shown) == 2
    assert f"`sync-server unerase {lea} --kit KIT --counting-too --dated DAY --named NAME`" in told


async def test_who_has_somebody_forgotten_by_the_kit_is_told_the_whole_line_that_takes_it_back(
    desk: Office, tmp_path: Path
) -> None:
    lea, kit = await desk.add_person("Léa", "pupil"), kit_in(tmp_path / "server" / "kit", None)
    desk.said.lines.clear()
    await desk.with_kit("erase", kit, person=[lea], named=["Léa"])
    (line,) = [found[1] for said in desk.said.lines if (found := re.search("`(sync-server unerase .*)`", said))]
    typed = argparse.ArgumentParser()
    for option in ("covers", "--kit", "--dated", "--named"):
        typed.add_argument(option)
    typed.add_argument("--counting-too", action="store_true")
    read = typed.parse_args(shlex.split(line)[2:])
    params = {"covers": read.covers, "dated": [read.dated], "named": read.named, "counting_too": read.counting_too}
    await desk.with_kit("unerase", kit, **params)
    assert [row["name"] for row in await desk.do("person list", space=desk.space)] == ["Léa"]


async def test_who_asks_the_kit_for_it_alone_is_told_at_once_all_that_is_asked_for(
    desk: Office, tmp_path: Path
) -> None:
    lea, kit = await desk.add_person("Léa", "pupil"), kit_in(tmp_path / "server" / "kit", None)
    await desk.with_kit("erase", kit, person=[lea])
    with pytest.raises(BadInput, match="--counting-too --dated DAY --named NAME"):
        await desk.with_kit("unerase", kit, covers=lea, dated=[], named=None)


async def test_what_a_key_took_back_is_not_said_to_count_where_a_list_alone_has_destroyed_it(
    desk: Office, tmp_path: Path
) -> None:
    server, lea = desk.server, await desk.add_person("Léa", "pupil")
    await desk.do("erase", person=[lea])
    (erasure,) = await server.store.scan_kinds([Kind.ERASE])
    gone = Taken(1, frozenset([erasure.id]))
    await server.store.set_marks(place_mark(Place(bytes.fromhex(lea), erasure.header.space), gone))
    await server.replica.reload()
    await desk.do("unerase", covers=lea)
    await desk.do("erase", person=[lea])
    with pytest.raises(BadInput) as caught:
        await desk.with_kit("unerase", kit_in(tmp_path / "server" / "kit", None), covers=lea)
    assert caught.value.message.count("taken back already") == 1
    assert caught.value.message.count("in question by nobody") == 1


async def test_nobody_is_said_to_be_forgotten_who_is_not_there(desk: Office) -> None:
    for dry_run in (True, False):
        with pytest.raises(BadInput) as caught:
            await desk.do("erase", person=[os.urandom(16).hex()], dry_run=dry_run)
        assert caught.value.code is Code.UNKNOWN_PERSON
    assert desk.said.lines == []


async def test_a_lost_device_is_reported_with_what_waiting_means(desk: Office) -> None:
    member = await desk.enrol(await desk.invite("machine"))
    await desk.do("lost", device=member.id, dry_run=True)
    assert desk.said.lines == []
    await desk.do("lost", device=member.id, since="2h")
    told = "\n".join(desk.said.lines)
    assert "counts for nothing, and waits for somebody's word" in told
    for word in ("what it said since", "`sync-server waiting`", "`accept ID`", "`refuse ID`"):
        assert word in told


async def test_a_second_class_of_one_name_in_a_school_is_made_and_warned_about(desk: Office) -> None:
    for name, school, year, warned in (
        ("CE1", "0180001A", "2026-2027", False),
        ("CE1", "0180002Y", "2026-2027", False),
        ("CE1", "0180001A", "2027-2028", False),
        ("ce1", "0180001A", "2026-2027", True),
        ("CE1", "0180001A", None, True),
    ):
        desk.said.lines.clear()
        made = await desk.do("space add", name=name, school=school, year=year)
        assert made["space"] in {row["space"] for row in await desk.do("space list")}
        assert any("has a class" in line for line in desk.said.lines) is warned, (name, school, year)


async def test_a_code_and_the_device_that_used_it_show_the_territorys_fingerprint(desk: Office, tmp_path: Path) -> None:
    shown = territory_fingerprint(desk.server.replica.territory)
    assert (await desk.do("status"))["fingerprint"] == shown
    assert (await desk.do("invite", role="machine", space=[desk.space], person=None, uses=1, ttl="24h"))[
        "fingerprint"
    ] == shown
    async with classroom(tmp_path / "class") as room:
        pc = await room.machine()
        status = await Desk(pc.agent).ask("status")
        root = room.territory.keys.root.public
        assert status["territory"] == territory_id(root).hex()
        assert status["fingerprint"] == territory_fingerprint(territory_id(root))


async def test_a_spelling_that_was_corrected_is_said_and_asked_about_nowhere(desk: Office) -> None:
    lea, _ = [await desk.add_person(name, "pupil") for name in ("Léaa", "Tom")]
    await desk.do("person rename", person=lea, name="Léa")
    await desk.do("erase", person=[lea])
    assert "to be forgotten: “Léa” (called so since" in desk.said.lines[0]
    assert not any(line.startswith("warning") for line in desk.said.lines)


async def test_a_class_with_somebody_whom_no_list_has_is_not_made(desk: Office) -> None:
    before = await desk.do("space list")
    with pytest.raises(BadInput, match="there is no person"):
        await desk.do("space add", name="CM2", school="0180001D", person=[bytes(16).hex()])
    assert await desk.do("space list") == before


async def test_who_adds_a_teacher_once_more_in_another_class_of_the_school_is_told(desk: Office) -> None:
    (row,) = await desk.do("space list")
    further = (await desk.do("space add", name="CE2", school=row["school"], year="none"))["space"]
    elsewhere = (await desk.do("space add", name="CE2", school="0180009M", year="none"))["space"]
    first, _ = [await desk.add_person("Mme Petit", "teacher", space) for space in (desk.space, elsewhere)]
    assert desk.said.lines == []
    again = await desk.add_person("Mme Petit", "teacher", further)
    (told,) = desk.said.lines
    assert f"teaches in this school, or did: “Mme Petit”, teacher, CM2 B, {first}. If" in told
    lets = f"`grant --person {first} --space {further}` lets the one whom lists have had into this class"
    assert f"`person retire {again}` takes this one off again, and {lets}" in told
    assert "what this one says is signed “Mme Petit (2)”" in told


async def test_who_makes_a_class_without_saying_its_year_is_told_which_it_is_of(desk: Office) -> None:
    space = (await desk.do("space add", name="CE2", school="0180001D"))["space"]
    (told,) = desk.said.lines
    assert "of the school year 2026-2027" in told
    assert (await made_spaces(desk.server.replica))[bytes.fromhex(space)].year == "2026-2027"


async def test_who_makes_a_class_in_spring_is_told_that_it_is_past_in_september(desk: Office) -> None:
    while not next_year_perhaps(desk.clock()):
        desk.clock.advance(30 * DAY_MS)
    await desk.do("space add", name="CE2", school="0180001D")
    assert any("if it is a class for September" in line and "`--year " in line for line in desk.said.lines)


async def test_who_reads_two_of_her_classes_is_told_once_with_both(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        head, _ = await confirmed_head(here)
        territory, hers = here.room.territory, here.room.teacher_person
        second = await territory.classroom("CE2", here.room.school)
        await territory.let_in(here.teacher.agent.keys, Role.TEACHER, second, person=hers)
        for space in (here.room.space, second):
            await here.name_the_spy(hers, space=space)
        await here.sync(head, here.teacher, here.machine, head)
        desk = Desk(head.agent)
        loss = await desk.ask("lost", device=here.teacher.agent.device.hex())
        assert [row["name"] for row in loss["besides"]] == ["CM1", "CE2"]
        (line,) = [line for line in desk.told if "is called the same person's" in line]
        assert line.endswith("It reads “CM1”, “CE2”")
