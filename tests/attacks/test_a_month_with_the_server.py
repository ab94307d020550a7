"""The month for which a PC keeps work that nobody has opened: no wrong clock and no burnt server ends it early.

docs/attacks.md; docs/adr/0254.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from random import Random

import pytest

from protocol.clock import DAY_MS
from protocol.errors import RelaisError
from protocol.replica.content.holdings import Need
from protocol.roles import Role
from sync_agent.app import Agent
from sync_agent.machine.backups_said import Backups, has_waited
from sync_agent.machine.eviction import Seen, Worth
from sync_agent.sync.session import Session
from tests.harness.attack import attack
from tests.harness.classroom import Classroom, Device, assignment, work_of, worth_of
from tests.harness.passing_days import pass_days
from tests.harness.wire import Faulty, MemoryTransport

ROW = "the month after a server's receipt is cut short"
WORK = {"redaction.odt": Random(3).randbytes(300_000)}


class Killed(BaseException):
    """The program is gone, in the middle of what it was doing."""


async def acknowledged(room: Classroom, pupils: Device, item: bytes) -> Need:
    """Work that this PC handed in, and knows the server's receipt of."""
    hand_in = await room.hand_in(pupils, item, WORK)
    for _ in range(2):
        await pupils.session.sync()
    work = await work_of(pupils, room, hand_in)
    assert work.at_server
    assert not work.opened
    return Need(room.space, work.record.content.stream, sealed=True)


def _by_the_own_clock(wall_ms: int, _steady_ms: int | None) -> int:
    return wall_ms


@attack(ROW, off={"sync_agent.machine.watched.watched_ms": _by_the_own_clock})
async def test_a_pc_whose_clock_was_wrong_when_it_handed_in_keeps_the_work_for_a_month_all_the_same(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, pupils, teacher = room.territory.clock, await room.machine(), await room.teacher()
    pupils.agent.now_ms = lambda: clock() - 17 * 365 * DAY_MS
    responder = room.frontage.responder
    responder.backup_ms = clock() + 40 * DAY_MS
    need = await acknowledged(room, pupils, await assignment(room, teacher, pupils))
    clock.advance(600_000)
    pupils.agent.now_ms = clock
    monkeypatch.setattr(responder, "_now_ms", lambda: clock() + 31 * DAY_MS)
    await pupils.session.sync()
    assert await worth_of(pupils, need) is Worth.KEPT
    await pass_days(room.territory, 31, pupils)
    await pupils.session.sync()
    assert await worth_of(pupils, need) is Worth.RECEIVED, "a month has passed, and all that is known is what it says"


def _whatever_store(seen: Seen | None, _since: Seen | None) -> Seen | None:
    return seen


def _as_soon_as_it_is_said(seen: Seen | None, backups: Backups, now: Seen | None) -> bool:
    held = seen is not None and now is not None and has_waited(seen, now)
    return held and any(seen is not None and seen.server_ms <= one.begun_ms for one in backups)


AS_SOON_AS_IT_IS_SAID: dict[str, object] = {"sync_agent.sync.worth.is_safe_elsewhere": _as_soon_as_it_is_said}
WHATEVER_STORE = {**AS_SOON_AS_IT_IS_SAID, "sync_agent.sync.worth.with_this_store": _whatever_store}


@attack(ROW, off=WHATEVER_STORE)
@pytest.mark.parametrize("posts", [2, 4])
async def test_a_month_with_a_server_that_has_burnt_is_none_with_the_one_that_was_made_anew(
    room: Classroom, tmp_path: Path, posts: int
) -> None:
    teacher = await room.teacher()
    pupils = await room.device(Role.MACHINE, way=lambda front: Faulty(MemoryTransport(front)))
    need = await acknowledged(room, pupils, await assignment(room, teacher, pupils))
    await after_a_fire(room, tmp_path, teacher, pupils)
    faults, left = pupils.faulty.faults, posts

    def cut_soon(_path: str) -> None:
        nonlocal left
        left -= 1
        faults.down = left < 0

    faults.on_post = cut_soon
    with contextlib.suppress(RelaisError):
        await pupils.session.sync(routine=True)
    assert pupils.agent.backups, "what the new server says first has come"
    assert await worth_of(pupils, need) is Worth.KEPT
    faults.on_post, faults.down = lambda _path: None, False
    for _ in range(2):
        await pupils.session.sync()
    assert await room.territory.holdings.is_complete(need)
    room.frontage.responder.backup_ms = room.territory.clock()
    await pass_days(room.territory, 31, pupils)
    await pupils.session.sync()
    assert await worth_of(pupils, need) is Worth.RECEIVED


@attack(ROW, off=WHATEVER_STORE)
async def test_a_pc_that_is_killed_while_it_meets_the_new_server_counts_no_month_with_the_burnt_one(
    room: Classroom, tmp_path: Path
) -> None:
    teacher, pupils = await room.teacher(), await room.machine()
    need = await acknowledged(room, pupils, await assignment(room, teacher, pupils))
    await after_a_fire(room, tmp_path, teacher, pupils)
    for calls in count(1):
        if not await is_killed_at(pupils, calls):
            break
        pupils.agent = await Agent.open(
            pupils.agent.folder, now_ms=room.territory.clock, entropy=Random(calls).randbytes
        )
        pupils.session = Session(pupils.agent, pupils.way)
        assert await worth_of(pupils, need) is Worth.KEPT
    assert calls > 4
    assert await room.territory.holdings.is_complete(need)


@attack(ROW, off=WHATEVER_STORE)
async def test_a_month_with_a_server_is_none_with_an_image_of_it_from_before_the_work(
    room: Classroom, tmp_path: Path
) -> None:
    teacher, pupils = await room.teacher(), await room.machine()
    item = await assignment(room, teacher, pupils)
    clock, server, image = room.territory.clock, tmp_path / "server", tmp_path / "image"
    await room.territory.close()
    await asyncio.to_thread(shutil.copytree, server, image)
    await room.restart_server(server)
    need = await acknowledged(room, pupils, item)
    await pass_days(room.territory, 31, pupils)
    await room.restart_server(image)
    room.frontage.responder.backup_ms = clock()
    with pytest.raises(Killed):
        await is_cut_after_its_first_words(pupils)
    assert pupils.agent.backups
    assert await worth_of(pupils, need) is Worth.KEPT


@pytest.mark.parametrize("before", ["none", "failing"])
@attack(ROW, off=AS_SOON_AS_IT_IS_SAID)
async def test_nobody_who_has_the_server_for_a_day_says_that_a_backup_has_held_last_months_work(
    room: Classroom, before: str
) -> None:
    clock, pupils, teacher = room.territory.clock, await room.machine(), await room.teacher()
    responder = room.frontage.responder
    if before == "failing":
        responder.backup_ms = clock() - DAY_MS
    need = await acknowledged(room, pupils, await assignment(room, teacher, pupils))
    for _ in range(5):
        await pass_days(room.territory, 7, pupils)
        await pupils.session.sync()
    responder.backup_ms = clock()
    await pupils.session.sync()
    assert await worth_of(pupils, need) is Worth.KEPT
    for _ in range(5):
        await pass_days(room.territory, 7, pupils)
        responder.backup_ms = clock()
        await pupils.session.sync()
    assert await worth_of(pupils, need) is Worth.RECEIVED, "it has said so for a month"


async def is_cut_after_its_first_words(device: Device) -> None:
    """A sync that ends once the time and the backup that an answer says are noted."""

    async def killed(begun_ms: int | None, server_ms: int) -> None:
        await noting(begun_ms, server_ms)
        raise Killed

    noting = device.agent.note_backup
    device.agent.note_backup = killed  # type: ignore[method-assign]
    try:
        await device.session.sync()
    finally:
        device.agent.note_backup = noting  # type: ignore[method-assign]


async def after_a_fire(room: Classroom, tmp_path: Path, teacher: Device, pupils: Device) -> None:
    """More than a month later the server is another, which the teacher's laptop has met; it has been backed up."""
    await pass_days(room.territory, 31, pupils)
    await room.replace_server(await room.territory.reborn(tmp_path / "reborn"))
    await teacher.session.sync()
    room.frontage.responder.backup_ms = room.territory.clock()


async def is_killed_at(device: Device, calls: int) -> bool:
    """A sync whose program ends before the so many-th note that it writes; whether it writes as many."""
    store, left = device.agent.replica.store, calls
    noting = store.set_marks

    async def until_killed(marks: Mapping[str, bytes | None], *, by_kit: bool = False) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed
        await noting(marks, by_kit=by_kit)

    store.set_marks = until_killed  # type: ignore[method-assign]
    try:
        await device.session.sync()
    except Killed:
        await device.agent.close()
        return True
    finally:
        store.set_marks = noting  # type: ignore[method-assign]
    return False
