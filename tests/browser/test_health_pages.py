"""The administrators' pages in a real browser: what is seen, by keyboard, without scripts, live, in both languages."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from sync_server.handlers.accounts.administrators import add_administrator, verifier_of
from tests.harness.browser import accessibility_faults, visitor
from tests.harness.fleet import ADMINISTRATOR, FINE, MACHINES, PASSPHRASE, Fleet, fleet, pages_over
from tests.harness.machines import Machine as Program
from tests.harness.machines import school
from tests.harness.server_in_process import office

pytestmark = pytest.mark.asyncio(loop_scope="module")

WORDS = {
    "fr": {"name": "Nom", "passphrase": "Phrase secrète", "submit": "Se connecter", "locale": "fr-FR"},
    "en": {"name": "Name", "passphrase": "Passphrase", "submit": "Sign in", "locale": "en-GB"},
}
EXPECTED = {machine.name if machine.enrols else "sans nom": machine for machine in MACHINES}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def machines(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    async with fleet(tmp_path_factory.mktemp("fleet") / "server") as made:
        yield made


async def sign_in(page: Page, url: str, language: str = "fr", onward: str = "/admin/") -> None:
    words = WORDS[language]
    await page.goto(url + onward)
    await page.get_by_label(words["name"]).fill(ADMINISTRATOR)
    await page.get_by_label(words["passphrase"]).fill(PASSPHRASE)
    await page.get_by_role("button", name=words["submit"]).click()
    await expect(page).to_have_url(url + onward)
    await page.wait_for_load_state()


async def rows_of(page: Page) -> dict[str, list[str]]:
    """The table of devices as somebody reads it: name → the texts of the row's cells."""
    cells = await page.locator("tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.children].map(cell => cell.innerText))"
    )
    return {re.sub(r" [0-9a-f]{8}$", "", row[1].split("\n")[0]): row for row in cells if row[1:]}


async def test_an_administrator_spots_which_of_twenty_machines_is_in_which_trouble(
    browser: Browser, machines: Fleet
) -> None:
    async with visitor(browser) as somebody:
        page = await somebody.page()
        await sign_in(page, machines.url, onward="/admin/devices")
        seen = await rows_of(page)
        assert seen.keys() == EXPECTED.keys()
        for name, machine in EXPECTED.items():
            state, _, _, _, news, lag, _, _, problem = seen[name]
            assert machine.state in state, (name, state)
            assert machine.says in problem, (name, problem)
            if not machine.says:
                assert problem == "aucun", (name, problem)
            assert ("par Pivert" if machine.via else "directement" if machine.enrols else "jamais") in news
            assert (lag == "aucun") == (machine.state == "À jour"), (name, lag)
        assert "12 éléments" in seen["Lérot"][6]
        assert "2 jours" in seen["Lérot"][5]
        icons = await page.locator("tbody td:first-child .state").evaluate_all(
            "badges => badges.map(badge => [badge.innerText, badge.querySelector('use').getAttribute('href')])"
        )
        by_word: dict[str, set[str]] = {}
        for word, icon in icons:
            by_word.setdefault(word, set()).add(icon)
        assert all(len(found) == 1 for found in by_word.values())
        states = [found for word, found in by_word.items() if word in {machine.state for machine in MACHINES}]
        assert len(set.union(*states)) == len(states), "an icon and a word for each state"


async def test_the_overview_names_what_to_look_at_first_and_what_to_do(browser: Browser, machines: Fleet) -> None:
    async with visitor(browser) as somebody:
        page = await somebody.page()
        await sign_in(page, machines.url)
        needing = [machine for machine in MACHINES if machine.says and machine.state != "Jamais vu"]
        await expect(page.locator(".lead")).to_have_text(f"{len(needing)} postes ont besoin de vous.")
        cards = await page.locator(".card").all_inner_texts()
        assert "Hibou" in cards[0]
        assert "Libérez de la place" in cards[0]
        await page.get_by_role("link", name=f"Voir les {len(needing)} postes à regarder").click()
        await expect(page.locator("tbody tr")).to_have_count(len(needing))
        assert (await rows_of(page)).keys() == {machine.name for machine in needing}


async def test_the_tiles_add_up_and_each_leads_to_its_devices(browser: Browser, machines: Fleet) -> None:
    async with visitor(browser) as somebody:
        page = await somebody.page()
        await sign_in(page, machines.url)
        tiles = await page.locator(".tile").evaluate_all(
            "tiles => tiles.map(tile => [tile.querySelector('.number').innerText, tile.href])"
        )
        (total, _), *others = tiles
        assert int(total) == len(MACHINES) == sum(int(number) for number, _ in others)
        for number, address in others:
            await page.goto(address)
            assert len(await rows_of(page)) == int(number)
            await expect(page.locator(".found")).to_contain_text(number)


@pytest.mark.parametrize("language", ["fr", "en"])
async def test_every_page_is_accessible_and_asks_nobody_else(browser: Browser, machines: Fleet, language: str) -> None:
    device = machines.members["Blaireau"].id
    async with visitor(browser, locale=WORDS[language]["locale"]) as somebody:
        page = await somebody.page()
        await page.goto(f"{machines.url}/admin/")
        assert await accessibility_faults(page) == []
        await sign_in(page, machines.url, language)
        for path in (
            "/admin/",
            "/admin/devices",
            "/admin/devices?state=error&state=late&sort=seen&dir=desc&rows=25",
            "/admin/devices?q=nobody",
            f"/admin/devices/{device}",
            f"/admin/devices/{machines.members['Grive'].id}",
            "/admin/schools",
            "/admin/schools/0180002E",
            "/admin/audit",
        ):
            answer = await page.goto(machines.url + path)
            assert answer is not None
            assert answer.status == 200
            assert await page.get_attribute("html", "lang") == language
            assert await accessibility_faults(page) == [], path
        assert somebody.complaints == []
        assert len(somebody.hosts) == 1
        await page.goto(f"{machines.url}/admin/nothing-here")
        assert await accessibility_faults(page) == []


async def test_a_narrow_screen_shows_the_same(browser: Browser, machines: Fleet) -> None:
    async with visitor(browser, width=320) as somebody:
        page = await somebody.page()
        await sign_in(page, machines.url)
        for path in ("/admin/", "/admin/devices", "/admin/schools", "/admin/waiting", "/admin/audit"):
            await page.goto(machines.url + path)
            assert await accessibility_faults(page) == []
            wider = await page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
            assert not wider, f"{path} scrolls sideways"
            cut = "[...document.querySelectorAll('.scroll')].some((each) => each.scrollWidth > each.clientWidth)"
            assert not await page.evaluate(cut), f"{path} cuts a table"


async def test_the_language_is_a_click_away_and_is_remembered(browser: Browser, machines: Fleet) -> None:
    async with visitor(browser) as somebody:
        page = await somebody.page()
        await sign_in(page, machines.url, onward="/admin/devices?state=late")
        await page.get_by_role("link", name="English").click()
        await expect(page).to_have_url(f"{machines.url}/admin/devices?state=late")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Devices")
        await page.goto(f"{machines.url}/admin/schools")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Schools")


async def test_filters_sorting_and_paging_are_addresses_and_need_no_script(browser: Browser, machines: Fleet) -> None:
    async with visitor(browser, scripts=False) as somebody:
        page = await somebody.page()
        await sign_in(page, machines.url, onward="/admin/devices")
        await page.get_by_label("École", exact=True).select_option("0180002E")
        await page.get_by_label("Rechercher").fill("LEROT ce1")
        await page.get_by_role("button", name="Filtrer").click()
        await expect(page.locator("tbody th a")).to_have_text(["Lérot"])
        await page.get_by_role("link", name="Tout afficher").click()
        await expect(page.locator("tbody tr")).to_have_count(len(MACHINES))
        await page.get_by_role("link", name="Poste", exact=True).click()
        await expect(page).to_have_url(re.compile("sort=name"))
        await expect(page.locator("th[aria-sort]")).to_have_attribute("aria-sort", "ascending")
        await page.wait_for_load_state()
        names = await page.locator("tbody th a").all_inner_texts()
        assert names[:3] == ["Belette", "Biche", "Blaireau"]
        assert names[10:14] == ["Hibou", "Lérot", "Loir", "Loutre"], "accents do not change the order"
        assert "sans nom" in names[-1], "what is not known comes last"
        await page.get_by_role("link", name="Poste", exact=True).click()
        await expect(page.locator("th[aria-sort]")).to_have_attribute("aria-sort", "descending")
        await expect(page.locator("tbody th a").first).to_have_text("Renard")
        await page.goto(f"{machines.url}/admin/devices?rows=25&page=9")
        await expect(page.locator(".paging")).to_contain_text("Lignes 1 à 20 sur 20")


async def test_csv_and_json_hold_exactly_what_the_filters_take(browser: Browser, machines: Fleet) -> None:
    async with visitor(browser) as somebody:
        page = await somebody.page()
        await sign_in(page, machines.url, onward="/admin/devices?state=error&state=silent&sort=name")
        shown = [name.split(" ")[0] for name in await page.locator("tbody th a").all_inner_texts()]
        assert len(shown) == 7
        files = {}
        for kind in ("CSV", "JSON"):
            async with page.expect_download() as begun:
                await page.get_by_role("link", name=kind, exact=True).click()
            download = await begun.value
            assert re.fullmatch(rf"relais-devices-\d{{4}}-\d\d-\d\d\.{kind.lower()}", download.suggested_filename)
            files[kind] = Path(await download.path()).read_bytes().decode("utf-8-sig")  # noqa: ASYNC240
        listed = json.loads(files["JSON"])
        assert [row["name"] for row in listed] == shown
        table = list(csv.DictReader(io.StringIO(files["CSV"])))
        assert [row["name"] for row in table] == shown
        for as_json, as_csv in zip(listed, table, strict=True):
            assert as_json.keys() == as_csv.keys()
            for key, value in as_json.items():
                told = ";".join(value) if isinstance(value, list) else "" if value is None else str(value)
                assert as_csv[key] == told, key
        silent = next(row for row in listed if row["name"] == "Lynx")
        assert (silent["state"], silent["via"], silent["schools"], silent["classes"]) == (
            "silent", "direct", ["0180002E"], ["CE1"],
        )  # fmt: skip


async def test_everything_is_reached_by_keyboard(browser: Browser, machines: Fleet) -> None:
    async with visitor(browser) as somebody:
        page = await somebody.page()
        keys = page.keyboard
        await page.goto(f"{machines.url}/admin/")
        await expect(page.get_by_label("Nom")).to_be_focused()
        await keys.type(ADMINISTRATOR)
        await keys.press("Tab")
        await keys.type(PASSPHRASE)
        await keys.press("Enter")
        await expect(page.locator(".tiles")).to_be_visible()
        await page.wait_for_load_state()
        await keys.press("Tab")
        await expect(page.get_by_role("link", name="Aller au contenu")).to_be_focused()
        await keys.press("Enter")
        await keys.press("Tab")
        await expect(page.locator(".tile").first).to_be_focused()
        await keys.press("Tab")
        await keys.press("Enter")
        await expect(page).to_have_url(f"{machines.url}/admin/devices?state=disk-full")
        await page.wait_for_load_state()
        for _ in range(60):
            await keys.press("Tab")
            if await page.evaluate("document.activeElement.innerText") == "Hibou":
                break
        outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", "what has the focus is seen"
        await keys.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Poste Hibou")


async def test_a_device_page_tells_what_is_known_and_what_to_do(browser: Browser, machines: Fleet) -> None:
    async with visitor(browser) as somebody:
        page = await somebody.page()
        await sign_in(page, machines.url, onward=f"/admin/devices/{machines.members['Biche'].id}")
        text = (await page.locator("main").inner_text()).replace("\N{NO-BREAK SPACE}", " ")
        for told in ("À jour", "Horloge fausse", "3 jours d'avance", "CE1", "0180002E", "Windows 10", "80 Go", "0.1.0"):
            assert told in text, told
        await page.goto(f"{machines.url}/admin/devices/{machines.members['Blaireau'].id}")
        troubles = page.locator("main table tbody tr")
        await expect(troubles).to_have_count(1)
        await expect(troubles).to_contain_text("Données abîmées")
        await expect(troubles).to_contain_text("toujours en cours")
        await expect(troubles).to_contain_text("sync-agent repair")
        answer = await page.goto(f"{machines.url}/admin/devices/{'0' * 64}")
        assert answer is not None
        assert answer.status == 404
        await expect(page.locator("main")).to_contain_text("Ce poste n'existe pas")


async def test_schools_show_how_fresh_they_are_and_the_oldest_work_awaited(browser: Browser, machines: Fleet) -> None:
    async with visitor(browser) as somebody:
        page = await somebody.page()
        await sign_in(page, machines.url, onward="/admin/schools")
        rows = {text.split("\t")[0].strip(): text for text in await page.locator("tbody tr").all_inner_texts()}
        assert "vérifié à l'instant" in re.sub(r"\s", " ", rows["0180002E"])
        assert "il y a 3 jours" in rows["0180002E"]
        assert "1 travail attendu" in rows["0180002E"]
        assert "jamais vérifié" in rows["0180003F"]
        await page.get_by_role("link", name="0180002E").click()
        await expect(page.locator("tbody tr")).to_contain_text("CE1")
        await expect(page.locator(".tile").first).to_contain_text("13")
        await page.get_by_role("link", name="Voir les postes de cette école").click()
        await expect(page.locator(".found")).to_have_text("13 postes")


async def test_rows_change_without_a_reload_when_a_machine_reports(browser: Browser, tmp_path: Path) -> None:
    async with fleet(tmp_path / "server") as machines, visitor(browser) as somebody:
        page = await somebody.page()
        await sign_in(page, machines.url, onward="/admin/devices?sort=name")
        await page.evaluate("window.kept = true")
        await expect(page.locator(".live")).to_have_text("En direct")
        row = page.locator("tbody tr", has_text="Hibou")
        await expect(row.locator(".state")).to_have_text("Disque plein")
        await page.get_by_role("link", name="Hibou").focus()
        await machines.call("Hibou", FINE)
        await expect(row.locator(".state")).to_have_text("À jour")
        await expect(row).to_contain_text("aucun")
        await expect(page.locator(".tile.is-disk-full .number")).to_have_text("0")
        assert await page.evaluate("window.kept"), "the page was not loaded again"
        await expect(page.get_by_role("link", name="Hibou")).to_be_focused()
        assert await accessibility_faults(page) == []
        assert somebody.complaints == []


async def test_an_open_page_says_so_when_its_account_is_removed(browser: Browser, tmp_path: Path) -> None:
    async with fleet(tmp_path / "server") as machines, visitor(browser) as somebody:
        page = await somebody.page()
        await sign_in(page, machines.url)
        await expect(page.locator(".live")).to_have_text("En direct")
        await machines.office.do("administrator remove", name=ADMINISTRATOR.upper())
        await machines.call("Renard", FINE, unfinished=True)
        await expect(page.get_by_role("alert")).to_contain_text("Session terminée")
        await page.goto(f"{machines.url}/admin/devices")
        await expect(page).to_have_url(re.compile("/admin/sign-in"))


async def test_signing_in_fails_and_succeeds_in_words(browser: Browser, machines: Fleet) -> None:
    async with visitor(browser) as somebody:
        page = await somebody.page()
        await page.goto(f"{machines.url}/admin/devices?state=late")
        await page.get_by_label("Nom").fill("Personne")
        await page.get_by_label("Phrase secrète").fill("une phrase quelconque")
        await page.get_by_role("button", name="Se connecter").click()
        await expect(page.get_by_role("alert")).to_contain_text("ne vont pas ensemble")
        await expect(page.get_by_label("Phrase secrète")).to_be_focused()
        assert await accessibility_faults(page) == []
        await page.get_by_label("Nom").fill(ADMINISTRATOR.lower())
        await page.get_by_label("Phrase secrète").fill(PASSPHRASE)
        await page.keyboard.press("Enter")
        await expect(page).to_have_url(f"{machines.url}/admin/devices?state=late")
        await page.get_by_role("button", name="Se déconnecter").click()
        await expect(page.get_by_role("status")).to_have_text("Vous êtes déconnecté.")
        await page.goto(f"{machines.url}/admin/devices")
        await expect(page).to_have_url(re.compile("/admin/sign-in"))


async def test_real_programs_are_seen_as_they_are(browser: Browser, tmp_path: Path) -> None:
    with school(tmp_path) as found:
        passphrase = tmp_path / "passphrase"
        passphrase.write_text(PASSPHRASE + "\n", encoding="utf-8")
        found.server.ok("administrator", "add", ADMINISTRATOR, "--passphrase-file", str(passphrase))
        agent: Program = found.enrol("Renard")
        agent.start()
        async with visitor(browser) as somebody:
            page = await somebody.page()
            await sign_in(page, found.url, onward="/admin/devices")
            row = page.locator("tbody tr")
            await expect(row).to_have_count(1)
            await expect(row.locator(".state")).to_have_text("À jour")
            await expect(row).to_contain_text("Renard")
            await expect(row).to_contain_text("CM1")
            await expect(page.locator(".live")).to_have_text("En direct")
            second = found.enrol("Hibou")
            await expect(row).to_have_count(2)
            # its name comes with its first sync, after its row
            await expect(page.locator("tbody")).to_contain_text(second.name)
            device = next(each["device"] for each in found.server.ok("devices") if each["name"] == "Hibou")
            found.server.ok("revoke", device)
            await expect(page.locator("tbody tr", has_text="Hibou").locator(".state")).to_have_text("Retiré")
            assert found.server.stop() == 0, "a page that is open does not keep the server from ending"


async def test_a_code_is_asked_for_after_the_passphrase_by_keyboard_and_without_scripts(
    browser: Browser, tmp_path: Path
) -> None:
    async with office(tmp_path / "server") as made, pages_over(made) as (url, _):
        await add_administrator(made.server, ADMINISTRATOR, verifier_of(PASSPHRASE, os.urandom(16)))
        given = await made.do("administrator second-factor", name=ADMINISTRATOR)
        async with visitor(browser, scripts=False) as somebody:
            page = await somebody.page()
            await page.goto(url + "/admin/devices")
            await page.get_by_label("Nom").fill(ADMINISTRATOR)
            await page.get_by_label("Phrase secrète").fill(PASSPHRASE)
            await page.keyboard.press("Enter")
            await expect(page.get_by_label("Code")).to_be_focused()
            await page.keyboard.type("000000")
            await page.keyboard.press("Enter")
            await expect(page.get_by_role("alert")).to_contain_text("Ce code est faux")
            await page.get_by_label("Code").fill(given["recovery"][0])
            await page.keyboard.press("Enter")
            await expect(page).to_have_url(url + "/admin/devices")
        async with visitor(browser) as somebody:
            page = await somebody.page()
            await page.goto(url + "/admin/")
            await page.get_by_label("Nom").fill(ADMINISTRATOR)
            await page.get_by_label("Phrase secrète").fill(PASSPHRASE)
            await page.keyboard.press("Enter")
            await expect(page.get_by_label("Code")).to_be_focused()
            assert await accessibility_faults(page) == []


@pytest.mark.parametrize("language", ["fr", "en"])
async def test_a_passkey_is_made_and_used_in_a_browser(browser: Browser, tmp_path: Path, language: str) -> None:
    words = {"fr": ("Créer la clé", "Utiliser ma clé", "Se déconnecter"), "en": ("Make the", "Use my", "Sign out")}
    make, use, sign_out = words[language]
    async with office(tmp_path / "server") as made, pages_over(made) as (address, _):
        url = address.replace("127.0.0.1", "localhost")
        await add_administrator(made.server, ADMINISTRATOR, verifier_of(PASSPHRASE, os.urandom(16)))
        async with visitor(browser, locale=WORDS[language]["locale"]) as somebody:
            page = await somebody.page()
            authenticator = await with_authenticator(page)
            code = (await made.do("administrator passkey", name=ADMINISTRATOR, address=url))["code"]
            await sign_in(page, url, language, "/admin/passkeys")
            assert await accessibility_faults(page) == []
            await page.get_by_label("Code").fill(code)
            await page.get_by_role("button", name=make).click()
            await expect(page).to_have_url(f"{url}/admin/passkeys?added=1")
            assert await accessibility_faults(page) == []
            await page.get_by_role("button", name=sign_out).click()
            await expect(page.get_by_label(WORDS[language]["passphrase"])).to_be_visible()
            await page.goto(f"{url}/admin/schools")
            await page.get_by_label(WORDS[language]["name"]).fill(ADMINISTRATOR)
            await page.get_by_label(WORDS[language]["passphrase"]).fill(PASSPHRASE)
            await page.keyboard.press("Enter")
            button = page.get_by_role("button", name=use)
            await expect(button).to_be_focused()
            assert await accessibility_faults(page) == []
            await authenticator(False)
            await page.keyboard.press("Enter")
            await expect(page.get_by_role("alert")).not_to_be_empty()
            assert await accessibility_faults(page) == []
            await authenticator(True)
            await page.keyboard.press("Enter")
            await expect(page).to_have_url(f"{url}/admin/schools")
            assert somebody.complaints == []


async def with_authenticator(page: Page) -> Callable[[bool], Awaitable[None]]:
    """Give the browser a phone with a fingerprint reader; what is returned says whether it knows the finger."""
    devtools = await page.context.new_cdp_session(page)
    await devtools.send("WebAuthn.enable")
    kind = {"protocol": "ctap2", "transport": "internal", "hasUserVerification": True, "isUserVerified": True}
    options = {**kind, "hasResidentKey": True, "automaticPresenceSimulation": True}
    made = await devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})

    async def knows(verified: bool) -> None:
        told = {"authenticatorId": made["authenticatorId"], "isUserVerified": verified}
        await devtools.send("WebAuthn.setUserVerified", told)

    return knows
