"""Where others reach the listener, readiness and figures are for this machine; else for who asks its address."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from sync_server.api.health import Health
from sync_server.metrics import Family

HERE = ("192.0.2.7", 8443)


class Between(asyncio.Transport):
    """A connection from `peer` to the listener."""

    def __init__(self, peer: tuple[str, int] | None) -> None:
        super().__init__({"peername": peer, "sockname": HERE})


async def _ready() -> dict[str, str]:
    return {}


async def _families(*, per_device: bool) -> list[Family]:
    assert not per_device
    return []


@pytest.mark.parametrize(
    ("peer", "inside_only", "told"),
    [
        (("192.0.2.9", 1), True, False),
        (("2001:db8::1", 1), True, False),
        (None, True, False),
        (HERE, True, True),
        (("127.0.0.1", 1), True, True),
        (("192.0.2.9", 1), False, True),
    ],
)
async def test_figures_are_for_this_machine(peer: tuple[str, int] | None, inside_only: bool, told: bool) -> None:
    health = Health(_ready, _families, inside_only=inside_only)
    for path, page in (("/metrics", health.metrics), ("/readyz", health.ready)):
        request = make_mocked_request("GET", path, transport=Between(peer))
        if told:
            assert (await page(request)).status == 200
        else:
            with pytest.raises(web.HTTPNotFound):
                await page(request)
    request = make_mocked_request("GET", "/livez", transport=Between(peer))
    assert (await health.live(request)).status == 200


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("evil.example", False),
        ("evil.example:8080", False),
        ("127.0.0.1.evil.example", False),
        ("[::1", False),
        ("localhost:8080", True),
        ("127.0.0.1:8080", True),
        ("[::1]:8080", True),
        ("192.0.2.7:8080", True),
    ],
)
async def test_a_page_whose_name_was_made_to_lead_here_reads_no_figures(host: str, told: bool) -> None:
    health = Health(_ready, _families, by_address=True)
    for path, page in (("/metrics", health.metrics), ("/readyz", health.ready)):
        request = make_mocked_request("GET", path, headers={"Host": host}, transport=Between(HERE))
        if told:
            assert (await page(request)).status == 200
        else:
            with pytest.raises(web.HTTPMisdirectedRequest):
                await page(request)
    request = make_mocked_request("GET", "/livez", headers={"Host": host}, transport=Between(HERE))
    assert (await health.live(request)).status == 200
