"""Whoever has the server's key has a PC keep the keys of opened work, and names readers later (docs/adr/0270)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from random import Random

import pytest

from protocol.clock import DAY_MS
from protocol.model.entry import Kind
from protocol.model.structure import Grant, Revocation
from protocol.rights.door import Authority
from protocol.roles import PersonRole, Role
from sync_agent.hand_ins.first_readers import FirstReaders
from sync_agent.hand_ins.wraps import Kept, mark_of, tend_hand_ins
from sync_agent.upkeep.erasing import destroy_erased
from tests.harness.attack import attack
from tests.harness.classroom import Classroom, Device, assignment, classroom
from tests.harness.commands import Desk
from tests.harness.lan import exchange
from tests.harness.spied_class import SpiedClass, spied_class
from tests.harness.territory import new_device

ROW = "a PC is to keep the keys of work that was opened"


async def _all_of_them(_: FirstReaders, readers: Iterable[bytes]) -> list[bytes]:
    return list(readers)


async def _nothing(*_: object) -> int:
    return 0


def _given(was: Authority, role: Role, *, until_ms: int | None = None) -> bytes:
    person = was.person if role is Role.TEACHER else None
    return Grant(was.key, was.agreement, was.tls_sha256 or b"", role, person, None, until_ms).encode()


async def _cut(room: Classroom, device: Device) -> bytes:
    """In good order: nothing that it has said is held back."""
    heads = tuple(await room.territory.replica.tips(room.space, device.agent.device))
    return (await room.territory.say(room.space, Kind.REVOKE, Revocation(device.agent.device, heads).encode())).id


async def _opens(teacher: Device, work: bytes) -> None:
    await Desk(teacher.agent).files("open-hand-in", id=work.hex())
    await Desk(teacher.agent).ask("confirm-opened", id=work.hex())


async def _has_its_key(machine: Device, work: bytes) -> bool:
    mark = await machine.agent.replica.store.mark(mark_of(work))
    return mark is not None and Kept.parse(mark).content_key is not None


@pytest.mark.parametrize("is_back_as_a_pc", [False, True])
@attack(ROW, off={"sync_agent.hand_ins.first_readers.FirstReaders.of_these": _all_of_them})
async def test_whoever_is_named_months_later_is_given_none_of_it_though_its_key_waits_for_somebody(
    tmp_path: Path, *, is_back_as_a_pc: bool
) -> None:
    async with classroom(tmp_path) as room:
        territory, petit = room.territory, await room.teacher()
        person = await territory.person("M. Durand", PersonRole.TEACHER, room.space)
        durand = await room.device(Role.TEACHER, person=person)
        for device in (petit, durand):
            await device.session.sync()
        machine = await room.machine()
        for device in (machine, petit, durand):
            await device.session.sync()
        here = SpiedClass(
            room, petit, machine, await assignment(room, petit, machine), b"", new_device(Random(6).randbytes)
        )
        # he leaves, and a thief lets him in until yesterday: the PC waits for his laptop, and seals nothing to it
        (was,) = territory.replica.door.authorities_of(durand.agent.device)
        cut = await _cut(room, durand)
        past = _given(was, Role.TEACHER, until_ms=territory.clock() - DAY_MS)
        await territory.say(room.space, Kind.GRANT, past, parents=(cut,))
        await here.sync(petit, machine)
        work = await room.hand_in(machine, here.item, {"r.odt": b"the work of a pupil"})
        await here.sync(machine, petit)
        await _opens(petit, work)
        await here.sync(petit, machine, petit, machine)
        for _ in range(10):
            territory.clock.advance(DAY_MS)
            await destroy_erased(machine.agent)
            await here.sync(petit, machine)
            await tend_hand_ins(machine.agent)
        assert await _has_its_key(machine, work)
        if is_back_as_a_pc:  # and so her receipt does not count, for this look
            (hers,) = territory.replica.door.authorities_of(petit.agent.device)
            cut = await _cut(room, petit)
            await territory.say(room.space, Kind.GRANT, _given(hers, Role.MACHINE), parents=(cut,))
        await here.name_the_spy(await territory.person("M. X", PersonRole.TEACHER, room.space))
        await here.sync(machine)
        assert not await here.opens(work)


@attack(
    ROW,
    off={
        "sync_agent.lan.exchange.after_news.tend_after_news": _nothing,
        "protocol.folds.hand_in_keys._was_before": lambda *_: False,
    },
)
async def test_what_a_neighbour_says_was_opened_is_given_to_nobody_by_the_next_look_at_the_server(
    tmp_path: Path,
) -> None:
    async with spied_class(tmp_path) as here:
        room, machine, petit = here.room, here.machine, here.teacher
        work = await room.hand_in(machine, here.item, {"r.odt": b"the work of a pupil"})
        await here.sync(machine, petit)
        await _opens(petit, work)
        await exchange(machine.agent, petit.agent)
        await here.sync(petit)
        (hers,) = room.territory.replica.door.authorities_of(petit.agent.device)
        cut = await _cut(room, petit)
        await room.territory.say(room.space, Kind.GRANT, _given(hers, Role.MACHINE), parents=(cut,))
        await here.name_the_spy(await room.territory.person("M. X", PersonRole.TEACHER, room.space))
        await here.sync(machine)
        assert not await here.opens(work)


@attack(ROW, off={"protocol.folds.hand_in_keys._was_before": lambda *_: False})
async def test_her_receipt_of_before_counts_where_a_pc_hears_with_it_that_her_laptop_is_none(tmp_path: Path) -> None:
    async with spied_class(tmp_path) as here:
        room, machine, petit = here.room, here.machine, here.teacher
        work = await room.hand_in(machine, here.item, {"r.odt": b"the work of a pupil"})
        await here.sync(machine, petit)
        await _opens(petit, work)
        await here.sync(petit)
        (hers,) = room.territory.replica.door.authorities_of(petit.agent.device)
        cut = await _cut(room, petit)
        await room.territory.say(room.space, Kind.GRANT, _given(hers, Role.MACHINE), parents=(cut,))
        await here.name_the_spy(await room.territory.person("M. X", PersonRole.TEACHER, room.space))
        await here.sync(petit)
        await exchange(machine.agent, petit.agent)
        await here.sync(machine)
        assert not await here.opens(work)
