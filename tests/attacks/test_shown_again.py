"""A copy of the server's key shows again what a teacher has withdrawn, and her laptop carries it over in June.

docs/adr/0487.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput, Code
from protocol.model.entry import Kind
from protocol.model.structure import Grant, Revocation, Ruling
from protocol.model.work import EMPTY_PAYLOAD
from protocol.roles import PersonRole, Role
from sync_agent.app import Agent
from sync_agent.coursework import own_versions
from sync_agent.coursework.own_versions import OwnVoice
from tests.harness.attack import attack
from tests.harness.classroom import Classroom, Device
from tests.harness.commands import Desk
from tests.harness.head_at_work import confirmed_head
from tests.harness.lost_laptop import another_laptop
from tests.harness.portal import portal, words_in
from tests.harness.spied_class import spied_class

ROW = "a lesson that she withdrew is shown again, and carried over in her name"
RULED = "what was said on a lost laptop counts by a ruling of the copied key's"


async def _nothing_is(*_: object) -> dict[bytes, str]:
    return {}


OFF = {"sync_agent.coursework.carrying_over._shown_again": _nothing_is}


@dataclass
class Withdrawn:
    """A teacher's lesson that she has withdrawn, another that stands, and her next class; `before` are her tips."""

    room: Classroom
    teacher: Device
    lesson: bytes
    following: bytes
    before: tuple[bytes, ...]

    async def sync(self) -> None:
        for _ in range(2):
            await self.teacher.session.sync()

    @property
    def desk(self) -> Desk:
        return Desk(self.teacher.agent)

    async def carry(self, desk: Desk, **params: Any) -> Any:
        classes = {"from": self.room.space.hex(), "to": self.following.hex()}
        return await desk.ask("carry-over", **classes, **params)

    async def by_the_copied_key(self, how: str) -> str:
        """Have the lesson shown again; what is told of it."""
        territory, space, keys = self.room.territory, self.room.space, self.teacher.agent.keys
        item = (await self.teacher.agent.replica.view(space)).coursework.items[self.lesson]
        if how == "restored":
            await territory.say(space, Kind.RESTORE, EMPTY_PAYLOAD, target=item.id, parents=item.switches[:1])
            return ", and shown again by the server, "
        cut = await territory.say(space, Kind.REVOKE, Revocation(keys.signing.public, self.before).encode())
        again = Grant(
            keys.signing.public,
            keys.agreement.public,
            keys.tls.fingerprint,
            Role.TEACHER,
            self.room.teacher_person,
            None,
            None,
        )
        await territory.say(space, Kind.GRANT, again.encode(), parents=(cut.id,))
        return " (held back since its computer was cut off by the server, "


@pytest.fixture
async def withdrawn(room: Classroom) -> Withdrawn:
    territory, teacher = room.territory, await room.teacher()
    await teacher.session.sync()
    await room.publish(teacher, {"a.txt": b"une bonne lecon " * 40})
    lesson = (await room.publish(teacher, {"b.txt": b"avec les photos des enfants " * 40})).item
    await teacher.session.sync()
    before = tuple(await territory.replica.tips(room.space, teacher.agent.device))
    await Desk(teacher.agent).ask("withdraw", item=lesson.hex())
    following = await territory.classroom("CM2")
    await territory.let_in(teacher.agent.keys, Role.TEACHER, following, person=room.teacher_person)
    made = Withdrawn(room, teacher, lesson, following, before)
    await made.sync()
    territory.clock.advance(DAY_MS)
    return made


@pytest.mark.parametrize("how", ["restored", "her withdrawal held back"])
@attack(ROW, off=OFF)
async def test_what_she_withdrew_goes_on_to_the_next_class_once_she_has_named_it_alone(
    withdrawn: Withdrawn, how: str
) -> None:
    told = await withdrawn.by_the_copied_key(how)
    await withdrawn.sync()
    items = (await withdrawn.teacher.agent.replica.view(withdrawn.room.space)).coursework.items
    assert not items[withdrawn.lesson].withdrawn
    desk = withdrawn.desk
    with pytest.raises(BadInput, match="nothing has been carried over yet: 1 ") as caught:
        await withdrawn.carry(desk)
    assert caught.value.code is Code.NOT_YET
    name = withdrawn.lesson.hex()[:12]
    (line,) = (line for line in desk.told if line.startswith(f"left, {name}, withdrawn by “Mme Petit”, "))
    assert told in line
    done = await withdrawn.carry(withdrawn.desk, shown_only=True)
    assert (done["lessons"], [each["item"] for each in done["left"]]) == (1, [withdrawn.lesson.hex()])
    assert (await withdrawn.carry(withdrawn.desk, also=[name]))["lessons"] == 1


@attack(ROW, off={"sync_agent.coursework.own_versions.OwnVoice.said": lambda *_: True})
async def test_nor_does_a_lesson_of_hers_that_somebody_else_withdrew_and_shows_again(withdrawn: Withdrawn) -> None:
    """As one that she withdrew on a laptop that is lost, and to which no word of this one leads."""
    await withdrawn.desk.ask("restore", item=withdrawn.lesson.hex())
    await withdrawn.sync()
    territory, space = withdrawn.room.territory, withdrawn.room.space
    for kind in (Kind.WITHDRAW, Kind.RESTORE):
        switches = (await withdrawn.teacher.agent.replica.view(space)).coursework.items[withdrawn.lesson].switches
        await territory.say(space, kind, EMPTY_PAYLOAD, target=withdrawn.lesson, parents=switches)
        await withdrawn.sync()
    desk = withdrawn.desk
    with pytest.raises(BadInput, match="nothing has been carried over yet: 1 "):
        await withdrawn.carry(desk)
    assert any(f"{withdrawn.lesson.hex()[:12]}, shown again by the server, " in line for line in desk.told)


async def _nobody_did(*_: object) -> None:
    return None


@attack(ROW, off={"sync_agent.portal.everybody.item_pages.ItemPages._shown_again": _nobody_did})
async def test_her_page_tells_by_whom_it_is_shown_again(withdrawn: Withdrawn) -> None:
    await withdrawn.by_the_copied_key("restored")
    await withdrawn.sync()
    async with portal(withdrawn.teacher.agent) as surfer:
        page = words_in(await surfer.page(f"/item/{withdrawn.lesson.hex()}"))
    assert "Remis en ligne après un retrait, " in page
    assert ", au nom de personne. Si vous ne l’avez pas demandé, retirez-le" in page
    await withdrawn.desk.ask("withdraw", item=withdrawn.lesson.hex())
    await withdrawn.desk.ask("restore", item=withdrawn.lesson.hex())
    async with portal(withdrawn.teacher.agent) as surfer:
        assert ", par Mme Petit." in words_in(await surfer.page(f"/item/{withdrawn.lesson.hex()}"))


async def test_what_she_shows_again_herself_is_carried_over_unasked(withdrawn: Withdrawn) -> None:
    await withdrawn.by_the_copied_key("restored")
    await withdrawn.sync()
    await withdrawn.desk.ask("withdraw", item=withdrawn.lesson.hex())
    await withdrawn.desk.ask("restore", item=withdrawn.lesson.hex())
    await withdrawn.sync()
    assert (await withdrawn.carry(withdrawn.desk))["lessons"] == 2


async def _deaf_to_rulings(agent: Agent, space: bytes) -> OwnVoice:
    voice = await own_versions.own_voice(agent, space)
    return replace(voice, roster=replace(voice.roster, let_count={}))


@attack(RULED, off={"sync_agent.coursework.carrying_over.own_voice": _deaf_to_rulings})
async def test_what_a_finder_published_on_her_lost_laptop_goes_on_by_its_id_alone(tmp_path: Path) -> None:
    async with spied_class(tmp_path) as here:
        room, territory = here.room, here.room.territory
        head, _ = await confirmed_head(here)
        lost = await another_laptop(here, here.teacher)
        others = (here.machine, here.teacher, head)
        for _ in range(2):
            await here.sync(lost, *others)
        made = (await room.publish(lost, {"insultes.txt": b"ce que pense qui l'a trouve " * 20})).item
        await here.sync(lost)
        await Desk(head.agent).ask("lost", device=lost.agent.device.hex())
        following = await territory.classroom("CM2")
        await territory.let_in(here.teacher.agent.keys, Role.TEACHER, following, person=room.teacher_person)
        for _ in range(2):
            await here.sync(head, *others)
        assert made in (await here.teacher.agent.replica.view(room.space)).roster.held_back
        await territory.say(room.space, Kind.RULING, Ruling((made,), ()).encode())
        for _ in range(2):
            await here.sync(*others)
        desk, classes = Desk(here.teacher.agent), {"from": room.space.hex(), "to": following.hex()}
        done = await desk.ask("carry-over", **classes)
        assert (done["lessons"], done["unconfirmed"]) == (0, ["Leçon"])
        (line,) = (line for line in desk.told if line.startswith(f"left, {made.hex()[:12]}, "))
        assert "since it was held back, and counts by a ruling alone, by “Mme Petit”, " in line
        assert (await desk.ask("carry-over", **classes, also=[made.hex()]))["lessons"] == 1


def _whoever_said_it(*_: object) -> bool:
    return True


@attack(ROW, off={"sync_agent.coursework.own_versions.OwnVoice.stands_by_word": _whoever_said_it})
async def test_what_somebody_else_withdrew_before_her_stays_so_once_that_counts_no_more(tmp_path: Path) -> None:
    async with spied_class(tmp_path) as here:
        territory, space, desk = here.room.territory, here.room.space, Desk(here.teacher.agent)
        await here.name_the_spy(await territory.person("M. X", PersonRole.TEACHER, space))
        await here.say(Kind.WITHDRAW, EMPTY_PAYLOAD, None, target=here.item)
        await here.sync()
        address = f"/item/{here.item.hex()}"
        async with portal(here.teacher.agent) as surfer:
            assert "Retirez-le aussi en votre nom" in words_in(await surfer.page(address))
            await surfer.send(address, f"{address}/withdraw", {})
            assert "aussi en votre nom" not in words_in(await surfer.page(address))
        assert await desk.ask("withdraw", item=here.item.hex()) == {"changed": False}
        await here.sync()
        await territory.say(space, Kind.REVOKE, Revocation(here.spy.signing.public, ()).encode())
        await here.sync()
        assert (await here.teacher.agent.replica.view(space)).coursework.items[here.item].withdrawn
