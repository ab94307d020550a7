"""Another root takes over, and then the teacher's keys go: what was handed in before is opened by the kit there is."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import pytest

from protocol.folds.coursework import Work
from protocol.rights.vouching import device_words
from sync_agent.keys.confirming import own_device
from sync_server.handlers.by_kit.territory import kit_in
from sync_server.keeping.new_root import NewKit
from sync_server.kit.away import KitAway
from sync_server.kit.desk import KitDesk
from sync_server.kit.errands import errand_of
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.office_devices import Town, town

ROW = "another root takes over, and a teacher's keys go"
WITHOUT_EARLIER = {"protocol.trust.kit.Kit.opening": property(lambda kit: (kit.recovery,))}
Class: TypeAlias = "tuple[Town, Device, Device, str, str, bytes]"


def kit_number(folder: Path, number: int) -> Path:
    return folder / "server" / "kit" if number == 0 else folder / f"kit-{number}"


async def rotate(here: Town, folder: Path, number: int, before: int | None = None) -> None:
    """What the command does with the kit of that number, and one before it."""
    old, new = kit_number(folder, number - 1 if before is None else before), kit_number(folder, number)
    made = NewKit(old, None, new, None, os.urandom)
    made.keep(await here.office.with_kit("rotate root", kit_in(old, None), made.kit))
    here.office.clock.advance(60_000)


@asynccontextmanager
async def opened_before(folder: Path, version: Mapping[str, object] = MappingProxyType({})) -> AsyncIterator[Class]:
    """A class whose teacher has opened a pupil's work, before two rotations of the root; both are heard of.

    `version` is what another version of the program has in some places, as it rotates.
    """
    async with town(folder) as here:
        petit, lea = await here.office.add_person("Mme Petit", "teacher"), await here.office.add_person("Léa", "pupil")
        laptop, machine = await here.device("teacher", petit), await here.device("machine")
        item = await here.assignment(laptop)
        await here.sync(machine)
        work = await here.work(machine, item, lea)
        await here.sync(machine, laptop)
        await Desk(laptop.agent).ask("confirm-opened", id=work.hex())
        await here.sync(laptop, machine, laptop)
        with pytest.MonkeyPatch.context() as patch:
            for place, other in version.items():
                patch.setattr(place, other)
            for number in (1, 2):
                await rotate(here, folder, number)
        await here.sync(machine, laptop)
        yield here, laptop, machine, petit, lea, work


@attack(ROW, off=WITHOUT_EARLIER)
async def test_the_newest_kit_opens_to_a_teacher_what_was_opened_before_it(tmp_path: Path) -> None:
    async with opened_before(tmp_path) as (here, laptop, machine, petit, _, work):
        await here.office.do("lost", device=laptop.agent.device.hex())
        another = await here.device("teacher", petit)
        await here.sync(another, machine, another)
        words, kit = device_words(own_device(another.agent)), kit_in(kit_number(tmp_path, 2), None)
        found = await here.office.with_kit("rewrap", kit, person=petit, words=words, space=[here.office.space])
        assert found == {"hand_ins": 1}
        await here.sync(another)
        assert await Desk(another.agent).files("open-hand-in", id=work.hex())


@attack(ROW, off=WITHOUT_EARLIER)
async def test_nor_does_what_a_family_asks_for_stay_closed(tmp_path: Path) -> None:
    async with opened_before(tmp_path) as (here, _, _, _, lea, work):
        found: Work = (await here.office.server.replica.view(here.space)).coursework.hand_ins[work]
        kit = kit_in(kit_number(tmp_path, 2), None)
        errand = errand_of("export-person", kit, {"person": lea, "named": "Léa"}, None, os.urandom)
        desk = KitDesk(errand, here.office.said, here.office.clock)
        away = KitAway.of(here.office.server, desk.keys, desk, desk)
        assert away is not None
        await away.shows(bytes.fromhex(lea))
        assert await away.content_key(found)


@attack(ROW, off={"sync_server.keeping.new_root._beside": lambda *_: ()})
async def test_a_new_kit_that_an_earlier_version_made_is_given_the_keys_by_the_same_command(tmp_path: Path) -> None:
    async with opened_before(tmp_path, {"sync_server.keeping.new_root._beside": lambda *_: ()}) as (here, *_):
        first, second, third = (kit_in(kit_number(tmp_path, number), None) for number in range(3))
        counts = await here.office.counts()
        assert third.earlier == ()
        for old in (0, 1):
            await rotate(here, tmp_path, 2, old)
        found = kit_in(kit_number(tmp_path, 2), None)
        assert (found.root.public, found.chain) == (third.root.public, third.chain)
        assert {key.public for key in found.earlier} == {first.recovery.public, second.recovery.public}
        assert await here.office.counts() == counts, "nothing is said anew"
