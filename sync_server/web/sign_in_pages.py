"""How administrators sign in and out, and the passkeys of their accounts.

Rules:
- a passphrase first, then a code or a passkey where the account has one;
- every try is counted before it is judged, under the browser where the account knows it, else under name and address;
- a right passphrase is not counted where a second step follows, and codes have a count of their own: who waits as the
  page says gets in (docs/adr/0269);
- an unknown name costs as much time as a known one;
- who has signed in, and who could not, stands in this server's trail (docs/adr/0418): of a name that no account has
  nothing does, it may be a passphrase that was typed in the wrong place;
- where nothing can be written any more who signs in is let in all the same: it is here that people read of a full disk;
- browsers that the account knows have a queue of their own, which strangers with many addresses cannot fill.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final

from aiohttp import web

from protocol.errors import LocalFailure
from protocol.replica.at_work.replica import Entropy
from sync_server.handlers.accounts.administrators import UNKNOWN_VERIFIER, Administrator, administrator, folded, opens
from sync_server.handlers.accounts.factors import Factors, factors_of
from sync_server.handlers.accounts.passkeys import Passkey, add_passkey, keyring, use_passkey
from sync_server.handlers.accounts.second_factor import second_factor, use_second_factor
from sync_server.handlers.accounts.webauthn import as_base64url
from sync_server.opened.app import Server
from sync_server.web import addresses
from sync_server.web.acts_shown import ADD_PASSKEY, SIGN_IN, by_account
from sync_server.web.known_browsers import known_as, token_for
from sync_server.web.passkey_forms import asked_of, assertion_in, birth_in, label_in
from sync_server.web.reception import Form, Reception, Visit, form_of, leads_to
from sync_server.web.signing_in import CODES, Throttle, Tickets

_log = logging.getLogger(__name__)

SIGN_INS_AT_ONCE: Final = 2
KNOWN_SIGN_INS_AT_ONCE: Final = 1
MAX_WAITING_SIGN_INS: Final = 16
HANDLE_BYTES: Final = 16


class _Queue:
    """Those whose passphrases are being proven, and those who wait for that."""

    def __init__(self, at_once: int) -> None:
        self._proving = asyncio.Semaphore(at_once)
        self._waiting = 0

    @property
    def is_full(self) -> bool:
        return self._waiting >= MAX_WAITING_SIGN_INS

    async def proven(self, verifier: str, passphrase: str) -> bool:
        """Whether the passphrase is the one, when its turn has come."""
        self._waiting += 1
        try:
            async with self._proving:
                return await asyncio.to_thread(opens, verifier, passphrase)
        finally:
            self._waiting -= 1


class SignInPages:
    """The pages by which one server's administrators come in. `clock_s` is a monotonic clock."""

    def __init__(self, server: Server, reception: Reception, *, entropy: Entropy, clock_s: Callable[[], float]) -> None:
        self._server = server
        self._reception = reception
        self._entropy = entropy
        self._tickets = Tickets(entropy, clock_s)
        self._passphrases = Throttle(clock_s)
        self._codes = Throttle(clock_s, CODES)
        self._of_strangers = _Queue(SIGN_INS_AT_ONCE)
        self._of_known = _Queue(KNOWN_SIGN_INS_AT_ONCE)

    def add_to(self, app: web.Application) -> None:
        """Let the listener serve these pages."""
        add, add_post = app.router.add_get, app.router.add_post
        public, private, deed = self._reception.public, self._reception.private, self._reception.deed
        add(addresses.SIGN_IN, public(self._sign_in_form))
        add_post(addresses.SIGN_IN, public(self._sign_in))
        add_post(addresses.SECOND_STEP, public(self._second_step))
        add_post(addresses.SIGN_OUT, public(self._sign_out))
        add(addresses.PASSKEYS, private(self._passkeys))
        add_post(addresses.PASSKEYS, deed(self._add_passkey, lambda _request, _form: (ADD_PASSKEY, "")))

    async def _sign_in_form(self, visit: Visit) -> web.StreamResponse:
        asked = visit.request.query
        if visit.session is not None:
            return leads_to(addresses.own_address(asked.get("next")))
        said = visit.words("sign_in.done") if "done" in asked else None
        return self._sign_in_page(visit, addresses.own_address(asked.get("next")), said=said)

    async def _sign_in(self, visit: Visit) -> web.StreamResponse:
        form = await form_of(visit.request)
        onward = addresses.own_address(form.get("next"))
        name = form.get("name", "")
        account = await administrator(self._server, name)
        who = self._counted_as(visit, name, account)
        wait_s = self._passphrases.wait_s(who)
        queue = self._queue_of(visit, account)
        if wait_s > 0 or queue.is_full:
            return self._wait_page(visit, onward, name, wait_s)
        # counted before anything else happens, so that many attempts at once are not all free
        counted = self._passphrases.failed(who)
        proven = await queue.proven(
            UNKNOWN_VERIFIER if account is None else account.verifier, form.get("passphrase", "")
        )
        if account is None or not proven:
            _log.warning("a sign-in to the administrators' pages failed, from %s", who[-1])
            await self._note_failed(account, "passphrase")
            wrong = visit.words("sign_in.wrong")
            return self._sign_in_page(visit, onward, name=name, wrong=wrong, status=HTTPStatus.FORBIDDEN)
        factors = await factors_of(self._server, account.name)
        if factors.are_asked_for:
            self._passphrases.take_back(counted)
            return await self._ask_more(visit, onward, account, self._tickets.begin(account, who))
        return await self._let_in(visit, onward, account, factors, who, "passphrase")

    async def _second_step(self, visit: Visit) -> web.StreamResponse:
        """A code or a passkey, after the passphrase. Failures make the next one wait, as wrong passphrases do."""
        form = await form_of(visit.request)
        onward, ticket = addresses.own_address(form.get("next")), form.get("ticket", "")
        account = self._tickets.whose(ticket)
        if account is None or not await self._reception.is_current(account):
            gone = visit.words("second.gone")
            return self._sign_in_page(visit, onward, wrong=gone, status=HTTPStatus.FORBIDDEN)
        who = self._counted_as(visit, account.name, account)
        if self._codes.wait_s(who) > 0:
            return await self._ask_more(visit, onward, account, ticket)
        self._tickets.use(ticket)
        self._codes.failed(who)
        # looked up before: who shows a factor that is being taken away is not let in by those that are left
        factors = await factors_of(self._server, account.name)
        by_passkey = "signature" in form
        if by_passkey:
            challenge = self._tickets.take_challenge(ticket)
            assertion = assertion_in(form)
            proven = challenge is not None and await use_passkey(self._server, account.name, assertion, challenge)
        else:
            proven = await use_second_factor(self._server, account.name, form.get("code", ""))
        by = "passkey" if by_passkey else "code"
        if not proven:
            await self._note_failed(account, by)
            _log.warning("a second factor at sign-in to the administrators' pages was wrong, from %s", who[-1])
            wrong = visit.words("second.wrong_passkey" if by_passkey else "second.wrong")
            return await self._ask_more(visit, onward, account, ticket, wrong=wrong)
        self._tickets.end(ticket)
        return await self._let_in(visit, onward, account, factors, who, f"passphrase, {by}")

    def _counted_as(self, visit: Visit, name: str, account: Administrator | None) -> tuple[str, ...]:
        """Under what tries are counted: the browser, where the account has signed in before; else name and address."""
        known = self._known_as(visit, account)
        if known is not None:
            return (f"browser {known}",)
        return (f"name {folded(name)}", f"address {self._reception.door.address_of(visit.request)}")

    def _queue_of(self, visit: Visit, account: Administrator | None) -> _Queue:
        return self._of_strangers if self._known_as(visit, account) is None else self._of_known

    def _known_as(self, visit: Visit, account: Administrator | None) -> str | None:
        cookie = visit.request.cookies.get(self._reception.door.known_cookie)
        return known_as(cookie, account, self._server.keys.signing.seed)

    async def _let_in(
        self, visit: Visit, onward: str, account: Administrator, factors: Factors, who: tuple[str, ...], by: str
    ) -> web.StreamResponse:
        if not self._server.acts.has_enough_of(name := by_account(account.name)):
            with _told_where_it_fails():
                await self._server.acts.note(SIGN_IN, name, by)
        self._passphrases.succeeded(who)
        self._codes.succeeded(who)
        self._reception.sessions.end(visit.request.cookies.get(self._reception.door.cookie))
        response = leads_to(onward)
        self._reception.door.set_known(response, token_for(account, self._server.keys.signing.seed, self._entropy))
        self._reception.door.set_cookie(response, self._reception.sessions.begin(account, factors))
        return response

    async def _note_failed(self, account: Administrator | None, by: str) -> None:
        with _told_where_it_fails():
            await self._server.acts.note_failed_sign_in(by_account(None if account is None else account.name), by)

    async def _ask_more(
        self, visit: Visit, onward: str, account: Administrator, ticket: str, *, wrong: str | None = None
    ) -> web.StreamResponse:
        """The second step's page, with how long to wait; where that outlasts the ticket, the first step's."""
        wait_s = self._codes.wait_s(self._counted_as(visit, account.name, account))
        if wait_s > 0 and wait_s > self._tickets.left_s(ticket):
            self._tickets.end(ticket)
            return self._wait_page(visit, onward, account.name, wait_s, wrong=wrong)
        if wait_s > 0:
            said = " ".join(filter(None, (wrong, _told_to_wait(visit, wait_s))))
            status = HTTPStatus.TOO_MANY_REQUESTS if wrong is None else HTTPStatus.FORBIDDEN
            return _retry_after(await self._code_page(visit, onward, account, ticket, said, status), wait_s)
        status = HTTPStatus.OK if wrong is None else HTTPStatus.FORBIDDEN
        return await self._code_page(visit, onward, account, ticket, wrong, status)

    async def _code_page(
        self, visit: Visit, onward: str, account: Administrator, ticket: str, wrong: str | None, status: HTTPStatus
    ) -> web.StreamResponse:
        keys = await self._keys_of(account)
        return self._reception.html(
            visit,
            "second_step.html",
            "second.title",
            status=status,
            onward=onward,
            ticket=ticket,
            wrong=wrong,
            codes=await second_factor(self._server, account.name) is not None,
            keys=asked_of(keys),
            challenge=as_base64url(self._tickets.challenge(ticket) or b"") if keys else "",
        )

    async def _keys_of(self, account: Administrator) -> tuple[Passkey, ...]:
        return (await keyring(self._server, account.name)).keys

    async def _passkeys(
        self, visit: Visit, wrong: str | None = None, status: HTTPStatus = HTTPStatus.OK
    ) -> web.StreamResponse:
        """The account's passkeys, and the form that adds one."""
        session = visit.signed_in
        ring = await keyring(self._server, session.account.name)
        return self._reception.html(
            visit,
            "passkeys.html",
            "passkey.title",
            status=status,
            rows=ring.keys,
            open=bool(ring.code_hash) and self._server.now_ms() < ring.until_ms,
            keys=asked_of(ring.keys),
            challenge=as_base64url(self._reception.sessions.challenge(session)),
            handle=as_base64url(self._entropy(HANDLE_BYTES)),
            said=visit.words("passkey.added") if "added" in visit.request.query else None,
            wrong=wrong,
        )

    async def _add_passkey(self, visit: Visit, form: Form) -> web.StreamResponse:
        """A passkey that the browser has made, with the code that allows it. Wrong ones count as at sign-in."""
        session = visit.signed_in
        who = (f"passkey {folded(session.account.name)}", f"address {self._reception.door.address_of(visit.request)}")
        if self._codes.wait_s(who) > 0:
            return await self._passkeys(visit, visit.words("passkey.wait"), HTTPStatus.TOO_MANY_REQUESTS)
        self._codes.failed(who)
        challenge = self._reception.sessions.take_challenge(session)
        made = None
        if challenge is not None:
            typed, label = form.get("code", ""), label_in(form, visit.words("passkey.unnamed"))
            made = await add_passkey(self._server, session.account, typed, label, birth_in(form), challenge)
        if made is None:
            _log.warning("a passkey was not added to an administrator's account, from %s", who[1])
            return await self._passkeys(visit, visit.words("passkey.wrong"), HTTPStatus.FORBIDDEN)
        self._codes.succeeded(who)
        # the others end by themselves: they were opened with less than the account asks for from now on
        session.factors = session.factors.with_passkey(made)
        return leads_to(f"{addresses.PASSKEYS}?added=1")

    async def _sign_out(self, visit: Visit) -> web.StreamResponse:
        self._reception.sessions.end(visit.request.cookies.get(self._reception.door.cookie))
        response = leads_to(f"{addresses.SIGN_IN}?done=1")
        self._reception.door.drop_cookie(response)
        return response

    def _wait_page(
        self, visit: Visit, onward: str, name: str, wait_s: float, *, wrong: str | None = None
    ) -> web.StreamResponse:
        said = " ".join(filter(None, (wrong, _told_to_wait(visit, wait_s))))
        status = HTTPStatus.TOO_MANY_REQUESTS
        return _retry_after(self._sign_in_page(visit, onward, name=name, wrong=said, status=status), wait_s)

    def _sign_in_page(
        self,
        visit: Visit,
        onward: str,
        *,
        name: str = "",
        said: str | None = None,
        wrong: str | None = None,
        status: HTTPStatus = HTTPStatus.OK,
    ) -> web.StreamResponse:
        return self._reception.html(
            visit, "sign_in.html", "sign_in.title", status=status, onward=onward, name=name, said=said, wrong=wrong
        )


@contextmanager
def _told_where_it_fails() -> Iterator[None]:
    try:
        yield
    except LocalFailure as failure:
        _log.error("a sign-in to the administrators' pages could not be noted: %s", failure)


def _whole(wait_s: float) -> int:
    """A wait as it is told: never shorter than it is."""
    return max(int(wait_s) + 1, 2)


def _told_to_wait(visit: Visit, wait_s: float) -> str:
    words, told_s = visit.words, _whole(wait_s)
    whole_minutes_ms = math.ceil(told_s / 60) * 60_000
    span = words("sign_in.seconds", n=told_s) if told_s < 60 else words.span(whole_minutes_ms)  # noqa: PLR2004
    return words("sign_in.wait", span=span)


def _retry_after(response: web.StreamResponse, wait_s: float) -> web.StreamResponse:
    response.headers["Retry-After"] = str(_whole(wait_s))
    return response
