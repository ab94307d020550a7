"""HOST:PORT, and what only this machine may reach."""

from __future__ import annotations

import pytest

from protocol.errors import BadInput, Code
from sync_agent.machine.addresses import Address, address_of, loopback_address_of


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


@pytest.mark.parametrize(
    "given",
    ["192.168..1.12:8443", f"{'x' * 64}.fr:80", "a\0b:80", "\ud800:80", f"pc:{'1' * 5_000}", "[]]:9", "a b:80", ".:1"],
)
def test_what_nobody_can_be_asked_for_at_is_refused_before_anybody_is(given: str) -> None:
    with pytest.raises(BadInput) as raised:
        address_of(given, "peer add")
    assert raised.value.code is Code.USAGE


@pytest.mark.parametrize(
    "given", ["10.0.0.12:8443", "[fe80::1%eth0]:8443", "pc-12.local:80", "école.example:443", "relais_1:1"]
)
def test_addresses_and_names_of_machines_are_taken(given: str) -> None:
    assert address_of(given, "peer add").authority == given
