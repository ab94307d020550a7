"""Who asks, where a declared proxy stands in front: whom it saw, whatever others wrote before."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from sync_server.api.asker import asker_by_proxy


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
