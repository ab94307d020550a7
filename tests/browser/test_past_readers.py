"""A teacher is told who reads already, and who could read for a time, in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from protocol.roles import PersonRole, Role
from tests.harness.browser import accessibility_faults, visitor
from tests.harness.lost_laptop import cut_off
from tests.harness.portal import portal
from tests.harness.spied_class import spied_class

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("width", [1360, 360])
async def test_she_reads_who_could_read_for_a_time_and_has_seen_it(
    tmp_path: Path, browser: Browser, width: int
) -> None:
    async with spied_class(tmp_path) as here:
        person = await here.room.territory.person("M. X", PersonRole.TEACHER, here.room.space)
        stranger = await here.room.device(Role.TEACHER, person=person)
        await here.sync(stranger, here.machine)
        for number in range(2):
            await here.room.hand_in(here.machine, here.item, {"n.odt": bytes([number])})
            here.room.territory.clock.advance(86_400_000)
        await here.sync(here.machine)
        await cut_off(here, stranger)
        await here.sync()
        async with portal(here.teacher.agent) as surfer, visitor(browser, width=width) as somebody:
            page = await somebody.page()
            await page.goto(surfer.origin)
            assert await accessibility_faults(page) == []
            await page.get_by_role("link", name="M. X a pu lire 2 travaux d'élèves").click()
            await expect(page.get_by_role("heading", name="Ont pu lire pendant un temps")).to_be_visible()
            await expect(page.get_by_text("2 travaux d'élèves (CM1), entre")).to_be_visible()
            assert await accessibility_faults(page) == []
            await page.get_by_role("button", name="J'ai vu").click()
            await expect(page.get_by_text("C'est noté.")).to_be_visible()
            await page.goto(surfer.origin)
            await expect(page.get_by_text("a pu lire")).to_have_count(0)
            assert somebody.complaints == []


@pytest.mark.parametrize("width", [1360, 360])
async def test_she_reads_once_who_was_there_when_her_computer_got_the_class(
    tmp_path: Path, browser: Browser, width: int
) -> None:
    async with spied_class(tmp_path) as here:
        for name in ("M. Durand", "Mme Lefèvre-Vandenbroucke"):
            person = await here.room.territory.person(name, PersonRole.TEACHER, here.room.space)
            await here.sync(await here.room.device(Role.TEACHER, person=person))
        person = await here.room.territory.person("Mme Roy", PersonRole.TEACHER, here.room.space)
        laptop = await here.room.device(Role.TEACHER, person=person)
        await here.sync(laptop)
        async with portal(laptop.agent) as surfer, visitor(browser, width=width) as somebody:
            page = await somebody.page()
            await page.goto(surfer.origin)
            assert await accessibility_faults(page) == []
            await page.get_by_role("link", name="Lisent aussi les travaux de vos classes").click()
            assert await accessibility_faults(page) == []
            await page.get_by_role("button", name="J'ai vu ces noms").click()
            await expect(page.get_by_text("C'est noté.")).to_be_visible()
            await expect(page.get_by_role("button", name="J'ai vu ces noms")).to_have_count(0)
            await page.goto(surfer.origin)
            await expect(page.get_by_text("aussi les travaux de vos classes")).to_have_count(0)
            assert somebody.complaints == []
