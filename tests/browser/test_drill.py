"""A head teacher leads a drill alone, with a browser and real programs: from “Mon école” to a report that she signs."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

from tests.harness.browser import accessibility_faults, visitor
from tests.harness.machines import Machine, School, school
from tests.harness.patience import until
from tests.harness.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEMO = Path(__file__).parents[2] / "deploy" / "demo"
COURSE, TASK, HAND_IN = DEMO / "course", DEMO / "devoir", DEMO / "copie-eleve"
UAI = "0180001X"
PICTURES = os.environ.get("RELAIS_PICTURES")
"""A folder, for whoever wants to look at the pages."""


@pytest.fixture
def town(tmp_path: Path) -> Iterator[School]:
    with school(tmp_path) as made:
        yield made


def head_of(town: School) -> Machine:
    """The head teacher's computer, enrolled."""
    person = town.server.ok("person", "add", "Mme Roux", "--role", "teacher", "--space", UAI)["person"]
    code = town.server.ok("invite", "--role", "head", "--space", UAI, "--person", person)["code"]
    head = Machine("Direction", town.folder / "Direction", "sync-agent")
    head.ok("enroll", "--server", town.url, "--code", code, "--name", "Direction")
    town.agents["Direction"] = head
    return head


def opened(machine: Machine, *options: str) -> tuple[str, str]:
    """Start an agent with its portal, listening to others; where its pages are, and where others reach it."""
    # an agent that opens everything anew comes back at the same address
    authority = f"127.0.0.1:{free_port()}"
    machine.start("--portal", authority, "--lan", "127.0.0.1:0", *options)
    lines = machine.log.read_text(encoding="utf-8").splitlines()
    (reached,) = [line.rpartition(" ")[2] for line in lines if "reach this one at" in line]
    return f"http://{authority}", reached


@asynccontextmanager
async def opening_anew(machine: Machine) -> AsyncIterator[None]:
    """In the end the agent has opened everything anew, as it does when a quarantine begins or ends."""
    before = machine.log.read_text(encoding="utf-8").count("ready: ")
    yield
    await until(lambda: machine.log.read_text(encoding="utf-8").count("ready: ") > before)


def published(machine: Machine, town: School, *paths: Path, title: str, kind: str = "lesson") -> None:
    machine.ok("publish", *map(str, paths), "--space", town.space, "--title", title, "--kind", kind)


@asynccontextmanager
async def at(browser: Browser, *, calm: bool = True) -> AsyncIterator[tuple[BrowserContext, Page]]:
    """Somebody at a page; in the end nothing may have gone wrong, unless an agent was away for a moment."""
    async with visitor(browser) as somebody:
        yield somebody.context, await somebody.page()
        assert somebody.complaints == [] or not calm


async def faultless(page: Page) -> None:
    """Nothing for axe-core to find."""
    assert await accessibility_faults(page) == [], page.url


async def picture(page: Page, name: str) -> None:
    if PICTURES:
        await page.screenshot(path=Path(PICTURES) / f"{name}.png", full_page=True)


async def test_from_her_school_to_a_report_to_sign_without_a_manual(
    town: School, browser: Browser, tmp_path: Path
) -> None:
    head, teacher, pc = head_of(town), town.enrol("Portable", "teacher"), town.enrol("Renard")
    sticks = tmp_path / "sticks"
    (sticks / "cle" / "Relais").mkdir(parents=True)
    elsewhere = tmp_path / "nowhere"
    elsewhere.mkdir()
    head_url, address = opened(head, "--courier", str(elsewhere))
    pc_url, pc_address = opened(pc, "--peer", address)
    teacher_url, _ = opened(teacher, "--peer", address, "--peer", pc_address)
    async with at(browser) as (_, page), at(browser) as (_, adult), at(browser) as (_, pupil):
        await page.goto(head_url)
        await page.get_by_role("link", name="Mon école").click()
        await page.get_by_role("link", name="Ouvrir l'exercice").click()
        await expect(page.get_by_text("autres postes de l'école sont allumés")).to_be_visible()
        await faultless(page)
        await picture(page, "1-before")
        await page.get_by_role("button", name="Commencer l'exercice").click()
        await expect(page.get_by_role("heading", name="L'exercice est en cours")).to_be_visible()
        await expect(page.get_by_text(re.compile(r"Encore (30|29) minutes"))).to_be_visible()
        await expect(page.get_by_text("ne joignent plus le serveur")).to_be_visible()
        await faultless(page)
        await picture(page, "2-cut")

        # what she is told, a teacher and a pupil do
        await adult.goto(f"{teacher_url}/publish")
        await expect(adult.get_by_text("Exercice de coupure jusqu'à")).to_be_visible()
        await adult.get_by_label("Travail à rendre").check()
        await adult.get_by_label("Titre").fill("Raconte")
        await adult.get_by_label("Fichiers", exact=True).set_input_files(sorted(TASK.iterdir()))
        await adult.get_by_role("button", name="Publier").click()
        await expect(page.get_by_text("« Raconte » est publié.")).to_be_visible()
        await expect(page.get_by_text("sur 2 postes en lien")).to_be_visible()
        await expect(page.locator("[aria-current=step]")).to_contain_text("Rendre ce travail")
        await picture(page, "3-published")
        await pupil.goto(pc_url)
        await expect(pupil.get_by_text("Exercice : on fait comme")).to_be_visible()
        await picture(pupil, "4-pupil")
        await pupil.get_by_role("link", name="Raconte").click()
        await pupil.get_by_label("Ton prénom").select_option(label="Léa")
        await pupil.get_by_label("Tes fichiers").set_input_files(HAND_IN / "dessin.png")
        await pupil.get_by_role("button", name="Rendre", exact=True).click()
        await expect(pupil.get_by_text("Ton travail est gardé")).to_be_visible()
        await expect(page.get_by_text("1 travail rendu est connu ici.")).to_be_visible()
        await expect(page.get_by_text("1 sur 1 à l'abri.")).to_be_visible()
        await expect(page.locator("[aria-current=step]")).to_contain_text("clé USB")
        await faultless(page)
        await picture(page, "5-safe")

        await page.get_by_role("button", name="Arrêter maintenant").click()
        await expect(page.get_by_role("heading", name="L'exercice s'est terminé")).to_be_visible()
        await expect(page.get_by_text("finissent tout seuls")).to_be_visible()
        await expect(page.get_by_text("1 sur 1 au serveur.")).to_be_visible()
        await faultless(page)
        await picture(page, "6-after")
        await page.get_by_role("link", name="Le compte rendu, à imprimer").click()
        await expect(page.get_by_role("button", name="Imprimer")).to_be_visible()
        await expect(page.get_by_text("Nom et signature")).to_be_visible()
        await faultless(page)
        await picture(page, "7-report")
        await page.emulate_media(media="print")
        await expect(page.get_by_role("button", name="Imprimer")).to_be_hidden()
        await expect(page.get_by_text("Nom et signature")).to_be_visible()
        await picture(page, "8-printed")
        await page.emulate_media(media="screen")
        for path in ("/drill", "/drill/report", "/school"):
            await page.goto(f"{head_url}{path}?lang=en")
            await faultless(page)
            await picture(page, f"9-en{path.replace('/', '-')}")


@pytest.mark.parametrize("width", [1360, 360])
async def test_a_drill_that_she_begins_with_nobody_on_her_network_is_heard_of_by_those_who_reach_the_server(
    town: School, browser: Browser, width: int
) -> None:
    head, pc = head_of(town), town.enrol("Renard")
    pc.start()
    head_url, _ = opened(head)

    async def is_heard() -> bool:
        return bool(pc.ok("status")["school"]["drill_until"])

    async with visitor(browser, width=width) as somebody:
        page = await somebody.page()
        await page.goto(f"{head_url}/drill")
        await expect(page.get_by_text("Le serveur répond : l'ordre y part d'abord")).to_be_visible()
        await faultless(page)
        await picture(page, f"alone-before-{width}")
        await page.get_by_role("button", name="Commencer l'exercice").click()
        await expect(page.get_by_text("Le serveur a l'ordre.")).to_be_visible()
        await until(is_heard)
        await faultless(page)
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        await picture(page, f"alone-during-{width}")
        assert somebody.complaints == []
    assert head.ok("status")["school"]["drill_until"]


async def test_under_quarantine_a_pupil_reads_prints_and_hands_in_and_the_head_teacher_sees_whose_it_is_to_lift(
    town: School, browser: Browser
) -> None:
    head, teacher, pc = head_of(town), town.enrol("Portable", "teacher"), town.enrol("Renard")
    published(teacher, town, COURSE, title="Le cycle de l'eau")
    published(teacher, town, TASK, title="Raconte", kind="assignment")
    teacher.ok("sync")
    head_url, _ = opened(head)
    pc_url, _ = opened(pc)
    async with at(browser, calm=False) as (context, pupil), at(browser, calm=False) as (_, page):
        await context.add_init_script("window.print = () => { document.documentElement.dataset.printed = 1; }")
        await pupil.goto(pc_url)
        await expect(pupil.get_by_role("link", name="Le cycle de l'eau")).to_be_visible()
        async with opening_anew(head), opening_anew(pc):
            town.server.ok("quarantine", "start", "--school", UAI)
        await pupil.goto(pc_url)
        await expect(pupil.get_by_text("École en quarantaine")).to_be_visible()
        await expect(pupil.get_by_text("N'utilise pas de clé USB")).to_be_visible()
        await faultless(pupil)
        await picture(pupil, "q1-pupil")
        town.server.kill()
        await expect(pupil.get_by_text("reste bien gardé")).to_be_visible()
        await pupil.get_by_role("link", name="Le cycle de l'eau").click()
        await expect(pupil.frame_locator("iframe").get_by_role("heading", name="Le cycle de l'eau")).to_be_visible()
        async with context.expect_page() as opening:
            await pupil.get_by_role("link", name="Imprimer").click()
        printing = await opening.value
        inner = printing.frame_locator("iframe").frame_locator("iframe")
        await expect(inner.locator("html[data-printed]")).to_have_count(1)
        await expect(inner.get_by_role("heading", name="Le cycle de l'eau")).to_be_visible()
        await picture(printing, "q2-printing")
        await printing.close()
        await pupil.goto(pc_url)
        await pupil.get_by_role("link", name="Raconte").click()
        await pupil.get_by_label("Ton prénom").select_option(label="Léa")
        await pupil.get_by_label("Tes fichiers").set_input_files(HAND_IN / "dessin.png")
        await pupil.get_by_role("button", name="Rendre", exact=True).click()
        await expect(pupil.get_by_text("Ton travail est gardé")).to_be_visible()
        await page.goto(f"{head_url}/drill")
        await expect(page.get_by_text("elle seule peut la lever")).to_be_visible()
        await faultless(page)
        await picture(page, "q3-head")
        async with opening_anew(pc):
            town.restart_server()
            town.server.ok("quarantine", "stop", "--school", UAI)
        await pupil.goto(pc_url)
        await expect(pupil.get_by_text("École en quarantaine")).not_to_be_visible()
        await expect(pupil.get_by_role("link", name="Raconte")).to_be_visible()
    (work,) = pc.ok("hand-ins")
    assert work["person"] == town.pupil
