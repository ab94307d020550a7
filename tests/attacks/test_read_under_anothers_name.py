"""What a page shows is by whom it says, also while a teacher's newest version has not come (docs/attacks.md).

docs/adr/0306.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from html import unescape
from pathlib import Path

import pytest

from protocol.folds.coursework import Item, Version
from protocol.model.entry import Kind, compose
from protocol.model.work import ItemKind, Revision
from protocol.replica.console.frame import Notices
from protocol.rights.vouching import device_id
from protocol.roles import PersonRole, Role
from sync_agent.app import Agent
from sync_agent.coursework.publisher import Wish, publish, store_files
from sync_agent.coursework.reading import find_item, readable_version
from sync_agent.keys.confirming import own_device
from sync_agent.portal.shown.shelf import Piece
from tests.harness.attack import attack
from tests.harness.classroom import Classroom, Device, Given, classroom
from tests.harness.commands import Desk
from tests.harness.portal import Surfer, portal

ROW = "a page shows what others wrote under a teacher's name"
HERS = {"index.html": b"<h1>Le cycle de l'eau</h1>"}
AGAIN = {"index.html": b"<h1>Le cycle de l'eau, corrige</h1>" * 9}
HIS = {"index.html": b"<h1>Apportez 50 euros au portail</h1>"}


@dataclass
class Withheld:
    """A class whose server gives a PC the entries of what a teacher publishes, and not the files."""

    room: Classroom
    petit: Device
    pc: Device
    thief: Device

    async def sync(self, *devices: Device) -> None:
        for device in devices:
            await device.session.sync()

    async def lesson(self, device: Device, files: Mapping[str, bytes], title: str = "Eau") -> bytes:
        wish = Wish(self.room.space, None, ItemKind.LESSON, title)
        item = (await publish(device.agent, wish, Given(files), Notices())).item
        await self.sync(device, self.pc)
        return item

    async def version(
        self, device: Device, item: bytes, files: Mapping[str, bytes], title: str = "Eau", *, whole: bool = True
    ) -> None:
        """A further version, which comes to the PC with its files or without."""
        await self.sync(device)
        wish = Wish(None, item, None, title, keep=(await find_item(device.agent, item)).shown.id)
        await publish(device.agent, wish, Given(files), Notices())
        await self.sync(device)
        if whole:
            await self.sync(self.pc)
        else:
            await self.hear()

    async def hear(self) -> None:
        """The PC hears what the server has, without any files."""
        territory = self.room.territory
        said = [stored.entry for stored in await territory.replica.store.scan(self.room.space)]
        await self.pc.agent.replica.admit(said, source=territory.keys.signing.public, now_ms=territory.clock())

    async def read(self, item: bytes) -> tuple[str, bytes]:
        """What a page of the PC says of who published it, and what stands in its frame."""
        async with portal(self.pc.agent) as surfer:
            return await _meta(surfer, f"/item/{item.hex()}"), (await surfer.lesson(item.hex())).body


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Withheld]:
    async with classroom(tmp_path) as room:
        petit, pc = await room.teacher(), await room.machine()
        for device in (petit, pc, petit):
            await device.session.sync()
        thief = await room.device(Role.ADMIN, room.territory.id)
        await thief.session.sync()
        yield Withheld(room, petit, pc, thief)


async def _meta(surfer: Surfer, path: str) -> str:
    found = re.search(r'class="meta">\s*(.*?)\s*<', unescape(await surfer.page(path)), re.DOTALL)
    assert found is not None
    return found[1]


async def _as_they_are_shown(_agent: Agent, item: Item) -> list[Version]:
    return list(item.versions.values())


def _the_shown_one(self: Piece) -> Version:
    return self.item.shown


AS_SHOWN = {"sync_agent.portal.shown.shelf.Piece.version": property(_the_shown_one)}
IN_ORDER = {"sync_agent.coursework.reading._in_order_of_reading": _as_they_are_shown}


@attack(ROW, off=IN_ORDER)
async def test_while_her_correction_has_not_come_what_she_said_before_is_read(here: Withheld) -> None:
    item = await here.lesson(here.petit, HERS)
    await here.version(here.thief, item, HIS)
    assert await here.read(item) == ("Publié aujourd'hui", HIS["index.html"]), "nobody's whom a list names"
    await here.version(here.petit, item, AGAIN, whole=False)
    assert await here.read(item) == ("Publié par Mme Petit aujourd'hui", HERS["index.html"])
    assert await Desk(here.pc.agent).files("checkout", item=item.hex()) == HERS
    await here.sync(here.pc)
    assert (await here.read(item))[1] == AGAIN["index.html"]


@attack(ROW, off=AS_SHOWN)
async def test_where_nothing_else_is_there_to_be_read_it_stands_under_no_other_name(here: Withheld) -> None:
    item = (
        await publish(here.petit.agent, Wish(here.room.space, None, ItemKind.LESSON, "Eau"), Given(HERS), Notices())
    ).item
    hers = (await here.petit.agent.replica.store.get([item]))[item]
    content = await store_files(here.thief.agent, here.room.space, Given(HIS))
    assert content is not None
    agent = here.thief.agent
    (grant, *_) = await agent.replica.authorities(agent.device)
    his = compose(
        author=agent.keys.signing,
        space=here.room.space,
        kind=Kind.REVISION,
        grant=grant.grant,
        at=hers.header.at - 1,
        payload=Revision(ItemKind.LESSON, "Sortie", None, None, content).encode(),
        salt=bytes(16),
        target=item,
    )
    for replica in (agent.replica, here.room.territory.replica):
        await replica.admit([hers], source=b"x", now_ms=here.room.territory.clock())
    await agent.replica.admit([his], source=b"x", now_ms=here.room.territory.clock(), unsent=True)
    await here.sync(here.thief, here.pc)
    assert await here.read(item) == ("Publié aujourd'hui", HIS["index.html"])
    async with portal(here.pc.agent) as surfer:
        page = unescape(await surfer.page(f"/item/{item.hex()}"))
        assert "<h1>Sortie</h1>" in page
        assert "plus récente est en cours d'arrivée, publiée par Mme Petit" in page
        assert ">Sortie</a>" in await surfer.page("/")
    desk = Desk(here.pc.agent)
    assert await desk.files("checkout", item=item.hex()) == HIS
    assert "“Sortie”" in desk.told[0]
    assert "by nobody whom this device knows by name" in desk.told[0]


@attack(ROW, off=AS_SHOWN)
async def test_nor_on_the_first_page_where_announcements_are_read(here: Withheld) -> None:
    wish = Wish(here.room.space, None, ItemKind.ANNOUNCEMENT, "Piscine", text="Apportez 50 euros.")
    item = (await publish(here.thief.agent, wish, Given({}), Notices())).item
    await here.sync(here.thief, here.pc)
    await here.sync(here.petit)
    his = (await find_item(here.petit.agent, item)).shown.id
    hers = replace(wish, space=None, item=item, text="Avec le bonnet.", keep=his)
    await publish(here.petit.agent, hers, Given({}), Notices())
    await here.sync(here.petit)
    await here.hear()
    async with portal(here.pc.agent) as surfer:
        page = await surfer.page("/")
        assert "Apportez 50 euros." in page
        assert "Mme Petit ·" not in page
        await here.sync(here.pc)
        page = await surfer.page("/")
        assert "Avec le bonnet." in page
        assert "Mme Petit ·" in page


async def test_what_a_confirmed_colleague_wrote_is_read_meanwhile_as_what_it_is(here: Withheld) -> None:
    person = await here.room.territory.person("M. Durand", PersonRole.TEACHER, here.room.space)
    durand = await here.room.device(Role.TEACHER, person=person)
    await here.sync(durand, here.petit, durand)
    item = await here.lesson(here.petit, HERS)
    await here.version(durand, item, HIS)
    await here.version(here.petit, item, AGAIN, whole=False)
    assert await here.read(item) == ("Publié par Mme Petit aujourd'hui", HERS["index.html"])
    await Desk(here.petit.agent).ask("key-confirm", reader=device_id(own_device(durand.agent)).hex(), shown_as="other")
    await here.sync(here.petit)
    await here.hear()
    assert await here.read(item) == ("Publié par M. Durand aujourd'hui", HIS["index.html"])


async def test_where_all_versions_are_of_one_device_nobody_is_asked_whose_they_are(here: Withheld) -> None:
    item = await here.lesson(here.petit, HERS)
    await here.version(here.petit, item, AGAIN, whole=False)
    found = await readable_version(here.pc.agent, await find_item(here.pc.agent, item))
    assert found is not None
    assert found.id == item
