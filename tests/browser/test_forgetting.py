"""A pupil is forgotten in a real browser, on the head teacher's computer: added twice, or under another's name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from protocol.clock import DAY_MS
from protocol.model.entry import Kind, compose
from protocol.model.structure import PersonRecord
from protocol.replica.office.erasures import in_force
from protocol.replica.office.further_words import merge_persons, rename_person
from protocol.replica.office.people import add_person
from protocol.roles import PersonRole
from sync_agent.school.office import SchoolOffice
from tests.harness.browser import accessibility_faults, visitor
from tests.harness.classroom import classroom
from tests.harness.portal import portal

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def begins_to_forget(page: Page) -> None:
    """At the button beside Léa's name in the list."""
    row = page.get_by_role("listitem").filter(has_text="Léa")
    await row.get_by_text("Effacer…").click()
    await row.get_by_label("Oui, c'est bien ce que je veux").check()
    await row.get_by_role("button", name="Effacer Léa").click()


async def is_for_everybody(page: Page) -> None:
    """Whatever somebody reads it with, and on however small a screen."""
    assert await accessibility_faults(page) == []
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def ends_it(page: Page) -> None:
    """At the page that asks who is meant."""
    await page.get_by_role("button", name="Effacer Léa").click()
    await expect(page.get_by_text("Effacé ici, et partout au prochain échange.")).to_be_visible()


@pytest.mark.parametrize("width", [1360, 360])
async def test_she_ticks_who_is_the_same_person_and_nobody_else_is_forgotten(
    tmp_path: Path, browser: Browser, width: int
) -> None:
    async with classroom(tmp_path) as room:
        head, lea = await room.head(), room.pupil_person
        await head.session.sync()
        office = await SchoolOffice.of(head.agent)
        doubles = [await add_person(office, name, PersonRole.PUPIL, [room.space]) for name in ("LEA", "Tom")]
        for double in doubles:
            await merge_persons(office, double, lea)
        async with portal(head.agent) as surfer, visitor(browser, width=width) as somebody:
            page = await somebody.page()
            await page.goto(f"{surfer.origin}/school/{room.space.hex()}")
            await begins_to_forget(page)
            await expect(page.get_by_role("heading", name="Est-ce une seule personne ?")).to_be_visible()
            await is_for_everybody(page)
            await page.get_by_label("LEA").check()
            await ends_it(page)
            assert somebody.complaints == []
        assert {covers for _, covers in await in_force(head.agent.replica)} == {lea, doubles[0]}


@pytest.mark.parametrize("width", [1360, 360])
async def test_she_says_that_she_means_the_one_who_has_by_now_a_name_that_was_anothers(
    tmp_path: Path, browser: Browser, width: int
) -> None:
    async with classroom(tmp_path) as room:
        head, lea = await room.head(), room.pupil_person
        await head.session.sync()
        office = await SchoolOffice.of(head.agent)
        tom = await add_person(office, "Tom", PersonRole.PUPIL, [room.space])
        for one, name in ((lea, "Tom"), (tom, "Léa")):
            await rename_person(office, one, name)
        async with portal(head.agent) as surfer, visitor(browser, width=width) as somebody:
            page = await somebody.page()
            await page.goto(f"{surfer.origin}/school/{room.space.hex()}")
            await begins_to_forget(page)
            await expect(page.get_by_role("heading", name="Est-ce bien cette personne ?")).to_be_visible()
            await expect(page.get_by_role("main").get_by_role("listitem")).to_have_text(
                [re.compile("^Tom, depuis"), re.compile("^Léa, depuis"), "CM1 · 0 travail rendu"]
            )
            await is_for_everybody(page)
            await page.get_by_label("Oui, je parle bien de la personne appelée d'abord Tom").check()
            await ends_it(page)
            assert somebody.complaints == []
        assert {covers for _, covers in await in_force(head.agent.replica)} == {tom}


@pytest.mark.parametrize("width", [1360, 360])
async def test_she_says_that_she_means_the_one_whose_number_was_anothers(
    tmp_path: Path, browser: Browser, width: int
) -> None:
    async with classroom(tmp_path) as room:
        head, lea, territory = await room.head(), room.pupil_person, room.territory
        await head.session.sync()
        territory.clock.advance(DAY_MS)
        second = await add_person(await SchoolOffice.of(head.agent), "Léa", PersonRole.PUPIL, [room.space])
        await head.session.sync()
        said = compose(
            author=territory.keys.signing, space=room.space, kind=Kind.PERSON, grant=territory.certificate.id,
            at=(territory.clock() - 30 * DAY_MS) << 16, payload=PersonRecord("Léa", PersonRole.PUPIL).encode(),
            salt=bytes(16), subject=second,
        )  # fmt: skip
        await territory.replica.admit([said], source=b"a PC", now_ms=territory.clock())
        await head.session.sync()
        async with portal(head.agent) as surfer, visitor(browser, width=width) as somebody:
            page = await somebody.page()
            await page.goto(f"{surfer.origin}/school/{room.space.hex()}")
            row = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name="Léa (2)", exact=True))
            await row.get_by_text("Effacer…").click()
            await row.get_by_label("Oui, c'est bien ce que je veux").check()
            await row.get_by_role("button", name="Effacer Léa (2)").click()
            await expect(page.get_by_role("main")).to_contain_text("est maintenant Léa (2). Ici, elle était d'abord")
            await is_for_everybody(page)
            await page.get_by_label("Oui, je parle bien de la personne appelée d'abord Léa (1)").check()
            await ends_it(page)
            assert somebody.complaints == []
        assert {covers for _, covers in await in_force(head.agent.replica)} == {lea}
