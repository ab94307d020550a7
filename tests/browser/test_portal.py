"""The portal in a real browser, over real processes: a pupil's and a teacher's day, with and without a server."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from tests.harness.browser import Visitor, accessibility_faults, visitor
from tests.harness.machines import Machine, School, school

pytestmark = pytest.mark.asyncio(loop_scope="module")

COURSE = Path(__file__).parents[2] / "deploy" / "demo" / "course"
TASK = Path(__file__).parents[2] / "deploy" / "demo" / "devoir"
HAND_IN = Path(__file__).parents[2] / "deploy" / "demo" / "copie-eleve"


@pytest.fixture
def town(tmp_path: Path) -> Iterator[School]:
    """A school with a class, a teacher and two pupils."""
    with school(tmp_path) as made:
        made.server.ok("person", "add", "Tom", "--role", "pupil", "--space", made.space)
        yield made


def open_portal(machine: Machine) -> str:
    """Start the agent of a machine with its portal; where that is, without the last slash."""
    machine.start("--portal", "127.0.0.1:0")
    (line,) = [line for line in machine.log.read_text(encoding="utf-8").splitlines() if "portal is open" in line]
    return line.rpartition(" ")[2].rstrip("/")


def published(machine: Machine, school: School, *paths: Path, title: str, **options: str) -> str:
    """Publish from a machine; the item."""
    more = [word for name, value in options.items() for word in (f"--{name}", value)]
    named = [str(path) for path in paths]
    item: str = machine.ok("publish", *named, "--space", school.space, "--title", title, *more)["item"]
    return item


@asynccontextmanager
async def at(browser: Browser, **options: object) -> AsyncIterator[tuple[Visitor, Page]]:
    """Somebody at a page; in the end nothing may have gone wrong, and nobody else may have been asked."""
    async with visitor(browser, **options) as somebody:  # type: ignore[arg-type]
        yield somebody, await somebody.page()
        assert somebody.complaints == []
        assert {host for host in somebody.hosts if not host.startswith("127.0.0.1:")} <= {
            host for host in somebody.hosts if ".localhost:" in host
        }


async def faultless(page: Page) -> None:
    """Nothing for axe-core to find."""
    assert await accessibility_faults(page) == [], page.url


async def test_a_class_works_through_an_outage_and_everything_arrives(
    town: School, browser: Browser, tmp_path: Path
) -> None:
    teacher, pc = town.enrol("Portable", "teacher"), town.enrol("Renard")
    published(teacher, town, COURSE, title="Le cycle de l'eau", subject="Sciences")
    adult_url, pupil_url = open_portal(teacher), open_portal(pc)
    async with at(browser) as (_, pupil), at(browser) as (_, adult):
        await pupil.goto(pupil_url)
        await expect(pupil.get_by_text("Tout est à jour")).to_be_visible()
        await expect(pupil.get_by_role("link", name="Le cycle de l'eau")).to_be_visible()

        town.server.kill()
        await expect(pupil.get_by_text("Le serveur ne répond pas. Tu peux travailler.")).to_be_visible()
        await faultless(pupil)

        # the teacher publishes from the form, and the paper reaches the PC by hand of the server later
        await adult.goto(f"{adult_url}/publish")
        await faultless(adult)
        await adult.get_by_label("Travail à rendre").check()
        await adult.get_by_label("Titre").fill("Raconte le voyage d'une goutte")
        await adult.get_by_label("Matière").fill("Français")
        await adult.get_by_label("À rendre le").fill("2030-12-11")
        await adult.get_by_label("Fichiers", exact=True).set_input_files(sorted(TASK.iterdir()))
        await adult.get_by_role("button", name="Publier").click()
        await expect(adult.get_by_text("Publié. Les postes")).to_be_visible()
        await faultless(adult)

        # a word needs no file
        await adult.goto(f"{adult_url}/publish")
        await adult.get_by_label("Mot", exact=True).check()
        await adult.get_by_label("Titre").fill("Piscine")
        await adult.get_by_label("Texte").fill("Jeudi, piscine.\nApportez <un bonnet>.")
        await adult.get_by_role("button", name="Publier").click()
        await expect(adult.get_by_text("Apportez <un bonnet>.")).to_be_visible()
        await faultless(adult)

        # what is here already opens without any server
        await pupil.get_by_role("link", name="Le cycle de l'eau").click()
        lesson = pupil.frame_locator("iframe")
        await expect(lesson.get_by_role("heading", name="Le cycle de l'eau")).to_be_visible()
        await lesson.get_by_role("link", name="Le voyage d'une goutte").click()
        await expect(lesson.get_by_role("heading", level=1)).to_contain_text("goutte")
        await faultless(pupil)

        town.restart_server()
        await pupil.get_by_role("link", name="Accueil").first.click()
        await expect(pupil.get_by_role("link", name="Raconte le voyage")).to_be_visible()
        await expect(pupil.get_by_text("Apportez <un bonnet>.")).to_be_visible()
        town.server.kill()
        await expect(pupil.get_by_text("Le serveur ne répond pas. Tu peux travailler.")).to_be_visible()
        await pupil.get_by_role("link", name="Piscine").click()
        await expect(pupil.get_by_text("Apportez <un bonnet>.")).to_be_visible()
        await pupil.get_by_role("link", name="Accueil").first.click()

        await pupil.get_by_role("link", name="Choisir mon prénom").click()
        await expect(pupil.get_by_role("button", name="Léa")).to_be_visible()
        await faultless(pupil)
        await pupil.get_by_role("button", name="Léa").click()
        await expect(pupil.get_by_role("heading", name="Bonjour Léa")).to_be_visible()
        await pupil.get_by_role("link", name="Raconte le voyage").click()
        await expect(pupil.get_by_label("Ton prénom")).to_have_value(town.pupil)
        await faultless(pupil)
        await pupil.get_by_label("Tes fichiers").set_input_files(
            [HAND_IN / "dessin.png", HAND_IN / "voyage-de-lea.odt"]
        )
        await pupil.get_by_role("button", name="Rendre", exact=True).click()
        await expect(pupil.get_by_text("Ton travail est gardé")).to_be_visible()
        await expect(pupil.get_by_text("Gardé sur l'ordinateur Renard")).to_be_visible()
        await faultless(pupil)

        # the pages keep themselves current
        town.restart_server()
        await expect(pupil.get_by_text("À l'abri")).to_be_visible()
        await adult.goto(f"{adult_url}/work")
        await expect(adult.get_by_text("Rendu, à ouvrir")).to_be_visible()
        await faultless(adult)
        await adult.get_by_role("link", name="Voir le travail de Léa").click()
        await expect(adult.get_by_role("button", name="Tout enregistrer")).to_be_visible()
        await faultless(adult)
        async with adult.expect_download() as saving:
            await adult.get_by_role("button", name="Tout enregistrer").click()
        await (await saving.value).save_as(tmp_path / "copie.zip")
        with zipfile.ZipFile(tmp_path / "copie.zip") as archive:
            assert archive.read("dessin.png") == (HAND_IN / "dessin.png").read_bytes()
        await expect(pupil.get_by_text("Mme Petit l'a vu")).to_be_visible()

        await adult.get_by_label("Ce que lira l'élève").fill("Très bien raconté !")
        await adult.get_by_label("Objectifs atteints").check()
        await adult.get_by_role("button", name="Envoyer la correction").click()
        await expect(adult.get_by_text("Correction enregistrée")).to_be_visible()
        await faultless(adult)
        await expect(pupil.get_by_text("Regarde ta correction")).to_be_visible()
        await pupil.reload()
        await expect(pupil.get_by_text("Très bien raconté !")).to_be_visible()
        await faultless(pupil)
        for path in ("/", "/work", "/state"):
            await pupil.goto(pupil_url + path)
            await faultless(pupil)
    for row in teacher.ok("hand-ins"):
        assert row["state"] == "marked"


async def test_the_pages_work_without_script_and_by_keyboard_alone(town: School, browser: Browser) -> None:
    teacher, pc = town.enrol("Portable", "teacher"), town.enrol("Hibou")
    item = published(teacher, town, HAND_IN / "dessin.png", title="Dessine", kind="assignment")
    pc.ok("sync")
    teacher.ok("sync")
    pc.ok("sync")
    url = open_portal(pc)
    async with at(browser, scripts=False) as (_, page):
        await page.goto(url)
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await expect(page).to_have_url(f"{url}/#content")
        for _ in range(30):
            await page.keyboard.press("Tab")
            if await page.locator(":focus").inner_text() == "Dessine":
                break
        await page.keyboard.press("Enter")
        await expect(page).to_have_url(f"{url}/item/{item}")
        await page.get_by_label("Ton prénom").focus()
        await page.keyboard.press("ArrowDown")
        await expect(page.get_by_label("Ton prénom")).to_have_value(town.pupil)
        await page.keyboard.press("Tab")
        await expect(page.get_by_label("Tes fichiers")).to_be_focused()
        # the browser's own window for choosing files is not ours to try
        await page.get_by_label("Tes fichiers").set_input_files(HAND_IN / "dessin.png")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("Ton travail est gardé")).to_be_visible()
    assert [row["person"] for row in pc.ok("hand-ins")] == [town.pupil]


async def test_a_teacher_settles_two_versions_withdraws_and_brings_back(
    town: School, browser: Browser, tmp_path: Path
) -> None:
    one, two = town.enrol("Portable", "teacher"), town.enrol("Bureau", "teacher")
    item = published(one, town, COURSE, title="Le cycle de l'eau")
    one.ok("sync")
    two.ok("sync")
    for machine in (one, two):
        changed = shutil.copytree(COURSE, tmp_path / f"by {machine.name}")
        (changed / "index.html").write_text(f"<h1>{machine.name}</h1>", encoding="utf-8")
        machine.ok("publish", str(changed), "--item", item)
    one.ok("sync")
    two.ok("sync")
    one.ok("sync")
    url = open_portal(one)
    async with at(browser) as (_, page):
        await page.goto(url)
        await expect(page.get_by_text("Deux versions")).to_be_visible()
        await faultless(page)
        await page.get_by_role("link", name="Le cycle de l'eau").click()
        await expect(page.get_by_role("heading", name="Deux versions à départager")).to_be_visible()
        await faultless(page)
        other = page.locator("li", has_text="Autre version")
        async with page.context.expect_page() as opening:
            await other.get_by_role("link", name="Regarder cette version").click()
        seen = await opening.value
        await expect(seen.locator("h1")).to_be_visible()
        await seen.close()
        await other.get_by_role("button", name="Garder cette version").click()
        await expect(page.get_by_text("C'est réglé")).to_be_visible()
        await faultless(page)
        await page.get_by_text("3 versions précédentes").click()
        await faultless(page)
        await page.get_by_role("button", name="Revenir à cette version").last.click()
        await expect(page.get_by_text("de nouveau celle que tous voient")).to_be_visible()
        await page.get_by_role("button", name="Retirer").click()
        await expect(page.get_by_text("Les élèves ne le voient plus")).to_be_visible()
        await faultless(page)
        await page.goto(url)
        await page.get_by_text("1 élément retiré").click()
        await page.get_by_role("link", name="Le cycle de l'eau").click()
        await page.get_by_role("button", name="Remettre").click()
        await expect(page.get_by_text("Les élèves le voient de nouveau")).to_be_visible()
    (row,) = one.ok("items")
    assert (row["conflict"], row["withdrawn"]) == (False, False)


async def test_a_folder_becomes_a_lesson_and_every_register_and_language_is_faultless(
    town: School, browser: Browser
) -> None:
    teacher = town.enrol("Portable", "teacher")
    url = open_portal(teacher)
    async with at(browser) as (_, page):
        await page.goto(f"{url}/publish")
        await page.get_by_label("Titre").fill("Le cycle de l'eau")
        await page.get_by_label("ou un dossier entier").set_input_files(COURSE)
        await page.get_by_role("button", name="Publier").click()
        await expect(page.frame_locator("iframe").get_by_role("heading", name="Le cycle de l'eau")).to_be_visible()
        for language in ("fr", "en"):
            for register in ("6-11", "11-18", "adult"):
                for path in ("/", "/work", "/publish", "/state"):
                    await page.goto(f"{url}{path}?lang={language}&register={register}")
                    await faultless(page)
    (row,) = teacher.ok("items")
    expected = sorted(path.relative_to(COURSE).as_posix() for path in COURSE.rglob("*") if path.is_file())
    assert sorted(file["path"] for file in row["files"]) == expected


# --- a lesson that means harm -----------------------------------------------------------------------------------------

HOSTILE = """<!doctype html><meta charset="utf-8"><h1>Leçon</h1><pre id="log"></pre><script>
const portal = "PORTAL", other = "OTHER";
const seen = {};
const attempt = async (name, act) => {
  try { seen[name] = String(await act()); } catch (error) { seen[name] = "refused"; }
};
const frame = (address) => new Promise((resolve) => {
  const made = document.createElement("iframe");
  made.onload = () => {
    try { resolve(made.contentDocument.body.innerText || "empty"); } catch { resolve("refused"); }
  };
  setTimeout(() => resolve("refused"), 1500);
  made.src = address;
  document.body.append(made);
});
const picture = (address) => new Promise((resolve, reject) => {
  const made = new Image();
  made.onload = () => resolve("loaded");
  made.onerror = reject;
  made.src = address;
});
(async () => {
  await attempt("fetch the portal", async () => (await fetch(portal + "/")).text());
  await attempt("fetch it blindly", async () => (await fetch(portal + "/live", { mode: "no-cors" })).type);
  await attempt("post to it", async () => (await fetch(portal + "/who", {
    method: "POST", mode: "no-cors", credentials: "include", body: new URLSearchParams({ person: "PERSON" }),
  })).type);
  await attempt("beacon to it", async () => {
    const sent = navigator.sendBeacon(portal + "/item/ITEM/withdraw", new URLSearchParams({ token: "x" }));
    return sent ? "queued" : "refused";
  });
  await attempt("fetch another lesson", async () => (await fetch(other)).text());
  await attempt("frame another lesson", () => frame(other));
  await attempt("frame the portal", () => frame(portal + "/"));
  await attempt("show a picture of another lesson", () => picture(other + "a.svg"));
  await attempt("reach the Internet", async () => (await fetch("http://relais.example/")).text());
  await attempt("register a service worker", async () => navigator.serviceWorker.register("sw.js"));
  await attempt("read the page around", async () => (parent === window ? "refused" : parent.document.title));
  await attempt("read the portal's cookies", async () => (document.cookie.includes("relais") ? "read" : "refused"));
  await attempt("send a form to the portal", () => new Promise((resolve) => {
    document.addEventListener("securitypolicyviolation", () => resolve("refused"), { once: true });
    const form = document.createElement("form");
    const inner = document.createElement("iframe");
    inner.name = form.target = "inner";
    form.method = "post"; form.action = portal + "/item/ITEM/withdraw";
    document.body.append(inner, form); form.submit();
    setTimeout(() => resolve("sent"), 60000);
  }));
  if (parent !== window) {
    await attempt("lead the browser away", async () => {
      window.top.location = "http://127.0.0.1:1/";
      await new Promise((resolve) => setTimeout(resolve, 500));
      return "led";
    });
  }
  document.getElementById("log").textContent = JSON.stringify(seen);
})();
</script>"""


async def test_a_hostile_lesson_reaches_neither_the_portal_nor_another_lesson(
    town: School, browser: Browser, tmp_path: Path
) -> None:
    teacher = town.enrol("Portable", "teacher")
    other = tmp_path / "autre"
    other.mkdir()
    (other / "index.html").write_text("<h1>secret</h1>", encoding="utf-8")
    (other / "a.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>', encoding="utf-8")
    victim = published(teacher, town, other, title="Autre")
    hostile = published(teacher, town, other, title="Méchante")
    url = open_portal(teacher)
    async with visitor(browser) as somebody:
        page = await somebody.page()
        await page.goto(f"{url}/item/{victim}")
        address = await page.locator("iframe").get_attribute("src")
        assert address is not None
        bad = HOSTILE.replace("PORTAL", url).replace("OTHER", address.removesuffix("index.html"))
        bad = bad.replace("ITEM", victim).replace("PERSON", town.pupil)
        folder = tmp_path / "leçon"
        folder.mkdir()
        (folder / "index.html").write_text(bad, encoding="utf-8")
        (folder / "sw.js").write_text("addEventListener('fetch', () => {})", encoding="utf-8")
        teacher.ok("publish", str(folder), "--item", hostile)

        await page.goto(f"{url}/item/{hostile}")
        framed = await _log(page.frame_locator("iframe").locator("#log"))
        assert page.url == f"{url}/item/{hostile}"
        source = await page.locator("iframe").get_attribute("src")
        assert source is not None
        await page.goto(source)
        assert page.url.startswith(f"{url}/large/"), "what runs stays in a frame of ours"
        direct = await _log(page.frame_locator("iframe").locator("#log"))
        for seen in (framed, direct):
            assert {name: what for name, what in seen.items() if what not in {"refused", "queued"}} == {}
            assert len(seen) >= 13
        assert await page.evaluate("navigator.serviceWorker?.controller ?? null") is None
        await page.goto(url)
        await expect(page.get_by_role("link", name="Autre")).to_be_visible()
    assert [row["withdrawn"] for row in teacher.ok("items")] == [False, False]


async def _log(place: object) -> dict[str, str]:
    await expect(place).not_to_be_empty()  # type: ignore[call-overload]
    return dict(json.loads(await place.inner_text()))  # type: ignore[attr-defined]
