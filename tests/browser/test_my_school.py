"""“Mon école” in a real browser, on a head teacher's computer."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from protocol.model.entry import Kind
from protocol.model.structure import PersonRecord
from protocol.rights.vouching import device_words
from protocol.roles import PersonRole, Role
from sync_agent.keys.confirming import own_device
from tests.harness.browser import accessibility_faults, hears, looks_often, visitor
from tests.harness.classroom import classroom
from tests.harness.portal import portal

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("width", [1360, 360])
async def test_she_compares_six_words_before_a_computer_that_nobody_confirmed_comes_in(
    tmp_path: Path, browser: Browser, width: int
) -> None:
    async with classroom(tmp_path) as room:
        head, teacher = await room.head(), await room.teacher()
        for device in (teacher, head):
            await device.session.sync()
        other = await room.device(Role.TEACHER, room.space, person=room.teacher_person)
        for device in (other, head):
            await device.session.sync()
        async with portal(head.agent) as surfer, visitor(browser, width=width) as somebody:
            page = await somebody.page()
            await page.goto(f"{surfer.origin}/school")
            await page.get_by_label("Nom de la classe").fill("CE2")
            await page.get_by_label("Année scolaire").fill("2026-2027")
            await page.get_by_role("button", name="Ajouter", exact=True).click()
            await page.get_by_label("Faire entrer quelqu'un de l'école").select_option("Mme Petit")
            await page.get_by_role("button", name="Faire entrer", exact=True).click()
            await expect(page.get_by_role("heading", name="À comparer sur son écran")).to_be_visible()
            await expect(page.get_by_text(device_words(own_device(other.agent)))).to_be_visible()
            assert await accessibility_faults(page) == []
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            await page.get_by_role("button", name="Mêmes mots : faire entrer").click()
            await expect(page.get_by_text("2 ordinateurs dans cette classe")).to_be_visible()
            assert somebody.complaints == []


async def test_a_code_that_is_shown_once_stays_on_the_page_whatever_is_heard_meanwhile(
    tmp_path: Path, browser: Browser
) -> None:
    async with classroom(tmp_path) as room:
        head = await room.head()
        await head.session.sync()
        async with portal(head.agent) as surfer, visitor(browser) as somebody:
            page = await somebody.page()
            await looks_often(page)
            await page.goto(f"{surfer.origin}/school/{room.space.hex()}")
            await page.get_by_role("button", name="Donner un code").click()
            code = page.locator(".proof-code").first
            shown = await code.text_content()
            made = len(await head.agent.replica.store.scan_kinds([Kind.INVITE]))
            await head.session.sync()
            await hears(page)
            assert await code.text_content() == shown
            assert len(await head.agent.replica.store.scan_kinds([Kind.INVITE])) == made
            assert somebody.complaints == []
            language = page.get_by_role("link", name="English")
            assert await language.get_attribute("href") == "/?lang=en", "there is nothing at this page's own address"


@pytest.mark.parametrize("width", [1360, 360])
async def test_what_one_of_two_was_called_stands_by_the_button_that_makes_them_one_and_has_a_box_of_its_own(
    tmp_path: Path, browser: Browser, width: int
) -> None:
    async with classroom(tmp_path) as room:
        territory, head = room.territory, await room.head()
        tom = await territory.person("Tom", PersonRole.PUPIL, room.space)
        persons = (await territory.replica.view(room.space)).roster.persons
        record = PersonRecord(persons[room.pupil_person].name, PersonRole.PUPIL).encode()
        await territory.say(room.space, Kind.PERSON, record, subject=tom, parents=(persons[tom].entry,))
        await head.session.sync()
        async with portal(head.agent) as surfer, visitor(browser, width=width) as somebody:
            page = await somebody.page()
            await page.goto(f"{surfer.origin}/school/{room.space.hex()}")
            await expect(page.get_by_text("autre nom ici, auparavant : Tom")).to_be_visible()
            await page.get_by_text("C'est la même personne…").click()
            await page.get_by_label("Oui, c'est la même personne").check()
            assert await accessibility_faults(page) == []
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            join = page.get_by_role("button", name="Réunir")
            await join.click()
            await expect(page.get_by_role("heading", name="Peut-être ajoutés deux fois")).to_be_visible()
            await page.get_by_label("Oui, la même personne s'est bien appelée : Tom").check()
            await join.click()
            await expect(page.get_by_text("Réunis sur la liste de cette classe. Rien n'est perdu.")).to_be_visible()
            assert somebody.complaints == []


@pytest.mark.parametrize("width", [1360, 360])
async def test_which_other_class_has_a_pupil_too_stands_beside_their_name(
    tmp_path: Path, browser: Browser, width: int
) -> None:
    async with classroom(tmp_path) as room:
        territory, head = room.territory, await room.head()
        other = await territory.classroom("CE1")
        lea = await territory.person("Léa", PersonRole.PUPIL, other)
        named = PersonRecord("Léa", PersonRole.PUPIL).encode()
        await territory.say(room.space, Kind.PERSON, named, subject=lea)
        await head.session.sync()
        async with portal(head.agent) as surfer, visitor(browser, width=width) as somebody:
            page = await somebody.page()
            await page.goto(f"{surfer.origin}/school/{room.space.hex()}")
            row = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name="Léa (2)", exact=True))
            await expect(row.get_by_text("aussi sur la liste de : CE1")).to_be_visible()
            assert await accessibility_faults(page) == []
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert somebody.complaints == []
