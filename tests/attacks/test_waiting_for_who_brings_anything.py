"""Who is waited for, and brings anything but what others wait for (docs/attacks.md)."""

from __future__ import annotations

from pathlib import Path

from protocol.model.entry import Kind
from protocol.model.structure import Revocation
from sync_agent.sync.electing import Found
from sync_agent.sync.sharing import LEAST_CONTENT_S, MOST_ENTRIES_S
from tests.harness.attack import attack
from tests.harness.classroom import LARGE, Classroom, Device, classroom
from tests.harness.named import Named

ROW = "a machine is named to fetch for all, and fetches nothing"
SOON_S = 60.0
ENDLESS = {
    "sync_agent.sync.sharing.Sharing._is_over": lambda *_: False,
    "sync_agent.sync.sharing.Sharing._is_late": lambda *_: False,
}


async def waits(device: Device, named: Named, duration_s: float, found: Found = Found.SOMETHING) -> None:
    """It looks each minute, and the one that is named has something, or nothing, each time that it is asked."""
    end_s = named.now_s + duration_s
    while named.now_s < end_s:
        named.now_s += SOON_S
        await device.session.sync()
        if named.asked:
            named.tell(found)


@attack(
    ROW,
    off={
        "sync_agent.sync.sharing.Sharing.held_up": lambda *_: False,
        "sync_agent.sync.sharing.Sharing._is_over": lambda *_: False,
    },
)
async def test_who_is_named_and_brings_other_things_holds_its_own_revocation_back_for_minutes(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        named = Named(["thief", "honest"])
        teacher, thief, honest = await room.teacher(), await room.machine(), await room.machine()
        for device in (teacher, thief, honest):
            await device.session.sync()
        honest.session.sharing = named.sharing("honest")
        cut = Revocation(thief.agent.device, ()).encode()
        await room.territory.say(room.space, Kind.REVOKE, cut)
        await waits(honest, named, MOST_ENTRIES_S + 2 * SOON_S)
        assert await honest.agent.replica.fingerprint(room.space) == await room.territory.replica.fingerprint(
            room.space
        )


async def waiting_for_a_lesson(room: Classroom, named: Named) -> tuple[Device, bytes]:
    """A machine that has the entry of a lesson from a neighbour, and leaves its content to who is named; the lesson."""
    teacher, honest = await room.teacher(), await room.machine()
    for device in (teacher, honest):
        await device.session.sync()
    honest.session.sharing = named.sharing("honest")
    item = (await room.publish(teacher, LARGE)).item
    await teacher.session.sync()
    news = [stored.entry for stored in await teacher.agent.replica.store.scan(room.space)]
    await honest.agent.replica.admit(news, source=b"neighbour", now_ms=room.territory.clock())
    return honest, item


@attack(ROW, off=ENDLESS)
async def test_who_is_named_and_brings_other_things_holds_a_lesson_back_for_minutes_only(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        named = Named(["thief", "honest"])
        honest, item = await waiting_for_a_lesson(room, named)
        await waits(honest, named, LEAST_CONTENT_S + 3 * SOON_S)
        assert not await honest.agent.missing()
        assert await honest.files(item) == LARGE


@attack(ROW, off=ENDLESS)
async def test_who_says_that_it_fetches_and_never_does_holds_a_lesson_back_for_minutes_only(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        named = Named(["thief", "honest"], at_it={"thief"})
        honest, item = await waiting_for_a_lesson(room, named)
        await waits(honest, named, LEAST_CONTENT_S + 3 * SOON_S, Found.NOTHING)
        assert not await honest.agent.missing()
        assert await honest.files(item) == LARGE


@attack(ROW, off={"sync_agent.sync.sharing.Sharing._pass_over": lambda _, wait: wait.passed.add(wait.of)})
async def test_who_has_said_so_and_brought_nothing_does_not_hold_the_next_lesson_back(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        named = Named(["thief", "honest"], at_it={"thief"})
        honest, _ = await waiting_for_a_lesson(room, named)
        await waits(honest, named, LEAST_CONTENT_S + 3 * SOON_S, Found.NOTHING)
        assert not await honest.agent.missing()
        (teacher, *_) = room.devices
        item = (await room.publish(teacher, {"image.png": bytes(reversed(LARGE["image.png"]))})).item
        await teacher.session.sync()
        news = [stored.entry for stored in await teacher.agent.replica.store.scan(room.space)]
        await honest.agent.replica.admit(news, source=b"neighbour", now_ms=room.territory.clock())
        await waits(honest, named, SOON_S, Found.NOTHING)
        assert not await honest.agent.missing()
        assert await honest.files(item) == {"image.png": bytes(reversed(LARGE["image.png"]))}
