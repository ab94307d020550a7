"""Devices find each other by multicast: real datagrams on loopback, random names, so that tests do not meet."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from protocol.errors import Code
from protocol.replica.process.unforeseen import Unforeseen
from sync_agent.lan import school_lan
from sync_agent.lan.exchange.meeting import secrets_of
from sync_agent.lan.finding import mdns, multicast
from sync_agent.lan.finding.announcement import Member, Members, State, hint_text, member_of, placed_text
from sync_agent.lan.finding.mdns import Discovery
from sync_agent.lan.finding.mdns_messages import Instance, answer
from sync_agent.lan.finding.multicast import own_address, shown_address
from sync_agent.lan.finding.neighbourhood import LOOKS_APART, Neighbourhood
from sync_agent.lan.school_lan import Lan
from sync_agent.machine.addresses import Address
from sync_agent.machine.marks import NEIGHBOURS_MARK
from sync_agent.sync.electing import Found, Stage
from tests.harness import patience
from tests.harness.classroom import classroom
from tests.harness.lan import listening_device


class Place:
    """A device that announces itself on loopback, as one that stands at `host`."""

    def __init__(self, number: int, secrets: list[bytes], host: str = "127.0.0.1") -> None:
        self.name, self.secrets, self.count = os.urandom(8).hex(), secrets, 0
        self.changed = asyncio.Event()
        self.plain = Instance(self.name, 8000 + number, ipaddress.ip_address(host), b"")
        self.says(State(reaches_server=number == 1))
        members = Members(lambda: dict.fromkeys(secrets, b"class"))
        self.discovery = Discovery(self.name, lambda: self.instance, self.changed.set, members)

    def says(self, state: State) -> None:
        assert self.plain.address is not None
        self.count += 1
        noise = os.urandom(-len(self.secrets) % 8 * 8)
        text = placed_text(self.secrets, self.plain, self.plain.address, os.urandom(16), noise, state, self.count)
        self.instance = replace(self.plain, txt=text)

    def heard(self) -> dict[str, mdns.Found]:
        return {found.instance.name: found for found in self.discovery.found()}


async def until(place: Place, holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(patience.PATIENCE_S):
        while not holds():
            await place.changed.wait()
            place.changed.clear()


async def test_members_of_a_class_find_each_other_and_strangers_see_noise() -> None:
    secret, other = os.urandom(32), os.urandom(32)
    one, two, stranger = Place(1, [secret, os.urandom(32)]), Place(2, [secret]), Place(3, [other])
    async with AsyncExitStack() as stack:
        for place in (one, two, stranger):
            await stack.enter_async_context(place.discovery.open("127.0.0.1"))
        await until(two, lambda: {one.name, stranger.name} <= two.heard().keys())
        found = two.heard()
        member = member_of(found[one.name].instance, found[one.name].address, {secret: b"class"})
        assert member is not None
        assert (member.address, member.spaces, member.reaches_server) == (
            Address("127.0.0.1", 8001),
            frozenset({b"class"}),
            True,
        )
        assert member_of(found[stranger.name].instance, found[stranger.name].address, {secret: b"class"}) is None
        await patience.until(lambda: two.discovery.heard_itself)


async def test_a_clone_is_known_by_its_announcement_to_its_twin_alone() -> None:
    secret, key, other_key = os.urandom(32), os.urandom(32), os.urandom(32)
    clone = Place(1, [key, secret], "192.168.1.9")
    for own, address in ((key, {Address("192.168.1.9", 8001)}), (other_key, set())):
        place = Neighbourhood(lambda: {secret: b"class"}, own, Random(1).randbytes, lambda: None)
        async with place.open("https://127.0.0.1:8095", "127.0.0.1", Unforeseen(int)):
            place._discovery.datagram_received(answer(clone.instance), ("192.168.1.9", 5353))
            assert place.members().keys() == {clone.name}
            assert place.twins() == address


async def test_who_says_goodbye_is_forgotten_at_once() -> None:
    secret = os.urandom(32)
    stays, leaves = Place(1, [secret]), Place(2, [secret])
    async with stays.discovery.open("127.0.0.1"):
        async with leaves.discovery.open("127.0.0.1"):
            await until(stays, lambda: leaves.name in stays.heard())
            leaves.says(State(leaves=True))
        await until(stays, lambda: leaves.name not in stays.heard())


async def test_on_loopback_nothing_is_announced() -> None:
    place = Neighbourhood(dict, bytes(32), Random(1).randbytes, lambda: None)
    async with place.open("https://127.0.0.1:8095", "127.0.0.1", Unforeseen(int)):
        assert not place.members()
        assert place.problem is None
    assert not place.ranking(b"space")


async def test_who_is_announced_but_does_not_answer_any_more_is_not_named() -> None:
    secret = os.urandom(32)
    place = Neighbourhood(lambda: {secret: b"class"}, bytes(32), Random(1).randbytes, lambda: None)
    async with place.open("https://127.0.0.1:8095", "127.0.0.1", Unforeseen(int)):
        other = Place(1, [secret], "192.168.1.9")
        place._discovery.datagram_received(answer(other.instance), ("192.168.1.9", 5353))
        assert set(place.ranking(b"class")) == {place.name, other.name}, "it has just been switched on"
        place.lost_server()
        assert place.ranking(b"class") == [other.name], "this device does not reach the server itself"
        assert not place.ranking(b"another class")
        place.reached_server()
        assert set(place.ranking(b"class")) == {place.name, other.name}
        place.gone = lambda: {Address("192.168.1.9", 8001)}
        assert not place.ranking(b"class")


async def test_a_device_that_hears_of_news_reaches_the_server_however_quiet_it_is_unless_it_would_not_take_it() -> None:
    secret = os.urandom(32)
    place = Neighbourhood(lambda: {secret: b"class"}, bytes(32), Random(1).randbytes, lambda: None)
    assert not place.reaches_server
    place.hears = lambda: True
    assert place.reaches_server
    place.may_fetch = lambda: False
    assert not place.reaches_server


async def test_who_finds_nobody_while_the_server_is_out_of_reach_says_what_may_be_in_the_way() -> None:
    place = Neighbourhood(dict, bytes(32), Random(1).randbytes, lambda: None)
    place._discovery.heard_itself = True
    place._look_once()
    assert place.problem is None, "others may be on their way"
    place._look_once()
    assert place.problem is not None
    assert "Wi-Fi" in place.problem[1]
    assert "--peer" in place.problem[2]
    for touched in ("in_touch", "hears"):
        setattr(place, touched, lambda: True)
        place._look_once()
        assert place.problem is None
        setattr(place, touched, lambda: False)


async def test_who_finds_others_and_can_call_none_of_them_says_that_the_network_keeps_them_apart() -> None:
    secret = os.urandom(32)
    place = Neighbourhood(lambda: {secret: b"class"}, bytes(32), Random(1).randbytes, lambda: None)
    place.reached_server()
    async with place.open("https://127.0.0.1:8095", "127.0.0.1", Unforeseen(int)):
        place._discovery.heard_itself = True
        place._discovery.datagram_received(answer(Place(1, [secret], "192.168.1.9").instance), ("192.168.1.9", 5353))
        for _ in range(LOOKS_APART):
            place._look_once()
        assert place.problem is None, "nobody has called anybody yet"
        place.gone = lambda: {Address("192.168.1.9", 8001)}
        for _ in range(LOOKS_APART - 1):
            place._look_once()
        assert place.problem is None, "one that was switched off is announced for a while"
        place._look_once()
        assert place.problem is not None
        assert place.problem[0] is Code.DEVICES_APART
        assert "isolation" in place.problem[1]
        assert "stick" in place.problem[2]
        place.in_touch = lambda: True
        place._look_once()
        assert place.problem is None, "somebody has reached this one"


async def test_a_device_to_which_nothing_is_open_knows_its_neighbours_and_shows_them_nothing() -> None:
    secret = os.urandom(32)
    place = Neighbourhood(dict, bytes(32), Random(1).randbytes, lambda: None)
    place.recognises = lambda: {secret: b"class"}
    member = Place(1, [secret], "192.168.1.9")
    async with place.open("https://127.0.0.1:8095", "127.0.0.1", Unforeseen(int)):
        place._discovery.datagram_received(answer(member.instance), ("192.168.1.9", 5353))
        assert place.members().keys() == {member.name}
        assert member_of(place._instance(), Address("192.168.1.7", 8095), {secret: b"class"}) is None


NOISE = bytes(56)


def at(place: Neighbourhood, host: str, *, port: int = 8000) -> bytes:
    """What a machine of the class says at an address."""
    place._port, place._address = port, ipaddress.ip_address(host)
    return answer(place._instance())


async def test_a_machine_that_moves_to_another_address_is_called_there() -> None:
    secret = os.urandom(32)
    one, other = (Neighbourhood(lambda: {secret: b"class"}, os.urandom(32), os.urandom, lambda: None) for _ in range(2))
    one._port = 8001
    for host in ("192.168.1.7", "192.168.1.8", "192.168.1.7"):
        one._discovery.datagram_received(at(other, host), (host, 5353))
        assert {member.address for member in one.members().values()} == {Address(host, 8000)}


@pytest.mark.parametrize(
    ("host", "source", "called"),
    [
        ("192.168.1.7", ("192.168.1.7", 5353), "192.168.1.7"),
        # as Python gives them: the interface stands beside the address
        ("fe80::7", ("fe80::7", 5353, 0, 2), "fe80::7%2"),
        ("2001:db8::7", ("fe80::7", 5353, 0, 2), "2001:db8::7"),
    ],
)
async def test_addresses_of_both_kinds_are_bound_with_or_without_an_interface(
    host: str, source: tuple[str | int, ...], called: str
) -> None:
    secret = os.urandom(32)
    one, other = (Neighbourhood(lambda: {secret: b"class"}, os.urandom(32), os.urandom, lambda: None) for _ in range(2))
    one._port = 8001
    one._discovery.datagram_received(at(other, host), source)
    (member,) = one.members().values()
    assert member.address == Address(called, 8000)
    assert member.standing == (2, 1), "bound to its place, by who has the name"


async def test_a_program_from_before_is_found_by_a_hint_that_gives_way_to_every_placed_word() -> None:
    secret = os.urandom(32)
    place = Neighbourhood(lambda: {secret: b"class"}, bytes(32), os.urandom, lambda: None)
    place._port = 8001
    hint = hint_text([secret], "name", os.urandom(16), NOISE, State())
    bound = Instance("name", 9, ipaddress.ip_address("192.168.1.7"), b"")
    text = placed_text([secret], bound, ipaddress.ip_address("192.168.1.7"), os.urandom(16), NOISE, State(), 1)
    place._discovery.datagram_received(answer(replace(bound, txt=hint, address=None)), ("192.168.1.66", 5353))
    assert {member.address.host for member in place.members().values()} == {"192.168.1.66"}
    place._discovery.datagram_received(answer(replace(bound, txt=text)), ("192.168.1.7", 5353))
    assert {member.address.host for member in place.members().values()} == {"192.168.1.7"}


def test_a_listener_is_announced_where_it_is_and_one_for_everybody_where_it_speaks_to_the_group() -> None:
    assert own_address("192.168.1.7") == ipaddress.ip_address("192.168.1.7")
    assert own_address("fe80::7") == ipaddress.ip_address("fe80::7")
    everywhere = own_address("0.0.0.0")  # noqa: S104  (nothing is opened)
    assert everywhere is None or not everywhere.is_unspecified
    assert shown_address(ipaddress.ip_address("fe80::7")) is None
    assert shown_address(ipaddress.ip_address("169.254.1.7")) is not None


SWITCH = 'ip link set lo up; ip link add card type veth peer name socket; ip link set socket up; {0}; exec "$@"'
WITHOUT_ROUTER = "ip addr add 10.9.0.7/24 dev card; ip link set card up"
SPEAKS = """
from sync_agent.lan.finding.multicast import _member, place_of
member, group = _member("0.0.0.0")
member.settimeout(60)
member.sendto(b"anybody?", group)
print(place_of("0.0.0.0").address, *member.recvfrom(99))
"""


def run_on_switch(setting: str, *command: str) -> subprocess.CompletedProcess[str]:
    """A command on a machine of its own that is plugged into a switch."""
    inside = ["unshare", "--user", "--map-root-user", "--net", "sh", "-ec", SWITCH.format(setting), "sh", *command]
    return subprocess.run(inside, capture_output=True, check=False, text=True, timeout=patience.PATIENCE_S)


def may_plug() -> bool:
    """Whether this account may do so in a namespace of its own."""
    return sys.platform == "linux" and run_on_switch(WITHOUT_ROUTER, "true").returncode == 0


@pytest.mark.skipif(not may_plug(), reason="needs a network of its own")
def test_where_the_router_is_off_a_listener_for_everybody_speaks_to_the_group_all_the_same() -> None:
    done = run_on_switch(WITHOUT_ROUTER, sys.executable, "-c", SPEAKS)
    assert done.stdout == "10.9.0.7 b'anybody?' ('10.9.0.7', 5353)\n", done.stderr


WITH_ROUTER = f"{WITHOUT_ROUTER}; ip route add default via 10.9.0.1"
BOTH_FAMILIES = f"{WITHOUT_ROUTER}; ip addr add fd00::7/64 dev card nodad"
NEIGHBOURS = """
import asyncio, os, subprocess, sys
from contextlib import AsyncExitStack
from protocol.replica.process.unforeseen import Unforeseen
from sync_agent.lan.finding.neighbourhood import Neighbourhood
from tests.harness.patience import until

SECRET = os.urandom(32)

def neighbour():
    return Neighbourhood(lambda: {SECRET: b"class"}, os.urandom(32), os.urandom, lambda: None)

def there(place):
    return sorted({member.address.authority for member in place.members().values()})

async def main():
    async with AsyncExitStack() as stack:
"""
BOTH_FIND_EACH_OTHER = f"""{NEIGHBOURS}
        both, only_4 = neighbour(), neighbour()
        await stack.enter_async_context(both.open("https://[::]:8001", "::", Unforeseen(int)))
        await stack.enter_async_context(only_4.open("https://0.0.0.0:8002", "0.0.0.0", Unforeseen(int)))
        await until(lambda: there(both) and there(only_4))
        print(*there(both), *there(only_4))
        also = neighbour()
        await stack.enter_async_context(also.open("https://[::]:8003", "::", Unforeseen(int)))
        await until(lambda: len(there(also)) == 2 and len(also._found()) == 3)
        print(len(also.members()))

asyncio.run(main())
"""
COMES_BACK = f"""{NEIGHBOURS}
        place = neighbour()
        await stack.enter_async_context(place.open("https://0.0.0.0:8001", "0.0.0.0", Unforeseen(int)))
        await until(lambda: place._discovery.heard_itself)
        print(await place._follow())
        for command in sys.argv[1].split(";"):
            subprocess.run(command.split(), check=True)
        print(await place._follow())
        await until(lambda: place._discovery.heard_itself)
        print("hears itself")

asyncio.run(main())
"""


@pytest.mark.skipif(not may_plug(), reason="needs a network of its own")
def test_a_listener_for_both_families_and_one_for_ipv4_find_each_other_and_two_addresses_are_one_member() -> None:
    done = run_on_switch(BOTH_FAMILIES, sys.executable, "-c", BOTH_FIND_EACH_OTHER)
    assert done.stdout.splitlines() == ["10.9.0.7:8002 10.9.0.7:8001", "2"], done.stderr


@pytest.mark.skipif(not may_plug(), reason="needs a network of its own")
def test_a_card_that_was_pulled_out_and_comes_back_at_its_address_is_part_of_the_group_again() -> None:
    again = f"ip link del card;ip link add card type veth peer name socket;ip link set socket up;{WITH_ROUTER}"
    done = run_on_switch(WITH_ROUTER, sys.executable, "-c", COMES_BACK, again)
    assert done.stdout.splitlines() == ["False", "True", "hears itself"], done.stderr


async def test_a_machine_that_had_no_network_when_it_started_is_found_once_it_has_one() -> None:
    secret = os.urandom(32)
    joined: list[str] = []

    async def join(member: asyncio.DatagramProtocol, host: str) -> tuple[str, int]:
        joined.append(host)
        if len(joined) == 1:
            raise OSError(errno.ENODEV, "No such device")
        return await multicast.join(member, host)

    place = Neighbourhood(lambda: {secret: b"class"}, os.urandom(32), os.urandom, lambda: None, join)
    async with AsyncExitStack() as stack:
        place._host = "127.0.0.1"
        await stack.enter_async_context(place._membership)
        await place._join()
        assert place.problem is not None
        assert place.problem[0] is Code.NO_MULTICAST
        assert await place._follow()
        await patience.until(lambda: place._discovery.heard_itself)
        place._look_once()
        assert place.problem is None
        assert not await place._follow()


async def test_a_group_that_could_not_be_joined_beside_the_other_is_joined_later() -> None:
    refused = [errno.ENOBUFS]

    async def join(member: asyncio.DatagramProtocol, host: str) -> tuple[str, int]:
        if host == "127.0.0.1" and refused:
            raise OSError(refused.pop(), "No buffer space available")
        return await multicast.join(member, "127.0.0.1")

    place = Neighbourhood(lambda: {bytes(32): b"class"}, os.urandom(32), os.urandom, lambda: None, join)
    async with AsyncExitStack() as stack:
        place._host, place._ipv4_host = "localhost", "127.0.0.1"
        place._stands = await place._find_places()
        await stack.enter_async_context(place._membership)
        await place._join()
        await patience.until(lambda: place._discovery.heard_itself)
        assert not place._beside.heard_itself
        assert not await place._follow(), "the network is the same"
        await patience.until(lambda: place._beside.heard_itself)


async def test_an_announcement_fits_into_a_packet_that_every_network_passes_whole() -> None:
    secrets = {os.urandom(32): b"class" for _ in range(200)}
    place = Neighbourhood(lambda: secrets, os.urandom(32), os.urandom, lambda: None)
    assert len(at(place, "2001:db8::7")) < 1_232, "IPv6 passes 1,280 bytes with their headers"


async def test_a_device_that_has_found_others_looks_for_them_at_its_next_start(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        device = await room.machine()
        for has_met in (False, True):
            lan = Lan(device.agent, news=lambda: None, draw=Random(1).uniform)
            async with lan.open(Address("127.0.0.1", 0), ()):
                assert lan.neighbourhood.expects is has_met
                other = Place(1, list(await secrets_of(device.agent)))
                lan.neighbourhood._discovery.datagram_received(answer(other.instance), ("127.0.0.1", 5353))
                await patience.until(lambda: device.agent.replica.store.mark(NEIGHBOURS_MARK))


@pytest.mark.parametrize("hangs", [True, False])
async def test_a_program_that_hangs_is_gone_after_a_moment_though_its_system_takes_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, hangs: bool
) -> None:
    monkeypatch.setattr(school_lan, "ANSWERS_S", (0.2, 0.2) if hangs else (20.0, 20.0))
    async with AsyncExitStack() as stack:
        room = await stack.enter_async_context(classroom(tmp_path))
        device, other = await room.machine(), await room.machine()
        if hangs:
            port = stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
        else:
            port = (await stack.enter_async_context(listening_device(other.agent))).port
        lan = Lan(device.agent, news=lambda: None, draw=Random(1).uniform)
        await stack.enter_async_context(lan.open(Address("127.0.0.1", 0), ()))
        shown = Place(1, list(await secrets_of(device.agent)))
        shown.plain = replace(shown.plain, port=port)
        shown.says(State(reaches_server=True))
        lan.neighbourhood._discovery.datagram_received(answer(shown.instance), ("127.0.0.1", 5353))
        told = asyncio.get_running_loop().create_future()
        lan.ask(shown.name, told.set_result)
        async with asyncio.timeout(patience.PATIENCE_S):
            assert ((await told) is Found.GONE) is hangs
        assert (shown.name in lan.neighbourhood.ranking(room.space)) is not hangs


@pytest.mark.parametrize(("every_s", "again"), [(3600.0, False), (0.01, True)], ids=["meanwhile", "after that"])
async def test_what_many_say_within_a_moment_is_one_reason_to_choose_neighbours_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every_s: float, again: bool
) -> None:
    monkeypatch.setattr("sync_agent.lan.school_lan.LOOKS_EVERY_S", every_s)
    async with classroom(tmp_path) as room:
        device = await room.machine()
        lan = Lan(device.agent, news=lambda: None, draw=Random(1).uniform)
        found: list[int] = []
        chosen = lan.neighbourhood.chosen

        def noted() -> dict[Address, Member]:
            found.append(lan.found())
            return chosen()

        monkeypatch.setattr(lan.neighbourhood, "chosen", noted)
        async with lan.open(Address("127.0.0.1", 0), ()):
            secrets = list(await secrets_of(device.agent))
            for number in range(1, 31):
                other = Place(number, secrets, f"127.0.0.{number}")
                lan.neighbourhood._discovery.datagram_received(answer(other.instance), (f"127.0.0.{number}", 5353))
                await patience.until(lambda: found)
                await device.agent.replica.store.scan(room.space)
            if again:
                await patience.until(lambda: found[-1] == 30)
            else:
                assert found == [1]


async def test_who_fetches_reaches_the_server_however_long_that_takes_and_goes_before_who_is_about_to() -> None:
    secret = os.urandom(32)
    place = Neighbourhood(lambda: {secret: b"class"}, bytes(32), os.urandom, lambda: None)
    async with place.open("https://127.0.0.1:8095", "127.0.0.1", Unforeseen(int)):
        place.lost_server()
        others = [Place(number, [secret], f"192.168.1.{number}") for number in range(2, 22)]

        def ranking_when_first_says(state: State) -> list[str]:
            others[0].says(state)
            for other in others:
                place._discovery.datagram_received(answer(other.instance), (str(other.plain.address), 5353))
            return place.ranking(b"class")

        for other in others:
            other.says(State(reaches_server=True))
        others[1].says(State(reaches_server=True, fetches=True, claims=True))
        place.fetches(Stage.FETCHES)
        assert ranking_when_first_says(State())[:2] == [place.name, others[1].name]
        assert others[0].name not in place.ranking(b"class"), "it says nothing of the server"
        place.fetches(Stage.CLAIMS)
        claiming = {place.name, others[1].name}
        order = ranking_when_first_says(State(reaches_server=True, fetches=True))
        assert (order[0], set(order[1:3])) == (others[0].name, claiming)


async def test_nobody_waits_for_others_words_who_never_met_another_device() -> None:
    place = Neighbourhood(dict, bytes(32), os.urandom, lambda: None)
    async with place.open("https://127.0.0.1:8095", "127.0.0.1", Unforeseen(int)):
        place._is_found = True
        loop = asyncio.get_running_loop()
        hearing = loop.create_task(place.hear_others())
        await asyncio.sleep(0)
        assert hearing.done()
