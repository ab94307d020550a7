"""HOST:PORT, and what only this machine may reach."""

from __future__ import annotations

import pytest

from protocol.errors import BadInput, Code
from sync_agent.addresses import Address, loopback_address_of


@pytest.mark.parametrize(
    ("given", "address", "authority"),
    [
        ("127.0.0.1:8090", Address("127.0.0.1", 8090), "127.0.0.1:8090"),
        ("127.1.2.3:0", Address("127.1.2.3", 0), "127.1.2.3:0"),
        ("localhost:80", Address("127.0.0.1", 80), "127.0.0.1:80"),
        ("[::1]:8090", Address("::1", 8090), "[::1]:8090"),
    ],
)
def test_a_loopback_address_is_taken(given: str, address: Address, authority: str) -> None:
    found = loopback_address_of(given, "--portal")
    assert (found, found.authority) == (address, authority)


@pytest.mark.parametrize("given", ["0.0.0.0:80", "[::]:80", "192.168.1.2:80", "relais.example.org:80"])
def test_what_others_can_reach_is_refused(given: str) -> None:
    with pytest.raises(BadInput) as raised:
        loopback_address_of(given, "--portal")
    assert (raised.value.code, raised.value.exit_status) == (Code.NOT_LOOPBACK, 2)
    assert "--portal" in str(raised.value)


@pytest.mark.parametrize("given", ["", "8090", ":8090", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:65536", "::1:80", "a b"])
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(BadInput) as raised:
        loopback_address_of(given, "--portal")
    assert raised.value.code is Code.USAGE
