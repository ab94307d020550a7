"""Asking for the administrators' pages over plain HTTP, and signing in to them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.parse import urlencode

from sync_server.handlers.accounts.administrators import add_administrator, verifier_of
from tests.harness.fleet import PASSPHRASE
from tests.harness.raw_device import Answer, http_call
from tests.harness.server_in_process import Office

NAME = "Anne Morel"
ORIGIN = "https://relais.example.org"
PUBLIC = {"Host": "relais.example.org", "Origin": ORIGIN}
CLIENTS = ThreadPoolExecutor(16, thread_name_prefix="clients")


async def ask(
    url: str, path: str, *, method: str = "GET", form: Mapping[str, str] | None = None, **headers: str
) -> Answer:
    """One request from another thread, so that the server in this one answers; `_` in a header's name is `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = None
    if form is not None:
        body = urlencode(form).encode()
        named.setdefault("Content-Type", "application/x-www-form-urlencoded")
    call = partial(http_call, url, method, path, body, named)
    return await asyncio.get_running_loop().run_in_executor(CLIENTS, call)


async def sign_in(url: str, name: str = NAME, passphrase: str = PASSPHRASE, **more: str) -> Answer:
    """A right name and passphrase, or others."""
    origin = {"Origin": url, **more}
    form = {"name": name, "passphrase": passphrase}
    return await ask(url, "/admin/sign-in", method="POST", form=form, **origin)


def cookie_of(answer: Answer) -> str:
    """The session that an answer gives."""
    return answer.headers["set-cookie"].partition(";")[0]


async def with_account(made: Office, salt: bytes = b"0123456789abcdef") -> None:
    """Make the account of `NAME`."""
    await add_administrator(made.server, NAME, verifier_of(PASSPHRASE, salt))


def ticket_in(answer: Answer) -> str:
    """The ticket on the page that asks for a second factor."""
    return answer.body.decode().partition('name="ticket" value="')[2].partition('"')[0]


async def ask_by_name(url: str, path: str, form: Mapping[str, str] | None = None, *, cookie: str = "") -> Answer:
    """One request as it comes through the proxy at `ORIGIN`; a form is sent."""
    return await ask(url, path, method="GET" if form is None else "POST", form=form, Cookie=cookie, **PUBLIC)
