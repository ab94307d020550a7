"""Other sites, other names and other people before the administrators' pages (docs/attacks.md)."""

from __future__ import annotations

import asyncio
import os
import tracemalloc
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path
from urllib.parse import urlencode

from aiohttp import web

from sync_server.handlers.accounts.administrators import (
    Administrator,
    add_administrator,
    folded,
    remove_administrator,
    verifier_of,
)
from sync_server.web.door import Door
from sync_server.web.sign_in_pages import MAX_WAITING_SIGN_INS, SignInPages
from sync_server.web.signing_in import FREE_FAILURES, MAX_REMEMBERED, MAX_SESSIONS, Pace, Throttle, Tickets
from tests.harness.administration import ticket_in
from tests.harness.attack import attack
from tests.harness.fleet import ADMINISTRATOR, PASSPHRASE, pages_over
from tests.harness.raw_device import Answer, http_call
from tests.harness.server_in_process import Office, office

ROW = "CSRF, session theft, DNS rebinding"


def lax_cookie(self: Door, response: web.StreamResponse, token: str) -> None:
    """A cookie as a page makes one that gives no thought to it."""
    response.set_cookie(self.cookie, token)


async def no_account(*_: object) -> object:
    """Whoever it was, is."""
    raise AssertionError


async def sign_in(made: Office, url: str) -> Answer:
    await add_administrator(made.server, ADMINISTRATOR, verifier_of(PASSPHRASE, os.urandom(16)))
    form = {"name": ADMINISTRATOR, "passphrase": PASSPHRASE}
    return await ask(url, "/admin/sign-in", form, {"Origin": url})


async def ask(url: str, path: str, form: Mapping[str, str] | None = None, headers: Mapping[str, str] = {}) -> Answer:
    body = None if form is None else urlencode(form).encode()
    call = partial(http_call, url, "GET" if form is None else "POST", path, body, headers)
    return await asyncio.to_thread(call)


@attack(ROW, off={"sync_server.web.door.Door.check": lambda *_: None})
async def test_another_sites_form_changes_nothing(tmp_path: Path) -> None:
    async with office(tmp_path / "server") as made, pages_over(made) as (url, _):
        cookie = (await sign_in(made, url)).headers["set-cookie"].partition(";")[0]
        for elsewhere in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site", "Origin": url}, {}):
            answer = await ask(url, "/admin/sign-out", {}, {"Cookie": cookie, **elsewhere})
            assert answer.status == 403
        assert (await ask(url, "/admin/", None, {"Cookie": cookie})).status == 200, "nobody was signed out"


@attack(ROW, off={"sync_server.web.door.Door.check": lambda *_: None})
async def test_a_name_that_was_rebound_to_this_machine_gets_no_page(tmp_path: Path) -> None:
    async with office(tmp_path / "server") as made, pages_over(made) as (url, _):
        await sign_in(made, url)
        assert (await ask(url, "/admin/sign-in", None, {"Host": "evil.example"})).status == 421


@attack(ROW, off={"sync_server.web.door.Door.set_cookie": lax_cookie})
async def test_no_script_reads_the_session_no_site_sends_it_and_no_line_without_tls_carries_it(tmp_path: Path) -> None:
    async with office(tmp_path / "server") as made, pages_over(made, tls=True) as (url, _):
        cookie = (await sign_in(made, url)).headers["set-cookie"]
    assert cookie.startswith("__Host-")
    assert {"HttpOnly", "Secure", "SameSite=Strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}


@attack(ROW, off={"sync_server.web.reception.Reception.is_current": lambda *_: no_check()})
async def test_a_stolen_session_ends_with_its_account(tmp_path: Path) -> None:
    async with office(tmp_path / "server") as made, pages_over(made) as (url, _):
        cookie = (await sign_in(made, url)).headers["set-cookie"].partition(";")[0]
        await remove_administrator(made.server, ADMINISTRATOR)
        await add_administrator(made.server, "Somebody else", verifier_of(PASSPHRASE, os.urandom(16)))
        assert (await ask(url, "/admin/", None, {"Cookie": cookie})).status == 303


async def no_check() -> bool:
    return True


@attack(
    "administrators kept out by strangers who guess", off={"sync_server.web.sign_in_pages.known_as": lambda *_: None}
)
async def test_strangers_who_guess_all_day_keep_no_administrator_out_of_a_browser_that_is_known(tmp_path: Path) -> None:
    async with office(tmp_path / "server") as made, pages_over(made, clock_s=lambda: 0.0) as (url, _):
        known = "; ".join((await sign_in(made, url)).cookies)
        right = {"name": ADMINISTRATOR, "passphrase": PASSPHRASE}
        wrong = {"name": ADMINISTRATOR, "passphrase": "a guess"}
        for _ in range(FREE_FAILURES):
            await ask(url, "/admin/sign-in", wrong, {"Origin": url})
        assert (await ask(url, "/admin/sign-in", right, {"Origin": url})).status == 429
        assert (await ask(url, "/admin/sign-in", right, {"Origin": url, "Cookie": known})).status == 303
        for _ in range(FREE_FAILURES):
            await ask(url, "/admin/sign-in", wrong, {"Origin": url, "Cookie": known})
        assert (await ask(url, "/admin/sign-in", right, {"Origin": url, "Cookie": known})).status == 429


def one_queue(self: SignInPages, *_: object) -> object:
    """Everybody waits in one queue, known or not."""
    return self._of_strangers


@attack(
    "administrators kept out by strangers who guess",
    off={"sync_server.web.sign_in_pages.SignInPages._queue_of": one_queue},
)
async def test_strangers_with_many_addresses_fill_no_queue_of_a_browser_that_is_known(tmp_path: Path) -> None:
    numbers = count(1)
    right = {"name": ADMINISTRATOR, "passphrase": PASSPHRASE}
    told: list[int] = []
    with ThreadPoolExecutor(2 * MAX_WAITING_SIGN_INS) as callers:

        async def post(url: str, form: Mapping[str, str], network: int, cookie: str = "") -> Answer:
            headers = {"Host": "relais.example.org", "Origin": "https://relais.example.org", "Cookie": cookie}
            headers["X-Forwarded-For"] = f"2001:db8:0:{network:x}::1"
            call = partial(http_call, url, "POST", "/admin/sign-in", urlencode(form).encode(), headers)
            return await asyncio.get_running_loop().run_in_executor(callers, call)

        async def guess(url: str, is_full: asyncio.Event, is_over: asyncio.Event) -> None:
            while not is_over.is_set():
                number = next(numbers)
                if (await post(url, {"name": f"x{number}", "passphrase": "a guess"}, number)).status == 429:
                    is_full.set()

        async with office(tmp_path / "server") as made, pages_over(made, behind_proxy=True) as (url, _):
            await add_administrator(made.server, ADMINISTRATOR, verifier_of(PASSPHRASE, os.urandom(16)))
            known = "; ".join((await post(url, right, 0)).cookies)
            is_full, is_over = asyncio.Event(), asyncio.Event()
            crowd = [asyncio.create_task(guess(url, is_full, is_over)) for _ in range(MAX_WAITING_SIGN_INS + 8)]
            await is_full.wait()
            told = [(await post(url, right, 0, known)).status for _ in range(4)]
            is_over.set()
            await asyncio.gather(*crowd)
    assert told == [303] * 4


def all_forgotten(self: Throttle, counted: object) -> None:
    """A right passphrase forgives what went wrong before."""
    self._failures.clear()


@attack("codes guessed by who has the passphrase", off={"sync_server.web.sign_in_pages.CODES": Pace(10**9, 0.0, 0.0)})
async def test_who_has_the_passphrase_does_not_find_the_code_by_trying(tmp_path: Path) -> None:
    async with office(tmp_path / "server") as made, pages_over(made, clock_s=lambda: 0.0) as (url, _):
        await sign_in(made, url)
        await made.do("administrator second-factor", name=ADMINISTRATOR)
        judged = 0
        for number in range(3 * FREE_FAILURES):
            right = {"name": ADMINISTRATOR, "passphrase": PASSPHRASE}
            ticket = ticket_in(await ask(url, "/admin/sign-in", right, {"Origin": url}))
            guess = {"ticket": ticket, "code": f"{number:06}"}
            judged += (await ask(url, "/admin/sign-in/code", guess, {"Origin": url})).status == 403
    assert judged <= FREE_FAILURES


@attack(
    "codes guessed by who has the passphrase",
    off={"sync_server.web.sign_in_pages.Throttle.take_back": all_forgotten},
)
async def test_a_right_passphrase_forgives_no_wrong_ones(tmp_path: Path) -> None:
    async with office(tmp_path / "server") as made, pages_over(made, clock_s=lambda: 0.0) as (url, _):
        await sign_in(made, url)
        await made.do("administrator second-factor", name=ADMINISTRATOR)
        own = {"name": ADMINISTRATOR, "passphrase": PASSPHRASE}
        told = []
        for number in range(2 * FREE_FAILURES):
            # whose passphrase is known is of no use against somebody else's
            await ask(url, "/admin/sign-in", own, {"Origin": url})
            guess = {"name": "Somebody else", "passphrase": f"guess {number}"}
            told.append((await ask(url, "/admin/sign-in", guess, {"Origin": url})).status)
    assert told == [403] * FREE_FAILURES + [429] * FREE_FAILURES


@attack("administrators kept out by strangers who guess", off={"sync_server.web.signing_in.MAX_TICKETS_OF_ONE": 10**9})
async def test_who_has_one_passphrase_pushes_nobody_elses_second_step_out() -> None:
    tickets = Tickets(os.urandom, lambda: 0.0)
    anne = tickets.begin(Administrator("Anne", "", 0), ("name anne", "address 203.0.113.7"))
    for _ in range(MAX_SESSIONS):
        tickets.begin(Administrator("Benoît", "", 0), ("name benoît", "address 198.51.100.9"))
    assert tickets.whose(anne) is not None


@attack("strangers fill the server with names at sign-in", off={"sync_server.web.signing_in._hash": lambda text: text})
async def test_names_that_nobody_has_take_little_room_however_long_they_are() -> None:
    throttle = Throttle(lambda: 0.0)
    names = MAX_REMEMBERED // 10
    tracemalloc.start()
    try:
        for number in range(names):
            # one character that is compared as eighteen
            throttle.failed([f"name {folded(chr(0xFDFA) * 900 + str(number))}"])
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept_bytes < 1_000 * names
