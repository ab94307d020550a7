"""A pupil with a browser hands in forms of tens of thousands of empty files (docs/attacks.md).

Each costs a second. Their names stayed on the PC for good, were all read at each look after news, and the page that the
teacher has of one such work was some 29 MiB.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from aiohttp import web

from protocol.canonical import Value, encode
from protocol.limits import MAX_FILES_PER_HAND_IN, MiB
from sync_agent.hand_ins.wraps import Kept, tend_hand_ins
from sync_agent.machine.marks import DRAFT_MARKS, HAND_IN_MARKS
from sync_agent.portal.files.uploads import Form, form_with_files
from tests.harness.attack import attack
from tests.harness.classroom import Classroom, assignment
from tests.harness.portal import portal
from tests.harness.work import counted_work

ROW = "forms of many thousand files"
EMPTY = [(f"{number:06}.txt", b"") for number in range(MAX_FILES_PER_HAND_IN)]


def _of_any_number(
    request: web.Request, folder: Path, check: Callable[[str | None], None], *, as_named: bool, most_files: int
) -> AbstractAsyncContextManager[Form]:
    return form_with_files(request, folder, check, as_named=as_named, most_files=most_files**2)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """How many files are handed in at once, here: forms of a thousand take their time."""
    for module in ("sync_agent.portal.everybody.work_pages", "sync_agent.hand_ins.file_names"):
        monkeypatch.setattr(f"{module}.MAX_FILES_PER_HAND_IN", 10)
    return 10


@attack(
    ROW,
    off={
        "sync_agent.portal.each_page.desk.form_with_files": _of_any_number,
        "sync_agent.portal.everybody.work_pages.check_number": lambda _: None,
    },
)
@pytest.mark.parametrize("later", [False, True], ids=["handed in", "for later"])
async def test_more_files_than_a_pupil_hands_in_at_once_are_refused_in_so_many_words(
    room: Classroom, few: int, *, later: bool
) -> None:
    teacher, pc = await room.teacher(), await room.machine()
    page = f"/item/{(await assignment(room, teacher, pc)).hex()}"
    store, fields = pc.agent.replica.store, {"person": room.pupil_person.hex()}
    async with portal(pc.agent) as surfer:
        await surfer.send(page, f"{page}/hand-in", {**fields, "later": "yes"}, EMPTY[:2])
        begun = await store.marks(DRAFT_MARKS)
        # too many by themselves, and with those that were begun
        for files in (EMPTY[: few + 1], EMPTY[2 : few + 1] if later else EMPTY[: few + 1]):
            sent = await surfer.send(page, f"{page}/hand-in", {**fields, **({"later": "yes"} if later else {})}, files)
            assert sent.status == 400
            assert "Il y a trop de fichiers : 10 au plus" in sent.text
        assert await store.marks(DRAFT_MARKS) == begun
    assert len(begun) == 1
    assert not await store.marks(HAND_IN_MARKS)


def _with_names(kept: Kept) -> bytes:
    """What is kept of a hand-in as an earlier version kept it, the names of its files beside its key."""
    rows: list[Value] = [[path, 0] for path, _ in EMPTY]
    return encode({"sealed": kept.sealed_key, "files": rows})


@attack(ROW, off={"sync_agent.hand_ins.wraps.Kept.encode": _with_names})
async def test_a_look_after_news_costs_the_same_however_many_files_were_handed_in(room: Classroom) -> None:
    teacher, pc = await room.teacher(), await room.machine()
    item = await assignment(room, teacher, pc)
    await room.hand_in(pc, item, {"a.txt": b""})
    with counted_work() as before:
        await tend_hand_ins(pc.agent)
    for number in range(3):
        await room.hand_in(pc, item, {f"{number} {path}": data for path, data in EMPTY})
    with counted_work() as after:
        await tend_hand_ins(pc.agent)
    assert after.lines < before.lines + 3 * 1_000


@attack(ROW, off={"sync_agent.portal.everybody.work_pages.listed_files": lambda files: files})
async def test_a_page_of_more_files_than_anybody_looks_through_says_how_many_there_are(room: Classroom) -> None:
    teacher, pc = await room.teacher(), await room.machine()
    item = await assignment(room, teacher, pc)
    files = {f"{number:06}-{'a' * 40}.txt": b"" for number in range(2_000)}
    work = f"/work/{(await room.hand_in(pc, item, files)).hex()}"
    for device in (pc, teacher):
        await device.session.sync()
    for device, whose in ((teacher, None), (pc, room.pupil_person)):
        async with portal(device.agent) as surfer:
            if whose is not None:
                await surfer.send("/who", "/who", {"person": whose.hex(), "back": "/"})
            page = await surfer.get(work)
            assert len(page.body) < MiB // 2
            assert "et 1500 autres fichiers, qui ne sont pas montrés ici" in page.text
    async with portal(teacher.agent) as surfer:
        zipped = await surfer.send(work, f"{work}/open", {"path": ""})
        with zipfile.ZipFile(io.BytesIO(zipped.body)) as archive:
            assert len(archive.namelist()) == len(files)
