"""While no server answers, work lies on a second machine that says so; machines that forget never count (R1, R8)."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from protocol.folds.coursework import HandInState
from protocol.roles import Role
from sync_agent.app import Agent
from sync_agent.hand_ins.copies import Copies, carriers_of, forgetful_devices
from sync_agent.hand_ins.handing_in import confirm_opened
from tests.harness.classroom import WORK, Classroom, Device, assignment, classroom, state_at, work_of
from tests.harness.lan import exchange

LONG: dict[str, bytes] = {"film.bin": Random(3).randbytes(300_000)}


@dataclass
class Handed:
    """A pupil's machine that has handed something in, two others of the class, nobody of them near a server."""

    room: Classroom
    author: Device
    others: list[Device]
    hand_in: bytes

    async def state(self, device: Device) -> HandInState:
        return await state_at(device, self.room, self.hand_in)

    async def holds(self, device: Device) -> bool:
        stream = (await work_of(self.author, self.room, self.hand_in)).record.content.stream
        return await device.agent.replica.content.chunk_list(stream) is not None


async def handed_in(room: Classroom, others: int, files: dict[str, bytes] | None = None) -> Handed:
    teacher = await room.teacher()
    machines = [await room.machine() for _ in range(others + 1)]
    item = await assignment(room, teacher, *machines)
    hand_in = await room.hand_in(machines[0], item, files or WORK)
    return Handed(room, machines[0], machines[1:], hand_in)


@pytest.mark.parametrize("files", [WORK, LONG])
@pytest.mark.parametrize("author_calls", [True, False])
async def test_a_second_machine_keeps_the_work_and_signs_for_it(
    room: Classroom, files: dict[str, bytes], *, author_calls: bool
) -> None:
    story = await handed_in(room, 1, files)
    (other,) = story.others
    assert await story.state(story.author) is HandInState.LOCAL
    for _ in range(2):
        pair = (story.author, other) if author_calls else (other, story.author)
        await exchange(pair[0].agent, pair[1].agent)
        await Copies(other.agent, set).tend()
    assert await story.holds(other)
    assert await story.state(story.author) is HandInState.SAFE


async def test_two_machines_keep_it_and_no_third(room: Classroom) -> None:
    story = await handed_in(room, 4)
    for other in story.others:
        await exchange(other.agent, story.author.agent)
        await exchange(other.agent, story.author.agent)
    assert sum([await story.holds(other) for other in story.others]) == 2
    assert len((await work_of(story.author, room, story.hand_in)).copies) == 2


@pytest.mark.parametrize("is_opened", [True, False])
async def test_what_a_teacher_has_opened_takes_no_room_of_what_others_sign_for(
    room: Classroom, monkeypatch: pytest.MonkeyPatch, *, is_opened: bool
) -> None:
    """A room of PCs of one image hands in for years where no server is: none of that is the server's ever."""
    monkeypatch.setattr("sync_agent.hand_ins.copies.MAX_SAFE_RECEIPTS_PER_LINE", 1)
    story = await handed_in(room, 1)
    teacher, (other,) = room.devices[0], story.others
    for _ in range(2):
        await exchange(other.agent, story.author.agent)
    assert await story.state(story.author) is HandInState.SAFE
    if is_opened:
        await exchange(teacher.agent, story.author.agent)
        await confirm_opened(teacher.agent, story.hand_in)
        await exchange(other.agent, teacher.agent)
    work = await work_of(story.author, room, story.hand_in)
    story.hand_in = await room.hand_in(story.author, work.item, {"suite.txt": b"suite"})
    for _ in range(2):
        await exchange(other.agent, story.author.agent)
    assert (await story.state(story.author) is HandInState.SAFE) is is_opened


async def test_a_teachers_device_signs_for_what_it_holds(room: Classroom) -> None:
    story = await handed_in(room, 0)
    teacher = room.devices[0]
    await exchange(teacher.agent, story.author.agent)
    assert await story.state(story.author) is HandInState.SAFE


async def test_a_head_teachers_device_holds_the_work_beside_two_machines(room: Classroom) -> None:
    story = await handed_in(room, 2)
    head = await room.head(person=room.teacher_person)
    for other in (*story.others, head):
        await exchange(other.agent, story.author.agent)
        await exchange(other.agent, story.author.agent)
    assert [await story.holds(other) for other in (*story.others, head)] == [True, True, True]


async def test_a_relay_holds_all_classes_of_its_school_and_every_work(tmp_path: Path) -> None:
    async with classroom(tmp_path, spaces=2) as room:
        relay = await room.device(Role.RELAY, room.territory.schools[0])
        story = await handed_in(room, 0)
        await exchange(relay.agent, story.author.agent)
        assert await story.holds(relay)
        assert await story.state(story.author) is HandInState.SAFE
        await relay.session.sync()
        assert set(room.territory.classes) <= set(await relay.agent.spaces())
        await exchange(relay.agent, story.author.agent)
        assert await story.state(story.author) is HandInState.SERVER


async def test_what_the_server_has_signed_for_is_entrusted_to_nobody(room: Classroom) -> None:
    story = await handed_in(room, 1)
    await story.author.session.sync()
    (other,) = story.others
    await exchange(story.author.agent, other.agent)
    assert not await story.holds(other)


async def test_who_has_no_work_under_way_reads_nothing_to_know_that_it_entrusts_none(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = await handed_in(room, 1)
    (other,) = story.others
    await exchange(story.author.agent, other.agent)
    copies = Copies(other.agent, set)
    await copies.entrusted(room.space, story.author.agent.device)
    monkeypatch.setattr(other.agent.replica.store, "marks", None)
    assert await copies.entrusted(room.space, story.author.agent.device) == frozenset()


async def test_a_copy_reaches_the_server_by_the_machine_that_kept_it(room: Classroom) -> None:
    story = await handed_in(room, 1, LONG)
    (other,) = story.others
    await exchange(story.author.agent, other.agent)
    await other.session.sync()
    await exchange(story.author.agent, other.agent)
    assert await story.state(story.author) is HandInState.SERVER


async def test_a_machine_that_forgets_at_reboot_is_noticed_and_never_counted(room: Classroom, tmp_path: Path) -> None:
    story = await handed_in(room, 1)
    (frozen,) = story.others
    folder = frozen.agent.folder
    image = tmp_path / "image"
    await frozen.agent.close()
    shutil.copytree(folder, image)
    frozen.agent = await reopened(folder, room, 1)
    for _ in range(2):
        await exchange(story.author.agent, frozen.agent)
        await Copies(frozen.agent, set).tend()
    assert await story.state(story.author) is HandInState.SAFE

    await frozen.agent.close()
    shutil.rmtree(folder)
    shutil.copytree(image, folder)
    frozen.agent = await reopened(folder, room, 2)
    await exchange(story.author.agent, frozen.agent)
    for device in (story.author, frozen):
        assert frozen.agent.device in await forgetful_devices(device.agent)
    assert await story.state(story.author) is HandInState.LOCAL
    assert await Copies(frozen.agent, set).tend() == 0


async def test_work_that_comes_back_to_a_machine_that_forgot_it_is_as_safe_as_it_was(
    room: Classroom, tmp_path: Path
) -> None:
    teacher, frozen, other = await room.teacher(), await room.machine(), await room.machine()
    item = await assignment(room, teacher, frozen, other)
    folder, image = frozen.agent.folder, tmp_path / "image"
    await frozen.agent.close()
    shutil.copytree(folder, image)
    frozen.agent = await reopened(folder, room, 1)
    story = Handed(room, frozen, [other], await room.hand_in(frozen, item, LONG))
    for _ in range(2):
        await exchange(frozen.agent, other.agent)
        await Copies(other.agent, set).tend()
    assert await story.state(frozen) is HandInState.SAFE

    await frozen.agent.close()
    shutil.rmtree(folder)
    shutil.copytree(image, folder)
    frozen.agent = await reopened(folder, room, 2)
    for _ in range(3):
        await exchange(frozen.agent, other.agent)
    assert await story.state(frozen) is HandInState.SAFE


async def reopened(folder: Path, room: Classroom, seed: int) -> Agent:
    return await Agent.open(folder, now_ms=room.territory.clock, entropy=Random(seed).randbytes)


def test_everybody_names_the_same_carriers() -> None:
    devices = [bytes([number]) * 32 for number in range(9)]
    assert carriers_of(b"work", devices, 2) == carriers_of(b"work", devices[::-1], 2)
    assert len({frozenset(carriers_of(bytes([n]), devices, 2)) for n in range(30)}) > 5
