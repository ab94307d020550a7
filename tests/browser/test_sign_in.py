"""Signing in, in a real browser: a teacher's cards, a pupil's three pictures, a page that notices the end of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, Route, expect

from protocol.model.entry import Kind
from protocol.model.structure import Revocation
from protocol.model.work import ItemKind
from tests.harness.browser import accessibility_faults, hears, looks_often, visitor
from tests.harness.classroom import classroom
from tests.harness.portal import portal
from tests.harness.sign_in import SignedClass, sign_in, signed_class

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def school(tmp_path: Path) -> AsyncIterator[SignedClass]:
    async with classroom(tmp_path) as room:
        yield await signed_class(room)


async def faultless(page: Page) -> None:
    assert await accessibility_faults(page) == [], page.url


@pytest.mark.parametrize("width", [1360, 360])
async def test_a_pupil_touches_three_pictures_and_is_signed_out_by_the_page_itself(
    school: SignedClass, browser: Browser, width: int
) -> None:
    async with portal(school.pc.agent) as surfer, visitor(browser, width=width) as somebody:
        page = await somebody.page()
        await page.goto(f"{surfer.origin}/who")
        await page.get_by_role("button", name="Léa").click()
        await expect(page.get_by_role("heading", name="Tu es Léa ?")).to_be_visible()
        await faultless(page)
        for number, picture in enumerate(("étoile", "chat"), 1):
            await page.get_by_role("button", name=picture).click()
            await expect(page.get_by_text(f"{number} sur 3")).to_be_visible()
        await faultless(page)
        await page.get_by_role("button", name="soleil").click()
        await expect(page.get_by_role("alert")).to_contain_text("Ce ne sont pas tes images")
        for number, picture in enumerate(("étoile", "chat"), 1):
            await page.get_by_role("button", name=picture).click()
            await expect(page.get_by_text(f"{number} sur 3")).to_be_visible()
        await page.get_by_role("button", name="bateau").click()
        await expect(page.get_by_role("heading", name="Bonjour Léa")).to_be_visible()
        await faultless(page)
        # something else is set: the open page notices by itself
        await school.book.unlock(school.room.space, school.lea)
        await school.agree()
        await expect(page.get_by_role("heading", name="Bonjour Léa")).not_to_be_visible()
        assert somebody.complaints == []


async def test_a_pupil_keeps_work_for_later_and_hands_it_in(
    school: SignedClass, browser: Browser, tmp_path: Path
) -> None:
    item = (await school.room.publish(school.teacher, {"a.txt": b"a"}, kind=ItemKind.ASSIGNMENT)).item
    await school.agree()
    (tmp_path / "recit.txt").write_text("Il etait une fois")
    async with portal(school.pc.agent) as surfer, visitor(browser) as somebody:
        page = await somebody.page()
        await page.goto(f"{surfer.origin}/sign-in/{school.tom.hex()}")
        await page.get_by_label("Ton code secret").fill("4711")
        await page.get_by_role("button", name="Oui, je suis Tom").click()
        await expect(page.get_by_role("heading", name="Bonjour Tom")).to_be_visible()
        await page.goto(f"{surfer.origin}/item/{item.hex()}")
        await page.get_by_label("Tes fichiers").set_input_files(tmp_path / "recit.txt")
        await page.get_by_role("button", name="Garder pour plus tard").click()
        await expect(page.get_by_role("heading", name="Commencé")).to_be_visible()
        await faultless(page)
        (tmp_path / "dessin.txt").write_text("un dessin")
        await page.get_by_label("Ajouter des fichiers").set_input_files(tmp_path / "dessin.txt")
        await page.get_by_role("button", name="Rendre", exact=True).click()
        await expect(page.get_by_text("Ton travail est gardé")).to_be_visible()
        for name in ("recit.txt", "dessin.txt"):
            await expect(page.get_by_text(name)).to_be_visible()
        assert somebody.complaints == []


async def test_a_teacher_prints_cards_without_any_script(school: SignedClass, browser: Browser) -> None:
    async with portal(school.teacher.agent) as surfer, visitor(browser, scripts=False) as somebody:
        page = await somebody.page()
        await page.goto(surfer.origin)
        await page.get_by_role("link", name="Connexion des élèves").click()
        await page.get_by_role("button", name="Nouvelles images pour Tom").click()
        await expect(page.get_by_role("heading", name="Cartes à imprimer")).to_be_visible()
        await expect(page.locator(".sign-cards li li")).to_have_count(3)
    async with portal(school.teacher.agent) as surfer, visitor(browser) as somebody:
        page = await somebody.page()
        await page.goto(f"{surfer.origin}/sign-ins/{school.room.space.hex()}")
        await faultless(page)
        await page.get_by_role("button", name="Nouvelles images pour Tom").click()
        await expect(page.get_by_role("heading", name="Cartes à imprimer")).to_be_visible()
        await faultless(page)


@pytest.mark.parametrize("width", [1360, 360])
async def test_a_teacher_draws_new_pictures_for_all_whose_secret_a_lost_computer_could_open(
    school: SignedClass, browser: Browser, width: int
) -> None:
    lost, territory = await school.room.machine(), school.room.territory
    for device in (lost, school.teacher, school.pc, lost, school.pc):
        await device.session.sync()
    await territory.say(school.room.space, Kind.REVOKE, Revocation(lost.agent.device, ()).encode())
    await school.agree()
    async with portal(school.teacher.agent) as surfer, visitor(browser, width=width) as somebody:
        page = await somebody.page()
        await page.goto(f"{surfer.origin}/sign-ins/{school.room.space.hex()}")
        await expect(page.get_by_role("heading", name="Des images et des codes à changer")).to_be_visible()
        await faultless(page)
        await page.get_by_role("button", name="Tirer de nouvelles images pour ces 2 élèves").click()
        await expect(page.get_by_role("heading", name="Cartes à imprimer")).to_be_visible()
        await expect(page.get_by_role("heading", name="Des images et des codes à changer")).not_to_be_visible()
        await expect(page.locator(".sign-cards > li")).to_have_count(2)
        await faultless(page)


async def test_a_pupil_is_told_of_failed_tries_in_their_name(school: SignedClass, browser: Browser) -> None:
    async with portal(school.pc.agent) as surfer, visitor(browser, width=360) as somebody:
        for _ in range(3):
            await sign_in(surfer, school.tom, "0000")
        school.room.territory.clock.advance(60_000)
        page = await somebody.page()
        await page.goto(f"{surfer.origin}/sign-in/{school.tom.hex()}")
        await page.get_by_label("Ton code secret").fill("4711")
        await page.get_by_role("button", name="Oui, je suis Tom").click()
        await expect(page.get_by_text("Il y a eu 3 essais ratés à ton nom sur cet ordinateur.")).to_be_visible()
        await faultless(page)
        await page.get_by_role("link", name="Accueil").click()
        await expect(page.get_by_role("heading", name="Bonjour Tom")).to_be_visible()
        await expect(page.get_by_text("essais ratés")).not_to_be_visible()


async def test_a_page_that_is_being_left_does_not_bring_the_pupil_back_to_it(
    school: SignedClass, browser: Browser
) -> None:
    async with portal(school.pc.agent) as surfer, visitor(browser) as somebody:
        page = await somebody.page()
        await looks_often(page)

        async def hears_while_it_is_left(route: Route) -> None:
            answer = await route.fetch(max_redirects=0)
            await hears(page)
            await route.fulfill(response=answer)

        address = f"{surfer.origin}/sign-in/{school.tom.hex()}"
        await page.goto(address)
        await page.route(address, hears_while_it_is_left)
        await page.get_by_label("Ton code secret").fill("4711")
        await page.get_by_role("button", name="Oui, je suis Tom").click()
        await expect(page.get_by_role("heading", name="Bonjour Tom")).to_be_visible()


async def test_news_of_another_window_takes_nothing_that_a_pupil_has_begun_to_type(
    school: SignedClass, browser: Browser
) -> None:
    async with portal(school.pc.agent) as surfer, visitor(browser) as somebody:
        page, other = await somebody.page(), await somebody.page()
        await looks_often(page)
        for window in (page, other):
            await window.goto(f"{surfer.origin}/sign-in/{school.tom.hex()}")
            await window.get_by_label("Ton code secret").fill("4711")
        await other.get_by_role("button", name="Oui, je suis Tom").click()
        await expect(other.get_by_role("heading", name="Bonjour Tom")).to_be_visible()
        await hears(page)
        await expect(page.get_by_label("Ton code secret")).to_have_value("4711")
