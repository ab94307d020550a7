"""The administrators' pages over plain HTTP: who is let in, what is refused, what programs may fetch."""

from __future__ import annotations

import asyncio
import html
import json
from base64 import b32decode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from protocol.clock import DAY_MS
from sync_server.handlers.accounts import second_factor
from sync_server.handlers.accounts.administrators import remove_administrator
from sync_server.handlers.accounts.second_factor import STEP_S, code_at, use_second_factor
from sync_server.handlers.store.backups import note_kept
from sync_server.opened.app import Server
from sync_server.web.signing_in import FREE_FAILURES, TICKET_S
from sync_server.web.wording import Words
from tests.harness.administration import NAME, ask, cookie_of, sign_in, ticket_in, with_account
from tests.harness.fleet import PASSPHRASE, pages_over
from tests.harness.machines import Machine
from tests.harness.patience import PATIENCE_S, eventually
from tests.harness.raw_device import Answer, http_call
from tests.harness.server_in_process import Office, office

COOKIE = "relais-administrator"


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Office]:
    async with office(tmp_path / "server") as opened:
        yield opened


def standing_still() -> float:
    """A clock for what must not depend on how quick this machine is."""
    return 0.0


async def test_without_an_account_nothing_is_shown_and_this_machine_is_told_how_to_make_one(made: Office) -> None:
    async with pages_over(made) as (url, _):
        for path in ("/admin/", "/admin/devices", "/admin/schools", "/admin/devices/00"):
            assert (await ask(url, path)).status == 303
        for path in ("/admin/devices.csv", "/admin/devices.json", "/admin/live"):
            assert (await ask(url, path)).status == 401
        notice = await ask(url, "/admin/sign-in")
        assert notice.status == 200
        assert b"sync-server administrator add" in notice.body
        assert b"<form" not in notice.body


async def test_without_an_account_nobody_else_sees_that_there_are_pages(made: Office) -> None:
    async with pages_over(made, behind_proxy=True) as (url, _):
        for path in ("/admin/", "/admin/sign-in", "/admin/devices.json", "/admin/static/admin.css"):
            assert (await ask(url, path, Host="relais.example.org")).status == 404


async def test_every_private_address_leads_a_stranger_to_sign_in_and_back(made: Office) -> None:
    await with_account(made)
    async with pages_over(made) as (url, _):
        led = await ask(url, "/admin/devices?state=late&q=a+b")
        assert led.status == 303
        assert led.headers["location"] == "/admin/sign-in?next=%2Fadmin%2Fdevices%3Fstate%3Dlate%26q%3Da%2Bb"
        forged = await ask(url, "/admin/devices.json", Cookie=f"{COOKIE}={'A' * 43}")
        assert forged.status == 401


async def test_a_session_is_a_cookie_that_no_script_reads_and_no_other_site_sends(made: Office) -> None:
    await with_account(made)
    async with pages_over(made) as (url, _):
        answer = await sign_in(url, name="  anne MOREL ")
        assert (answer.status, answer.headers["location"]) == (303, "/admin/")
        told = answer.headers["set-cookie"]
        assert told.startswith(f"{COOKIE}=")
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {part.strip() for part in told.split(";")}
        assert "Secure" not in told
        page = await ask(url, "/admin/devices.json", Cookie=cookie_of(answer))
        assert (page.status, json.loads(page.body)) == (200, [])


async def test_behind_a_proxy_the_cookie_is_for_tls_and_the_proxy_names_who_asks(made: Office) -> None:
    await with_account(made)
    async with pages_over(made, behind_proxy=True, clock_s=standing_still) as (url, _):
        public = {"Host": "relais.example.org", "Origin": "https://relais.example.org"}
        told = (await sign_in(url, **public)).headers["set-cookie"]
        assert told.startswith(f"__Host-{COOKIE}=")
        assert "Secure" in told
        for _ in range(FREE_FAILURES):
            await sign_in(url, name="x", passphrase="y", X_Forwarded_For="198.51.100.9, 203.0.113.7", **public)
        assert (await sign_in(url, name="z", X_Forwarded_For="203.0.113.7", **public)).status == 429
        assert (await sign_in(url, X_Forwarded_For="198.51.100.9", **public)).status == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {},
    ],
)
async def test_what_another_site_sends_is_refused(made: Office, headers: dict[str, str]) -> None:
    await with_account(made)
    async with pages_over(made) as (url, _):
        form = {"name": NAME, "passphrase": PASSPHRASE}
        answer = await ask(url, "/admin/sign-in", method="POST", form=form, **headers)
        assert answer.status == 403
        assert "set-cookie" not in answer.headers


async def test_a_name_that_was_rebound_to_this_machine_reaches_nothing(made: Office) -> None:
    await with_account(made)
    async with pages_over(made) as (url, _):
        cookie = cookie_of(await sign_in(url))
        port = urlsplit(url).port
        for host in (f"evil.example:{port}", "evil.example", f"127.0.0.1.evil.example:{port}", ""):
            assert (await ask(url, "/admin/devices.json", Host=host, Cookie=cookie)).status == 421, host
        for host in (f"localhost:{port}", f"[::1]:{port}", "127.0.0.1"):
            assert (await ask(url, "/admin/devices.json", Host=host, Cookie=cookie)).status == 200, host


async def test_attempts_are_throttled_by_name_and_a_right_one_waits_too(made: Office) -> None:
    await with_account(made)
    async with pages_over(made, clock_s=standing_still) as (url, _):
        for _ in range(FREE_FAILURES):
            assert (await sign_in(url, passphrase="wrong")).status == 403
        refused = await sign_in(url)
        assert refused.status == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert "set-cookie" not in refused.headers


async def test_attempts_at_once_are_counted_before_they_are_judged(made: Office) -> None:
    await with_account(made)
    async with pages_over(made, clock_s=standing_still) as (url, _):
        answers = await asyncio.gather(*(sign_in(url, passphrase=f"guess {number}") for number in range(12)))
        told = sorted(answer.status for answer in answers)
        assert told == [403] * FREE_FAILURES + [429] * (12 - FREE_FAILURES)


async def test_an_unknown_name_and_a_wrong_passphrase_are_told_alike(made: Office) -> None:
    await with_account(made)
    async with pages_over(made) as (url, _):
        wrong = await sign_in(url, passphrase="wrong")
        unknown = await sign_in(url, name="Nobody at all")
        assert wrong.status == unknown.status == 403
        assert wrong.body.replace(NAME.encode(), b"N") == unknown.body.replace(b"Nobody at all", b"N")


async def with_code(url: str, ticket: str, code: str) -> Answer:
    form = {"ticket": ticket, "code": code, "next": "/admin/devices"}
    return await ask(url, "/admin/sign-in/code", method="POST", form=form, Origin=url)


async def test_where_there_is_a_second_factor_a_passphrase_opens_nothing_yet(made: Office) -> None:
    await with_account(made)
    given = await made.do("administrator second-factor", name=NAME)
    secret = b32decode(given["uri"].partition("secret=")[2].partition("&")[0])
    async with pages_over(made, clock_s=standing_still) as (url, _):
        asked = await sign_in(url)
        assert (asked.status, "set-cookie" in asked.headers) == (200, False)
        step = made.clock() // 1000 // STEP_S
        wrong = await with_code(url, ticket_in(asked), code_at(secret, step + 5))
        assert (wrong.status, "set-cookie" in wrong.headers) == (403, False)
        right = await with_code(url, ticket_in(wrong), code_at(secret, step))
        assert (right.status, right.headers["location"]) == (303, "/admin/devices")
        assert (await ask(url, "/admin/", Cookie=cookie_of(right))).status == 200
        again = await with_code(url, ticket_in(asked), code_at(secret, step + 1))
        assert again.status == 403, "the ticket has been used"
        other = await sign_in(url)
        assert (await with_code(url, ticket_in(other), code_at(secret, step))).status == 403, "a code opens once"
        assert (await with_code(url, ticket_in(other), given["recovery"][0])).status == 303
        await made.do("administrator second-factor", name=NAME, remove=True)
        assert (await sign_in(url)).status == 303


async def test_another_second_factor_ends_the_one_before_and_the_list_says_who_has_one(made: Office) -> None:
    await with_account(made)
    (row,) = await made.do("administrator list")
    assert (row["second_factor"], row["passkeys"]) == (False, 0)
    first = await made.do("administrator second-factor", name=NAME)
    assert first["replaced"] is False
    (row,) = await made.do("administrator list")
    assert (row["second_factor"], row["passkeys"]) == (True, 0)
    assert (await made.do("administrator second-factor", name=NAME.upper()))["replaced"] is True
    assert not await use_second_factor(made.server, NAME, first["recovery"][0])
    await made.do("administrator second-factor", name=NAME, remove=True)
    (row,) = await made.do("administrator list")
    assert row["second_factor"] is False


async def test_one_code_lets_one_in_however_many_send_it_at_once(made: Office) -> None:
    await with_account(made)
    given = await made.do("administrator second-factor", name=NAME)
    proven = await asyncio.gather(*(use_second_factor(made.server, NAME, given["recovery"][0]) for _ in range(8)))
    assert proven.count(True) == 1


@pytest.mark.parametrize("remove", [True, False])
async def test_a_code_that_is_used_meanwhile_brings_back_no_second_factor_of_before(
    made: Office, monkeypatch: pytest.MonkeyPatch, *, remove: bool
) -> None:
    await with_account(made)
    before = await made.do("administrator second-factor", name=NAME)
    read = second_factor.second_factor
    changing: list[asyncio.Task[Any]] = []

    async def changed_meanwhile(server: Server, name: str) -> second_factor.SecondFactor | None:
        found = await read(server, name)
        changing.append(asyncio.create_task(made.do("administrator second-factor", name=NAME, remove=remove)))
        await asyncio.wait(changing, timeout=0.2)  # it waits its turn; this is for what would not
        return found

    with monkeypatch.context() as patched:
        patched.setattr(second_factor, "second_factor", changed_meanwhile)
        assert await use_second_factor(made.server, NAME, before["recovery"][0])
    after = await changing[0]
    assert not await use_second_factor(made.server, NAME, before["recovery"][1])
    assert remove or await use_second_factor(made.server, NAME, after["recovery"][0])


async def test_guessing_codes_is_throttled_as_guessing_passphrases_is(made: Office) -> None:
    await with_account(made)
    await made.do("administrator second-factor", name=NAME)
    async with pages_over(made, clock_s=standing_still) as (url, _):
        ticket = ticket_in(await sign_in(url))
        statuses = [(await with_code(url, ticket, "000000")).status for _ in range(FREE_FAILURES)]
        assert statuses == [403] * (FREE_FAILURES - 1) + [429]
        assert (await sign_in(url)).status == 429, "a right passphrase does not buy further tries"


async def test_who_waits_as_told_and_knows_passphrase_and_code_gets_in(made: Office) -> None:
    await with_account(made)
    given = await made.do("administrator second-factor", name=NAME)
    now_s = [0.0]
    async with pages_over(made, clock_s=lambda: now_s[0]) as (url, _):
        for _ in range(FREE_FAILURES):
            await sign_in(url, passphrase="wrong")
        told = await sign_in(url)
        assert told.status == 429
        now_s[0] += int(told.headers["retry-after"])
        asked = await sign_in(url)
        assert asked.status == 200
        now_s[0] += 3
        assert (await with_code(url, ticket_in(asked), given["recovery"][0])).status == 303


async def test_strangers_who_guess_at_the_passphrase_make_nobody_wait_between_the_steps(made: Office) -> None:
    await with_account(made)
    given = await made.do("administrator second-factor", name=NAME)
    async with pages_over(made, clock_s=standing_still) as (url, _):
        asked = await sign_in(url)
        for _ in range(FREE_FAILURES):
            await sign_in(url, passphrase="wrong")
        assert (await with_code(url, ticket_in(asked), given["recovery"][0])).status == 303


async def test_a_code_that_comes_too_early_costs_no_try_and_the_page_says_how_long_to_wait(made: Office) -> None:
    await with_account(made)
    given = await made.do("administrator second-factor", name=NAME)
    now_s = [0.0]
    async with pages_over(made, clock_s=lambda: now_s[0]) as (url, _):
        ticket = ticket_in(await sign_in(url))
        for _ in range(FREE_FAILURES):
            last = await with_code(url, ticket, "000000")
        assert (last.status, "faux" in html.unescape(last.body.decode())) == (429, True), "the ticket is used up"
        asked = await sign_in(url)
        assert (asked.status, asked.headers["retry-after"]) == (429, "3")
        early = await with_code(url, ticket_in(asked), given["recovery"][0])
        assert (early.status, "Réessayez dans 3 s" in html.unescape(early.body.decode())) == (429, True)
        now_s[0] += 3
        assert (await with_code(url, ticket_in(early), given["recovery"][0])).status == 303


async def test_a_wait_that_outlasts_the_second_step_is_told_at_the_first(made: Office) -> None:
    await with_account(made)
    given = await made.do("administrator second-factor", name=NAME)
    now_s = [0.0]
    async with pages_over(made, clock_s=lambda: now_s[0]) as (url, _):
        wait_s = 0
        while wait_s <= TICKET_S:
            tried = await with_code(url, ticket_in(await sign_in(url)), "000000")
            wait_s = int(tried.headers.get("retry-after", "0"))
            now_s[0] += wait_s if wait_s <= TICKET_S else 0
        assert ticket_in(tried) == ""
        assert "Réessayez dans 9 min" in html.unescape(tried.body.decode()), "told in whole minutes, rounded up"
        refused = await sign_in(url)
        assert (refused.status, ticket_in(refused)) == (429, "")
        now_s[0] += int(refused.headers["retry-after"])
        assert (await with_code(url, ticket_in(await sign_in(url)), given["recovery"][0])).status == 303


async def test_an_account_that_is_made_again_does_not_inherit_a_second_factor(made: Office) -> None:
    await with_account(made)
    await made.do("administrator second-factor", name=NAME)
    await remove_administrator(made.server, NAME)
    await with_account(made)
    async with pages_over(made) as (url, _):
        assert (await sign_in(url)).status == 303


async def test_a_session_ends_with_sign_out_and_with_its_account(made: Office) -> None:
    await with_account(made)
    async with pages_over(made) as (url, _):
        first, second = cookie_of(await sign_in(url)), cookie_of(await sign_in(url))
        assert first != second
        out = await ask(url, "/admin/sign-out", method="POST", Origin=url, Cookie=first)
        assert out.status == 303
        assert (await ask(url, "/admin/devices.json", Cookie=first)).status == 401
        assert (await ask(url, "/admin/devices.json", Cookie=second)).status == 200
        await remove_administrator(made.server, NAME)
        await with_account(made, b"another salt 016")
        assert (await ask(url, "/admin/devices.json", Cookie=second)).status == 401, "a new account of that name"


@pytest.mark.parametrize(
    "onward", ["https://elsewhere.example/", "//elsewhere.example", "/admin/\\elsewhere", "/v1/sync"]
)
async def test_nobody_is_led_elsewhere_after_signing_in(made: Office, onward: str) -> None:
    await with_account(made)
    async with pages_over(made) as (url, _):
        form = {"name": NAME, "passphrase": PASSPHRASE, "next": onward}
        answer = await ask(url, "/admin/sign-in", method="POST", form=form, Origin=url)
        assert (answer.status, answer.headers["location"]) == (303, "/admin/")
        language = await ask(url, f"/admin/language?{urlencode({'to': 'en', 'next': onward})}")
        assert language.headers["location"] == "/admin/"


async def test_every_answer_forbids_what_the_pages_do_not_need(made: Office) -> None:
    await with_account(made)
    async with pages_over(made) as (url, _):
        cookie = cookie_of(await sign_in(url))
        for path in ("/admin/", "/admin/devices.csv", "/admin/sign-in", "/admin/nothing", "/admin/static/admin.js"):
            headers = (await ask(url, path, Cookie=cookie)).headers
            assert headers["content-security-policy"].startswith("default-src 'none'"), path
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
            assert "static" in path or headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("form", "status"),
    [({"name": "x" * 9_000}, 413), ({}, 403), ({"name": "\udc80", "passphrase": "\x00" * 2_000}, 403)],
)
async def test_what_no_browser_sends_at_sign_in_is_refused(made: Office, form: dict[str, str], status: int) -> None:
    await with_account(made)
    async with pages_over(made) as (url, _):
        data = {name: value.encode(errors="surrogatepass") for name, value in form.items()}
        body = urlencode(data).encode()
        answer = await asyncio.to_thread(http_call, url, "POST", "/admin/sign-in", body, {"Origin": url})
        assert answer.status == status


async def test_nonsense_in_an_address_is_as_if_it_were_not_there(made: Office) -> None:
    await with_account(made)
    async with pages_over(made) as (url, _):
        cookie = cookie_of(await sign_in(url))
        asked = "?state=nonsense&sort=%00&dir=up&page=-1&rows=99999&needing=maybe&q=" + "%F0%9F%A6%8A" * 300
        for path in ("/admin/devices", "/admin/devices.csv", "/admin/devices.json", "/admin/schools"):
            assert (await ask(url, path + asked, Cookie=cookie)).status == 200
        for path in ("/admin/devices/xyz", "/admin/schools/%2e%2e", "/admin/static/..%2fpages.py"):
            assert (await ask(url, path, Cookie=cookie)).status == 404


async def test_the_page_of_a_revoked_device_says_how_it_comes_back_while_its_person_is_listed(made: Office) -> None:
    await with_account(made)
    person = await made.add_person("Mme Petit", "teacher")
    laptop = await made.enrol(await made.invite("teacher", person=person))
    await made.do("revoke", device=laptop.id)
    async with pages_over(made) as (url, _):
        cookie = cookie_of(await sign_in(url))
        command = f"sync-server grant --device {laptop.id}".encode()
        assert command in (await ask(url, f"/admin/devices/{laptop.id}", Cookie=cookie)).body
        await made.do("person retire", person=person)
        assert command not in (await ask(url, f"/admin/devices/{laptop.id}", Cookie=cookie)).body


async def test_what_concerns_the_server_itself_is_said_first_in_both_languages(made: Office) -> None:
    await with_account(made)
    made.server.unforeseen.note("preparing first syncs", ZeroDivisionError())
    made.server.note_unknown_caller()
    await (await made.enrol(await made.invite("machine"))).sync()
    async with pages_over(made) as (url, _):
        cookie = cookie_of(await sign_in(url))
        for language, sentence in (("fr", "Erreurs imprévues"), ("en", "Unforeseen errors")):
            page = (await ask(url, "/admin/", Cookie=cookie, Accept_Language=language)).body.decode()
            assert sentence in page
            assert "X-Forwarded-For" in page
            assert not any(well in page for well in ("Tout va bien", "All is well"))
            assert "ZeroDivisionError" in page


async def test_the_overview_says_that_no_backup_was_made_and_how_old_the_last_one_is(made: Office) -> None:
    await with_account(made)
    await (await made.enrol(await made.invite("machine"))).sync()
    async with pages_over(made, clock_s=standing_still) as (url, _):
        cookie = cookie_of(await sign_in(url))

        async def overview() -> str:
            page = (await ask(url, "/admin/", Cookie=cookie, Accept_Language="fr")).body.decode()
            return html.unescape(page).replace("\N{NO-BREAK SPACE}", " ")

        assert "<dt>Dernière sauvegarde</dt><dd>aucune</dd>" in await overview()
        assert "Aucune sauvegarde n'a encore été faite" not in await overview(), "the first night is still to come"
        assert "Les postes vont bien. Il n'y a pas encore eu de sauvegarde." in await overview()
        assert "Tout va bien" not in await overview()
        made.clock.advance(DAY_MS)
        assert "Aucune sauvegarde n'a encore été faite" in await overview()
        await note_kept(made.server, made.clock())
        page = await overview()
        assert "Aucune sauvegarde" not in page
        assert ">à l'instant</time>" in page
        assert "Tout va bien." in page
        clock = Words("fr", made.clock()).clock(made.clock())
        looked = (
            f"Regardé à {clock} : 1 poste, 1 école ; de ce serveur, les clés, la sauvegarde et les erreurs imprévues."
        )
        assert looked in page.replace("\N{NARROW NO-BREAK SPACE}", " ")
        made.clock.advance(2 * DAY_MS)
        assert "Dernière sauvegarde : il y a 2 jours" in await overview()


async def test_metrics_hold_every_family_and_single_devices_on_request_only(made: Office) -> None:
    member = await made.enrol(await made.invite("machine"))
    await member.sync()
    async with pages_over(made) as (url, _):
        text = (await ask(url, "/metrics")).body.decode()
        for name in (
            "relais_build_info",
            'relais_devices{school="0180001D",state="up-to-date"} 1\n',
            "relais_sync_lag_seconds_bucket",
            "relais_sync_sessions_total",
            "relais_sync_bytes_total",
            "relais_handins_pending 0\n",
            'relais_oldest_unsent_handin_seconds{school="0180001D"} 0\n',
            "relais_conflicts_total 0\n",
            "relais_storage_free_bytes",
            "relais_last_backup_timestamp_seconds 0\n",
            "relais_key_spoken_elsewhere_words 0\n",
            "relais_unforeseen_errors_total 0\n",
        ):
            assert name in text, name
        assert member.id not in text
        single = (await ask(url, "/metrics?per-device")).body.decode()
        assert f'relais_device_last_seen_timestamp_seconds{{device="{member.id}"}} {made.clock.ms // 1000}' in single


def test_accounts_are_managed_by_command_with_and_without_a_running_server(tmp_path: Path) -> None:
    server = Machine("server", tmp_path / "server", "sync-server")
    server.ok("init", "--name", "Cher", "--kit", str(tmp_path / "kit"))
    weak, good = tmp_path / "weak", tmp_path / "good"
    weak.write_text("court\n", encoding="utf-8")
    good.write_text(PASSPHRASE + "\n", encoding="utf-8")
    refused = server.run("administrator", "add", NAME, "--passphrase-file", str(weak))
    assert (refused.status, refused.code) == (2, "usage")
    assert server.ok("administrator", "add", NAME, "--passphrase-file", str(good)) == {"administrator": NAME}
    server.start("--listen", "127.0.0.1:0")
    try:
        again = server.run("administrator", "add", NAME.lower(), "--passphrase-file", str(good))
        assert (again.status, again.code) == (2, "bad-name")
        server.ok("administrator", "add", "Benoît", "--passphrase-file", str(good))
        assert [row["administrator"] for row in server.ok("administrator", "list")] == [NAME, "Benoît"]
        first, second = (server.run("administrator", "second-factor", NAME) for _ in range(2))
        assert "from before" not in first.err
        assert "The codes and the recovery codes from before open nothing any more" in second.err
        assert server.ok("administrator", "remove", "benoît") == {}
        gone = server.run("administrator", "remove", "Benoît")
        assert (gone.status, gone.code) == (2, "unknown-person")
    finally:
        server.stop()
    (row,) = server.ok("administrator", "list")
    assert row["since"].endswith("Z")
    everything = b"".join(path.read_bytes() for path in (tmp_path / "server").rglob("*") if path.is_file())
    assert PASSPHRASE.encode() not in everything


def test_a_server_that_stops_sends_those_away_who_watch(tmp_path: Path) -> None:
    server = Machine("server", tmp_path / "server", "sync-server")
    server.ok("init", "--name", "Cher", "--kit", str(tmp_path / "kit"))
    passphrase = tmp_path / "passphrase"
    passphrase.write_text(PASSPHRASE, encoding="utf-8")
    server.ok("administrator", "add", NAME, "--passphrase-file", str(passphrase))
    url = server.start("--listen", "127.0.0.1:0").split()[-1]
    cookie = cookie_of(asyncio.run(sign_in(url)))

    async def watch() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
        writer.write(f"GET /admin/live?mark=0 HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie}\r\n\r\n".encode())
        begun = await reader.readuntil(b"event: changed")
        stopping = asyncio.create_task(asyncio.to_thread(server.stop))
        await reader.read()
        assert await stopping == 0
        writer.close()
        return begun

    assert b"text/event-stream" in asyncio.run(asyncio.wait_for(watch(), PATIENCE_S))
    eventually("the log", lambda: "Traceback" not in server.log.read_text(encoding="utf-8"))
