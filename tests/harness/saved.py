"""A PC with a lesson as ordinary files, what people saved beside it, and the end of its class."""

from __future__ import annotations

from pathlib import Path

from protocol.model.entry import Kind
from protocol.model.structure import Erasure
from sync_agent.coursework.materializer import Materializer
from tests.harness.classroom import Classroom, Device
from tests.harness.commands import Desk
from tests.harness.tree import LESSON, edit

OWN = {"CM1/Eau/journal.odt": b"de Lea", "CM1/notes.txt": b"de Tom"}


async def lesson(room: Classroom) -> tuple[Device, Path]:
    """A PC with a lesson as ordinary files, of which somebody changed one, and saved two beside."""
    teacher, pc = await room.teacher(), await room.machine()
    await Desk(teacher.agent).publish(LESSON, space=room.space.hex(), title="Eau")
    for device in (teacher, pc):
        await device.session.sync()
    await in_step(pc)
    tree = pc.agent.folder / "coursework"
    edit(tree / "CM1/Eau/exercice.odt", b"fait par Lea")
    for path, data in OWN.items():
        (tree / path).write_bytes(data)
    return pc, tree


async def in_step(pc: Device) -> None:
    await Materializer(pc.agent, reserve_bytes=0).refresh(thorough=True)


async def close(room: Classroom, pc: Device) -> None:
    await room.territory.kit_says(room.territory.id, Kind.ERASE, Erasure(room.space).encode())
    await pc.session.sync()
    await in_step(pc)
