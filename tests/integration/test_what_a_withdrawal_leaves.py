"""A device that is cut off in part: what could be done is done, what is left is said, and the server can end it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from protocol.clock import DAY_MS
from protocol.errors import Code, Refused
from protocol.identity import DeviceKeys
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.office.further_words import merge_persons
from protocol.roles import PersonRole, Role
from tests.harness.classroom import SMALL, Classroom, Device, classroom
from tests.harness.commands import Desk
from tests.harness.portal import portal
from tests.harness.server_in_process import Office


class School:
    """Two classes, their head teacher at her computer, and a laptop that teaches one and is a head's in the other."""

    def __init__(self, room: Classroom, head: Device, laptop: Device) -> None:
        self.room, self.head, self.laptop = room, head, laptop
        self.hers, self.other = room.space, room.territory.classes[1]
        self.desk, self.device = Desk(head.agent), laptop.agent.device.hex()

    async def reads(self, space: bytes) -> bool:
        return (await self.head.agent.replica.view(space)).roster.may_read(self.laptop.agent.device)

    @property
    def left(self) -> dict[str, Any]:
        """The one right that is not hers to take."""
        return {"device": self.device, "space": self.other.hex(), "name": "CM2", "role": "head"}


async def let_in(room: Classroom, device: Device, role: Role, space: bytes, person: bytes | None = None) -> None:
    keys: DeviceKeys = device.agent.keys
    await room.territory.let_in(keys, role, space, person=person)


@pytest.fixture
async def school(tmp_path: Path) -> AsyncIterator[School]:
    async with classroom(tmp_path, spaces=2) as room:
        head, laptop = await room.head(), await room.teacher()
        await let_in(room, laptop, Role.HEAD, room.territory.classes[1], room.teacher_person)
        for device in (laptop, head):
            await device.session.sync()
        yield School(room, head, laptop)


@pytest.mark.parametrize("command", ["revoke", "lost", "ungrant"])
async def test_a_laptop_of_higher_rank_in_one_class_is_cut_off_in_all_others_and_she_is_told_what_is_left(
    school: School, command: str
) -> None:
    spaces = {"space": [school.hers.hex(), school.other.hex()]} if command == "ungrant" else {}
    done = await school.desk.ask(command, device=school.device, **spaces)
    assert done["remains"] == [school.left]
    assert not await school.reads(school.hers)
    assert await school.reads(school.other)
    told = "\n".join(school.desk.told)
    assert "not done" in told
    assert "“CM2”, as head" in told
    assert f"sync-server revoke {school.device}" in told
    with pytest.raises(Refused) as refused:
        await school.desk.ask("revoke", device=school.device)
    assert refused.value.code is Code.NO_RIGHT, "there is nothing left that she could do"


async def test_a_rehearsed_loss_says_what_would_be_left(school: School) -> None:
    told = await school.desk.ask("lost", device=school.device, dry_run=True)
    assert told["remains"] == [school.left]
    assert await school.reads(school.hers)


async def test_her_page_says_what_is_left_and_who_can_end_it_in_both_languages(school: School) -> None:
    async with portal(school.head.agent) as surfer:
        form = {"device": school.device, "since": "", "meant": "yes"}
        report = (await surfer.send("/lost", "/lost", form)).text
        assert "Ce qui lui reste" in report
        assert "<strong>CM2</strong>, comme poste de direction" in report
        assert f"sync-server revoke {school.device}" in report
        assert "La personne qui tient le serveur le peut toujours" in report
        assert "Ce qui attend ne compte pour rien" in report


async def test_her_page_says_so_in_english(school: School) -> None:
    async with portal(school.head.agent) as surfer:
        await surfer.page("/?lang=en")
        form = {"device": school.device, "since": "", "meant": "yes"}
        report = (await surfer.send("/lost", "/lost", form)).text
        assert "What it keeps" in report
        assert "<strong>CM2</strong>, as a head teacher&#39;s computer" in report
        assert "The person who runs the server always can" in report


async def test_who_is_taken_off_a_class_with_a_right_above_it_is_said_to_read_on(school: School) -> None:
    async with portal(school.head.agent) as surfer:
        at = f"/school/{school.hers.hex()}"
        answer = await surfer.send(at, f"{at}/leave", {"person": school.room.teacher_person.hex()})
        assert answer.headers["Location"].endswith("done=left")
        at = f"/school/{school.other.hex()}"
        answer = await surfer.send(at, f"{at}/leave", {"person": school.room.teacher_person.hex()})
        assert "un de ses ordinateurs lit encore cette classe" in await surfer.page(answer.headers["Location"])


async def test_what_has_a_right_in_the_whole_territory_is_lost_to_her_whole_school_and_the_rest_is_said(
    tmp_path: Path,
) -> None:
    async with classroom(tmp_path, spaces=2) as room:
        territory = room.territory.id
        head, relay = await room.head(), await room.device(Role.RELAY, territory)
        for device in (relay, head):
            await device.session.sync()
        done = await Desk(head.agent).ask("lost", device=relay.agent.device.hex())
        assert [(row["space"], row["role"]) for row in done["remains"]] == [(territory.hex(), "relay")]
        for space in (room.school, *room.territory.classes):
            assert not (await head.agent.replica.view(space)).roster.may_read(relay.agent.device)


async def test_a_teacher_of_the_whole_school_who_is_taken_off_a_class_reads_it_no_more(tmp_path: Path) -> None:
    async with classroom(tmp_path, spaces=2) as room:
        person = await room.territory.person("M. Blanc", PersonRole.TEACHER, room.school)
        head, laptop = await room.head(), await room.device(Role.TEACHER, room.school, person=person)
        for device in (laptop, head):
            await device.session.sync()
        done = await Desk(head.agent).ask("ungrant", person=person.hex(), space=[room.space.hex()])
        assert done == {}
        one, other = [(await head.agent.replica.view(space)).roster for space in room.territory.classes]
        assert not one.may_read(laptop.agent.device)
        assert other.may_read(laptop.agent.device)


async def test_who_runs_the_server_can_always_finish(desk: Office) -> None:
    other = (await desk.do("space add", name="CM1", school="0180001D", year="none"))["space"]
    for role, spaces in (("admin", ["0180001D"]), ("head", ["0180001D"]), ("relay", [desk.space, other])):
        member = await desk.enrol(await desk.invite(role, *spaces))
        assert await desk.do("revoke", device=member.id) == {}
        assert await member.spaces() == set()
    member = await desk.enrol(await desk.invite("admin", "0180001D"))
    assert (await desk.do("lost", device=member.id))["remains"] == []
    assert await member.spaces() == set()
    person = await desk.add_person("Mme Dir", "teacher", "0180001D")
    member = await desk.enrol(await desk.invite("head", "0180001D", person=person))
    assert await desk.do("person retire", person=person) == {}
    assert await member.spaces() == set()


async def test_who_was_added_twice_leaves_with_the_laptops_of_both(desk: Office) -> None:
    listed, double = [await desk.add_person("Mme Petit", "teacher") for _ in range(2)]
    laptops = [await desk.enrol(await desk.invite("teacher", person=person)) for person in (listed, double)]
    await merge_persons(desk.server, bytes.fromhex(double), bytes.fromhex(listed))
    await desk.do("person retire", person=listed)
    assert any(double in line and line.endswith("the same person, added twice") for line in desk.said.lines)
    assert await desk.do("person list", space=desk.space) == []
    for laptop in laptops:
        assert await laptop.spaces() == set()


async def test_whoever_lets_go_of_the_id_that_was_merged_away_is_told_who_stays(desk: Office) -> None:
    listed, double = [await desk.add_person("Mme Petit", "teacher") for _ in range(2)]
    laptops = [await desk.enrol(await desk.invite("teacher", person=person)) for person in (listed, double)]
    await merge_persons(desk.server, bytes.fromhex(double), bytes.fromhex(listed))
    assert await desk.do("person retire", person=double) == {"others": [listed]}
    assert any(line.startswith(f"not “Mme Petit”, {listed}: ") for line in desk.said.lines)
    assert [bool(await laptop.spaces()) for laptop in laptops] == [True, False]


@pytest.mark.parametrize("since", [None, "36h"])
async def test_she_is_told_what_waiting_is_and_whose_word_ends_it(school: School, since: str | None) -> None:
    if since is not None:
        await note_arrivals(school.head.agent.replica.store, school.room.territory.clock())
        school.room.territory.clock.advance(2 * DAY_MS)
        await school.room.publish(school.laptop, SMALL)
        for device in (school.laptop, school.head):
            await device.session.sync()
    await school.desk.ask("lost", device=school.device, since=since)
    told = "\n".join(school.desk.told)
    assert "counts for nothing, and waits for somebody's word" in told
    for word in ("who runs the server", "`sync-server waiting`", "`accept ID`", "`refuse ID`"):
        assert word in told
