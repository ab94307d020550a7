"""What strangers on the school's network may try, and whoever has a PC of the class (docs/attacks.md)."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from random import Random

import pytest

from protocol.identity import SigningKey
from protocol.limits import MAX_NEIGHBOURS
from sync_agent.lan.finding.announcement import State, hint_text, placed_text, sealed
from sync_agent.lan.finding.mdns_messages import Instance, answer, instances
from sync_agent.lan.finding.neighbourhood import Neighbourhood
from sync_agent.machine.addresses import Address
from tests.harness.attack import attack


def announced(secret: bytes, random: Random) -> tuple[str, bytes]:
    """A device's name, and what it announces."""
    name = random.randbytes(8).hex()
    noise = random.randbytes(56)
    text = hint_text([secret], name, random.randbytes(16), noise, State(reaches_server=True))
    return name, answer(Instance(name, 8001, None, text))


@attack(
    "strangers crowd out the neighbours", off={"sync_agent.lan.finding.mdns.Discovery._make_room": lambda *_: False}
)
async def test_however_many_strangers_announce_themselves_a_member_of_the_school_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sync_agent.lan.finding.mdns.MAX_KNOWN", 4)
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


@attack("a stranger announces a machine elsewhere", off={"protocol.messages.introduction.Place.context": b""})
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


@attack(
    "a stranger announces a machine elsewhere",
    off={"sync_agent.lan.finding.announcement.Members.replaces": lambda *_: True},
)
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


@attack(
    "a stranger announces a machine elsewhere",
    off={"sync_agent.lan.finding.announcement.Members.takes_back": lambda *_: True},
)
async def test_nobody_says_goodbye_in_a_neighbours_name() -> None:
    here, other = machine(1), machine(2)
    message = said_by(other)
    here._discovery.datagram_received(message, (HERE, 5353))
    here._discovery.datagram_received(repeated(message, ttl_s=0), (HERE, 5353))
    assert where(here) == {f"{HERE}:8002"}
    other._leave()
    here._discovery.datagram_received(repeated(said_by(other), ttl_s=0), (HERE, 5353))
    assert not where(here)


MEMBER = "a member announces a neighbour elsewhere"


def forged(victim: Neighbourhood, host: str, state: State, ttl_s: int = 120) -> bytes:
    """What another machine of the class, which has its secret, says in a neighbour's name, with a key of its own."""
    address = ipaddress.ip_address(host)
    plain = Instance(victim.name, victim._port, address, b"", ttl_s)
    text = placed_text([SECRET], plain, address, bytes(16), bytes(56), state, 1_000_000)
    return answer(sealed(replace(plain, txt=text), address, SigningKey(bytes(32))))


def copied(message: bytes, original: bytes) -> bytes:
    """The same with the seal of another announcement."""
    (told,), (whole,) = instances(message), instances(original)
    return answer(replace(told, seal=whole.seal))


@attack(MEMBER, off={"sync_agent.lan.finding.announcement.is_by_its_name": lambda *_: True})
async def test_a_classmates_pc_leads_nobody_who_looks_for_a_neighbour_elsewhere() -> None:
    here, other = machine(1), machine(2)
    false = forged(other, ELSEWHERE, State(reaches_server=True))
    for message in (false, said_by(other), false, copied(false, said_by(other))):
        here._discovery.datagram_received(message, (ELSEWHERE, 5353))
    assert where(here) == {f"{HERE}:8002"}


@attack(MEMBER, off={"sync_agent.lan.finding.announcement.is_by_its_name": lambda *_: True})
async def test_a_classmates_pc_neither_ends_nor_changes_what_a_neighbour_says() -> None:
    here, other = machine(1), machine(2)
    here._discovery.datagram_received(said_by(other), (HERE, 5353))
    here._discovery.datagram_received(forged(other, HERE, State(leaves=True), ttl_s=0), (HERE, 5353))
    assert where(here) == {f"{HERE}:8002"}
    here._discovery.datagram_received(forged(other, HERE, State(reaches_server=True)), (HERE, 5353))
    (member,) = here.members().values()
    assert not member.reaches_server


def crowd(here: Neighbourhood, count: int) -> list[Address]:
    """Machines of the class are announced that there are not, each by a name and a key of its own."""
    found = []
    for number in range(count):
        false = machine(100 + number, ELSEWHERE)
        here._discovery.datagram_received(said_by(false), (ELSEWHERE, 5353))
        found.append(Address(ELSEWHERE, false._port))
    return found


@attack(
    "a member announces machines that there are not",
    off={"sync_agent.lan.finding.neighbourhood.Neighbourhood._silent": lambda *_: set()},
)
async def test_however_many_machines_a_classmates_pc_invents_some_are_called_that_answer() -> None:
    here, others = machine(1), [machine(2 + number) for number in range(3)]
    for other in others:
        here._discovery.datagram_received(said_by(other), (HERE, 5353))
    false = set(crowd(here, 60))
    called: set[Address] = set()
    here.gone = lambda: called & false
    for _ in false:
        called = set(here.chosen())
    assert len(called & {Address(HERE, other._port) for other in others}) >= 2, "one before it and one after it"
    assert len(called) <= 2 * MAX_NEIGHBOURS
