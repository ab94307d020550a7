"""Somebody on the way answers once, falsely, where the server's name leads (docs/threat-model.md)."""

from __future__ import annotations

from contextlib import AsyncExitStack, suppress

import pytest

from protocol.errors import RelaisError
from protocol.messages.wire import CONTENT_TYPE, ENROLL_PATH
from sync_agent.network.names import DOUBT_S, SteadyResolver
from sync_agent.network.settings import Network
from sync_agent.transport.over_http import HttpTransport
from tests.harness.attack import attack
from tests.harness.ports import free_port
from tests.integration.test_networks import Names, page_at

ROW = "one false answer for the server's name binds a machine to a place that is no more"
NAME = "relais.example"
OLD, STRANGER, NEW = "127.0.0.1", "127.0.0.2", "127.0.0.3"


def never(_names: SteadyResolver) -> None:
    """What is remembered is called for good."""


@attack(ROW, off={"sync_agent.network.names.SteadyResolver.ask_anew": never})
@pytest.mark.parametrize("sleeps", [False, True])
async def test_a_server_that_moved_is_found_again_by_who_was_once_told_a_false_place(sleeps: bool) -> None:
    port = free_port()
    names = Names({NAME: OLD})
    way = HttpTransport(f"http://{NAME}:{port}", Network(environment={}), resolver=lambda: names)
    async with AsyncExitStack() as old:
        await old.enter_async_context(page_at(OLD, port, CONTENT_TYPE, b"old"))
        assert (await way.post(ENROLL_PATH, b"")).body == b"old"
        async with page_at(STRANGER, port, "text/html", b"<title>Portail</title>"):
            names.places[NAME] = STRANGER
            with suppress(RelaisError):
                await way.post(ENROLL_PATH, b"")
            assert (await way.post(ENROLL_PATH, b"")).body == b"old"
        if not sleeps:
            await old.aclose()
        async with page_at(NEW, port, CONTENT_TYPE, b"new"):
            names.places[NAME] = NEW
            if sleeps:
                await way.renew()
            else:
                with suppress(RelaisError):
                    await way.post(ENROLL_PATH, b"")
            said = None
            with suppress(RelaisError):
                said = (await way.post(ENROLL_PATH, b"")).body
            await way.close()
    assert said == b"new"


@attack(ROW, off={"sync_agent.network.names.DOUBT_S": float("inf")})
async def test_who_kept_the_place_of_a_server_that_moved_keeps_no_machine_for_longer_than_an_hour() -> None:
    now_s = 0.0
    names = Names({NAME: OLD})
    steady = SteadyResolver(lambda: names, lambda: now_s)

    async def place() -> str:
        return (await steady.resolve(NAME, 80))[0]["host"]

    assert await place() == OLD
    steady.trust()
    names.places[NAME] = STRANGER
    assert await place() == STRANGER
    steady.doubt()
    names.places[NAME] = NEW
    assert await place() == OLD
    now_s = DOUBT_S
    steady.trust()
    assert await place() == NEW
