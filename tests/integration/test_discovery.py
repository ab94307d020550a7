"""Devices find each other by multicast: real datagrams on loopback, random names, so that tests do not meet."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from random import Random

from protocol.errors import Code
from protocol.replica.unforeseen import Unforeseen
from sync_agent.addresses import Address
from sync_agent.mdns import Discovery
from sync_agent.mdns_messages import Instance, answer
from sync_agent.neighbourhood import LOOKS_APART, Neighbourhood, member_of, shown_text
from tests.harness import patience


class Place:
    """A device that announces itself on loopback."""

    def __init__(self, number: int, secrets: list[bytes]) -> None:
        self.name = os.urandom(8).hex()
        self.changed = asyncio.Event()
        noise = os.urandom(-len(secrets) % 8 * 8)
        text = shown_text(secrets, self.name, os.urandom(16), noise, reaches_server=number == 1)
        self.instance = Instance(self.name, 8000 + number, None, text)
        self.discovery = Discovery(lambda: self.instance, self.changed.set)


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
        await until(two, lambda: {one.name, stranger.name} <= two.discovery.found().keys())
        found = two.discovery.found()
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
    clone = Place(1, [key, secret])
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
            await until(stays, lambda: leaves.name in stays.discovery.found())
        await until(stays, lambda: leaves.name not in stays.discovery.found())


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
        other = Place(1, [secret])
        place._discovery.datagram_received(answer(other.instance), ("192.168.1.9", 5353))
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
        place._discovery.datagram_received(answer(Place(1, [secret]).instance), ("192.168.1.9", 5353))
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
    member = Place(1, [secret])
    async with place.open("https://127.0.0.1:8095", "127.0.0.1", Unforeseen(int)):
        place._discovery.datagram_received(answer(member.instance), ("192.168.1.9", 5353))
        assert place.members().keys() == {member.name}
        assert member_of(place._instance(), Address("192.168.1.7", 8095), {secret: b"class"}) is None
