"""TLS of the server: its own certificate, an official one, one that is renewed; and what agents make of each."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from protocol.errors import BadInput, Code, NoAnswer, Refused
from protocol.identity import AgreementKey, SigningKey
from protocol.messages.enrollment import parse_chain
from protocol.messages.wire import SYNC_PATH
from protocol.replica.http.tls import OfficialCertificate
from protocol.trust.kit import Kit
from protocol.trust.server_tls import Binding
from sync_agent.app import Agent
from sync_agent.network.proxies import Proxy
from sync_agent.network.settings import Network
from sync_agent.network.trouble import Trouble, seen_in
from sync_agent.sync.session import Session
from sync_agent.transport.answers import Response
from sync_agent.transport.over_http import HttpTransport
from sync_agent.transport.sealed_calls import newest_server
from sync_server.handlers.by_kit.rotation import rotate_server
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.certificates import Authority
from tests.harness.fleet import pages_over
from tests.harness.machines import Machine
from tests.harness.office_way import enrol_by, sync_by
from tests.harness.patience import PATIENCE_S
from tests.harness.raw_device import http_call
from tests.harness.server_in_process import Office, office, rotate_root


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Office]:
    async with office(tmp_path / "server") as opened:
        yield opened


async def test_a_device_enrols_and_syncs_with_nothing_but_the_code_and_the_address(
    made: Office, tmp_path: Path
) -> None:
    code = await made.invite("machine")
    async with pages_over(made, tls=True) as (url, _):
        assert url.startswith("https://")
        enrolled = await enrol_by(made, tmp_path / "a", url, code)
        assert [space.hex() for space in enrolled.spaces] == [made.space]
        assert (await sync_by(made, tmp_path / "a", url)).round_trips == 1


async def test_a_code_of_another_territory_opens_nothing_and_is_told_so(made: Office, tmp_path: Path) -> None:
    async with office(tmp_path / "other") as other, pages_over(made, tls=True) as (url, _):
        with pytest.raises(Refused) as raised:
            await enrol_by(other, tmp_path / "a", url, await other.invite("machine"))
    assert raised.value.code is Code.WRONG_TERRITORY
    assert not (tmp_path / "a").exists(), "the device has not even made keys"


async def test_an_official_certificate_counts_and_agents_follow_from_one_kind_to_the_other(
    made: Office, tmp_path: Path
) -> None:
    authority = Authority("Autorité publique", tmp_path)
    certificate, key = authority.files(tmp_path, "localhost")
    trusts = Network(authorities=authority.file.read_text())
    async with pages_over(made, tls_cert=certificate, tls_key=key) as (url, _):
        port = urlsplit(url).port
        named = f"https://localhost:{port}"
        await enrol_by(made, tmp_path / "a", named, await made.invite("machine"), trusts)
        await sync_by(made, tmp_path / "a", named, trusts)
        with pytest.raises(NoAnswer) as raised:
            await sync_by(made, tmp_path / "a", named)
        seen = seen_in(raised.value)
        assert seen is not None
        assert (seen.trouble, seen.about) == (Trouble.INSPECTED, "Autorité publique")
        with pytest.raises(NoAnswer):
            await sync_by(made, tmp_path / "a", url, trusts)
    async with pages_over(made, tls=True) as (url, _):
        await sync_by(made, tmp_path / "a", url, trusts)


@pytest.mark.parametrize("kind", ["official", "own", "behind a proxy"])
async def test_only_an_official_certificate_binds_browsers_to_tls_and_calls_of_agents_bear_no_word_of_it(
    made: Office, tmp_path: Path, kind: str
) -> None:
    authority = Authority("Autorité publique", tmp_path)
    certificate, key = authority.files(tmp_path, "localhost")
    ways: dict[str, dict[str, Any]] = {
        "official": {"tls_cert": certificate, "tls_key": key},
        "own": {"tls": True},
        "behind a proxy": {"behind_proxy": True},
    }
    async with pages_over(made, **ways[kind]) as (url, _):
        bound = []
        for method, path in (("GET", "/admin/"), ("GET", "/"), ("POST", SYNC_PATH)):
            answer = await asyncio.to_thread(http_call, url, method, path)
            bound.append("strict-transport-security" in answer.headers)
    is_bound = kind == "official"
    assert bound == [is_bound, is_bound, False]


class FailsTogether(HttpTransport):
    """A way on which two calls learn in the same moment that a certificate does not hold."""

    def __init__(self, url: str, network: Network) -> None:
        super().__init__(url, network)
        self.meeting = asyncio.Barrier(2)

    async def _post_twice(self, proxy: Proxy | None, path: str, body: bytes) -> Response:
        try:
            return await super()._post_twice(proxy, path, body)
        except aiohttp.ClientConnectorCertificateError:
            await self.meeting.wait()
            raise


async def test_two_calls_that_find_an_official_certificate_at_once_both_follow(made: Office, tmp_path: Path) -> None:
    authority = Authority("Autorité publique", tmp_path)
    certificate, key = authority.files(tmp_path, "localhost")
    async with pages_over(made, tls_cert=certificate, tls_key=key) as (url, _):
        way = FailsTogether(f"https://localhost:{urlsplit(url).port}", Network(authorities=authority.file.read_text()))
        way.hold_to(lambda _: False)
        try:
            async with asyncio.timeout(PATIENCE_S):
                answers = await asyncio.gather(*(way.post(SYNC_PATH, b"") for _ in range(2)))
            assert answers[0].status == answers[1].status
        finally:
            await way.close()


async def connected(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A caller without a server's name, who checks nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    parts = urlsplit(url)
    return await asyncio.open_connection(parts.hostname, parts.port, ssl=context)


async def shown_at(url: str) -> bytes:
    """The certificate that such a caller is shown."""
    _, writer = await connected(url)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    assert isinstance(shown, bytes)
    return shown


async def test_a_renewed_certificate_is_shown_from_then_on_and_half_of_one_is_not(
    made: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed: list[OfficialCertificate] = []

    async def follow(self: OfficialCertificate) -> None:
        followed.append(self)

    monkeypatch.setattr(OfficialCertificate, "follow", follow)
    authority = Authority("Autorité publique", tmp_path)
    certificate, key = authority.files(tmp_path, "localhost")
    async with pages_over(made, tls_cert=certificate, tls_key=key) as (url, _):
        first = await shown_at(url)
        (official,) = followed
        assert not official.look(), "nothing has changed"
        new = tmp_path / "new"
        new.mkdir()
        new_certificate, new_key = authority.files(new, "localhost")
        shutil.copy(new_certificate, certificate)
        assert not official.look()
        assert await shown_at(url) == first, "a certificate without its key changes nothing"
        shutil.copy(new_key, key)
        assert official.look()
        second = await shown_at(url)
        assert second != first
        await asyncio.to_thread(Path(certificate).unlink)
        assert not official.look()
        assert await shown_at(url) == second


async def rotate(made: Office, rotated: str) -> None:
    """New keys for the server, or another root, a moment later."""
    kit = kit_in(made.server.folder / "kit", None)
    new = Kit("Cher", SigningKey(os.urandom(32)), AgreementKey(os.urandom(32)), b"", kit.root.public)
    made.clock.advance(1_000)
    await (rotate_server(made.server, kit) if rotated == "server" else rotate_root(made.server, kit, new))


@pytest.mark.parametrize("rotated", ["server", "root"])
async def test_after_a_rotation_the_running_server_shows_a_new_certificate_and_cuts_no_connection(
    made: Office, tmp_path: Path, rotated: str
) -> None:
    async with pages_over(made, tls=True) as (url, _):
        before = await shown_at(url)
        reader, writer = await connected(url)
        await rotate(made, rotated)
        after = await shown_at(url)
        binding = Binding.shown_in(after)
        assert binding is not None
        certificates = {entry.id for entry in parse_chain(binding.chain)}
        assert made.server.grant in certificates, "the newest one"
        assert after != before
        writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200"), "a connection from before lives on"
        writer.close()
        await enrol_by(made, tmp_path / "a", url, await made.invite("machine"))
        await sync_by(made, tmp_path / "a", url)


@pytest.mark.parametrize("rotated", ["server", "root"])
async def test_a_machine_goes_on_through_a_rotation_on_the_way_that_it_has(
    made: Office, tmp_path: Path, rotated: str
) -> None:
    async with pages_over(made, tls=True) as (url, _):
        await enrol_by(made, tmp_path / "a", url, await made.invite("machine"))
        agent = await Agent.open(tmp_path / "a", now_ms=made.clock, entropy=os.urandom)
        way = HttpTransport(url)
        session = Session(agent, way)
        await session.sync()
        await rotate(made, rotated)
        await session.sync()
        newest = await newest_server(agent.replica)
        assert newest is not None
        assert newest[0].grant == made.server.grant
        assert (await session.sync()).round_trips == 1
        await way.close()
        await agent.close()


def test_what_is_no_certificate_with_its_key_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    certificate, key = (Path(path) for path in Authority("A", tmp_path).files(tmp_path, "localhost"))
    for wrong, code in (
        ((tmp_path / "none", key), Code.MISSING_FILE),
        ((tmp_path, key), Code.UNREADABLE_FILE),
        ((key, key), Code.USAGE),
        ((certificate, certificate), Code.USAGE),
    ):
        with pytest.raises(BadInput) as raised:
            OfficialCertificate(*wrong)
        assert raised.value.code is code


async def test_what_is_no_call_carries_the_headers_that_browsers_need(made: Office) -> None:
    async with pages_over(made, tls=True) as (url, _):
        for path in ("/livez", "/", "/nowhere", "/admin/sign-in"):
            answer = await asyncio.to_thread(http_call, url, "GET", path)
            assert answer.headers["x-content-type-options"] == "nosniff", path
            assert "default-src 'none'" in answer.headers["content-security-policy"], path
        call = await asyncio.to_thread(http_call, url, "POST", "/v1/enroll", b"")
        assert set(call.headers) == {"content-type", "content-length"}, "a call's answer costs few bytes"


def test_who_asks_a_server_on_loopback_for_a_secure_connection_is_told_that_it_speaks_plainly(tmp_path: Path) -> None:
    server = Machine("server", tmp_path / "server", "sync-server")
    server.ok("init", "--name", "Cher", "--kit", str(tmp_path / "kit"))
    space = server.ok("space", "add", "CM1", "--school", "0180001D")["space"]
    code = server.ok("invite", "--role", "machine", "--space", space)["code"]
    try:
        url = server.start("--listen", "127.0.0.1:0").rpartition(" ")[2]
        agent = Machine("Renard", tmp_path / "agent", "sync-agent")
        secure = agent.run("enroll", "--server", url.replace("http://", "https://"), "--code", code)
        assert (secure.status, "certificate" in secure.err) == (3, False)
        assert f"what answers there speaks plain HTTP ({url})" in secure.err
        assert f"give the address with http:// ({url})" in secure.err
        assert "the code is still good" in secure.err
        assert agent.ok("enroll", "--server", url, "--code", code)["spaces"] == [space]
    finally:
        if server.daemon is not None:
            server.kill()


def test_the_programs_speak_tls_by_themselves(tmp_path: Path) -> None:
    server = Machine("server", tmp_path / "server", "sync-server")
    server.ok("init", "--name", "Cher", "--kit", str(tmp_path / "kit"))
    space = server.ok("space", "add", "CM1", "--school", "0180001D")["space"]
    code = server.ok("invite", "--role", "machine", "--space", space)["code"]
    try:
        url = server.start("--listen", "127.0.0.1:0", "--tls").rpartition(" ")[2]
        agent = Machine("Renard", tmp_path / "agent", "sync-agent")
        plain = agent.run("enroll", "--server", url.replace("https://", "http://"), "--code", code, "--name", "Renard")
        assert plain.status == 3
        assert f"try https:// ({url})" in plain.err
        assert "the code is still good" in plain.err
        assert "enrolled already" not in plain.err, "nobody is yet"
        enrolled = agent.ok("enroll", "--server", url, "--code", code, "--name", "Renard")
        assert enrolled["spaces"] == [space]
        assert enrolled["fingerprint"] == server.ok("status")["fingerprint"] == agent.ok("status")["fingerprint"]
        assert "SHA-256" in server.log.read_text(), "what a browser shows can be compared"
    finally:
        if server.daemon is not None:
            server.kill()
