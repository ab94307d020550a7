"""A key that was sealed to a colleague by whoever has the server, and that his laptop gives on (docs/adr/0581)."""

from __future__ import annotations

from collections.abc import Container
from itertools import count
from pathlib import Path
from random import Random

import pytest

from protocol.errors import RelaisError
from protocol.folds.coursework import Work
from protocol.folds.hand_in_keys import info_of, wraps_for
from protocol.model.entry import Kind, compose
from protocol.replica.content.holdings import work_need
from protocol.rights.vouching import device_id
from protocol.roles import PersonRole, Role
from sync_agent.app import Agent
from sync_agent.hand_ins.opening import _opens as _opens_it
from sync_agent.hand_ins.opening import opening_key
from sync_agent.hand_ins.wraps import tend_hand_ins
from sync_agent.keys.confirming import confirm, own_device
from sync_agent.keys.key_wraps import reading_keys
from sync_agent.keys.reading_key import tend_reading_keys
from tests.harness.attack import attack
from tests.harness.classroom import WORK, Device, work_of
from tests.harness.commands import Desk
from tests.harness.crowding_wraps import first_wrap_of
from tests.harness.spied_class import SpiedClass, spied_class

ROW = "a machine gives a teacher a false key to another's work"


async def _most_believed(agent: Agent, work: Work, _sure: Container[bytes]) -> bytes | None:
    return await opening_key(agent, work)


async def _colleague(here: SpiedClass, name: str) -> Device:
    person = await here.room.territory.person(name, PersonRole.TEACHER, here.room.space)
    return await here.room.device(Role.TEACHER, person=person)


async def _sealed_falsely(here: SpiedClass, reader: Device, before: bytes) -> None:
    """Whoever has the server names M. X, whose device seals another key, by an id that comes before another."""
    room, territory = here.room, here.room.territory
    await here.name_the_spy(await territory.person("M. X", PersonRole.TEACHER, room.space))
    work = (await territory.replica.view(room.space)).coursework.hand_ins[here.work]
    false = wraps_for(reading_keys(reader.agent), bytes(32), info_of(work), Random(5).randbytes).encode()
    said = (
        compose(
            author=here.spy.signing,
            space=room.space,
            kind=Kind.WRAP,
            grant=here.grant,
            at=(territory.clock() << 16) + number,
            payload=false,
            salt=bytes(16),
            subject=room.pupil_person,
            target=here.work,
        )
        for number in count()
    )
    noise = next(each for each in said if each.id < before)
    assert (await territory.replica.admit([noise], source=b"x", now_ms=territory.clock())).admitted


async def _makes_way(here: SpiedClass, device: Device) -> None:
    """What was handed in makes way on a laptop, or has not come yet."""
    content, need = device.agent.replica.content, work_need(await work_of(device, here.room, here.work))
    await content.drop(list(await content.pack_sizes()))
    await device.agent.holdings.forget()
    assert not await device.agent.holdings.is_complete(need)


async def _hears(here: SpiedClass, device: Device) -> None:
    """A laptop hears all that was said, and none of what was handed in."""
    territory = here.room.territory
    store = territory.replica.store
    said = [each.entry for space in await store.spaces() for each in await store.scan(space)]
    await device.agent.replica.admit(said, source=territory.keys.signing.public, now_ms=territory.clock())
    await tend_reading_keys(device.agent)


async def _opens(device: Device, work: bytes) -> bool:
    try:
        return await Desk(device.agent).files("open-hand-in", id=work.hex()) == WORK
    except RelaisError:
        return False


@attack(ROW, off={"sync_agent.hand_ins.wraps.sure_key": _most_believed})
async def test_a_colleague_gives_nobody_a_key_that_he_could_not_try(tmp_path: Path) -> None:
    async with spied_class(tmp_path) as here:
        for _ in range(2):
            await here.sync()
        roux = await _colleague(here, "M. Roux")
        await here.sync(roux, here.teacher)
        await confirm(here.teacher.agent, device_id(own_device(roux.agent)))
        await here.sync(here.teacher, here.teacher)
        await _sealed_falsely(here, roux, await first_wrap_of(here.room, here.work, here.teacher))
        blanc = await _colleague(here, "Mme Blanc")
        await here.sync(blanc, blanc)
        await _hears(here, roux)
        await _makes_way(here, roux)
        await confirm(roux.agent, device_id(own_device(blanc.agent)))
        await tend_hand_ins(roux.agent)
        await here.sync(roux)
        await here.sync(here.teacher)
        await confirm(here.teacher.agent, device_id(own_device(blanc.agent)))
        for _ in range(3):
            await here.sync(here.teacher, blanc, roux, blanc)
        assert await _opens(blanc, here.work), "by one who has tried it"


async def test_what_its_author_sealed_to_her_she_gives_on_though_it_has_made_way_on_her_laptop(tmp_path: Path) -> None:
    async with spied_class(tmp_path) as here:
        for _ in range(2):
            await here.sync()
        blanc = await _colleague(here, "Mme Blanc")
        await here.sync(blanc, blanc)
        await _hears(here, here.teacher)
        await _makes_way(here, here.teacher)
        await confirm(here.teacher.agent, device_id(own_device(blanc.agent)))
        assert await tend_hand_ins(here.teacher.agent) == 1
        for _ in range(2):
            await here.sync(here.teacher, blanc)
        assert await _opens(blanc, here.work)


async def test_what_a_colleague_gave_her_waits_until_it_can_be_tried_and_what_opens_nothing_is_tried_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with spied_class(tmp_path) as here:
        for _ in range(2):
            await here.sync()
        roux, blanc = await _colleague(here, "M. Roux"), await _colleague(here, "Mme Blanc")
        await here.sync(roux, blanc, here.teacher)
        await _sealed_falsely(here, roux, bytes([255]) * 32)
        await here.sync(roux, roux)
        assert not roux.agent.sealed_in_vain
        await confirm(roux.agent, device_id(own_device(blanc.agent)))
        tried: list[bytes] = []

        def opens(key: bytes, chunk: bytes, is_last: bool) -> bool:
            tried.append(key)
            return _opens_it(key, chunk, is_last)

        monkeypatch.setattr("sync_agent.hand_ins.opening._opens", opens)
        for _ in range(2):
            assert await tend_hand_ins(roux.agent) == 0
        assert len(tried) == 1
        await confirm(here.teacher.agent, device_id(own_device(roux.agent)))
        for _ in range(2):
            await here.sync(here.teacher, roux, blanc)
        assert await _opens(blanc, here.work), "once a key came that opens it"
