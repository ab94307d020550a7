"""A class of a copied key's is called like a folder that somebody made for themselves in DIR (docs/attacks.md)."""

from __future__ import annotations

from pathlib import Path

from protocol.model.entry import Kind
from protocol.model.structure import Grant, Revocation
from sync_agent.coursework.saved_files import saved_files
from sync_agent.coursework.space_folders import space_folders
from sync_agent.watching.folders import publishing_folders
from tests.harness.attack import attack
from tests.harness.classroom import Classroom, Device, classroom

ROW = "a class is called like a folder of somebody's own"
CALLED = "Corrections"


def _nothing(_folder: Path) -> set[str]:
    """As if nothing lay there but what is remembered."""
    return set()


def _saved(device: Device, below: str, name: str = CALLED) -> Path:
    """Something that somebody keeps in a folder of their own."""
    place = device.agent.folder / below / name
    place.mkdir(parents=True)
    (place / "travail de Léa.odt").write_bytes(b"what nobody is to read")
    return place


async def _class_of_a_thiefs(room: Classroom, device: Device) -> tuple[bytes, bytes]:
    """A class of that name, in which a copied key gives this device the right that it has anyhow; and that right."""
    space = await room.territory.classroom(CALLED, school=room.school)
    had = room.territory.replica.door.authorities_of(device.agent.device)[0]
    given = Grant(had.key, had.agreement, had.tls_sha256, had.role, had.person, None)
    right = await room.territory.say(space, Kind.GRANT, given.encode())
    await device.session.sync()
    return space, right.id


@attack(ROW, off={"sync_agent.coursework.space_folders._lying_in": _nothing})
async def test_what_a_teacher_keeps_beside_her_classes_folders_is_published_in_no_class_of_that_name(
    tmp_path: Path,
) -> None:
    async with classroom(tmp_path) as room:
        teacher = await room.teacher()
        await teacher.session.sync()
        await space_folders(teacher.agent)
        _saved(teacher, "publish", CALLED.upper())
        space, _ = await _class_of_a_thiefs(room, teacher)
        (watched,) = [each for each in await publishing_folders(teacher.agent) if each.space == space]
        assert watched.place.name == f"{CALLED} (2)"


@attack(ROW, off={"sync_agent.coursework.space_folders._lying_in": _nothing})
async def test_what_people_saved_in_a_folder_of_their_own_is_left_of_no_class_that_is_over(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        pc = await room.machine()
        await pc.session.sync()
        await space_folders(pc.agent)
        _saved(pc, "coursework")
        space, right = await _class_of_a_thiefs(room, pc)
        await space_folders(pc.agent)
        await room.territory.say(space, Kind.REVOKE, Revocation(pc.agent.device, ()).encode(), target=right)
        await pc.session.sync()
        assert [(each.name, each.space, each.is_over) for each in await saved_files(pc.agent)] == [
            (CALLED, None, False)
        ]


async def test_where_nothing_is_remembered_what_lies_there_is_the_folder_of_its_class_again(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        teacher = await room.teacher()
        _saved(teacher, "publish", "CM1")
        await teacher.session.sync()
        assert "CM1" in {each.place.name for each in await publishing_folders(teacher.agent)}
