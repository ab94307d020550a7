"""Where the file that opens keys of works cannot be used, work goes on, and people are told what does not open."""

from __future__ import annotations

import html
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from sync_agent.machine.enrolled import KEY_SLOTS_FILE, KEY_SLOTS_FILES
from sync_agent.upkeep.erasing import destroy_erased
from tests.harness.bad_disk import unreadable
from tests.harness.classroom import Classroom, Device, assignment, classroom, sealed_key_of
from tests.harness.commands import Desk
from tests.harness.portal import portal

WORK: Final = {"recit.odt": b"Il faisait beau."}
ON_THE_PAGE: Final = "La clé d'un travail rendu ici, que personne n'a encore ouvert, est perdue ou illisible"


@asynccontextmanager
async def in_class(folder: Path) -> AsyncIterator[tuple[Classroom, Device, Device, bytes]]:
    """A teacher's laptop, a PC, and what is to be handed in there."""
    async with classroom(folder) as room:
        teacher, pc = await room.teacher(), await room.machine()
        task = await assignment(room, teacher, pc)
        for device in (teacher, pc):
            await device.session.sync()
        yield room, teacher, pc, task


async def test_where_it_cannot_be_read_work_goes_on_and_doctor_and_page_say_what_is_lost(tmp_path: Path) -> None:
    async with in_class(tmp_path) as (room, teacher, pc, task):
        work = await room.hand_in(pc, task, WORK)
        with unreadable(pc.agent.folder / KEY_SLOTS_FILE):
            cannot, lost = (await Desk(pc.agent).ask("doctor"))["problems"]
            assert (cannot["code"], lost["code"]) == ("storage-failed", "damaged")
            assert "work-slots, under which keys of works and drafts lie, cannot be used" in cannot["message"]
            assert cannot["message"].endswith("what is begun or handed in lies under another one meanwhile")
            assert "of 1 of the works that were handed in here" in lost["message"]
            assert "the key is lost, or cannot be read for now" in lost["message"]
            async with portal(pc.agent) as surfer:
                assert ON_THE_PAGE in html.unescape(await surfer.page("/state"))
            another = await room.hand_in(pc, task, WORK)
            for device in (pc, teacher):
                await device.session.sync()
            assert await Desk(teacher.agent).files("open-hand-in", id=another.hex()) == WORK
        assert (await Desk(pc.agent).ask("doctor"))["problems"] == []
        keys = [pc.agent.key_slots.open(await sealed_key_of(pc, each)) for each in (work, another)]
        assert None not in keys, "what was sealed under either file opens"
        async with portal(pc.agent) as surfer:
            assert ON_THE_PAGE not in html.unescape(await surfer.page("/state"))


async def test_where_no_file_can_be_used_doctor_and_page_say_that_nothing_is_kept(tmp_path: Path) -> None:
    async with in_class(tmp_path) as (room, _, pc, task):
        for file in KEY_SLOTS_FILES:
            (pc.agent.folder / file).mkdir()
        problems = (await Desk(pc.agent).ask("doctor"))["problems"]
        assert len(problems) == len(KEY_SLOTS_FILES)
        assert all(each["message"].endswith("nothing is begun or handed in here meanwhile") for each in problems)
        async with portal(pc.agent) as surfer:
            page, fields = f"/item/{task.hex()}", {"person": room.pupil_person.hex()}
            sent = await surfer.send(page, f"{page}/hand-in", fields, list(WORK.items()))
        assert sent.status == 500
        assert "Cet ordinateur n'arrive pas à garder ton travail : rien n'est rendu." in html.unescape(sent.text)
        await pc.session.sync()


async def test_nor_does_it_keep_a_machine_from_its_server_or_from_destroying_what_is_erased(tmp_path: Path) -> None:
    async with in_class(tmp_path) as (room, teacher, pc, task):
        work = await room.hand_in(pc, task, WORK)
        for device in (pc, teacher):
            await device.session.sync()
        await Desk(teacher.agent).files("open-hand-in", id=work.hex())
        await Desk(teacher.agent).ask("confirm-opened", id=work.hex())
        await teacher.session.sync()
        sealed = await sealed_key_of(pc, work)
        with unreadable(pc.agent.folder / KEY_SLOTS_FILE):
            await pc.session.sync()
            await destroy_erased(pc.agent)
            assert await sealed_key_of(pc, work) is None
        assert pc.agent.key_slots.open(sealed) is not None
        await destroy_erased(pc.agent)
        assert pc.agent.key_slots.open(sealed) is None, (
            "what was given up meanwhile opens nothing once it can be written"
        )
