"""Members are recognised by the secrets that are known now, however often they were looked at before."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

from sync_agent.lan.finding.announcement import MAX_JUDGED, Members, State, placed_text
from sync_agent.lan.finding.mdns import Found
from sync_agent.lan.finding.mdns_messages import Instance
from sync_agent.machine.addresses import Address

CLASS, SECRET = b"class", bytes(range(32))


def announced(name: str = "ab", port: int = 8_000) -> Found:
    """A machine of the class at its place."""
    plain = Instance(name, port, ipaddress.ip_address("10.0.0.7"), b"")
    assert plain.address is not None
    text = placed_text([SECRET], plain, plain.address, bytes(16), bytes(56), State(), 1)
    return Found(replace(plain, txt=text), Address("10.0.0.7", port), 0.0)


def test_a_machine_is_recognised_once_its_class_is_known_and_no_more_once_it_is_not() -> None:
    secrets: dict[bytes, bytes] = {}
    members, found = Members(lambda: secrets), announced()
    assert members.shown(found) is None
    secrets[SECRET] = CLASS
    shown = members.shown(found)
    assert shown is not None
    assert shown.spaces == {CLASS}
    del secrets[SECRET]
    assert members.shown(found) is None


def test_what_is_repeated_from_elsewhere_is_a_strangers_though_the_original_was_just_recognised() -> None:
    members, found = Members(lambda: {SECRET: CLASS}), announced()
    assert members.shown(found) is not None
    assert members.shown(replace(found, address=Address("10.0.0.8", 8_000))) is None


def test_whoever_floods_the_network_with_announcements_fills_no_memory() -> None:
    members = Members(lambda: {SECRET: CLASS})
    for port in range(1, 2 * MAX_JUDGED):
        members.shown(Found(Instance("x", port, None, b"r=junk"), Address("10.0.0.9", port), 0.0))
        assert len(members._judged) <= MAX_JUDGED
    assert members.shown(announced()) is not None
