"""A portal over an open agent, and a browser's way of asking it, without a browser: hosts, cookies, tokens, forms."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Final

from aiohttp import ClientSession, DummyCookieJar, FormData, TCPConnector
from yarl import URL

from sync_agent.app import Agent
from sync_agent.machine.addresses import Address
from sync_agent.machine.answerable import Answerable
from sync_agent.operations import table
from sync_agent.portal.site import serve_portal
from sync_agent.scheduler import Outcome
from tests.harness.patience import until

PAGE: Final = b"<!doctype html><meta charset=utf-8><h1>Eau</h1>"
LESSON: Final = {
    "index.html": PAGE,
    "images/Schema.png": b"\x89PNG" + bytes(range(256)) * 40,
    "texte.txt": "été".encode(),
}

_FORM_VALUE = re.compile(r'type="hidden" name="(token|once|draft|keep|seen|told)" value="([^"]+)"')
_LESSON = re.compile(r'"http://[0-9a-f]{32}\.localhost:(\d+)/')


def words_in(page: str) -> str:
    """What a page says, without what marks it up."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def said_in(page: bytes) -> str:
    """A page with its signs as they are read, and blanks that are ordinary ones."""
    return html.unescape(page.decode()).replace("\N{NO-BREAK SPACE}", " ").replace("\N{NARROW NO-BREAK SPACE}", " ")


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The page, with ordinary spaces."""
        return self.body.decode().replace("\N{NO-BREAK SPACE}", " ").replace("\N{NARROW NO-BREAK SPACE}", " ")


@dataclass
class Surfer:
    """Somebody at a portal: keeps cookies, sends what our forms hold."""

    session: ClientSession
    url: URL
    cookies: dict[str, str] = field(default_factory=dict)

    @property
    def authority(self) -> str:
        """The portal's host and port."""
        return self.url.authority

    @property
    def origin(self) -> str:
        """The portal's origin."""
        return f"http://{self.authority}"

    def cookie(self, name: str) -> str:
        """What a cookie of this portal alone is called."""
        return f"{name}-{self.url.port}"

    async def ask(self, method: str, path: str, data: object = None, **headers: str) -> Answer:
        """A request as it is, with the cookies; `_` in a header's name is `-`."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookies:
            given.setdefault("Cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items()))
        address = URL(f"http://{self.authority}{path}", encoded=True)
        async with self.session.request(method, address, data=data, headers=given, allow_redirects=False) as response:
            for line in response.headers.getall("Set-Cookie", []):
                for name, morsel in SimpleCookie(line).items():
                    self.cookies[name] = morsel.value
            return Answer(response.status, response.headers.copy(), await response.read())

    async def get(self, path: str, **headers: str) -> Answer:
        """A page."""
        return await self.ask("GET", path, **headers)

    async def page(self, path: str) -> str:
        """A page that must be there."""
        answer = await self.get(path)
        assert answer.status == 200, (path, answer.status, answer.text)
        return answer.text

    async def until(self, path: str, words: str) -> None:
        """Return when the page says so: a file has been saved a moment before its receipt is written."""

        async def says_so() -> bool:
            return words in await self.page(path)

        await until(says_so)

    async def hidden(self, path: str) -> dict[str, str]:
        """The hidden fields of the forms on a page."""
        return dict(_FORM_VALUE.findall(await self.page(path)))

    async def send(
        self, page: str, action: str, fields: Mapping[str, str], files: list[tuple[str, bytes]] | None = None
    ) -> Answer:
        """Fill in the form on `page` and send it, with files as one that has a field for them."""
        form = FormData(quote_fields=False, default_to_multipart=files is not None)
        for name, value in {**await self.hidden(page), **fields}.items():
            form.add_field(name, value)
        for name, data in files or []:
            form.add_field("files", data, filename=name, content_type="application/octet-stream")
        return await self.ask("POST", action, form, Origin=self.origin)

    async def lesson(self, item: str, path: str = "/", method: str = "GET", **headers: str) -> Answer:
        """A file at an item's own origin."""
        found = _LESSON.search(await self.page(f"/item/{item}"))
        assert found is not None
        given = {"Host": f"{item[:32]}.localhost:{found[1]}", **headers}
        given = {name.replace("_", "-"): value for name, value in given.items()}
        address = URL(f"http://127.0.0.1:{found[1]}{path}", encoded=True)
        async with self.session.request(method, address, headers=given, allow_redirects=False) as response:
            return Answer(response.status, response.headers.copy(), await response.read())


@asynccontextmanager
async def portal(
    agent: Agent,
    outcome: Outcome | None = Outcome.DONE,
    answerable: Answerable | None = None,
    *,
    clock_s: Callable[[], float] | None = None,
) -> AsyncIterator[Surfer]:
    """The portal of an agent while the context lasts; `clock_s` is by which sessions end."""
    serving = serve_portal(
        agent,
        table(agent),
        Address("127.0.0.1", 0),
        lambda: outcome,
        grace_s=1.0,
        clock_s=clock_s,
        answerable=answerable,
    )
    async with (
        serving as url,
        ClientSession(connector=TCPConnector(force_close=True), cookie_jar=DummyCookieJar()) as session,
    ):
        yield Surfer(session, URL(url))
