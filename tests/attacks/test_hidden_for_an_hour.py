"""A copy of the server's key hides lessons or work while a class is taken along, and shows them again an hour later.

docs/adr/0356.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import BadInput, Code
from protocol.folds.coursework import Item
from protocol.limits import SALT_BYTES
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Erasure, PersonRecord, Revocation
from protocol.model.work import ItemKind
from protocol.rights.vouching import device_id
from protocol.roles import PersonRole, Role
from sync_agent.app import Agent
from sync_agent.keys.confirming import own_device
from tests.harness.attack import attack
from tests.harness.classroom import Classroom, Device, assignment
from tests.harness.commands import Desk
from tests.harness.kept_town import town_at_work
from tests.harness.portfolios import remarks_in
from tests.harness.year_at_work import Year

LESSONS = "lessons are hidden, or withdrawn, for the hour in which a teacher carries them over"
WORK = "work is hidden for the hour in which families' portfolios are written"
CLOSING = "work is hidden, so that nobody counts it"
UNASKED = {"sync_agent.coursework.carrying_over._check_asked": lambda *_, **__: None}


# --- lessons ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Taught:
    """A class's teacher and a machine of it."""

    room: Classroom
    teacher: Device
    machine: Device

    async def sync(self) -> None:
        for _ in range(2):
            await self.machine.session.sync()
            await self.teacher.session.sync()


@dataclass(frozen=True)
class Summer(Taught):
    """Three lessons of a teacher's, a machine that has them, and the teacher's next class."""

    following: bytes
    lessons: list[Item]

    async def say(self, kind: Kind, payload: bytes, target: bytes | None = None, space: bytes | None = None) -> Entry:
        """By the copied key."""
        return await self.room.territory.say(space or self.room.space, kind, payload, target=target)

    async def hide(self, lesson: Item, how: str) -> None:
        later = replace(lesson.shown.record, title="Annulé", kind=ItemKind.ANNOUNCEMENT).encode()
        target, said = {
            "withdrawn": (lesson.id, (Kind.WITHDRAW, b"\x80")),
            "erased": (None, (Kind.ERASE, Erasure(lesson.id).encode())),
            "another version": (lesson.id, (Kind.REVISION, later)),
        }[how]
        await self.say(*said, target)

    async def carry(self, desk: Desk, **params: Any) -> Any:
        known = {"from": self.room.space.hex(), "to": self.following.hex()}
        return await desk.ask("carry-over", **known, **params)

    async def carried(self) -> int:
        view = await self.teacher.agent.replica.view(self.following)
        return sum(not item.withdrawn for item in view.coursework.items.values())


@pytest.fixture
async def summer(room: Classroom) -> Summer:
    territory, teacher, machine = room.territory, await room.teacher(), await room.machine()
    await teacher.session.sync()
    for number in range(3):
        await room.publish(teacher, {f"lecon-{number}.txt": b"texte %d " % number * 400})
    following = await territory.classroom("CM2")
    await territory.let_in(teacher.agent.keys, Role.TEACHER, following, person=room.teacher_person)
    await teacher.session.sync()
    lessons = sorted(
        (await teacher.agent.replica.view(room.space)).coursework.items.values(), key=lambda item: item.shown.at_ms
    )
    found = Summer(room, teacher, machine, following, lessons)
    await found.sync()
    return found


@pytest.mark.parametrize("how", ["withdrawn", "erased", "another version"])
@attack(LESSONS, off=UNASKED)
async def test_what_is_hidden_or_withdrawn_by_others_keeps_lessons_from_being_carried_over_unasked(
    summer: Summer, how: str
) -> None:
    for lesson in summer.lessons[:2]:
        await summer.hide(lesson, how)
    await summer.sync()
    desk = Desk(summer.teacher.agent)
    with pytest.raises(BadInput, match="nothing has been carried over yet: 2 ") as caught:
        await summer.carry(desk)
    assert caught.value.code is Code.NOT_YET
    assert await summer.carried() == 0
    names = {f"left, {lesson.id.hex()[:12]}, " for lesson in summer.lessons[:2]}
    assert all(any(line.startswith(name) for line in desk.told) for name in names)
    done = await summer.carry(desk, also=[summer.lessons[0].id.hex()[:12]], shown_only=True)
    (left,) = done["left"]
    assert (done["lessons"], left["item"], left["title"]) == (2, summer.lessons[1].id.hex(), "Leçon")
    assert "by the server, " in left["why"]
    assert any(line.startswith("left, and named without --shown-only: 1 lessons that ") for line in desk.told)
    assert not any(line.startswith(tuple(names)) for line in desk.told), "who says that the rest stays has read them"
    done = await summer.carry(desk, also=[lesson.id.hex() for lesson in summer.lessons[:2]])
    assert (done["lessons"], len(done["there"]), await summer.carried()) == (1, 2, 3)


async def _whatever_is_there(agent: Agent, space: bytes) -> set[tuple[str, bytes]]:
    items = (await agent.replica.view(space)).coursework.items.values()
    return {(item.shown.record.title, item.shown.record.content.stream) for item in items}


@attack(LESSONS, off={"sync_agent.coursework.carrying_over._there": _whatever_is_there})
async def test_what_others_publish_and_withdraw_in_the_next_class_is_not_taken_for_carried_over(summer: Summer) -> None:
    for lesson in summer.lessons[:2]:
        made = await summer.say(Kind.REVISION, lesson.shown.record.encode(), None, summer.following)
        await summer.say(Kind.WITHDRAW, b"\x80", made.id, summer.following)
    await summer.sync()
    done = await summer.carry(Desk(summer.teacher.agent))
    assert (done["lessons"], done["there"], await summer.carried()) == (3, [], 3)


@attack(LESSONS, off=UNASKED)
async def test_lessons_of_which_no_more_than_a_header_has_come_are_asked_about(summer: Summer) -> None:
    """Who brings them gives what they are of no entry that somebody has erased."""
    room, second = summer.room, await summer.room.device(Role.TEACHER, person=summer.room.teacher_person)
    await room.territory.let_in(second.agent.keys, Role.TEACHER, summer.following, person=room.teacher_person)
    lesson = (await room.publish(summer.teacher, {"lecon.txt": b"encore une"})).item
    await summer.say(Kind.ERASE, Erasure(lesson).encode())
    await second.session.sync()
    entry = (await summer.teacher.agent.replica.store.get([lesson]))[lesson]
    bare, now_ms = replace(entry, salt=None, payload=None), second.agent.now_ms()
    assert (await second.agent.replica.admit([bare], source=b"the copy", now_ms=now_ms)).admitted
    desk = Desk(second.agent)
    with pytest.raises(BadInput, match="nothing has been carried over yet: 1 "):
        await summer.carry(desk)
    assert (await summer.carry(desk, shown_only=True))["bare"] == 1
    assert "left: 1 items of which only that there is one has come; sync first" in desk.told


# --- work -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Handed(Taught):
    """Three works of a pupil that the teacher has."""

    works: list[bytes]

    async def hide(self, how: str) -> None:
        """By the copied key."""
        names = {"works erased": self.works[:2], "pupil erased": [self.room.pupil_person]}
        for name in names.get(how, ()):
            await self.room.territory.say(self.room.space, Kind.ERASE, Erasure(name).encode())
        if how == "computer cut off":
            cut = Revocation(self.machine.agent.device, ()).encode()
            await self.room.territory.say(self.room.space, Kind.REVOKE, cut)
        await self.teacher.session.sync()
        await self.teacher.session.sync()

    async def files(self, desk: Desk, **params: Any) -> list[str]:
        found = await desk.files("portfolio", space=self.room.space.hex(), **params)
        return [path for path in found if path.endswith(".odt")]


@pytest.fixture
async def handed(room: Classroom) -> Handed:
    teacher, machine = await room.teacher(), await room.machine()
    task = await assignment(room, teacher, machine)
    works = [
        await room.hand_in(machine, task, {f"redaction-{number}.odt": b"%d" % number * 300}) for number in range(3)
    ]
    found = Handed(room, teacher, machine, works)
    await found.sync()
    return found


async def _nothing_is_hidden(*_: object) -> Collection[object]:
    return ()


@pytest.mark.parametrize(("how", "many"), [("works erased", 2), ("pupil erased", 3), ("computer cut off", 3)])
@attack(WORK, off={"sync_agent.hand_ins.year_end._hidden": _nothing_is_hidden})
async def test_no_portfolio_is_written_without_a_word_about_what_is_hidden(handed: Handed, how: str, many: int) -> None:
    await handed.hide(how)
    desk, pupil = Desk(handed.teacher.agent), handed.room.pupil_person.hex()
    with pytest.raises(BadInput, match=f"nothing has been written yet: {many} hand-ins") as caught:
        await handed.files(desk)
    assert caught.value.code is Code.NOT_YET
    shown = await handed.files(desk, shown_only=True)
    assert len(shown) == 3 - many
    assert any(line.startswith("not shown: ") and pupil in line and "by the server, " in line for line in desk.told)
    files = await handed.files(desk, hidden_too=True)
    assert len(files) == 3
    assert sum("(masqué)" in path.split("/")[2] for path in files) == many
    assert {path.split("/")[0] for path in files} == {
        f"Léa{' (plus sur la liste)' if how == 'pupil erased' else ''} ({pupil[:8]})"
    }
    assert await handed.files(desk, hidden_too=True, person=pupil) == files


@attack(WORK, off={"sync_agent.hand_ins.year_end._hidden": _nothing_is_hidden})
async def test_nor_without_one_about_work_of_which_no_more_than_a_header_has_come(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    task = await assignment(room, teacher, machine)
    work = await room.hand_in(machine, task, {"copie.odt": b"..."})
    await room.territory.say(room.space, Kind.ERASE, Erasure(work).encode())
    await teacher.session.sync()
    entry = (await machine.agent.replica.store.get([work]))[work]
    bare, now_ms = replace(entry, salt=None, payload=None), teacher.agent.now_ms()
    assert (await teacher.agent.replica.admit([bare], source=b"the copy", now_ms=now_ms)).admitted
    desk, space = Desk(teacher.agent), room.space.hex()
    with pytest.raises(BadInput, match="nothing has been written yet: 1 hand-in"):
        await desk.files("portfolio", space=space)
    assert await desk.files("portfolio", space=space, hidden_too=True) == {}
    assert any(line.startswith("not shown: 1 hand-in of “Léa”, ") for line in desk.told)


@attack(WORK, off={"sync_agent.hand_ins.year_end._hidden": _nothing_is_hidden})
async def test_nor_without_one_about_what_was_said_of_work_and_is_hidden(handed: Handed) -> None:
    """Her other laptop, on which she answered, is cut off with all that it said."""
    second = await handed.room.device(Role.TEACHER, person=handed.room.teacher_person)
    desk = Desk(handed.teacher.agent)
    for device in (second, handed.teacher):
        await device.session.sync()
    await desk.ask("key-confirm", reader=device_id(own_device(second.agent)).hex(), shown_as="own")
    for device in (handed.teacher, second):
        await device.session.sync()
    await Desk(second.agent).ask("feedback", id=handed.works[0].hex(), text="Très bien.", mark=None, redo=False)
    for device in (second, handed.teacher):
        await device.session.sync()
    space = handed.room.space
    assert remarks_in(await desk.files("portfolio", space=space.hex()))
    await handed.room.territory.say(space, Kind.REVOKE, Revocation(second.agent.device, ()).encode())
    await handed.teacher.session.sync()
    with pytest.raises(BadInput, match="nothing has been written yet: 1 hand-in"):
        await handed.files(desk)
    assert len(await handed.files(desk, shown_only=True)) == 3
    assert any("said of it: held back since its computer was cut off by the server" in line for line in desk.told)
    files = await desk.files("portfolio", space=space.hex(), hidden_too=True)
    assert remarks_in(files) == {"Mme Petit": "Très bien.\n"}


@attack(WORK, off={"sync_agent.hand_ins.year_end._check_hidden": lambda *_, **__: None})
async def test_nor_is_one_written_unasked_without_whom_somebody_has_frozen(handed: Handed) -> None:
    """A word of the list, which the copied key takes back an hour later (docs/adr/0429)."""
    room = handed.room
    listed = (await handed.teacher.agent.replica.view(room.space)).roster.persons[room.pupil_person]
    for frozen in (True, False):
        record = PersonRecord("Léa", PersonRole.PUPIL, frozen=frozen)
        said = await room.territory.say(
            room.space, Kind.PERSON, record.encode(), subject=room.pupil_person, parents=(listed.entry,)
        )
        listed = replace(listed, entry=said.id)
        await handed.sync()
        desk = Desk(handed.teacher.agent)
        if frozen:
            with pytest.raises(BadInput, match="nothing has been written yet: 3 hand-ins"):
                await handed.files(desk)
            assert await handed.files(desk, shown_only=True) == []
            assert any(room.pupil_person.hex() in line and "frozen" in line for line in desk.told)
    assert len(await handed.files(desk)) == 3


# --- closing ----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def year(tmp_path: Path) -> AsyncIterator[Year]:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        yield Year(here, *at_work, tmp_path)


async def _say(year: Year, kind: Kind, payload: bytes, target: bytes | None = None) -> None:
    """By the copied key; any computer of the class brings it."""
    server, clock = year.here.office.server, year.here.office.clock
    given = next(each.grant for each in server.replica.door.authorities() if each.role is Role.SERVER)
    said = compose(
        author=server.keys.signing, space=year.here.space, kind=kind, grant=given, at=(clock() << 16) + 1,
        payload=payload, salt=bytes(SALT_BYTES), target=target,
        parents=(target,) if target is not None and kind is Kind.REVISION else (),
    )  # fmt: skip
    assert (await server.replica.admit([said], source=b"a computer of the class", now_ms=clock())).admitted


def _no_items(*_: object) -> tuple[int, int]:
    return 0, 0


async def _nobody_withdrew(*_: object) -> tuple[int, Mapping[str | None, int]]:
    return 0, {}


@pytest.mark.parametrize("how", ["withdrawn", "erased", "made an announcement", "and its first version held back"])
@attack(
    CLOSING,
    off={
        "sync_server.handlers.by_kit.closing._hidden": _no_items,
        "sync_server.handlers.by_kit.closing._withdrawn": _nobody_withdrew,
    },
)
async def test_a_class_is_not_closed_with_lessons_that_somebody_has_hidden_or_nobody_of_its_has_withdrawn(
    year: Year, how: str
) -> None:
    await year.lesson()
    server, space = year.here.office.server, year.here.office.space
    coursework = (await server.replica.view(year.here.space)).coursework
    (item,) = (item for item in coursework.items.values() if item.shown.record.kind is ItemKind.LESSON)
    lesson, other = item.id, replace(item.shown.record, kind=ItemKind.ANNOUNCEMENT).encode()
    if how == "withdrawn":
        await _say(year, Kind.WITHDRAW, b"\x80", lesson)
    elif how == "erased":
        await _say(year, Kind.ERASE, Erasure(lesson).encode())
    else:
        await _say(year, Kind.REVISION, other, lesson)
    if how == "and its first version held back":
        await _say(year, Kind.REVOKE, Revocation(year.teacher.agent.device, (year.item,)).encode())
    told = await year.do("space close", space=space)
    assert (told["hidden_items"], told["withdrawn_by"]) == (
        (1, []) if how == "erased" else (0, [{"name": None, "items": 1}])
    )
    with pytest.raises(BadInput, match="no `carry-over` takes them along unasked"):
        await year.with_kit("space close", space=space)
    both = {"unopened_too": True, "unheard_too": True}
    assert (await year.with_kit("space close", space=space, **both))["closed"] is True
