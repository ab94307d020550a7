"""Who had the server's keys was in between when an administrator signed in: that ends with the keys, all of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from protocol.model.entry import Entry, Kind
from protocol.model.structure import Grant, PersonRecord
from protocol.roles import PersonRole, Role
from sync_server.handlers.accounts.administrators import (
    ACCOUNT_MARKS,
    Administrator,
    add_administrator,
    folded,
    verifier_of,
)
from sync_server.handlers.accounts.factors import factors_of
from sync_server.handlers.accounts.second_factor import code_at, second_factor, set_second_factor
from sync_server.opened.app import Server
from sync_server.web.reception import Deed, Reception, Visit, What, form_of
from tests.attacks.test_words_that_look_alike import Theft, theft
from tests.harness.administration import NAME, ask, cookie_of, sign_in, ticket_in
from tests.harness.attack import attack
from tests.harness.fleet import PASSPHRASE, pages_over
from tests.harness.territory import new_device

ROW = "an administrator's sign-in that was heard by who had the server's key"
LIES_BARE = {"sync_server.handlers.accounts.second_factor.sealed": lambda _keys, _mark, plain, _entropy: plain}
"""What is sealed under the keys of before ends with them by itself, so that it would end a session as well."""
COUNTS_FOR_EVER = {
    "sync_server.handlers.accounts.administrators.Administrator.counts": lambda *_: True,
    **LIES_BARE,
}


@dataclass
class Heard:
    """Anne has signed in, and a thief in between has heard all of it; he has the disk, and has named a teacher."""

    theft: Theft
    url: str
    spy: bytes
    said: Entry
    secret: bytes
    cookie: str = field(default="")

    @property
    def server(self) -> Server:
        return self.theft.here.office.server

    async def sign_in(self) -> str:
        """The session that her passphrase and a code of the copied secret open; empty if none."""
        self.theft.here.office.clock.advance(60_000)
        step = await sign_in(self.url)
        code = code_at(self.secret, self.theft.here.office.clock() // 30_000)
        form = {"ticket": ticket_in(step), "code": code}
        let_in = await ask(self.url, "/admin/sign-in/code", method="POST", form=form, Origin=self.url)
        return cookie_of(let_in) if let_in.status == 303 else ""

    async def accept_his_own(self, cookie: str) -> None:
        form = {"say": "accept", "id": self.said.id.hex()}
        await ask(self.url, "/admin/waiting", method="POST", form=form, Origin=self.url, Cookie=cookie)

    def is_in(self) -> bool:
        """Whether his teacher is one by the word of the server as it is now."""
        server = self.server
        return any(one.author == server.keys.signing.public for one in server.replica.door.authorities_of(self.spy))


@asynccontextmanager
async def heard(folder: Path) -> AsyncIterator[Heard]:
    async with theft(folder) as found, pages_over(found.here.office) as (url, _):
        server, spy, person = found.here.office.server, new_device(os.urandom), os.urandom(16)
        await add_administrator(server, NAME, verifier_of(PASSPHRASE, bytes(16)))
        await set_second_factor(server, NAME)
        copied = await second_factor(server, NAME)
        assert copied is not None
        await found.says(Kind.PERSON, PersonRecord("M. X", PersonRole.TEACHER).encode(), person.hex())
        given = Grant(spy.signing.public, spy.agreement.public, spy.tls.fingerprint, Role.TEACHER, person, None)
        said = await found.says(Kind.GRANT, given.encode())
        listening = Heard(found, url, spy.signing.public, said, copied.secret)
        listening.cookie = await listening.sign_in()
        assert listening.cookie
        yield listening


@attack(ROW, off=COUNTS_FOR_EVER)
async def test_who_goes_on_in_a_session_of_before_accepts_nothing_in_the_new_servers_name(tmp_path: Path) -> None:
    async with heard(tmp_path) as found:
        await found.theft.is_found_out()
        await found.accept_his_own(found.cookie)
        assert not found.is_in()


@attack(ROW, off=COUNTS_FOR_EVER)
async def test_neither_passphrase_nor_second_factor_of_before_opens_the_pages(tmp_path: Path) -> None:
    async with heard(tmp_path) as found:
        await found.theft.is_found_out()
        await found.accept_his_own(await found.sign_in())
        assert not found.is_in()


NO_KEYS = property(lambda _server: ())
"""As if the store had had no key."""


@attack(ROW, off={"sync_server.opened.app.Server.own_keys": NO_KEYS, **LIES_BARE})
async def test_an_account_that_an_earlier_version_made_ends_with_the_first_keys(tmp_path: Path) -> None:
    async with heard(tmp_path) as found:
        before = Administrator(NAME, verifier_of(PASSPHRASE, bytes(16)), found.server.now_ms())
        await found.server.store.set_marks({ACCOUNT_MARKS + folded(NAME): before.encode()})
        assert await found.sign_in(), "until then it is what it was"
        await found.theft.is_found_out()
        await found.accept_his_own(await found.sign_in())
        assert not found.is_in()


def _asked_at_its_beginning(self: Reception, deed: Deed, _what: What) -> object:
    """What is done once its form has come, by who was signed in when it began."""

    async def done(visit: Visit) -> object:
        return await deed(visit, await form_of(visit.request))

    return self.private(done)  # type: ignore[arg-type]


@attack(ROW, off={"sync_server.web.reception.Reception.deed": _asked_at_its_beginning})
async def test_a_form_whose_end_is_held_back_until_there_are_new_keys_does_nothing(tmp_path: Path) -> None:
    async with heard(tmp_path) as found:
        at = urlsplit(found.url)
        body = urlencode({"say": "accept", "id": found.said.id.hex()}).encode()
        head = (
            f"POST /admin/waiting HTTP/1.1\r\nHost: {at.netloc}\r\nOrigin: {found.url}\r\nCookie: {found.cookie}\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n"
            "Expect: 100-continue\r\nConnection: close\r\n\r\n"
        )
        answers, line = await asyncio.open_connection(at.hostname, at.port)
        line.write(head.encode())
        assert b" 100 " in await answers.readline(), "it has begun"
        await found.theft.is_found_out()
        line.write(body)
        await answers.read()
        line.close()
        assert not found.is_in()


@attack(ROW, off={"sync_server.handlers.accounts.administrators._marks": lambda *_: ()})
async def test_an_account_that_is_made_anew_asks_for_nothing_that_was_copied(tmp_path: Path) -> None:
    async with heard(tmp_path) as found:
        await found.theft.is_found_out()
        await add_administrator(found.server, NAME, verifier_of("une autre phrase", bytes(16)))
        assert not (await factors_of(found.server, NAME)).are_asked_for
