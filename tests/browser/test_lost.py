"""A stolen laptop, reported in a real browser on the head teacher's computer, with no server in reach."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from protocol.clock import DAY_MS
from protocol.replica.office.arrivals import note_arrivals
from protocol.roles import Role
from tests.harness.browser import accessibility_faults, visitor
from tests.harness.classroom import classroom
from tests.harness.commands import Desk
from tests.harness.head_at_work import take_back
from tests.harness.portal import portal

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("width", [1360, 360])
async def test_she_finds_the_laptop_says_since_when_and_is_told_what_it_held(
    tmp_path: Path, browser: Browser, width: int
) -> None:
    async with classroom(tmp_path) as room:
        head, laptop, pc = await room.head(), await room.teacher(), await room.machine()
        for device in (laptop, pc, laptop, head):
            await device.session.sync()
        await note_arrivals(head.agent.replica.store, room.territory.clock())
        room.territory.clock.advance(4 * DAY_MS)
        async with portal(head.agent) as surfer, visitor(browser, width=width) as somebody:
            page = await somebody.page()
            await page.goto(f"{surfer.origin}/school")
            await page.get_by_role("link", name="Un poste est perdu ou volé").click()
            row = page.get_by_role("listitem").filter(has_text="Mme Petit")
            await row.get_by_text("Perdu ou volé…").click()
            assert await accessibility_faults(page) == []
            await row.get_by_label("Entre de bonnes mains jusqu'à").select_option("il y a trois jours")
            await row.get_by_label("Oui, ce poste ne doit plus rien recevoir").check()
            await row.get_by_role("button", name="Lui retirer ses droits").click()
            await expect(page.get_by_role("heading", name="Ce que contenait le poste")).to_be_visible()
            assert await accessibility_faults(page) == []
            assert somebody.complaints == []


@pytest.mark.parametrize("width", [1360, 360])
async def test_what_a_laptop_keeps_is_shown_with_who_can_end_it(tmp_path: Path, browser: Browser, width: int) -> None:
    async with classroom(tmp_path, spaces=2) as room:
        head, laptop = await room.head(), await room.teacher()
        await room.territory.let_in(laptop.agent.keys, Role.HEAD, room.territory.classes[1], person=room.teacher_person)
        for device in (laptop, head):
            await device.session.sync()
        async with portal(head.agent) as surfer, visitor(browser, width=width) as somebody:
            page = await somebody.page()
            await page.goto(f"{surfer.origin}/lost")
            row = page.get_by_role("listitem").filter(has_text="CM1")
            await row.get_by_text("Perdu ou volé…").click()
            await row.get_by_label("Oui, ce poste ne doit plus rien recevoir").check()
            await row.get_by_role("button", name="Lui retirer ses droits").click()
            await expect(page.get_by_role("heading", name="Ce qui lui reste")).to_be_visible()
            assert await accessibility_faults(page) == []
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "an id wraps on a phone"
            assert somebody.complaints == []


@pytest.mark.parametrize("width", [1360, 360])
async def test_a_laptop_whose_report_was_taken_back_is_shown_first(
    tmp_path: Path, browser: Browser, width: int
) -> None:
    async with classroom(tmp_path) as room:
        head, laptop = await room.head(), await room.teacher()
        for device in (laptop, head):
            await device.session.sync()
        await Desk(head.agent).ask("lost", device=laptop.agent.device.hex())
        await head.session.sync()
        await take_back(room.territory, head)
        await head.session.sync()
        async with portal(head.agent) as surfer, visitor(browser, width=width) as somebody:
            page = await somebody.page()
            await page.goto(f"{surfer.origin}/school")
            assert await accessibility_faults(page) == []
            notice = page.locator(".notice").filter(has_text="Un poste signalé perdu compte de nouveau")
            await notice.get_by_role("link", name="Un poste est perdu ou volé").click()
            row = page.get_by_role("listitem").filter(has_text="Mme Petit")
            await expect(row).to_contain_text("Ce signalement a été annulé depuis")
            assert await accessibility_faults(page) == []
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert somebody.complaints == []
