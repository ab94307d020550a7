"""Who is about to fetch hears what each of the others says after its own word, however late words come."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import cast

from protocol.replica.unforeseen import Unforeseen
from sync_agent.lan.announcement import State, placed_text
from sync_agent.lan.mdns_messages import Instance, answer
from sync_agent.lan.neighbourhood import SPEAKS_S, Neighbourhood
from sync_agent.sync.sharing import Stage
from tests.simulation.virtual_time import run

SPACE, SECRET, OWN = b"space", bytes(range(32)), bytes(32)
HERE, THERE = "10.0.0.1", "10.0.0.2"


@dataclass
class Room:
    """A group of two: what this device says lies in `said` until it is brought back; the other one speaks by hand."""

    said: list[bytes] = field(default_factory=list)
    words: int = 0
    ear: asyncio.DatagramProtocol | None = None

    async def join(self, member: asyncio.DatagramProtocol, host: str) -> tuple[str, int]:
        del host
        self.ear = member
        member.connection_made(cast("asyncio.DatagramTransport", self))
        return "group", 0

    def sendto(self, message: bytes, _group: object) -> None:
        self.said.append(message)

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        assert self.ear is not None
        self.ear.connection_lost(None)

    def echoes(self) -> None:
        """This device hears its own words."""
        assert self.ear is not None
        for message in self.said:
            self.ear.datagram_received(message, (HERE, 1))

    def other_speaks(self) -> None:
        """The other one says something."""
        assert self.ear is not None
        self.words += 1
        plain = Instance("other", 8_000, ipaddress.ip_address(THERE), b"")
        assert plain.address is not None
        text = placed_text([SECRET], plain, plain.address, bytes(16), bytes(56), State(reaches_server=True), self.words)
        self.ear.datagram_received(answer(replace(plain, txt=text)), (THERE, 1))


def heard_after(story: Callable[[Room], Awaitable[None]]) -> float:
    """For how many seconds a device that is about to fetch hears the other one, while the story is told."""

    async def told() -> float:
        room = Room()
        place = Neighbourhood(
            lambda: {SECRET: SPACE}, OWN, lambda size: bytes(range(size)), lambda: None, join=room.join
        )
        clock = asyncio.get_running_loop().time
        async with place.open(f"https://{HERE}:8000", HERE, Unforeseen(lambda: 0)):
            await asyncio.sleep(0.1)
            room.other_speaks()
            room.echoes()
            await asyncio.sleep(30.0)
            room.said.clear()
            place.fetches(Stage.CLAIMS)
            telling = asyncio.ensure_future(story(room))
            begun_s = clock()
            await place.hear_others()
            taken_s = clock() - begun_s
            await telling
            return taken_s

    return run(told())


def test_a_word_that_was_said_before_it_had_claimed_is_no_answer_to_its_claim() -> None:
    async def late(room: Room) -> None:
        await asyncio.sleep(1.0)
        # both lay there: to a program that was asleep they have come in the same moment
        room.other_speaks()
        room.echoes()
        await asyncio.sleep(2.0)
        room.other_speaks()

    assert 3.0 <= heard_after(late) < 3.2


def test_whose_own_word_comes_back_late_waits_longer_for_the_others() -> None:
    async def late(room: Room) -> None:
        await asyncio.sleep(2.0)
        room.echoes()
        await asyncio.sleep(6.0)
        room.other_speaks()

    assert 8.0 <= heard_after(late) < 8.2


def test_on_a_quick_network_one_that_says_nothing_costs_five_seconds() -> None:
    async def prompt(room: Room) -> None:
        await asyncio.sleep(0.01)
        room.echoes()

    _, most_s = SPEAKS_S
    assert heard_after(prompt) < most_s + 0.2


def test_a_word_of_its_own_that_has_not_come_back_at_all_is_waited_for_before_it_fetches() -> None:
    async def later_than_all_patience(room: Room) -> None:
        await asyncio.sleep(SPEAKS_S[1] + 3.0)
        room.other_speaks()
        room.echoes()
        await asyncio.sleep(2.0)
        room.other_speaks()

    assert SPEAKS_S[1] + 5.0 <= heard_after(later_than_all_patience) < SPEAKS_S[1] + 6.0


def test_a_word_of_its_own_that_never_comes_back_delays_a_fetch_by_seconds_only() -> None:
    async def silence(_room: Room) -> None:
        await asyncio.sleep(0)

    assert heard_after(silence) < 4 * SPEAKS_S[1] + 1.0
