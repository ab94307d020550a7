"""A teacher with her next laptop, in a real browser: was it she who worked on the found one?"""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from protocol.rights.vouching import device_id
from sync_agent.keys.confirming import confirm, own_device
from tests.harness.browser import accessibility_faults, visitor
from tests.harness.head_at_work import confirmed_head
from tests.harness.lost_laptop import a_year_on_a_found_laptop, another_laptop, her_next_laptop, lost_and_found
from tests.harness.portal import portal
from tests.harness.spied_class import spied_class

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("width", [1360, 360])
async def test_she_is_asked_on_her_next_laptop_says_no_and_then_that_it_was_she(
    tmp_path: Path, browser: Browser, width: int
) -> None:
    async with spied_class(tmp_path) as here:
        paper, head = await a_year_on_a_found_laptop(here, "Bravo")
        new, _, _ = await her_next_laptop(here, paper, head)
        async with portal(new.agent) as surfer, visitor(browser, width=width) as somebody:
            page = await somebody.page()
            await page.goto(surfer.origin)
            await page.get_by_role("link", name="Était-ce bien vous ?").click()
            await expect(page.get_by_role("heading", name="Un ancien ordinateur")).to_be_visible()
            assert await accessibility_faults(page) == []
            await page.get_by_role("button", name="Non, ou je ne sais pas").click()
            await expect(page.get_by_text("sur cet ordinateur seulement")).to_be_visible()
            await expect(page.get_by_role("heading", name="Un ancien ordinateur")).to_have_count(0)
            await page.get_by_text("vous avez répondu « Non, ou je ne sais pas »").click()
            assert await accessibility_faults(page) == []
            await page.get_by_role("button", name="Oui, c'était moi").click()
            await expect(page.get_by_text("compte de nouveau comme venant de vous")).to_be_visible()
            await expect(page.get_by_role("heading", name="Un ancien ordinateur")).to_have_count(0)
            assert somebody.complaints == []


@pytest.mark.parametrize("width", [1360, 360])
async def test_a_found_laptop_and_the_one_that_said_so_show_where_she_has_still_to_answer(
    tmp_path: Path, browser: Browser, width: int
) -> None:
    async with spied_class(tmp_path) as here:
        head, _ = await confirmed_head(here)
        first = here.teacher
        second = await another_laptop(here, first)
        drawer = await another_laptop(here, first)
        await here.sync(second, drawer, first, second)
        await lost_and_found(here, head, first, second)
        for one in (drawer, first):
            await confirm(second.agent, device_id(own_device(one.agent)), shown_as="own")
        await here.sync(second, first)
        for laptop, words in ((first, "jusqu'à votre réponse sur"), (second, "Il attend encore votre réponse sur")):
            async with portal(laptop.agent) as surfer, visitor(browser, width=width) as somebody:
                page = await somebody.page()
                await page.goto(f"{surfer.origin}/readers")
                await expect(page.get_by_text(words)).to_be_visible()
                assert await accessibility_faults(page) == []
                assert somebody.complaints == []
