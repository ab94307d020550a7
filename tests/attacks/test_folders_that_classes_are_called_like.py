"""A class of a copied key's is called like a folder that somebody made for themselves in DIR (docs/attacks.md)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.limits import SALT_BYTES
from protocol.model.entry import Kind, compose
from protocol.model.structure import Grant, Revocation, SpaceRecord
from protocol.replica.interfaces import EntryStore
from protocol.roles import Role
from sync_agent.app import Agent
from sync_agent.coursework.materializer import Materializer
from sync_agent.coursework.saved_files import saved_files
from sync_agent.coursework.space_folders import coursework_folders, remembered_folders
from sync_agent.machine.marks import SPACE_FOLDER_MARKS
from sync_agent.watching.folders import publishing_folders
from tests.harness.attack import attack
from tests.harness.classroom import Classroom, Device, classroom
from tests.harness.commands import Desk

ROW = "a class is called like a folder of somebody's own"
BEFORE = "a class has the name of a folder before somebody makes it"
AWAY = "the folder of a class becomes another's while the right in it is away"
CALLED = "Corrections"


def _nothing(_folder: Path) -> dict[str, dict[str, str]]:
    """As if nothing lay there but what is remembered."""
    return {"publish": {}, "coursework": {}}


async def _in_either(store: EntryStore, place: str = "coursework") -> dict[bytes, str]:
    """As if a name in one of the two places were the space's in the other one too."""
    return await remembered_folders(store, "coursework") | await remembered_folders(store, place)


def _for_ever(_name: str, _lying: object) -> bool:
    """As if no folder were ever gone."""
    return True


def _left_there(_places: Iterable[Path]) -> None:
    """As if empty folders stayed where they are."""


async def _no_names(_agent: Agent) -> dict[str, dict[bytes, str]]:
    """As if nobody knew what a folder that is gone was called."""
    return {"publish": {}, "coursework": {}}


def _as_spelt(_name: str) -> set[tuple[int, str]]:
    """As if nobody read a name otherwise than file systems do."""
    return set()


def _as_said(_uai: str | None, year: str | None) -> str | None:
    """As if a school had the year that the earliest word gives it."""
    return year


async def _teacher(room: Classroom) -> Device:
    """One whose laptop has its classes' folders."""
    teacher = await room.teacher()
    await teacher.session.sync()
    await publishing_folders(teacher.agent)
    return teacher


async def _shared_pc(room: Classroom) -> Device:
    """One that has looked which folders lie there."""
    pc = await room.machine()
    await pc.session.sync()
    await coursework_folders(pc.agent, [])
    return pc


async def _saved_on(device: Device) -> list[tuple[str, bytes | None, bool]]:
    """In which folders people have saved something: of which class, and whether that is over."""
    return [(each.name, each.space, each.is_over) for each in await saved_files(device.agent)]


def _saved(device: Device, below: str, name: str = CALLED) -> Path:
    """Something that somebody keeps in a folder of their own."""
    place = device.agent.folder / below / name
    place.mkdir(parents=True)
    (place / "travail de Léa.odt").write_bytes(b"what nobody is to read")
    return place


async def _given(room: Classroom, space: bytes, device: Device, role: Role | None = None) -> bytes:
    """What a copied key gives a device in a class: `role`, or the right that it has anyhow."""
    had = room.territory.replica.door.authorities_of(device.agent.device)[0]
    given = Grant(had.key, had.agreement, had.tls_sha256, role or had.role, None if role else had.person, None)
    right = await room.territory.say(space, Kind.GRANT, given.encode())
    await device.session.sync()
    return right.id


async def _taken_back(room: Classroom, space: bytes, device: Device, right: bytes) -> None:
    await room.territory.say(space, Kind.REVOKE, Revocation(device.agent.device, ()).encode(), target=right)
    await device.session.sync()


async def _class_of_a_thiefs(
    room: Classroom, device: Device, role: Role | None = None, *, name: str = CALLED
) -> tuple[bytes, bytes]:
    """A class of that name, in which a copied key gives this device a right; and that right."""
    space = await room.territory.classroom(name, school=room.school)
    return space, await _given(room, space, device, role)


async def _with_a_lesson(room: Classroom, space: bytes, device: Device) -> None:
    """What the thief has published in it lies in a folder of that name on this device."""
    thief = await room.teacher()
    await thief.session.sync()
    await _given(room, space, thief)
    await Desk(thief.agent).publish({"a.txt": b"a lesson"}, space=space.hex(), title="Eau")
    await thief.session.sync()
    await device.session.sync()
    await Materializer(device.agent, reserve_bytes=0).refresh(thorough=True)
    assert (device.agent.folder / "coursework" / CALLED / "Eau").is_dir()


async def _published_of(device: Device, space: bytes) -> Path | None:
    """The folder whose titles are published in a class."""
    watched = await publishing_folders(device.agent)
    return next((each.place for each in watched if each.space == space), None)


@attack(ROW, off={"sync_agent.coursework.space_folders._lying_in": _nothing})
async def test_what_a_teacher_keeps_beside_her_classes_folders_is_published_in_no_class_of_that_name(
    tmp_path: Path,
) -> None:
    async with classroom(tmp_path) as room:
        teacher = await _teacher(room)
        own = _saved(teacher, "publish", CALLED.upper())
        space, _ = await _class_of_a_thiefs(room, teacher)
        assert await _published_of(teacher, space) == own.with_name(f"{CALLED} (2)")


@attack(ROW, off={"sync_agent.coursework.space_folders._lying_in": _nothing})
async def test_what_people_saved_in_a_folder_of_their_own_is_left_of_no_class_that_is_over(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        pc = await _shared_pc(room)
        _saved(pc, "coursework")
        space, right = await _class_of_a_thiefs(room, pc)
        await coursework_folders(pc.agent, [space])
        await _taken_back(room, space, pc, right)
        assert await _saved_on(pc) == [(CALLED, None, False)]


@attack(ROW, off={"sync_agent.coursework.space_folders.folder_name": str})
async def test_no_class_is_called_as_windows_calls_a_folder_of_hers_in_eight_characters(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        teacher = await _teacher(room)
        own = _saved(teacher, "publish", "Corrections 2026")
        space, _ = await _class_of_a_thiefs(room, teacher, name="CORREC~1")
        assert await _published_of(teacher, space) == own.with_name("CORREC-1")


@attack(BEFORE, off={"sync_agent.coursework.space_folders.remembered_folders": _in_either})
async def test_what_a_teacher_puts_into_a_folder_that_she_makes_is_published_in_no_class_that_had_the_name_before(
    tmp_path: Path,
) -> None:
    async with classroom(tmp_path) as room:
        teacher = await _teacher(room)
        space, _ = await _class_of_a_thiefs(room, teacher, Role.MACHINE)
        await _with_a_lesson(room, space, teacher)
        assert await _published_of(teacher, space) is None, "nothing of hers may be published there"
        own = _saved(teacher, "publish")
        await _given(room, space, teacher)
        assert await _published_of(teacher, space) == own.with_name(f"{CALLED} (2)")


@attack(BEFORE, off={"sync_agent.coursework.space_folders._remove_empty": _left_there})
async def test_a_folder_that_was_a_classs_and_empty_is_nobodys_once_she_may_publish_there_no_more(
    tmp_path: Path,
) -> None:
    async with classroom(tmp_path) as room:
        teacher = await room.teacher()
        await teacher.session.sync()
        space, right = await _class_of_a_thiefs(room, teacher)
        place = teacher.agent.folder.absolute() / "publish" / CALLED
        assert await _published_of(teacher, space) == place
        await _taken_back(room, space, teacher, right)
        assert await _published_of(teacher, space) is None
        (place / "CM1").mkdir(parents=True)
        await _given(room, space, teacher)
        assert await _published_of(teacher, space) == place.with_name(f"{CALLED} (2)")


@attack(BEFORE, off={"sync_agent.coursework.space_folders._lies": _for_ever})
async def test_what_people_save_in_a_folder_of_their_own_is_left_of_no_class_that_was_there_before(
    tmp_path: Path,
) -> None:
    async with classroom(tmp_path) as room:
        pc = await _shared_pc(room)
        space, right = await _class_of_a_thiefs(room, pc)
        await _with_a_lesson(room, space, pc)
        await _taken_back(room, space, pc, right)
        await Materializer(pc.agent, reserve_bytes=0).refresh(thorough=True)
        _saved(pc, "coursework")
        assert await _saved_on(pc) == [(CALLED, None, False)]


@attack(AWAY, off={"sync_agent.coursework.space_folders._former": _no_names})
async def test_the_empty_folder_of_her_class_is_hers_again_after_her_right_was_away_and_another_class_had_its_name(
    tmp_path: Path,
) -> None:
    async with classroom(tmp_path) as room:
        teacher = await _teacher(room)
        place = teacher.agent.folder.absolute() / "publish" / "CM1"
        assert await _published_of(teacher, room.space) == place
        await _given(room, await room.territory.classroom("CM2"), teacher)
        had = room.territory.replica.door.authorities_of(teacher.agent.device)[0]
        await _taken_back(room, room.space, teacher, had.grant)
        assert await _published_of(teacher, room.space) is None
        assert not place.exists()
        thiefs, _ = await _class_of_a_thiefs(room, teacher, name="CM1")
        assert await _published_of(teacher, thiefs) == place.with_name("CM1 (2)")
        await _given(room, room.space, teacher)
        assert await _published_of(teacher, room.space) == place


@pytest.mark.parametrize("name", ["CMl", "\u0421\u041c1", "CM 1"], ids=["small l", "Cyrillic", "apart"])
@attack(AWAY, off={"sync_agent.coursework.space_folders.readings": _as_spelt})
async def test_no_class_whose_name_is_read_like_that_of_hers_has_a_folder_of_that_name_meanwhile(
    tmp_path: Path, name: str
) -> None:
    async with classroom(tmp_path) as room:
        teacher = await _teacher(room)
        place = teacher.agent.folder.absolute() / "publish" / "CM1"
        await _given(room, await room.territory.classroom("CM2"), teacher)
        had = room.territory.replica.door.authorities_of(teacher.agent.device)[0]
        await _taken_back(room, room.space, teacher, had.grant)
        assert await _published_of(teacher, room.space) is None
        thiefs, _ = await _class_of_a_thiefs(room, teacher, name=name)
        assert await _published_of(teacher, thiefs) == place.with_name(f"{name} (2)")
        await _given(room, room.space, teacher)
        assert await _published_of(teacher, room.space) == place


@attack(AWAY, off={"sync_agent.coursework.space_folders._former": _no_names})
async def test_a_lesson_of_another_class_comes_into_no_folder_that_pupils_know_as_their_classs(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        pc = await _shared_pc(room)
        space, right = await _class_of_a_thiefs(room, pc)
        await _with_a_lesson(room, space, pc)
        await _taken_back(room, space, pc, right)
        await Materializer(pc.agent, reserve_bytes=0).refresh(thorough=True)
        assert not (pc.agent.folder / "coursework" / CALLED).exists()
        another, _ = await _class_of_a_thiefs(room, pc)
        assert await coursework_folders(pc.agent, [another]) == {another: f"{CALLED} (2)"}


@attack(AWAY, off={"protocol.model.structure.year_that_counts": _as_said})
async def test_the_folder_of_a_school_is_the_schools_whatever_year_a_word_says_of_it(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        teacher, territory = await _teacher(room), room.territory
        right = await _given(room, room.school, teacher)
        place = await _published_of(teacher, room.school)
        assert place is not None
        again = compose(
            author=territory.keys.signing,
            space=territory.id,
            kind=Kind.SPACE,
            grant=territory.certificate.id,
            at=1,
            payload=SpaceRecord("École", "0180001X", "2019-2020").encode(),
            salt=bytes(SALT_BYTES),
        )
        assert (await territory.replica.admit([again], source=b"thief", now_ms=territory.clock())).admitted
        await _given(room, await territory.classroom("CM2"), teacher)
        await _taken_back(room, room.school, teacher, right)
        assert await _published_of(teacher, room.school) is None
        thiefs, _ = await _class_of_a_thiefs(room, teacher, name=place.name)
        assert await _published_of(teacher, thiefs) == place.with_name(f"{place.name} (2)")
        await _given(room, room.school, teacher)
        assert await _published_of(teacher, room.school) == place


async def test_next_years_class_has_the_folder_of_last_years_again(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        teacher = await _teacher(room)
        first = await room.territory.classroom("CM2", school=room.school)
        right = await _given(room, first, teacher)
        place = teacher.agent.folder.absolute() / "publish" / "CM2"
        assert await _published_of(teacher, first) == place
        await _taken_back(room, first, teacher, right)
        assert await _published_of(teacher, first) is None
        room.territory.clock.advance(366 * DAY_MS)
        following = await room.territory.classroom("CM2", school=room.school)
        await _given(room, following, teacher)
        assert await _published_of(teacher, following) == place


async def test_a_name_of_an_earlier_version_is_a_classs_where_its_folder_lies(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        teacher = await room.teacher()
        await teacher.session.sync()
        space, _ = await _class_of_a_thiefs(room, teacher)
        names = {room.space: "CM1 (7)", space: CALLED}
        marks = {SPACE_FOLDER_MARKS + one.hex(): name.encode() for one, name in names.items()}
        await teacher.agent.replica.store.set_marks(marks)
        _saved(teacher, "publish", "CM1 (7)")
        await coursework_folders(teacher.agent, [])
        _saved(teacher, "publish")
        found = {each.space: each.place.name for each in await publishing_folders(teacher.agent)}
        assert found == {room.space: "CM1 (7)", space: f"{CALLED} (2)"}


async def test_where_nothing_is_remembered_what_lies_there_is_the_folder_of_its_class_again(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        teacher = await room.teacher()
        _saved(teacher, "publish", "CM1")
        await teacher.session.sync()
        assert "CM1" in {each.place.name for each in await publishing_folders(teacher.agent)}
