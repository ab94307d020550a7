"""Administrators' passkeys over plain HTTP: how one is added, what it opens, what takes it away."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import BadInput
from sync_server.handlers.accounts.administrators import add_administrator, remove_administrator, verifier_of
from sync_server.handlers.accounts.passkeys import CODE_MS, MAX_PASSKEYS, use_passkey
from sync_server.web.passkey_forms import assertion_in
from sync_server.web.signing_in import CHALLENGE_S, FREE_FAILURES
from tests.harness.administration import NAME, ORIGIN, PUBLIC, ask_by_name, cookie_of, sign_in, ticket_in, with_account
from tests.harness.fleet import PASSPHRASE, pages_over
from tests.harness.passkey import Authenticator, b64
from tests.harness.raw_device import Answer
from tests.harness.server_in_process import Office, office


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Office]:
    async with office(tmp_path / "server") as opened:
        await with_account(opened)
        yield opened


def asked_in(answer: Answer) -> str:
    """The challenge on a page."""
    found = re.search(r'data-challenge="([\w-]+)"', unescape(answer.body.decode()))
    assert found is not None
    return found[1]


async def code_for(made: Office, address: str = ORIGIN) -> str:
    return str((await made.do("administrator passkey", name=NAME, address=address))["code"])


async def add(url: str, cookie: str, phone: Authenticator, code: str, **said: Any) -> Answer:
    page = await ask_by_name(url, "/admin/passkeys", cookie=cookie)
    form = {"code": code, "label": "Téléphone", **phone.made(asked_in(page), **said)}
    return await ask_by_name(url, "/admin/passkeys", form, cookie=cookie)


async def with_passkey(made: Office, url: str, phone: Authenticator) -> str:
    """The cookie of the session that added it."""
    cookie = cookie_of(await sign_in(url, **PUBLIC))
    assert (await add(url, cookie, phone, await code_for(made))).status == 303
    return cookie


async def answer(url: str, asked: Answer, phone: Authenticator, **said: Any) -> Answer:
    form = {"ticket": ticket_in(asked), "next": "/admin/devices", **phone.used(asked_in(asked), **said)}
    return await ask_by_name(url, "/admin/sign-in/code", form)


async def test_a_passkey_is_asked_for_after_the_passphrase_and_opens(made: Office) -> None:
    phone = Authenticator(ORIGIN)
    async with pages_over(made, behind_proxy=True, clock_s=lambda: 0.0) as (url, _):
        other = cookie_of(await sign_in(url, **PUBLIC))
        kept = await with_passkey(made, url, phone)
        assert (await ask_by_name(url, "/admin/", cookie=kept)).status == 200
        assert (await ask_by_name(url, "/admin/", cookie=other)).status == 303, "what was opened with less is closed"
        asked = await sign_in(url, **PUBLIC)
        assert (asked.status, "set-cookie" in asked.headers) == (200, False)
        opened = await answer(url, asked, phone, count=1)
        assert (opened.status, opened.headers["location"]) == (303, "/admin/devices")
        asked = await sign_in(url, **PUBLIC)
        assert (await answer(url, asked, phone, count=1)).status == 403, "a copy of the key has not counted on"
        assert (await answer(url, await sign_in(url, **PUBLIC), phone, count=2)).status == 303
        (row,) = await made.do("administrator passkeys", name=NAME.upper())
        assert (row["label"], row["address"]) == ("Téléphone", ORIGIN)
        with pytest.raises(BadInput):
            await made.do("administrator passkey", name=NAME, remove="0123456789abcdef")
        assert await made.do("administrator passkey", name=NAME, remove=row["passkey"]) == {"removed": 1}
        assert (await sign_in(url, **PUBLIC)).status == 303


async def test_an_account_that_asks_for_something_else_ends_its_sessions_and_nobody_elses(made: Office) -> None:
    async with pages_over(made, behind_proxy=True, clock_s=lambda: 0.0) as (url, _):
        await add_administrator(made.server, "Benoît", verifier_of(PASSPHRASE, b"0123456789abcdef"))
        colleague = cookie_of(await sign_in(url, "Benoît", **PUBLIC))
        cookie = await with_passkey(made, url, Authenticator(ORIGIN))
        code = await code_for(made)
        assert (await ask_by_name(url, "/admin/", cookie=cookie)).status == 200, "a code is no passkey yet"
        assert (await add(url, cookie, Authenticator(ORIGIN), code)).status == 303
        first, _ = await made.do("administrator passkeys", name=NAME)
        assert (await ask_by_name(url, "/admin/", cookie=cookie)).status == 200, "both were added here"
        await made.do("administrator passkey", name=NAME, remove=first["passkey"])
        assert (await ask_by_name(url, "/admin/", cookie=cookie)).status == 303
        assert (await ask_by_name(url, "/admin/", cookie=colleague)).status == 200
        await made.do("administrator passkey", name=NAME, remove="all")
        for remove in (False, True):
            cookie = cookie_of(await sign_in(url, **PUBLIC)) if not remove else cookie
            await made.do("administrator second-factor", name=NAME, remove=remove)
            assert (await ask_by_name(url, "/admin/", cookie=cookie)).status == 303


async def test_a_code_adds_one_passkey_for_an_hour_and_only_at_its_address(made: Office) -> None:
    async with pages_over(made, behind_proxy=True, clock_s=lambda: 0.0) as (url, _):
        cookie = cookie_of(await sign_in(url, **PUBLIC))
        closed = await ask_by_name(url, "/admin/passkeys", cookie=cookie)
        assert b"<form class" not in closed.body
        code = await code_for(made)
        assert (await add(url, cookie, Authenticator(ORIGIN), code.lower().replace("-", " "))).status == 303
        assert b"data-challenge" not in (await ask_by_name(url, "/admin/passkeys", cookie=cookie)).body
        await code_for(made, "https://another.example")
        other = await code_for(made, "https://another.example")
        assert (await add(url, cookie, Authenticator(ORIGIN), other)).status == 403, "made elsewhere than it names"
        late = await code_for(made)
        page = await ask_by_name(url, "/admin/passkeys", cookie=cookie)
        made.clock.ms += CODE_MS
        form = {"code": late, **Authenticator(ORIGIN).made(asked_in(page))}
        assert (await ask_by_name(url, "/admin/passkeys", form, cookie=cookie)).status == 403
        assert len(await made.do("administrator passkeys", name=NAME)) == 1


async def test_what_a_passkey_signs_is_good_once_and_for_a_few_minutes(made: Office) -> None:
    now_s, phone = [0.0], Authenticator(ORIGIN)
    async with pages_over(made, behind_proxy=True, clock_s=lambda: now_s[0]) as (url, _):
        cookie = await with_passkey(made, url, phone)
        await code_for(made)
        page = await ask_by_name(url, "/admin/passkeys", cookie=cookie)
        code = await code_for(made)
        now_s[0] += CHALLENGE_S + 1
        form = {"code": code, **Authenticator(ORIGIN).made(asked_in(page))}
        assert (await ask_by_name(url, "/admin/passkeys", form, cookie=cookie)).status == 403
        asked = await sign_in(url, **PUBLIC)
        again = await answer(url, asked, Authenticator(ORIGIN, phone.id))
        assert again.status == 403
        assert asked_in(again) != asked_in(asked)
        stale = {"ticket": ticket_in(again), **phone.used(asked_in(asked))}
        assert (await ask_by_name(url, "/admin/sign-in/code", stale)).status == 403


async def test_guessing_is_throttled_and_codes_of_an_application_open_too(made: Office) -> None:
    phone = Authenticator(ORIGIN)
    async with pages_over(made, behind_proxy=True, clock_s=lambda: 0.0) as (url, _):
        await with_passkey(made, url, phone)
        given = await made.do("administrator second-factor", name=NAME)
        asked = await sign_in(url, **PUBLIC)
        form = {"ticket": ticket_in(asked), "code": given["recovery"][0], "next": "/admin/"}
        cookie = cookie_of(await ask_by_name(url, "/admin/sign-in/code", form))
        asked, thief = await sign_in(url, **PUBLIC), Authenticator(ORIGIN, phone.id)
        statuses = []
        for _ in range(FREE_FAILURES):
            tried = await answer(url, asked, thief)
            statuses.append(tried.status)
            asked = tried if tried.status == 403 else asked
        assert statuses == [403] * (FREE_FAILURES - 1) + [429]
        await code_for(made)
        codes = [(await add(url, cookie, phone, "0000-0000")).status for _ in range(2)]
        assert codes[-1] == 429, "the address waits for whatever it tries"


async def test_a_passkey_goes_with_its_account_and_one_that_was_damaged_opens_nothing(made: Office) -> None:
    phone = Authenticator(ORIGIN)
    async with pages_over(made, behind_proxy=True, clock_s=lambda: 0.0) as (url, _):
        await with_passkey(made, url, phone)
        await remove_administrator(made.server, NAME)
        await with_account(made)
        assert (await sign_in(url, **PUBLIC)).status == 303
        await made.server.store.set_marks({f"passkeys/{NAME.casefold()}": b"\x80"})
        asked = await sign_in(url, **PUBLIC)
        assert (asked.status, (await answer(url, asked, phone)).status) == (200, 403)
        assert await made.do("administrator passkey", name=NAME, remove="all") == {"removed": 1}


async def test_one_answer_lets_one_in_however_many_send_it_at_once(made: Office) -> None:
    phone, challenge = Authenticator(ORIGIN), bytes(32)
    async with pages_over(made, behind_proxy=True, clock_s=lambda: 0.0) as (url, _):
        await with_passkey(made, url, phone)
        said = assertion_in(phone.used(b64(challenge), count=5))
        proven = await asyncio.gather(*(use_passkey(made.server, NAME, said, challenge) for _ in range(8)))
        assert proven.count(True) == 1


async def test_an_account_has_ten_passkeys_at_most(made: Office) -> None:
    async with pages_over(made, behind_proxy=True, clock_s=lambda: 0.0) as (url, _):
        cookie = cookie_of(await sign_in(url, **PUBLIC))
        for _ in range(MAX_PASSKEYS):
            assert (await add(url, cookie, Authenticator(ORIGIN), await code_for(made))).status == 303
        with pytest.raises(BadInput, match="remove one"):
            await code_for(made)
        with pytest.raises(BadInput, match="no administrator"):
            await made.do("administrator passkeys", name="Personne")
