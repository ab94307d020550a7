"""What machines say of their own accord because of what others say without end (docs/adr/0240)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from random import Random

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput
from protocol.folds.coursework import Work
from protocol.limits import MAX_LATE_WRAPS_FOR_STRANGERS, MAX_SAFE_RECEIPTS_PER_STREAM
from protocol.model.entry import Kind, compose
from protocol.replica.at_work.keyring import Keyring
from protocol.replica.at_work.replica import Draft, Replica
from protocol.replica.console.frame import Notices
from protocol.roles import PersonRole, Role
from sync_agent.hand_ins import handing_in
from sync_agent.hand_ins.copies import Copies
from sync_agent.hand_ins.handing_in import hand_in
from sync_agent.keys import space_keys
from tests.harness.attack import attack
from tests.harness.classroom import Device, Given
from tests.harness.entries import SOME_RECEIPT
from tests.harness.spied_class import SpiedClass, spied_class
from tests.harness.territory import new_device

ROW = "all that a pupils' PC may say is spent on what others say without end"
FEW = 3


async def _said(device: Device, here: SpiedClass, kind: Kind, about: bytes | None = None) -> int:
    said = await device.agent.replica.store.authored(here.room.space, device.agent.device)
    return sum(entry.header.kind == kind and entry.header.target == about for entry in said)


@attack(ROW, off={"sync_agent.hand_ins.wraps._is_much": lambda _said: False})
async def test_a_work_that_waits_is_sealed_to_so_many_teachers_whom_nobody_knows(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        machine, territory = here.machine, here.room.territory
        work = await here.room.hand_in(machine, here.item, {"b.odt": b"neu"})
        await here.sync(machine)
        for number in range(MAX_LATE_WRAPS_FOR_STRANGERS + 3):
            here.spy = new_device(Random(61_000 + number).randbytes)
            person = await territory.person(f"M. {number}", PersonRole.TEACHER, here.room.space)
            await here.name_the_spy(person, back_ms=0)
            await here.sync(machine)
        assert await _said(machine, here, Kind.WRAP, work) == 1 + MAX_LATE_WRAPS_FOR_STRANGERS


@attack(ROW, off={"sync_agent.keys.space_keys.is_enough": lambda _ages_ms: False})
async def test_the_key_of_a_space_is_sealed_so_often_in_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space_keys, "MAX_SEALINGS_A_DAY", FEW)
    async with spied_class(tmp_path) as here:
        machine, territory, space = here.machine, here.room.territory, here.room.space
        keyring = Keyring(territory.replica, (territory.keys.agreement,))
        drafts = await keyring.new_key(space, territory.certificate.id, None, territory.entropy)
        await territory.replica.write(
            drafts, author=territory.keys.signing, now_ms=territory.clock(), entropy=territory.entropy, unsent=False
        )
        await here.sync(machine, machine)
        for number in range(FEW + 4):
            await territory.let_in(new_device(Random(60_000 + number).randbytes), Role.MACHINE, space)
            await here.sync(machine)
        assert await _said(machine, here, Kind.SPACE_WRAP) <= FEW


async def _never(_replica: Replica, _draft: Draft, _author: bytes) -> bool:
    return False


@attack(ROW, off={"protocol.replica.at_work.replica.Replica.has_said_half": _never})
async def test_half_of_what_a_pc_may_say_is_kept_for_its_pupils(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.replica.at_work.quotas.MAX_ENTRIES_PER_KEY", 30)
    async with spied_class(tmp_path) as here:
        machine, territory = here.machine, here.room.territory
        for number in range(4):
            await here.room.hand_in(machine, here.item, {f"{number}.odt": b"neu"})
        await here.sync(machine)
        for number in range(8):
            here.spy = new_device(Random(61_000 + number).randbytes)
            person = await territory.person(f"M. {number}", PersonRole.TEACHER, here.room.space)
            await here.name_the_spy(person, back_ms=0)
            await here.sync(machine)
        work = await here.room.hand_in(machine, here.item, {"b.odt": b"neu"})
        await here.sync(machine, machine)
        assert await territory.replica.store.present([work])


async def _all(_copies: Copies, _space: bytes, works: Iterable[Work]) -> list[Work]:
    return list(works)


@attack(ROW, off={"sync_agent.hand_ins.copies.Copies._within_bounds": _all})
async def test_hand_ins_that_name_what_a_pc_holds_are_signed_for_a_few_times(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        machine, territory, space = here.machine, here.room.territory, here.room.space
        (grant,) = await territory.let_in(here.spy, Role.MACHINE, space)
        await here.sync(machine)
        made = (await machine.agent.replica.store.get([here.work]))[here.work]
        said = [
            compose(
                author=here.spy.signing,
                space=space,
                kind=Kind.HAND_IN,
                grant=grant.id,
                at=(territory.clock() << 16) + number,
                payload=made.payload or b"",
                salt=number.to_bytes(16, "big"),
                subject=here.room.pupil_person,
                target=here.item,
            )
            for number in range(MAX_SAFE_RECEIPTS_PER_STREAM + 5)
        ]
        await machine.agent.replica.admit(said, source=here.spy.signing.public, now_ms=territory.clock())
        assert await Copies(machine.agent, set).tend() <= MAX_SAFE_RECEIPTS_PER_STREAM
        assert await Copies(machine.agent, set).tend() == 0


@attack(ROW, off={"sync_agent.app._UNASKED_AT_ONCE": 1_000_000})
async def test_nor_is_all_of_it_spent_in_one_look_at_what_came_in_a_night(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.replica.at_work.quotas.MAX_ENTRIES_PER_KEY", 600)
    async with spied_class(tmp_path) as here:
        agent, space = here.machine.agent, here.room.space
        right = await agent.right(space, Kind.RECEIPT_SAFE)
        targets = (number.to_bytes(32, "big") for number in range(1_000))
        due = [Draft(space, Kind.RECEIPT_SAFE, right.grant, SOME_RECEIPT, target=target) for target in targets]
        assert 300 <= await agent.write_unasked(*due) < 600 - 10
        assert await agent.write_unasked(*due) == 0


async def _hands_in_under_every_name(here: SpiedClass, pupils: Iterable[bytes]) -> int:
    """A script on a page of the PC, for as long as the PC takes anything; how often it did."""
    taken = 0
    for pupil in pupils:
        try:
            while True:
                await hand_in(here.machine.agent, here.item, pupil, [("a", 1)], Given({"a": b"x"}), Notices())
                taken += 1
        except BadInput:
            await here.sync(here.machine)
    return taken


@attack(ROW, off={"sync_agent.hand_ins.handing_in.MAX_HAND_INS_OF_ALL_A_DAY": 1_000_000})
async def test_a_script_that_hands_in_under_every_name_mutes_no_pc_in_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a hundredth of what they are
    monkeypatch.setattr("sync_agent.hand_ins.handing_in.MAX_HAND_INS_A_DAY", 5)
    if handing_in.MAX_HAND_INS_OF_ALL_A_DAY == 1_000:
        monkeypatch.setattr("sync_agent.hand_ins.handing_in.MAX_HAND_INS_OF_ALL_A_DAY", 10)
    monkeypatch.setattr("protocol.replica.at_work.quotas.MAX_ENTRIES_PER_KEY", 200)
    async with spied_class(tmp_path) as here:
        territory = here.room.territory
        pupils = [await territory.person(f"Élève {number}", PersonRole.PUPIL, here.room.space) for number in range(24)]
        await here.sync(here.machine)
        taken = await _hands_in_under_every_name(here, pupils)
        territory.clock.advance(DAY_MS)
        work = await here.room.hand_in(here.machine, here.item, {"b.odt": b"neu"})
        await here.sync(here.machine, here.machine)
        assert await territory.replica.store.present([work])
        assert taken < 10, "what was handed in there before counts too"
