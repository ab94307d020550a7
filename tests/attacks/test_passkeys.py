"""False pages, old answers and other people's keys at the administrators' second step (docs/attacks.md)."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import unescape
from pathlib import Path

from sync_server.handlers.accounts.administrators import add_administrator, list_administrators, verifier_of
from sync_server.handlers.accounts.passkeys import use_passkey
from sync_server.handlers.accounts.webauthn import Assertion, as_base64url
from sync_server.opened.app import Server
from sync_server.web.signing_in import Tickets, _hash
from tests.harness.administration import NAME, ORIGIN, PUBLIC, ask_by_name, cookie_of, sign_in, ticket_in, with_account
from tests.harness.attack import attack
from tests.harness.fleet import PASSPHRASE, pages_over
from tests.harness.passkey import Authenticator
from tests.harness.raw_device import Answer
from tests.harness.server_in_process import Office, office

ROW = "an administrator's second factor on a false page"
COLLEAGUE = "Benoît"


def any_page(client_data: bytes, kind: str, challenge: bytes, _origin: str) -> bool:
    """A server that does not look at which page asked."""
    said = json.loads(client_data)
    return bool(said["type"] == kind and said["challenge"] == as_base64url(challenge))


def any_challenge(client_data: bytes, kind: str, _challenge: bytes, origin: str) -> bool:
    """A server that does not look at what was signed."""
    said = json.loads(client_data)
    return bool(said["type"] == kind and said["origin"] == origin)


def lasting_challenge(self: Tickets, token: str) -> bytes | None:
    """A challenge that stays good for whoever answers it again."""
    return self._by_hash[_hash(token)].challenge.value


def same_challenge(self: Tickets, token: str) -> bytes | None:
    """… and is what the next page asks too."""
    kept = self._by_hash[_hash(token)].challenge
    return kept.value or kept.give(self._entropy, self._clock_s())


async def anybodys(server: Server, _name: str, assertion: Assertion, challenge: bytes) -> bool:
    """A server that asks whether somebody has this passkey, not whose it is."""
    names = [each.name for each in await list_administrators(server)]
    return any([await use_passkey(server, name, assertion, challenge) for name in names])


def challenge_in(answer: Answer) -> str:
    found = re.search(r'data-challenge="([\w-]+)"', unescape(answer.body.decode()))
    assert found is not None
    return found[1]


async def add(made: Office, url: str, name: str, phone: Authenticator) -> None:
    cookie = cookie_of(await sign_in(url, name, **PUBLIC))
    code = (await made.do("administrator passkey", name=name, address=ORIGIN))["code"]
    page = await ask_by_name(url, "/admin/passkeys", cookie=cookie)
    form = {"code": code, **phone.made(challenge_in(page))}
    assert (await ask_by_name(url, "/admin/passkeys", form, cookie=cookie)).status == 303


async def answer(url: str, ticket: str, said: dict[str, str]) -> int:
    form = {"ticket": ticket, "next": "/admin/", **said}
    return (await ask_by_name(url, "/admin/sign-in/code", form)).status


@asynccontextmanager
async def two_administrators(folder: Path) -> AsyncIterator[tuple[str, Authenticator, Authenticator]]:
    """The pages, Anne's passkey, and that of a colleague with the same passphrase."""
    anne, benoit = Authenticator(ORIGIN), Authenticator(ORIGIN)
    async with office(folder) as made, pages_over(made, behind_proxy=True, clock_s=lambda: 0.0) as (url, _):
        await with_account(made)
        await add_administrator(made.server, COLLEAGUE, verifier_of(PASSPHRASE, b"0123456789abcdef"))
        await add(made, url, NAME, anne)
        await add(made, url, COLLEAGUE, benoit)
        yield url, anne, benoit


@attack(ROW, off={"sync_server.handlers.accounts.webauthn.is_said_by_browser": any_page})
async def test_what_a_passkey_says_to_a_false_page_opens_nothing(tmp_path: Path) -> None:
    async with two_administrators(tmp_path / "server") as (url, anne, _):
        # the page lies on another port of the same name, so that the browser lets it ask for this very passkey
        passed_on = await sign_in(url, **PUBLIC)
        said = anne.used(challenge_in(passed_on), page=f"{ORIGIN}:8444")
        assert await answer(url, ticket_in(passed_on), said) == 403


@attack(ROW, off={"sync_server.handlers.accounts.webauthn.is_said_by_browser": any_challenge})
async def test_what_a_passkey_signed_for_another_sign_in_opens_nothing(tmp_path: Path) -> None:
    async with two_administrators(tmp_path / "server") as (url, anne, _):
        overheard = anne.used(challenge_in(await sign_in(url, **PUBLIC)))
        assert await answer(url, ticket_in(await sign_in(url, **PUBLIC)), overheard) == 403


@attack(
    ROW,
    off={
        "sync_server.web.signing_in.Tickets.take_challenge": lasting_challenge,
        "sync_server.web.signing_in.Tickets.challenge": same_challenge,
        "sync_server.web.signing_in.Tickets.end": lambda *_: None,
    },
)
async def test_what_a_passkey_signed_opens_once(tmp_path: Path) -> None:
    async with two_administrators(tmp_path / "server") as (url, anne, _):
        asked = await sign_in(url, **PUBLIC)
        said = anne.used(challenge_in(asked))
        assert await answer(url, ticket_in(asked), said) == 303
        assert await answer(url, ticket_in(asked), said) == 403


@attack(ROW, off={"sync_server.web.sign_in_pages.use_passkey": anybodys})
async def test_a_colleagues_passkey_opens_nobody_elses_account(tmp_path: Path) -> None:
    async with two_administrators(tmp_path / "server") as (url, _, benoit):
        asked = await sign_in(url, **PUBLIC)
        assert await answer(url, ticket_in(asked), benoit.used(challenge_in(asked))) == 403


@attack(ROW, off={"sync_server.handlers.accounts.passkeys.Keyring.awaits": lambda *_: True})
async def test_a_stolen_session_adds_no_passkey(tmp_path: Path) -> None:
    thief = Authenticator(ORIGIN)
    async with office(tmp_path / "server") as made, pages_over(made, behind_proxy=True) as (url, _):
        await with_account(made)
        cookie = cookie_of(await sign_in(url, **PUBLIC))
        await made.do("administrator passkey", name=NAME, address=ORIGIN)
        page = await ask_by_name(url, "/admin/passkeys", cookie=cookie)
        form = {"code": "0000-0000-0000-0000", **thief.made(challenge_in(page))}
        assert (await ask_by_name(url, "/admin/passkeys", form, cookie=cookie)).status == 403
        assert await made.do("administrator passkeys", name=NAME) == []


# --- sessions of before -----------------------------------------------------------------------------------------------

THEFT = "CSRF, session theft, DNS rebinding"


@attack(THEFT, off={"sync_server.web.signing_in.Session.holds": lambda *_: True})
async def test_a_session_of_who_knew_the_passphrase_ends_when_more_is_asked_for(tmp_path: Path) -> None:
    async with office(tmp_path / "server") as made, pages_over(made, behind_proxy=True) as (url, _):
        await with_account(made)
        thief = cookie_of(await sign_in(url, **PUBLIC))
        assert (await ask_by_name(url, "/admin/devices", cookie=thief)).status == 200
        await made.do("administrator second-factor", name=NAME, remove=False)
        assert (await ask_by_name(url, "/admin/devices", cookie=thief)).status == 303


@attack(THEFT, off={"sync_server.web.signing_in.Session.holds": lambda *_: True})
async def test_a_session_of_a_lost_passkey_ends_when_that_is_taken_away(tmp_path: Path) -> None:
    phone = Authenticator(ORIGIN)
    async with office(tmp_path / "server") as made, pages_over(made, behind_proxy=True) as (url, _):
        await with_account(made)
        await add(made, url, NAME, phone)
        asked = await sign_in(url, **PUBLIC)
        form = {"ticket": ticket_in(asked), "next": "/admin/", **phone.used(challenge_in(asked))}
        thief = cookie_of(await ask_by_name(url, "/admin/sign-in/code", form))
        assert (await ask_by_name(url, "/admin/devices", cookie=thief)).status == 200
        await made.do("administrator passkey", name=NAME, remove="all", address=None)
        assert (await ask_by_name(url, "/admin/devices", cookie=thief)).status == 303
