"""What strangers on the school's network may try (docs/threat-model.md)."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from random import Random

import pytest

from sync_agent.announcement import State, hint_text
from sync_agent.mdns_messages import Instance, answer, instances
from sync_agent.neighbourhood import Neighbourhood
from tests.harness.attack import attack


def announced(secret: bytes, random: Random) -> tuple[str, bytes]:
    """A device's name, and what it announces."""
    name = random.randbytes(8).hex()
    noise = random.randbytes(56)
    text = hint_text([secret], name, random.randbytes(16), noise, State(reaches_server=True))
    return name, answer(Instance(name, 8001, None, text))


@attack("strangers crowd out the neighbours", off={"sync_agent.mdns.Discovery._make_room": lambda *_: False})
async def test_however_many_strangers_announce_themselves_a_member_of_the_school_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sync_agent.mdns.MAX_KNOWN", 4)
    random, secret = Random(1), bytes([1]) * 32
    place = Neighbourhood(lambda: {secret: b"class"}, bytes(32), random.randbytes, lambda: None)
    place._port = 8000
    for _ in range(8):
        place._discovery.datagram_received(announced(random.randbytes(32), random)[1], ("192.168.1.9", 5353))
    name, message = announced(secret, random)
    place._discovery.datagram_received(message, ("192.168.1.10", 5353))
    for _ in range(8):
        place._discovery.datagram_received(announced(random.randbytes(32), random)[1], ("192.168.1.9", 5353))
    assert list(place.members()) == [name]
    assert len(place._discovery.found()) == 4


HERE, ELSEWHERE = "192.168.1.10", "192.168.1.66"
SECRET = bytes([1]) * 32


def machine(number: int, host: str = HERE) -> Neighbourhood:
    """A machine of the class, as it stands at an address."""
    place = Neighbourhood(lambda: {SECRET: b"class"}, bytes([number]) * 32, Random(number).randbytes, lambda: None)
    place._port = 8000 + number
    place._address = ipaddress.ip_address(host)
    return place


def said_by(place: Neighbourhood) -> bytes:
    return answer(place._instance())


def repeated(message: bytes, **otherwise: object) -> bytes:
    """What a stranger makes of an announcement that he has heard."""
    (told,) = instances(message)
    return answer(replace(told, **otherwise))  # type: ignore[arg-type]  # whatever the test says


def where(place: Neighbourhood) -> set[str]:
    return {member.address.authority for member in place.members().values()}


@attack("a stranger announces a machine elsewhere", off={"protocol.introduction.Place.context": b""})
async def test_what_is_repeated_from_another_address_or_port_leads_nobody_there() -> None:
    here, other = machine(1), machine(2)
    message = said_by(other)
    for false in (
        repeated(message, address=ipaddress.ip_address(ELSEWHERE)),
        repeated(message, address=None),
        repeated(message, port=9),
    ):
        here._discovery.datagram_received(false, (ELSEWHERE, 5353))
    here._discovery.datagram_received(message, (HERE, 5353))
    assert where(here) == {f"{HERE}:8002"}


@attack("a stranger announces a machine elsewhere", off={"sync_agent.announcement.Members.replaces": lambda *_: True})
async def test_neither_junk_nor_an_older_word_takes_the_place_of_what_a_neighbour_says() -> None:
    here, other = machine(1), machine(2)
    other.reached_server()
    earlier = said_by(other)
    other.lost_server()
    here._discovery.datagram_received(said_by(other), (HERE, 5353))
    for false in (earlier, repeated(earlier, txt=b""), repeated(earlier, txt=b"r=\0\0" + bytes(24))):
        here._discovery.datagram_received(false, (HERE, 5353))
        (member,) = here.members().values()
        assert not member.reaches_server


@attack("a stranger announces a machine elsewhere", off={"sync_agent.announcement.Members.takes_back": lambda *_: True})
async def test_nobody_says_goodbye_in_a_neighbours_name() -> None:
    here, other = machine(1), machine(2)
    message = said_by(other)
    here._discovery.datagram_received(message, (HERE, 5353))
    here._discovery.datagram_received(repeated(message, ttl_s=0), (HERE, 5353))
    assert where(here) == {f"{HERE}:8002"}
    other._leave()
    here._discovery.datagram_received(repeated(said_by(other), ttl_s=0), (HERE, 5353))
    assert not where(here)
