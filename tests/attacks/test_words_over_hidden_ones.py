"""What is said while earlier words are not shown follows on these, and stands once they are (0561)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import pytest

from protocol.identity import DeviceKeys
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Revocation
from protocol.replica.at_work.replica import Draft, Replica
from protocol.replica.console.frame import Notices
from protocol.roles import Role
from sync_agent.coursework.file_notes import FileNote
from sync_agent.coursework.publisher import Wish, publish
from sync_agent.coursework.reading import find_item
from sync_agent.school.sign_in import SignInBook
from sync_agent.watching.files import look_at
from sync_agent.watching.folders import WatchedFolder
from sync_agent.watching.publishing import notes_of, publish_title
from sync_agent.watching.titles import Title
from tests.harness.attack import attack
from tests.harness.classroom import Device, Given
from tests.harness.commands import Desk
from tests.harness.copied_keys import granted, thief_says
from tests.harness.last_word import an_administrator_cuts_off, and_is_cut_off
from tests.harness.lost_laptop import another_laptop, let_in_again
from tests.harness.office_devices import Town, town
from tests.harness.spied_class import SpiedClass, spied_class
from tests.harness.territory import new_device

ROW = "a teacher's last word is undone"


async def _as_it_stands(_replica: Replica, _device: bytes, drafts: Sequence[Draft]) -> list[Draft]:
    return list(drafts)


AS_THEY_STAND: dict[str, object] = {"sync_agent.app.following": _as_it_stands}


async def _marks(here: SpiedClass) -> list[str | None]:
    work = (await here.machine.agent.replica.view(here.room.space)).coursework.hand_ins[here.work]
    return [note.record.mark for note in work.remarks]


@attack(ROW, off=AS_THEY_STAND)
async def test_what_she_says_meanwhile_stands_once_the_cut_is_over_and_not_what_she_had_said_before(
    tmp_path: Path,
) -> None:
    async with spied_class(tmp_path) as here:
        territory, space, hers, desk = here.room.territory, here.room.space, here.teacher, Desk(here.teacher.agent)
        before = tuple(await territory.replica.tips(space, hers.agent.device))
        for mark in ("2/20", "12/20", "18/20"):
            await desk.ask("feedback", id=here.work.hex(), text="", mark=mark)
        await here.sync()
        await an_administrator_cuts_off(here, hers, before)
        await let_in_again(here, hers, Role.TEACHER, here.room.teacher_person)
        for _ in range(2):
            await here.sync()
        await desk.ask("feedback", id=here.work.hex(), text="Recopié.", mark="4/20")
        await here.sync()
        await and_is_cut_off(here)
        for _ in range(2):
            await here.sync()
        assert await _marks(here) == ["4/20"]


@attack(ROW, off=AS_THEY_STAND)
async def test_so_does_what_she_says_on_her_other_laptop(tmp_path: Path) -> None:
    async with spied_class(tmp_path) as here:
        first, second = here.teacher, await another_laptop(here, here.teacher)
        everybody = (first, second, here.machine)
        before = tuple(await here.room.territory.replica.tips(here.room.space, first.agent.device))
        for mark in ("2/20", "12/20", "18/20"):
            await Desk(first.agent).ask("feedback", id=here.work.hex(), text="", mark=mark)
        await here.sync(*everybody)
        await an_administrator_cuts_off(here, first, before)
        for _ in range(2):
            await here.sync(second, here.machine)
        assert await _marks(here) == []
        await Desk(second.agent).ask("feedback", id=here.work.hex(), text="Recopié.", mark="4/20")
        await here.sync(second)
        await and_is_cut_off(here)
        for _ in range(2):
            await here.sync(*everybody)
        assert await _marks(here) == ["4/20"]


async def _names(here: Town) -> list[str]:
    return [row["name"] for row in await here.office.do("person list", space=here.office.space)]


async def _said_by(here: Town, device: Device) -> tuple[bytes, ...]:
    """What it said last in the school and in the class."""
    replica = here.office.server.replica
    return (*await replica.tips(here.school, device.agent.device), *await replica.tips(here.space, device.agent.device))


async def _cut_off_in_the_school(here: Town, device: Device, before: tuple[bytes, ...]) -> tuple[DeviceKeys, bytes]:
    """The same at an office; the device of the copied key's, and its word."""
    server, spy, now_ms = here.office.server, new_device(Random(9).randbytes), here.office.clock()
    let_in = Draft(here.school, Kind.GRANT, server.grant, granted(spy, Role.ADMIN, None))
    (right,) = await thief_says(here.office, let_in)
    cut = Draft(here.school, Kind.REVOKE, right.id, Revocation(device.agent.device, before).encode())
    (said,) = await server.replica.write([cut], author=spy.signing, now_ms=now_ms, entropy=os.urandom, unsent=False)
    return spy, said.id


async def _let_the_head_in_again(here: Town, head: Device, cut: bytes) -> None:
    again = granted(head.agent.keys, Role.HEAD, None)
    await thief_says(here.office, Draft(here.school, Kind.GRANT, here.office.server.grant, again, parents=(cut,)))
    for _ in range(2):
        await here.sync()


async def _and_goes_from_the_school(here: Town, spy: DeviceKeys) -> None:
    gone = Revocation(spy.signing.public, ()).encode()
    await thief_says(here.office, Draft(here.school, Kind.REVOKE, here.office.server.grant, gone))


@attack(ROW, off={"sync_server.opened.app.following": _as_it_stands})
async def test_so_does_what_the_office_calls_somebody_whom_a_head_had_renamed(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        office, pupil = here.office, await here.office.add_person("Tim", "pupil")
        head = await here.head_of_the_school()
        before = await _said_by(here, head)
        for name in ("Tim Durand", "Tim Durant", "Tim Dupont"):
            await Desk(head.agent).ask("person rename", person=pupil, name=name, called=None)
            await here.sync(head)
        spy, _ = await _cut_off_in_the_school(here, head, before)
        await office.do("person rename", person=pupil, name="Léo Martin", called=None, renamed_too=True)
        await _and_goes_from_the_school(here, spy)
        assert await _names(here) == ["Léo Martin"]


async def _nothing_is(*_: object) -> bool:
    return False


@attack(ROW, off={"sync_agent.hand_ins.handing_in.overlooks": _nothing_is})
async def test_what_is_so_already_is_said_while_her_later_word_is_held_back(tmp_path: Path) -> None:
    async with spied_class(tmp_path) as here:
        hers, desk = here.teacher, Desk(here.teacher.agent)
        await desk.ask("feedback", id=here.work.hex(), text="", mark="4/20")
        await here.sync()
        before = tuple(await here.room.territory.replica.tips(here.room.space, hers.agent.device))
        await desk.ask("feedback", id=here.work.hex(), text="", mark="18/20")
        await here.sync()
        await an_administrator_cuts_off(here, hers, before)
        await let_in_again(here, hers, Role.TEACHER, here.room.teacher_person)
        for _ in range(2):
            await here.sync()
        assert await _marks(here) == ["4/20"]
        await desk.ask("feedback", id=here.work.hex(), text="", mark="4/20")
        await here.sync()
        await and_is_cut_off(here)
        for _ in range(2):
            await here.sync()
        assert await _marks(here) == ["4/20"]


@attack(ROW, off={"sync_agent.coursework.publisher.overlooks": _nothing_is})
async def test_so_is_that_something_is_withdrawn(tmp_path: Path) -> None:
    async with spied_class(tmp_path) as here:
        hers, desk = here.teacher, Desk(here.teacher.agent)
        await desk.ask("withdraw", item=here.item.hex())
        await here.sync()
        before = tuple(await here.room.territory.replica.tips(here.room.space, hers.agent.device))
        await desk.ask("restore", item=here.item.hex())
        await here.sync()
        await an_administrator_cuts_off(here, hers, before)
        await let_in_again(here, hers, Role.TEACHER, here.room.teacher_person)
        for _ in range(2):
            await here.sync()
        await desk.ask("withdraw", item=here.item.hex())
        await here.sync()
        await and_is_cut_off(here)
        for _ in range(2):
            await here.sync()
        assert (await here.machine.agent.replica.view(here.room.space)).coursework.items[here.item].withdrawn


@attack(ROW, off={"sync_agent.school.measure_commands.is_in_doubt": _nothing_is})
async def test_so_is_a_quarantine_whose_end_is_held_back(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        head = await here.head_of_the_school()
        await Desk(head.agent).ask("quarantine start")
        await here.sync()
        before = tuple(await here.office.server.replica.tips(here.school, head.agent.device))
        await Desk(head.agent).ask("quarantine stop")
        await here.sync()
        spy, cut = await _cut_off_in_the_school(here, head, before)
        await _let_the_head_in_again(here, head, cut)
        await Desk(head.agent).ask("quarantine start")
        await here.sync()
        await _and_goes_from_the_school(here, spy)
        assert (await here.office.server.replica.view(here.school)).measures.quarantines


def _it_is(*_: object) -> bool:
    return True


@attack(ROW, off={"protocol.replica.office.people._is_same": _it_is})
@pytest.mark.parametrize("at_server", [False, True])
async def test_so_is_what_somebody_is_called(tmp_path: Path, *, at_server: bool) -> None:
    async with town(tmp_path) as here:
        pupil = await here.office.add_person("Tim", "pupil")
        head = await here.head_of_the_school()
        ask = here.office.do if at_server else Desk(head.agent).ask
        await ask("person rename", person=pupil, name="Tim Durand", called=None)
        await here.sync()
        before = await _said_by(here, head)
        await Desk(head.agent).ask("person rename", person=pupil, name="Tim Dupont", called=None, renamed_too=True)
        await here.sync()
        spy, cut = await _cut_off_in_the_school(here, head, before)
        await _let_the_head_in_again(here, head, cut)
        assert await _names(here) == ["Tim Durand"]
        await ask("person rename", person=pupil, name="Tim Durand", called=None, renamed_too=True)
        await here.sync()
        await _and_goes_from_the_school(here, spy)
        assert await _names(here) == ["Tim Durand"]


def _nothing(*_: object) -> dict[bytes, list[Entry]]:
    return {}


@attack(ROW, off={"protocol.folds.sign_in._passed_above": _nothing})
async def test_so_is_that_sign_in_is_on(tmp_path: Path) -> None:
    async with spied_class(tmp_path) as here:
        hers, space = here.teacher, here.room.space
        await SignInBook(hers.agent).switch(space, on=True)
        await here.sync()
        before = tuple(await here.room.territory.replica.tips(space, hers.agent.device))
        await SignInBook(hers.agent).switch(space, on=False)
        await here.sync()
        await an_administrator_cuts_off(here, hers, before)
        await let_in_again(here, hers, Role.TEACHER, here.room.teacher_person)
        for _ in range(2):
            await here.sync()
        assert (await SignInBook(here.machine.agent).of(space)).on
        await SignInBook(hers.agent).switch(space, on=True)
        await here.sync()
        await and_is_cut_off(here)
        for _ in range(2):
            await here.sync()
        assert (await SignInBook(here.machine.agent).of(space)).on


async def test_what_her_folder_publishes_by_itself_ends_no_version_of_which_she_was_to_be_told(tmp_path: Path) -> None:
    async with spied_class(tmp_path / "class") as here:
        hers, place = here.teacher, tmp_path / "folder"
        (place / "Eau").mkdir(parents=True)
        (place / "Eau" / "a.html").write_text("<h1>eau</h1>")
        folder = WatchedFolder("1", place, here.room.space, own=False)

        async def look(title: Title, notes: Mapping[str, FileNote]) -> Title:
            seen = look_at(place / "Eau")
            assert seen is not None
            return await publish_title(hers.agent, folder, title, seen, before=None, notes=notes)

        title = await look(Title("1", "Eau"), {})
        assert title.item is not None
        await here.sync()
        before = tuple(await here.room.territory.replica.tips(here.room.space, hers.agent.device))
        shown = (await find_item(hers.agent, title.item)).shown
        wish = Wish(None, title.item, None, "Eau : plus de verre", keep=shown.id)
        await publish(hers.agent, wish, Given({"a.html": b"<h1>sans verre</h1>"}), Notices())
        await here.sync()
        await an_administrator_cuts_off(here, hers, before)
        await let_in_again(here, hers, Role.TEACHER, here.room.teacher_person)
        for _ in range(2):
            await here.sync()
        (place / "Eau" / "b.html").write_text("<p>annexe</p>")
        await look(title, await notes_of(hers.agent, title))
        await here.sync()
        await and_is_cut_off(here)
        for _ in range(2):
            await here.sync()
        item = (await here.machine.agent.replica.view(here.room.space)).coursework.items[title.item]
        assert "Eau : plus de verre" in {head.record.title for head in item.heads}
