"""A teacher's new laptop is put into other classes by a copied key, and the kit is fetched for it (docs/attacks.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from protocol.errors import BadInput, Code, Refused, RelaisError
from protocol.model.entry import Kind
from protocol.replica.at_work.replica import Draft
from protocol.replica.console.operation import choices_in
from protocol.rights.vouching import device_words
from protocol.roles import Role
from protocol.trust.kit import Kit
from sync_agent.keys.confirming import own_device
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.copied_keys import granted, thief_says
from tests.harness.office_devices import AtWork, Town, town
from tests.harness.territory import new_device

ROW = "a copied key puts a teacher's new laptop into other classes before the kit is called for it"


async def _nothing_is_asked(*_: object) -> None:
    """As before: without a class, all."""


WITHOUT_ASKING = {
    "sync_server.operations.lifecycle.check_chosen": _nothing_is_asked,
    "sync_server.kit.errands.Rewrapping._is_typed": lambda *_: True,
}


@dataclass
class Scene:
    """M. Roy has CE1 alone, and a new laptop; what was handed in and opened is Mme Petit's class's."""

    here: Town
    kit: Kit
    roy: str
    laptop: Device
    ce1: str
    at_work: AtWork
    work: bytes

    async def rewrap(self, *spaces: str) -> Any:
        asked = {"person": self.roy, "words": device_words(own_device(self.laptop.agent)), "space": list(spaces)}
        return await self.here.office.with_kit("rewrap", self.kit, **asked)

    async def is_put_into(self, space: bytes) -> None:
        """By one word of a copied key, which his laptop hears of."""
        office, keys = self.here.office, self.laptop.agent.keys
        right = granted(keys, Role.TEACHER, self.roy)
        await thief_says(office, Draft(space, Kind.GRANT, office.server.grant, right))
        await self.heard()

    async def heard(self) -> None:
        for _ in range(3):
            await self.here.sync(self.at_work.teacher, self.at_work.machine, self.laptop)

    async def opens(self) -> bool:
        await self.heard()
        try:
            return bool(await Desk(self.laptop.agent).files("open-hand-in", id=self.work.hex()))
        except Refused:
            return False


@asynccontextmanager
async def new_laptop(folder: Path) -> AsyncIterator[Scene]:
    """See `Scene`."""
    async with town(folder) as here:
        at_work = await here.class_at_work()
        work = await here.work(at_work.machine, at_work.item, at_work.pupil)
        await here.sync(at_work.machine, at_work.teacher)
        await Desk(at_work.teacher.agent).ask("confirm-opened", id=work.hex())
        await here.sync(at_work.teacher, at_work.machine)
        ce1 = (await here.office.do("space add", name="CE1", school="0180002E"))["space"]
        roy = await here.office.add_person("M. Roy", "teacher", ce1)
        laptop = await here.device("teacher", roy, ce1, keys=new_device(Random(777).randbytes))
        kit = kit_in(folder / "server" / "kit", None)
        yield Scene(here, kit, roy, laptop, ce1, at_work, work)


def rows_of(error: RelaisError) -> Any:
    """What there is to choose from, as a program reads it."""
    return choices_in(error)["choices"]


@attack(ROW, off=WITHOUT_ASKING)
@pytest.mark.parametrize("whole_school", [False, True], ids=["one class", "all classes of a school"])
async def test_the_kit_opens_no_class_that_nobody_has_typed(tmp_path: Path, whole_school: bool) -> None:
    async with new_laptop(tmp_path) as scene:
        await scene.is_put_into(scene.here.school if whole_school else scene.here.space)
        with pytest.raises(BadInput, match="nothing was opened") as caught:
            await scene.rewrap()
        assert caught.value.code is Code.USAGE
        assert await scene.rewrap(scene.ce1) == {"hand_ins": 0}
        assert not await scene.opens()


@attack(ROW, off={"sync_server.handlers.by_kit.standing.ClassStood._where": lambda *_: "in this class"})
async def test_who_is_to_say_which_reads_by_whose_word_the_laptop_stands_in_each(tmp_path: Path) -> None:
    async with new_laptop(tmp_path) as scene:
        office, school = scene.here.office, scene.here.school.hex()
        key = office.server.keys.signing.public
        await scene.is_put_into(scene.here.school)
        office.said.lines.clear()
        with pytest.raises(BadInput, match="with --space once for each") as caught:
            await scene.rewrap()
        cm1, ce1 = rows_of(caught.value)
        assert [(row["space"], row["name"], row["hand_ins"]) for row in (cm1, ce1)] == [
            (office.space, "CM2 B", 1),
            (scene.ce1, "CE1", 0),
        ]
        assert [(row["by"], row["key"], row["space"]) for row in cm1["let_in"]] == [("server", key.hex(), school)]
        assert [row["space"] for row in ce1["let_in"]] == [scene.ce1]
        of_cm1, of_ce1 = office.said.lines
        assert "1 hand-in. It was let in: in all classes of its school by this server's key" in of_cm1
        assert "It was let in: in this class by this server's key" in of_ce1
        assert f"--space {scene.ce1}" in of_ce1
