"""A teacher's new laptop is given earlier work by the kit: on a server in wrong hands, then on one that is not."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import PeerFault
from protocol.folds.coursework import Work
from protocol.folds.hand_in_keys import info_of
from protocol.model.entry import Entry, Kind
from protocol.model.structure import PersonKey
from protocol.model.work import Wraps
from protocol.replica.at_work.replica import Draft
from protocol.rights.vouching import device_words
from protocol.trust.kit import Kit
from protocol.trust.sealing import CONTENT_KEY_BYTES, wrap_key
from sync_agent.hand_ins.opening import opening_key
from sync_agent.keys.confirming import own_device
from sync_server.handlers.by_kit import rewrapping
from sync_server.handlers.by_kit.territory import kit_in
from tests.attacks.test_the_kit_on_a_hostile_server import KIT_ROW, Thief
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.office_devices import Town, town

HONEST_REWRAP = rewrapping.rewrap


@dataclass
class Scene:
    here: Town
    kit: Kit
    teacher: str
    laptop: Device
    works: tuple[bytes, ...]

    @property
    def asked(self) -> dict[str, Any]:
        words = device_words(own_device(self.laptop.agent))
        return {"person": self.teacher, "words": words, "space": [self.here.office.space]}

    def thief(self) -> Thief:
        return Thief(self.here, self.kit, "rewrap", **self.asked)

    async def work(self, number: int) -> Work:
        return (await self.here.office.server.replica.view(self.here.space)).coursework.hand_ins[self.works[number]]

    async def seals(self, thief: Thief, works: Sequence[Work]) -> list[bytes]:
        """What the kit seals to the laptop of these works, as a program asks for it that does what it likes."""
        said = (await self._reading_key(), own_device(self.laptop.agent))
        return [seal or b"" for seal in await thief.kit.rewrapped(works, said[1], said[0])]

    async def wrap(self, seal: bytes, work: Work) -> Draft:
        key = PersonKey.parse((await self._reading_key()).payload or b"").agreement
        payload = Wraps(((key, seal),)).encode()
        return Draft(work.space, Kind.WRAP, None, payload, subject=work.person, target=work.id)

    async def rewrap(self, **params: Any) -> Any:
        return await self.here.office.with_kit("rewrap", self.kit, **self.asked, **params)

    async def opens(self, number: int) -> bool:
        """Whether the laptop, once it has synced, opens the work."""
        await self.here.sync(self.laptop)
        view = await self.laptop.agent.replica.view(self.here.space)
        found = await opening_key(self.laptop.agent, view.coursework.hand_ins[self.works[number]])
        return found is not None and bool(
            await Desk(self.laptop.agent).files("open-hand-in", id=self.works[number].hex())
        )

    async def _reading_key(self) -> Entry:
        said = await self.here.office.server.store.scan_kinds([Kind.PERSON_KEY])
        return next(each for each in said if each.header.author == self.laptop.agent.device)


@asynccontextmanager
async def laptop_replaced(folder: Path) -> AsyncIterator[Scene]:
    """Léa has handed in twice, Tom once; the teacher has opened all, on a laptop that she loses then."""
    async with town(folder) as here:
        at_work = await here.class_at_work()
        tom = await here.office.add_person("Tom", "pupil")
        await here.sync()
        works = [await here.work(at_work.machine, at_work.item, pupil) for pupil in (at_work.pupil, at_work.pupil, tom)]
        await here.sync(at_work.machine, at_work.teacher)
        for work in works:
            await Desk(at_work.teacher.agent).ask("confirm-opened", id=work.hex())
        await here.sync(at_work.teacher, at_work.machine)
        await here.office.do("lost", device=at_work.teacher.agent.device.hex())
        laptop = await here.device("teacher", at_work.person)
        kit = kit_in(folder / "server" / "kit", None)
        yield Scene(here, kit, at_work.person, laptop, tuple(works))


@attack(KIT_ROW, off={"sync_server.kit.errands.Rewrapping._is_of_its_work": lambda *_: True})
async def test_what_the_kit_has_sealed_of_one_work_it_signs_under_no_other(tmp_path: Path) -> None:
    async with laptop_replaced(tmp_path) as scene:
        first, again, toms = [await scene.work(number) for number in range(3)]
        thief = scene.thief()
        seal, of_again, of_toms = await scene.seals(thief, [first, again, toms])
        for other in (of_again, of_toms):
            with pytest.raises(PeerFault, match="does not need"):
                await thief.has_signed(await scene.wrap(other, first))
        await thief.has_signed(await scene.wrap(seal, first))
        assert await scene.rewrap() == {"hand_ins": 2}
        assert [await scene.opens(number) for number in range(3)] == [True, True, True]


@attack(KIT_ROW, off={"sync_server.kit.errands.Once.is_first": lambda *_: True})
async def test_nor_does_it_sign_for_one_work_as_often_as_it_is_asked(tmp_path: Path) -> None:
    async with laptop_replaced(tmp_path) as scene:
        work, thief = await scene.work(0), scene.thief()
        seal, another = await scene.seals(thief, [work, work])
        await thief.has_signed(await scene.wrap(seal, work))
        with pytest.raises(PeerFault, match="does not need"):
            await thief.has_signed(await scene.wrap(another, work))


async def _never_again(*asked: Any, again: bool = False) -> tuple[int, int]:
    del again
    return await HONEST_REWRAP(*asked)


@attack(KIT_ROW, off={"sync_server.operations.lifecycle.rewrap": _never_again})
async def test_where_a_thief_had_the_kit_seal_a_key_of_his_the_work_is_sealed_again(tmp_path: Path) -> None:
    async with laptop_replaced(tmp_path) as scene:
        work, thief = await scene.work(0), scene.thief()
        recovery = scene.kit.recovery.public
        his = wrap_key(os.urandom(CONTENT_KEY_BYTES), recovery, info_of(work), os.urandom(32))
        (seal,) = await scene.seals(thief, [replace(work, readers={recovery: (his,)})])
        await thief.has_signed(await scene.wrap(seal, work))
        assert await scene.rewrap() == {"hand_ins": 2}
        assert any("sealed 1 work to this device before" in line for line in scene.here.office.said.lines)
        assert await scene.rewrap(again=True) == {"hand_ins": 3}
        assert [await scene.opens(number) for number in range(3)] == [True, True, True]
