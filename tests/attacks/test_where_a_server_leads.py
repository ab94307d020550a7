"""A server in wrong hands has the machines of a school ask addresses of the school's own network (docs/attacks.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urljoin

import aiohttp
from aiohttp import web

from protocol.errors import NoAnswer, RelaisError
from sync_agent.transport.over_http import HttpTransport
from tests.harness.attack import attack

ROW = "a server that sends machines elsewhere"
NO_ADDRESSES = ("http://[::1", "//[", "https://℀.example/", "https://a..b/", f"https://{'a' * 300}.example/")


def anywhere(_home: str, address: str, answer: aiohttp.ClientResponse) -> str | None:
    place = answer.headers.get("Location")
    return None if place is None else urljoin(address, place)


@asynccontextmanager
async def serving(application: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@attack(ROW, off={"sync_agent.transport.over_http.further": anywhere})
async def test_nobody_is_sent_to_a_box_of_the_schools_network() -> None:
    asked: list[str] = []

    async def box(request: web.Request) -> web.Response:
        asked.append(request.path_qs)
        return web.Response(text="restarting")

    inside = web.Application()
    inside.router.add_get("/{any:.*}", box)
    async with serving(inside) as box_url:

        async def elsewhere(_request: web.Request) -> web.Response:
            raise web.HTTPFound(f"{box_url}/admin?restart=now")

        server = web.Application()
        server.router.add_get("/{any:.*}", elsewhere)
        async with serving(server) as url:
            transport = HttpTransport(url)
            try:
                with suppress(RelaisError):
                    _ = [piece async for piece in transport.fetch("capability", 0)]
            finally:
                await transport.close()
    assert not asked


async def test_a_cache_under_the_servers_own_name_is_followed() -> None:
    async def here(_request: web.Request) -> web.Response:
        raise web.HTTPFound("/cache/pack")

    async def cached(_request: web.Request) -> web.Response:
        return web.Response(body=b"content")

    server = web.Application()
    server.router.add_get("/v1/packs/capability", here)
    server.router.add_get("/cache/pack", cached)
    async with serving(server) as url:
        transport = HttpTransport(url)
        try:
            assert b"".join([piece async for piece in transport.fetch("capability", 0)]) == b"content"
        finally:
            await transport.close()


@attack(ROW, off={"sync_agent.transport.over_http.further": anywhere})
async def test_what_is_no_address_is_a_strangers_answer_and_ends_nothing_else() -> None:
    places = iter(NO_ADDRESSES)

    async def nowhere(_request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": next(places)})

    server = web.Application()
    server.router.add_get("/{any:.*}", nowhere)
    async with serving(server) as url:
        transport = HttpTransport(url)
        try:
            told = [await _told_in_fetching(transport) for _ in NO_ADDRESSES]
        finally:
            await transport.close()
    assert told == [NoAnswer] * len(NO_ADDRESSES)


async def _told_in_fetching(transport: HttpTransport) -> type[Exception] | None:
    try:
        _ = [piece async for piece in transport.fetch("capability", 0)]
    except Exception as error:  # noqa: BLE001  (an error that nobody foresaw, too)
        return type(error)
    return None
