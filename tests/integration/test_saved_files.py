"""What people saved in DIR/coursework outlives their class: it is told, and deleted for who names the class."""

from __future__ import annotations

import pytest

from protocol.errors import Refused
from protocol.model.entry import Kind
from protocol.model.structure import Revocation
from tests.harness.classroom import Classroom, Device
from tests.harness.commands import Desk
from tests.harness.passing_days import pass_days
from tests.harness.portal import portal
from tests.harness.saved import close, in_step, lesson
from tests.harness.tree import files_of

OVER_MS = 1_822_348_800_000
"""1 October 2027."""


async def listed(pc: Device) -> dict[str, bool]:
    rows = await Desk(pc.agent).ask("saved-list")
    return {row["path"]: row["over"] for row in rows}


async def test_what_people_saved_is_listed_and_nothing_that_was_published(room: Classroom) -> None:
    pc, tree = await lesson(room)
    (tree / "ailleurs.txt").write_bytes(b"de personne")
    found = await listed(pc)
    assert set(found) == {
        "coursework/ailleurs.txt",
        "coursework/CM1/Eau/exercice.odt",
        "coursework/CM1/Eau/journal.odt",
        "coursework/CM1/notes.txt",
    }
    assert not any(found.values())
    assert (await Desk(pc.agent).ask("status"))["coursework"]["saved_of_past"] == []


async def test_once_the_class_is_closed_what_was_published_goes_and_what_people_saved_is_told(room: Classroom) -> None:
    pc, tree = await lesson(room)
    await close(room, pc)
    left = files_of(tree)
    assert sorted(left.values()) == [b"de Lea", b"de Tom", b"fait par Lea"]
    assert set((await listed(pc)).values()) == {True}
    desk = Desk(pc.agent)
    (row,) = (await desk.ask("status"))["coursework"]["saved_of_past"]
    assert row == {"space": room.space.hex(), "class": "CM1", "files": 3, "bytes": sum(map(len, left.values()))}
    assert (await desk.ask("doctor"))["ok"], "it is no fault of the computer's"
    assert any("“coursework/CM1” (3)" in line for line in desk.told)
    await pass_days(room.territory, 8, pc)
    await in_step(pc)
    assert (await desk.ask("status"))["coursework"]["saved_of_past"] == [row], "also when all else of it is destroyed"
    async with portal(pc.agent) as page:
        shown = await page.page("/state?lang=en")
        assert "3 files that people saved on this computer, in “coursework/CM1”" in shown


async def test_who_names_the_class_deletes_what_people_saved_there_and_nothing_else(room: Classroom) -> None:
    pc, tree = await lesson(room)
    (tree / "ailleurs.txt").write_bytes(b"de personne")
    await close(room, pc)
    desk = Desk(pc.agent)
    assert await desk.ask("saved-clear", space=[bytes(32).hex()]) == {"files": 0, "left": 0}
    assert await desk.ask("saved-clear", space=[room.space.hex()]) == {"files": 3, "left": 0}
    assert files_of(tree) == {"ailleurs.txt": b"de personne"}
    assert not (tree / "CM1").exists()
    assert await desk.ask("saved-clear", space=[room.space.hex()]) == {"files": 0, "left": 0}
    assert (await desk.ask("status"))["coursework"]["saved_of_past"] == []


async def test_a_pc_that_has_heard_nothing_since_summer_tells_it_and_deletes_it_too(room: Classroom) -> None:
    pc, tree = await lesson(room)
    room.territory.clock.ms = OVER_MS
    assert set((await listed(pc)).values()) == {True}
    assert await Desk(pc.agent).ask("saved-clear", space=[room.space.hex()]) == {"files": 3, "left": 0}
    assert sorted(files_of(tree)) == ["CM1/Eau/images/carte.png", "CM1/Eau/index.html"]


async def test_a_computer_whose_access_has_ended_tells_it_and_deletes_it_too(room: Classroom) -> None:
    pc, tree = await lesson(room)
    await room.territory.say(room.space, Kind.REVOKE, Revocation(pc.agent.device, ()).encode())
    with pytest.raises(Refused):
        await pc.session.sync()
    assert set((await listed(pc)).values()) == {True}
    assert await Desk(pc.agent).ask("saved-clear", space=[room.space.hex()]) == {"files": 3, "left": 0}
    assert b"de Lea" not in files_of(tree).values()
