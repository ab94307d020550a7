"""What a pupils' PC says over and over, as any may, makes no front of a stick that nobody reads (docs/adr/0491)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from protocol.errors import RelaisError
from protocol.folds.space_keys import WRAP_BYTES, SpaceKeys, SpaceWraps
from protocol.limits import (
    BUNDLE_TARGET_BYTES,
    MAX_BUNDLE_INDEX_BYTES,
    MAX_BUNDLE_PREFACE_BYTES,
)
from protocol.model.entry import Entry, Kind
from protocol.replica.at_work.replica import Draft
from protocol.replica.storage import database
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.couriers import bring
from tests.harness.in_this_thread import ConnectionInThisThread
from tests.harness.office_devices import town

ROW = "a machine seals the class's key without end"
SEALS_IN_ONE = 250
ANY_SIZE = 10**9
NAMED = "a machine says thousands of works of the same files"
SCALE = 4_096
"""By so much what a bundle may list is less here than it is: there it is 65,536 works of one PC, in eight packs."""
WORKS = 80


@pytest.fixture(autouse=True)
def answers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_Connection", ConnectionInThisThread)


def _all_of_them(_name: bytes, _keys: SpaceKeys, entries: Iterable[Entry], *_others: object) -> Sequence[Entry]:
    """As a front once brought whatever names a key."""
    return list(entries)


async def seal_without_end(seat: Device, space: bytes, reader: bytes) -> None:
    """Who sits at a PC has it seal noise to a reader and to nobodies, until no front holds it all."""
    agent = seat.agent
    key = (await agent.keyring.keys(space)).current
    assert key is not None
    grant = (await agent.replica.readable(agent.device))[space].grant
    to = (reader, *(os.urandom(32) for _ in range(SEALS_IN_ONE - 1)))
    large, small = (
        Draft(space, Kind.SPACE_WRAP, grant, SpaceWraps(key.commitment, seals).encode())
        for seals in (tuple((one, os.urandom(WRAP_BYTES)) for one in to), ((reader, os.urandom(WRAP_BYTES)),))
    )
    drafts = [large] * (MAX_BUNDLE_PREFACE_BYTES // len(large.payload) + 1)
    drafts += [small] * (len(large.payload) // len(small.payload))
    await agent.replica.write(
        drafts, author=agent.keys.signing, now_ms=agent.now_ms(), entropy=agent.entropy, unsent=True
    )


@attack(
    ROW,
    off={
        "protocol.replica.at_work.keyring.shown_of": _all_of_them,
        "sync_agent.courier.exporting._SEALS_AT_MOST_BYTES": ANY_SIZE,
        "sync_agent.courier.exporting._CLEAR_AT_MOST_BYTES": ANY_SIZE,
    },
)
async def test_work_comes_out_of_a_pc_without_a_line_whatever_another_pc_seals(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        teacher, machine, _, lea, item = await here.class_in_step()
        seat = await here.device("machine")
        await here.sync()
        await seal_without_end(seat, here.space, teacher.agent.keys.agreement.public)
        await here.sync()
        await here.sync()
        work = await here.work(machine, item, lea)
        with suppress(RelaisError):
            await here.write_stick(machine, tmp_path / "stick", online=False)
            await bring(teacher, tmp_path / "stick")
        assert await teacher.agent.replica.store.present([work])


@attack(
    ROW,
    off={
        "protocol.replica.at_work.keyring.shown_of": _all_of_them,
        "sync_agent.courier.exporting._SEALS_AT_MOST_BYTES": ANY_SIZE,
    },
)
async def test_a_pc_that_only_a_stick_reaches_is_let_into_a_class_in_which_another_seals_without_end(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        teacher, *_ = await here.class_in_step()
        head, seat = await here.head_of_the_school(), await here.device("machine")
        other = str((await Desk(head.agent).ask("space add", name="CE2", year="2026-2027"))["space"])
        await here.sync()
        newcomer = await here.device("machine", space=other)
        await seal_without_end(seat, here.space, newcomer.agent.keys.agreement.public)
        for _ in range(2):
            await here.sync(seat, head, teacher)
        await Desk(head.agent).ask("grant", device=newcomer.agent.device.hex(), space=[here.space.hex()])
        await here.write_stick(head, tmp_path / "stick", online=False)
        with suppress(RelaisError):
            await bring(newcomer, tmp_path / "stick")
        assert here.space in await newcomer.agent.spaces()
        assert await newcomer.agent.keyring.current(here.space) is not None


async def hand_in_over_and_over(seat: Device, work: bytes, times: int) -> None:
    """Who sits at a PC has it say of what was handed in there that it was handed in, over and over."""
    agent = seat.agent
    said = (await agent.replica.store.get([work]))[work]
    once_more = Draft(
        said.header.space,
        Kind.HAND_IN,
        said.header.grant,
        said.payload or b"",
        subject=said.header.subject,
        target=said.header.target,
    )
    await agent.replica.write(
        [once_more] * times, author=agent.keys.signing, now_ms=agent.now_ms(), entropy=agent.entropy, unsent=True
    )


@attack(NAMED, off={"sync_agent.courier.exporting._WORK_WEIGHS_BYTES": 0})
async def test_what_a_teacher_asks_for_comes_off_her_stick_however_many_works_a_pc_says_of_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.bundles.form.MAX_BUNDLE_INDEX_BYTES", MAX_BUNDLE_INDEX_BYTES // SCALE)
    monkeypatch.setattr("sync_agent.courier.exporting.BUNDLE_TARGET_BYTES", BUNDLE_TARGET_BYTES // SCALE)
    monkeypatch.setattr("sync_agent.courier.exporting._ENTRIES_PER_BUNDLE", 16)
    async with town(tmp_path) as here:
        teacher, machine, _, lea, item = await here.class_in_step()
        seat = await here.device("machine")
        await here.sync()
        for _ in range(2):
            await hand_in_over_and_over(seat, await here.work(seat, item, lea), WORKS)
        await here.sync()
        await here.sync()
        asked = await here.asks_for_work(teacher, here.space)
        with suppress(RelaisError):
            await here.write_stick(teacher, tmp_path / "stick", online=False)
            await bring(machine, tmp_path / "stick")
        assert await machine.agent.replica.store.present([asked])
