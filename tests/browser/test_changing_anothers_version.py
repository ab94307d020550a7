"""A teacher changes what others have changed since, in a real browser: she is told whose it is, and asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from protocol.replica.console.frame import Notices
from protocol.roles import PersonRole, Role
from sync_agent.coursework.publisher import Wish, publish
from sync_agent.coursework.reading import find_item
from tests.harness.browser import accessibility_faults, visitor
from tests.harness.classroom import Classroom, Device, Given, classroom
from tests.harness.portal import PAGE, portal

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Classroom]:
    async with classroom(tmp_path) as made:
        yield made


async def _changed_by(device: Device, item: bytes, title: str, hers: Device) -> None:
    await device.session.sync()
    keep = (await find_item(device.agent, item)).shown.id
    await publish(device.agent, Wish(None, item, None, title, keep=keep), Given({"index.html": PAGE * 2}), Notices())
    for each in (device, hers):
        await each.session.sync()


@pytest.mark.parametrize("width", [1360, 360])
async def test_she_is_told_what_has_come_and_whose_it_is_and_goes_on_knowingly(
    room: Classroom, browser: Browser, width: int
) -> None:
    petit = await room.teacher()
    await petit.session.sync()
    item = (await room.publish(petit, {"index.html": PAGE})).item
    await petit.session.sync()
    person = await room.territory.person("M. Durand", PersonRole.TEACHER, room.space)
    durand = await room.device(Role.TEACHER, person=person)
    for device in (durand, petit):
        await device.session.sync()
    async with portal(petit.agent) as surfer, visitor(browser, width=width) as somebody:
        page = await somebody.page()
        form = f"{surfer.origin}/item/{item.hex()}/publish"
        await page.goto(form)
        await expect(page.locator("#made-of")).to_have_count(0)
        await page.get_by_label("Titre").fill("La pluie")
        await _changed_by(durand, item, "Leçon, corrigée", petit)
        await page.get_by_role("button", name="Publier").click()
        await expect(page.get_by_role("alert")).to_contain_text("une autre version est arrivée")
        await expect(page.locator("#news")).to_contain_text("M. Durand")
        await expect(page.get_by_label("Titre")).to_have_value("La pluie")
        assert await accessibility_faults(page) == []
        await page.get_by_role("link", name="Repartir de celle-là").click()
        await expect(page.locator("#made-of")).to_contain_text("M. Durand")
        await expect(page.get_by_label("Titre")).to_have_value("Leçon, corrigée")
        await page.get_by_role("button", name="Publier").click()
        await expect(page.get_by_role("alert")).to_contain_text("cette version n'est pas de vous")
        assert await accessibility_faults(page) == []
        await page.get_by_label("J'ai regardé ses fichiers").check()
        await page.get_by_role("button", name="Publier").click()
        await expect(page.get_by_text("Publié. Les postes")).to_be_visible()
        await expect(page.get_by_text("Publié par Mme Petit")).to_be_visible()
    assert await petit.files(item) == {"index.html": PAGE * 2}
