"""A word that a server refuses for good is left to send on a PC: behind it a copied key hides nothing else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest

from protocol.clock import at_from
from protocol.messages.parts import SpacePage
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Grant, SpaceRecord
from protocol.reconcile.checkpoint import Checkpoint
from protocol.replica.at_work.replica import Draft
from protocol.roles import Role
from sync_agent.app import Agent
from sync_agent.sync.acknowledged import left_to_send
from sync_agent.sync.cursors import read_cursors
from tests.harness.as_told import HOLDS_THE_SAME
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.copied_keys import answered_by_a_copy, thief_says
from tests.harness.entries import SOME_RECEIPT
from tests.harness.office_devices import Town, town
from tests.harness.territory import new_device

ROW = "a refusal outlives the answer that said it"
PASSED_OVER = "freeze, withholding"
MOST = 40
"""Stands for the 20,000 entries that one may say."""
MINUTE_MS: Final = 61_000


@pytest.fixture(autouse=True)
def quotas_that_are_soon_full(monkeypatch: pytest.MonkeyPatch) -> None:
    for whose in ("KEY", "DEVICE"):
        monkeypatch.setattr(f"protocol.replica.at_work.quotas.MAX_ENTRIES_PER_{whose}", MOST)


async def has_more_than_one_may_say(here: Town, folder: Path, device: Device, beyond: Mapping[bytes, int]) -> None:
    """By space: so many words of a machine of a thief's are left to send there for good, as beyond its quota."""
    clock, server, his = here.office.clock, here.office.server, new_device(Random(7).randbytes)
    given = Grant(his.signing.public, his.agreement.public, his.tls.fingerprint, Role.MACHINE, None, None).encode()
    rights = {one: (await thief_says(here.office, Draft(one, Kind.GRANT, server.grant, given)))[0].id for one in beyond}
    said = [
        compose(
            author=his.signing,
            space=one,
            kind=Kind.RECEIPT_SAFE,
            grant=rights[one],
            at=at_from(clock(), number),
            payload=SOME_RECEIPT,
            salt=os.urandom(16),
            target=bytes(32),
        )
        for one, more in beyond.items()
        for number in range(MOST + more)
    ]
    async with answered_by_a_copy(here, folder) as false:
        await false.replica.admit(said, source=bytes(32), now_ms=clock())
        await device.session.sync()
    for _ in range(4):
        clock.advance(MINUTE_MS)
        await here.sync()
    assert await left_to_send(device.agent) >= sum(beyond.values())


async def classes_of_the_thiefs(here: Town, device: Device) -> bytes:
    """A class that a copied key has made in the school, with that device in it."""
    grant, keys = here.office.server.grant, device.agent.keys
    record = SpaceRecord("Soutien", year="2026-2027").encode()
    (made,) = await thief_says(here.office, Draft(here.school, Kind.SPACE, grant, record))
    right = Grant(keys.signing.public, keys.agreement.public, keys.tls.fingerprint, Role.MACHINE, None, None)
    await thief_says(here.office, Draft(made.id, Kind.GRANT, grant, right.encode()))
    return made.id


async def _but_for_what_is_left_anywhere(agent: Agent) -> dict[bytes, int]:
    """As if what one space has left to send were of every other."""
    store, left = agent.replica.store, await left_to_send(agent)
    held, known = await store.spaces(), await read_cursors(store)
    beyond = {space: held.get(space, 0) - place.count - left for space, place in known.items()}
    return {space: count for space, count in beyond.items() if count > 0}


async def _explained(*_: object) -> bool:
    """As if what is left to send explained any difference."""
    return True


@attack(ROW, off={"sync_agent.sync.repair.unseen": _but_for_what_is_left_anywhere, **HOLDS_THE_SAME})
async def test_what_another_class_has_left_to_send_hides_no_work_that_a_copied_key_says_to_have_taken(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        _, machine, _, pupil, item = await here.class_in_step()
        other = await classes_of_the_thiefs(here, machine)
        await has_more_than_one_may_say(here, tmp_path, machine, {here.space: 1, other: 8})
        async with answered_by_a_copy(here, tmp_path) as false:
            work, take = await here.work(machine, item, pupil), false.replica.admit

            async def admit(entries: list[Entry], **options: Any) -> Any:
                kept = [entry for entry in entries if entry.header.kind not in (Kind.HAND_IN, Kind.WRAP)]
                return await take(kept, **options)

            false.replica.admit = admit  # type: ignore[method-assign, assignment]
            await machine.session.sync()
        assert work not in {entry.id for entry in await machine.agent.replica.store.unsent(1 << 20)}
        for _ in range(3):
            here.office.clock.advance(MINUTE_MS)
            await here.sync(machine)
        assert await here.office.server.store.present([work])


async def passes_over_what_the_server_has(here: Town, folder: Path, device: Device) -> None:
    """One answer leads the device to where the server stands, and brings nothing of what leads there."""
    replica, agent = here.office.server.replica, device.agent
    known, place = await read_cursors(agent.replica.store), await replica.position(here.space)
    assert known[here.space].count != place.count
    shown = Checkpoint(here.space, place.count, place.chain, await agent.replica.fingerprint(here.space))

    async def pages(*_: object, **__: object) -> Any:
        return [SpacePage(shown, (), (), more=False)], [], False

    async with answered_by_a_copy(here, folder) as false:
        false.responder._news.pages = pages  # type: ignore[method-assign]
        await device.session.sync()


@attack(PASSED_OVER, off={**HOLDS_THE_SAME, "sync_agent.sync.repair.SyncRepair._is_set": _explained})
async def test_a_report_that_a_copied_key_leads_a_pc_past_is_heard_while_another_word_waits_to_be_sent(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        teacher, machine, *_ = await here.class_in_step()
        stolen = await here.device("teacher", await here.office.add_person("M. Roy", "teacher"))
        for _ in range(3):
            await here.sync()
        await has_more_than_one_may_say(here, tmp_path, machine, {here.space: 1})
        await here.office.do("lost", device=stolen.agent.device.hex())
        here.devices.remove(stolen)
        await stolen.agent.close()
        await passes_over_what_the_server_has(here, tmp_path, machine)
        here.office.clock.advance(MINUTE_MS)
        await here.sync(machine)
        here.office.clock.advance(MINUTE_MS)
        await Desk(teacher.agent).publish({"a.txt": b"next"}, space=here.office.space, title="Cours")
        await here.sync(teacher)
        await here.sync(machine)
        assert not (await machine.agent.replica.view(here.space)).roster.may_read(stolen.agent.device)
