"""What somebody sealed who has gone since is crowded out by nobody (docs/protocol.md, "Coursework")."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from protocol.folds.hand_in_keys import content_key_of
from protocol.model.entry import Kind
from protocol.model.structure import Revocation
from protocol.rights.vouching import device_id
from protocol.roles import PersonRole, Role
from sync_agent.hand_ins.opening import opening_key
from sync_agent.keys.confirming import confirm, own_device
from sync_agent.keys.key_wraps import reading_keys
from tests.attacks.test_keys_kept_from_a_pc import _handed_in_without_the_kit, _opens
from tests.attacks.test_wraps_of_later_keys import _with_new_keys
from tests.harness.attack import attack
from tests.harness.classroom import WORK, Classroom, Device, assignment, classroom, work_of
from tests.harness.crowding_wraps import crowd_with_wraps, first_wrap_of
from tests.harness.lost_laptop import another_laptop, cut_off, let_in_again
from tests.harness.spied_class import spied_class

ROW = "a machine gives a teacher a false key to another's work"
OFF = {"protocol.folds.seals._ever": lambda _roster: ()}


async def _crowded(room: Classroom, work: bytes, readers: Sequence[bytes], giver: Device) -> set[bytes]:
    """Pupils' PCs wrap the work for these, before what the giver has wrapped."""
    return await crowd_with_wraps(room, work, readers, before=await first_wrap_of(room, work, giver))


@pytest.mark.parametrize("how", ["cut off", "her right has ended", "let in again, and not confirmed"])
@attack(ROW, off=OFF)
async def test_what_she_gave_a_colleague_opens_once_her_laptop_is_gone_whatever_pupils_pcs_say(
    tmp_path: Path, how: str
) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        room, work = here.room, here.work
        roy = await room.territory.person("M. Roy", PersonRole.TEACHER, room.space)
        laptop = await room.device(Role.TEACHER, person=roy)
        await here.sync(laptop, here.teacher)
        await confirm(here.teacher.agent, device_id(own_device(laptop.agent)))
        for _ in range(2):
            await here.sync(here.teacher, laptop, here.machine)
        assert (key := await opening_key(laptop.agent, await work_of(laptop, room, work))) is not None
        await another_laptop(here, here.teacher)
        await here.sync(here.teacher)
        (held,) = room.territory.replica.door.authorities_of(here.teacher.agent.device)
        await cut_off(here, here.teacher, ends=held.grant if how == "her right has ended" else None)
        if how == "let in again, and not confirmed":
            await let_in_again(here, here.teacher, Role.TEACHER, room.teacher_person)
        pcs = await _crowded(room, work, tuple(reading_keys(laptop.agent)), here.teacher)
        await here.sync(laptop)
        found = await work_of(laptop, room, work)
        assert any(pcs.intersection(authors) for authors in found.wrapped_by.values()), "it has heard them"
        assert await opening_key(laptop.agent, found) == key


@attack(ROW, off=OFF)
async def test_nor_does_the_kit_open_less_once_the_teacher_has_left_who_sealed_the_work_to_it(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        territory = room.territory
        kit = territory.keys.recovery
        petit, pc, work = await _handed_in_without_the_kit(room)
        await _opens(petit, pc, room, work)
        for _ in range(3):
            await petit.session.sync()
        said = tuple(await territory.replica.tips(room.space, petit.agent.device))
        await territory.say(room.space, Kind.REVOKE, Revocation(petit.agent.device, said).encode())
        await _crowded(room, work, [kit.public], petit)
        found = (await territory.replica.view(room.space)).coursework.hand_ins[work]
        assert content_key_of(found, {kit.public: kit}) is not None


@attack(ROW, off=OFF)
async def test_nor_what_a_pc_wrapped_with_new_keys_once_it_is_gone(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        teacher, machine = await room.teacher(), await room.machine()
        work = await room.hand_in(machine, await assignment(room, teacher, machine), WORK)
        await machine.session.sync()
        first = machine.agent.device
        pc = await _with_new_keys(room, machine)
        await pc.session.sync()
        person = await room.territory.person("M. Durand", PersonRole.TEACHER, room.space)
        substitute = await room.device(Role.TEACHER, person=person)
        for _ in range(3):
            await substitute.session.sync()
            await pc.session.sync()
        heads = [tip for key in (first, pc.agent.device) for tip in await room.territory.replica.tips(room.space, key)]
        await room.territory.say(room.space, Kind.REVOKE, Revocation(first, tuple(heads)).encode())
        await _crowded(room, work, tuple(reading_keys(substitute.agent)), pc)
        await substitute.session.sync()
        found = await work_of(substitute, room, work)
        assert content_key_of(found, reading_keys(substitute.agent)) is not None
