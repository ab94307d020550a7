"""A teacher whose last word was held back, in a real browser: she is told, looks, and says it again."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.harness.browser import accessibility_faults, visitor
from tests.harness.last_word import AFTER, undone
from tests.harness.portal import portal
from tests.harness.spied_class import spied_class

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("width", [1360, 360])
async def test_she_is_told_on_her_first_page_and_says_it_again_from_there(
    tmp_path: Path, browser: Browser, width: int
) -> None:
    async with spied_class(tmp_path) as here:
        await undone(here)
        async with portal(here.teacher.agent) as surfer, visitor(browser, width=width) as somebody:
            page = await somebody.page()
            await page.goto(surfer.origin)
            await page.get_by_role("link", name="choses dites").or_(page.get_by_role("link", name="chose dite")).click()
            await expect(page.get_by_text(AFTER)).to_be_visible()
            assert await accessibility_faults(page) == []
            await page.get_by_role("link", name="Une réponse à un élève").click()
            await page.get_by_label("Réponse").or_(page.locator("#text")).first.fill(AFTER)
            await page.locator("#h-feedback").locator("xpath=..").get_by_role("button").last.click()
            await page.goto(surfer.origin)
            await expect(page.locator("#held-back")).to_have_count(0)
            assert somebody.complaints == []


@pytest.mark.parametrize("width", [1360, 360])
async def test_the_head_sees_whose_words_wait(tmp_path: Path, browser: Browser, width: int) -> None:
    async with spied_class(tmp_path) as here:
        head = await here.room.head()
        await undone(here)
        await here.sync(head)
        async with portal(head.agent) as surfer, visitor(browser, width=width) as somebody:
            page = await somebody.page()
            await page.goto(f"{surfer.origin}/school")
            await expect(page.locator("#held-back")).to_contain_text("Mme Petit")
            assert await accessibility_faults(page) == []
            assert somebody.complaints == []
