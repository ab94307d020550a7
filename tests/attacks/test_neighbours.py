"""What strangers on the school's network may try (docs/threat-model.md)."""

from __future__ import annotations

from random import Random

import pytest

from sync_agent.mdns_messages import Instance, answer
from sync_agent.neighbourhood import Neighbourhood, shown_text
from tests.harness.attack import attack


def announced(secret: bytes, random: Random) -> tuple[str, bytes]:
    """A device's name, and what it announces."""
    name = random.randbytes(8).hex()
    noise = random.randbytes(56)
    text = shown_text([secret], name, random.randbytes(16), noise, reaches_server=True)
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
