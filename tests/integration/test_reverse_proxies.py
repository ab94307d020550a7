"""The configurations of deploy/proxy, in Debian's own nginx and Caddy: what agents and administrators need passes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from urllib.parse import urlencode, urlsplit

import pytest
import pytest_asyncio

from protocol.limits import MAX_PACK_BYTES, MiB
from protocol.messages.calls import SyncRequest
from protocol.messages.wire import SYNC_PATH
from protocol.replica.answering.listeners import Listener
from protocol.replica.answering.serving import Responder
from sync_agent.app import Agent
from sync_agent.network.settings import Network
from sync_agent.sync.session import Session
from sync_agent.transport.over_http import HttpTransport
from sync_server.handlers.accounts.administrators import add_administrator, verifier_of
from sync_server.web.signing_in import FREE_FAILURES
from tests.harness.certificates import Authority
from tests.harness.commands import Desk
from tests.harness.fleet import ADMINISTRATOR, PASSPHRASE, pages_over
from tests.harness.office_way import enrol_by
from tests.harness.patience import PATIENCE_S
from tests.harness.raw_device import Answer, RawDevice, http_call
from tests.harness.reverse_proxies import PROXIES, PROXY_FOLDER, running
from tests.harness.server_in_process import Office, office

pytestmark = pytest.mark.asyncio(loop_scope="module")

LARGE = Random(1).randbytes(9 * MiB)


@dataclass
class Front:
    """A server behind a proxy, and how agents reach it."""

    made: Office
    url: str
    network: Network
    folder: Path

    async def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await asyncio.to_thread(partial(http_call, self.url, method, path, body, named))

    async def enrolled(self, name: str, role: str) -> Agent:
        """An agent that has enrolled through the proxy."""
        person = await self.made.add_person("Mme Petit", "teacher") if role == "teacher" else None
        code = await self.made.invite(role, person=person)
        await enrol_by(self.made, self.folder / name, self.url, code, self.network)
        return await Agent.open(self.folder / name, now_ms=self.made.clock, entropy=os.urandom)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=list(PROXIES))
async def front(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Front]:
    folder = tmp_path_factory.mktemp(request.param)
    authority = Authority("Autorité publique", folder)
    certificate, key = authority.files(folder, "localhost")
    network = Network(authorities=authority.file.read_text())
    async with (
        office(folder / "server") as made,
        # what is counted while somebody guesses must not depend on how quick this machine is
        pages_over(made, behind_proxy=True, clock_s=lambda: 0.0) as (inner, _),
        running(request.param, folder / "proxy", inner, certificate, key) as url,
    ):
        yield Front(made, url, network, folder)


async def test_large_content_goes_up_and_comes_down_in_ranges(front: Front) -> None:
    teacher = await front.enrolled("teacher", "teacher")
    up, down = HttpTransport(front.url, front.network), HttpTransport(front.url, front.network)
    machine: Agent | None = None
    try:
        await Desk(teacher).publish({"video.mp4": LARGE}, space=front.made.space, title="Film", kind="lesson")
        await Session(teacher, up).sync()
        machine = await front.enrolled("machine", "machine")
        down._range_size.most = MiB
        await Session(machine, down).sync()
        (item,) = await Desk(machine).ask("items")
        assert item["complete"]
    finally:
        for opened in (up, down, teacher, machine):
            if opened is not None:
                await opened.close()


@pytest.mark.parametrize("pushed", [True, False], ids=["websocket", "long-polling"])
async def test_news_passes_at_once(front: Front, pushed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    listens = asyncio.Event()
    listener = Responder.listener

    def listening(self: Responder, text: str) -> Listener:
        listens.set()
        return listener(self, text)

    monkeypatch.setattr(Responder, "listener", listening)
    device = RawDevice(front.url)
    await asyncio.to_thread(device.enroll, await front.made.invite("machine"))
    answer = await asyncio.to_thread(device.sync, SyncRequest(live=True))
    assert answer.live is not None
    transport = HttpTransport(front.url, front.network)
    try:
        async with aclosing(transport.listen(answer.live, pushed=pushed)) as line:
            if pushed:
                assert await anext(line) is False, "the line stands"
                await front.made.add_person("Léa", "pupil")
                assert await anext(line) is True
            else:
                asked = asyncio.ensure_future(anext(line))
                await listens.wait()
                await front.made.add_person("Tom", "pupil")
                assert await asked is True
    finally:
        await transport.close()


async def test_a_body_is_passed_on_as_it_comes(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = asyncio.Event()
    monkeypatch.setattr("protocol.replica.http.bodies._check_plain", lambda _: heard.set())
    async with head_sent(front, SYNC_PATH, 5_000_000), asyncio.timeout(PATIENCE_S):
        await heard.wait()


@pytest.mark.parametrize(
    ("name", "bound"), [("nginx.conf", "client_max_body_size 72m"), ("Caddyfile", "max_size 72MB")]
)
async def test_a_pack_of_the_largest_size_is_let_through(name: str, bound: str) -> None:
    assert bound in (PROXY_FOLDER / name).read_text()
    assert MAX_PACK_BYTES < 72_000_000


@asynccontextmanager
async def head_sent(front: Front, path: str, length: int) -> AsyncIterator[asyncio.StreamReader]:
    """A request whose head has been sent, and two bytes of a body of this length."""
    parts = urlsplit(front.url)
    context = front.network.trusting()
    reader, writer = await asyncio.open_connection("127.0.0.1", parts.port, ssl=context, server_hostname="localhost")
    try:
        head = f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {length}\r\n\r\nxx"
        writer.write(head.encode())
        yield reader
    finally:
        writer.close()
        with suppress(OSError):  # whoever is cut off in the middle of a body does not say goodbye
            await writer.wait_closed()


async def test_browsers_are_bound_to_tls_and_calls_of_agents_bear_no_word_of_it(front: Front) -> None:
    bound = [
        (await front.ask(method, path)).headers.get("strict-transport-security")
        for method, path in (("GET", "/admin/sign-in"), ("GET", "/metrics"), ("POST", SYNC_PATH))
    ]
    assert bound == ["max-age=31536000", "max-age=31536000", None]


async def test_what_is_for_the_inside_stays_there(front: Front) -> None:
    assert (await front.ask("GET", "/livez")).status == 200
    for path in ("/metrics", "/readyz"):
        answer = await front.ask("GET", path)
        assert answer.status == 404
        assert b"relais_" not in answer.body


async def test_an_administrator_signs_in_and_who_guesses_cannot_change_address(front: Front) -> None:
    await add_administrator(front.made.server, ADMINISTRATOR, verifier_of(PASSPHRASE, os.urandom(16)))

    async def sign_in(name: str, passphrase: str, claimed: str) -> int:
        form = urlencode({"name": name, "passphrase": passphrase}).encode()
        headers = {"Origin": front.url, "X-Forwarded-For": claimed}
        return (await front.ask("POST", "/admin/sign-in", form, **headers)).status

    assert await sign_in(ADMINISTRATOR, PASSPHRASE, "203.0.113.1") == 303
    guesses = [await sign_in(f"guess {number}", "x" * 12, f"203.0.113.{number}") for number in range(FREE_FAILURES + 1)]
    assert guesses == [403] * FREE_FAILURES + [429]
