"""What a teacher changes of an item is signed by her laptop: nothing of it is what others put in the place of hers.

docs/attacks.md; docs/adr/0305.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from html import unescape
from pathlib import Path

import pytest

from protocol.errors import BadInput, Code, LocalFailure
from protocol.folds.coursework import Item, Version
from protocol.model.entry import Kind
from protocol.model.structure import Revocation
from protocol.model.work import ContentRef, ItemKind
from protocol.replica.console.frame import Notices
from protocol.rights.vouching import device_id
from protocol.roles import PersonRole, Role
from sync_agent.app import Agent
from sync_agent.coursework.own_versions import Kept
from sync_agent.coursework.publisher import Wish, publish
from sync_agent.coursework.reading import find_item
from sync_agent.keys.confirming import own_device
from sync_agent.watching.files import look_at
from sync_agent.watching.folders import WatchedFolder
from sync_agent.watching.publishing import notes_of, publish_title
from sync_agent.watching.titles import Title
from tests.harness.attack import attack
from tests.harness.classroom import Classroom, Device, Given, assignment, classroom
from tests.harness.commands import Desk
from tests.harness.portal import Answer, Surfer, portal

ROW = "a teacher's computer publishes in her name what others put in the place of hers"
HIS = {"consigne.html": b"<h1>Apportez 50 euros au portail</h1>"}
DUE_MS = 1_800_000_000_000


@dataclass
class Rewritten:
    """A teacher's assignment, which a device that names nobody rewrites; whoever has the server lets such a one in."""

    room: Classroom
    petit: Device
    machine: Device
    thief: Device
    item: bytes

    async def rewrite(self, **words: str) -> None:
        """The thief's version reaches everybody."""
        shown = (await find_item(self.thief.agent, self.item)).shown
        wish = replace(Wish(None, self.item, None, words.get("title"), due_ms=DUE_MS), keep=shown.id)
        await publish(self.thief.agent, wish, Given(HIS), Notices())
        await self.sync(self.thief, self.petit, self.machine)

    async def sync(self, *devices: Device) -> None:
        for device in devices:
            await device.session.sync()

    async def shown(self) -> Version:
        return (await find_item(self.petit.agent, self.item)).shown

    async def stays_once_the_thief_is_cut_off(self) -> Mapping[str, bytes]:
        """The files that a pupils' PC shows when nothing counts any more that the thief said."""
        territory = self.room.territory
        await self.sync(self.petit)
        await territory.say(territory.id, Kind.REVOKE, Revocation(self.thief.agent.device, ()).encode())
        await self.sync(self.petit, self.machine, self.machine)
        return await self.machine.files(self.item)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Rewritten]:
    async with classroom(tmp_path) as room:
        petit, machine = await room.teacher(), await room.machine()
        for device in (petit, machine, petit):
            await device.session.sync()
        item = await assignment(room, petit, machine)
        thief = await room.device(Role.ADMIN, room.territory.id)
        await thief.session.sync()
        yield Rewritten(room, petit, machine, thief, item)


async def _as_the_shown_one(_agent: Agent, item: Item, _named: bytes | None, _seen: bytes | None) -> Kept:
    """Whatever is shown, whoever wrote it."""
    return Kept(item.shown)


async def _whatever_is_shown(agent: Agent, wanted: bytes) -> Version:
    return (await find_item(agent, wanted)).shown


UNASKED = {
    "sync_agent.coursework.publisher.to_keep": _as_the_shown_one,
    "sync_agent.coursework.publisher.check_seen": lambda *_: None,
}


async def _send(adult: Surfer, page: str, fields: Mapping[str, str]) -> Answer:
    """The form that a page shows, with no file."""
    given = {"kind": "assignment", "title": "Leçon", "subject": "", "due": "2027-01-20", "text": ""}
    return await adult.send(page, page.partition("?")[0], {**given, **fields}, [])


async def _hidden_in(answer: Answer) -> dict[str, str]:
    form = unescape(answer.text).partition('<input type="hidden" name="once"')[2]
    return {name: form.partition(f'name="{name}" value="')[2].partition('"')[0] for name in ("keep", "seen", "told")}


@attack(ROW, off=UNASKED)
async def test_what_came_while_her_form_lay_open_is_not_signed_by_her(here: Rewritten) -> None:
    before = (await here.shown()).record.content
    page = f"/item/{here.item.hex()}/publish"
    async with portal(here.petit.agent) as adult:
        form = await adult.hidden(page)
        await here.rewrite()
        told = await _send(adult, page, form)
        if told.status != 303:
            assert "une autre version est arrivée pendant que vous écriviez" in unescape(told.text)
            assert (await here.shown()).author == here.thief.agent.device, "nothing is published before she was told"
            assert (await _send(adult, page, await _hidden_in(told))).status == 303
    shown = await here.shown()
    assert (shown.author, shown.record.content) == (here.petit.agent.device, before)
    assert await here.stays_once_the_thief_is_cut_off() == await here.petit.files(here.item)
    assert "consigne.html" not in await here.machine.files(here.item)


async def test_whoever_publishes_without_end_keeps_her_from_nothing(here: Rewritten) -> None:
    page = f"/item/{here.item.hex()}/publish"
    async with portal(here.petit.agent) as adult:
        form = await adult.hidden(page)
        await here.rewrite()
        told = await _send(adult, page, form)
        again = await _hidden_in(told)
        await here.rewrite(title="Encore")
        assert (await _send(adult, page, again)).status == 303
    assert (await here.shown()).author == here.petit.agent.device


@attack(ROW, off={"sync_agent.coursework.own_versions.OwnVoice.has": lambda *_: True})
async def test_a_page_that_begins_with_anothers_version_says_whose_it_is_and_asks(here: Rewritten) -> None:
    mine = await here.shown()
    await here.rewrite()
    page = f"/item/{here.item.hex()}/publish"
    async with portal(here.petit.agent) as adult:
        assert "publiée par une personne sans nom ici" in unescape(await adult.page(page))
        refused = await _send(adult, page, {})
        assert refused.status == 400
        assert "cette version n'est pas de vous" in unescape(refused.text)
        assert (await here.shown()).author == here.thief.agent.device
        assert f"?from={mine.id.hex()}" in refused.text
        assert (await _send(adult, f"{page}?from={mine.id.hex()}", {})).status == 303
    assert (await here.shown()).record.content == mine.record.content


@attack(ROW, off=UNASKED)
async def test_a_command_that_changes_a_date_does_not_sign_what_is_shown_unasked(here: Rewritten) -> None:
    desk, mine = Desk(here.petit.agent), await here.shown()
    await here.rewrite()
    with pytest.raises(BadInput) as refused:
        await desk.publish(None, item=here.item.hex(), due_ms=DUE_MS)
    assert refused.value.code is Code.NOT_YET
    assert mine.id.hex()[:12] in refused.value.message
    await desk.publish(None, item=here.item.hex(), due_ms=DUE_MS, keep=mine.id.hex()[:12])
    assert await here.stays_once_the_thief_is_cut_off() == await here.petit.files(here.item)
    assert (await here.shown()).record == replace(mine.record, due_ms=DUE_MS)


@attack(ROW, off=UNASKED)
async def test_a_text_does_not_stand_beside_the_files_of_others_in_her_name(here: Rewritten) -> None:
    await here.rewrite()
    words: dict[str, str | int | None] = {"kind": "assignment", "title": "Leçon", "subject": None, "due_ms": None}
    with pytest.raises(BadInput):
        await Desk(here.petit.agent).publish(None, item=here.item.hex(), text="Pour lundi.", **words)
    assert (await here.shown()).author == here.thief.agent.device


async def test_what_she_says_herself_wholly_needs_no_question(here: Rewritten) -> None:
    await here.rewrite()
    words: dict[str, str | int | None] = {"kind": "assignment", "title": "Leçon", "subject": None, "due_ms": None}
    await Desk(here.petit.agent).publish({"a.txt": b"a"}, item=here.item.hex(), **words)
    assert await here.stays_once_the_thief_is_cut_off() == {"a.txt": b"a"}


@attack(ROW, off={**UNASKED, "sync_agent.watching.publishing._last_own": _whatever_is_shown})
async def test_a_watched_folder_takes_no_title_and_no_date_of_others(here: Rewritten, tmp_path: Path) -> None:
    room, agent = here.room, here.petit.agent
    place = tmp_path / "folder"
    (place / "Eau").mkdir(parents=True)
    (place / "Eau" / "a.txt").write_bytes(b"un")
    folder, look = WatchedFolder("1", place, room.space, own=False), look_at(place / "Eau")
    assert look is not None
    title = await publish_title(agent, folder, Title("1", "Eau"), look, before=None, notes={})
    assert title.item is not None
    here.item = title.item
    await here.sync(here.petit, here.thief, here.machine)
    await here.rewrite(title="Apportez 50 euros")
    (place / "Eau" / "a.txt").write_bytes(b"deux")
    look = look_at(place / "Eau")
    assert look is not None
    await publish_title(agent, folder, title, look, before=None, notes=await notes_of(agent, title))
    shown = await here.shown()
    assert (shown.author, shown.record.title, shown.record.due_ms) == (agent.device, "Eau", None)
    assert shown.record.kind is ItemKind.LESSON
    assert await here.stays_once_the_thief_is_cut_off() == {"a.txt": b"deux"}


def _whatever_is_said(self: Kept) -> ContentRef:
    return self.version.record.content


@attack(ROW, off={"sync_agent.coursework.own_versions.Kept.content": property(_whatever_is_said)})
async def test_files_that_have_not_come_are_not_taken_over_by_their_name_alone(here: Rewritten) -> None:
    await here.sync(here.petit)
    wish = Wish(None, here.item, None, None, keep=(await find_item(here.thief.agent, here.item)).shown.id)
    await publish(here.thief.agent, wish, Given(HIS), Notices())
    said = [stored.entry for stored in await here.thief.agent.replica.store.scan(here.room.space)]
    await here.petit.agent.replica.admit(said, source=here.thief.agent.device, now_ms=here.room.territory.clock())
    his = await here.shown()
    assert his.author == here.thief.agent.device
    with pytest.raises(LocalFailure) as refused:
        await Desk(here.petit.agent).publish(None, item=here.item.hex(), due_ms=DUE_MS, keep=his.id.hex())
    assert refused.value.code is Code.INCOMPLETE


async def test_her_own_words_again_are_said_again_over_anothers_that_are_the_same(here: Rewritten) -> None:
    mine = await here.shown()
    wish = Wish(None, here.item, None, "Autre", keep=mine.id)
    await publish(here.thief.agent, wish, Given({}), Notices())
    await publish(here.thief.agent, replace(wish, title="Leçon"), Given({}), Notices())
    await here.sync(here.thief, here.petit)
    assert (await here.shown()).record == mine.record
    assert (await here.shown()).author == here.thief.agent.device
    assert await Desk(here.petit.agent).ask("restore", item=here.item.hex(), revision=mine.id.hex()) == {
        "changed": True
    }
    assert (await here.shown()).author == here.petit.agent.device


# --- who works together -----------------------------------------------------------------------------------------------


async def test_a_substitute_goes_on_with_the_absent_teachers_lesson_and_knows_whose_it_was(here: Rewritten) -> None:
    room = here.room
    person = await room.territory.person("M. Durand", PersonRole.TEACHER, room.space)
    durand = await room.device(Role.TEACHER, person=person)
    await here.sync(here.petit, durand, durand)
    files = await durand.files(here.item)
    page = f"/item/{here.item.hex()}/publish"
    async with portal(durand.agent) as adult:
        assert "publiée par Mme Petit" in unescape(await adult.page(page))
        assert (await _send(adult, page, {})).status == 400
        shown = (await find_item(durand.agent, here.item)).shown
        assert (await _send(adult, page, {"took": shown.id.hex()})).status == 303
        assert "publiée par Mme Petit" not in unescape(await adult.page(page)), "it is his by now"
    shown = (await find_item(durand.agent, here.item)).shown
    assert shown.author == durand.agent.device
    assert await durand.files(here.item) == files


async def test_colleagues_who_have_confirmed_each_other_are_told_whose_it_is_and_asked_nothing(here: Rewritten) -> None:
    room = here.room
    person = await room.territory.person("M. Durand", PersonRole.TEACHER, room.space)
    durand = await room.device(Role.TEACHER, person=person)
    await here.sync(durand, here.petit, durand)
    await Desk(durand.agent).publish(
        {"a.txt": b"a"}, item=here.item.hex(), keep=(await find_item(durand.agent, here.item)).shown.id.hex()
    )
    await here.sync(durand, here.petit)
    desk = Desk(here.petit.agent)
    with pytest.raises(BadInput):
        await desk.publish(None, item=here.item.hex(), due_ms=DUE_MS)
    await desk.ask("key-confirm", reader=device_id(own_device(durand.agent)).hex(), shown_as="other")
    page = f"/item/{here.item.hex()}/publish"
    async with portal(here.petit.agent) as adult:
        assert "publiée par M. Durand" in unescape(await adult.page(page))
        assert (await _send(adult, page, {})).status == 303
    await desk.publish(None, item=here.item.hex(), due_ms=DUE_MS)
    assert await here.petit.files(here.item) == {"a.txt": b"a"}
