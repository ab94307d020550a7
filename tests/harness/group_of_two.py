"""A multicast group of a device and one other, whose words are said by hand (docs/protocol.md, "Neighbours")."""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import dataclass, field, replace
from typing import cast

from sync_agent.lan.finding.announcement import State, placed_text
from sync_agent.lan.finding.mdns_messages import Instance, answer
from sync_agent.lan.finding.neighbourhood import Neighbourhood

REACHES = State(reaches_server=True)
SPACE, SECRET, OWN = b"space", bytes(range(32)), bytes(32)
HERE, THERE = "10.0.0.1", "10.0.0.2"


@dataclass
class GroupOfTwo:
    """A group of two: what this device says lies in `said` until it is brought back; the other one speaks by hand."""

    said: list[bytes] = field(default_factory=list)
    words: int = 0
    word: bytes = b""
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

    def other_speaks(self, state: State = REACHES) -> None:
        """The other one says something."""
        assert self.ear is not None
        self.words += 1
        plain = Instance("other", 8_000, ipaddress.ip_address(THERE), b"")
        assert plain.address is not None
        text = placed_text([SECRET], plain, plain.address, bytes(16), bytes(56), state, self.words)
        self.word = answer(replace(plain, txt=text))
        self.other_says_again()

    def other_says_again(self) -> None:
        """It says the same once more."""
        assert self.ear is not None
        self.ear.datagram_received(self.word, (THERE, 1))

    def place(self) -> Neighbourhood:
        """The device, which knows the other one's secret."""
        return Neighbourhood(
            lambda: {SECRET: SPACE}, OWN, lambda size: bytes(range(size)), lambda: None, join=self.join
        )
