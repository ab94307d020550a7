"""What deletes the files that people saved for a class that is over deletes nobody else's."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from protocol.errors import BadInput
from protocol.model.entry import Kind
from protocol.model.structure import Erasure
from sync_agent.app import Agent
from tests.harness.attack import attack
from tests.harness.classroom import Classroom
from tests.harness.commands import Desk
from tests.harness.erasures import closed_by_anybody
from tests.harness.saved import close, lesson
from tests.harness.tree import files_of

ROW: Final = "what deletes a closed class's files is led to others"


async def _all(_agent: Agent, spaces: Mapping[str, bytes]) -> set[str]:
    """As if every class were over."""
    return set(spaces)


@attack(ROW, off={"sync_agent.coursework.saved_files._over": _all})
async def test_of_a_class_that_is_not_over_nothing_is_deleted(room: Classroom) -> None:
    pc, tree = await lesson(room)
    before, refused = files_of(tree), False
    try:
        await Desk(pc.agent).ask("saved-clear", space=[room.space.hex()])
    except BadInput:
        refused = True
    assert refused
    assert files_of(tree) == before


@attack(ROW, off={"sync_agent.coursework.saved_files.closed_by_kit": closed_by_anybody})
async def test_nor_of_one_that_a_copied_key_hides_for_an_hour(room: Classroom) -> None:
    pc, tree = await lesson(room)
    (tree / "CM1" / "travail.odt").write_bytes(b"de Lea")
    await room.territory.say(room.territory.id, Kind.ERASE, Erasure(room.space).encode())
    await pc.session.sync()
    refused = False
    try:
        await Desk(pc.agent).ask("saved-clear", space=[room.space.hex()])
    except BadInput:
        refused = True
    assert refused
    assert (tree / "CM1" / "travail.odt").exists()


def _followed(state: os.stat_result) -> bool:
    """As if a link to a folder were one."""
    return stat.S_ISDIR(state.st_mode) or stat.S_ISLNK(state.st_mode)


@attack(ROW, off={"sync_agent.coursework.folder.is_plain_folder": _followed})
async def test_a_link_is_deleted_and_not_what_it_leads_to(room: Classroom, tmp_path: Path) -> None:
    pc, tree = await lesson(room)
    elsewhere = tmp_path / "Documents"
    elsewhere.mkdir()
    (elsewhere / "these.odt").write_bytes(b"d'une autre")
    (tree / "CM1" / "lien").symlink_to(elsewhere, target_is_directory=True)
    await close(room, pc)
    assert (await Desk(pc.agent).ask("saved-clear", space=[room.space.hex()]))["files"] == 4
    assert files_of(elsewhere) == {"these.odt": b"d'une autre"}
    assert not (tree / "CM1").exists()
