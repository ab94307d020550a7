"""Who asks, where a declared proxy stands in front: whom it saw, whatever others wrote before."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from protocol.errors import NoAnswer
from protocol.messages.wire import SYNC_PATH
from sync_server.api import routes
from sync_server.api.asker import UNKNOWN, asker_by_proxy
from sync_server.api.routes import Traffic


@pytest.mark.parametrize(
    "lines",
    [
        ["192.0.2.7"],
        ["198.51.100.1, 192.0.2.7"],
        ["198.51.100.1", "192.0.2.7"],
        ["198.51.100.1", "198.51.100.2, 192.0.2.7"],
    ],
)
def test_the_last_address_of_the_last_line_is_the_one_that_the_proxy_saw(lines: list[str]) -> None:
    headers = CIMultiDict([("X-Forwarded-For", line) for line in lines])
    assert asker_by_proxy(make_mocked_request("GET", "/", headers)) == "192.0.2.7"


def test_a_proxy_that_names_nobody_leaves_unknown_who_asks() -> None:
    assert asker_by_proxy(make_mocked_request("GET", "/")) == UNKNOWN


async def test_one_bound_for_everybody_behind_a_silent_proxy_sends_nobody_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "MAX_REQUESTS_PER_ADDRESS", 0)
    traffic, told = Traffic(asker_by_proxy), []
    traffic.on_unknown = lambda: told.append(1)

    async def answered(_: web.Request) -> web.StreamResponse:
        return web.Response(text="yes")

    named = make_mocked_request("POST", SYNC_PATH, CIMultiDict({"X-Forwarded-For": "192.0.2.7"}))
    with pytest.raises(NoAnswer):
        await traffic.middleware(named, answered)
    assert told == []
    assert (await traffic.middleware(make_mocked_request("POST", SYNC_PATH), answered)).status == 200
    assert told == [1]
    assert traffic.idle.is_set()
