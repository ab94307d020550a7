"""School networks between an agent and its server: what is passed through, what is named, what is survived."""

# ruff: noqa: ARG002  (a resolver is given more than it needs)

from __future__ import annotations

import asyncio
import gc
import socket
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from protocol.errors import Code, NoAnswer, PeerFault
from protocol.messages.wire import ENROLL_PATH
from sync_agent.health import LastSync
from sync_agent.network.proxies import Wish, wish_of
from sync_agent.network.settings import Network
from sync_agent.network.trouble import WORDS, Seen, Trouble, seen_in
from sync_agent.transport import http_parts
from sync_agent.transport import over_http as http_transport
from sync_agent.transport.over_http import HttpTransport
from tests.harness.classroom import Classroom, classroom
from tests.harness.line import Line, shut
from tests.harness.middlebox import PORTAL_HOST
from tests.harness.patience import until
from tests.harness.weather import (
    CAPTIVE,
    CLEAR,
    DOWN,
    INSPECTOR,
    SERVER_NAME,
    Portal,
    Relay,
    Shown,
    Weather,
    impairing_relay,
)
from tests.harness.wire import serve


@dataclass
class Place:
    """A class whose server is reached over the relay."""

    room: Classroom
    relay: Relay
    opened: list[HttpTransport] = field(default_factory=list)

    def way(self, url: str, wish: Wish | None = None, ca: Path | None = None) -> HttpTransport:
        """A way to `url`; closed at the end."""
        network = Network(wish or Wish(), None if ca is None else ca.read_text())
        self.opened.append(HttpTransport(url, network))
        return self.opened[-1]

    def proxied(self, *, login: str = "", ca: Path | None = None, url: str | None = None) -> HttpTransport:
        """A way through the proxy to the server's name, by TLS unless `url` says otherwise."""
        proxy = self.relay.proxy_url.replace("//", f"//{login}")
        return self.way(url or self.relay.named_secure_url, wish_of(proxy), ca or self.relay.ca_file)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with classroom(tmp_path) as room, serve(room.frontage) as url:
        with impairing_relay(url, tmp_path / "relay") as relay:
            found = Place(room, relay)
            yield found
            for transport in found.opened:
                await transport.close()


async def refusal(transport: HttpTransport) -> Seen:
    """What stands between `transport` and the server."""
    with pytest.raises(NoAnswer) as raised:
        await transport.post(ENROLL_PATH, b"")
    assert raised.value.exit_status == 3
    seen = seen_in(raised.value)
    assert seen is not None
    return seen


async def passes(transport: HttpTransport) -> bool:
    return (await transport.post(ENROLL_PATH, b"")).is_ours


# --- proxies ----------------------------------------------------------------------------------------------------------


async def test_a_proxy_is_passed_in_clear_and_by_tunnel(place: Place) -> None:
    assert await passes(place.proxied(url=place.relay.named_url))
    assert await passes(place.proxied())
    by_proxy = [line for line in place.relay.seen if "://" in line or line.startswith("CONNECT")]
    assert by_proxy == [f"POST {place.relay.named_url}{ENROLL_PATH}", f"CONNECT {SERVER_NAME}:443"]


@pytest.mark.parametrize("secure", [True, False])
async def test_a_proxy_that_asks_for_a_password_is_given_it_or_named(place: Place, secure: bool) -> None:
    url = place.relay.named_secure_url if secure else place.relay.named_url
    place.relay.weather = Weather(login="prof:sésame ouvre")
    assert await passes(place.proxied(login="prof:s%C3%A9same%20ouvre@", url=url))
    assert (await refusal(place.proxied(url=url))).trouble is Trouble.PROXY_SIGN_IN
    assert (await refusal(place.proxied(login="prof:faux@", url=url))).trouble is Trouble.PROXY_PASSWORD
    place.relay.weather = Weather(login="a:b", schemes=("Negotiate", "NTLM"))
    seen = await refusal(place.proxied(login="a:b@", url=url))
    assert seen.trouble is Trouble.PROXY_METHOD
    assert "NTLM" in seen.sentence()
    assert SERVER_NAME in seen.remedy(url)


async def test_a_proxy_that_lets_nobody_through_is_named(place: Place) -> None:
    place.relay.weather = Weather(refuses_connect=403)
    seen = await refusal(place.proxied())
    assert seen == Seen(Trouble.PROXY_REFUSES, place.relay.proxy_url.removeprefix("http://"))


async def test_a_script_leads_to_the_proxy(place: Place, tmp_path: Path) -> None:
    script = tmp_path / "proxy.pac"
    there = place.relay.proxy_url.removeprefix("http://")
    script.write_text(f'function FindProxyForURL(u, h) {{ return "PROXY 127.0.0.1:9; PROXY {there}"; }}')
    transport = place.way(place.relay.named_url, wish_of(f"pac+{script}"))
    with suppress(NoAnswer):
        await transport.post(ENROLL_PATH, b"")
    script.write_text(f'function FindProxyForURL(u, h) {{ return "PROXY {there}"; }}')
    assert await passes(transport)


async def test_a_proxy_of_the_systems_that_is_gone_is_passed_by_and_one_given_by_hand_is_not(place: Place) -> None:
    gone = "http://127.0.0.1:9"
    assert (await refusal(place.way(place.relay.url, wish_of(gone)))).trouble is Trouble.PROXY_GONE
    names = Names({SERVER_NAME: "127.0.0.1"})
    port = place.relay.url.rpartition(":")[2]
    network = Network(environment={"http_proxy": gone})
    transport = HttpTransport(f"http://{SERVER_NAME}:{port}", network, resolver=lambda: names)
    place.opened.append(transport)
    assert await passes(transport)


# --- who answers in the server's place --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weather", "seen"),
    [
        (CAPTIVE, Seen(Trouble.SIGN_IN, PORTAL_HOST)),
        (Weather(portal=Portal.PAGE), Seen(Trouble.SIGN_IN, "Wi-Fi gratuit")),
        (Weather(portal=Portal.STATUS_511), Seen(Trouble.SIGN_IN, "Wi-Fi gratuit")),
        (Weather(portal=Portal.REDIRECT, shows=Shown.PORTAL), Seen(Trouble.SIGN_IN, PORTAL_HOST)),
        (Weather(refuses_connect=302), Seen(Trouble.SIGN_IN, PORTAL_HOST)),
        (Weather(refuses_connect=511), Seen(Trouble.SIGN_IN, "")),
        (Weather(blocks=True), Seen(Trouble.BLOCKED, "Web filter")),
        (Weather(inspects=True), Seen(Trouble.INSPECTED, INSPECTOR)),
        (Weather(shows=Shown.INSPECTOR), Seen(Trouble.INSPECTED, INSPECTOR)),
        (Weather(shows=Shown.OTHER_NAME), Seen(Trouble.CERTIFICATE, "else.example.test")),
    ],
)
async def test_whoever_answers_in_the_servers_place_is_named(place: Place, weather: Weather, seen: Seen) -> None:
    place.relay.weather = weather
    transport = place.proxied()
    assert await refusal(transport) == seen
    place.relay.weather = CLEAR
    assert await passes(transport), "it goes on by itself"


@pytest.mark.parametrize(
    ("weather", "trouble"),
    [(CAPTIVE, Trouble.SIGN_IN), (Weather(blocks=True), Trouble.BLOCKED), (DOWN, Trouble.NO_SERVER)],
)
async def test_the_same_holds_without_a_proxy(place: Place, weather: Weather, trouble: Trouble) -> None:
    transport = place.way(place.relay.url)
    assert await passes(transport)
    place.relay.weather = weather
    assert (await refusal(transport)).trouble is trouble
    place.relay.weather = CLEAR
    assert await passes(transport)


async def test_a_school_that_opens_tls_is_passed_once_its_certificate_is_given(place: Place) -> None:
    place.relay.weather = Weather(inspects=True)
    assert await passes(place.proxied(ca=place.relay.inspector_file))


async def test_a_certificate_that_a_wrong_clock_takes_for_expired_is_no_reason_to_refuse(place: Place) -> None:
    place.relay.weather = Weather(shows=Shown.EXPIRED)
    assert await passes(place.way(place.relay.secure_url, ca=place.relay.ca_file))


def test_every_trouble_has_words_and_a_remedy_that_read_well_without_particulars() -> None:
    assert set(WORDS) == set(Trouble)
    for trouble in Trouble:
        seen = Seen(trouble)
        for text in (seen.sentence(), seen.remedy("https://relais.example.org")):
            assert text
            assert not {"{", "}", "()", "“”"} & {text[i : i + n] for i in range(len(text)) for n in (1, 2)}, text


# --- boxes that meddle ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "weather",
    [
        Weather(holds=True),
        Weather(strips=("Content-Type",)),
        Weather(strips=("Server", "Date", "User-Agent")),
        Weather(latency_s=0.05, bytes_per_s=2_000_000),
    ],
)
async def test_a_sync_passes_boxes_that_hold_strip_and_slow(place: Place, weather: Weather) -> None:
    place.relay.weather = weather
    place.room.way = lambda _: place.way(place.relay.url)
    teacher, machine = await place.room.teacher(), await place.room.machine()
    film = {"film.mp4": Random(5).randbytes(150_000)}
    item = (await place.room.publish(teacher, film)).item
    for device in (teacher, machine):
        await device.session.sync()
    assert await machine.files(item) == film


@pytest.mark.parametrize("weather", [Weather(rewrites=True), Weather(caches=True)])
async def test_answers_that_were_changed_or_kept_on_the_way_are_refused_and_named(
    place: Place, weather: Weather
) -> None:
    place.room.way = lambda _: place.way(place.relay.url)
    machine = await place.room.machine()
    await machine.session.sync()
    place.relay.weather = weather
    if weather.caches:
        await machine.session.sync()
    with pytest.raises(PeerFault) as raised:
        await machine.session.sync()
    assert raised.value.code is Code.BAD_SEAL
    assert "changed on the way" in raised.value.message
    last = await LastSync.read(machine.agent.replica.store)
    assert last is not None
    assert last.seen == Seen(Trouble.ALTERED)
    place.relay.weather = CLEAR
    await machine.session.sync()
    last = await LastSync.read(machine.agent.replica.store)
    assert last is not None
    assert last.seen is None


async def test_content_that_a_scanner_holds_for_too_long_comes_in_smaller_parts(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.room.way = lambda _: place.way(place.relay.url)
    teacher, machine = await place.room.teacher(), await place.room.machine()
    film = {"film.mp4": Random(5).randbytes(400_000)}
    item = (await place.room.publish(teacher, film)).item
    await teacher.session.sync()
    place.relay.weather = Weather(holds=True, scans_per_s=600_000)
    # only now: what comes at once may come late on a busy machine
    monkeypatch.setattr(http_transport, "READ_IDLE_S", 0.4)
    monkeypatch.setattr(http_parts, "_FIRST_RANGE_BYTES", 262_144)
    for _ in range(40):
        with suppress(NoAnswer):
            await machine.session.sync()
            break
    assert await machine.files(item) == film


async def test_a_line_that_stands_still_or_crawls_ends_in_a_named_failure_and_goes_on_after(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_transport, "READ_IDLE_S", 1.0)
    monkeypatch.setattr(http_transport, "SEND_IDLE_S", 2.0)
    transport = place.way(place.relay.url)
    assert await passes(transport)
    for weather in (Weather(stalls=True), Weather(bytes_per_s=20)):
        place.relay.weather = weather
        assert (await refusal(transport)).trouble is Trouble.STALLED
    with pytest.raises(NoAnswer):
        await transport.post(ENROLL_PATH, bytes(300_000))
    place.relay.weather = CLEAR
    assert await passes(transport)


# --- names ------------------------------------------------------------------------------------------------------------


class Names(AbstractResolver):
    """What the network answers for names; a name that is not here is not known."""

    def __init__(self, places: dict[str, str]) -> None:
        self.places = places

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        if host not in self.places:
            raise OSError(None, "the name is not known")
        address = self.places[host]
        return [ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None:
        return


@asynccontextmanager
async def page_at(host: str, port: int, media: str, body: bytes) -> AsyncIterator[None]:
    """What answers everything with the same."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {media}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head.encode() + body)
            writer.close()
            await writer.wait_closed()
        except EOFError:
            pass
        finally:
            writer.transport.abort()

    async with await asyncio.start_server(answer, host, port):
        yield


async def test_a_name_that_is_answered_wrongly_or_not_at_all_leads_to_where_the_server_was(place: Place) -> None:
    port = int(place.relay.url.rpartition(":")[2])
    names = Names({SERVER_NAME: "127.0.0.1"})
    transport = HttpTransport(f"http://{SERVER_NAME}:{port}", resolver=lambda: names)
    place.opened.append(transport)
    assert await passes(transport)
    async with page_at("127.0.0.2", port, "text/html", b"<title>Portail</title>"):
        names.places[SERVER_NAME] = "127.0.0.2"
        await transport.renew()
        assert await refusal(transport) == Seen(Trouble.SIGN_IN, "Portail")
        assert await passes(transport)
    names.places.clear()
    await transport.renew()
    assert await passes(transport)
    fresh = HttpTransport(f"http://{SERVER_NAME}:{port}", resolver=lambda: names)
    place.opened.append(fresh)
    assert (await refusal(fresh)).trouble is Trouble.NAME_UNKNOWN


async def test_a_network_with_ipv6_only_is_one_like_others(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room, serve(room.frontage) as url:
        with impairing_relay(url, tmp_path / "relay", host="::1") as relay:
            for transport in (
                HttpTransport(relay.url),
                HttpTransport(relay.secure_url, Network(authorities=relay.ca_file.read_text())),
                HttpTransport(relay.named_url, Network(wish_of(relay.proxy_url))),
            ):
                assert await passes(transport)
                await transport.close()


# --- the relay itself -------------------------------------------------------------------------------------------------


def test_a_relay_that_ends_while_machines_call_leaves_nothing_open(tmp_path: Path) -> None:
    with impairing_relay("http://127.0.0.1:9", tmp_path) as relay:
        calling = [socket.create_connection(("127.0.0.1", urlsplit(relay.url).port or 0)) for _ in range(20)]
    with warnings.catch_warnings(record=True) as left_open:
        warnings.simplefilter("always")
        gc.collect()
    assert not left_open
    for call in calling:
        with suppress(ConnectionResetError):
            assert call.recv(1) == b""
        call.close()


async def test_a_line_that_ends_twice_in_a_row_leaves_nothing_open() -> None:
    async def listens(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.transport.abort()

    with warnings.catch_warnings(record=True) as left_open:
        warnings.simplefilter("always")
        server = await asyncio.start_server(listens, "127.0.0.1", 0)
        line = Line(server.sockets[0].getsockname()[1])
        await line.change(CLEAR)
        calling = [await asyncio.open_connection("127.0.0.1", line.port) for _ in range(8)]
        for _, writer in calling:
            writer.write(b"x")
        await until(lambda: line.passed["up"] == len(calling))
        await line.change(DOWN)
        await asyncio.sleep(0)
        await line.close()
        for reader, writer in calling:
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.transport.abort()
        await shut(server)
        gc.collect()
    assert not left_open
