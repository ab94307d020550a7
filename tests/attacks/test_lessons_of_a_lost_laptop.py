"""In June a copy of the server's key makes something else of what a teacher wrote on a laptop that was lost in March.

docs/adr/0410.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import BadInput, Code
from protocol.folds.coursework import Item, Version
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure
from protocol.model.work import ItemKind
from protocol.replica.at_work.replica import Draft
from protocol.replica.console.frame import Notices
from protocol.replica.office.spaces import uai_of
from sync_agent.coursework.own_versions import OwnVoice
from sync_agent.coursework.publisher import Wish, publish
from tests.harness.attack import attack
from tests.harness.classroom import Device, Given
from tests.harness.commands import Desk
from tests.harness.copied_keys import thief_says
from tests.harness.office_devices import Town, town

ROW = "what was written on a lost laptop is made no lesson any more"
HERS = b"Comme elle l'a dit. " * 40


@dataclass
class June:
    """A teacher's lost laptop, with two lessons, her next one, and her next class."""

    here: Town
    lost: Device
    new: Device
    following: bytes
    lessons: dict[str, bytes]

    async def shown(self, title: str) -> Item:
        return (await self.here.office.server.replica.view(self.here.space)).coursework.items[self.lessons[title]]

    async def by_the_copied_key(self, how: str, title: str) -> bytes:
        """Something about one of her lessons; its entry's id."""
        office, lesson = self.here.office, await self.shown(title)
        record = lesson.shown.record
        said: dict[str, tuple[bytes | None, Kind, bytes]] = {
            "an announcement": (lesson.id, Kind.REVISION, replace(record, kind=ItemKind.ANNOUNCEMENT).encode()),
            "another version": (lesson.id, Kind.REVISION, replace(record, subject="Annulé").encode()),
            "erased": (None, Kind.ERASE, Erasure(lesson.id).encode()),
            "withdrawn": (lesson.id, Kind.WITHDRAW, b"\x80"),
        }
        target, kind, payload = said[how]
        parents = (lesson.shown.id,) if kind is Kind.REVISION else ()
        draft = Draft(self.here.space, kind, office.server.grant, payload, target=target, parents=parents)
        made: list[Entry] = await thief_says(office, draft)
        await self.here.sync(self.new)
        return made[0].id

    async def carry(self, desk: Desk, *also: bytes, **params: Any) -> Any:
        classes = {"from": self.here.space.hex(), "to": self.following.hex()}
        return await desk.ask("carry-over", **classes, also=[one.hex() for one in also], **params)

    async def carried(self) -> dict[str, bytes]:
        view = await self.new.agent.replica.view(self.following)
        records = [item.shown.record for item in view.coursework.items.values()]
        return {record.title: record.content.stream for record in records if record.kind is ItemKind.LESSON}


async def _lesson(device: Device, space: bytes, title: str) -> bytes:
    wish = Wish(space, None, ItemKind.LESSON, title)
    return (await publish(device.agent, wish, Given({"cours.txt": title.encode() + HERS}), Notices())).item


@pytest.fixture
async def june(tmp_path: Path) -> AsyncIterator[June]:
    async with town(tmp_path) as here:
        office = here.office
        person = await office.add_person("Mme Petit", "teacher")
        lost = await here.device("teacher", person)
        lessons = {title: await _lesson(lost, here.space, title) for title in ("L'eau", "Volcans")}
        await here.sync()
        office.clock.advance(60_000)
        await office.do("lost", device=lost.agent.device.hex())
        new = await here.device("teacher", person)
        school = await uai_of(office.server, here.school)
        following = (await office.do("space add", name="CM2", school=school, person=[person]))["space"]
        for _ in range(2):
            office.clock.advance(60_000)
            await here.sync(new)
        yield June(here, lost, new, bytes.fromhex(following), lessons)


def _as_it_is_had(_: Item, here: Item, own: Version | None) -> bool:
    return ItemKind.LESSON in ((own or here.shown).record.kind, here.shown.record.kind)


@attack(ROW, off={"sync_agent.coursework.carrying_over._is_a_lesson": _as_it_is_had})
async def test_a_lesson_that_was_made_an_announcement_is_named_with_the_lost_laptop_that_wrote_it(june: June) -> None:
    made = await june.by_the_copied_key("an announcement", "Volcans")
    desk = Desk(june.new.agent)
    done = await june.carry(desk)
    assert (done["lessons"], sorted(done["unconfirmed"])) == (0, ["L'eau", "Volcans"])
    (line,) = (each for each in desk.told if each.startswith(f"left, {made.hex()[:12]}, "))
    assert "by the server, " in line
    assert line.endswith(", as an announcement, which it was not before: Volcans")
    assert any(f"2 of these were written on the computer {june.lost.agent.device.hex()}" in each for each in desk.told)


def _as_before(voice: OwnVoice, _: object) -> OwnVoice:
    return voice


@pytest.mark.parametrize("how", ["an announcement", "another version", "erased", "withdrawn"])
@attack(ROW, off={"sync_agent.coursework.own_versions.OwnVoice.and_of": _as_before})
async def test_what_others_made_of_a_lost_laptops_lesson_is_asked_about_as_of_hers_once_that_is_named(
    june: June, how: str
) -> None:
    hers = {title: (await june.shown(title)).shown.record.content.stream for title in june.lessons}
    await june.by_the_copied_key(how, "Volcans")
    desk, lost = Desk(june.new.agent), june.lost.agent.device
    assert (await june.carry(desk))["lessons"] == 0
    assert any(f"2 of these were written on the computer {lost.hex()}" in each for each in desk.told)
    with pytest.raises(BadInput, match="nothing has been carried over yet: 1 ") as caught:
        await june.carry(desk, lost)
    assert caught.value.code is Code.NOT_YET
    assert not await june.carried()
    assert (await june.carry(desk, lost, shown_only=True))["lessons"] == 1
    assert set(await june.carried()) == {"L'eau"}
    assert (await june.carry(desk, lost, june.lessons["Volcans"]))["lessons"] == 1
    assert await june.carried() == hers


async def test_what_she_wrote_on_a_lost_laptop_goes_on_once_however_often_she_names_it(june: June) -> None:
    desk, lost = Desk(june.new.agent), june.lost.agent.device
    assert (await june.carry(desk, lost))["lessons"] == 2
    done = await june.carry(desk, lost)
    assert (done["lessons"], sorted(done["there"])) == (0, ["L'eau", "Volcans"])
    with pytest.raises(BadInput, match="names no lesson"):
        await june.carry(desk, june.here.office.server.keys.signing.public)


async def test_of_what_she_has_made_no_lesson_any_more_nothing_is_asked_and_nothing_goes_on(june: June) -> None:
    lesson, desk = await _lesson(june.new, june.here.space, "Sortie"), Desk(june.new.agent)
    await desk.ask("publish", item=lesson.hex(), kind="announcement")
    await june.here.sync(june.new)
    done = await june.carry(desk)
    assert (done["lessons"], sorted(done["unconfirmed"]), done["left"]) == (0, ["L'eau", "Volcans"], [])
