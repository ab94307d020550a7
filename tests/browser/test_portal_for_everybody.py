"""The portal for who uses a small screen, large letters, the keyboard alone, no motion, or paper: in a real browser."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from protocol.errors import Code
from sync_agent.scheduler import Outcome
from sync_agent.watching.files import Obstacle
from sync_agent.watching.titles import Brake, Title
from tests.harness.browser import accessibility_faults, visitor
from tests.harness.classroom import SMALL, WORK, Files, assignment, classroom
from tests.harness.portal import portal

pytestmark = pytest.mark.asyncio(loop_scope="module")

# longer than any line: what a family, a teacher or a program may really name things
LONG: Files = {
    "compte-rendu_de_la_sortie_au_barrage_hydroelectrique_du_mardi_12_octobre_version_definitive.html": b"<h1>Eau</h1>"
}
NARROW_PX = 320
PHONE_PX = 360
ZOOMED_PX = 640
"""A screen of 1,280 dots at 200 %."""
DATE_PARTS = 4
"""A date takes the focus part by part."""


@dataclass
class Pages:
    """A pupil's PC and a teacher's laptop, and what is on their portals."""

    pupil: str
    teacher: str
    item: str
    task: str
    work: str

    @property
    def all(self) -> list[str]:
        """Every page that people see in a week."""
        seen = [
            "/",
            f"/item/{self.item}",
            f"/item/{self.task}",
            "/work",
            f"/work/{self.work}",
            "/state",
            "/nearby",
            "/notice",
        ]
        pupils = [*seen, f"/work/{self.work}/receipt", "/who"]
        teachers = [*seen, "/publish", "/folders", f"/item/{self.item}/publish"]
        return [*(self.pupil + path for path in pupils), *(self.teacher + path for path in teachers)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pages(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pages]:
    async with classroom(tmp_path_factory.mktemp("class")) as room:
        teacher, pc = await room.teacher(), await room.machine()
        pc.agent.listens_at = "127.0.0.1:8443"
        task = await assignment(room, teacher, pc)
        item = (await room.publish(teacher, {**LONG, **SMALL})).item
        await teacher.session.sync()
        await pc.session.sync()
        work = await room.hand_in(pc, task, WORK)
        await pc.session.sync()
        await teacher.session.sync()
        store = teacher.agent.replica.store
        await store.set_marks(Title("f", "Le " * 20, obstacle=Obstacle(Code.BAD_NAME, "x" * 120, "too long")).mark())
        await store.set_marks(Brake(teacher.agent.now_ms(), 12, ("Volcans", "Anticonstitutionnellement" * 3)).mark())
        async with portal(pc.agent) as at_pc, portal(teacher.agent, Outcome.NO_ANSWER) as at_teacher:
            yield Pages(at_pc.origin, at_teacher.origin, item.hex(), task.hex(), work.hex())


async def show(page: Page, address: str) -> None:
    answer = await page.goto(address)
    assert answer is not None
    assert answer.status == 200, address


@pytest.mark.parametrize(("width", "register"), [(NARROW_PX, "6-11"), (ZOOMED_PX, "adult")])
async def test_no_page_scrolls_sideways_on_a_small_screen_or_with_large_letters(
    browser: Browser, pages: Pages, width: int, register: str
) -> None:
    async with visitor(browser, width=width) as somebody:
        page = await somebody.page()
        for address in pages.all:
            await show(page, f"{address}?register={register}")
            wider = await page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert wider <= 0, f"{address} at {width} px is {wider} px too wide"
            if width == NARROW_PX:
                assert await accessibility_faults(page) == [], address


async def test_on_a_phone_what_a_table_holds_says_what_it_is_and_the_head_is_two_rows(
    browser: Browser, pages: Pages
) -> None:
    async with visitor(browser, width=PHONE_PX) as somebody:
        page = await somebody.page()
        for path in (f"/item/{pages.task}", "/state"):
            await show(page, f"{pages.teacher}{path}")
            assert await page.evaluate(_CELLS) > 0, path
            assert await page.evaluate(_BARE_CELLS) == [], path
            assert await page.evaluate(_ROWS_OF_HEAD) <= 2, path


async def test_the_keyboard_reaches_everything_in_the_order_of_the_page_and_shows_where_it_is(
    browser: Browser, pages: Pages
) -> None:
    async with visitor(browser) as somebody:
        page = await somebody.page()
        for address in pages.all:
            await show(page, address)
            wanted = await page.evaluate(_REACHABLE)
            reached: list[int] = []
            for _ in range(len(wanted) + DATE_PARTS):
                await page.keyboard.press("Tab")
                found = await page.evaluate(_FOCUSED)
                if found is None or found["place"] in reached[:1]:
                    break
                assert found["seen"], f"{address}: nobody sees that {found['what']} has the focus"
                if found["place"] not in reached[-1:]:
                    reached.append(found["place"])
            assert reached == sorted(set(reached)), f"{address}: the focus jumps"
            assert [what for place, what in wanted if place not in reached] == [], address


async def test_nothing_moves_for_who_asked_for_no_motion(browser: Browser, pages: Pages) -> None:
    async with visitor(browser) as somebody:
        page = await somebody.page()
        for address in pages.all:
            await show(page, address)
            await page.evaluate("document.body.classList.add('strip-exchanging')")
            assert await page.evaluate(_MOVES) == [], address


@pytest.mark.parametrize("path", ["item", "receipt"])
async def test_on_paper_there_is_what_was_said_and_nothing_to_press(browser: Browser, pages: Pages, path: str) -> None:
    address = f"{pages.pupil}/item/{pages.task}" if path == "item" else f"{pages.pupil}/work/{pages.work}/receipt"
    async with visitor(browser) as somebody:
        page = await somebody.page()
        await show(page, address)
        await page.emulate_media(media="print")
        await expect(page.get_by_role("heading", level=1)).to_be_visible()
        for pressed in await page.locator("button, .button, input:not([type=hidden]), nav, .skip").all():
            assert not await pressed.is_visible(), await pressed.evaluate("part => part.outerHTML")
        if path == "receipt":
            await expect(page.locator(".proof-code")).to_be_visible()
            await expect(page.locator(".proof-picture svg")).to_be_visible()
        assert len(await page.pdf()) > 1_000


_CELLS = "() => document.querySelectorAll('.rows td[data-label]').length"
_BARE_CELLS = """() => [...document.querySelectorAll('.rows td')].filter((cell) =>
  cell.innerText.trim() && !cell.querySelector('.state, a') && getComputedStyle(cell, '::before').content === 'none')
  .map((cell) => cell.innerText)"""
_ROWS_OF_HEAD = "() => new Set([...document.querySelectorAll('.pages li')].map((item) => item.offsetTop)).size"
_REACHABLE = """() => [...document.querySelectorAll(
  'a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex="0"]')].filter((part) =>
  !part.disabled && part.checkVisibility({ visibilityProperty: true }) &&
  !(part.type === 'radio' && !first(part))).map((part) =>
  [[...document.querySelectorAll('*')].indexOf(part), part.outerHTML.slice(0, 120)]);
function first(radio) { return document.querySelector(`input[type=radio][name="${radio.name}"]`) === radio; }"""
_FOCUSED = """() => { const part = document.activeElement; if (!part || part === document.body) return null;
  const outlined = (style) => style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
  const seen = outlined(getComputedStyle(part)) || outlined(getComputedStyle(part, '::after')) ||
    outlined(getComputedStyle(part.closest('.card') || part));
  return { seen: seen || part.tagName === 'IFRAME', what: part.outerHTML.slice(0, 120),
    place: [...document.querySelectorAll('*')].indexOf(part) }; }"""
_MOVES = "() => document.getAnimations().filter((one) => one.playState === 'running').map((one) => one.animationName)"
